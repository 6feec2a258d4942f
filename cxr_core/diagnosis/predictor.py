"""The predictor: a bundle and a film to a Diagnosis."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from cxr_core import images
from cxr_core.diagnosis import bundle, explain, gate
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.diagnosis.explain import HeatMap
from cxr_core.diagnosis.gate import Refusal
from cxr_core.diagnosis.single_pass import FINDING, Answers, SinglePass
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
    refusals: tuple[Refusal, ...] = ()  # the reasons with their kind and what would mend them


# Films at a time; fewer where heat maps are wanted: the backward pass keeps every layer's output.
_AT_ONCE, _MAPPED_AT_ONCE = 32, 8


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
        self._network = SinglePass(self._model, self.info.cam_layers)

    def warm(self) -> None:
        """Trace and run everything once, so that the first film does not wait for it."""
        size = self.info.image.size
        blank = np.zeros((1, size, size), np.uint8)
        self._ask(blank)
        self._ask(blank, targets=np.array([FINDING]))

    def logits(self, squares: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """Return float64 (n, classes): raw logits, one column a class, before temperature.

        Args:
            squares: uint8 (n, size, size), as `images.to_square` gives them.
            batch_size: films at a time; bounds the memory, changes nothing else.
        """
        if not len(squares):
            return np.empty((0, len(self.info.classes)))
        return metrics.expand_logits(self._ask(squares, batch_size=batch_size).logits)

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
        wanted = FINDING if target is None else self._number(target)
        refusals = [gate.refusals(film) for film in films]
        answered = [i for i, why in enumerate(refusals) if force or not why]
        answers: dict[int, tuple[Answers, int]] = {}  # a film's place -> its batch and row there
        step = _MAPPED_AT_ONCE if heatmap else _AT_ONCE
        for start in range(0, len(answered), step):
            batch = answered[start : start + step]
            found = self._ask(
                np.stack([self.square(films[i]) for i in batch]),
                targets=np.full(len(batch), wanted) if heatmap else None,
            )
            answers |= {i: (found, row) for row, i in enumerate(batch)}
        return [
            self._diagnosis(film, refusals[i], *answers.get(i, (None, 0)))
            for i, film in enumerate(films)
        ]

    def heatmap(self, film: Radiograph, target: str) -> HeatMap:
        """Return the evidence in a film for a class.

        Raises:
            BundleError: the model knows no such class.
        """
        wanted = np.array([self._number(target)])
        return self._heatmap(self._ask(self.square(film)[None], targets=wanted), 0)

    def _diagnosis(
        self, film: Radiograph, refusals: tuple[Refusal, ...], answers: Answers | None, row: int
    ) -> Diagnosis:
        classes, threshold = self.info.classes, self.info.threshold.value
        label = probability = abnormal = heatmap = None
        probabilities: dict[str, float] = {}
        if answers is not None:
            logits = metrics.expand_logits(answers.logits[row : row + 1])
            table = metrics.probabilities(logits, self.info.temperature)
            probabilities = {name: float(p) for name, p in zip(classes, table[0], strict=True)}
            label = classes[int(metrics.decide(table, threshold)[0])]
            probability = probabilities[label]
            abnormal = float(metrics.abnormal(table)[0])
            heatmap = self._heatmap(answers, row) if answers.maps else None
        return Diagnosis(
            name=film.name,
            accepted=not refusals,
            reasons=tuple(refusal.words for refusal in refusals),
            classes=classes,
            probabilities=probabilities,
            label=label,
            probability=probability,
            abnormal=abnormal,
            threshold=threshold,
            heatmap=heatmap,
            bundle=self.info.name,
            synthetic=self.info.data.synthetic,
            refusals=refusals,
        )

    def square(self, film: Radiograph) -> np.ndarray:
        """Return what the network sees of a film: uint8 (size, size)."""
        image = self.info.image
        return images.to_square(film.pixels, image.size, image.fit, image.clahe)

    def _ask(
        self, squares: np.ndarray, *, targets: np.ndarray | None = None, batch_size: int = _AT_ONCE
    ) -> Answers:
        with self._lock:
            return self._network.answers(squares, targets=targets, batch_size=batch_size)

    def _number(self, target: str) -> int:
        """Return the number of a class.

        Raises:
            BundleError: the model knows no such class.
        """
        if target not in self.info.classes:
            raise BundleError(
                f"The model {self.info.name} knows no class '{target}'; it knows "
                f"{', '.join(self.info.classes)}."
            )
        return self.info.classes.index(target)

    def _heatmap(self, answers: Answers, row: int) -> HeatMap:
        """Return the heat map of one film among those that the network was asked about."""
        cells = [maps[row] for maps in answers.maps]
        return HeatMap(
            explain.together(cells, self.info.image.size),
            self.info.classes[int(answers.targets[row])],
            self.info.image.fit,
            sum(float((each - each.min()).sum()) for each in cells),
        )


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
