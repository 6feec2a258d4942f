"""Whole runs in worker processes, on phantoms with a tiny net."""

import itertools
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tiny

from cxr_core import images
from cxr_core.config import RunConfig
from cxr_core.diagnosis import bundle
from cxr_core.errors import TrainingError
from cxr_core.evaluation import metrics
from cxr_core.training import bundle_index, device, fitting, jobs, network, worker
from cxr_core.training.tracking import (
    TAG_DEVICE,
    TAG_NOTES,
    TAG_SYNTHETIC,
    TAG_WORKER,
    RunRecord,
    RunStore,
    Status,
)
from cxr_core.training.writer import RunWriter

pytestmark = pytest.mark.slow

EPOCHS = 6
EPOCH_METRICS = [
    "train_loss",
    "train_accuracy",
    "train_auroc",
    "val_loss",
    "val_accuracy",
    "val_auroc",
    "val_sensitivity",
    "val_specificity",
    "learning_rate",
    "epoch_seconds",
    "images_per_second",
]


def tiny_config(root: Path, **changes: object) -> RunConfig:
    return RunConfig().with_values(
        {
            "data.root": str(root),
            "image.size": 32,
            "optimise.batch_size": 16,
            "optimise.epochs": EPOCHS,
            "augment.rotation": 5.0,
            "augment.noise": 2.0,
            "decide.rule": "specificity",
            **changes,
        }
    )


def endless(root: Path) -> RunConfig:
    return tiny_config(root, **{"optimise.epochs": 1000, "stop.patience": 1000})


@dataclass(frozen=True)
class Scene:
    """Four runs that were asked for at once, and how they ended."""

    home: Path
    root: Path
    store: RunStore
    stopped: RunRecord  # asked to stop early in its third epoch or later
    first: RunRecord  # left alone
    second: RunRecord  # the same again, but killed in the middle and resumed
    cancelled: RunRecord
    killed: RunRecord  # the second before it was resumed
    log: str  # its worker's, then
    waiting: tuple[Status, ...]  # how the others stood while the first one trained


def kill(run_id: str, store: RunStore) -> RunRecord:
    os.kill(int(store.get(run_id).tags[TAG_WORKER].split()[1]), signal.SIGKILL)
    return jobs.wait(run_id, store)


