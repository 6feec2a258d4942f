"""All that a film's answer needs of a network, in one traced graph: logits, features, heat map.

Asking `keras.Model.predict` and then a library for the map runs the network twice and builds a new
one for each film; here a film costs about a forward and a backward pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from cxr_core.diagnosis import engine, explain

FINDING = -1  # as a target: the most probable finding, which is known only once the logits are
_FEWEST_CHANNELS = 8  # of a layer that is a stage of the network, not the film itself
_FEW_WEIGHTS = 10_000_000  # of a network whose weights may be held several times
FEATURES = "features"  # the layer whose vector the logits are computed from, see `registry.build`


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network says about n films."""

    logits: np.ndarray  # float32 (n, outputs), raw
    features: np.ndarray  # float32 (n, d): the vector that the logits are computed from
    look: np.ndarray  # float32 (n, e): the named layers, averaged over the film, side by side
    targets: np.ndarray  # int32 (n,): the class that each film's maps are for; empty without maps
    maps: tuple[np.ndarray, ...]  # a layer each, float32 (n, rows, columns): raw Grad-CAM


class SinglePass:
    """A network's traced graphs: one with and one without heat maps, for any number of films.

    Not locked: whoever shares it between threads takes care of that.

    Args:
        model: flat functional network, (n, size, size, 1) in 0-255 to raw logits. It is not
            changed, nor may it be once it was asked: its weights may have become constants.
        cam_layers: the layers whose maps are weighed.
        look_layers: the layers that ``look`` is made of; none by default.
        by: the engine that answers without heat maps, see `engine`.

    Raises:
        ValueError: the network has no such layer.
    """

    def __init__(
        self,
        model: keras.Model,
        cam_layers: Sequence[str],
        look_layers: Sequence[str] = (),
        by: str = engine.TENSORFLOW,
    ) -> None:
        size, self._outputs = model.input_shape[1], model.output_shape[-1]
        named = [layer.name for layer in model.layers if _gives_features(layer.name)]
        # A network of another zoo has no layer of that name: its maps, averaged, are as good.
        named = named or list(cam_layers)
        vectors, looks = (
            [model.get_layer(name).output for name in names] for names in (named, look_layers)
        )
        ends = list(accumulate(vector.shape[-1] for vector in vectors))
        # Where each layer's vector stands in `Answers.features`: one layer, or one a member.
        self.features = {
            name: slice(begin, end)
            for name, begin, end in zip(named, [0, *ends], ends, strict=False)
        }
        parts = explain.with_layers(model, cam_layers, *vectors, *looks)
        count = len(cam_layers)

        def vectors_of(others: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            """Return features and look."""
            films = tf.shape(others[0])[0]
            split = len(vectors)
            return _side_by_side(others[:split], films), _side_by_side(others[split:], films)

        def plain(squares: tf.Tensor) -> tuple[tf.Tensor, ...]:
            *others, logits = parts(tf.cast(squares, tf.float32), training=False)[count:]
            return logits, *vectors_of(others)

        def mapped(squares: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, ...]:
            chosen = []

            def select(logits: tf.Tensor) -> tf.Tensor:
                chosen.append(self._chosen(logits, targets))
                return self._selectors(chosen[0])

            logits, others, maps = explain.evidence(parts, squares, select, count)
            return logits, *vectors_of(others), chosen[0], *maps

        films = tf.TensorSpec([None, size, size, 1], tf.uint8)
        # One graph for every number of films, so that no call is slowed by tracing again.
        fold = model.count_params() <= _FEW_WEIGHTS
        self._plain = _Graph(plain, [films], fold, by)
        self._mapped = _Graph(mapped, [films, tf.TensorSpec([None], tf.int32)], fold)

    def answers(
        self, squares: np.ndarray, *, targets: np.ndarray | None = None, batch_size: int = 32
    ) -> Answers:
        """Ask the network.

        Args:
            squares: uint8 (n, size, size), as `images.to_square` gives them; at least one.
            targets: int (n,), the class whose evidence is mapped for each film, or `FINDING`;
                None maps nothing, which takes half the time.
            batch_size: films at a time; bounds the memory, changes nothing else.
        """
        parts = []
        for start in range(0, len(squares), batch_size):
            films = squares[start : start + batch_size, :, :, None]
            if targets is None:
                parts.append(self._plain(films))
            else:
                parts.append(
                    self._mapped(films, targets[start : start + batch_size].astype(np.int32))
                )
        logits, features, look, *rest = (
            np.concatenate([np.asarray(each) for each in column])
            for column in zip(*parts, strict=True)
        )
        chosen, *maps = rest or (np.empty(0, np.int32),)
        return Answers(logits, features, look, chosen, tuple(maps))

    def _chosen(self, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Return int32 (n,): the targets, and where none is named the most probable finding."""
        if self._outputs == 1:
            finding = tf.ones_like(targets)
        else:
            finding = 1 + tf.argmax(logits[:, 1:], axis=1, output_type=tf.int32)
        return tf.where(targets == FINDING, finding, targets)

    def _selectors(self, chosen: tf.Tensor) -> tf.Tensor:
        """Return what logits are multiplied with to get the score, as `explain.selector` does."""
        if self._outputs == 1:
            return tf.where(chosen == 1, 1.0, -1.0)[:, None]
        return tf.one_hot(chosen, self._outputs)


class _Graph:
    """A traced computation, at its first call made faster where that pays.

    With weights that are constants, TensorFlow folds normalisation into convolutions: a quarter
    less work for an EfficientNet-Lite0 on a CPU. The copies of the weights that it makes for that
    cost a ResNet-50 more than a gigabyte, for a tenth.

    Args:
        compute: takes and gives tensors.
        signature: of the tensors that it takes.
        fold: whether the weights become constants: they must not change any more.
        by: the engine that computes it.
    """

    def __init__(
        self,
        compute: Callable[..., Sequence[tf.Tensor]],
        signature: Sequence[tf.TensorSpec],
        fold: bool,
        by: str = engine.TENSORFLOW,
    ) -> None:
        self._traced = tf.function(compute, input_signature=signature, autograph=False)
        self._fold = fold
        self._by = by
        self._ready: engine.Compute | None = None

    def __call__(self, *arrays: np.ndarray) -> Sequence[Any]:
        if self._ready is None:
            traced = self._traced.get_concrete_function()
            graph = convert_variables_to_constants_v2(traced) if self._fold else self._traced

            def own(*given: np.ndarray) -> Sequence[Any]:
                return graph(*map(tf.constant, given))

            other = self._by == engine.OPENVINO
            self._ready = engine.faster(traced, own, arrays) if other else own
        return self._ready(*arrays)


def look_layers(model: keras.Model, cam_layer: str) -> tuple[str, ...]:
    """Return the layers by whose averages a film is told from others: the CAM layer and one before.

    That is the last layer of the next finer resolution. On a fine-tuned EfficientNet-Lite0 the two
    together refuse every photograph; the CAM layer alone, which training has taught to see nothing
    but the disease, lets some pass, and earlier layers refuse the same films stored anew.
    """
    own = model.get_layer(cam_layer).output.shape[1]
    finer = [
        layer
        for layer in model.layers
        if len(getattr(layer.output, "shape", ())) == 4
        and layer.output.shape[1] > own
        and layer.output.shape[3] >= _FEWEST_CHANNELS
    ]
    before = min(finer, key=lambda layer: layer.output.shape[1], default=None)
    if before is None:
        return (cam_layer,)
    # Layers are in the order of the graph: the last of that resolution is the deepest.
    deepest = [each for each in finer if each.output.shape[1] == before.output.shape[1]][-1]
    return deepest.name, cam_layer


def _gives_features(layer: str) -> bool:
    return layer == FEATURES or layer.endswith(f"_{FEATURES}")  # the latter in an ensemble


def _side_by_side(tensors: Sequence[tf.Tensor], films: tf.Tensor) -> tf.Tensor:
    """Return float32 (films, d): every tensor's mean over the film; (films, 0) of none."""
    if not tensors:
        return tf.zeros((films, 0))
    floats = [tf.cast(each, tf.float32) for each in tensors]
    means = [tf.reduce_mean(each, axis=(1, 2)) if each.shape.rank == 4 else each for each in floats]
    return tf.concat(means, axis=-1)
