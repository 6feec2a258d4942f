"""Networks of `keras.applications`, made flat, gray and reproducible, with their ImageNet weights.

Keras builds a pattern, and its layers are made anew on the film's input, each from its own
settings: so every network gets seeds, quicker normalisation statistics and stable names, and its
graph is the same whatever the weights are (Keras's EfficientNet has a layer more with ImageNet's).
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_core.zoo import heads
from cxr_core.zoo.keras_weights import WeightsFile
from cxr_core.zoo.registry import Options, Pretrained, architecture

if TYPE_CHECKING:
    import keras

_BUCKET = "https://storage.googleapis.com/tensorflow/keras-applications"
_SIZE = 224  # px, where the authors' networks are at home, unless said otherwise


@dataclass(frozen=True)
class Scaling:
    """Gray levels 0-255 to what a network was trained on: ``factor * level + offset`` a channel."""

    factor: tuple[float, float, float]
    offset: tuple[float, float, float]

    @property
    def range(self) -> tuple[float, float]:
        """What becomes of black and of white, over all channels."""
        white = (255 * f + o for f, o in zip(self.factor, self.offset, strict=True))
        return min(self.offset), max(white)


# The three of `keras.applications.imagenet_utils.preprocess_input`.
_CAFFE = Scaling((1, 1, 1), (-103.939, -116.779, -123.68))  # blue, green, red
_TF = Scaling((1 / 127.5,) * 3, (-1,) * 3)
_TORCH = Scaling(
    (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
    (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
)


@dataclass(frozen=True)
class Application:
    """What is needed to make one of Keras's networks ours."""

    keras_name: str  # in `keras.applications`
    scaling: Scaling
    cam_layer: str  # the name that its last layer has here
    own: heads.Head  # the head its authors gave it, less the ImageNet classes
    file: WeightsFile
    settings: tuple[tuple[str, Any], ...] = ()  # further arguments of Keras's builder

    def pattern(self, size: int, file: Path | None = None) -> "keras.Model":
        """Return the network as Keras builds it, without head, for three colours."""
        import keras

        return getattr(keras.applications, self.keras_name)(
            include_top=False,
            weights=None if file is None else str(file),
            input_shape=(size, size, 3),
            **dict(self.settings),
        )


def _mobile_head(
    maps: "keras.KerasTensor", options: Options, seeds: Iterator[int]
) -> "keras.KerasTensor":
    """Pool, then a dense layer of 1280 with hard swish, and dropout (section 5.2 of the paper)."""
    from keras import initializers, layers

    x = heads.pooled_features(maps)
    initial = initializers.HeNormal(next(seeds))
    x = layers.Dense(1280, kernel_initializer=initial, name="dense")(x)
    x = layers.Activation("hard_swish", name="dense_hard_swish")(x)
    return heads.drop(x, 0.2, options, seeds, "dropout")


APPLICATIONS = {
    "resnet50": Application(
        keras_name="ResNet50",
        scaling=_CAFFE,
        cam_layer="conv5_block3_out",
        own=heads.pooling(),
        file=WeightsFile(
            f"{_BUCKET}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "4d473c1dd8becc155b73f8504c6f6626",
        ),
    ),
    "resnet50v2": Application(
        keras_name="ResNet50V2",
        scaling=_TF,
        cam_layer="post_relu",
        own=heads.pooling(),
        file=WeightsFile(
            f"{_BUCKET}/resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "fac2f116257151a9d068a22e544a4917",
        ),
    ),
    "densenet121": Application(
        keras_name="DenseNet121",
        scaling=_TORCH,
        cam_layer="relu",
        own=heads.pooling(),
        file=WeightsFile(
            f"{_BUCKET}/densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "30ee3e1110167f948a6b9946edeeb738",
        ),
    ),
    # Keras's own scaling layers come to the same as _TORCH: its weights hold standard deviations
    # where variances should be, and a further layer makes up for it (Keras's source, and
    # github.com/tensorflow/tensorflow/issues/49930).
    "efficientnet_b0": Application(
        keras_name="EfficientNetB0",
        scaling=_TORCH,
        cam_layer="top_activation",
        own=heads.pooling(dropout=0.2),
        file=WeightsFile(
            "https://storage.googleapis.com/keras-applications/efficientnetb0_notop.h5",
            "50bc09e76180e00e4465e1a485ddc09d",
        ),
    ),
    "efficientnet_b3": Application(
        keras_name="EfficientNetB3",
        scaling=_TORCH,
        cam_layer="top_activation",
        own=heads.pooling(dropout=0.3),
        file=WeightsFile(
            "https://storage.googleapis.com/keras-applications/efficientnetb3_notop.h5",
            "af6d107764bb5b1abb91932881670226",
        ),
    ),
    "mobilenet_v3": Application(
        keras_name="MobileNetV3Large",
        scaling=_TF,
        cam_layer="conv_1_hard_swish",
        own=_mobile_head,
        file=WeightsFile(
            f"{_BUCKET}/mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
            "07fb09a5933dd0c8eaafa16978110389",
        ),
        settings=(("include_preprocessing", False),),
    ),
}


