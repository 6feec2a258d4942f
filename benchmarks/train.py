"""How fast and how lean a training is, against the recipe that most notebooks share.

    python benchmarks/train.py [FOLDER] [--steps 60] [--json]

Both sides train the same three-block CNN at 224 px in batches of 32, on the same films, without
augmentation, each in a process of its own, so that its peak memory is its own. The common recipe
reads all films into one float32 array scaled to 0-1, divides it with scikit-learn's
train_test_split, and calls ``model.fit`` on it; it is spared XLA, which Keras would choose and
which is several times slower on a CPU. Rates are films a second from the first to the last step.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

COMMON = """
import json, resource, sys, time
from pathlib import Path
import cv2, keras, numpy as np
from sklearn.model_selection import train_test_split
import cxr_core.zoo
from cxr_core.zoo import registry

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpeg", ".jpg", ".png"))
began = time.perf_counter()
images = [cv2.resize(cv2.imread(str(p), cv2.IMREAD_GRAYSCALE), (224, 224)) for p in paths]
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

model = registry.build("plain_cnn", size=224, outputs=1)
model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"],
              jit_compile=False)
clock = Clock()
ready = time.perf_counter()
model.fit(X_train, y_train, batch_size=32, epochs=1, callbacks=[clock], verbose=0)
print(json.dumps({
    "films_per_second": clock.films / (clock.last - clock.first),
    "seconds_to_first_step": clock.first - began,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""

OURS = """
import json, resource, sys, time
from cxr_core.config import RunConfig
from cxr_core.training import callbacks, recipes
from cxr_core.training.tracking import RunStore
from cxr_core.training.writer import RunWriter

folder, steps = sys.argv[1], int(sys.argv[2])
config = recipes.load("plain_cnn").with_values(
    {"data.root": folder, "image.size": 224, "optimise.batch_size": 32, "optimise.epochs": 1,
     **json.loads(sys.argv[3])})
store = RunStore()
run_id = store.create(config, name="benchmark")
began = time.perf_counter()
from cxr_core.training.trainer import train  # imports TensorFlow

times, films = [], 0
def clocked(self, batch, logs=None, inner=callbacks.BatchPoints.on_train_batch_end):
    global films
    inner(self, batch, logs)
    times.append(time.perf_counter())
    films += self._batches.size(batch) if batch else 0
    if batch == steps:
        self.model.stop_training = True
callbacks.BatchPoints.on_train_batch_end = clocked
with RunWriter(store, run_id) as run:
    train(config, run)
print(json.dumps({
    "films_per_second": films / (times[-1] - times[0]),
    "seconds_to_first_step": times[0] - began,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "precision": store.get(run_id).params["precision"],
}))
"""


def measure(code: str, home: str, *arguments: str) -> dict[str, float]:
    """Run one side in a process of its own; return what it measured of itself."""
    environment = {
        **os.environ,
        "CXR_HOME": home,
        "PYTHONPATH": str(REPOSITORY),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("CXR_DATA") or REPOSITORY.parent / "shared" / "data") / "kermany"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument("--steps", type=int, default=60, help="training steps a side")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.folder.is_dir():
        raise SystemExit(f"There is no folder {options.folder}: name one with films.")
    folder, steps = str(options.folder.resolve()), str(options.steps)
    rows = {}
    with tempfile.TemporaryDirectory() as home:
        rows["common recipe"] = measure(COMMON, home, folder, steps)
        rows["this trainer"] = measure(OURS, home, folder, steps, "{}")
        rows["this trainer, float32"] = measure(
            OURS, home, folder, steps, json.dumps({"hardware.precision": "float32"})
        )
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for name, row in rows.items():
        print(
            f"{name:<24} {row['films_per_second']:6.1f} films/s, peak {row['peak_mib']:6.0f} MiB, "
            f"first step after {row['seconds_to_first_step']:.0f} s {row.get('precision', '')}"
        )
    common = rows.pop("common recipe")
    for name, row in rows.items():
        print(
            f"{name}: {row['films_per_second'] / common['films_per_second']:.2f} times the films a "
            f"second (bar 1.4), {row['peak_mib'] / common['peak_mib']:.2f} of the peak memory "
            "(bar 0.33)"
        )


if __name__ == "__main__":
    main()
