"""How fast a folder of native-size films is scored, against the bare network on arrays in memory.

    python benchmarks/score.py [--films 400] [--rounds 3] [--model BUNDLE] [--folder DIR] [--json]

The folder: phantoms of 1,300 x 1,000 px with a film's grain as gray JPEGs, about 1.2 bits a pixel
as clinical ones have, or the films of DIR. The model: EfficientNet-Lite0 at 224 px with a gate
fitted on phantoms, or the bundle. Scoring is `scoring.score`, which `predict` writes out: files
read and decoded, gate, network, probabilities. Bare is the network alone on squares in memory, in
batches of 8 or of 32, whichever is faster: as Keras loads it, in a traced call; and as scoring asks
it, with weights that are constants, which is faster by itself. All go by turns in this process, and
scoring is compared with either round by round. Memory is the peak of a `predict --csv` of that
folder in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from cxr_core import images, zoo  # noqa: E402, F401  found by the line above
from cxr_core.config import ImageConfig  # noqa: E402
from cxr_core.data import phantom  # noqa: E402
from cxr_core.diagnosis import bundle, familiar, scoring  # noqa: E402
from cxr_core.diagnosis.bundle import BundleInfo, DataInfo, GateInfo, ThresholdInfo  # noqa: E402
from cxr_core.zoo import registry  # noqa: E402

ARCHITECTURE, SIZE = "efficientnet_lite0", 224
CLASSES = ("NORMAL", "PNEUMONIA")
HEIGHT, WIDTH = 1000, 1300  # px
GRAIN = 4.5  # gray levels of deviation: what makes a JPEG as large as those of clinical films
QUALITY = 85


def write_films(folder: Path, films: int) -> float:
    """Write phantoms at native size; return the bits a pixel of their files."""
    rng = np.random.default_rng(0)
    drawn = [phantom.draw(CLASSES[i % 2], np.random.default_rng(i)).pixels for i in range(40)]
    large = [cv2.resize(film, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for film in drawn]
    written = 0
    for number in range(films):
        grain = rng.normal(rng.uniform(-5, 5), GRAIN, (HEIGHT, WIDTH))
        film = np.clip(large[number % len(large)] + grain, 0, 255).astype(np.uint8)
        data = cv2.imencode(".jpg", film, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()
        (folder / f"{number:05d}.jpg").write_bytes(data)
        written += len(data)
    return 8 * written / (films * HEIGHT * WIDTH)


def write_bundle(folder: Path) -> None:
    """Write the network with a gate; what it learned does not matter to its speed."""
    import pandas as pd

    from cxr_core.diagnosis.single_pass import SinglePass, look_layers

    cam_layer = registry.get(ARCHITECTURE).cam_layer
    model = registry.build(ARCHITECTURE, size=SIZE, outputs=1, weights="imagenet", seed=0)
    layers = look_layers(model, cam_layer)
    squares = np.stack(
        [
            images.to_square(
                phantom.draw(CLASSES[i % 2], np.random.default_rng(i)).pixels, SIZE, "squash"
            )
            for i in range(120)
        ]
    )
    look = SinglePass(model, (cam_layer,), layers).answers(squares).look
    train, val = (
        familiar.Shown.of(squares[part], look[part], bars=False)
        for part in (slice(80), slice(80, 120))
    )
    known = familiar.fit(train, val, layers)
    counts = {split: dict.fromkeys(CLASSES, 1) for split in ("train", "val", "test")}
    info = BundleInfo(
        name="benchmark",
        classes=CLASSES,
        image=ImageConfig(size=SIZE),
        architecture=ARCHITECTURE,
        cam_layer=cam_layer,
        threshold=ThresholdInfo(value=0.5, method="fixed"),
        gate=GateInfo(train_films=80, val_films=40, val_refused=0),
        data=DataInfo(name="none", synthetic=True, counts=counts),
    )
    columns = ["path", "label", "split", "patient_id", "md5"]
    empty = pd.DataFrame(columns=columns)
    bundle.write(folder, info, lambda path: model.save(path), empty, known.save)


def measure(model: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Return films a second, by their medians, the ratios, and the peak of memory in MiB."""
    import tensorflow as tf

    from cxr_core.diagnosis.predictor import Predictor, load

    predictor = Predictor(model)
    network = load(model, predictor.info)
    traced = tf.function(lambda films: network(tf.cast(films, tf.float32), training=False))
    paths = list(scoring.find([folder]))
    squares = np.stack([predictor.square(predictor.read(path)) for path, _ in paths[:32]])[
        ..., None
    ]

    def rate(ask: Callable[[np.ndarray], object]) -> float:
        return max(_rate(ask, squares[:batch], len(paths) // 2) for batch in (8, 32))

    def bare() -> float:
        return rate(lambda films: traced(films).numpy())

    def folded() -> float:
        return rate(lambda films: predictor.logits(films[..., 0]))

    def scored() -> float:
        began = time.perf_counter()
        outcomes = list(scoring.score(predictor, paths))
        taken = time.perf_counter() - began
        refused = sum(not outcome.as_json()["accepted"] for outcome in outcomes)
        if refused > len(outcomes) // 20:  # a refused film may have cost the network nothing
            raise SystemExit(f"{refused} of {len(outcomes)} films were refused: not comparable.")
        return len(outcomes) / taken

    bare()
    folded()
    list(scoring.score(predictor, paths[: 2 * scoring.BATCH]))
    rates = np.array([(bare(), folded(), scored(), folded(), bare()) for _ in range(rounds)])
    alone, faster = rates[:, [0, 4]].mean(axis=1), rates[:, [1, 3]].mean(axis=1)
    together = rates[:, 2]
    return {
        "films": len(paths),
        "bare_films_a_second": float(np.median(alone)),
        "folded_films_a_second": float(np.median(faster)),
        "scored_films_a_second": float(np.median(together)),
        "ratio": float(np.median(together / alone)),
        "ratio_least": float((together / alone).min()),
        "ratio_most": float((together / alone).max()),
        "ratio_to_folded": float(np.median(together / faster)),
        "ratio_to_folded_least": float((together / faster).min()),
        "ratio_to_folded_most": float((together / faster).max()),
        "peak_mib": _peak(model, folder),
    }


def _rate(ask: Callable[[np.ndarray], object], films: np.ndarray, most: int) -> float:
    """Return the films a second of asking again and again about the same ones."""
    times = most // len(films)
    began = time.perf_counter()
    for _ in range(times):
        ask(films)
    return times * len(films) / (time.perf_counter() - began)


def _peak(model: Path, folder: Path) -> float:
    """Return the peak resident memory of a `predict` of the folder, MiB; Linux alone tells it."""
    # Not from the system's account of children: a fork begins it with its parent's memory.
    code = (
        "import re, runpy, sys\n"
        "try:\n    runpy.run_module('cxr_core', run_name='__main__')\n"
        "finally:\n    status = open('/proc/self/status').read()\n"
        "    print(re.search(r'VmHWM:\\s*(\\d+) kB', status)[1])"
    )
    with tempfile.TemporaryDirectory() as name:
        table = str(Path(name) / "answers.csv")
        said = subprocess.run(
            [sys.executable, "-c", code, "predict", str(model), str(folder), "--csv", table],
            check=True,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    return int(said.stdout) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        model, folder = options.model, options.folder
        bits = None
        if model is None:
            model = Path(name) / "bundle"
            write_bundle(model)
        if folder is None:
            folder = Path(name) / "films"
            folder.mkdir()
            bits = write_films(folder, options.films)
        found = measure(model, folder, options.rounds)
    if options.json:
        print(json.dumps({**found, "bits_a_pixel": bits}, indent=2))
        return
    stored = f" of {bits:.2f} bits a pixel" if bits is not None else ""
    print(
        f"{found['films']} JPEGs{stored}: {found['scored_films_a_second']:.1f} films/s scored.\n"
        f"Bare network on arrays in memory: {found['bare_films_a_second']:.1f} films/s; scoring "
        f"reaches {_percent(found, 'ratio')}.\n"
        f"With constant weights, as scoring asks it: {found['folded_films_a_second']:.1f} films/s; "
        f"scoring reaches {_percent(found, 'ratio_to_folded')}.\n"
        f"Peak memory of predict: {found['peak_mib']:,.0f} MiB."
    )


def _percent(found: dict[str, float], name: str) -> str:
    least, most = 100 * found[f"{name}_least"], 100 * found[f"{name}_most"]
    return f"{100 * found[name]:.0f} % ({least:.0f} to {most:.0f} % by round)"


if __name__ == "__main__":
    main()
