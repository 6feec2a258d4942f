"""What every network begins and ends with: seeds for its layers, pooled features, and logits."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


def layer_seeds(seed: int) -> Iterator[int]:
    """Yield a seed a layer: with one for all, layers of the same shape would start out equal."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def pooled_features(maps: "keras.KerasTensor") -> "keras.KerasTensor":
    """Average feature maps over the film: (batch, rows, columns, channels) to (batch, channels).

    Computed in float32 under every policy: a mean of thousands of cells is where bfloat16's eight
    bits run out, and what comes after the pooling costs next to nothing.
    """
    from keras import layers

    return layers.GlobalAveragePooling2D(dtype="float32", name="features")(maps)


def logits(
    features: "keras.KerasTensor", outputs: int, seeds: Iterator[int]
) -> "keras.KerasTensor":
    """Map features to ``outputs`` raw logits, float32; probabilities are made outside the graph."""
    from keras import initializers, layers

    return layers.Dense(
        outputs,
        kernel_initializer=initializers.GlorotUniform(next(seeds)),
        dtype="float32",
        name="logits",
    )(features)
