"""Losses, schedules and callbacks, each on its own."""

import math

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr_core.config import AugmentConfig, OptimiseConfig, StopConfig
from cxr_core.data.batches import TrainingBatches
from cxr_core.errors import TrainingError
from cxr_core.training import callbacks, losses, schedules

RNG = np.random.default_rng(0)


# -- losses ---------------------------------------------------------------------------------------


def test_targets_are_one_column_for_two_classes_and_one_hot_for_more():
    labels = np.array([0, 1, 1])
    np.testing.assert_array_equal(losses.encode(labels, 1), [[0], [1], [1]])
    np.testing.assert_array_equal(losses.encode(labels, 3), [[1, 0, 0], [0, 1, 0], [0, 1, 0]])


def test_balanced_weights_give_every_class_the_same_sum():
    labels = np.array([0] * 10 + [1] * 30 + [2] * 5)
    weights = losses.film_weights(labels, "weights")
    sums = [weights[labels == label].sum() for label in range(3)]
    np.testing.assert_allclose(sums, 15, rtol=1e-6)
    assert weights.mean() == pytest.approx(1)
    assert (losses.film_weights(labels, "none") == 1).all()


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_on_logits(outputs, smoothing):
    classes = max(outputs, 2)
    labels = RNG.integers(0, classes, 20)
    logits = RNG.normal(0, 3, (20, outputs)).astype(np.float32)
    full = np.column_stack([np.zeros(20), logits]) if outputs == 1 else logits
    log_p = full - np.log(np.exp(full).sum(axis=1, keepdims=True))
    truth = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    expected = -(truth * log_p).sum(axis=1).mean()
    loss = losses.objective(OptimiseConfig(label_smoothing=smoothing), outputs)
    assert float(loss(losses.encode(labels, outputs), logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_metrics_streamed_over_batches_agree_with_scikit_learn(outputs):
    labels = RNG.integers(0, max(outputs, 2), 400)
    targets = losses.encode(labels, outputs)
    logits = (1.5 * targets + RNG.normal(0, 1, targets.shape)).astype(np.float32)
    accuracy, auroc = losses.training_metrics(outputs)
    for batch in range(0, 400, 50):
        for metric in (accuracy, auroc):
            metric.update_state(targets[batch : batch + 50], logits[batch : batch + 50])
    decided = (logits[:, 0] > 0) if outputs == 1 else logits.argmax(axis=1)
    assert float(accuracy.result()) == pytest.approx((decided == labels).mean())
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) if outputs > 1 else logits
    expected = roc_auc_score(targets, scores)
    assert float(auroc.result()) == pytest.approx(expected, abs=0.01)


# -- schedules ------------------------------------------------------------------------------------


def test_the_cosine_rises_falls_and_ends_at_the_lowest_rate():
    settings = OptimiseConfig(
        schedule="cosine", warmup_epochs=1, epochs=5, learning_rate=0.01, optimizer="adamw"
    )
    rate = schedules.learning_rate(settings, StopConfig(min_learning_rate=1e-4), 10)
    rates = np.array([float(rate(step)) for step in range(51)])
    assert 0 < rates[0] < 0.002
    assert rates.argmax() == 10
    assert rates[10] == pytest.approx(0.01)
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[-1] == pytest.approx(1e-4, rel=1e-3)


def test_a_cosine_without_warm_up_begins_at_the_top():
    settings = OptimiseConfig(schedule="cosine", epochs=5, learning_rate=0.01)
    rate = schedules.learning_rate(settings, StopConfig(), 10)
    assert float(rate(0)) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", keras.optimizers.Adam),
        ("adamw", keras.optimizers.AdamW),
        ("sgd", keras.optimizers.SGD),
    ],
)
def test_the_optimizer_is_the_one_asked_for_at_the_rate_asked_for(name, kind):
    settings = OptimiseConfig(optimizer=name, learning_rate=0.02, schedule="constant")
    rule = schedules.optimizer(settings, StopConfig(), 10)
    assert type(rule) is kind
    assert float(rule.learning_rate) == pytest.approx(0.02)


def test_weight_decay_spares_shifts_and_normalisation():
    net = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()]
    )
    settings = OptimiseConfig(optimizer="adamw", weight_decay=0.5, schedule="constant")
    rule = schedules.optimizer(settings, StopConfig(), 10)
    rule.build(net.trainable_variables)
    decayed = [v.name for v in net.trainable_variables if rule._use_weight_decay(v)]
    assert decayed == ["kernel"]


# -- callbacks ------------------------------------------------------------------------------------


def net_with_dropout() -> keras.Model:
    film = keras.Input((8, 8, 1))
    x = keras.layers.Dropout(0.5, seed=1)(film)
    x = keras.layers.Conv2D(3, 3, name="conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(film, keras.layers.Dense(1)(x))


def test_settled_normalisation_has_the_statistics_of_unchanged_films():
    net = net_with_dropout()
    pixels = RNG.integers(0, 256, (80, 8, 8), dtype=np.uint8)
    rows = np.arange(10, 74)
    settle = callbacks.SettledNormalisation(pixels, rows, seed=0)
    settle.set_model(net)
    settle.on_train_begin()
    settle.on_epoch_end(0)
    before_norm = keras.Model(net.inputs, net.get_layer("conv").output)
    maps = np.array(before_norm(pixels[rows].astype(np.float32)[..., None]))
    norm = net.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean, maps.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, maps.var(axis=(0, 1, 2)), rtol=1e-3)


