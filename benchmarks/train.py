"""How fast and how lean a training is, against the recipe that most notebooks share.

Both sides train the same three-block CNN at 224 px in batches of 32, on the same films, without
augmentation, each in a process of its own, so that its peak memory is its own. The common recipe
reads all films into one float32 array scaled to 0-1, divides it with scikit-learn's
train_test_split, and calls ``model.fit`` on it; it is spared XLA, which Keras would choose and
which is several times slower on a CPU. Rates are films a second from the first to the last step.
In a full run ours goes on to its end, of which the common recipe has no equal, and its peak
includes that; in a smaller one both break off after the last step.
"""

import json
import tempfile
from typing import Any

from benchmarks import harness
from benchmarks.harness import Case, Figure, Setting

_COMMON = """
import sys, time
from pathlib import Path
import cv2, keras, numpy as np
from sklearn.model_selection import train_test_split
import cxr_core.zoo
from cxr_core.zoo import registry

folder, steps, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpeg", ".jpg", ".png"))
began = time.perf_counter()
images = [cv2.resize(cv2.imread(str(p), cv2.IMREAD_GRAYSCALE), (size, size)) for p in paths]
X = np.array(images, dtype="float32")[..., None] / 255.0
y = np.array([p.parent.name.upper() == "PNEUMONIA" for p in paths], dtype="float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)

class Clock(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.last = time.perf_counter()
        if batch == 0:
            self.first = self.last
        self.films = 32 * batch
        if batch == steps:
            self.model.stop_training = True

model = registry.build("plain_cnn", size=size, outputs=1)
model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"],
              jit_compile=False)
clock = Clock()
model.fit(X_train, y_train, batch_size=32, epochs=1, callbacks=[clock], verbose=0)
_found = {
    "films_per_second": clock.films / (clock.last - clock.first),
    "seconds_to_first_step": clock.first - began,
}
"""

# Takes a folder, steps, px, what else shall differ from the recipe plain_cnn, as JSON, and whether
# the training goes on to its end after the last step ("end": probes, test films, the gate, similar
# films) or breaks off ("step").
OURS = """
import contextlib, json, sys, time
from cxr_core.config import RunConfig
from cxr_core.training import callbacks, recipes
from cxr_core.training.tracking import RunStore
from cxr_core.training.writer import RunWriter

folder, steps, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = recipes.load("plain_cnn").with_values(
    {"data.root": folder, "image.size": size, "optimise.batch_size": 32, "optimise.epochs": 1,
     **json.loads(sys.argv[4])})
store = RunStore()
run_id = store.create(config, name="benchmark")
began = time.perf_counter()
from cxr_core.training.trainer import train  # imports TensorFlow

class Enough(Exception):
    pass

times, films = [], 0
def clocked(self, batch, logs=None, inner=callbacks.BatchPoints.on_train_batch_end):
    global films
    inner(self, batch, logs)
    times.append(time.perf_counter())
    films += self._batches.size(batch) if batch else 0
    if batch == steps:
        if sys.argv[5] == "step":
            raise Enough
        self.model.stop_training = True
callbacks.BatchPoints.on_train_batch_end = clocked
with RunWriter(store, run_id) as run, contextlib.suppress(Enough):
    train(config, run)
_found = {
    "films_per_second": films / (times[-1] - times[0]),
    "seconds_to_first_step": times[0] - began,
}
"""

_LEAST_RATE, _MOST_MEMORY = 1.4, 0.33  # times the common recipe's
_FLOAT32 = json.dumps({"hardware.precision": "float32"})


def measure(setting: Setting) -> list[Figure]:
    """Return our rate and memory against the common recipe's, as the recipe is and in float32."""
    if not setting.data.is_dir():
        raise harness.MissingError(f"there is no folder {setting.data}: name one with --data")
    steps, size = setting.pick(2, 6, 60), setting.pick(32, 224, 224)
    rounds = setting.pick(1, 1, 3)
    until = "end" if setting.size == "full" else "step"
    common: list[dict[str, Any]] = []
    ours: dict[str, list[dict[str, Any]]] = {"this trainer": [], "in float32": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as home:
            given = (str(setting.data.resolve()), str(steps), str(size))
            common.append(harness.process(_COMMON, *given, CXR_HOME=home))
            for name, values in zip(ours, ("{}", _FLOAT32), strict=True):
                ours[name].append(harness.process(OURS, *given, values, until, CXR_HOME=home))
    figures = _figures("common recipe", common)
    for name, rows in ours.items():
        figures += _figures(name, rows)
        figures += [
            harness.ratio(
                f"{name}: rate",
                [row["films_per_second"] for row in rows],
                [row["films_per_second"] for row in common],
                least=_LEAST_RATE,
            ),
            harness.ratio(
                f"{name}: peak memory",
                [row["peak_mib"] for row in rows],
                [row["peak_mib"] for row in common],
                most=_MOST_MEMORY,
            ),
        ]
    return figures


def _figures(name: str, rows: list[dict[str, Any]]) -> list[Figure]:
    def column(key: str, unit: str, words: str) -> Figure:
        return harness.median(f"{name}: {words}", [row[key] for row in rows], unit)

    return [
        column("films_per_second", "films/s", "trains"),
        column("seconds_to_first_step", "s", "to the first step"),
        column("peak_mib", "MiB", "peak memory"),
    ]


CASES = (
    Case("train", "the three-block CNN at 224 px against the recipe of most notebooks", measure),
)
