"""The recipe: a configuration to a trained, calibrated, tested model with its papers.

`train` reads top to bottom; what it calls stands below it in the order it is called. Runs in a
process of its own (see `worker`), because TensorFlow keeps memory for the life of its process.
"""

import functools
import json
import logging
import math
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

import cxr_core
from cxr_core import workspace
from cxr_core.config import HardwareConfig, ModelConfig, RunConfig
from cxr_core.data import batches, exclusions, sources, splits
from cxr_core.data.catalog import Catalog
from cxr_core.diagnosis import bundle
from cxr_core.errors import TrainingError
from cxr_core.evaluation import calibration, metrics
from cxr_core.training import bundle_index, losses, schedules
from cxr_core.training.callbacks import (
    BatchPoints,
    BestWeights,
    Requests,
    SettledNormalisation,
    Validation,
)
from cxr_core.training.tracking import TAG_DATA, TAG_DEVICE, TAG_SYNTHETIC
from cxr_core.training.writer import RunWriter
from cxr_core.zoo import registry

_log = logging.getLogger(__name__)

_INFERENCE_BATCH = 32  # films at once where nothing is learned: more is no faster on a CPU


@dataclass(frozen=True)
class Trained:
    """How a training ended."""

    info: bundle.BundleInfo  # of the bundle that is now an artefact of the run
    stopped: bool  # True where training ended early by request


def train(config: RunConfig, run: RunWriter) -> Trained:
    """Train a model as configured, and leave all that a run consists of in the store.

    Args:
        config: all that decides the run.
        run: where figures and files go, and where requests come from.

    Raises:
        CxrError: the data, the settings or the machine do not allow it; says why.
        RunCancelled: somebody asked for it.
    """
    device = choose_device(config.hardware)
    run.tags({TAG_DEVICE: device})
    keras.utils.set_random_seed(config.seed)
    if device.startswith("CPU"):
        tf.config.experimental.enable_op_determinism()  # on a CPU it costs next to nothing

    run.phase("reading the films")
    films = read_films(config, run)

    run.phase("building the network")
    with precision(config.hardware.precision):
        model = build_model(config, films.classes, run)
    run.params(
        {
            "parameters": count(model.weights),
            "trainable_parameters": count(model.trainable_weights),
            "steps_per_epoch": films.training(config).steps_per_epoch,
        }
    )

    run.phase("training")
    best_epoch, stopped = fit(model, films, config, run)
    model = for_inference(model, config, len(films.classes))

    run.phase("choosing the threshold")
    infer = inference(model, run.obey)
    val_logits = metrics.expand_logits(infer(films.pixels, films.val.rows))
    temperature = calibration.fit_temperature(val_logits, films.val.labels)
    threshold = calibration.choose_threshold(
        films.val.labels, metrics.probabilities(val_logits, temperature)
    )

    run.phase("testing")
    test_logits = metrics.expand_logits(infer(films.pixels, films.test.rows))

    def results(part: Part, logits: np.ndarray) -> dict[str, Any]:
        return metrics.summarise(
            part.labels,
            metrics.probabilities(logits, temperature),
            films.classes,
            threshold.value,
            patients=part.patients,
            seed=config.seed,
        )

    tested = results(films.test, test_logits)

    run.phase("writing the bundle")
    info = bundle.BundleInfo(
        name=run.name,
        run_id=run.run_id,
        classes=films.classes,
        image=config.image,
        architecture=config.model.architecture,
        cam_layer=registry.get(config.model.architecture).cam_layer,
        temperature=temperature,
        threshold=bundle.ThresholdInfo(value=threshold.value, method=threshold.method),
        data=films.provenance,
        metrics={"val": results(films.val, val_logits), "test": tested},
        config=config.model_dump(),
        versions=versions(),
    )
    info = keep(model, info, films, {"val": val_logits, "test": test_logits}, run)
    run.points({**flat_metrics("test", tested), "best_epoch": best_epoch}, step=0)
    return Trained(info, stopped)


# -- the machine ----------------------------------------------------------------------------------


