"""How fast a folder of native-size films is scored, against the bare network on arrays in memory.

    python benchmarks/score.py [--films 400] [--rounds 3] [--model BUNDLE] [--folder DIR] [--json]

The folder: phantoms of 1,300 x 1,000 px with a film's grain as gray JPEGs, about 1.2 bits a pixel
as clinical ones have, or the films of DIR. The model: EfficientNet-Lite0 at 224 px with a gate
fitted on phantoms, or the bundle. Scoring is `scoring.score`, which `predict` writes out: files
read and decoded, gate, network, probabilities. Bare is the network alone, a traced call on batches
of 8 or of 32 squares, whichever is faster. Both go by turns in this process, and the medians of the
rounds are compared. Memory is the peak of a `predict --csv` of that folder in its own process.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
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
    """Return films a second of both by their medians, the ratio, and the peak of memory in MiB."""
    import tensorflow as tf

    from cxr_core.diagnosis.predictor import Predictor, load

    predictor = Predictor(model)
    network = load(model, predictor.info)
    traced = tf.function(lambda films: network(tf.cast(films, tf.float32), training=False))
    paths = list(scoring.find([folder]))
    squares = np.stack([predictor.square(predictor.read(path)) for path, _ in paths[:32]])[
        ..., None
    ]

    def bare() -> float:
        return max(bare_at(batch) for batch in (8, 32))

    def bare_at(batch: int) -> float:
        films, times = squares[:batch], len(paths) // (2 * batch)
        began = time.perf_counter()
        for _ in range(times):
            traced(films).numpy()
        return times * batch / (time.perf_counter() - began)

    def scored() -> float:
        began = time.perf_counter()
        outcomes = list(scoring.score(predictor, paths))
        taken = time.perf_counter() - began
        refused = sum(not outcome.as_json()["accepted"] for outcome in outcomes)
        if refused > len(outcomes) // 20:  # a refused film may have cost the network nothing
            raise SystemExit(f"{refused} of {len(outcomes)} films were refused: not comparable.")
        return len(outcomes) / taken

    bare()
    list(scoring.score(predictor, paths[: 2 * scoring.BATCH]))
    rates = np.array([(bare(), scored(), bare()) for _ in range(rounds)])
    alone = np.median(rates[:, [0, 2]].mean(axis=1))
    together = np.median(rates[:, 1])
    by_round = rates[:, 1] / rates[:, [0, 2]].mean(axis=1)
    return {
        "films": len(paths),
        "bare_films_a_second": float(alone),
        "scored_films_a_second": float(together),
        "ratio": float(np.median(by_round)),
        "ratio_least": float(by_round.min()),
        "ratio_most": float(by_round.max()),
        "peak_mib": _peak(model, folder),
    }


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
        f"{found['films']} JPEGs{stored}: {found['scored_films_a_second']:.1f} films/s scored, "
        f"{found['bare_films_a_second']:.1f} films/s by the bare network on arrays in memory: "
        f"{100 * found['ratio']:.0f} % ({100 * found['ratio_least']:.0f} to "
        f"{100 * found['ratio_most']:.0f} % by round). Peak memory of predict: "
        f"{found['peak_mib']:,.0f} MiB."
    )


if __name__ == "__main__":
    main()
