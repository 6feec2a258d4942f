"""The recipe: a configuration to a trained, calibrated, tested model with its papers.

`train` reads top to bottom; what it calls stands below it in the order it is called. Runs in a
process of its own (see `worker`), because TensorFlow keeps memory for the life of its process.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.data.augment import augment
from cxr_core.diagnosis import bundle
from cxr_core.evaluation import calibration, metrics, operating, track_record
from cxr_core.training import (
    device,
    known_films,
    machine,
    network,
    probing,
    recipes,
    stages,
    teachers,
)
from cxr_core.training.film_set import FilmSet, Part, read_films
from cxr_core.training.fitting import fit
from cxr_core.training.tracking import TAG_DEVICE
from cxr_core.training.writer import RunWriter
from cxr_core.zoo import registry

_ALTERED = 128  # films altered at once; bounds the memory


@dataclass(frozen=True)
class Trained:
    """How a training ended."""

    # Of the bundle that is now an artefact of the run; None for a trial, which leaves none.
    info: bundle.BundleInfo | None
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
    chosen = device.choose(config.hardware)
    run.tags({TAG_DEVICE: chosen.words})
    if (gpus := chosen.strategy.num_replicas_in_sync) > 1:
        run.note(machine.shared_batch(config.optimise, gpus))
    keras.utils.set_random_seed(config.seed)
    if not chosen.is_gpu:
        tf.config.experimental.enable_op_determinism()  # on a CPU it costs next to nothing

    run.phase("reading the films")
    films = read_films(config, run, stages.sizes(config))
    pixels = films.decoded[config.image.size]

    checkpoints = workspace.checkpoint_folder(run.run_id)
    if config.distil.teachers:
        films = teachers.teach(films, config, run, chosen, checkpoints)
    run.phase("building the network")
    fitted = fit(films, config, run, chosen, checkpoints)
    if run.untested:  # else settings would be chosen among so many looks at the test films
        return Trained(None, fitted.stopped)
    model = network.for_inference(fitted.weights, config, len(films.classes))

    run.phase("choosing the threshold")
    infer = network.inference(model, run.obey)
    val_logits = metrics.expand_logits(infer(pixels, films.val.rows))
    calibrated = calibration.fit(val_logits, films.val.labels)
    temperature = calibrated.temperature
    network.add_offset(model, calibrated.offset)
    val_logits += calibrated.offset
    rule = operating.Rule(config.decide.rule, config.decide.target, config.decide.miss_cost)
    deciding = val_logits
    if config.decide.views:  # films as they are weigh as much as all altered ones together
        as_they_are = np.tile(val_logits, (config.decide.views, 1))
        deciding = np.concatenate([as_they_are, altered(films, config, infer)])
    threshold = operating.choose_threshold(
        np.tile(films.val.labels, len(deciding) // len(val_logits)),
        metrics.probabilities(deciding, temperature),
        rule,
    )

    run.phase("testing")
    test_logits = metrics.expand_logits(infer(pixels, films.test.rows))

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

    run.phase("probing")
    probes = probing.probe(
        model, infer, films, config, run, temperature=temperature, threshold=threshold.value
    )

    run.phase("learning what its films look like")
    known = known_films.learn(model, films, config, run)

    run.phase("writing the bundle")
    info = bundle.BundleInfo(
        name=run.name,
        run_id=run.run_id,
        classes=films.classes,
        image=config.image,
        architecture=config.model.architecture,
        cam_layer=registry.get(config.model.architecture).cam_layer,
        temperature=temperature,
        offset=tuple(calibrated.offset) if calibrated.offset.any() else (),
        threshold=bundle.ThresholdInfo(
            value=threshold.value,
            method=threshold.method,
            chosen_on="unaltered and altered validation" if config.decide.views else "validation",
        ),
        data=films.provenance,
        metrics={"val": results(films.val, val_logits), "test": tested},
        track_record=tuple(
            bundle.TrackRecord.model_validate(table)
            for table in track_record.tables(
                films.test.labels,
                metrics.probabilities(test_logits, temperature),
                films.classes,
                films.test.patients,
                config.seed,
            )
        ),
        probes=probes,
        gate=known.gate[1] if known.gate else None,
        similar=known.similar[1] if known.similar else None,
        config=config.model_dump(),
        selection=recipes.selection(run.recipe, config),
        notes=run.notes,
        versions=device.versions(),
    )
    logits = {"val": val_logits, "test": test_logits}
    info = keep(
        model,
        info,
        films,
        logits,
        run,
        save_gate=known.gate[0].save if known.gate else None,
        save_similar=known.similar[0].save if known.similar else None,
    )
    run.points(flat_metrics("test", tested), step=0)
    return Trained(info, fitted.stopped)


def altered(films: FilmSet, config: RunConfig, infer: network.Inference) -> np.ndarray:
    """Return logits of the validation films altered as training films are, (views * n, classes).

    Each view has all films in their order.
    """
    pixels, rows = films.decoded[config.image.size], films.val.rows
    rng = np.random.default_rng(config.seed)
    logits = []
    for _ in range(config.decide.views):
        for start in range(0, len(rows), _ALTERED):
            view = augment(pixels[rows[start : start + _ALTERED]], config.augment, rng)
            logits.append(metrics.expand_logits(infer(view, np.arange(len(view)))))
    return np.concatenate(logits)


# -- the papers -----------------------------------------------------------------------------------


def keep(
    model: keras.Model,
    info: bundle.BundleInfo,
    films: FilmSet,
    logits: Mapping[str, np.ndarray],
    run: RunWriter,
    *,
    save_gate: Callable[[Path], None] | None = None,
    save_similar: Callable[[Path], None] | None = None,
) -> bundle.BundleInfo:
    """Write bundle, split, predictions and results, and keep them as artefacts of the run."""
    with tempfile.TemporaryDirectory(dir=workspace.run_folder(run.run_id)) as name:
        scratch = Path(name)
        info = bundle.write(
            scratch / "bundle", info, model.save, films.split, save_gate, save_similar
        )
        films.split.to_csv(scratch / "splits.csv", index=False)
        predictions(films, logits).to_parquet(scratch / "predictions.parquet", index=False)
        results = json.dumps(info.metrics, indent=2, allow_nan=False)
        (scratch / "evaluation.json").write_text(results, encoding="utf-8")
        if info.probes is not None:
            probes = json.dumps(info.probes, indent=2, allow_nan=False)
            (scratch / "probes.json").write_text(probes, encoding="utf-8")
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
