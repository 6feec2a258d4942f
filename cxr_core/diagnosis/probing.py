"""Probing: what a trained network uses, asked by changing films and looking at its answers.

Works with anything that turns squares into logits; heat maps alone need the network itself.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr_core.data.audit.shortcut_probe import Shortcut
from cxr_core.data.audit.shortcuts import WORDS
from cxr_core.diagnosis import explain, sanity
from cxr_core.evaluation import probes
from cxr_core.evaluation.probes import CHANGES, CORNERS, EDGES, Judge, Probe, Region, unknown

Predict = Callable[[np.ndarray], np.ndarray]  # uint8 (n, size, size) -> logits (n, outputs)

_log = logging.getLogger(__name__)

# Films a network of 224 px is asked about, some 35 times each: about a minute for an
# EfficientNet-Lite0 on two cores. Larger squares take longer, and get fewer films.
_FILMS, _AT, _FEWEST_FILMS = 120, 224, 60
_SANITY_FILMS = 12
_FEWEST_MAPS = 4  # of them that show anything at all
_LESION_FILMS = 60


@dataclass(frozen=True, eq=False)
class Sample:
    """The films that a network is asked about, and how its answers are read."""

    squares: np.ndarray  # uint8 (n, size, size), never trained on
    labels: np.ndarray  # int (n,)
    classes: tuple[str, ...]  # the reference class first
    patients: Sequence[object] | None  # a patient id a film; None where none is known
    temperature: float
    threshold: float  # on the abnormal probability
    seed: int


@dataclass(frozen=True, eq=False)
class Explained:
    """What is needed to look at heat maps."""

    model: Any  # keras.Model, flat functional; it is not changed
    cam_layer: str
    lesions: np.ndarray | None = (
        None  # bool (n, size, size): where the disease is, if that is known
    )


def choose(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Choose the films to ask about: rows, sorted, every class as equally as there are films.

    Args:
        labels: int (n,), true classes.
        size: side of the square, px.
        seed: of the choice.
    """
    return _by_turns(labels, int(np.clip(_FILMS * (_AT / size) ** 2, _FEWEST_FILMS, _FILMS)), seed)


def passes(sample: Sample) -> int:
    """Return how many films a network is asked about in all, for a measure of progress."""
    steps = sum(len(change.steps) - 1 for change in CHANGES.values())
    return len(sample.labels) * (3 + 3 * len(CORNERS) + 2 * len(EDGES) + steps)


def probe(
    sample: Sample,
    predict: Predict,
    *,
    explained: Explained | None = None,
    shortcuts: Sequence[Shortcut] = (),
    ends: tuple[type[Exception], ...] = (),
) -> dict[str, Any]:
    """Ask a network what it uses.

    A probe that fails is logged and counts as unknown; the others go on.

    Args:
        sample: the films.
        predict: the network's raw logits for squares of any number.
        explained: the network itself, for its heat maps; without it nothing is said of them.
        shortcuts: what size, exposure and border alone achieve on the set; empty where unknown.
        ends: errors that are to end all of it, such as a request to cancel.

    Returns:
        Plain values for JSON: ``films``, ``seed``, ``findings`` (see `probes.Probe`), ``curves`` by
        kind of change (``x``, ``unit``, ``auc``, ``sensitivity``, ``specificity``), and ``cascade``
        (``layers``, ``ssim`` step by step; None where heat maps were not looked at).
    """
    looks = _Looks(sample, predict, explained, shortcuts)
    plan: list[tuple[str, str, str, Callable[[], Probe]]] = [
        ("lungs_out", "Lungs masked", "AUROC", looks.lungs_out),
        ("border_out", "Border masked", "AUROC", looks.border_out),
        ("corners", "Corners", "share", looks.corners),
        ("edges", "Edges", "share", looks.edges),
        ("baseline", "Without a network", "AUROC", looks.baseline),
        *(
            (kind, change.title, "share", functools.partial(looks.curve, kind))
            for kind, change in CHANGES.items()
        ),
    ]
    if explained is not None:
        plan.append(("sanity", "Heat maps: sanity", "SSIM", looks.sanity))
        if explained.lesions is not None:
            plan.append(("energy", "Heat maps: energy", "share", looks.energy))
            plan.append(("pointing", "Heat maps: pointing", "share", looks.pointing))
    findings = []
    for name, title, unit, look in plan:
        try:
            findings.append(look())
        except ends:
            raise
        except _NothingToSay as reason:
            findings.append(unknown(name, title, unit, str(reason)))
        except Exception as error:  # a training of hours must not be lost for one of these
            _log.exception("The probe '%s' failed.", name)
            findings.append(unknown(name, title, unit, f"This probe failed: {first_line(error)}"))
    return {
        "films": len(sample.labels),
        "seed": sample.seed,
        "findings": [finding.as_dict() for finding in findings],
        "curves": looks.curves,
        "cascade": looks.cascade,
    }


