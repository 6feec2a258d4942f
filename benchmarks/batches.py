"""Films a second that the batches bring, and what they take from a training, on two processors.

A second epoch: every film of the folder at 224 px, all augmentation on, from the cache of decoded
films. The input's share: the three-block CNN trained at 224 px on such batches of 32, in bfloat16
as the trainer does, against the same on one batch kept in memory. The two take turns, a few steps
each. Other work on a machine makes any step longer and none shorter, so a turn counts by the
fastest quarter of its steps. All runs in one process, held to two processors.
"""

import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import Case, Figure, Setting

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from cxr_core.data.batches import TrainingBatches

_LEAST_RATE, _LEAST_SHARE = 400, 0.9  # films a second; of the throughput on a batch in memory
_BATCH = 32


def measured(folder: str, size: int, epochs: int, turns: int, steps: int) -> dict[str, Any]:
    """Return the films a second of each epoch, and of each turn of training by its input."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()  # as in training
    began = time.perf_counter()
    batches = _batches(Path(folder), size)
    decoded = time.perf_counter() - began
    model = _network(size)
    kept = tf.data.Dataset.from_tensors(batches.batch(0)).repeat()
    _training_rate(model, kept, steps)  # traces
    number = itertools.count()
    trained = harness.by_turns(
        {
            "kept": lambda: _training_rate(model, kept, steps),
            "fed": lambda: _training_rate(
                model, batches.dataset(turns + 1, first=next(number)), steps
            ),
        },
        turns,
    )
    return {"decode_s": decoded, "epochs": _epoch_rates(batches, epochs), **trained}


def _batches(folder: Path, size: int) -> "TrainingBatches":
    """Return a folder's films as batches with all augmentation on."""
    from cxr_core.config import AugmentConfig, ImageConfig
    from cxr_core.data import batches
    from cxr_core.data.catalog import scan

    catalog = scan(folder)
    table = catalog.frame[catalog.frame["readable"]]
    films = batches.decode(catalog.root, table, ImageConfig(size=size))
    labels = (table["label"] == table["label"].iloc[0]).to_numpy()
    return batches.TrainingBatches(
        pixels=films.pixels,
        rows=films.rows(table["md5"]),
        targets=labels[:, None].astype(np.float32),
        weights=np.ones(len(table), np.float32),
        batch_size=_BATCH,
        seed=0,
        augment=AugmentConfig(
            rotation=10,
            translation=0.1,
            zoom=0.1,
            shear=5,
            brightness=0.1,
            contrast=0.2,
            gamma=0.2,
            noise=5,
            flip=True,
            crop_area=0.7,
            mixup=0.2,
            cutmix=1,
        ),
    )


def _epoch_rates(batches: "TrainingBatches", epochs: int) -> list[float]:
    """Return the films a second of each epoch after the first."""
    rates, began = [], time.perf_counter()
    for number, _ in enumerate(batches.dataset(epochs + 1), start=1):
        if number % batches.steps_per_epoch == 0:
            now = time.perf_counter()
            rates.append(batches.films_per_epoch / (now - began))
            began = now
    return rates[1:]


def _network(size: int) -> "keras.Model":
    """Return the three-block CNN ready to be trained, as the trainer makes it."""
    import keras
    import tensorflow as tf

    from cxr_core import zoo  # noqa: F401  registers the networks
    from cxr_core.training.device import precision
    from cxr_core.training.normalisation import fuse
    from cxr_core.zoo import registry

    with precision("mixed_bfloat16"):  # the faster the steps, the harder the bar
        model = registry.build("plain_cnn", size=size, outputs=1, seed=0)
    fuse(model)
    model.compile(
        "adam",
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile="auto" if tf.config.list_physical_devices("GPU") else False,
    )
    return model


def _training_rate(model: "keras.Model", source: "tf.data.Dataset", steps: int) -> float:
    """Return the films a second of some steps, by the fastest quarter of them."""
    import keras

    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )
    # Between ends of steps: the first one waits for the first films.
    model.fit(source, steps_per_epoch=steps + 1, verbose=0, shuffle=False, callbacks=[clock])
    fastest = sorted(np.diff(ends))[: max(1, steps // 4)]
    return _BATCH / statistics.mean(fastest)


def measure(setting: Setting) -> list[Figure]:
    """Return the rate of a second epoch, and of training on batches against one in memory."""
    size, epochs = setting.pick(64, 224, 224), setting.pick(1, 2, 5)
    turns, steps = setting.pick(1, 2, 6), setting.pick(2, 4, 8)
    folder = str(setting.films.resolve())
    with tempfile.TemporaryDirectory() as home:
        found = harness.call(measured, folder, size, epochs, turns, steps, CXR_HOME=home)
    return [
        Figure("decoding all films, once", found["decode_s"], "s"),
        harness.median("a second epoch", found["epochs"], "films/s", least=_LEAST_RATE),
        harness.median("trains on batches", found["fed"], "films/s"),
        harness.median("trains on one batch in memory", found["kept"], "films/s"),
        harness.ratio("as fast as that", found["fed"], found["kept"], least=_LEAST_SHARE),
    ]


CASES = (
    Case(
        "batches",
        "films a second that batches bring, and a training on them against one batch in memory",
        measure,
    ),
)
