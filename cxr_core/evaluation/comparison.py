"""Whether one model answers better than another on the same films.

DeLong's test for AUROC and McNemar's for decisions are the field's usual ones, but take each film
for a person of its own. The paired bootstrap draws patients, and covers every metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr_core.evaluation import intervals, metrics


@dataclass(frozen=True)
class Comparison:
    """Two AUROCs on the same films by DeLong, DeLong and Clarke-Pearson (1988)."""

    a: float  # AUROC, 0-1
    b: float
    difference: float  # b - a
    standard_error: float  # of the difference
    ci95: list[float] | None  # of the difference; None where it never varies
    z: float | None
    p: float | None  # two-sided; None where the difference never varies
    words: str  # the result in a sentence, and what it leaves out


@dataclass(frozen=True)
class Decisions:
    """Which of two models decides more films rightly, by McNemar's test (1947)."""

    only_a: int  # films that only the first decides rightly
    only_b: int
    p: float  # two-sided, mid-p (Fagerland, Lydersen and Laake 2013)
    p_exact: float  # two-sided, exact binomial
    words: str  # the result in a sentence, and what it leaves out


def delong_interval(
    labels: npt.ArrayLike, scores: npt.ArrayLike
) -> tuple[float, list[float] | None]:
    """Return an AUROC and its 95 % interval by DeLong's variance, each film a person of its own.

    Args:
        labels: 1 where the film is of the class in question, else 0; shape (n,).
        scores: Higher for films more likely of the class, shape (n,).

    Returns:
        The AUROC, 0-1, and ``[low, high]`` within 0 to 1, None where the variance is 0.

    Raises:
        ValueError: If there are not at least two films of either kind, or shapes disagree.
    """
    positive, table = _pairs(labels, scores)
    areas, covariance = _covariance(positive, table)
    return float(areas[0]), _normal(areas[0], np.sqrt(covariance[0, 0]), within=(0.0, 1.0))


def delong(
    labels: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    patients: Sequence[object] | None = None,
) -> Comparison:
    """Compare the AUROCs of two scores on the same films (DeLong et al. 1988).

    Args:
        labels: 1 where the film is of the class in question, else 0; shape (n,).
        a: Scores of the first model, shape (n,); higher for films more likely of the class.
        b: Scores of the second.
        patients: A patient id a film. The test cannot use it; where patients have several films
            the words say so.

    Raises:
        ValueError: If there are not at least two films of either kind, or shapes disagree.
    """
    from scipy.special import ndtr  # slow to load, and no page opens with it

    positive, table = _pairs(labels, a, b)
    areas, covariance = _covariance(positive, table)
    difference = float(areas[1] - areas[0])
    # Rounding leaves a trace of variance between scores that rank all films alike.
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = np.sqrt(variance) if variance > 1e-15 else 0.0
    z = difference / error if error else None
    p = None if z is None else float(2 * ndtr(-abs(z)))
    interval = _normal(difference, error, within=(-1.0, 1.0))
    words = f"AUROC {areas[0]:.3f} against {areas[1]:.3f}: "
    if p is None or interval is None:
        words += "no film is ranked otherwise, so that there is nothing to test."
    else:
        words += (
            f"a difference of {difference:+.3f} (95 % interval {interval[0]:+.3f} to "
            f"{interval[1]:+.3f}), {_p(p)} by DeLong's test."
        )
    words += _caution(len(positive), patients)
    return Comparison(
        float(areas[0]), float(areas[1]), difference, float(error), interval, z, p, words
    )


def delong_by_class(
    labels: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    classes: Sequence[str],
    *,
    patients: Sequence[object] | None = None,
) -> dict[str, Comparison]:
    """Compare the AUROCs of two models by class, each class against the rest.

    Args:
        labels: True class of each film, int, shape (n,).
        a: Probabilities of the first model, shape (n, k).
        b: Those of the second.
        classes: The k class names, the reference class first.
        patients: As for `delong`.

    Returns:
        Class to comparison. Of two classes only the second, whose AUROC is also that of the first;
        without classes of which, or against which, there are fewer than two films.
    """
    truth = np.asarray(labels)
    first, second = (np.asarray(table, dtype=np.float64) for table in (a, b))
    columns = [1] if len(classes) == 2 else range(len(classes))
    return {
        classes[column]: delong(
            truth == column, first[:, column], second[:, column], patients=patients
        )
        for column in columns
        if 2 <= (truth == column).sum() <= len(truth) - 2
    }


def mcnemar(
    right_a: npt.ArrayLike, right_b: npt.ArrayLike, *, patients: Sequence[object] | None = None
) -> Decisions:
    """Test whether two models decide equally many films rightly (McNemar 1947).

    Only films that one of them decides rightly and the other wrongly tell anything: were both
    equally good, each would win as many of these as heads come up in as many tosses.

    Args:
        right_a: Whether the first model decides the film rightly, bool (n,).
        right_b: The same of the second.
        patients: As for `delong`.

    Raises:
        ValueError: If shapes disagree.
    """
    from scipy.special import bdtr  # slow to load, and no page opens with it

    first, second = np.asarray(right_a, dtype=bool), np.asarray(right_b, dtype=bool)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(
            f"McNemar's test needs one answer a film of either model, not {first.shape} and "
            f"{second.shape}."
        )
    only_a, only_b = int((first & ~second).sum()), int((second & ~first).sum())
    films, fewer = only_a + only_b, min(only_a, only_b)
    both_tails = 2 * float(bdtr(fewer, films, 0.5))
    # The mid-p counts the outcome itself half: each tail less half of its share.
    beyond = float(bdtr(fewer - 1, films, 0.5)) if fewer else 0.0
    p = min(1.0, both_tails / 2 + beyond) if films else 1.0
    words = (
        f"The first alone is right on {only_a}, the second alone on {only_b} of {len(first)} films"
        f": {_p(p)} by McNemar's test (mid-p)."
        if films
        else f"Both decide rightly on the same films of {len(first)}: there is nothing to test."
    )
    words += _caution(len(first), patients)
    return Decisions(only_a, only_b, p, min(1.0, both_tails), words)


