"""The three-block CNN: the smallest network that learns chest X-rays, to see how one does."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cxr_core.zoo import heads
from cxr_core.zoo.registry import Options, architecture

if TYPE_CHECKING:
    import keras


@architecture(
    name="plain_cnn",
    title="Plain CNN, three blocks",
    summary="Three blocks of convolution and pooling, trained from nothing: small and quick, "
    "the baseline that anything larger has to beat.",
    reference="LeCun et al. 1998, Gradient-based learning applied to document recognition, "
    "doi 10.1109/5.726791; batch normalisation: Ioffe and Szegedy 2015, arXiv 1502.03167",
    # Before the last pooling: cells of 4 px of the input in place of 8, for the same evidence.
    cam_layer="block3_relu",
    input_range=(0, 1),
    default_size=224,
    min_size=32,
    parameters=127_393,
)
def build(*, size: int, outputs: int, seed: int, options: Options) -> "keras.Model":
    """Build it: 32, 64, 128 filters of 3x3, global average pooling, a dense layer of 256."""
    from keras import initializers, layers

    seeds = heads.layer_seeds(seed)

    # Scale to 0-1 without an offset, so that the convolutions' zero padding means black.
    film = heads.film_input(size)
    x = layers.Rescaling(1 / 255, name="scale")(film)
    x = heads.with_coordinates(x, film, options)

    # Momentum 0.9 throughout: with Keras's 0.99, statistics lag for epochs on a small set.
    # Glorot's small weights: under normalisation only a step's size relative to the weights counts,
    # and from He's larger ones the phantoms take half as many epochs again.
    for block, filters in enumerate((32, 64, 128), start=1):
        x = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=False,  # the normalisation's shift takes its place
            kernel_initializer=initializers.GlorotUniform(next(seeds)),
            name=f"block{block}_conv",
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"block{block}_bn")(x)
        x = layers.ReLU(name=f"block{block}_relu")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
        x = heads.drop(x, 0.25, options, seeds, f"block{block}_dropout")

    return heads.finish(
        film, x, own=_head, name="plain_cnn", outputs=outputs, options=options, seeds=seeds
    )


def _head(maps: "keras.KerasTensor", options: Options, seeds: Iterator[int]) -> "keras.KerasTensor":
    """Pool, then a normalised dense layer of 256."""
    from keras import initializers, layers

    x = heads.pooled_features(maps)
    x = layers.Dense(
        256,
        use_bias=False,
        kernel_initializer=initializers.GlorotUniform(next(seeds)),
        name="dense",
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name="dense_bn")(x)
    x = layers.ReLU(name="dense_relu")(x)
    return heads.drop(x, 0.5, options, seeds, "dense_dropout")