def test_settling_leaves_training_as_it_was():
    net = net_with_dropout()
    settle = callbacks.SettledNormalisation(np.zeros((4, 8, 8), np.uint8), np.arange(4), seed=0)
    settle.set_model(net)
    settle.on_train_begin()
    weights = [weight.numpy() for weight in net.trainable_weights]
    settle.on_epoch_end(0)
    assert net.get_layer("norm").momentum == 0.9
    assert [layer.rate for layer in net.layers if isinstance(layer, keras.layers.Dropout)] == [0.5]
    for kept, weight in zip(weights, net.trainable_weights, strict=True):
        np.testing.assert_array_equal(kept, weight)


class Run:
    """Stands in for the writer and remembers points."""

    def __init__(self) -> None:
        self.written: list[tuple[dict[str, float], int]] = []

    def points(self, metrics: dict[str, float], step: int) -> None:
        self.written.append((dict(metrics), step))


class Net:
    """Stands in for a model: its weights are the number of the epoch."""

    def __init__(self) -> None:
        self.weights = [np.zeros(1)]
        self.stop_training = False

    def get_weights(self) -> list[np.ndarray]:
        return [weight.copy() for weight in self.weights]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.weights = weights


def ten_films_in_batches_of_four() -> TrainingBatches:
    return TrainingBatches(
        pixels=np.zeros((10, 32, 32), np.uint8),
        rows=np.arange(10),
        targets=np.zeros((10, 1), np.float32),
        weights=np.ones(10, np.float32),
        batch_size=4,
        augment=AugmentConfig(),
        seed=0,
    )


def feed(points: callbacks.BatchPoints, batch_losses: list[float], epoch: int) -> None:
    """Give a callback running means as Keras does, over batches of 4, 3 and 3 films."""
    points.on_epoch_begin(epoch)
    sizes = [4, 3, 3]
    for batch in range(3):
        seen = sizes[: batch + 1]
        mean = float(np.average(batch_losses[: batch + 1], weights=seen))
        points.on_train_batch_end(batch, {"loss": mean, "accuracy": mean / 10})


def test_batch_points_are_the_batches_own_means_and_not_the_running_ones(monkeypatch):
    monkeypatch.setattr(callbacks, "_POINT_INTERVAL", 0.0)
    run = Run()
    points = callbacks.BatchPoints(run, ten_films_in_batches_of_four())
    feed(points, [3.0, 2.0, 1.0], epoch=0)
    feed(points, [0.5, 0.4, 0.3], epoch=1)
    assert [step for _, step in run.written] == [1, 2, 3, 4, 5, 6]
    values = [metrics["batch_loss"] for metrics, _ in run.written]
    np.testing.assert_allclose(values, [3, 2, 1, 0.5, 0.4, 0.3])
    assert run.written[0][0]["batch_accuracy"] == pytest.approx(0.3)


def test_thinned_batch_points_are_means_over_the_films_between_them(monkeypatch):
    monkeypatch.setattr(callbacks, "_POINT_INTERVAL", math.inf)
    run = Run()
    feed(callbacks.BatchPoints(run, ten_films_in_batches_of_four()), [3.0, 2.0, 1.0], epoch=0)
    ((metrics, step),) = run.written
    assert step == 3
    assert metrics["batch_loss"] == pytest.approx((4 * 3 + 3 * 2 + 3 * 1) / 10)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run_and_names_the_step(value):
    points = callbacks.BatchPoints(Run(), ten_films_in_batches_of_four())
    points.on_epoch_begin(1)
    with pytest.raises(TrainingError, match=r"step 5 \(epoch 2, batch 2\).*learning_rate"):
        points.on_train_batch_end(1, {"loss": value, "accuracy": 0.5})


def best_of(monitor: str, values: list[float], patience: int = 2) -> tuple[int, int, float]:
    """Run epochs until training ends; return the best, how many ran, and the weights kept."""
    keeper = callbacks.BestWeights(monitor, patience)
    net = Net()
    keeper.set_model(net)
    for epoch, value in enumerate(values):
        net.weights = [np.full(1, epoch + 1.0)]
        keeper.on_epoch_end(epoch, {monitor: value})
        if net.stop_training:
            break
    return keeper.best.epoch, epoch + 1, float(keeper.best.weights[0][0])


@pytest.mark.parametrize(
    ("monitor", "values", "best", "ran"),
    [
        ("val_loss", [0.9, 0.5, 0.6, 0.7, 0.1], 2, 4),
        ("val_auroc", [0.6, 0.9, 0.8, 0.7, 1.0], 2, 4),
        ("val_loss", [0.9, 0.8, 0.7], 3, 3),
        ("val_loss", [0.9, 0.9, 0.9, 0.9], 1, 3),
        ("val_auroc", [math.nan, 0.6, math.nan], 2, 3),
        ("val_auroc", [math.nan, math.nan, math.nan, math.nan], 1, 3),
    ],
)
def test_the_best_epoch_is_kept_and_patience_ends_training(monitor, values, best, ran):
    assert best_of(monitor, values) == (best, ran, best)


def test_the_rate_falls_when_the_monitored_figure_stalls_but_not_below_the_floor():
    net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    net.compile(optimizer=keras.optimizers.Adam(1e-3))
    stop = StopConfig(plateau_patience=2, plateau_factor=0.5, min_learning_rate=4e-4)
    falling = schedules.plateau(stop)
    falling.set_model(net)
    falling.on_train_begin()
    rates = []
    for epoch, value in enumerate([1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]):
        falling.on_epoch_end(epoch, {"val_loss": value})
        rates.append(float(net.optimizer.learning_rate))
    np.testing.assert_allclose(rates, [1e-3] * 3 + [5e-4] * 2 + [4e-4] * 3, rtol=1e-5)
