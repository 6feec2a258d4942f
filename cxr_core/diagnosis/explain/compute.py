"""Heat maps by slopes: Grad-CAM, HiResCAM, Grad-CAM++ and Layer-CAM for many films in one pass."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_core.diagnosis.explain import methods

if TYPE_CHECKING:
    import keras

# (films float32 (n, size, size, 1), selectors float32 (n, outputs)) -> raw maps, one array
# float32 (n, rows, columns) a layer
Maps = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]

_AT_ONCE = 4  # films in a backward pass


def selector(target: int, classes: int) -> np.ndarray:
    """Return what a film's logits are multiplied with to get its score: float32 (outputs,).

    A network with one logit speaks for class 1 with it, and for class 0 with its negative.
    """
    if classes == 2:
        return np.array([1.0 if target == 1 else -1.0], np.float32)
    return np.eye(classes, dtype=np.float32)[target]


def with_layers(model: "keras.Model", layers: Sequence[str], *others: Any) -> "keras.Model":
    """Return the network with more to tell: the layers' feature maps, then ``others``, then logits.

    Args:
        model: flat functional network, (batch, size, size, 1) in 0-255 to raw logits.
        layers: names of the layers.
        others: tensors of the network's graph.
    """
    import keras

    maps = [model.get_layer(layer).output for layer in layers]
    return keras.Model(model.inputs, [*maps, *others, model.output])


def evidence(
    parts: "keras.Model",
    films: Any,
    select: Callable[[Any], Any],
    count: int,
    method: str = methods.DEFAULT,
) -> tuple[Any, list[Any], list[Any]]:
    """Compute logits and heat maps in one pass forward and one back; for use in a traced graph.

    A map's cells add up, for Grad-CAM and HiResCAM, to about what the layer contributes to the
    score (exactly so for a network that averages the layer and weighs the averages); only what
    speaks for the class is kept. Nothing is stretched to 0-1: a map without evidence must not look
    like a strong one. Grad-CAM++ leaves out the paper's exponential of the score, the same factor
    in all cells of a film.

    Args:
        parts: as :func:`with_layers` makes it.
        films: tensor (n, size, size, 1), 0-255.
        select: logits to selectors float32 (n, outputs); a film's score is the sum of its logits
            times its selector. What it does is not differentiated.
        count: how many layers' feature maps ``parts`` begins with.
        method: a key of `METHODS` that works by slopes.

    Returns:
        Tensors: logits float32 (n, outputs); the other outputs of ``parts``; a raw map float32
        (n, rows, columns) a layer.
    """
    import tensorflow as tf

    films = tf.cast(films, tf.float32)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(films)  # not the weights: those of a frozen body would give no slopes
        *found, logits = parts(films, training=False)
        logits = tf.cast(logits, tf.float32)
        score = tf.reduce_sum(logits * tf.stop_gradient(select(logits)))
    feature_maps = found[:count]
    slopes = tape.gradient(score, feature_maps)
    cells = [
        _FORMULAS[method](tf.cast(maps, tf.float32), tf.cast(slope, tf.float32))
        for maps, slope in zip(feature_maps, slopes, strict=True)
    ]
    return logits, found[count:], cells


def traced(model: "keras.Model", layers: Sequence[str], method: str = methods.DEFAULT) -> Maps:
    """Return a function that computes the maps of many films; see :func:`evidence`.

    One graph, traced at the first call, for any number of films. They pass it a few at a time: a
    backward pass keeps every feature map of its films in memory.
    """
    import tensorflow as tf

    parts = with_layers(model, layers)

    def compute(films: Any, selectors: Any) -> list[Any]:
        return evidence(parts, films, lambda _: selectors, len(layers), method)[2]

    graph = tf.function(
        compute,
        input_signature=[
            tf.TensorSpec(model.input_shape, tf.float32),
            tf.TensorSpec(model.output_shape, tf.float32),
        ],
        autograph=False,
    )

    def maps(films: np.ndarray, selectors: np.ndarray) -> list[np.ndarray]:
        found = [
            graph(films[start : start + _AT_ONCE], selectors[start : start + _AT_ONCE])
            for start in range(0, len(films), _AT_ONCE)
        ]
        return [np.concatenate([part[layer] for part in found]) for layer in range(len(layers))]

    return maps


def _grad_cam(maps: Any, slopes: Any) -> Any:
    import tensorflow as tf

    weights = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))


def _hires_cam(maps: Any, slopes: Any) -> Any:
    import tensorflow as tf

    return tf.nn.relu(tf.reduce_sum(slopes * maps, axis=-1))


def _layer_cam(maps: Any, slopes: Any) -> Any:
    import tensorflow as tf

    return tf.nn.relu(tf.reduce_sum(tf.nn.relu(slopes) * maps, axis=-1))


def _grad_cam_pp(maps: Any, slopes: Any) -> Any:
    """Weigh by the paper's equations 10 and 19, its alphas scaled to add up to 1 as in its code."""
    import tensorflow as tf

    total = tf.reduce_sum(maps, axis=(1, 2), keepdims=True)
    squares = slopes * slopes
    alphas = tf.math.divide_no_nan(squares, 2 * squares + squares * slopes * total)
    alphas = tf.math.divide_no_nan(alphas, tf.reduce_sum(alphas, axis=(1, 2), keepdims=True))
    weights = tf.reduce_sum(alphas * tf.nn.relu(slopes), axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))


_FORMULAS: dict[str, Callable[[Any, Any], Any]] = {
    "grad_cam": _grad_cam,
    "hires_cam": _hires_cam,
    "grad_cam_pp": _grad_cam_pp,
    "layer_cam": _layer_cam,
}
