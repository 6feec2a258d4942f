"""Films a second that the batches bring, and what they take from a training, on two processors.

    python benchmarks/batches.py [FOLDER] [--json]

A second epoch: every film of the folder at 224 px, all augmentation on, from the cache of decoded
films; the bar is 400 images a second. The input's share: the three-block CNN trained at 224 px on
such batches of 32, in bfloat16 as the trainer does, against the same on one batch kept in memory;
the bar is a loss below 10 %. The two take turns, a few steps each. Other work on a machine makes
any step longer and none shorter, so the figure compares the fastest quarter of either side's steps;
all steps' median and the processor time a step took stand beside it. All runs in one process, held
to two processors.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
LEAST_RATE, MOST_LOSS = 400, 0.10  # images a second; of the throughput
SIZE, BATCH, EPOCHS, TURNS, STEPS = 224, 32, 5, 6, 8

TASK = """
import json, os, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from cxr_core import zoo
from cxr_core.config import AugmentConfig, ImageConfig
from cxr_core.data import batches
from cxr_core.data.catalog import scan
from cxr_core.training.device import precision
from cxr_core.training.normalisation import fuse
from cxr_core.zoo import registry

keras.utils.set_random_seed(0)
tf.config.experimental.enable_op_determinism()  # as in training
table = (catalog := scan(Path({folder!r}))).frame
table = table[table["readable"]]
begin = time.perf_counter()
films = batches.decode(catalog.root, table, ImageConfig(size={size}))
result = dict(films=len(table), decode_s=time.perf_counter() - begin)
labels = (table["label"] == table["label"].iloc[0]).to_numpy()
made = batches.TrainingBatches(
    pixels=films.pixels, rows=films.rows(table["md5"]),
    targets=labels[:, None].astype(np.float32), weights=np.ones(len(table), np.float32),
    batch_size={batch}, seed=0,
    augment=AugmentConfig(
        rotation=10, translation=0.1, zoom=0.1, shear=5, brightness=0.1, contrast=0.2, gamma=0.2,
        noise=5, flip=True, crop_area=0.7, mixup=0.2, cutmix=1,
    ),
)

rates, begin = [], time.perf_counter()
for number, _ in enumerate(made.dataset({epochs} + 1), start=1):
    if number % made.steps_per_epoch == 0:
        now = time.perf_counter()
        rates.append(len(table) / (now - begin))
        begin = now
result["epoch_rates"] = rates[1:]

class Clock(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.times.append((time.perf_counter(), time.process_time()))

def steps(source):
    clock.times = []
    model.fit(source, steps_per_epoch={steps} + 1, verbose=0, shuffle=False, callbacks=[clock])
    # Between ends of steps: the first waits for the first films and, once, for the tracing.
    return np.diff(clock.times, axis=0).tolist()

with precision("mixed_bfloat16"):  # the faster the steps, the harder the bar
    clock, model = Clock(), registry.build("plain_cnn", size={size}, outputs=1, seed=0)
fuse(model)
model.compile(
    "adam", keras.losses.BinaryCrossentropy(from_logits=True),
    jit_compile="auto" if tf.config.list_physical_devices("GPU") else False,
)
kept = tf.data.Dataset.from_tensors(made.batch(0)).repeat()
steps(kept)
on_kept, on_batches = [], []  # seconds and processor seconds of each step
for turn in range({turns}):
    on_kept += steps(kept)
    on_batches += steps(made.dataset({turns} + 1, first=turn))
result |= dict(on_kept=on_kept, on_batches=on_batches)
print(json.dumps(result))
"""


def measure(folder: Path) -> dict[str, Any]:
    """Run both measurements in a process and a workspace of their own; return what it said."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "CXR_HOME": home, "PYTHONPATH": str(REPOSITORY)}
        code = TASK.format(
            folder=str(folder), size=SIZE, batch=BATCH, epochs=EPOCHS, turns=TURNS, steps=STEPS
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def fastest(seconds: Sequence[float]) -> float:
    """Return the mean of the fastest quarter of the steps, in seconds."""
    return statistics.mean(sorted(seconds)[: len(seconds) // 4])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("CXR_DATA") or REPOSITORY.parent / "shared" / "data") / "kermany"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.folder.is_dir():
        raise SystemExit(f"There is no folder {options.folder}: name one with films.")

    found = measure(options.folder)
    second = statistics.median(found["epoch_rates"])
    kept, fed = (list(zip(*found[side], strict=True)) for side in ("on_kept", "on_batches"))
    loss = 1 - fastest(kept[0]) / fastest(fed[0])
    of_all, of_processor = (
        1 - statistics.median(kept[clock]) / statistics.median(fed[clock]) for clock in (0, 1)
    )
    held = {"second_epoch": second >= LEAST_RATE, "input_loss": loss < MOST_LOSS}
    if options.json:
        summary = {
            **found,
            "second_epoch": {"images_per_s": second, "at_least": LEAST_RATE},
            "input_loss": {
                "of_throughput": loss,
                "of_all_steps": of_all,
                "of_processor_time": of_processor,
                "below": MOST_LOSS,
            },
            "held": held,
        }
        print(json.dumps(summary, indent=2))
        return
    said = {True: "held", False: "missed"}
    print(
        f"{found['films']:,} films in {options.folder}, decoded in {found['decode_s']:.1f} s, "
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"second epoch: {second:,.0f} images/s (median of {EPOCHS}, best "
        f"{max(found['epoch_rates']):,.0f}); bar {LEAST_RATE} or more: {said[held['second_epoch']]}"
    )
    print(
        f"training: {BATCH / fastest(fed[0]):.1f} images/s on batches, "
        f"{BATCH / fastest(kept[0]):.1f} on one kept batch (fastest quarter of {len(fed[0])} "
        f"steps): {loss:.1%} lost to input; all steps' median {of_all:.1%}, processor time "
        f"{of_processor:.1%}; bar below {MOST_LOSS:.0%}: {said[held['input_loss']]}"
    )


if __name__ == "__main__":
    main()
