"""How fast a folder of native-size films is scored, against the bare network on arrays in memory.

The folder: phantoms of 1,300 x 1,000 px with a film's grain as gray JPEGs, about 1.2 bits a pixel
as clinical ones have. The model: EfficientNet-Lite0 at 224 px with a gate fitted on phantoms.
Scoring is `scoring.score`, which `predict` writes out: files read and decoded, gate, network,
probabilities. Bare is the network alone on squares in memory, in batches of 8 or of 32, whichever
is faster: as Keras loads it, in a traced call; and as scoring asks it, with weights that are
constants, which is faster by itself. All go by turns in this process. Memory is the peak of a
`predict --csv` of that folder in a process of its own.
"""

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks import harness
from benchmarks.diagnose import drawn, write_bundle
from benchmarks.harness import Case, Figure, Setting
from cxr_core.diagnosis import scoring

HEIGHT, WIDTH = 1000, 1300  # px
GRAIN = 4.5  # gray levels of deviation: what makes a JPEG as large as those of clinical films
QUALITY = 85

_LEAST_RATIO, _MOST_MEMORY = 0.8, 1536  # times the bare network's rate; MiB
_MOST_REFUSED = 0.05  # a refused film may have cost the network nothing

_PREDICT = """
import sys
from cxr_core.cli import app
app(["predict", *sys.argv[1:]], standalone_mode=False)
_found = {}
"""


def write_films(folder: Path, films: int) -> float:
    """Write phantoms at native size; return the bits a pixel of their files."""
    rng = np.random.default_rng(0)
    large = [
        cv2.resize(film, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        for film in drawn(min(films, 40))
    ]
    written = 0
    for number, film in zip(range(films), itertools.cycle(large), strict=False):
        grain = rng.normal(rng.uniform(-5, 5), GRAIN, (HEIGHT, WIDTH))
        grainy = np.clip(film + grain, 0, 255).astype(np.uint8)
        data = cv2.imencode(".jpg", grainy, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()
        (folder / f"{number:05d}.jpg").write_bytes(data)
        written += len(data)
    return 8 * written / (films * HEIGHT * WIDTH)


def rates(model: Path, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Return the films a second of the bare network, with constant weights, and of scoring."""
    import tensorflow as tf

    from cxr_core.diagnosis.predictor import Predictor, load

    predictor = Predictor(model)
    network = load(model, predictor.info)
    traced = tf.function(lambda films: network(tf.cast(films, tf.float32), training=False))
    paths = list(scoring.find([folder]))
    squares = np.stack([predictor.square(predictor.read(path)) for path, _ in paths[:32]])

    def alone(ask: Callable[[np.ndarray], object]) -> float:
        return max(_rate(ask, squares[:batch], len(paths) // 2) for batch in (8, 32))

    def scored() -> float:
        began = time.perf_counter()
        outcomes = list(scoring.score(predictor, paths))
        taken = time.perf_counter() - began
        refused = sum(not outcome.as_json()["accepted"] for outcome in outcomes)
        if refused > _MOST_REFUSED * len(outcomes):
            raise RuntimeError(f"{refused} of {len(outcomes)} films were refused: not comparable")
        return len(outcomes) / taken

    sides = {
        "bare": lambda: alone(lambda films: traced(films[..., None]).numpy()),
        "constant": lambda: alone(predictor.logits),
        "scored": scored,
    }
    harness.by_turns(sides, 1)  # traces
    return harness.by_turns(sides, rounds)


def _rate(ask: Callable[[np.ndarray], object], films: np.ndarray, most: int) -> float:
    """Return the films a second of asking again and again about the same ones."""
    times = max(1, most // len(films))
    began = time.perf_counter()
    for _ in range(times):
        ask(films)
    return times * len(films) / (time.perf_counter() - began)


def measure(setting: Setting) -> list[Figure]:
    """Return the rates, what scoring reaches of the network's, and the memory that it takes."""
    size, rounds = setting.pick(64, 224, 224), setting.pick(1, 2, 5)
    with tempfile.TemporaryDirectory() as name:
        model, folder = Path(name) / "bundle", Path(name) / "films"
        write_bundle(model, size, "imagenet", gate=True)
        folder.mkdir()
        bits = write_films(folder, setting.pick(20, 120, 400))
        found = rates(model, folder, rounds)
        table = str(Path(name) / "answers.csv")
        peak = harness.process(_PREDICT, str(model), str(folder), "--csv", table, CXR_HOME=name)
    return [
        Figure("the films' size", bits, "bits a pixel"),
        harness.median("scores", found["scored"], "films/s"),
        harness.median("the bare network", found["bare"], "films/s"),
        harness.ratio("scoring, of that", found["scored"], found["bare"], least=_LEAST_RATIO),
        harness.median("the network with constant weights", found["constant"], "films/s"),
        harness.ratio("scoring, of that with them", found["scored"], found["constant"]),
        Figure("peak memory of predict", peak["peak_mib"], "MiB", most=_MOST_MEMORY),
    ]


CASES = (Case("score", "a folder of large JPEGs against the bare network in memory", measure),)
