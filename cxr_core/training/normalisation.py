"""Batch normalisation as one operation, for training: Keras spells it out in seven.

Each of the seven walks over all feature maps, in float32 whatever the policy; on a CPU that takes
as long as the convolutions of a small network. TensorFlow has the same function as one operation,
forwards and backwards, in the policy's own format.
"""

import keras
import tensorflow as tf


class FusedNormalisation(keras.layers.BatchNormalization):
    """Keras's layer, with the same weights and the same numbers up to rounding."""

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Normalise feature maps ``(batch, rows, columns, channels)``; the rest is left to Keras.

        So are statistics over several devices, which the operation does not know.
        """
        if len(inputs.shape) != 4 or mask is not None or self.synchronized:
            return super().call(inputs, training=training, mask=mask)
        of_batch = bool(training) and self.trainable
        mean, variance = (
            tf.cast(statistic, tf.float32) for statistic in (self.moving_mean, self.moving_variance)
        )
        given = (tf.zeros(0), tf.zeros(0)) if of_batch else (mean, variance)
        outputs, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, tf.float32) if self.scale else tf.ones_like(mean),
            offset=tf.cast(self.beta, tf.float32) if self.center else tf.zeros_like(mean),
            mean=given[0],
            variance=given[1],
            epsilon=self.epsilon,
            is_training=of_batch,
        )
        if of_batch:
            # The operation estimates the variance of the population, Keras that of the batch.
            cells = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
            batch_variance *= (cells - 1) / cells
            rest = 1 - self.momentum
            self.moving_mean.assign(mean * self.momentum + batch_mean * rest)
            self.moving_variance.assign(variance * self.momentum + batch_variance * rest)
        return outputs


def fuse(model: keras.Model) -> None:
    """Let a network's batch normalisation be one operation; its layers and weights stay."""
    for layer in model.layers:
        if type(layer) is keras.layers.BatchNormalization and not layer.renorm:
            layer.__class__ = FusedNormalisation  # no state of its own, so nothing to rebuild
