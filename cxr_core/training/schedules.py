"""The update rule and how its step size changes over a run."""

from collections.abc import Mapping
from typing import Any

import keras

from cxr_core.config import OptimiseConfig, StopConfig


def optimizer(
    settings: OptimiseConfig, stop: StopConfig, steps_per_epoch: int, factor: float = 1.0
) -> keras.optimizers.Optimizer:
    """Return the update rule with its learning rate, constant or by schedule, times ``factor``."""
    rate = learning_rate(settings, stop, steps_per_epoch, factor)
    common = {
        "learning_rate": rate,
        "global_clipnorm": settings.clip_norm or None,
        # Overwriting the weights is left to who validates with the average.
        **({"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}),
    }
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=0.9, nesterov=True, **common)
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(**common)
    rule = keras.optimizers.AdamW(weight_decay=settings.weight_decay, **common)
    # Decay pulls weights towards 0; for shifts and for a normalisation's scale 0 means nothing.
    rule.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return rule


def learning_rate(
    settings: OptimiseConfig, stop: StopConfig, steps_per_epoch: int, factor: float = 1.0
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return the rate times ``factor``: a number, or for the cosines a function of the step.

    'cosine': linear rise over the warm-up, then half a cosine to the lowest rate at the last step.
    'cosine_restarts': half a cosine again and again, each longer and lower than the one before
    (Loshchilov and Hutter 2017, arXiv 1608.03983).
    """
    highest = factor * settings.learning_rate
    lowest = min(stop.min_learning_rate / highest, 1.0)
    if settings.schedule == "cosine_restarts":
        return keras.optimizers.schedules.CosineDecayRestarts(
            highest,
            settings.restart_steps,
            t_mul=settings.restart_growth,
            m_mul=settings.restart_decay,
            alpha=lowest,
        )
    if settings.schedule != "cosine":
        return highest
    steps = settings.epochs * steps_per_epoch
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), steps - 1)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(highest, steps, lowest)
    return keras.optimizers.schedules.CosineDecay(
        highest / (warmup + 1),
        steps - warmup,
        lowest,
        warmup_target=highest,
        warmup_steps=warmup,
    )


NO_MEMORY: Mapping[str, Any] = {"best": None, "wait": 0}  # of a `Plateau` that saw no epoch


class Plateau(keras.callbacks.ReduceLROnPlateau):
    """Keras's falling rate, with a memory that outlives an interruption or a change of stage."""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Forget nothing, unlike Keras's."""

    @property
    def memory(self) -> dict[str, float | None]:
        """What it knows of the epochs so far; may be set."""
        return {"best": None if self.best is None else float(self.best), "wait": self.wait}

    @memory.setter
    def memory(self, values: Mapping[str, Any]) -> None:
        self.best, self.wait = values["best"], values["wait"]


def plateau(stop: StopConfig) -> Plateau:
    """Return the callback that lowers the rate when the monitored figure stalls."""
    return Plateau(
        monitor=stop.monitor,
        mode="min" if stop.monitor == "val_loss" else "max",
        factor=stop.plateau_factor,
        patience=stop.plateau_patience,
        min_lr=stop.min_learning_rate,
        min_delta=0.0,
    )
