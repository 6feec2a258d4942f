"""The predictor: a bundle and a film to a Diagnosis."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cxr_core import images
from cxr_core.diagnosis import bundle, explain, gate
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.diagnosis.explain import HeatMap
from cxr_core.errors import BundleError
from cxr_core.evaluation import metrics
from cxr_core.images import Radiograph


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What one model says about one film, or why it says nothing.

    A refused film has no label and no probability, unless the answer was asked for all the same:
    then ``accepted`` is False and the numbers are there.
    """

    name: str  # the film's
    accepted: bool  # whether the gate took it for a film like those the model knows
    reasons: tuple[str, ...]  # why not, in sentences; empty where accepted
    classes: tuple[str, ...]  # the reference class first
    probabilities: dict[str, float]  # calibrated, by class; empty where refused
    label: str | None  # the decision at the threshold
    probability: float | None  # of the label
    abnormal: float | None  # 1 - p(reference class); what the threshold applies to
    threshold: float  # on the abnormal probability
    heatmap: HeatMap | None
    bundle: str  # the model's name
    synthetic: bool  # whether the model learned from synthetic films


class Predictor:
    """A loaded model that answers for films; safe to share between threads.

    Args:
        folder: the bundle's folder.

    Raises:
        BundleError: the bundle is missing or damaged, its model file is not the one described, or
            it holds anything else than the network that it describes.
    """

    def __init__(self, folder: Path) -> None:
        self.info = bundle.read(folder)
        self._lock = threading.Lock()
        self._model = load(folder, self.info)
        size = self.info.image.size
        # One graph for every batch size, so that no call is slowed by tracing again.
        self._forward = tf.function(
            lambda squares: self._model(tf.cast(squares, tf.float32), training=False),
            input_signature=[tf.TensorSpec([None, size, size, 1], tf.uint8)],
            autograph=False,
        )

    def warm(self) -> None:
        """Trace and run everything once, so that the first film does not wait for it."""
        size = self.info.image.size
        blank = np.zeros((size, size), np.uint8)
        self.logits(blank[None])
        self._heatmap(blank, self.info.classes[-1])

    def logits(self, squares: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """Return float64 (n, classes): raw logits, one column a class, before temperature.

        Args:
            squares: uint8 (n, size, size), as `images.to_square` gives them.
            batch_size: films at a time; bounds the memory, changes nothing else.
        """
        outputs = [np.empty((0, self.info.outputs), np.float32)]
        with self._lock:
            outputs += [
                self._forward(squares[start : start + batch_size, :, :, None]).numpy()
                for start in range(0, len(squares), batch_size)
            ]
        return metrics.expand_logits(np.concatenate(outputs))

    def probabilities(self, squares: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """Return (n, classes): calibrated probabilities; arguments as for :meth:`logits`."""
        return metrics.probabilities(self.logits(squares, batch_size), self.info.temperature)

    def diagnose(
        self,
        film: Radiograph,
        *,
        heatmap: bool = True,
        target: str | None = None,
        force: bool = False,
    ) -> Diagnosis:
        """Answer for one film.

        Args:
            film: as `images.read` gives it.
            heatmap: whether to compute the heat map, the slow part.
            target: the class to show the evidence for; by default the most probable finding, also
                where the decision is the reference class: its map shows what spoke against that.
            force: answer for a film that the gate refuses, too.
        """
        return self.diagnose_all([film], heatmap=heatmap, target=target, force=force)[0]

    def diagnose_all(
        self,
        films: Sequence[Radiograph],
        *,
        heatmap: bool = False,
        target: str | None = None,
        force: bool = False,
    ) -> list[Diagnosis]:
        """Answer for several films at once, in their order; arguments as for :meth:`diagnose`."""
        reasons = [gate.check(film) for film in films]
        answered = [i for i, why in enumerate(reasons) if force or not why]
        squares = {i: self._square(films[i]) for i in answered}
        rows = dict(zip(answered, self._probabilities_of(list(squares.values())), strict=True))
        return [
            self._diagnosis(film, reasons[i], rows.get(i), squares.get(i), heatmap, target)
            for i, film in enumerate(films)
        ]

    def heatmap(self, film: Radiograph, target: str) -> HeatMap:
        """Return the evidence in a film for a class.

        Raises:
            BundleError: the model knows no such class.
        """
        return self._heatmap(self._square(film), target)

    def _diagnosis(
        self,
        film: Radiograph,
        reasons: tuple[str, ...],
        row: np.ndarray | None,
        square: np.ndarray | None,
        heatmap: bool,
        target: str | None,
    ) -> Diagnosis:
        classes, threshold = self.info.classes, self.info.threshold.value
        label = probability = abnormal = shown = None
        probabilities: dict[str, float] = {}
        if row is not None and square is not None:
            probabilities = {name: float(p) for name, p in zip(classes, row, strict=True)}
            label = classes[int(metrics.decide(row[None], threshold)[0])]
            probability = probabilities[label]
            abnormal = float(metrics.abnormal(row[None])[0])
            if heatmap:
                finding = max(classes[1:], key=probabilities.__getitem__)
                shown = self._heatmap(square, target or finding)
        return Diagnosis(
            name=film.name,
            accepted=not reasons,
            reasons=reasons,
            classes=classes,
            probabilities=probabilities,
            label=label,
            probability=probability,
            abnormal=abnormal,
            threshold=threshold,
            heatmap=shown,
            bundle=self.info.name,
            synthetic=self.info.data.synthetic,
        )

    def _square(self, film: Radiograph) -> np.ndarray:
        image = self.info.image
        return images.to_square(film.pixels, image.size, image.fit, image.clahe)

    def _probabilities_of(self, squares: list[np.ndarray]) -> np.ndarray:
        return self.probabilities(np.stack(squares)) if squares else np.empty((0, 0))

    def _heatmap(self, square: np.ndarray, target: str) -> HeatMap:
        info = self.info
        if target not in info.classes:
            raise BundleError(
                f"The model {info.name} knows no class '{target}'; it knows "
                f"{', '.join(info.classes)}."
            )
        with self._lock:
            found = [
                explain.grad_cam(
                    self._model,
                    square,
                    layer=layer,
                    target=info.classes.index(target),
                    classes=info.classes,
                )
                for layer in info.cam_layers
            ]
        values = explain.together([cells for cells, _ in found], info.image.size)
        return HeatMap(values, target, info.image.fit, sum(evidence for _, evidence in found))


def load(folder: Path, info: BundleInfo) -> keras.Model:
    """Return a bundle's network, after making sure that it is the one described.

    Raises:
        BundleError: as for `Predictor`.
    """
    path = bundle.verified_model(folder, info)
    try:
        # safe_mode refuses a file that would run code of its own.
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the damage happens to hit
        raise BundleError(
            f"The model file {path} cannot be loaded: {str(error).splitlines()[0]} Fetch the "
            "bundle again or train anew."
        ) from error
    size = info.image.size
    expected = ((None, size, size, 1), (None, info.outputs))
    if (model.input_shape, model.output_shape) != expected:
        raise BundleError(
            f"The model file {path} maps {model.input_shape} to {model.output_shape}, but "
            f"{bundle.INFO_FILE} describes {expected[0]} to {expected[1]}. Fetch the bundle again "
            "or train anew."
        )
    missing = set(info.cam_layers) - {layer.name for layer in model.layers}
    if missing:
        raise BundleError(
            f"The model file {path} has no layer '{min(missing)}' to draw heat maps from, which "
            f"{bundle.INFO_FILE} names. Fetch the bundle again or train anew."
        )
    return model