@pytest.fixture(scope="module")
def scene(tmp_path_factory, phantoms, empty_store, until) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("scene")
    shutil.copy(empty_store, home / "runs.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = RunStore()
        configs = [endless(phantoms), *[tiny_config(phantoms)] * 2, endless(phantoms)]
        ids = [jobs.start(config, recipe="tiny", store=store) for config in configs]

        def in_epoch(run_id: str, epoch: int) -> None:
            def reached() -> bool:
                record = jobs.bury_if_dead(store.get(run_id), store)
                assert record.status.active, record.reason
                table = store.curves(run_id, ["val_loss"])
                return bool(len(table)) and table["step"].max() >= epoch

            until(reached, f"epoch {epoch}")

        in_epoch(ids[0], 3)
        waiting = tuple(store.get(run_id).status for run_id in ids[1:])
        jobs.stop_early(ids[0], store)
        for run_id in ids[:2]:
            jobs.wait(run_id, store)
        # By its file: asking the store takes so long on a busy machine that a short run may end.
        until(lambda: jobs.has_checkpoint(ids[2]), "a checkpoint")
        killed = kill(ids[2], store)
        log = store.path(ids[2], "train.log").read_text()
        jobs.resume(ids[2], store=store)
        in_epoch(ids[3], 1)
        jobs.cancel(ids[3], store)
        jobs.wait(ids[3], store)
        jobs.wait(ids[2], store)
        ended = {record.run_id: record for record in jobs.runs(store)}
        runs = [ended[run_id] for run_id in ids]
        yield Scene(home, phantoms, store, *runs, killed, log, waiting)


@pytest.fixture(autouse=True)
def in_the_scene(scene, monkeypatch):
    """See the workspace of the runs in place of an empty one."""
    monkeypatch.setenv("CXR_HOME", str(scene.home))


# -- how runs end ---------------------------------------------------------------------------------


def test_runs_asked_for_at_once_run_one_after_the_other(scene):
    assert scene.waiting == (Status.QUEUED,) * 3
    spans = [
        scene.store.curves(run.run_id, EPOCH_METRICS)["time"].agg(["min", "max"])
        for run in (scene.stopped, scene.first, scene.cancelled)
    ]
    for before, after in itertools.pairwise(spans):
        assert before["max"] < after["min"]


def test_a_run_left_alone_finishes_with_all_its_files(scene):
    run = scene.first
    assert run.status is Status.FINISHED, run.reason
    assert (run.phase, run.reason) == ("done", "")
    for artefact in (
        "config.yaml",
        "splits.csv",
        "predictions.parquet",
        "evaluation.json",
        "probes.json",
        "environment.txt",
        "train.log",
        "bundle/model.keras",
        "bundle/bundle.json",
        "bundle/MODEL_CARD.md",
        "bundle/splits.csv",
        "bundle/similar.npz",
    ):
        assert scene.store.path(run.run_id, artefact).stat().st_size > 0, artefact


def test_stopped_early_a_run_finishes_with_the_weights_of_its_best_epoch(scene):
    run = scene.stopped
    assert run.status is Status.STOPPED, run.reason
    curve = scene.store.curves(run.run_id, ["val_loss"]).set_index("step")["value"]
    assert 3 <= len(curve) < 1000
    assert run.metrics["best_epoch"] == curve.idxmin()
    # The bundle's own validation loss is that of the best epoch, not of the last.
    table = predictions(scene, run)
    table = table[table["split"] == "val"].copy()
    info = info_of(scene, run)
    table[[f"logit_{label}" for label in info.classes]] -= info.offset  # came at the end
    assert cross_entropy(table, info.classes) == pytest.approx(curve.min(), rel=1e-4)


def test_a_cancelled_run_keeps_nothing(scene):
    assert scene.cancelled.status is Status.CANCELLED
    assert scene.cancelled.reason == ""
    with pytest.raises(TrainingError, match="no file 'bundle'"):
        scene.store.path(scene.cancelled.run_id, "bundle")


def test_a_killed_worker_is_told_in_words_with_its_log(scene):
    run = scene.killed
    assert run.status is Status.FAILED
    assert f"ended without a word while {run.phase}: it was killed" in run.reason
    assert "Epoch 1" in scene.log


# -- what they leave ------------------------------------------------------------------------------


def info_of(scene: Scene, run: RunRecord) -> bundle.BundleInfo:
    return bundle.read(bundle_index.resolve(run.run_id, scene.store))


def predictions(scene: Scene, run: RunRecord) -> pd.DataFrame:
    return pd.read_parquet(scene.store.path(run.run_id, "predictions.parquet"))


def cross_entropy(table: pd.DataFrame, classes: tuple[str, ...]) -> float:
    logits = table[[f"logit_{label}" for label in classes]].to_numpy(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    truth = [classes.index(label) for label in table["label"]]
    return float(-log_p[np.arange(len(table)), truth].mean())


def weights(scene: Scene, run: RunRecord) -> list[np.ndarray]:
    folder = bundle_index.resolve(run.run_id, scene.store)
    return keras.saving.load_model(folder / "model.keras", compile=False).get_weights()


def test_every_epoch_has_a_point_of_every_metric(scene):
    table = scene.store.curves(scene.first.run_id, EPOCH_METRICS)
    for metric in EPOCH_METRICS:
        steps = list(table.loc[table["metric"] == metric, "step"])
        assert steps == list(range(1, EPOCHS + 1)), metric
    values = table.set_index("metric")["value"]
    assert values["val_accuracy"].between(0, 1).all()
    assert values["val_auroc"].between(0, 1).all()
    assert (values["images_per_second"] > 0).all()


def test_batch_points_end_at_the_last_step(scene):
    steps = int(scene.first.params["steps_per_epoch"])
    table = scene.store.curves(scene.first.run_id, ["batch_loss", "batch_accuracy"])
    assert table["step"].max() == EPOCHS * steps
    assert set(table["metric"]) == {"batch_loss", "batch_accuracy"}


def test_a_run_says_what_it_was_made_of(scene):
    run = scene.first
    assert run.params["classes"] == "NORMAL,PNEUMONIA,TUBERCULOSIS"
    sides = [int(run.params[f"{side}_films"]) for side in ("train", "val", "test")]
    assert sum(sides) == 60
    assert int(run.params["steps_per_epoch"]) == -(-sides[0] // 16)
    assert int(run.params["parameters"]) > int(run.params["trainable_parameters"]) > 100_000
    assert run.tags[TAG_SYNTHETIC] == "true"
    assert run.tags[TAG_NOTES]
    assert run.tags[TAG_DEVICE]
    assert len(run.params["data_fingerprint"]) == 16


def test_killed_and_resumed_a_run_ends_with_the_weights_and_curves_of_one_left_alone(scene):
    assert scene.second.status is Status.FINISHED, scene.second.reason
    assert "The run was resumed after epoch" in scene.second.tags[TAG_NOTES]
    for one, other in zip(weights(scene, scene.first), weights(scene, scene.second), strict=True):
        np.testing.assert_array_equal(one, other)
    metrics = ["train_loss", "val_loss", "val_auroc", "learning_rate"]
    first, second = (
        scene.store.curves(run.run_id, metrics).drop(columns="time")
        for run in (scene.first, scene.second)
    )
    pd.testing.assert_frame_equal(first, second)


def test_predictions_hold_validation_and_test_films_with_a_logit_a_class(scene):
    table = predictions(scene, scene.first)
    assert list(table.columns) == [
        "path",
        "label",
        "split",
        "patient_id",
        "logit_NORMAL",
        "logit_PNEUMONIA",
        "logit_TUBERCULOSIS",
    ]
    split = pd.read_csv(scene.store.path(scene.first.run_id, "splits.csv"), dtype=str)
    expected = split[split["split"] != "train"].sort_values("path")
    found = table.sort_values("path")
    for column in ("path", "label", "split"):
        assert list(found[column]) == list(expected[column])


def test_the_bundle_gives_the_logits_that_were_predicted(scene):
    from cxr_core.diagnosis.predictor import Predictor

    table = predictions(scene, scene.first)
    predictor = Predictor(bundle_index.resolve(scene.first.run_id, scene.store))
    squares = np.stack(
        [
            images.to_square(images.read(scene.root / path).pixels, 32, predictor.info.image.fit)
            for path in table["path"]
        ]
    )
    np.testing.assert_allclose(
        predictor.logits(squares), table.filter(like="logit_"), rtol=1e-4, atol=1e-4
    )


def test_the_bundle_describes_its_run(scene):
    info = info_of(scene, scene.first)
    assert info.run_id == scene.first.run_id
    assert info.name == "tiny"
    assert RunConfig.from_dict(info.config) == scene.store.config(scene.first.run_id)
    assert info.data.synthetic
    assert sum(sum(side.values()) for side in info.data.counts.values()) == 60
    assert info.data.fingerprint == scene.first.params["data_fingerprint"]
    assert set(info.versions) == {"python", "tensorflow", "keras", "numpy", "cxr_core"}
    assert 0 < info.threshold.value < 1
    assert "specificity" in info.threshold.method


def test_results_are_the_same_in_metrics_bundle_and_file(scene):
    results = json.loads(scene.store.path(scene.first.run_id, "evaluation.json").read_text())
    assert results == json.loads(json.dumps(info_of(scene, scene.first).metrics))
    for name in ("accuracy", "auc", "sensitivity", "specificity"):
        assert scene.first.metrics[f"test_{name}"] == pytest.approx(results["test"][name])
    assert results["val"]["threshold"] == results["test"]["threshold"]


def test_what_the_probes_found_is_the_same_in_bundle_and_file(scene):
    found = json.loads(scene.store.path(scene.first.run_id, "probes.json").read_text())
    assert found == info_of(scene, scene.first).probes
    # Nine test films are too few for a verdict on what is used, but not on heat maps.
    levels = {finding["name"]: finding["level"] for finding in found["findings"]}
    assert levels["corners"] == levels["lungs_out"] == "unknown"
    assert levels["sanity"] in ("fine", "warning")


# -- failures and other beginnings, in this process -----------------------------------------------


def test_a_run_that_diverges_is_failed_with_the_step(scene, monkeypatch):
    class NotANumber(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return y_pred[:, 0] * float("nan")

    # Deterministic ops would stay on for the tests that follow.
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
    monkeypatch.setattr(fitting.losses, "objective", lambda *_: NotANumber())
    monkeypatch.setattr(worker, "_write_all_output_to", lambda log: log.touch())
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    run_id = scene.store.create(tiny_config(scene.root), name="diverges")
    assert worker.main(run_id) == 1
    record = scene.store.get(run_id)
    assert record.status is Status.FAILED
    assert "no longer a number at step 1 (epoch 1, batch 1)" in record.reason


def test_a_gpu_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    hardware = RunConfig().with_values({"hardware.device": "gpu"}).hardware
    with pytest.raises(TrainingError, match="finds none here"):
        device.choose(hardware)


@pytest.fixture
def run(scene) -> RunWriter:
    return RunWriter(scene.store, scene.first.run_id)


def started_from(run: RunWriter, spec: str, classes: tuple[str, ...]):
    config = RunConfig().with_values({"image.size": 48, "model.weights": f"bundle:{spec}"})
    return network.build_model(config, 48, classes, run)


def test_a_bundle_of_the_same_classes_gives_all_its_weights(scene, run):
    model = started_from(run, scene.first.run_id, tiny.THREE)
    for mine, theirs in zip(model.get_weights(), weights(scene, scene.first), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    notes = scene.store.get(run.run_id).tags[TAG_NOTES]
    assert "layers come from the bundle 'tiny'" in notes
    assert "random" not in notes


@pytest.mark.parametrize("classes", [("NORMAL", "PNEUMONIA"), ("NORMAL", "COVID", "PNEUMONIA")])
def test_a_bundle_of_other_classes_gives_all_but_the_last_layer(scene, run, classes):
    model = started_from(run, scene.first.run_id, classes)
    source = weights(scene, scene.first)
    for mine, theirs in zip(model.get_weights()[:-2], source[:-2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert "logits started from random weights" in scene.store.get(run.run_id).tags[TAG_NOTES]


def test_a_model_trained_in_mixed_precision_is_kept_in_float32():
    config = RunConfig().with_values({"image.size": 32})
    with device.precision("mixed_bfloat16"):
        mixed = network.build_bare(config.model, 32, 2, "none", 0)
    assert mixed.get_layer("block1_conv").compute_dtype == "bfloat16"
    kept = network.for_inference(mixed.get_weights(), config, 2)
    assert {layer.compute_dtype for layer in kept.layers} == {"float32"}
    for mine, theirs in zip(kept.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_calibrations_offset_becomes_part_of_the_logits(classes):
    config = RunConfig().with_values({"image.size": 32})
    model = network.build_bare(config.model, 32, classes, "none", 0)
    films = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 1)).astype(np.float32)
    before = metrics.expand_logits(model(films, training=False))
    offset = np.array([0.0, 1.5, -0.5][:classes])
    network.add_offset(model, offset)
    after = metrics.expand_logits(model(films, training=False))
    np.testing.assert_allclose(after, before + offset, atol=1e-5)