def choose_device(hardware: HardwareConfig) -> str:
    """Make TensorFlow use the device asked for; return it in words.

    Raises:
        TrainingError: a GPU is asked for and there is none.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if hardware.device == "gpu" and not gpus:
        raise TrainingError(
            "hardware.device asks for a GPU, but TensorFlow finds none here. Choose 'auto' or "
            "'cpu', or install requirements-gpu.txt on a machine with an NVIDIA GPU."
        )
    if gpus and hardware.device != "cpu":
        tf.config.set_visible_devices(gpus[:1], "GPU")
        tf.config.experimental.set_memory_growth(gpus[0], True)
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    if gpus:
        tf.config.set_visible_devices([], "GPU")
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU ({_processor()}, {threads} threads)"


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Build layers under a dtype policy, and leave none behind."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def versions() -> dict[str, str]:
    """Return what made the model, for its bundle."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "cxr_core": cxr_core.__version__,
    }


def _processor() -> str:
    """The processor's name: Linux keeps it in a file, elsewhere Python knows something like it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# -- the films ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Part:
    """The films of one side of the split, a row each in all three."""

    table: pd.DataFrame  # path, label, split, patient_id, md5
    labels: np.ndarray  # int (n,), number in the classes
    rows: np.ndarray  # int (n,), row in the decoded films

    @property
    def patients(self) -> list[str] | None:
        """The films' patients, None where not one is known."""
        patients = self.table["patient_id"]
        return list(patients) if patients.ne("").any() else None


@dataclass(frozen=True, eq=False)
class FilmSet:
    """Everything a training needs to know of its data."""

    classes: tuple[str, ...]  # the reference class first
    pixels: np.ndarray  # uint8 (m, size, size), memory-mapped
    split: pd.DataFrame  # all three sides in one table
    train: Part
    val: Part
    test: Part
    provenance: bundle.DataInfo

    @property
    def outputs(self) -> int:
        """Logits of a network for these classes: one for two, else one a class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    def training(self, config: RunConfig) -> batches.TrainingBatches:
        """Return the training batches as configured."""
        return batches.TrainingBatches(
            pixels=self.pixels,
            rows=self.train.rows,
            targets=losses.encode(self.train.labels, self.outputs),
            weights=losses.film_weights(self.train.labels, config.optimise.balance),
            batch_size=config.optimise.batch_size,
            augment=config.augment,
            seed=config.seed,
        )


def read_films(config: RunConfig, run: RunWriter) -> FilmSet:
    """Scan, divide and decode the films, and record what they are.

    Raises:
        DatasetError: there is no usable data set.
    """

    def tell(step: str, done: int, total: int) -> None:
        run.phase(step[0].lower() + step[1:])
        run.progress(done, total)

    opened = sources.open_catalog(config.data.root, progress=tell)
    catalog, left_out = exclusions.without(opened)
    split = splits.cut(catalog, config.data, config.seed)
    run.note(*split.notes)
    if left_out:
        run.note(f"Films left out because somebody excluded them: {len(left_out):,}.")
        run.text("exclusions.csv", exclusions.as_table(left_out).to_csv(index=False))
    run.phase("decoding the films")
    films = batches.decode(catalog.root, split.table, config.image, progress=run.progress)
    classes = catalog.classes

    def part(name: str) -> Part:
        table = split.table[split.table["split"] == name].reset_index(drop=True)
        labels = table["label"].map({label: number for number, label in enumerate(classes)})
        return Part(table, labels.to_numpy(np.int64), films.rows(table["md5"]))

    found = FilmSet(
        classes=classes,
        pixels=films.pixels,
        split=split.table,
        train=part("train"),
        val=part("val"),
        test=part("test"),
        provenance=_provenance(catalog, split.table, classes),
    )
    run.tags(
        {
            TAG_DATA: found.provenance.name,
            TAG_SYNTHETIC: str(found.provenance.synthetic).lower(),
        }
    )
    run.params(
        {
            "classes": ",".join(classes),
            "train_films": len(found.train.table),
            "val_films": len(found.val.table),
            "test_films": len(found.test.table),
            "excluded_films": len(left_out),
            "data_fingerprint": catalog.fingerprint,
        }
    )
    return found


def _provenance(catalog: Catalog, split: pd.DataFrame, classes: tuple[str, ...]) -> bundle.DataInfo:
    counts = pd.crosstab(split["split"], split["label"])
    patients = split["patient_id"]
    known = bool(patients.ne("").all())
    return bundle.DataInfo.model_validate(
        {
            **sources.provenance(catalog),
            "fingerprint": catalog.fingerprint,
            "counts": {
                side: {label: int(row.get(label, 0)) for label in classes}
                for side, row in counts.iterrows()
            },
            "patients": int(patients.nunique()) if known else None,
        }
    )


# -- the network ----------------------------------------------------------------------------------


def build_model(config: RunConfig, classes: tuple[str, ...], run: RunWriter) -> keras.Model:
    """Build the network with the weights it starts from.

    Raises:
        ConfigError: an unknown network, weights it does not have, a size it cannot take.
        BundleError: the bundle to start from is not there.
        TrainingError: nothing of that bundle fits.
    """
    kind, _, name = config.model.weights.partition(":")
    weights = "none" if kind == "bundle" else kind
    model = build_bare(config.model, config.image.size, len(classes), weights, config.seed)
    if kind == "bundle":
        run.note(take_weights(model, name, classes))
    return model


def build_bare(
    settings: ModelConfig, size: int, classes: int, weights: str, seed: int
) -> keras.Model:
    """Build the network with the zoo's own weights."""
    return registry.build(
        settings.architecture,
        size=size,
        outputs=1 if classes == 2 else classes,
        weights=weights,
        seed=seed,
    )


