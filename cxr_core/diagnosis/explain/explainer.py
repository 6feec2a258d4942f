"""Every kind of heat map of one network; what is traced once is kept."""

import contextlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_core.diagnosis.explain import compute, heat, methods, scored
from cxr_core.diagnosis.explain.heat import HeatMap

if TYPE_CHECKING:
    import keras

_FEWEST_CHANNELS = 8  # of a layer that is a stage of the network, not the film itself


class Explainer:
    """Computes heat maps of one network; safe to share between threads.

    Args:
        model: flat functional network, (batch, size, size, 1) in 0-255 to raw logits.
        cam_layers: the layers whose maps add up to the network's, see `BundleInfo.cam_layers`.
        classes: the class names, the reference class first.
        fit: how films became squares: squash, letterbox or crop.
        lock: is held for a pass, or a batch of passes, at a time.
    """

    def __init__(
        self,
        model: "keras.Model",
        cam_layers: Sequence[str],
        classes: tuple[str, ...],
        fit: str,
        lock: contextlib.AbstractContextManager[Any] | None = None,
    ) -> None:
        self.cam_layers = tuple(cam_layers)
        self._model = model
        self._classes = classes
        self._fit = fit
        self._lock = lock or threading.Lock()
        self._slopes: dict[tuple[tuple[str, ...], str], compute.Maps] = {}
        self._saliency: scored.Slopes | None = None
        self._passes: dict[tuple[str, ...], Any] = {}

    @property
    def stages(self) -> dict[str, tuple[int, int]]:
        """The last layer of each resolution with its grid (rows, columns), fine to coarse.

        Empty for a network of several members, whose layers belong to one of them.
        """
        if len(self.cam_layers) > 1:
            return {}
        last: dict[tuple[int, int], str] = {}
        for layer in self._model.layers:
            shape: tuple[int, ...] = getattr(layer.output, "shape", ())
            if len(shape) == 4 and shape[3] >= _FEWEST_CHANNELS and min(shape[1:3]) > 1:
                last[(shape[1], shape[2])] = layer.name
        own = self._model.get_layer(self.cam_layers[0]).output.shape
        last[(own[1], own[2])] = self.cam_layers[0]
        return {name: grid for grid, name in sorted(last.items(), reverse=True)}

    def heat_map(
        self,
        square: np.ndarray,
        target: str,
        *,
        method: str = methods.DEFAULT,
        layers: Sequence[str] = (),
        tell: scored.Tell | None = None,
    ) -> HeatMap:
        """Compute the evidence in a film for a class.

        Args:
            square: uint8 (size, size), as `images.to_square` gives it.
            target: one of the classes.
            method: a key of `METHODS`.
            layers: whose feature maps are weighed; those given to the explainer by default.
            tell: is told how many passes are done, of how many, where a method takes many; what it
                raises ends the work.
        """
        chosen = tuple(layers) or self.cam_layers
        weights = compute.selector(self._classes.index(target), len(self._classes))
        note = ""
        if method == "smooth_grad":
            cells = [
                scored.smooth_grad(lambda films: self._pixels(films, weights), square, tell=tell)
            ]
        elif method == "score_cam":
            cells, note = self._score_cam(square, chosen, weights, tell)
        else:
            with self._lock:
                key = (chosen, method)
                if key not in self._slopes:
                    self._slopes[key] = compute.traced(self._model, chosen, method)
                films = square[None, :, :, None].astype(np.float32)
                cells = [found[0] for found in self._slopes[key](films, weights[None])]
        return heat.assemble(
            cells,
            target=target,
            fit=self._fit,
            size=len(square),
            method=method,
            note=note,
            judged=chosen == self.cam_layers,
        )

    def _score_cam(
        self,
        square: np.ndarray,
        layers: tuple[str, ...],
        weights: np.ndarray,
        tell: scored.Tell | None,
    ) -> tuple[list[np.ndarray], str]:
        def score(films: np.ndarray) -> np.ndarray:
            return np.asarray(self._forward(layers, films)[-1], np.float64) @ weights

        maps = self._forward(layers, square[None, :, :, None].astype(np.float32))[:-1]
        notes, cells = [], []
        for place, each in enumerate(maps):

            def told(done: int, total: int, place: int = place) -> None:
                if tell is not None:
                    tell(place * total + done, len(maps) * total)

            raw, said = scored.score_cam(score, square, each[0].astype(np.float32), told)
            cells.append(raw)
            notes.append(said)
        return cells, " ".join(note for note in dict.fromkeys(notes) if note)

    def _pixels(self, films: np.ndarray, weights: np.ndarray) -> np.ndarray:
        with self._lock:
            if self._saliency is None:
                self._saliency = scored.traced_saliency(self._model)
            return self._saliency(films, np.tile(weights, (len(films), 1)))

    def _forward(self, layers: tuple[str, ...], films: np.ndarray) -> list[np.ndarray]:
        """Return the layers' feature maps and, last, the logits."""
        import tensorflow as tf

        with self._lock:
            if layers not in self._passes:
                parts = compute.with_layers(self._model, layers)
                self._passes[layers] = tf.function(
                    lambda films: [tf.cast(each, tf.float32) for each in parts(films)],
                    input_signature=[tf.TensorSpec(self._model.input_shape, tf.float32)],
                    autograph=False,
                )
            return [each.numpy() for each in self._passes[layers](films)]
