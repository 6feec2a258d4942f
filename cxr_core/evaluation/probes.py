"""Probes of what a network uses: how films are changed, and what the answers mean, in words.

No TensorFlow and no model in here: films go out changed, logits come back, a `Probe` is what is
made of them. All geometry is in fractions of the network's square, all gray levels are 0-255.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np

from cxr_core.evaluation import intervals, metrics
from cxr_core.evaluation.scores import decide, probabilities

Level = Literal["fine", "warning", "unknown"]

# -- where the verdicts lie -----------------------------------------------------------------------
# Effects are judged by size and by their interval, both: with many films a trifle is certain, with
# few anything is possible. The bounds come from plain CNNs of 64 and 96 px on 600 synthetic films:
# eight that had learned with a mark on all films of one class carried 5 to 25 % in its corner, nine
# that had not carried at most 3 %. Without lungs six of the marked ones reached AUROC 0.58 to 0.91,
# seven of the others 0.65 at most; the rest were not asked.
# No test part of a real set had a say.
FEWEST = 10  # films of each class, below which nothing is said
_KNOWS_NOTHING = 0.6  # AUROC: what a network that is no better uses, cannot be asked
_LUNGS_OUT = 0.7  # AUROC without lungs from which on something else is read
_LUNGS_OUT_SURE = 0.55  # and the least that its interval must leave
_BORDER_DROP = 0.05  # of AUROC when the border goes, and
_BORDER_DROP_SURE = 0.02
_CARRIED = 0.05  # share of the difference between classes that a region without lung may carry, and
_CARRIED_SURE = 0.03
_BASELINE_HIGH = 0.8  # AUROC of size, exposure or border alone; the audit calls it high, too
_BASELINE_CLOSE = 0.05  # AUROC by which the network should be better than that
_UNSTEADY = 0.05  # of balanced accuracy lost under a mild change, and
_UNSTEADY_SURE = 0.01
_SAME_MAP = 0.5  # SSIM of a random network's map with the trained one's, the interval above it
_RESAMPLES = 1000

# -- how films are changed ------------------------------------------------------------------------

BORDER = 0.1  # width of the ring, of the side
CORNER = 0.2  # side of a corner, of the side


@dataclass(frozen=True)
class Region:
    """A rectangle in fractions of the square's side, as the film lies on the screen."""

    words: str
    top: float
    left: float
    bottom: float
    right: float

    def slices(self, size: int) -> tuple[slice, slice]:
        """Return its rows and columns in a square of ``size`` px."""
        return (
            slice(round(self.top * size), round(self.bottom * size)),
            slice(round(self.left * size), round(self.right * size)),
        )


CORNERS = (
    Region("upper left corner", 0, 0, CORNER, CORNER),
    Region("upper right corner", 0, 1 - CORNER, CORNER, 1),
    Region("lower left corner", 1 - CORNER, 0, 1, CORNER),
    Region("lower right corner", 1 - CORNER, 1 - CORNER, 1, 1),
)
EDGES = (
    Region("upper edge", 0, CORNER, BORDER, 1 - CORNER),
    Region("left edge", CORNER, 0, 1 - CORNER, BORDER),
    Region("right edge", CORNER, 1 - BORDER, 1 - CORNER, 1),
    Region("lower edge", 1 - BORDER, CORNER, 1, 1 - CORNER),
)


def border(size: int) -> np.ndarray:
    """Return where the corners and the edges are, bool (size, size); the rest is the centre."""
    where = np.zeros((size, size), bool)
    for region in CORNERS + EDGES:
        where[region.slices(size)] = True
    return where


