"""Fitting in this process: stages, averaging, and going on from a checkpoint."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from discs import CPU, Run, film_set

from cxr_core.config import RunConfig
from cxr_core.errors import TrainingError
from cxr_core.training import callbacks, checkpoint, fitting, network, pictures, stages, trainer
from cxr_core.training.checkpoint import FILE, Checkpoint
from cxr_core.training.device import fastest_format, number_formats
from cxr_core.training.writer import RunCancelled


@pytest.fixture(autouse=True)
def every_batch_is_a_point_and_every_state_is_saved(monkeypatch):
    monkeypatch.setattr(callbacks, "_POINT_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "_PACE", 0.0)


def config(**changes: object) -> RunConfig:
    return RunConfig().with_values(
        {
            "image.size": 32,
            "optimise.batch_size": 12,
            "optimise.epochs": 4,
            "augment.rotation": 5.0,
            **changes,
        }
    )


def fit(
    settings: RunConfig, folder: Path, run: Run | None = None, *, pictures: bool = False
) -> fitting.Fitted:
    keras.utils.set_random_seed(settings.seed)
    films = film_set(tuple(stages.sizes(settings)))
    return fitting.fit(films, settings, run or Run(), CPU, folder, pictures=pictures)  # type: ignore[arg-type]


STAGES_AND_AVERAGES = {
    "optimise.head_epochs": 1,
    "optimise.small_size": 36,
    "optimise.small_epochs": 2,
    "optimise.body_rate": 0.5,
    "optimise.ema": 0.9,
    "stop.plateau_patience": 1,
}


def test_a_run_that_was_cut_off_in_every_epoch_ends_with_the_weights_of_one_left_alone(tmp_path):
    settings = config(**STAGES_AND_AVERAGES)
    whole = fit(settings, tmp_path / "whole")
    folder = tmp_path / "cut"
    for step in (2, 5, 8, 11):  # three steps an epoch: in the middle of each
        with pytest.raises(RunCancelled):
            fit(settings, folder, Run(end_at=step))
    resumed = fit(settings, folder)
    assert resumed.best_epoch == whole.best_epoch
    for one, other in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    last, expected = Checkpoint.load(folder), Checkpoint.load(tmp_path / "whole")
    for one, other in zip(last.model, expected.model, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_that_was_over_is_not_taken_further(tmp_path):
    settings = config(**{"optimise.epochs": 2})
    fit(settings, tmp_path)
    again = Run()
    fit(settings, tmp_path, again)
    assert "batch_loss" not in again.metrics


def test_a_state_that_takes_long_to_save_is_saved_less_often(tmp_path, monkeypatch):
    class Slow:
        saved = 0
        stopped = False

        def save(self, folder: Path) -> None:
            self.saved += 1
            clock.now += 3.0

    class Clock:
        now = 0.0

    clock, state = Clock(), Slow()
    monkeypatch.setattr(checkpoint, "_PACE", 20.0)
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock.now)
    saver = checkpoint.Saver(tmp_path)
    for _ in range(10):
        clock.now += 25.0
        saver.save(state)
    assert state.saved == 4  # at 25 s, and whenever a minute has passed since


def test_an_early_stage_that_no_longer_improves_does_not_cost_the_later_ones(tmp_path, monkeypatch):
    def worse_and_worse(self: fitting.Validate) -> dict[str, float]:
        nonlocal epoch
        epoch += 1
        return {**figures(self), "val_loss": float(epoch)}

    epoch, figures = 0, fitting.Validate.__call__
    monkeypatch.setattr(fitting.Validate, "__call__", worse_and_worse)
    run = Run()
    changes = {"optimise.small_size": 36, "optimise.small_epochs": 3, "stop.patience": 1}
    fitted = fit(config(**changes), tmp_path, run, pictures=True)
    assert run.phases == ["training at 36 px", "training at 32 px"]
    assert {f"attention/{epoch:04}.jpg" for epoch in range(5)} < set(run.files)  # of both sizes
    assert fitted.best_epoch == 4  # the first at full size; those before do not compare
    assert run.metrics["best_epoch"] == {1: 1, 2: 1, 3: 1, 4: 4}


def test_stopped_early_and_killed_while_testing_a_resumed_run_trains_no_further(tmp_path):
    stopped = fit(config(), tmp_path, Run(end_at=4, request="stop"))
    again = Run()
    resumed = fit(config(), tmp_path, again)
    assert resumed.stopped
    assert "batch_loss" not in again.metrics
    for one, other in zip(resumed.weights, stopped.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_damaged_checkpoint_is_a_sentence(tmp_path):
    (tmp_path / FILE).write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(TrainingError, match=r"checkpoint .* cannot be read.*repeat"):
        fit(config(), tmp_path)


def test_in_the_first_stage_only_the_head_learns(tmp_path):
    settings = config(**{"optimise.epochs": 1, "optimise.head_epochs": 1})
    begun = network.build_bare(settings.model, 32, 2, "none", 0)
    weights = dict(zip([w.path for w in begun.weights], begun.get_weights(), strict=True))
    fitted = fit(settings, tmp_path)
    after = dict(zip(weights, fitted.weights, strict=True))
    changed = {path for path in weights if (weights[path] != after[path]).any()}
    assert "logits/kernel" in changed
    assert not any(path.startswith("block") for path in changed)


def test_a_network_that_flattens_its_films_cannot_grow(tmp_path):
    changes = {
        "model.head": "flatten_mlp",
        "optimise.small_size": 64,
        "optimise.small_epochs": 1,
        "optimise.epochs": 2,
    }
    with pytest.raises(TrainingError, match=r"optimise\.small_size"):
        fit(config(**changes), tmp_path)


def test_stopped_early_among_small_films_the_weights_still_fit_the_finished_model(tmp_path):
    settings = config(**{"optimise.small_size": 64, "optimise.small_epochs": 3})
    run = Run(end_at=4, request="stop")
    fitted = fit(settings, tmp_path, run)
    assert fitted.stopped
    assert run.phases == ["training at 64 px"]
    network.for_inference(fitted.weights, settings, 2)


def test_an_epoch_leaves_its_figures_and_what_the_network_looked_at(tmp_path):
    run = Run()
    fit(config(**{"optimise.epochs": 2}), tmp_path, run, pictures=True)
    shown = json.loads(run.files["attention/films.json"])
    assert [film["label"] for film in shown] == ["NORMAL"] * 3 + ["PNEUMONIA"] * 3
    for epoch in (0, 1, 2):
        strip = cv2.imdecode(
            np.frombuffer(run.files[f"attention/{epoch:04}.jpg"], np.uint8), cv2.IMREAD_COLOR
        )
        assert strip.shape == (200, 6 * 200, 3)
    summary = json.loads(run.files["validation/0002.json"])
    confusion = np.array(summary["confusion"])
    assert confusion.sum() == 12
    assert np.trace(confusion) / 12 == pytest.approx(run.metrics["val_accuracy"][2])
    assert sum(summary["histogram"]["PNEUMONIA"]) == 6
    assert set(run.metrics["val_sensitivity"]) == set(run.metrics["val_specificity"]) == {1, 2}


def test_the_films_shown_take_turns_among_the_classes():
    labels = np.array([0, 0, 0, 0, 1, 2, 2])
    assert list(labels[pictures.shown(labels)]) == [0, 0, 0, 1, 2, 2]


def test_averaged_weights_are_the_running_mean_that_the_optimiser_keeps(tmp_path):
    settings = config(**{"optimise.ema": 0.9, "optimise.epochs": 1, "stop.patience": 5})
    fitted = fit(settings, tmp_path)
    kept = Checkpoint.load(tmp_path)
    model = network.build_bare(settings.model, 32, 2, "none", 0)
    place = [w.path for w in model.weights].index("logits/kernel")
    np.testing.assert_array_equal(fitted.weights[place], kept.optimizer["logits_kernel_average"])
    assert (fitted.weights[place] != kept.model[place]).any()


def compiled() -> keras.Model:
    film = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3)(film)
    x = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    model = keras.Model(film, keras.layers.Dense(1, dtype="float32")(x))
    model.compile(loss="mse", jit_compile=False)
    return model


@pytest.mark.parametrize(("slower", "chosen"), [(0, "mixed_bfloat16"), (1, "float32")])
def test_the_faster_number_format_is_taken(slower, chosen, monkeypatch):
    clock = iter(np.cumsum([1.0] * 500))
    policies: list[str] = []
    monkeypatch.setattr("cxr_core.training.device.time.perf_counter", lambda: next(clock))

    def build() -> keras.Model:
        policies.append(keras.config.dtype_policy().name)
        model = compiled()
        if len(policies) - 1 == slower:  # its clock runs faster: it does fewer steps in its time
            original: Callable[..., object] = model.train_on_batch

            def train_on_batch(*batch: np.ndarray) -> object:
                next(clock)
                return original(*batch)

            model.train_on_batch = train_on_batch
        return model

    batch = (np.zeros((2, 8, 8, 1), np.float32), np.zeros((2, 1), np.float32))
    policy, rates = fastest_format(("float32", "mixed_bfloat16"), build, batch)
    assert policies == ["float32", "mixed_bfloat16"] == list(rates)
    assert policy == chosen
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("has_it", "formats"),
    [(True, ("float32", "mixed_bfloat16")), (False, ("float32",)), (None, ("float32",))],
)
def test_a_processor_without_bfloat16_is_spared_the_trial(has_it, formats, monkeypatch):
    monkeypatch.setattr("cxr_core.training.machine.has_bfloat16", lambda: has_it)
    assert number_formats(CPU) == formats


TWO_DEVICES = """
import sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path[:0] = {tests!r}
import json, pathlib, tempfile
from discs import Run, film_set
from test_fitting import config, fitting

