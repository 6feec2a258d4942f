"""The network of a run: built, given the weights it starts from, and turned into what is kept."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from cxr_core import images
from cxr_core.config import ModelConfig, RunConfig
from cxr_core.data import batches
from cxr_core.diagnosis import bundle
from cxr_core.errors import TrainingError
from cxr_core.training import bundle_index, stages
from cxr_core.training.writer import RunWriter
from cxr_core.zoo import registry

_INFERENCE_BATCH = 16  # films at once where nothing is learned: more is no faster on a CPU


def build_model(
    config: RunConfig, size: int, classes: tuple[str, ...], run: RunWriter
) -> keras.Model:
    """Build the network for films of ``size`` px, with the weights it starts from.

    Raises:
        ConfigError: an unknown network, weights it does not have, a size it cannot take.
        BundleError: the bundle to start from is not there.
        TrainingError: nothing of that bundle fits.
    """
    kind, _, name = config.model.weights.partition(":")
    weights = "none" if kind == "bundle" else kind
    model = build_bare(config.model, size, len(classes), weights, config.seed)
    if kind == "bundle":
        run.note(take_weights(model, name, classes))
    return model


def build_bare(
    settings: ModelConfig, size: int, classes: int, weights: str, seed: int
) -> keras.Model:
    """Build the network with the zoo's own weights."""
    return registry.build(
        settings.architecture,
        size=size,
        outputs=1 if classes == 2 else classes,
        weights=weights,
        seed=seed,
        options=registry.Options(settings.head, settings.dropout, settings.coordinates),
    )


def count(weights: Iterable[keras.Variable]) -> int:
    """Return how many numbers are in all the weights together."""
    return sum(math.prod(weight.shape) for weight in weights)


def take_weights(model: keras.Model, spec: str, classes: tuple[str, ...]) -> str:
    """Copy a bundle's weights into a network, layer by layer where name and shapes agree.

    The last layer's weights mean the bundle's classes: they are taken only where those are the
    same. Returns what was taken, in a sentence.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
        TrainingError: no layer fits.
    """
    folder = bundle_index.resolve(spec)
    info = bundle.read(folder)
    if info.members:
        raise TrainingError(
            f"The bundle '{info.name}' is an ensemble of {len(info.members)} networks, and a run "
            "trains one. Start from one of its members' bundles, or from other weights."
        )
    source = keras.saving.load_model(
        bundle.verified_model(folder, info), compile=False, safe_mode=True
    )
    theirs = {layer.name: layer.get_weights() for layer in source.layers}
    if info.classes != classes:
        theirs.pop(model.layers[-1].name, None)
    mine = {layer.name: layer for layer in model.layers if layer.weights}
    taken = [
        name
        for name, layer in mine.items()
        if [w.shape for w in theirs.get(name, [])] == [tuple(w.shape) for w in layer.weights]
    ]
    if not taken:
        raise TrainingError(
            f"No layer of the bundle '{info.name}' ({info.architecture}) fits this network. "
            f"Choose model.architecture {info.architecture}, or start from other weights."
        )
    for name in taken:
        mine[name].set_weights(theirs[name])
    left = [name for name in mine if name not in taken]
    rest = f"; {', '.join(left)} started from random weights" if left else ""
    return (
        f"Weights of {len(taken)} of {len(mine)} layers come from the bundle '{info.name}'{rest}."
    )


def train_layers(model: keras.Model, architecture: str, layers: int) -> None:
    """Let the head and the last ``layers`` layers of the body learn; 0 is none, `stages.ALL` all.

    Layers are counted as Keras does, those without weights included. Normalisation in a frozen
    layer keeps its statistics.
    """
    model.trainable = True
    body = registry.body(model, architecture)
    for layer in body if layers == 0 else body[:-layers] if layers != stages.ALL else []:
        layer.trainable = False


def trainable_parameters(model: keras.Model, config: RunConfig) -> int:
    """Return how many parameters the last stage of a run trains."""
    train_layers(model, config.model.architecture, stages.plan(config)[-1].layers)
    return count(model.trainable_weights)


def for_inference(weights: Sequence[np.ndarray], config: RunConfig, classes: int) -> keras.Model:
    """Return a float32 network with these weights and without an optimiser.

    The bundle's model must give the same numbers on any machine, whatever precision it was trained
    in; threshold and test are computed with this very model.
    """
    model = build_bare(config.model, config.image.size, classes, "none", config.seed)
    model.set_weights(weights)
    return model


def add_offset(model: keras.Model, offset: np.ndarray) -> None:
    """Add a calibration's offset to the network's last bias, so that its logits have it.

    Args:
        model: its last layer is dense, with a bias.
        offset: float (classes,), the first 0: the one logit of two classes is the second's.
    """
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, bias + offset[-len(bias) :].astype(bias.dtype)])


Inference = Callable[[images.Squares, np.ndarray], np.ndarray]


def inference(model: keras.Model, between: Callable[[], None]) -> Inference:
    """Return a function (decoded films, rows) -> logits float32 ``(n, outputs)``.

    One traced graph for all calls; ``between`` is called before every batch, so that a request to
    cancel need not wait for the end.
    """
    forward = tf.function(functools.partial(model, training=False), reduce_retracing=True)

    def infer(pixels: images.Squares, rows: np.ndarray) -> np.ndarray:
        outputs = []
        for films in batches.in_order(pixels, rows, _INFERENCE_BATCH):
            between()
            outputs.append(forward(films).numpy())
        return np.concatenate(outputs)

    return infer