def masked(films: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return films without a part: all take there what the mean of these films has.

    A flat gray would be a thing no film shows. On clean synthetic films the AUROC of sound networks
    fell by 0.25 to 0.29 under a flat gray border, and by nothing under the mean film's; and a
    planted mark went unseen where the flat gray lay over the lungs.

    Args:
        films: uint8 (n, size, size).
        where: bool (size, size), what goes.
    """
    mean = films.mean(axis=0).round().astype(np.uint8)
    return np.where(where, mean, films)


def transplanted(films: np.ndarray, donors: np.ndarray, region: Region) -> np.ndarray:
    """Return films that have one region from other films.

    Args:
        films: uint8 (n, size, size).
        donors: int (n,), the row of the film that each takes the region from.
        region: what is taken, at its own place.
    """
    rows, columns = region.slices(films.shape[1])
    changed = films.copy()
    changed[:, rows, columns] = films[donors, rows, columns]
    return changed


def donors(labels: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw for each film one of its own class and one of another class, of other patients.

    Args:
        labels: int (n,), at least two classes.
        groups: int (n,), the patient of each film.
        seed: of the draw.

    Returns:
        Rows of the own class's donors and of the other class's, int (n,) each. A film whose class
        has no other patient is its own donor.
    """
    rng = np.random.default_rng(seed)
    own, other = np.arange(len(labels)), np.arange(len(labels))
    classes = np.unique(labels)
    for row, label in enumerate(labels):
        strangers = groups != groups[row]
        like = np.flatnonzero(strangers & (labels == label))
        if len(like):
            own[row] = rng.choice(like)
        unlike = np.flatnonzero(strangers & (labels == rng.choice(classes[classes != label])))
        if len(unlike):
            other[row] = rng.choice(unlike)
    return own, other


def brightened(films: np.ndarray, percent: float) -> np.ndarray:
    """Return films made brighter by a share of full scale, in percent; black and white clip."""
    return np.clip(films.astype(np.int16) + round(2.55 * percent), 0, 255).astype(np.uint8)


def rotated(films: np.ndarray, degrees: float) -> np.ndarray:
    """Return films turned anticlockwise about their middle; new ground repeats the edge."""
    size = films.shape[1]
    middle = (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees, 1.0)
    turned = [
        cv2.warpAffine(film, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        for film in films
    ]
    return np.stack(turned)


def blurred(films: np.ndarray, sigma: float) -> np.ndarray:
    """Return films under a Gaussian blur; ``sigma`` in px of the square, 0 changes nothing."""
    if not sigma:
        return films
    return np.stack([cv2.GaussianBlur(film, (0, 0), sigma) for film in films])


@dataclass(frozen=True)
class Change:
    """One way to change films by degrees, for a sensitivity curve."""

    title: str
    unit: str
    steps: tuple[float, ...]  # 0 is the film as it is
    mild: float  # up to here, either way, a network should hold
    words: str  # what a mild change is, inside a sentence
    means: str  # what it means where the network does not hold


CHANGES: Mapping[str, Change] = {
    "brightness": Change(
        "Brightness",
        "% of full scale",
        (-20, -10, 0, 10, 20),
        10,
        "10 % of full scale brighter or darker",
        "the exposure decides as well, and the threshold will not hold on another machine",
    ),
    "rotation": Change(
        "Rotation",
        "degrees",
        (-15, -10, -5, 0, 5, 10, 15),
        5,
        "turned by 5 degrees",
        "it relies on how exactly the chest lies in the film, which no two hospitals share",
    ),
    "blur": Change(
        "Blur",
        "px",
        (0, 0.5, 1, 2),
        0.5,
        "blurred by half a pixel (sigma)",
        "it reads noise or the finest texture, which another detector or compression changes",
    ),
}


def changed(films: np.ndarray, kind: str, step: float) -> np.ndarray:
    """Return films changed by one step of a curve; ``kind`` is one of `CHANGES`."""
    if kind == "brightness":
        return brightened(films, step)
    return rotated(films, step) if kind == "rotation" else blurred(films, step)


# -- what comes of it -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """What one probe found."""

    name: str
    title: str
    value: float | None  # None where there is nothing to say
    unit: str  # "AUROC", "SSIM" or "share" (0-1)
    ci95: tuple[float, float] | None  # by bootstrap over patients
    level: Level
    words: str  # what was found, and what a bad value means

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return asdict(self) | {"ci95": None if self.ci95 is None else list(self.ci95)}


@dataclass(frozen=True, eq=False)
class Transplant:
    """A network's logits where one region comes from other films, (n, outputs) each."""

    region: Region
    own: np.ndarray  # from films of the film's own class
    other: np.ndarray  # from films of another class
    masked: np.ndarray | None  # with the region masked; None where that was not asked


def unknown(name: str, title: str, unit: str, why: str) -> Probe:
    """Return a probe that has nothing to say, and why."""
    return Probe(name, title, None, unit, None, "unknown", why)


def fall(loss: float, bounds: Sequence[float] | None) -> str:
    """Write what a probe of steadiness found as the change it is: "-21.7 percentage points".

    Args:
        loss: of the mean of sensitivity and specificity, a share; below 0 where it rose.
        bounds: of that loss, the interval's ends; None where there is none.
    """
    text = f"{_signed(-100 * loss, 1)} percentage points"
    if bounds is None:
        return text
    return f"{text} ({_fixed(-100 * bounds[1], 1)} to {_fixed(-100 * bounds[0], 1)})"


class Judge:
    """The films that are probed, and what is made of a network's answers about them.

    Args:
        labels: true class of each film, int (n,).
        classes: their names, the reference class first.
        logits: the network's answers to the unchanged films, (n, outputs) as it gives them.
        temperature: what logits are divided by.
        threshold: on the abnormal probability, 0-1.
        patients: a patient id a film; None where none is known.
        seed: of the bootstrap.
    """

    def __init__(
        self,
        labels: np.ndarray,
        classes: Sequence[str],
        logits: np.ndarray,
        *,
        temperature: float,
        threshold: float,
        patients: Sequence[object] | None,
        seed: int,
    ) -> None:
        self.labels = labels
        self.classes = classes
        self._temperature = temperature
        self._threshold = threshold
        self.groups = intervals.patient_groups(len(labels), patients)
        self._seed = seed
        self._drawn = self._draw(self.groups)
        self._logits = metrics.expand_logits(logits)
        self._table = self._probabilities(logits)
        self.auroc, self._auroc_bounds = self._area(self._table)

    @property
    def objection(self) -> str | None:
        """Say why nothing can be said of what the network uses; None where it can."""
        count = np.bincount(self.labels, minlength=len(self.classes))
        if count.min() < FEWEST:
            rarest = self.classes[int(count.argmin())]
            return (
                f"Too few test films to tell: {count.min()} of {rarest}, and {FEWEST} of each "
                "class are needed."
            )
        if self.auroc < _KNOWS_NOTHING or (self._auroc_bounds or (0.0,))[0] <= 0.5:
            return (
                f"The network hardly tells the classes apart on these films (AUROC "
                f"{self.auroc:.2f}), so what it uses to do so cannot be asked."
            )
        return None

    def lungs_out(self, logits: np.ndarray) -> Probe:
        """Judge the answers to films whose centre is masked: a high AUROC needs no lungs.

        Of several classes that one counts which is told best from the rest: a mark on one class is
        hardly seen in the mean over all.

        Source: Maguolo and Nanni 2021, doi:10.1016/j.inffus.2021.04.008.
        """
        table = self._probabilities(logits)
        label = max(
            range(1 if len(self.classes) == 2 else 0, len(self.classes)),
            key=lambda number: self._ranked(table, number),
        )
        area, whole = self._ranked(table, label), self._ranked(self._table, label)
        bounds = self._within(area, self._resampled(table, label), self._patients(label))
        bad = area >= _LUNGS_OUT and _above(bounds, _LUNGS_OUT_SURE)
        rest = "" if len(self.classes) == 2 else f" for {self.classes[label]} against the rest"
        words = (
            f"With the lungs masked (every film gets the centre of the mean film) AUROC{rest} is "
            f"{area:.2f}, against {whole:.2f} on whole films. "
        ) + (
            f"It tells {self.classes[label]} without any lung: it reads something else, such as a "
            "marker, the exposure or the cropping."
            if bad
            else f"Doubtful from {_LUNGS_OUT:.2f} on, its interval above {_LUNGS_OUT_SURE:.2f}: it "
            "would read something else than the lungs, such as a marker."
        )
        return self._probe("lungs_out", "Lungs masked", area, "AUROC", bounds, bad, words)

    def border_out(self, logits: np.ndarray) -> Probe:
        """Judge the answers to films whose border is masked: a large drop needs the border."""
        table = self._probabilities(logits)
        area, bounds = self._area(table)
        drop = self.auroc - area
        between = self._bounds(self._areas(self._table) - self._areas(table))
        bad = drop >= _BORDER_DROP and _above(between, _BORDER_DROP_SURE)
        words = (
            f"With edges and corners masked (every film gets those of the mean film) AUROC is "
            f"{area:.2f}, a change of {_signed(-drop)}{_interval(between, flip=True)}. "
        ) + (
            "Much of what it knows lies on the border, where no lung is: markers, frames or the "
            "way of cropping."
            if bad
            else "A large drop would mean that it uses what lies on the border, where no lung is."
        )
        return self._probe("border_out", "Border masked", area, "AUROC", bounds, bad, words)

    def carried(
        self,
        name: str,
        answers: Sequence[Transplant],
        donated: np.ndarray,
    ) -> Probe:
        """Judge whether a region without lung carries the class from film to film.

        Each film gets the region of a film of another class, and of one of its own class, which
        shows what the seam alone does. The share is how far the class's log odds follow the other
        class's region beyond that, of the distance between the classes on untouched films: 0 where
        the region says nothing, 1 where it says all. A permutation importance (Breiman 2001) of one
        region with the seam taken out. The interval is over patients; whether it is a finding asks
        for all regions and classes at once (Bonferroni).

        Args:
            name: "corners" or "edges".
            answers: at least one.
            donated: int (n,), the class of the film that each got another class's region from.
        """
        from scipy.special import ndtri  # slow to load, and no page opens with it

        title = name.capitalize()
        which = [1] if len(self.classes) == 2 else list(range(len(self.classes)))
        tests = len(which) * len(CORNERS + EDGES)
        strictest = float(-ndtri(0.025 / tests))
        best: tuple[float, float, np.ndarray, Transplant, int] | None = None
        for answer in answers:
            for label in which:
                share, drawn = self._share(label, answer, donated)
                sure = share - strictest * float(np.nanstd(drawn))
                if best is None or sure > best[0]:
                    best = (sure, share, drawn, answer, label)
        assert best is not None, "there is at least one region and one class"
        sure, share, drawn, answer, label = best
        region = answer.region
        bounds = self._bounds(drawn)
        bad = share >= _CARRIED and sure > _CARRIED_SURE
        if not bad:
            words = (
                f"Laid on films of another class, the {region.words} carries "
                f"{100 * max(0.0, share):.0f} % of what tells the classes apart"
                f"{_interval(bounds, 100)}, and none of the other {name} more surely. More than "
                f"{100 * _CARRIED:.0f} % beyond doubt would mean that a mark there, where little "
                "or no lung is, helps to decide."
            )
            return self._probe(name, title, share, "share", bounds, bad, words)
        moved = self._followed(answer.other, donated) - self._followed(answer.own, donated)
        subject = self.classes[label]
        words = (
            f"The {region.words} speaks for {subject}: laid on films of another class it carries "
            f"{100 * share:.0f} % of what tells the classes apart{_interval(bounds, 100)}, and "
            f"{100 * max(0.0, moved):.0f} % of the decisions follow it. Little or no lung is "
            "there: the network reads a marker, a frame or the like, and where that is missing or "
            "stands for something else, it will be wrong."
        )
        if answer.masked is not None:
            table = self._probabilities(answer.masked)
            area = metrics.auroc(self.labels, table)
            words += f" With this corner masked AUROC goes from {self.auroc:.2f} to {area:.2f}."
        return self._probe(name, title, share, "share", bounds, bad, words)

    def baseline(
        self,
        feature: str,
        auroc: float,
        label: str,
        certain: bool,
        others: Mapping[str, float] | None = None,
    ) -> Probe:
        """Judge a network against what size, exposure or border alone achieve on the same set.

        Args:
            feature: which of them did best, in words.
            auroc: what it achieved, for one class against the rest, held out.
            label: that class.
            certain: whether that is more than chance.
            others: what the others achieved, each for the class it tells best, in words.
        """
        number = list(self.classes).index(label)
        own = self._ranked(self._table, number)
        bad = certain and (auroc >= _BASELINE_HIGH or own - auroc < _BASELINE_CLOSE)
        words = (
            f"Without a network, {feature} alone tells {label} from the rest with AUROC "
            f"{auroc:.2f}; the network reaches {own:.2f}. "
        ) + (
            "So the set offers a shortcut, and a good figure on it does not show that the lungs "
            "were read."
            if bad
            else "Were the two close, the network could owe its figure to that."
        )
        if others:
            listed = ", ".join(f"{name} {value:.2f}" for name, value in others.items())
            words += f" Others alone: {listed}."
        return self._probe("baseline", "Without a network", float(auroc), "AUROC", None, bad, words)

    def points(self, kind: str, answers: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return a sensitivity curve as plain values.

        Args:
            kind: one of `CHANGES`.
            answers: logits at each of its steps.
        """
        change = CHANGES[kind]
        tables = [self._probabilities(logits) for logits in answers]
        rates = [self._rates(table, np.ones((1, len(self.labels)))) for table in tables]
        return {
            "x": list(change.steps),
            "unit": change.unit,
            "auc": [_plain(metrics.auroc(self.labels, table)) for table in tables],
            "sensitivity": [_plain(float(found[0])) for found, _ in rates],
            "specificity": [_plain(float(cleared[0])) for _, cleared in rates],
        }

    def steadiness(self, kind: str, answers: Sequence[np.ndarray]) -> Probe:
        """Judge how a network holds under the worst of the mild changes; arguments as `points`."""
        change = CHANGES[kind]
        tables = [self._probabilities(logits) for logits in answers]
        rates = [self._rates(table, np.ones((1, len(self.labels)))) for table in tables]
        balanced = [float((found[0] + cleared[0]) / 2) for found, cleared in rates]
        still = change.steps.index(0)
        worst = min(
            (place for place, step in enumerate(change.steps) if 0 < abs(step) <= change.mild),
            key=lambda place: balanced[place],
        )
        loss = balanced[still] - balanced[worst]
        before, after = (
            sum(self._rates(tables[place], self._drawn)) / 2 for place in (still, worst)
        )
        bounds = self._bounds(np.asarray(before - after))
        bad = loss >= _UNSTEADY and _above(bounds, _UNSTEADY_SURE)
        sensitivity, specificity = (
            f"{_percent(rates[still][rate][0])} to {_percent(rates[worst][rate][0])}"
            for rate in (0, 1)
        )
        words = (
            f"On films {change.words} sensitivity goes from {sensitivity}, specificity from "
            f"{specificity}; their mean changes by {fall(loss, None)}"
            f"{_interval(bounds, 100, flip=True, digits=1)}. "
        ) + (
            f"It does not hold: {change.means}."
            if bad
            else f"Doubtful from a fall of {100 * _UNSTEADY:.0f} points on, its interval beyond "
            f"{100 * _UNSTEADY_SURE:.0f}: it would mean that {change.means}."
        )
        return self._probe(kind, change.title, loss, "share", bounds, bad, words)

    def sanity(self, likeness: np.ndarray, rows: np.ndarray) -> Probe:
        """Judge whether heat maps depend on what was learned (Adebayo et al., arXiv 1810.03292).

        Args:
            likeness: SSIM of each film's map with that of the same network at random weights, (m,).
            rows: int (m,), which films these are.
        """
        value = float(likeness.mean())
        bounds = self._mean_bounds(likeness, rows)
        bad = value >= _SAME_MAP and _above(bounds, _SAME_MAP)
        words = (
            f"With all weights made random, heat maps keep a likeness (SSIM) of {value:.2f} to "
            "those of the trained network. "
        ) + (
            "They stay much the same: they show the film's edges, not what the network learned, "
            "and prove nothing."
            if bad
            else "Near 1 they would show the film's edges, not what the network learned."
        )
        return self._probe("sanity", "Heat maps: sanity", value, "SSIM", bounds, bad, words)

    def energy(self, inside: np.ndarray, area: np.ndarray, rows: np.ndarray) -> Probe:
        """Judge the share of the heat maps' energy inside the true lesions, against their area.

        Args:
            inside: that share by film, 0-1, (m,).
            area: the lesions' share of the film, 0-1, (m,): what a map that knows nothing gives.
            rows: int (m,), which films these are.
        """
        value, chance = float(inside.mean()), float(area.mean())
        bounds = self._mean_bounds(inside, rows, share=True)
        bad = not _above(bounds, chance)
        words = (
            f"{_percent(value)} of the heat maps' energy lies inside the true lesions, which take "
            f"{_percent(chance)} of the film. "
        ) + (
            "That is no more than chance: the maps do not point at what was drawn as disease."
            if bad
            else "No more than their area would mean that the maps miss the disease."
        )
        return self._probe("energy", "Heat maps: energy", value, "share", bounds, bad, words)

    def pointing(self, hits: np.ndarray, area: np.ndarray, rows: np.ndarray) -> Probe:
        """Judge whether the highest points of maps lie inside lesions; arguments as for `energy`.

        Source: the pointing game, Zhang et al. 2018, doi:10.1007/s11263-017-1059-x.
        """
        value, chance = float(hits.mean()), float(area.mean())
        bounds = self._mean_bounds(hits.astype(float), rows, share=True)
        bad = not _above(bounds, chance)
        words = (
            f"The highest point of the heat map lies inside a true lesion in {_percent(value)} of "
            f"{len(hits)} films; chance would hit {_percent(chance)}. "
        ) + (
            "It hits no more often than chance: the maps do not point at what was drawn as disease."
            if bad
            else "No more than chance would mean that the maps point elsewhere."
        )
        return self._probe("pointing", "Heat maps: pointing", value, "share", bounds, bad, words)

    # -- the statistics behind it --

    def _probe(
        self,
        name: str,
        title: str,
        value: float,
        unit: str,
        bounds: tuple[float, float] | None,
        bad: bool,
        words: str,
    ) -> Probe:
        level: Level = "warning" if bad else "fine"
        return Probe(name, title, float(value), unit, bounds, level, words)

    def _draw(self, groups: np.ndarray) -> np.ndarray:
        return np.concatenate(list(intervals.resample_weights(groups, _RESAMPLES, self._seed)))

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        return probabilities(metrics.expand_logits(logits), self._temperature)

    def _decide(self, table: np.ndarray) -> np.ndarray:
        return decide(table, self._threshold)

    def _area(self, table: np.ndarray) -> tuple[float, tuple[float, float] | None]:
        """Return AUROC (for several classes their mean, one against the rest) and its interval."""
        fewest = min(self._patients(label) for label in range(len(self.classes)))
        area = metrics.auroc(self.labels, table)
        return area, self._within(area, self._areas(table), fewest)

    def _areas(self, table: np.ndarray) -> np.ndarray:
        """Return the AUROC of each resample; the same patients are drawn for every table."""
        labels = [1] if table.shape[1] == 2 else range(table.shape[1])
        return np.mean([self._resampled(table, label) for label in labels], axis=0)

    def _resampled(self, table: np.ndarray, label: int) -> np.ndarray:
        """Return one class's AUROC against the rest in each resample; NaN where undefined."""
        score, positive = table[:, label], self.labels == label
        ahead = score[positive][:, None] - score[~positive][None, :]
        wins = (ahead > 0) + 0.5 * (ahead == 0)
        of_class, others = self._drawn[:, positive], self._drawn[:, ~positive]
        pairs = of_class.sum(axis=1) * others.sum(axis=1)
        won = np.einsum("ij,ij->i", of_class @ wins, others)
        return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)

    def _ranked(self, table: np.ndarray, label: int) -> float:
        """Return one class's AUROC against the rest."""
        score = table[:, label]
        return metrics.auroc(self.labels == label, np.stack([1 - score, score], axis=1))

    def _patients(self, label: int) -> int:
        """Count the patients with films of a class."""
        return len(np.unique(self.groups[self.labels == label]))

    def _share(
        self, label: int, answer: Transplant, donated: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Return the share of a class's log odds that a region carried, and of each resample."""
        before, with_own, with_other = (
            _log_odds(logits, label) for logits in (self._logits, answer.own, answer.other)
        )
        of_class = self.labels == label
        toward = np.where(of_class, -1.0, 1.0) * (of_class | (donated == label))
        moved = toward * (with_other - with_own)

        def share(weights: np.ndarray) -> np.ndarray:
            carried = weights @ moved / np.maximum(weights @ np.abs(toward), 1e-9)
            apart = _mean(weights, before, of_class) - _mean(weights, before, ~of_class)
            return np.divide(carried, apart, out=np.full(len(carried), np.nan), where=apart > 0)

        whole = float(share(np.ones((1, len(moved))))[0])
        return (0.0 if np.isnan(whole) else whole), share(self._drawn)

    def _followed(self, logits: np.ndarray, donated: np.ndarray) -> float:
        """Return the share of films that are decided as the class their region came from."""
        return float((self._decide(self._probabilities(logits)) == donated).mean())

    def _rates(self, table: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sensitivity and specificity for any finding, for each row of weights."""
        called, finding = self._decide(table) != 0, self.labels != 0
        return (
            _mean(weights, called.astype(float), finding),
            _mean(weights, (~called).astype(float), ~finding),
        )

    def _mean_bounds(
        self, values: np.ndarray, rows: np.ndarray, *, share: bool = False
    ) -> tuple[float, float] | None:
        patients, groups = np.unique(self.groups[rows], return_inverse=True)
        drawn = self._draw(groups)
        means = drawn @ values / drawn.sum(axis=1)
        if share:
            return self._within(float(values.mean()), means, len(patients))
        return self._bounds(means)

    def _within(
        self, estimate: float, drawn: np.ndarray, patients: int
    ) -> tuple[float, float] | None:
        """Return the interval of a share, which stays between 0 and 1."""
        found = intervals.share_interval(estimate, drawn, patients)
        return None if found is None else (found[0], found[1])

    def _bounds(self, drawn: np.ndarray) -> tuple[float, float] | None:
        found = intervals.percentile_interval(drawn)
        return None if found is None else (float(found[0]), float(found[1]))


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean structural similarity of two maps, -1 to 1 (Wang et al. 2004, SSIM).

    Gaussian windows of sigma 1.5, constants for a dynamic range of 1.

    Args:
        first: float (height, width), 0-1.
        second: the same shape.
    """

    def local(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)

    one, two = first.astype(np.float64), second.astype(np.float64)
    mean_one, mean_two = local(one), local(two)
    spread_one = local(one * one) - mean_one**2
    spread_two = local(two * two) - mean_two**2
    shared = local(one * two) - mean_one * mean_two
    small, smaller = 0.01**2, 0.03**2
    alike = ((2 * mean_one * mean_two + small) * (2 * shared + smaller)) / (
        (mean_one**2 + mean_two**2 + small) * (spread_one + spread_two + smaller)
    )
    return float(alike.mean())


def _above(bounds: tuple[float, float] | None, least: float) -> bool:
    """Say whether an interval lies above a bound; where all resamples were alike there is none."""
    return bounds is None or bounds[0] > least


def _log_odds(logits: np.ndarray, label: int) -> np.ndarray:
    """Return the log odds of one class against the others, (n,)."""
    from scipy.special import logsumexp  # slow to load, and no page opens with it

    table = metrics.expand_logits(logits)
    return np.asarray(table[:, label] - logsumexp(np.delete(table, label, axis=1), axis=1))


def _mean(weights: np.ndarray, values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the weighted mean of some films' values, for each row of weights; NaN without any."""
    total = weights @ where.astype(float)
    return np.divide(
        weights @ (values * where), total, out=np.full(len(total), np.nan), where=total > 0
    )


def _interval(
    bounds: tuple[float, float] | None, scale: float = 1, *, flip: bool = False, digits: int = -1
) -> str:
    """Write an interval behind a value, " (95 % interval -0.02 to 0.01)"; nothing where unknown."""
    if bounds is None:
        return ""
    low, high = (-bounds[1], -bounds[0]) if flip else bounds
    places = digits if digits >= 0 else 2 if scale == 1 else 0
    unit = " %" if scale == 100 and digits < 0 else ""
    return f" (95 % interval {_fixed(low * scale, places)} to {_fixed(high * scale, places)}{unit})"


def _fixed(value: float, places: int) -> str:
    """Write a number with fixed decimals, and nothing as "0", never "-0"."""
    return f"{round(value, places) + 0.0:.{places}f}"


def _signed(value: float, places: int = 2) -> str:
    """Write a change with its sign: "+0.02", and "0.00" where nothing is left of it."""
    rounded = _fixed(value, places)
    return f"+{rounded}" if float(rounded) > 0 else rounded


def _percent(share: float) -> str:
    return "an unknown share" if np.isnan(share) else f"{100 * share:.0f} %"


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