from cxr_core.training.device import Device

changes = {{"model.dropout": 0.0, "optimise.epochs": 3, "augment.rotation": 0.0}}
curves = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    run = Run()
    with tempfile.TemporaryDirectory() as folder:
        device = Device("test", False, strategy)
        fitting.fit(film_set(), config(**changes), run, device, pathlib.Path(folder))
    curves.append([[run.metrics[m][e] for e in (1, 2, 3)] for m in ("train_loss", "val_loss")])
print(json.dumps(curves))
"""


def test_two_devices_give_the_loss_curve_of_one():
    here = Path(__file__).parent
    code = TWO_DEVICES.format(tests=[str(here), str(here.parent)])
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    one, two = json.loads(result.stdout.splitlines()[-1])
    np.testing.assert_allclose(two, one, atol=1e-3)


def test_the_threshold_may_be_chosen_on_films_altered_as_training_films_are():
    films = film_set(count=60)
    settings = config(**{"decide.views": 3, "augment.rotation": 10.0})
    asked = []

    def infer(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
        asked.append(pixels[rows])
        return pixels[rows].mean(axis=(1, 2))[:, None]

    logits = trainer.altered(films, settings, infer)
    assert logits.shape == (3 * len(films.val.rows), 2)
    assert all(view.shape == (12, 32, 32) for view in asked)
    assert (asked[0] != asked[1]).any()
    assert (asked[0] != films.decoded[32][films.val.rows]).any()
    np.testing.assert_array_equal(trainer.altered(films, settings, infer), logits)
