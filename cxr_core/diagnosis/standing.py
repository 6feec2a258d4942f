"""What an answer is worth, in words: how others like it fared, how far from known films it is.

And what it would be among other people. All from what a bundle says of itself; the same on the
page, in a report and in a terminal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_core.diagnosis import similar
from cxr_core.diagnosis.bundle import BundleInfo, ScoreBin
from cxr_core.diagnosis.sentences import finding, percent
from cxr_core.diagnosis.similar import Neighbour
from cxr_core.evaluation import operating, track_record

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis


def fared(info: BundleInfo, diagnosis: "Diagnosis") -> str:
    """Return how test films fared that scored as a film does; "" where it has no answer.

    The probability is that which the answer names: of the finding, or of any where none is called.
    """
    if diagnosis.label is None or diagnosis.abnormal is None or diagnosis.probability is None:
        return ""
    records = {record.finding: record.bins for record in info.track_record}
    reference = diagnosis.label == info.classes[0]
    asked, score = diagnosis.label, diagnosis.probability
    if reference:
        asked, score = "" if "" in records else info.classes[1], diagnosis.abnormal
    bins = records.get(asked)
    if not bins:
        return (
            "How such a probability fared on test films is not known: the model's bundle does not "
            "tell."
        )
    alike = next((each for each in bins if score < each.high), bins[-1])
    if not alike.films:
        return (
            f"No test film scored {_range(alike)} for {_named(asked)}, as this one does: how such "
            "a probability fares is not known."
        )
    one = alike.films == 1
    had = f"{percent(alike.found / alike.films)} had {'it' if asked else 'one'}"
    between = f"; 95 % interval {_interval(alike.ci95)}" if alike.ci95 else ""
    few = " These are too few to tell." if alike.films < track_record.FEWEST else ""
    return (
        f"Of the {alike.films:,} test {'film' if one else 'films'} that scored {_range(alike)} for "
        f"{_named(asked)}, {had} ({alike.found:,} of {alike.films:,}{between}).{few}"
    )


def distance(diagnosis: "Diagnosis") -> str:
    """Return how far a film is from those the model learned from; "" where that is not known."""
    if diagnosis.distance is None:
        return ""
    return (
        f"Its distance from the films that the model learned from is {diagnosis.distance:.2f}; 1 "
        "is the limit, which 99 of 100 films of their kind keep."
    )


def alike(neighbours: Sequence[Neighbour]) -> str:
    """Return what the training films most like a film are; "" where none are known."""
    if not neighbours:
        return ""
    if neighbours[0].distance < similar.SAME:
        return (
            "The model learned from this very film, or from a copy of it: its answer here says "
            "nothing about other films."
        )
    labels = [each.label for each in neighbours]
    counted = {label: labels.count(label) for label in labels}
    if len(counted) == 1:
        return f"All {len(labels)} training films most like it are labelled {finding(labels[0])}."
    told = " and ".join(f"{finding(label)} ({number})" for label, number in counted.items())
    return f"The {len(labels)} training films most like it are labelled {told}."


# -- among other people ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Predictive:
    """How many of the films that are called one way are so."""

    value: float  # 0-1
    # The same with sensitivity and specificity at both ends of their 95 % intervals; it grows with
    # either. None where those are not known.
    range: tuple[float, float] | None

    @property
    def words(self) -> str:
        """The share with its range: "92.1 % (85.0 to 96.3 %)"."""
        if self.range is None:
            return percent(self.value)
        low, high = self.range
        return f"{percent(self.value)} ({100 * low:.1f} to {percent(high)})"


@dataclass(frozen=True)
class Elsewhere:
    """An answer where findings are rarer or more common, and nothing else is different."""

    probabilities: Mapping[str, float]  # by class
    threshold: float  # the same operating point there, on the abnormal probability
    ppv: Predictive | None  # of films called a finding there; None where not known
    npv: Predictive | None  # of films called normal there

    @property
    def abnormal(self) -> float:
        """Probability of any finding, 0-1."""
        return min(sum(list(self.probabilities.values())[1:]), 1.0)


def prevalence(info: BundleInfo) -> float | None:
    """Return the share of films with a finding where a model's probabilities hold, 0-1.

    That is among its validation films, on which they were calibrated. None where that is not known,
    or all of them are of one kind.
    """
    counts = info.data.counts.get("val", {})
    films = sum(counts.values())
    if not films:
        return None
    share = 1 - counts.get(info.classes[0], 0) / films
    return share if 0 < share < 1 else None


def elsewhere(info: BundleInfo, probabilities: Mapping[str, float], wanted: float) -> Elsewhere:
    """Return what an answer would be among people with another share of findings.

    Args:
        info: the model's bundle; :func:`prevalence` knows its own share.
        probabilities: the answer, calibrated, by class.
        wanted: share of people with a finding, above 0 and below 1.

    Raises:
        ValueError: the model's own share is not known, or ``wanted`` is not between 0 and 1.
    """
    here = prevalence(info)
    if here is None:
        raise ValueError(f"the share of findings that {info.name} was calibrated at is not known")
    table = np.array([list(probabilities.values())])
    moved = operating.at_prevalence(table, here, wanted)[0]
    ppv, npv = _predictive(info.metrics.get("test", {}), wanted)
    return Elsewhere(
        probabilities=dict(zip(probabilities, map(float, moved), strict=True)),
        threshold=_moved(info.threshold.value, here, wanted),
        ppv=ppv,
        npv=npv,
    )


def _predictive(
    test: Mapping[str, Any], wanted: float
) -> tuple[Predictive | None, Predictive | None]:
    """Return the predictive values of a model at a prevalence, from the summary of its test."""
    ends = test.get("ci95", {})
    sensitivities, specificities = (
        (test.get(name), *(ends.get(name) or (None, None)))
        for name in ("sensitivity", "specificity")
    )
    pairs = [
        (None, None)
        if sensitivity is None or specificity is None
        else operating.predictive_values(sensitivity, specificity, wanted)
        for sensitivity, specificity in zip(sensitivities, specificities, strict=True)
    ]
    ppv, npv = zip(*pairs, strict=True)
    return _with_range(*ppv), _with_range(*npv)


def _with_range(value: float | None, low: float | None, high: float | None) -> Predictive | None:
    if value is None:
        return None
    return Predictive(value, None if low is None or high is None else (low, high))


def _moved(share: float, here: float, wanted: float) -> float:
    return float(operating.at_prevalence([[1 - share, share]], here, wanted)[0, 1])


def _named(label: str) -> str:
    return finding(label) if label else "any finding"


def _range(alike: ScoreBin) -> str:
    low, high = 100 * alike.low, 100 * alike.high
    if alike.low == 0 and alike.high == 1:
        return "0 to 100 %"
    if alike.low == 0:
        return f"under {high:g} %"
    return f"{low:g} % or more" if alike.high == 1 else f"{low:g} to {high:g} %"


def _interval(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"
