"""Name -> network: what there is to train, what each is, and the one way to build it.

A network's module decorates its builder with :func:`architecture`. The builder imports Keras
inside its body: TensorFlow takes five seconds to import, and the pages and checks that only list
networks must open without it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cxr_core.errors import ConfigError

if TYPE_CHECKING:
    import keras

# Called with size, outputs, seed and options, by keyword.
Builder = Callable[..., "keras.Model"]

_MOST_DROPOUT = 0.95  # of the units: with more, next to nothing is left to learn from


@dataclass(frozen=True)
class Options:
    """What can be changed about any network; the settings of the same names in ``model``."""

    head: Literal["own", "gap", "flatten_mlp"] = "own"  # see `heads`
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
    find: Callable[[], Path]  # their file on this machine; TrainingError with the mend if missing
    load: Callable[["keras.Model", Path], None]  # puts them into a model the builder made


@dataclass(frozen=True)
class Architecture:
    """One network as pages, trainer and heat maps need to know it."""

    name: str  # what a configuration calls it
    title: str  # what people call it
    summary: str  # one sentence: what it is and when to take it
    reference: str  # the paper, with its identifier
    cam_layer: str  # layer whose (batch, rows, columns, channels) output Grad-CAM weighs
    default_size: int  # px, side of the square input
    min_size: int  # px, below it the CAM layer has too few cells to show a place
    parameters: int  # trainable or not, with one output, at the default size
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
        ConfigError: an unknown name, a size below its smallest, weights it does not have.
        TrainingError: the weights exist but are not on this machine; the text holds the mend.
    """
    found = get(name)
    if size < found.min_size:
        raise ConfigError(
            f"image.size: {found.title} needs at least {found.min_size} px, not {size}. "
            f"It is at home at {found.default_size} px."
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
        One flat functional graph: input ``(batch, size, size, 1)`` float32 gray levels 0-255,
        output ``(batch, outputs)`` raw logits, float32 under every dtype policy. The layer
        "features" gives the pooled features ``(batch, channels)``, float32, and the registered
        CAM layer the map they were pooled from.

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