def first_line(error: Exception) -> str:
    """Return what went wrong in a line, for people."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class _NothingToSay(Exception):  # noqa: N818 - an answer, no error
    """Why a probe has no answer, in a sentence."""


class _Looks:
    """The probes, one a method; what several of them need is asked once."""

    def __init__(
        self,
        sample: Sample,
        predict: Predict,
        explained: Explained | None,
        shortcuts: Sequence[Shortcut],
    ) -> None:
        self.curves: dict[str, Any] = {}
        self.cascade: dict[str, Any] | None = None
        self._sample = sample
        self._network = predict
        self._explained = explained
        self._shortcuts = shortcuts
        self._border = probes.border(sample.squares.shape[1])
        self._logits = self._predict(sample.squares)
        self._judge = Judge(
            sample.labels,
            sample.classes,
            self._logits,
            temperature=sample.temperature,
            threshold=sample.threshold,
            patients=sample.patients,
            seed=sample.seed,
        )

    def lungs_out(self) -> Probe:
        return self._able().lungs_out(self._masked(~self._border))

    def border_out(self) -> Probe:
        return self._able().border_out(self._masked(self._border))

    def corners(self) -> Probe:
        return self._carried("corners", CORNERS, mask=True)

    def edges(self) -> Probe:
        return self._carried("edges", EDGES, mask=False)

    def baseline(self) -> Probe:
        if not self._shortcuts:
            raise _NothingToSay(
                "What size, exposure and border alone achieve is not known for these films."
            )
        best = max(self._shortcuts, key=lambda shortcut: shortcut.auroc)
        others = {
            WORDS[shortcut.feature]: shortcut.auroc
            for shortcut in self._shortcuts
            if shortcut is not best
        }
        return self._able().baseline(
            WORDS[best.feature], best.auroc, best.label, best.certain, others
        )

    def curve(self, kind: str) -> Probe:
        squares = self._sample.squares
        answers = [
            self._predict(probes.changed(squares, kind, step)) if step else self._logits
            for step in CHANGES[kind].steps
        ]
        self.curves[kind] = self._judge.points(kind, answers)
        return self._able().steadiness(kind, answers)

    def sanity(self) -> Probe:
        assert self._explained is not None
        rows = _by_turns(self._sample.labels, _SANITY_FILMS, self._sample.seed)
        found = sanity.cascade(
            self._explained.model,
            self._sample.squares[rows],
            self._selectors(rows),
            layer=self._explained.cam_layer,
            seed=self._sample.seed,
        )
        if len(found.rows) < _FEWEST_MAPS:
            raise _NothingToSay("On too few films the heat map shows anything at all to compare.")
        self.cascade = {
            "layers": list(found.layers),
            "ssim": [float(step.mean()) for step in found.likeness],
        }
        return self._judge.sanity(found.likeness[-1], rows[found.rows])

    def energy(self) -> Probe:
        rows, maps, lesions = self._pointed
        total = maps.sum(axis=(1, 2))
        inside = (maps * lesions).sum(axis=(1, 2)) / np.maximum(total, np.finfo(np.float32).tiny)
        return self._judge.energy(inside, lesions.mean(axis=(1, 2)), rows)

    def pointing(self) -> Probe:
        rows, maps, lesions = self._pointed
        highest = maps.reshape(len(maps), -1).argmax(axis=1)
        hits = lesions.reshape(len(maps), -1)[np.arange(len(maps)), highest]
        hits &= maps.max(axis=(1, 2)) > 0  # an empty map points nowhere
        return self._judge.pointing(hits, lesions.mean(axis=(1, 2)), rows)

    def _predict(self, squares: np.ndarray) -> np.ndarray:
        """Ask the network; a film like none that it learned from may be too much for its format."""
        logits = self._network(squares)
        if not np.isfinite(logits).all():
            raise _NothingToSay("The network's answers to films so changed are no finite numbers.")
        return logits

    def _able(self) -> Judge:
        """Return the judge where it can say what the network uses."""
        if self._judge.objection:
            raise _NothingToSay(self._judge.objection)
        return self._judge

    def _masked(self, where: np.ndarray) -> np.ndarray:
        return self._predict(probes.masked(self._sample.squares, where))

    def _carried(self, name: str, regions: Sequence[Region], *, mask: bool) -> Probe:
        judge, squares = self._able(), self._sample.squares
        own, other = self._donors
        answers = []
        for region in regions:
            where = np.zeros_like(self._border)
            where[region.slices(len(where))] = True
            answers.append(
                probes.Transplant(
                    region,
                    own=self._predict(probes.transplanted(squares, own, region)),
                    other=self._predict(probes.transplanted(squares, other, region)),
                    masked=self._masked(where) if mask else None,
                )
            )
        return judge.carried(name, answers, self._sample.labels[other])

    @functools.cached_property
    def _donors(self) -> tuple[np.ndarray, np.ndarray]:
        return probes.donors(self._sample.labels, self._judge.groups, self._sample.seed)

    @functools.cached_property
    def _pointed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The films with lesions (rows), their heat maps at the square's size, their lesions."""
        assert self._explained is not None and self._explained.lesions is not None
        ill = np.flatnonzero(self._explained.lesions.any(axis=(1, 2)))
        if len(ill) < probes.FEWEST:
            raise _NothingToSay(f"Too few films with known lesions to tell: {len(ill)}.")
        rows = ill[_by_turns(self._sample.labels[ill], _LESION_FILMS, self._sample.seed)]
        compute = explain.traced(self._explained.model, [self._explained.cam_layer])
        squares, size = self._sample.squares, len(self._border)
        (cells,) = compute(squares[rows].astype(np.float32)[..., None], self._selectors(rows))
        maps = np.stack([explain.spread(each, size) for each in cells])
        return rows, maps, self._explained.lesions[rows]

    def _selectors(self, rows: np.ndarray) -> np.ndarray:
        """Ask for the evidence of each film's own finding; on normal films of the first one."""
        classes = len(self._sample.classes)
        targets = np.maximum(self._sample.labels[rows], 1)
        return np.stack([explain.selector(int(target), classes) for target in targets])


def _by_turns(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return rows, sorted: films at random, the classes in turn, ``most`` in all."""
    rng = np.random.default_rng(seed)
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        turn[rng.permutation(of_class)] = np.arange(len(of_class))
    return np.sort(np.lexsort((labels, turn))[:most])
