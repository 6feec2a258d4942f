"""What training minimises and what it is watched by: losses and metrics on raw logits.

Two classes have one logit (its sigmoid is the probability of the second class), more have one a
class (softmax).
"""

from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from cxr_core.config import OptimiseConfig


def encode(labels: np.ndarray, outputs: int) -> np.ndarray:
    """Turn class numbers ``(n,)`` into targets float32: ``(n, 1)`` of 0 and 1, or one-hot."""
    if outputs == 1:
        return labels.astype(np.float32)[:, None]
    return np.eye(outputs, dtype=np.float32)[labels]


def film_weights(
    labels: np.ndarray, balance: Literal["none", "weights", "oversample"]
) -> np.ndarray:
    """Return each film's weight in the loss, float32 ``(n,)``, 1 on average.

    'weights' gives every class the same sum (King and Zeng 2001; scikit-learn's formula).
    """
    if balance != "weights":
        return np.ones(len(labels), np.float32)
    present, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return (len(labels) / (len(present) * counts))[inverse].astype(np.float32)


def objective(settings: OptimiseConfig, outputs: int) -> keras.losses.Loss:
    """Return what is minimised, on logits, in nats, with label smoothing (Szegedy et al. 2016).

    Cross-entropy, or focal loss (Lin et al. 2017, arXiv 1708.02002) without its class weights,
    which `film_weights` sees to.
    """
    common: dict[str, Any] = {"from_logits": True, "label_smoothing": settings.label_smoothing}
    if settings.loss == "focal":
        common["gamma"] = settings.focal_gamma
        if outputs == 1:
            return keras.losses.BinaryFocalCrossentropy(**common)
        return keras.losses.CategoricalFocalCrossentropy(alpha=1.0, **common)
    if outputs == 1:
        return keras.losses.BinaryCrossentropy(**common)
    return keras.losses.CategoricalCrossentropy(**common)


def training_metrics(outputs: int) -> list[keras.metrics.Metric]:
    """Return "accuracy" (of the most probable class) and "auroc", streamed over an epoch.

    Where films are blended, the truth is the label with the larger share.
    """
    if outputs == 1:
        accuracy = keras.metrics.MeanMetricWrapper(_right_side, name="accuracy")
    else:
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    return [accuracy, StreamingAUROC(outputs)]


def _right_side(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """Tell of each film if its logit is on the side of its target, ``(b, 1)`` to ``(b,)``."""
    return tf.cast(tf.equal(y_true > 0.5, y_pred > 0), tf.float32)[:, 0]


class StreamingAUROC(keras.metrics.AUC):
    """AUROC from histograms of 200 probabilities: good to about 0.005, at no memory.

    Two classes: that of the second. More: the mean of one against the rest.
    """

    def __init__(self, outputs: int) -> None:
        several: dict[str, Any] = {"multi_label": True, "num_labels": outputs}
        super().__init__(name="auroc", **(several if outputs > 1 else {}))
        self._outputs = outputs

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        """Add a batch of targets and logits ``(b, outputs)``."""
        logits = tf.cast(y_pred, tf.float32)
        scores = tf.sigmoid(logits) if self._outputs == 1 else tf.nn.softmax(logits)
        super().update_state(tf.cast(y_true > 0.5, tf.float32), scores, sample_weight)
