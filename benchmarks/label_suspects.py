"""How many of the strongest label suspects in a class are truly mislabelled.

    python benchmarks/label_suspects.py [--data FOLDER] [--top 50] [--json]

Many `pneumonia` files of three_class are in truth normal films of kermany. The truth, which the
audit never sees: a file's twin by correlation (at 64 x 64 px, above 0.99) stands in kermany's
NORMAL folder. Chance is the share of such files in the class. What is measured is what
`python -m cxr_core data audit FOLDER --labels` does, in a workspace of its own.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from cxr_core.data import likeness  # noqa: E402  found by the line above
from cxr_core.data.audit import labels  # noqa: E402
from cxr_core.data.catalog import Catalog, scan  # noqa: E402
from cxr_core.diagnosis import label_review  # noqa: E402

SUSPECT, TRUE = "PNEUMONIA", "NORMAL"


def vectors(root: Path, paths: list[str]) -> np.ndarray:
    """Return films as unit vectors (n, 64 * 64)."""
    films = [cv2.imread(str(root / path), cv2.IMREAD_GRAYSCALE) for path in paths]
    small = [cv2.resize(film, (64, 64), interpolation=cv2.INTER_AREA) for film in films]
    return likeness.unit(np.stack(small))


def mislabelled(dirty: Catalog, clean: Catalog) -> set[str]:
    """Return the paths of SUSPECT films whose twin in the clean set is labelled TRUE."""
    suspects = list(dirty.frame.loc[dirty.frame["label"] == SUSPECT, "path"])
    originals = clean.frame
    match = vectors(dirty.root, suspects) @ vectors(clean.root, list(originals["path"])).T
    best = originals["label"].to_numpy()[match.argmax(axis=1)]
    twin = match.max(axis=1) > likeness.SAME
    return {
        p for p, label, same in zip(suspects, best, twin, strict=True) if same and label == TRUE
    }


def hits(table: pd.DataFrame, truth: set[str], top: int) -> int:
    """Return how many of the strongest suspects in the class are in the truth."""
    strongest = table.loc[table["label"] == SUSPECT, "path"].head(top)
    return int(strongest.isin(truth).sum())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("CXR_DATA") or REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--top", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in ("three_class", "kermany"):
        if not (options.data / name).is_dir():
            raise SystemExit(
                f"There is no folder {options.data / name}: name the data with --data."
            )

    with tempfile.TemporaryDirectory() as home:
        os.environ["CXR_HOME"] = home
        dirty, clean = scan(options.data / "three_class"), scan(options.data / "kermany")
        truth = mislabelled(dirty, clean)
        predictions = label_review.predict(dirty)
    ranked = labels.suspects(dirty.frame, predictions)
    chosen = ranked[ranked["suspect"] & (ranked["label"] == SUSPECT)]
    total = int((dirty.frame["label"] == SUSPECT).sum())
    result = {
        "class": SUSPECT,
        "films": total,
        "mislabelled": len(truth),
        "top": options.top,
        "found": hits(ranked, truth, options.top),
        "chance": round(options.top * len(truth) / total, 1),
        "pruned": len(chosen),
        "pruned_rightly": int(chosen["path"].isin(truth).sum()),
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(
        f"Of {total} {SUSPECT} films {len(truth)} are in truth {TRUE}.\n"
        f"Of the {options.top} strongest suspects {result['found']} are (chance "
        f"{result['chance']}).\nConfident learning would prune {result['pruned']}, "
        f"{result['pruned_rightly']} of them rightly."
    )


if __name__ == "__main__":
    main()