def paired(
    labels: npt.ArrayLike,
    probabilities: Mapping[str, npt.ArrayLike],
    thresholds: Mapping[str, npt.ArrayLike],
    classes: Sequence[str],
    *,
    patients: Sequence[object] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the headline metrics of several models on the same films, and their differences.

    The bootstrap draws the same patients for all models, so that what makes a draw of films hard
    or easy for all of them leaves the difference.

    Args:
        labels: True class of each film, int, shape (n,).
        probabilities: Calibrated probabilities by model, each (n, k); the first model is the one
            that the others are compared with.
        thresholds: Operating point by model.
        classes: The k class names, the reference class first.
        patients: A patient id a film; films without one count as patients of their own.
        resamples: Bootstrap resamples over patients, at least 1.
        seed: Seed of the bootstrap; with that of `metrics.summarise` the intervals are the same.

    Returns:
        Plain numbers ready for JSON: ``n``, ``patients``, ``reference`` (the first model's name),
        ``models`` (name to metric to value, with ``threshold`` and ``ci95``) and ``differences``
        (name of each other model to metric to ``value``, its own less the first's, and ``ci95``).
        What is undefined is None, and so is the interval of a difference that never varies.

    Raises:
        ValueError: As for `metrics.summarise`, and where there is no model.
    """
    if not probabilities:
        raise ValueError("There is no model to compare.")
    models: dict[str, dict[str, Any]] = {}
    drawn: dict[str, Mapping[str, np.ndarray]] = {}
    groups = intervals.patient_groups(len(np.asarray(labels)), patients)
    for name, table in probabilities.items():
        films = metrics.prepare(labels, table, classes, thresholds[name])
        estimate = metrics.score(films, np.ones((1, len(films.labels))))
        resampled = metrics.resampled(films, groups, resamples, seed)
        drawn[name] = resampled.headline
        levels = np.unique(thresholds[name])
        models[name] = {
            "threshold": float(levels[0]) if len(levels) == 1 else None,
            **{key: metrics.number(values[0]) for key, values in estimate.headline.items()},
            "ci95": metrics.headline_intervals(films, groups, estimate, resampled),
        }
    reference, *others = models
    return {
        "n": len(groups),
        "patients": None if patients is None else int(groups.max()) + 1,
        "reference": reference,
        "models": models,
        "differences": {
            name: {
                key: {
                    "value": _difference(models[name][key], models[reference][key]),
                    "ci95": intervals.percentile_interval(drawn[name][key] - drawn[reference][key]),
                }
                for key in drawn[name]
            }
            for name in others
        },
    }


def _pairs(labels: npt.ArrayLike, *scores: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return which films are positive, bool (n,), and the scores, float64 (models, n)."""
    positive = np.asarray(labels).astype(bool)
    columns = [np.asarray(score, dtype=np.float64) for score in scores]
    if any(column.shape != positive.shape or positive.ndim != 1 for column in columns):
        raise ValueError(
            f"DeLong's method needs one score a film: there are {positive.shape} labels and "
            f"scores of {', '.join(str(column.shape) for column in columns)}."
        )
    if not all(np.isfinite(column).all() for column in columns):
        raise ValueError("DeLong's method needs finite scores: the model's training diverged.")
    if not 2 <= positive.sum() <= len(positive) - 2:
        raise ValueError(
            f"DeLong's method needs at least two films of the class and two others, not "
            f"{positive.sum()} and {(~positive).sum()}."
        )
    return positive, np.stack(columns)


def _covariance(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the AUROC of each row of scores and their covariance, (models,), (models, models).

    A film's structural component is the share of films of the other kind that it is ranked rightly
    against. Mid-ranks among all films less mid-ranks among its own kind count them without
    comparing every pair (Sun and Xu 2014).
    """
    from scipy.stats import rankdata  # slow to import, and no page opens with it

    m, n = positive.sum(), (~positive).sum()
    among_all = rankdata(scores, axis=1)
    of_positives = (among_all[:, positive] - rankdata(scores[:, positive], axis=1)) / n
    of_negatives = 1 - (among_all[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / m
    covariance = np.atleast_2d(np.cov(of_positives)) / m + np.atleast_2d(np.cov(of_negatives)) / n
    return of_positives.mean(axis=1), covariance


def _normal(value: float, error: float, within: tuple[float, float]) -> list[float] | None:
    """Return the 95 % interval of a normal estimate, cut to its range; None without an error."""
    from scipy.special import ndtri  # slow to load, and no page opens with it

    if error == 0:
        return None
    half = ndtri((1 + intervals.LEVEL) / 2) * error
    return [max(float(value - half), within[0]), min(float(value + half), within[1])]


def _difference(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _caution(films: int, patients: Sequence[object] | None) -> str:
    """Return what the test leaves out where patients have several films, else nothing."""
    if patients is None:
        return ""
    people = int(intervals.patient_groups(films, patients).max()) + 1
    if people == films:
        return ""
    return (
        f" It takes each of the {films} films for a person of its own, but they are of {people} "
        "patients: p is too small. The interval by bootstrap counts patients."
    )
