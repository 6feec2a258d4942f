"""What every network begins and ends with: seeds for its layers, its input, its head and logits.

A head turns feature maps into the vector that the last layer reads. Each network has its authors'
("own"); two more fit them all. Whichever it is, its layer "features" holds a float32 vector per
film: the pooled maps where the head pools, else the last hidden layer.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from cxr_core.zoo.registry import Options

if TYPE_CHECKING:
    import keras

# (feature maps, options, seeds) -> what the logits are computed from, (batch, n).
Head = Callable[["keras.KerasTensor", Options, Iterator[int]], "keras.KerasTensor"]


def layer_seeds(seed: int) -> Iterator[int]:
    """Yield a seed a layer: with one for all, layers of the same shape would start out equal."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def film_input(size: int) -> "keras.KerasTensor":
    """Return the input of every network: (batch, size, size, 1) float32 gray levels 0-255."""
    import keras

    return keras.Input((size, size, 1), name="film")


def with_coordinates(
    scaled: "keras.KerasTensor", film: "keras.KerasTensor", options: Options
) -> "keras.KerasTensor":
    """Add each pixel's place to the scaled film as two channels, if the options ask for it.

    The first runs from -1 in the left column to 1 in the right, the second from the top row to the
    bottom (CoordConv: Liu et al. 2018, arXiv 1807.03247). Each is the film times nothing plus a
    constant row or column: a built-in layer, so that a bundle needs no code of its own to load.
    """
    from keras import layers

    if not options.coordinates:
        return scaled
    ramp = np.linspace(-1, 1, film.shape[1])
    places = {"x_coordinate": ramp[None, :, None], "y_coordinate": ramp[:, None, None]}
    channels = [
        layers.Rescaling(0.0, offset=place.tolist(), name=name)(film)
        for name, place in places.items()
    ]
    return layers.Concatenate(name="coordinates")([scaled, *channels])


def finish(
    film: "keras.KerasTensor",
    maps: "keras.KerasTensor",
    *,
    own: Head,
    name: str,
    outputs: int,
    options: Options,
    seeds: Iterator[int],
) -> "keras.Model":
    """Put the head that the options name and the logits onto feature maps; return the network.

    Args:
        film: the network's input.
        maps: its last feature maps (batch, rows, columns, channels).
        own: the head its authors gave it.
        name: the network's.
        outputs: number of logits.
        options: which head, and how much dropout.
        seeds: of the layers still to come.
    """
    import keras

    heads: dict[str, Head] = {"own": own, "gap": gap, "flatten_mlp": flatten_mlp}
    vector = heads[options.head](maps, options, seeds)
    return keras.Model(film, logits(vector, outputs, seeds), name=name)


def pooling(dropout: float = 0.0) -> Head:
    """Return the shortest head: the mean over the film, and ``dropout`` where above 0."""

    def head(
        maps: "keras.KerasTensor", options: Options, seeds: Iterator[int]
    ) -> "keras.KerasTensor":
        x = pooled_features(maps)
        return drop(x, dropout, options, seeds, "dropout") if dropout else x

    return head


def gap(maps: "keras.KerasTensor", options: Options, seeds: Iterator[int]) -> "keras.KerasTensor":
    """Take the mean over the film, then a dense layer of 256 and dropout of 0.3."""
    x = pooled_features(maps)
    x = dense(x, 256, seeds, "dense")
    return drop(x, 0.3, options, seeds, "dense_dropout")


def flatten_mlp(
    maps: "keras.KerasTensor", options: Options, seeds: Iterator[int]
) -> "keras.KerasTensor":
    """Lead all cells into dense layers of 256 (with an L2 penalty of 1e-4) and 128.

    Dropout of 0.3 and 0.2 behind them. Unlike a mean it knows where in the film a feature lies; for
    that its first layer has a weight a cell, channel and unit, and fits one image size alone.
    """
    from keras import layers, regularizers

    x = layers.Flatten(name="flatten")(maps)
    x = dense(x, 256, seeds, "dense1", kernel_regularizer=regularizers.L2(1e-4))
    x = drop(x, 0.3, options, seeds, "dense1_dropout")
    x = dense(x, 128, seeds, "dense2", relu="features")
    return drop(x, 0.2, options, seeds, "dense2_dropout")


def pooled_features(maps: "keras.KerasTensor") -> "keras.KerasTensor":
    """Average feature maps over the film: (batch, rows, columns, channels) to (batch, channels).

    Computed in float32 under every policy: a mean of thousands of cells is where bfloat16's eight
    bits run out, and what comes after the pooling costs next to nothing.
    """
    from keras import layers

    return layers.GlobalAveragePooling2D(dtype="float32", name="features")(maps)


def dense(
    x: "keras.KerasTensor",
    units: int,
    seeds: Iterator[int],
    name: str,
    *,
    relu: str = "",
    **settings: object,
) -> "keras.KerasTensor":
    """Apply a dense layer and ReLU, He-initialised (He et al. 2015, arXiv 1502.01852).

    Args:
        x: (batch, n).
        units: of the layer.
        seeds: of the layers.
        name: the layer's; the ReLU is called ``..._relu``.
        relu: another name for the ReLU. "features" makes it the network's features, in float32.
        settings: further arguments of `keras.layers.Dense`.
    """
    from keras import initializers, layers

    initial = initializers.HeUniform(next(seeds))
    x = layers.Dense(units, kernel_initializer=initial, name=name, **settings)(x)
    dtype = "float32" if relu == "features" else None
    return layers.ReLU(dtype=dtype, name=relu or f"{name}_relu")(x)


def drop(
    x: "keras.KerasTensor", usual: float, options: Options, seeds: Iterator[int], name: str
) -> "keras.KerasTensor":
    """Drop units at the usual rate, as changed by the options; in the type that comes in."""
    from keras import layers

    rate = options.rate(usual)
    return layers.Dropout(rate, seed=next(seeds), dtype=x.dtype, name=name)(x)


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