def _register(
    name: str,
    *,
    title: str,
    summary: str,
    reference: str,
    parameters: int,
    licence: str,
    origin: str,
    default_size: int = _SIZE,
) -> None:
    """Enter one of the applications into the registry."""
    application = APPLICATIONS[name]

    def build_one(*, size: int, outputs: int, seed: int, options: Options) -> "keras.Model":
        return build(name, size=size, outputs=outputs, seed=seed, options=options)

    architecture(
        name=name,
        title=title,
        summary=summary,
        reference=reference,
        cam_layer=application.cam_layer,
        input_range=application.scaling.range,
        default_size=default_size,
        # They halve the film five times: two by two cells are the least that show a place.
        min_size=64,
        parameters=parameters,
        imagenet=Pretrained(
            licence=licence,
            source=f"{origin}; published with keras.applications, and fetched from there once.",
            find=lambda: APPLICATIONS[name].file.find(),
            load=lambda model, _: load_imagenet(model, name),
            fetched=True,
        ),
    )(build_one)


_register(
    "resnet50",
    title="ResNet50",
    summary="The residual network that most papers compare with: large, well understood, and "
    "meant to start from ImageNet weights.",
    reference="He et al. 2016, Deep residual learning for image recognition, arXiv 1512.03385",
    parameters=23_589_761,
    licence="MIT",
    origin="Trained on ImageNet by Kaiming He and others, ported from Caffe",
)
_register(
    "resnet50v2",
    title="ResNet50V2",
    summary="ResNet50 with normalisation before each convolution, which trains more smoothly; "
    "often fine-tuned on chest films with its last layers alone.",
    reference="He et al. 2016, Identity mappings in deep residual networks, arXiv 1603.05027",
    parameters=23_566_849,
    licence="BSD-3-Clause",
    origin="Trained on ImageNet at Facebook (fb.resnet.torch)",
)
_register(
    "densenet121",
    title="DenseNet121",
    summary="The network of CheXNet and of most chest X-ray models since: every layer sees all "
    "before it, with few parameters and much memory.",
    reference="Huang et al. 2017, Densely connected convolutional networks, arXiv 1608.06993; on "
    "chest films: Rajpurkar et al. 2017, arXiv 1711.05225",
    parameters=7_038_529,
    licence="BSD-3-Clause",
    origin="Trained on ImageNet by Zhuang Liu and others",
)
_register(
    "efficientnet_b0",
    title="EfficientNet-B0",
    summary="Small and accurate for its size, with attention over channels; slower on a CPU than "
    "its Lite variant.",
    reference="Tan and Le 2019, EfficientNet, arXiv 1905.11946",
    parameters=4_050_845,
    licence="Apache-2.0",
    origin="Trained on ImageNet by Google (TensorFlow TPU repository)",
)
_register(
    "efficientnet_b3",
    title="EfficientNet-B3",
    summary="EfficientNet made wider, deeper and sharper-eyed: better than B0 where there are "
    "films and time for it, best with a GPU.",
    reference="Tan and Le 2019, EfficientNet, arXiv 1905.11946",
    parameters=10_785_065,
    licence="Apache-2.0",
    origin="Trained on ImageNet by Google (TensorFlow TPU repository)",
    default_size=300,
)
_register(
    "mobilenet_v3",
    title="MobileNetV3-Large",
    summary="Made for phones: the least arithmetic of all, for quick answers on a small machine.",
    reference="Howard et al. 2019, Searching for MobileNetV3, arXiv 1905.02244",
    parameters=4_227_713,
    licence="Apache-2.0",
    origin="Trained on ImageNet by Google (TensorFlow models repository)",
)


