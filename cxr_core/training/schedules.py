"""The update rule and how its step size changes over a run."""

import keras

from cxr_core.config import OptimiseConfig, StopConfig


def optimizer(
    settings: OptimiseConfig, stop: StopConfig, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Return the update rule with its learning rate, constant or by schedule."""
    rate = learning_rate(settings, stop, steps_per_epoch)
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    rule = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
    # Decay pulls weights towards 0; for shifts and for a normalisation's scale 0 means nothing.
    rule.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return rule


def learning_rate(
    settings: OptimiseConfig, stop: StopConfig, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Return the rate: a number, or for 'cosine' a function of the step.

    Linear rise over the warm-up, then half a cosine to the lowest rate at the last step
    (Loshchilov and Hutter 2017, without restarts).
    """
    if settings.schedule != "cosine":
        return settings.learning_rate
    steps = settings.epochs * steps_per_epoch
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), steps - 1)
    lowest = min(stop.min_learning_rate / settings.learning_rate, 1.0)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps, lowest)
    return keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / (warmup + 1),
        steps - warmup,
        lowest,
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
    )


def plateau(stop: StopConfig) -> keras.callbacks.Callback:
    """Return the callback that lowers the rate when the monitored figure stalls."""
    return keras.callbacks.ReduceLROnPlateau(
        monitor=stop.monitor,
        mode="min" if stop.monitor == "val_loss" else "max",
        factor=stop.plateau_factor,
        patience=stop.plateau_patience,
        min_lr=stop.min_learning_rate,
        min_delta=0.0,
    )
