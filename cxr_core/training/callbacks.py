"""What happens between two batches and between two epochs, each in a small callback.

Their order matters: `AveragedWeights` and `SettledNormalisation` ready the model, `Validation` then
puts its figures into ``logs``, and those that come after (best weights, falling rate) read them
there; a second `AveragedWeights` puts back what goes on training, and `Checkpoints` keeps it.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from cxr_core import images
from cxr_core.data.batches import TrainingBatches
from cxr_core.errors import TrainingError
from cxr_core.training.checkpoint import Best
from cxr_core.training.writer import RunWriter

_log = logging.getLogger(__name__)

_POINT_INTERVAL = 1.0  # seconds between two batch points: what a chart can show, not more

Logs = dict[str, float]


class Requests(keras.callbacks.Callback):
    """Obeys requests after every batch: "stop" ends the training, "cancel" the run."""

    def __init__(self, run: RunWriter) -> None:
        super().__init__()
        self._run = run
        self.stopped = False  # True where training ended by request

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look for a request."""
        self._run.obey()
        if self._run.request == "stop":
            self.stopped = self.model.stop_training = True


class BatchPoints(keras.callbacks.Callback):
    """Writes batch_loss and batch_accuracy about once a second, and ends a run that diverged.

    A point is the mean over the films since the last point. Keras gives running means over the
    epoch, and the difference of two of them is that mean.
    """

    def __init__(self, run: RunWriter, batches: TrainingBatches) -> None:
        super().__init__()
        self._run = run
        self._batches = batches
        self._epoch = 0
        self._films = 0  # seen in this epoch
        self._written_films = 0
        self._written: Mapping[str, float] = {}  # running means at the last point
        self._written_at = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Begin the running means anew."""
        self._epoch = epoch
        self._films = self._written_films = 0
        self._written = {"loss": 0.0, "accuracy": 0.0}

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Write a point if it is time.

        Raises:
            TrainingError: the loss is no number any more.
        """
        logs = logs or {}
        step = self._epoch * self._batches.steps_per_epoch + batch
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"The loss was no longer a number at step {step + 1} (epoch {self._epoch + 1}, "
                f"batch {batch + 1}): training diverged. Lower optimise.learning_rate, and if "
                "that does not help look for damaged films on the Dataset page."
            )
        self._films += self._batches.size(step)
        last = batch + 1 == self._batches.steps_per_epoch
        if last or time.monotonic() - self._written_at >= _POINT_INTERVAL:
            self._write(step + 1, logs)

    def _write(self, step: int, logs: Logs) -> None:
        films = self._films - self._written_films
        means = {
            name: (logs[name] * self._films - before * self._written_films) / films
            for name, before in self._written.items()
        }
        self._run.points({f"batch_{name}": value for name, value in means.items()}, step)
        self._written = {name: logs[name] for name in self._written}
        self._written_films = self._films
        self._written_at = time.monotonic()