def build(name: str, *, size: int, outputs: int, seed: int, options: Options) -> "keras.Model":
    """Build one of the applications with random weights.

    Differs from Keras's in that it takes gray films, repeated to three channels and scaled inside
    the graph, and in the momentum of its normalisation: 0.9, because with 0.99 or more the
    statistics lag for epochs on a small set.

    Args:
        name: a key of ``APPLICATIONS``.
        size: side of the square input, px.
        outputs: number of logits.
        seed: of weights and dropout.
        options: head, dropout (also that of whole blocks, where there is any) and coordinates.
    """
    import keras
    from keras import layers

    application = APPLICATIONS[name]
    seeds = heads.layer_seeds(seed)
    pattern = application.pattern(size)
    unnamed: Counter[str] = Counter()

    def anew(operation: keras.Operation) -> keras.Operation:
        """Make a layer like it, with weights of its own."""
        config = operation.get_config()
        if isinstance(operation, layers.BatchNormalization):
            config["momentum"] = 0.9
        if isinstance(operation, layers.Dropout):
            config.update(rate=options.rate(operation.rate), seed=next(seeds))
        for weight in ("kernel_initializer", "depthwise_initializer"):
            if weight in config:
                config[weight]["config"]["seed"] = next(seeds)
        if operation is pattern.layers[-1]:
            config["name"] = application.cam_layer
        elif kind := _kind_of_unnamed(operation):
            unnamed[kind] += 1
            config["name"] = f"{kind}_{unnamed[kind]}"
        return type(operation).from_config(config)

    film = heads.film_input(size)
    colours = layers.Concatenate(name="colours")([film, film, film])
    scaling = application.scaling
    scale = layers.Rescaling(list(scaling.factor), offset=list(scaling.offset), name="scale")
    entry = heads.with_coordinates(scale(colours), film, options)

    def call(operation: keras.Operation, first: Any, *rest: Any, **settings: Any) -> Any:
        """Call a layer, the first one on the scaled film; scaling layers of Keras's do nothing."""
        if isinstance(operation, layers.Rescaling | layers.Normalization):
            return first
        return operation(entry if first is film else first, *rest, **settings)

    flat = keras.models.clone_model(
        pattern, input_tensors=film, clone_function=anew, call_function=call
    )
    return heads.finish(
        film,
        flat.output,
        own=application.own,
        name=name,
        outputs=outputs,
        options=options,
        seeds=seeds,
    )


def load_imagenet(model: "keras.Model", name: str) -> None:
    """Put Keras's ImageNet weights into a model; its head stays as it is.

    Coordinate channels get kernels of zero: the network starts out as if they were not there.

    Raises:
        TrainingError: the weights are not here whole and cannot be fetched.
    """
    from keras import layers

    application = APPLICATIONS[name]
    trained = application.pattern(model.input_shape[1], application.file.fetch())
    for layer in trained.layers:
        if not layer.weights or isinstance(layer, layers.Normalization):
            continue
        mine, values = model.get_layer(layer.name), layer.get_weights()
        if values[0].ndim == 4:
            further = mine.weights[0].shape[2] - values[0].shape[2]  # above 0 in the first alone
            values[0] = np.pad(values[0], ((0, 0), (0, 0), (0, further), (0, 0)))
        mine.set_weights(values)


def _kind_of_unnamed(operation: "keras.Operation") -> str:
    """Return what Keras calls a layer that nobody named, less the running number; else "".

    The number would grow with every network that a process builds.
    """
    words = re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", type(operation).__name__)
    kind = words.lower()
    return kind if re.fullmatch(rf"{kind}(_\d+)?", operation.name) else ""