def count(weights: Iterable[keras.Variable]) -> int:
    """Return how many numbers are in all the weights together."""
    return sum(math.prod(weight.shape) for weight in weights)


def take_weights(model: keras.Model, spec: str, classes: tuple[str, ...]) -> str:
    """Copy a bundle's weights into a network, layer by layer where name and shapes agree.

    The last layer's weights mean the bundle's classes: they are taken only where those are the
    same. Returns what was taken, in a sentence.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
        TrainingError: no layer fits.
    """
    folder = bundle_index.resolve(spec)
    info = bundle.read(folder)
    source = keras.saving.load_model(
        bundle.verified_model(folder, info), compile=False, safe_mode=True
    )
    theirs = {layer.name: layer.get_weights() for layer in source.layers}
    if info.classes != classes:
        theirs.pop(model.layers[-1].name, None)
    mine = {layer.name: layer for layer in model.layers if layer.weights}
    taken = [
        name
        for name, layer in mine.items()
        if [w.shape for w in theirs.get(name, [])] == [tuple(w.shape) for w in layer.weights]
    ]
    if not taken:
        raise TrainingError(
            f"No layer of the bundle '{info.name}' ({info.architecture}) fits this network. "
            f"Choose model.architecture {info.architecture}, or start from other weights."
        )
    for name in taken:
        mine[name].set_weights(theirs[name])
    left = [name for name in mine if name not in taken]
    rest = f"; {', '.join(left)} started from random weights" if left else ""
    return (
        f"Weights of {len(taken)} of {len(mine)} layers come from the bundle '{info.name}'{rest}."
    )


def for_inference(model: keras.Model, config: RunConfig, classes: int) -> keras.Model:
    """Return a float32 twin without an optimiser.

    The bundle's model must give the same numbers on any machine, whatever precision it was trained
    in; threshold and test are computed with this very model.
    """
    twin = build_bare(config.model, config.image.size, classes, "none", config.seed)
    twin.set_weights(model.get_weights())
    return twin


Inference = Callable[[np.ndarray, np.ndarray], np.ndarray]


