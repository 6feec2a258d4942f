"""What a network sees in films before its last layer: features for comparing and probing them."""

from collections.abc import Callable

import numpy as np

from cxr_core import images
from cxr_core.zoo import registry

ARCHITECTURE, WEIGHTS, SIZE = "efficientnet_lite0", "imagenet", 224
_BATCH = 32


def extract(
    squares: images.Squares, *, progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """Return the pooled features of a network that was trained on photographs and left as it was.

    Such a network has no opinion on chest films, so what a probe finds in its features comes from
    the films and labels at hand alone.

    Args:
        squares: uint8 (n, SIZE, SIZE).
        progress: called with (films done, films in all).

    Returns:
        float32 (n, channels).

    Raises:
        TrainingError: the weights are not on this machine; the text holds the mend.
    """
    import keras
    import tensorflow as tf

    network = registry.build(ARCHITECTURE, size=SIZE, outputs=1, weights=WEIGHTS)
    body = keras.Model(network.input, network.get_layer("features").output)

    signature = [tf.TensorSpec((None, SIZE, SIZE, 1), tf.float32)]
    forward = tf.function(lambda films: body(films, training=False), input_signature=signature)
    found, count = [], squares.shape[0]
    for start in range(0, count, _BATCH):
        rows = np.arange(start, min(start + _BATCH, count))
        found.append(forward(squares[rows].astype(np.float32)[..., None]).numpy())
        if progress:
            progress(int(rows[-1]) + 1, count)
    return np.concatenate(found) if found else np.empty((0, body.output_shape[-1]), np.float32)
