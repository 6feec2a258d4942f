"""The five-block CNN of a published three-class notebook, with the dense layers of its day."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cxr_core.zoo import heads
from cxr_core.zoo.registry import Options, architecture

if TYPE_CHECKING:
    import keras

# ImageNet's statistics (0.485, 0.456, 0.406 and 0.229, 0.224, 0.225), averaged over the colours,
# which are equal in a gray film.
MEAN, DEVIATION = 0.449, 0.226
BLOCKS = ((64, 0.25), (128, 0.25), (256, 0.3), (512, 0.3), (512, 0.3))  # filters, dropout
GRID = 7  # cells a side that the dense layers see, whatever the size of the film


@architecture(
    name="deep_cnn",
    title="Deep CNN, five blocks",
    summary="Five blocks and two wide dense layers, trained from nothing: 97 of a hundred of its "
    "115 million parameters are in the dense layers, so it needs many films and much memory.",
    reference="Simonyan and Zisserman 2015, Very deep convolutional networks, arXiv 1409.1556 "
    "(dense layers on a 7x7 grid); initialisation: He et al. 2015, arXiv 1502.01852",
    # Before the last pooling, as in the plain CNN.
    cam_layer="block5_relu",
    input_range=(-MEAN / DEVIATION, (1 - MEAN) / DEVIATION),
    default_size=224,
    min_size=64,
    parameters=115_071_297,
)
def build(*, size: int, outputs: int, seed: int, options: Options) -> "keras.Model":
    """Build it: 64, 128, 256, 512, 512 filters of 3x3, a 7x7 grid, dense layers of 4096 and 2048.

    Its parameters are as many at every size: adaptive pooling brings the maps to 7x7, which they
    are already at 224 px.
    """
    from keras import initializers, layers

    seeds = heads.layer_seeds(seed)

    film = heads.film_input(size)
    scale = layers.Rescaling(1 / (255 * DEVIATION), offset=-MEAN / DEVIATION, name="scale")
    x = heads.with_coordinates(scale(film), film, options)

    for block, (filters, rate) in enumerate(BLOCKS, start=1):
        x = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,  # the normalisation's shift takes its place
            kernel_initializer=initializers.HeNormal(next(seeds)),
            name=f"block{block}_conv",
        )(x)
        # Momentum 0.9: with Keras's 0.99, statistics lag for epochs on a small set.
        x = layers.BatchNormalization(momentum=0.9, name=f"block{block}_bn")(x)
        x = layers.ReLU(name=f"block{block}_relu")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
        x = heads.drop(x, rate, options, seeds, f"block{block}_dropout")

    return heads.finish(
        film, x, own=_head, name="deep_cnn", outputs=outputs, options=options, seeds=seeds
    )


def _head(maps: "keras.KerasTensor", options: Options, seeds: Iterator[int]) -> "keras.KerasTensor":
    """Bring the maps to a 7x7 grid, then dense layers of 4096 and 2048, each with dropout."""
    from keras import layers

    x = layers.AdaptiveAveragePooling2D(GRID, name="grid")(maps)
    x = layers.Flatten(name="flatten")(x)
    x = heads.dense(x, 4096, seeds, "dense1")
    x = heads.drop(x, 0.5, options, seeds, "dense1_dropout")
    x = heads.dense(x, 2048, seeds, "dense2", relu="features")
    return heads.drop(x, 0.5, options, seeds, "dense2_dropout")
