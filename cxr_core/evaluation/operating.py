"""Where a probability becomes a decision, and what the decision is worth among other people.

The threshold is chosen on validation films alone; the test part only reports.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cxr_core.evaluation.scores import abnormal

Kind = Literal["youden", "sensitivity", "specificity", "cost"]

FALLBACK_THRESHOLD = 0.5


@dataclass(frozen=True)
class Rule:
    """What a threshold is to achieve on the films it is chosen on.

    `youden`: the largest sensitivity + specificity - 1 (Youden 1950). `sensitivity`: at least
    ``target``, at the highest specificity; `specificity`: the other way round. `cost`: the least
    sum of false alarms and misses, one missed finding weighing as much as ``miss_cost`` false
    alarms, at the prevalence of those films.
    """

    kind: Kind = "youden"
    target: float = 0.95  # share, 0-1, of `sensitivity` and `specificity`
    miss_cost: float = 1.0  # false alarms, of `cost`

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ValueError(f"The target must be a share above 0 and up to 1, not {self.target}.")
        if not self.miss_cost > 0:
            raise ValueError(f"The cost of a miss must be above 0, not {self.miss_cost}.")


@dataclass(frozen=True)
class Threshold:
    """An operating point on the abnormal probability, with what it gave where it was chosen.

    ``method`` is ``youden``, or says in words how it was chosen. Sensitivity and specificity are
    shares from 0 to 1, None where the films could not tell.
    """

    value: float
    method: str
    sensitivity: float | None
    specificity: float | None


def choose_threshold(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, rule: Rule = Rule()
) -> Threshold:
    """Choose the threshold on the abnormal probability, any finding against the reference class.

    It stands in the middle between two neighbouring scores, so that it favours neither, and leaves
    films on both sides. Of cuts equally good by `youden` or `cost` the one wins where sensitivity
    and specificity differ least, then the lowest, which misses fewer findings; of those equally
    good by a target the one that lies further above it.

    Args:
        labels: True class of each film, int, shape (n,); 0 is the reference class.
        probabilities: Calibrated probabilities, shape (n, k).
        rule: What is to be achieved.

    Returns:
        The operating point. Where no cut reaches the rule's target it is the cut that comes
        nearest. Where the films are all of one kind, or all score the same, nothing can be chosen:
        0.5. In both cases ``method`` says so.
    """
    score = abnormal(probabilities)
    finding = np.asarray(labels) != 0
    if finding.all() or not finding.any():
        return Threshold(
            FALLBACK_THRESHOLD, "a fixed value, as the validation films are of one kind", None, None
        )
    levels, level = np.unique(score, return_inverse=True)
    if len(levels) == 1:
        return Threshold(
            FALLBACK_THRESHOLD, "a fixed value, as all validation films score alike", None, None
        )
    # Cut i parts levels 0..i from the levels above: everything above is called a finding.
    missed = np.cumsum(np.bincount(level, weights=finding))[:-1]
    cleared = np.cumsum(np.bincount(level, weights=~finding))[:-1]
    sensitivity = 1 - missed / finding.sum()
    specificity = cleared / (~finding).sum()
    if rule.kind in ("youden", "cost"):
        if rule.kind == "youden":
            worth, method = sensitivity + specificity, "youden"
        else:
            worth = -(rule.miss_cost * missed + (~finding).sum() - cleared)
            method = (
                f"the least cost, a missed finding weighing as much as {rule.miss_cost:g} false "
                f"{'alarm' if rule.miss_cost == 1 else 'alarms'}"
            )
        second = -np.abs(sensitivity - specificity)
    else:
        aimed, other = sensitivity, specificity
        if rule.kind == "specificity":
            aimed, other = other, aimed
        worth, second, method = _aim(rule.kind, aimed, other, rule.target)
    # Rounding makes equals of sums that differ in the last bit alone.
    cut = int(np.lexsort((-np.round(second, 12), -np.round(worth, 12)))[0])
    middle = (levels[cut] + levels[cut + 1]) / 2
    # Between neighbouring floats the middle rounds down, and would take the lower score along.
    value = middle if middle > levels[cut] else levels[cut + 1]
    return Threshold(float(value), method, float(sensitivity[cut]), float(specificity[cut]))


def _aim(
    name: str, aimed: np.ndarray, other: np.ndarray, target: float
) -> tuple[np.ndarray, np.ndarray, str]:
    """Return what each cut is worth where one rate has a target, first and among equals.

    The third is the method in words.
    """
    # A target of 0.9 is met by 9 of 10, whatever the last bit of either says.
    met = aimed >= target - 1e-12
    if met.any():
        method = f"a {name} of at least {100 * target:g} %"
        return np.where(met, other, -np.inf), aimed, method
    short = f"{100 * aimed.max():.1f} %, short of the {100 * target:g} % asked for"
    return aimed, other, f"the highest {name} within reach, {short}"


def predictive_values(
    sensitivity: float, specificity: float, prevalence: float
) -> tuple[float | None, float | None]:
    """Return PPV and NPV at a prevalence, by Bayes' theorem (Altman and Bland 1994).

    Args:
        sensitivity: Share of findings called, 0-1.
        specificity: Share of normal films cleared, 0-1.
        prevalence: Share of findings among the people tested, 0-1.

    Returns:
        Positive and negative predictive value, 0-1; None where nobody is called or cleared.

    Raises:
        ValueError: If a share is outside 0 to 1.
    """
    for name, share in (
        ("sensitivity", sensitivity),
        ("specificity", specificity),
        ("prevalence", prevalence),
    ):
        if not 0 <= share <= 1:
            raise ValueError(f"The {name} must be a share from 0 to 1, not {share}.")
    found = sensitivity * prevalence
    called = found + (1 - specificity) * (1 - prevalence)
    right = specificity * (1 - prevalence)
    cleared = right + (1 - sensitivity) * prevalence
    return (found / called if called > 0 else None, right / cleared if cleared > 0 else None)


def at_prevalence(
    probabilities: npt.ArrayLike,
    trained: float | npt.ArrayLike,
    wanted: float | npt.ArrayLike,
) -> np.ndarray:
    """Return the probabilities that the same films would have among other people.

    Only how frequent the classes are may differ, not how they look (Saerens, Latinne and
    Decaestecker 2002, equation 4): each probability is multiplied by the ratio of its class's
    shares, and the row is brought back to a sum of 1. A threshold moves along in the same way,
    as a film with that probability.

    Args:
        probabilities: Calibrated probabilities, shape (n, k), the reference class first.
        trained: Class shares among the films on which they were calibrated, shape (k,), or the
            prevalence of any finding there.
        wanted: Class shares among the people in question, shape (k,), or the prevalence of any
            finding among them; findings then keep their proportions to each other.

    Returns:
        Probabilities, float64, shape (n, k), rows summing to 1.

    Raises:
        ValueError: If a share is not between 0 and 1, shares do not fit the classes or do not sum
            to 1, or class shares are wanted where only a prevalence is known.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    before, after = (
        _shares(name, value, table.shape[1])
        for name, value in (("trained", trained), ("wanted", wanted))
    )
    if len(before) < len(after):
        raise ValueError(
            "Class shares are wanted, but of the films of calibration only the prevalence of any "
            "finding is given: give their class shares."
        )
    if len(after) < len(before):
        before = np.array([before[0], 1 - before[0]])
    ratio = after / before
    if len(ratio) < table.shape[1]:
        ratio = np.r_[ratio[0], np.full(table.shape[1] - 1, ratio[1])]
    scaled = table * ratio
    return scaled / scaled.sum(axis=1, keepdims=True)


def _shares(name: str, value: float | npt.ArrayLike, classes: int) -> np.ndarray:
    """Return class shares as they are, and a prevalence as those of normal and any finding."""
    given = np.asarray(value, dtype=np.float64)
    shares = np.array([1 - given, given]) if given.ndim == 0 else given
    if given.ndim and given.shape != (classes,):
        raise ValueError(f"The {name} shares must be {classes}, one a class, not {given.shape}.")
    if not ((shares > 0) & (shares < 1)).all():
        raise ValueError(f"The {name} shares must lie between 0 and 1, unlike {shares.tolist()}.")
    if not np.isclose(shares.sum(), 1, atol=1e-6):
        raise ValueError(f"The {name} shares must sum to 1, not to {shares.sum():.4g}.")
    return shares
