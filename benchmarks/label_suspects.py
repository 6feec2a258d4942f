"""How many of the strongest label suspects in a class are truly mislabelled.

Many `pneumonia` files of three_class, a set beside the films, are in truth normal films of kermany.
The truth, which the audit never sees: a file's twin by correlation (at 64 x 64 px, above 0.99)
stands in kermany's NORMAL folder. Chance is the share of such files in the class. What is measured
is what `python -m cxr_core data audit FOLDER --labels` does, in a workspace of its own.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from benchmarks import harness
from benchmarks.harness import Case, Figure, MissingError, Setting
from cxr_core.data import likeness
from cxr_core.data.audit import labels
from cxr_core.data.catalog import Catalog, scan
from cxr_core.diagnosis import label_review

TOP, _LEAST = 50, 30  # suspects looked at, and how many of them shall be mislabelled
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


def reviewed(dirty_folder: str, clean_folder: str, most: int) -> dict[str, Any]:
    """Return how many suspects are mislabelled; of each class so many films are looked at."""
    dirty, clean = scan(Path(dirty_folder)), scan(Path(clean_folder))
    dirty = replace(dirty, frame=dirty.frame.groupby("label").head(most).reset_index(drop=True))
    truth = mislabelled(dirty, clean)
    ranked = labels.suspects(dirty.frame, label_review.predict(dirty))
    pruned = ranked[ranked["suspect"] & (ranked["label"] == SUSPECT)]
    return {
        "films": int((dirty.frame["label"] == SUSPECT).sum()),
        "mislabelled": len(truth),
        "found": hits(ranked, truth, TOP),
        "pruned": len(pruned),
        "pruned_rightly": int(pruned["path"].isin(truth).sum()),
    }


def measure(setting: Setting) -> list[Figure]:
    """Return how many of the strongest suspects are mislabelled, and how many by chance."""
    clean = setting.films.resolve()
    dirty = clean.parent / "three_class"
    if not dirty.is_dir():
        raise MissingError(f"there is no folder {dirty}")
    with tempfile.TemporaryDirectory() as home:
        most = setting.pick(30, 250, 1_000)
        found = harness.call(reviewed, str(dirty), str(clean), most, CXR_HOME=home)
    return [
        Figure(f"films labelled {SUSPECT}", found["films"], "films"),
        Figure(f"of these in truth {TRUE}", found["mislabelled"], "films"),
        Figure(f"of the {TOP} strongest suspects", found["found"], "films", least=_LEAST),
        Figure("by chance", TOP * found["mislabelled"] / found["films"], "films"),
        Figure("confident learning prunes", found["pruned"], "films"),
        Figure("rightly", found["pruned_rightly"], "films"),
    ]


CASES = (Case("label_suspects", "wrong labels found among the strongest suspects", measure),)
