"""Name -> network: what there is to train, what each is, and the one way to build it.

A network's module decorates its builder with :func:`architecture`. The builder imports Keras
inside its body: TensorFlow takes five seconds to import, and the pages and checks that only list
networks must open without it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from cxr_core.errors import ConfigError

if TYPE_CHECKING:
    import keras

# Called with size, outputs, seed and options, by keyword.
Builder = Callable[..., "keras.Model"]

HeadName = Literal["own", "gap", "flatten_mlp"]

_MOST_DROPOUT = 0.95  # of the units: with more, next to nothing is left to learn from


@dataclass(frozen=True)
class Options:
    """What can be changed about any network; the settings of the same names in ``model``."""

    head: HeadName = "own"  # see `heads`
    dropout: float = 1.0  # what every dropout rate is multiplied with
    coordinates: bool = False  # two more input channels with each pixel's place

    def rate(self, usual: float) -> float:
        """Return a dropout layer's rate: the usual one times ``dropout``, at most 0.95."""
        return min(_MOST_DROPOUT, usual * self.dropout)


@dataclass(frozen=True)
class Pretrained:
    """Weights a network can start from in place of random ones."""

    licence: str  # SPDX identifier
    source: str  # who made them and how they come here, in a sentence
    find: Callable[[], Path]  # their file; quick, without TensorFlow; TrainingError with the mend
    load: Callable[["keras.Model", Path], None]  # puts them into a model the builder made
    fetched: bool = False  # they come over the network at their first use


@dataclass(frozen=True)
class Architecture:
    """One network as pages, trainer and heat maps need to know it."""

    name: str  # what a configuration calls it
    title: str  # what people call it
    summary: str  # one sentence: what it is and when to take it
    reference: str  # the paper, with its identifier
    cam_layer: str  # layer whose (batch, rows, columns, channels) output Grad-CAM weighs
    input_range: tuple[float, float]  # what the graph makes of black and of white, 0 and 255
    default_size: int  # px, side of the square input
    min_size: int  # px, below it the CAM layer has too few cells to show a place
    parameters: int  # trainable or not, with its own head and one output, at the default size
    imagenet: Pretrained | None
    build: Builder

    @property
    def weights(self) -> tuple[str, ...]:
        """What the network can start from: ("none",) or ("none", "imagenet")."""
        return ("none", "imagenet") if self.imagenet else ("none",)

    @property
    def licence(self) -> str:
        """The licence of the pretrained weights, "" where there are none."""
        return self.imagenet.licence if self.imagenet else ""


_REGISTERED: dict[str, Architecture] = {}


def architecture(
    *,
    name: str,
    title: str,
    summary: str,
    reference: str,
    cam_layer: str,
    input_range: tuple[float, float],
    default_size: int,
    min_size: int,
    parameters: int,
    imagenet: Pretrained | None = None,
) -> Callable[[Builder], Builder]:
    """Register the decorated builder; the arguments are the fields of :class:`Architecture`.

    A builder takes ``size`` (px), ``outputs``, ``seed`` and ``options`` by keyword and returns one
    flat functional graph with random weights, as :func:`build` promises it. Same seed, same
    weights.
    """

    def register(builder: Builder) -> Builder:
        if name in _REGISTERED:
            raise ValueError(f"two architectures are called {name!r}")
        _REGISTERED[name] = Architecture(
            name=name,
            title=title,
            summary=summary,
            reference=reference,
            cam_layer=cam_layer,
            input_range=input_range,
            default_size=default_size,
            min_size=min_size,
            parameters=parameters,
            imagenet=imagenet,
            build=builder,
        )
        return builder

    return register


def names() -> tuple[str, ...]:
    """Return the names of all registered networks, alphabetically."""
    return tuple(sorted(_REGISTERED))


def get(name: str) -> Architecture:
    """Return the network of that name.

    Raises:
        ConfigError: there is none; the text lists those there are.
    """
    try:
        return _REGISTERED[name]
    except KeyError:
        raise ConfigError(
            f"model.architecture: there is no network '{name}'. Known: {', '.join(names())}."
        ) from None


def check(
    name: str, *, size: int, weights: str = "none", options: Options = Options()
) -> Architecture:
    """Return the network if it can be built so on this machine; needs no TensorFlow.

    Raises:
        ConfigError: an unknown name or head, a size below its smallest, weights it does not have.
        TrainingError: the weights exist but are not on this machine; the text holds the mend.
    """
    found = get(name)
    if size < found.min_size:
        raise ConfigError(
            f"image.size: {found.title} needs at least {found.min_size} px, not {size}. "
            f"It is at home at {found.default_size} px."
        )
    if options.head not in get_args(HeadName):
        raise ConfigError(
            f"model.head: there is no head '{options.head}'. "
            f"Known: {', '.join(get_args(HeadName))}."
        )
    if weights not in found.weights:
        raise ConfigError(
            f"model.weights: {found.title} cannot start from '{weights}'. "
            f"Allowed: {' or '.join(found.weights)}."
        )
    if found.imagenet and weights == "imagenet":
        found.imagenet.find()
    return found


def build(
    name: str,
    *,
    size: int,
    outputs: int,
    weights: str = "none",
    seed: int = 0,
    options: Options = Options(),
) -> "keras.Model":
    """Build a network, ready to be compiled.

    Args:
        name: one of :func:`names`.
        size: side of the square input, px; fixed for the life of the model.
        outputs: logits: 1 for two classes, else the number of classes.
        weights: "none" (random) or "imagenet".
        seed: of the random weights and of dropout.
        options: head, dropout and coordinate channels.

    Returns:
        One flat functional graph of built-in layers: input ``(batch, size, size, 1)`` float32 gray
        levels 0-255, output ``(batch, outputs)`` raw logits, float32 under every dtype policy. It
        is the same graph whatever the weights. The layer "features" gives the vector that the
        logits are computed from, ``(batch, n)`` float32: where the head pools, the pooled maps of
        the registered CAM layer's channels, else the last hidden layer.

    Raises:
        ConfigError, TrainingError: as :func:`check`.

    Example:
        >>> model = build("plain_cnn", size=64, outputs=1)
        >>> model(np.zeros((1, 64, 64, 1), "float32")).shape
        TensorShape([1, 1])
    """
    chosen = check(name, size=size, weights=weights, options=options)
    model = chosen.build(size=size, outputs=outputs, seed=seed, options=options)
    if chosen.imagenet and weights == "imagenet":
        chosen.imagenet.load(model, chosen.imagenet.find())
    return model


def body(model: "keras.Model", name: str) -> list["keras.Layer"]:
    """Return the layers of a built network up to its CAM layer, that included.

    They are all that the CAM layer's maps are computed from, in the order of ``model.layers``; the
    layers that are left are the head. To train only the head, freeze these.

    Args:
        model: as :func:`build` gives it, or loaded from a bundle.
        name: the network's.
    """
    import keras

    maps = model.get_layer(get(name).cam_layer).output
    inside = {id(layer) for layer in keras.Model(model.input, maps).layers}
    return [layer for layer in model.layers if id(layer) in inside]