def inference(model: keras.Model, between: Callable[[], None]) -> Inference:
    """Return a function (decoded films, rows) -> logits float32 ``(n, outputs)``.

    One traced graph for all calls; ``between`` is called before every batch, so that a request to
    cancel need not wait for the end.
    """
    forward = tf.function(functools.partial(model, training=False), reduce_retracing=True)

    def infer(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
        outputs = []
        for films in batches.in_order(pixels, rows, _INFERENCE_BATCH):
            between()
            outputs.append(forward(films).numpy())
        return np.concatenate(outputs)

    return infer


# -- the training ---------------------------------------------------------------------------------


def fit(model: keras.Model, films: FilmSet, config: RunConfig, run: RunWriter) -> tuple[int, bool]:
    """Train the model and leave it with its best weights.

    Returns:
        The best epoch, counted from 1, and whether training ended early by request.

    Raises:
        TrainingError: training diverged.
        RunCancelled: somebody asked for it.
    """
    settings, stop = config.optimise, config.stop
    training = films.training(config)
    loss = losses.cross_entropy(films.outputs, settings.label_smoothing)
    infer = inference(model, run.obey)
    val_targets = losses.encode(films.val.labels, films.outputs)

    def validate() -> dict[str, float]:
        logits = infer(films.pixels, films.val.rows)
        probabilities = metrics.probabilities(metrics.expand_logits(logits))
        return {
            "val_loss": float(loss(val_targets, logits)),
            "val_accuracy": float((probabilities.argmax(axis=1) == films.val.labels).mean()),
            "val_auroc": metrics.auroc(films.val.labels, probabilities),
        }

    requests, best = Requests(run), BestWeights(stop.monitor, stop.patience)
    callbacks = [
        requests,
        BatchPoints(run, training),
        SettledNormalisation(films.pixels, films.train.rows, config.seed),
        Validation(run, training, validate),
        best,
    ]
    if settings.schedule == "plateau":
        callbacks.append(schedules.plateau(stop))
    model.compile(
        optimizer=schedules.optimizer(settings, stop, training.steps_per_epoch),
        loss=loss,
        metrics=losses.training_metrics(films.outputs),
        # XLA makes convolutions on a CPU several times slower; "auto" would choose it there too.
        jit_compile="auto" if tf.config.get_visible_devices("GPU") else False,
    )
    model.fit(
        training.dataset(settings.epochs),
        epochs=settings.epochs,
        steps_per_epoch=training.steps_per_epoch,
        shuffle=False,  # the batches are shuffled already
        callbacks=callbacks,
        verbose=0,
    )
    return best.epoch, requests.stopped


# -- the papers -----------------------------------------------------------------------------------


def keep(
    model: keras.Model,
    info: bundle.BundleInfo,
    films: FilmSet,
    logits: Mapping[str, np.ndarray],
    run: RunWriter,
) -> bundle.BundleInfo:
    """Write bundle, split, predictions and results, and keep them as artefacts of the run."""
    with tempfile.TemporaryDirectory(dir=workspace.run_folder(run.run_id)) as name:
        scratch = Path(name)
        info = bundle.write(scratch / "bundle", info, model.save, films.split)
        films.split.to_csv(scratch / "splits.csv", index=False)
        predictions(films, logits).to_parquet(scratch / "predictions.parquet", index=False)
        results = json.dumps(info.metrics, indent=2, allow_nan=False)
        (scratch / "evaluation.json").write_text(results, encoding="utf-8")
        for artefact in sorted(scratch.iterdir()):
            run.file(artefact)
    return info


def predictions(films: FilmSet, logits: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return a row a validation and test film: path, label, split, patient_id, logit_<CLASS>."""
    parts = {"val": films.val, "test": films.test}
    columns = [f"logit_{label}" for label in films.classes]
    return pd.concat(
        [
            part.table[["path", "label", "split", "patient_id"]].join(
                pd.DataFrame(logits[name], columns=columns)
            )
            for name, part in parts.items()
        ],
        ignore_index=True,
    )


def flat_metrics(prefix: str, summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the plain numbers of an evaluation summary as metrics of a run."""
    return {
        f"{prefix}_{name}": float(value)
        for name, value in summary.items()
        if isinstance(value, int | float)
    }
