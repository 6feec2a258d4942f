"""The predictor: a bundle and a film to a Diagnosis."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from cxr_core import images
from cxr_core.diagnosis import bundle, engine, explain, familiar, gate, similar
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.diagnosis.explain import HeatMap
from cxr_core.diagnosis.familiar import VIEWS, Familiar
from cxr_core.diagnosis.gate import Refusal
from cxr_core.diagnosis.similar import Neighbour, Similar
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
    unchecked: tuple[str, ...] = ()  # what the gate could not look at, in sentences
    # From the films that the model learned from: 1 is the limit; None where not computed.
    distance: float | None = None
    features: np.ndarray | None = None  # float32 (d,): what the logits are computed from
    square: np.ndarray | None = None  # uint8 (size, size): what the network saw; None where refused
    burned_in: bool = False  # whether the film's header says that its pixels hold text


@dataclass(frozen=True, eq=False)
class Prepared:
    """A film made ready for the network, which is all that is needed of it: some 100 kB."""

    name: str  # the film's
    refusals: tuple[Refusal, ...]  # of the gate's layers that need no network
    square: np.ndarray  # uint8 (size, size): what the network sees
    view: int  # how the film lies: its place in `familiar.VIEWS`, 0 for upright or not known
    upright: np.ndarray | None  # the square of the film put right, where it seems not to be
    burned_in: bool


# Films at a time; fewer where heat maps are wanted: the backward pass keeps every layer's output.
_AT_ONCE, _MAPPED_AT_ONCE = 32, 8


class Predictor:
    """A loaded model that answers for films; safe to share between threads.

    Args:
        folder: the bundle's folder.

    Raises:
        BundleError: the bundle is missing or damaged, its model file is not the one described,
            it holds anything else than the network that it describes, or the environment asks for
            an engine that is not here.
    """

    def __init__(self, folder: Path) -> None:
        self.info = bundle.read(folder)
        self._lock = threading.Lock()
        self._model = load(folder, self.info)
        self._known = _familiar(folder, self.info, self._model)
        looks = self._known.layers if self._known else ()
        self._network = SinglePass(self._model, self.info.cam_layers, looks, engine.chosen())
        self._similar = _similar(folder, self.info, self._network)
        # Every other kind of heat map: slower, and asked for one film at a time.
        self.explainer = explain.Explainer(
            self._model, self.info.cam_layers, self.info.classes, self.info.image.fit, self._lock
        )

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

    def read(self, source: Path | bytes, name: str = "") -> Radiograph:
        """Read a film as finely as the model needs it: a large JPEG at a reduced scale.

        What is answered for it may differ in the last digits from the answer for the whole film.

        Args:
            source: the file, or its bytes.
            name: the file's name as people know it.

        Raises:
            UnreadableImageError: as for `images.read`.
        """
        image = self.info.image
        # A centre square cannot be cut from a reduced film.
        return images.read(source, name, square=None if image.fit == "crop" else image.size)

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
            film: as `read` or `images.read` gives it.
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
        step = _MAPPED_AT_ONCE if heatmap else _AT_ONCE
        return [
            answer
            for start in range(0, len(films), step)
            for answer in self.answer(
                [self.prepare(film) for film in films[start : start + step]],
                heatmap=heatmap,
                target=target,
                force=force,
            )
        ]

    def prepare(self, film: Radiograph) -> Prepared:
        """Do all for a film that needs no network; threads may do it while the network computes.

        Args:
            film: as `read` or `images.read` gives it.
        """
        refusals = gate.refusals(film)
        square = self.square(film)
        view = self._known.view(square) if self._known else 0
        upright = self.square(gate.mended(film, VIEWS[view][1])) if view else None
        return Prepared(film.name, refusals, square, view, upright, film.burned_in)

    def answer(
        self,
        films: Sequence[Prepared],
        *,
        heatmap: bool = False,
        target: str | None = None,
        force: bool = False,
    ) -> list[Diagnosis]:
        """Answer for as many films as the network is to be asked about at a time.

        Args:
            films: as `prepare` gives them.
            heatmap: as for :meth:`diagnose`, like the rest.
            target: the class to show the evidence for.
            force: answer for films that the gate refuses, too.
        """
        wanted = FINDING if target is None else self._number(target)
        asked = [i for i, film in enumerate(films) if force or not (film.refusals or film.view)]
        answers: Answers | None = None
        if asked:
            answers = self._ask(
                np.stack([films[i].square for i in asked]),
                targets=np.full(len(asked), wanted) if heatmap else None,
            )
        rows = {i: row for row, i in enumerate(asked)}
        found = []
        for i, film in enumerate(films):
            distance = self._distance(answers, rows.get(i))
            more: list[Refusal] = []
            if film.upright is not None and (force or not film.refusals):
                more = [self._lying(film.upright, film.view)]
            elif distance is not None and distance > 1:
                more = [gate.far(distance)]
            refusals = (*film.refusals, *more)
            found.append(self._diagnosis(film, refusals, answers, rows.get(i), distance, force))
        return found

    def _lying(self, upright: np.ndarray, view: int) -> Refusal:
        """Return why a film that seems turned or inverted is refused.

        Anything may look more like a turned film than like an upright one: what is no film of the
        model's kind once it is put right is refused for that.
        """
        distance = self._distance(self._ask(upright[None]), 0)
        return gate.lying(view) if distance is None or distance <= 1 else gate.far(distance)

    def _distance(self, answers: Answers | None, row: int | None) -> float | None:
        if self._known is None or answers is None or row is None:
            return None
        return float(self._known.distances(answers.look[row : row + 1])[0])

    def similar(self, diagnosis: Diagnosis) -> tuple[Neighbour, ...]:
        """Return the training films most like a film, the nearest first.

        Empty where the film got no answer, or no training films go with the model.
        """
        if self._similar is None or diagnosis.features is None:
            return ()
        own = diagnosis.features[self._network.features[self._similar.layer]]
        return self._similar.nearest(own, self.info.classes)

    def heatmap(self, film: Radiograph, target: str) -> HeatMap:
        """Return the evidence in a film for a class.

        Raises:
            BundleError: the model knows no such class.
        """
        wanted = np.array([self._number(target)])
        return self._heatmap(self._ask(self.square(film)[None], targets=wanted), 0)

    def _diagnosis(
        self,
        film: Prepared,
        refusals: tuple[Refusal, ...],
        answers: Answers | None,
        row: int | None,
        distance: float | None,
        force: bool,
    ) -> Diagnosis:
        classes, threshold = self.info.classes, self.info.threshold.value
        label = probability = abnormal = heatmap = features = square = None
        probabilities: dict[str, float] = {}
        if answers is not None and row is not None and (force or not refusals):
            logits = metrics.expand_logits(answers.logits[row : row + 1])
            table = metrics.probabilities(logits, self.info.temperature)
            probabilities = {name: float(p) for name, p in zip(classes, table[0], strict=True)}
            label = classes[int(metrics.decide(table, threshold)[0])]
            probability = probabilities[label]
            abnormal = float(metrics.abnormal(table)[0])
            heatmap = self._heatmap(answers, row) if answers.maps else None
            features, square = answers.features[row], film.square
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
            unchecked=() if self._known else (gate.UNCHECKED,),
            distance=distance,
            features=features,
            square=square,
            burned_in=film.burned_in,
        )

    def square(self, film: Radiograph) -> np.ndarray:
        """Return what the network sees of a film: uint8 (size, size)."""
        image = self.info.image
        return images.of_film(film, image.size, image.fit, image.clahe)

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
        return explain.assemble(
            [maps[row] for maps in answers.maps],
            target=self.info.classes[int(answers.targets[row])],
            fit=self.info.image.fit,
            size=self.info.image.size,
        )


def _familiar(folder: Path, info: BundleInfo, model: keras.Model) -> Familiar | None:
    """Return a bundle's statistics of its films; None where it has none.

    Raises:
        BundleError: the file is not the one described, or does not fit the network.
    """
    path = bundle.verified_gate(folder, info)
    if path is None:
        return None
    known = familiar.load(path.read_bytes(), str(path))
    channels = {layer.name: layer.output.shape[-1] for layer in model.layers}
    if sum(channels.get(name, 0) for name in known.layers) != len(known.mean):
        raise BundleError(
            f"The gate file {path} was made for another network. Fetch the bundle again or train "
            "anew."
        )
    return known


def _similar(folder: Path, info: BundleInfo, network: SinglePass) -> Similar | None:
    """Return the training films that go with a bundle; None where there are none.

    Raises:
        BundleError: the file is not the one described, or does not fit the network.
    """
    path = bundle.verified_similar(folder, info)
    if path is None:
        return None
    known = similar.load(path.read_bytes(), str(path))
    place = network.features.get(known.layer)
    fits = place is not None and place.stop - place.start == len(known.mean)
    if not fits or known.labels.max(initial=0) >= len(info.classes):
        raise BundleError(
            f"The file of similar films {path} was made for another network. Fetch the bundle "
            "again or train anew."
        )
    return known


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