class SettledNormalisation(keras.callbacks.Callback):
    """Measures what batch normalisation needs for inference, after every epoch.

    The running means that training leaves behind are those of films with dropout on, and of
    weights some steps old. On a set of a few hundred films, with weights that change fast, they are
    so far off that validation loss jumps between epochs and the best one is found by luck. So the
    statistics are measured anew: mean and variance over training films without dropout and
    augmentation (Wu and Johnson 2021, arXiv 2105.07576, section 3).

    Args:
        pixels: decoded films uint8 ``(m, size, size)``.
        rows: which of them are trained on; of many, 640 are drawn.
        seed: of that draw.
    """

    _BATCH, _FILMS = 32, 640

    def __init__(self, pixels: images.Squares, rows: np.ndarray, seed: int) -> None:
        super().__init__()
        chosen = np.random.default_rng(seed).permutation(rows)[: self._FILMS]
        self._batches = np.array_split(chosen, max(1, len(chosen) // self._BATCH))
        self._pixels = pixels
        self._layers: list[keras.layers.BatchNormalization] = []
        self._pass: Callable[[tf.Tensor], object]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Trace a pass that leaves in each layer the statistics of its batch alone."""
        model = self.model
        self._layers = [
            layer
            for layer in model.layers
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        ]
        # Momentum and rate are constants of a traced graph: that of the training keeps its own.
        changed = [(layer, "momentum", layer.momentum) for layer in self._layers]
        changed += [
            (layer, "rate", layer.rate)
            for layer in model.layers
            if isinstance(layer, keras.layers.Dropout)
        ]
        for layer, name, _ in changed:
            setattr(layer, name, 0.0)
        traced = tf.function(lambda films: model(films, training=True))
        self._pass = traced.get_concrete_function(
            tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        )
        for layer, name, value in changed:
            setattr(layer, name, value)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Set mean and variance of every layer to those over the films."""
        if not self._layers:
            return
        means, variances = [], []  # a row a batch, the layers' channels side by side
        for rows in self._batches:
            self._pass(tf.constant(self._pixels[rows].astype(np.float32)[..., None]))
            means.append(np.concatenate([layer.moving_mean.numpy() for layer in self._layers]))
            variances.append(
                np.concatenate([layer.moving_variance.numpy() for layer in self._layers])
            )
        mean = np.mean(means, axis=0)
        variance = np.mean(variances, axis=0) + np.var(means, axis=0)
        ends = np.cumsum([layer.moving_mean.shape[0] for layer in self._layers])[:-1]
        for layer, its_mean, its_variance in zip(
            self._layers, np.split(mean, ends), np.split(variance, ends), strict=True
        ):
            layer.moving_mean.assign(its_mean)
            layer.moving_variance.assign(its_variance)


class AveragedWeights(keras.callbacks.Callback):
    """Exchanges the weights with their running mean after an epoch; a second one exchanges back.

    The optimiser keeps the means. What stands between the two in the list of callbacks sees a model
    with averaged weights (Polyak and Juditsky 1992, doi 10.1137/0330046).
    """

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Exchange each trained weight with its mean."""
        slots = {slot.name: slot for slot in self.model.optimizer.variables}
        for weight in self.model.trainable_variables:
            average = slots[f"{weight.path.replace('/', '_')}_average"]
            kept = weight.numpy()
            weight.assign(average)
            average.assign(kept)


class Validation(keras.callbacks.Callback):
    """Validates after every epoch and writes the epoch's figures; goes before who reads them.

    Args:
        run: where the figures go.
        batches: to know how many films an epoch holds.
        validate: returns the epoch's figures, "val_loss" and others, of the model as it stands.
    """

    def __init__(
        self, run: RunWriter, batches: TrainingBatches, validate: Callable[[], Logs]
    ) -> None:
        super().__init__()
        self._run = run
        self._batches = batches
        self._validate = validate
        self._began = self._first_batch = self._last_batch = 0.0  # seconds
        self._films = 0  # after the first batch, which waits for compilation and the first films

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start the clock."""
        self._began = self._first_batch = time.perf_counter()
        self._films = 0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Count films and time, without what comes between epochs."""
        self._last_batch = time.perf_counter()
        if batch == 0:
            self._first_batch = self._last_batch
        else:
            self._films += self._batches.size(batch)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Validate, put the figures into ``logs`` and write them as epoch ``epoch + 1``."""
        assert logs is not None
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        validated = self._validate()
        logs |= validated
        figures = {
            "train_loss": logs["loss"],
            "train_accuracy": logs["accuracy"],
            "train_auroc": logs["auroc"],
            **validated,
            "learning_rate": rate,
            "epoch_seconds": time.perf_counter() - self._began,
        }
        if self._films:
            figures["images_per_second"] = self._films / (self._last_batch - self._first_batch)
        self._run.points(figures, epoch + 1)
        _log.info("Epoch %d: %s", epoch + 1, ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the best epoch, and ends training when it stays the best for long.

    Args:
        monitor: "val_loss" (the lower the better) or "val_auroc" (the higher).
        patience: epochs without a better figure before training ends.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__()
        self._monitor = monitor
        self._sign = -1.0 if monitor == "val_loss" else 1.0
        self._patience = patience
        self.patient = False  # True: training goes on however long a better epoch takes
        self.best = Best()

    def begin_stage(self, *, comparable: bool) -> None:
        """Count epochs without a better one anew; forget the best where figures cannot compare."""
        self.best = replace(self.best, waited=0)
        if not comparable:
            self.best = replace(self.best, value=-math.inf, epoch=0)

    @property
    def exhausted(self) -> bool:
        """True where the best epoch has stayed the best for too long."""
        return not self.patient and self.best.waited >= self._patience

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare; a figure that is no number (one class alone in validation) is no better."""
        value = self._sign * (logs or {})[self._monitor]
        if value > self.best.value or not self.best.epoch:
            value = value if math.isfinite(value) else -math.inf
            self.best = Best(value, epoch + 1, 0, self.model.get_weights())
            return
        self.best = replace(self.best, waited=self.best.waited + 1)
        if self.exhausted:
            _log.info("No better %s for %d epochs: training ends.", self._monitor, self._patience)
            self.model.stop_training = True


class Checkpoints(keras.callbacks.Callback):
    """Hands over the state of the training after every epoch; the last of the callbacks.

    Args:
        keep: called with the model and the number of epochs done.
    """

    def __init__(self, keep: Callable[[keras.Model, int], None]) -> None:
        super().__init__()
        self._keep = keep

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Hand the state over."""
        self._keep(self.model, epoch + 1)
