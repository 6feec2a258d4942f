"""The numbers a test of a classifier ends with, each with its 95 % interval by patient.

Every metric is written for weighted films, and for many sets of weights at once: weights of one
give the estimate, weights drawn over patients give its bootstrap, and there is one formula for
both. A metric whose question the films cannot answer (the AUROC of one class) is NaN in here and
None in the summary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr_core.evaluation import calibration, intervals
from cxr_core.evaluation.scores import abnormal, decide, expand_logits, probabilities

__all__ = ["abnormal", "auroc", "decide", "expand_logits", "probabilities", "summarise"]


@dataclass(frozen=True, eq=False)
class Films:
    """The films under test, prepared once for all resamples."""

    labels: np.ndarray  # int (n,)
    probabilities: np.ndarray  # float64 (n, k)
    decisions: np.ndarray  # int (n,)
    terms: np.ndarray  # float64 (terms, n): what each film adds to sums, see `_lay_out`


@dataclass(frozen=True, eq=False)
class Scores:
    """Metrics of many weighted tests at once."""

    headline: Mapping[str, np.ndarray]  # (tests,)
    by_class: Mapping[str, np.ndarray]  # (tests, classes)
    support: np.ndarray  # (tests, classes): weight of the films of each true class
    confusion: np.ndarray  # (tests, classes, classes): rows truth, columns decision

    @property
    def means(self) -> dict[str, dict[str, np.ndarray]]:
        """Means of each class metric, (tests,), over the classes where it is defined.

        ``macro`` lets every class count alike, ``weighted`` by its films.
        """
        weights = {"macro": np.ones_like(self.support), "weighted": self.support}
        return {
            mean: {name: _mean_defined(values, weight) for name, values in self.by_class.items()}
            for mean, weight in weights.items()
        }


@dataclass(frozen=True, eq=False)
class _Evidence:
    """How many independent patients stand behind a metric that is a share."""

    films: Films
    groups: np.ndarray

    def headline(self, name: str) -> int:
        """Count the patients behind a headline metric; 0 where it is no share."""
        finding, called = self.films.labels != 0, self.films.decisions != 0
        patients = {
            "accuracy": self._count(np.ones_like(finding)),
            "sensitivity": self._count(finding),
            "specificity": self._count(~finding),
            "ppv": self._count(called),
            "npv": self._count(~called),
            "f1": self._count(finding | called),
        }
        if name in ("auc", "average_precision", "balanced_accuracy"):
            present = np.unique(self.films.labels)
            return min(self._count(self.films.labels == label) for label in present)
        return patients.get(name, 0)

    def by_class(self, name: str, column: int) -> int:
        """Count the patients behind a class's metric."""
        truth, called = self.films.labels == column, self.films.decisions == column
        return {
            "sensitivity": self._count(truth),
            "specificity": self._count(~truth),
            "precision": self._count(called),
            "npv": self._count(~called),
            "f1": self._count(truth | called),
        }.get(name, min(self._count(truth), self._count(~truth)))

    def mean(self, name: str) -> int:
        """Count the patients behind a mean over classes: those of the class with fewest."""
        classes = range(self.films.probabilities.shape[1])
        counts = [self.by_class(name, column) for column in classes]
        return min((count for count in counts if count), default=0)

    def _count(self, chosen: np.ndarray) -> int:
        return len(np.unique(self.groups[chosen]))


def auroc(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Return the area under the ROC curve, 0-1; ties count half (Hanley and McNeil 1982).

    Args:
        labels: True class of each film, int, shape (n,).
        probabilities: One column a class, shape (n, k).

    Returns:
        Two classes: the AUROC of the second. More: the mean over the classes present, each
        against the rest. NaN where it is undefined, as for films of one class or probabilities
        that are not finite.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.intp)
    if not len(truth) or not np.isfinite(table).all():
        return float("nan")
    weights = np.ones((1, len(truth)))
    columns = [1] if table.shape[1] == 2 else range(table.shape[1])
    areas = [_ranking(weights, truth == column, table[:, column])[0] for column in columns]
    return float(_mean_defined(np.stack(areas, axis=1))[0])


def summarise(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    threshold: npt.ArrayLike,
    *,
    patients: Sequence[object] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return all metrics of a test with their intervals, as plain numbers ready for JSON.

    Sensitivity, specificity, ``ppv``, ``npv`` and ``f1`` at the top ask "any finding or none?" at
    the threshold. Accuracy, balanced accuracy (mean recall of the classes present) and MCC
    (Matthews; Gorodkin 2004 for several classes) look at the decided class. ``auc`` and
    ``average_precision`` are those of the second class for two classes, else the mean of one
    against the rest over the classes present. ``brier`` is the mean of (p - y)^2 for two classes
    (0-1) and the mean of the sum over classes of (p - y)^2 for more (0-2; Brier 1950).
    ``log_loss`` is in nats. ``ece``: see `calibration.expected_calibration_error`; resamples keep
    the bins of the films.

    Args:
        labels: True class of each film, int, shape (n,).
        probabilities: Calibrated probabilities, shape (n, k), rows summing to 1.
        classes: The k class names, the reference class first.
        threshold: Operating point on the abnormal probability, 0-1; or one a film, shape (n,),
            where the predictions of several models are pooled: the summary then names none.
        patients: A patient id a film; films without one count as patients of their own.
        resamples: Bootstrap resamples over patients; 0 leaves the intervals empty.
        seed: Seed of the bootstrap.

    Returns:
        Metric to value; ``confusion`` (k x k counts, rows truth, columns decision); ``per_class``
        keyed by class, with ``n`` and ``ci95`` in each; ``macro`` and ``weighted`` means of the
        class metrics over the classes where they are defined, with ``ci95`` in each; ``ci95``
        keyed by metric. What is undefined is None.

    Raises:
        ValueError: If there are no films, shapes disagree, a label is no class, or the rows are
            no probabilities.
    """
    films = prepare(labels, probabilities, classes, threshold)
    groups = intervals.patient_groups(len(films.labels), patients)
    estimate = score(films, np.ones((1, len(films.labels))))
    levels = np.unique(threshold)
    summary: dict[str, Any] = {
        "n": len(films.labels),
        "patients": None if patients is None else int(groups.max()) + 1,
        "threshold": float(levels[0]) if len(levels) == 1 else None,
    }
    summary |= {name: number(values[0]) for name, values in estimate.headline.items()}
    summary["confusion"] = estimate.confusion[0].round().astype(int).tolist()
    summary["per_class"] = {
        label: {"n": int(estimate.support[0, column].round())}
        | {name: number(values[0, column]) for name, values in estimate.by_class.items()}
        for column, label in enumerate(classes)
    }
    for name, means in estimate.means.items():
        summary[name] = {metric: number(values[0]) for metric, values in means.items()}
    if not resamples:
        return summary | {"ci95": {}}
    drawn = resampled(films, groups, resamples, seed)
    summary["ci95"] = headline_intervals(films, groups, estimate, drawn)
    evidence = _Evidence(films, groups)
    for column, label in enumerate(classes):
        summary["per_class"][label]["ci95"] = {
            name: _interval(
                estimate.by_class[name][:, column],
                values[:, column],
                evidence.by_class(name, column),
            )
            for name, values in drawn.by_class.items()
        }
    for mean, by_metric in drawn.means.items():
        summary[mean]["ci95"] = {
            name: _interval(estimate.means[mean][name], values, evidence.mean(name))
            for name, values in by_metric.items()
        }
    return summary


def resampled(films: Films, groups: np.ndarray, resamples: int, seed: int) -> Scores:
    """Return the metrics of bootstrap resamples over patients, a row a resample.

    The same patients, resamples and seed draw the same patients whatever was predicted, so that
    rows of two models on the same films are pairs.

    Args:
        films: The test.
        groups: The patient's number of each film, shape (n,), see `intervals.patient_groups`.
        resamples: How many, at least 1.
        seed: Seed of the draws.
    """
    drawn = [
        score(films, weights) for weights in intervals.resample_weights(groups, resamples, seed)
    ]
    first = drawn[0]
    return Scores(
        {name: np.concatenate([one.headline[name] for one in drawn]) for name in first.headline},
        {name: np.concatenate([one.by_class[name] for one in drawn]) for name in first.by_class},
        np.concatenate([one.support for one in drawn]),
        np.concatenate([one.confusion for one in drawn]),
    )


def headline_intervals(
    films: Films, groups: np.ndarray, estimate: Scores, drawn: Scores
) -> dict[str, list[float] | None]:
    """Return the 95 % interval of each headline metric; None where the films cannot tell.

    Args:
        films: The test.
        groups: The patient's number of each film, shape (n,).
        estimate: Its metrics, one row.
        drawn: Those of its resamples, see `resampled`.
    """
    evidence = _Evidence(films, groups)
    return {
        name: _interval(estimate.headline[name], values, evidence.headline(name))
        for name, values in drawn.headline.items()
    }


def prepare(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    threshold: npt.ArrayLike,
) -> Films:
    """Check a test and lay it out for `score`; arguments and errors as for `summarise`."""
    truth = np.asarray(labels, dtype=np.intp)
    table = np.asarray(probabilities, dtype=np.float64)
    if not len(truth):
        raise ValueError("There are no films to evaluate: the list of labels is empty.")
    if len(classes) < 2 or table.shape != (len(truth), len(classes)):
        raise ValueError(
            f"{len(truth)} labels and {len(classes)} classes need probabilities of the shape "
            f"({len(truth)}, {len(classes)}), not {table.shape}."
        )
    if truth.min() < 0 or truth.max() >= len(classes):
        raise ValueError(f"A label is outside 0 to {len(classes) - 1}, the classes' numbers.")
    if not np.isfinite(table).all():
        raise ValueError("A probability is not a finite number: the model's training diverged.")
    if table.min() < 0 or not np.allclose(table.sum(axis=1), 1, atol=1e-4):
        raise ValueError("The probabilities of a film must be at least 0 and sum to 1.")
    return _lay_out(truth, table, decide(table, threshold))


def _lay_out(labels: np.ndarray, probabilities: np.ndarray, decisions: np.ndarray) -> Films:
    """Lay out what each film adds to the sums that most metrics are made of.

    Rows: one a cell of the confusion matrix, one a calibration bin (forecast less outcome), log
    loss, Brier score. One product with the weights then sums them for all resamples.
    """
    k = probabilities.shape[1]
    cells = np.eye(k * k)[labels * k + decisions]
    forecast, outcome = calibration.forecasts(labels, probabilities)
    bins = np.eye(calibration.BINS)[calibration.equal_mass_bins(forecast)]
    likelihood = probabilities[np.arange(len(labels)), labels]
    surprise = -np.log(np.maximum(likelihood, np.finfo(np.float64).eps))
    errors = (probabilities - np.eye(k)[labels]) ** 2
    squared = errors[:, 1] if k == 2 else errors.sum(axis=1)
    gaps = bins * (forecast - outcome)[:, None]
    terms = np.vstack([cells.T, gaps.T, surprise, squared])
    return Films(labels, probabilities, decisions, terms)


def score(films: Films, weights: np.ndarray) -> Scores:
    """Return all metrics for each row of film weights, shape (tests, n), one row a test."""
    tests, k = len(weights), films.probabilities.shape[1]
    # Unlike a matrix product, einsum starts no threads, which cost more here than they save.
    sums = np.einsum("ij,kj->ik", weights, films.terms)
    cells, gaps, surprise, squared = np.split(sums, [k * k, -2, -1], axis=1)
    confusion = cells.reshape(tests, k, k)
    support = confusion.sum(axis=2)
    total = support.sum(axis=1)
    by_class = _class_scores(films, weights, confusion)
    found = confusion[:, 1:, 1:].sum(axis=(1, 2))
    missed = confusion[:, 1:, 0].sum(axis=1)
    alarms = confusion[:, 0, 1:].sum(axis=1)
    cleared = confusion[:, 0, 0]
    # The second class speaks for both of two; more classes count alike.
    overall = slice(1, 2) if k == 2 else slice(None)
    headline = {
        "accuracy": _share(np.trace(confusion, axis1=1, axis2=2), total),
        "balanced_accuracy": _mean_defined(by_class["sensitivity"]),
        "auc": _mean_defined(by_class["auc"][:, overall]),
        "average_precision": _mean_defined(by_class["average_precision"][:, overall]),
        "sensitivity": _share(found, found + missed),
        "specificity": _share(cleared, cleared + alarms),
        "ppv": _share(found, found + alarms),
        "npv": _share(cleared, cleared + missed),
        "f1": _share(2 * found, 2 * found + alarms + missed),
        "mcc": _matthews(confusion),
        "log_loss": _share(surprise[:, 0], total),
        # Within a bin, weight x |mean forecast - mean outcome| is |sum of the differences|.
        "ece": _share(np.abs(gaps).sum(axis=1), total),
        "brier": _share(squared[:, 0], total),
    }
    return Scores(headline, by_class, support, confusion)


def _class_scores(
    films: Films, weights: np.ndarray, confusion: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the metrics of each class against the rest, each of shape (tests, classes)."""
    ranked = [
        _ranking(weights, films.labels == column, films.probabilities[:, column])
        for column in range(films.probabilities.shape[1])
    ]
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    support = confusion.sum(axis=2)
    called = confusion.sum(axis=1)
    total = support.sum(axis=1, keepdims=True)
    others = total - support
    cleared = others - (called - hits)
    return {
        "auc": np.stack([area for area, _ in ranked], axis=1),
        "average_precision": np.stack([precision for _, precision in ranked], axis=1),
        "sensitivity": _share(hits, support),
        "specificity": _share(cleared, others),
        "precision": _share(hits, called),
        "npv": _share(cleared, total - called),
        "f1": _share(2 * hits, support + called),
    }


def _ranking(
    weights: np.ndarray, positive: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return AUROC and average precision for each row of weights, from one sort of the scores.

    Args:
        weights: Film weights, shape (tests, n).
        positive: Whether a film is of the class, bool (n,).
        score: Its score, shape (n,); equal scores are one step of the curve.
    """
    order = np.argsort(-score, kind="stable")
    descending = score[order]
    first = np.flatnonzero(np.r_[True, descending[1:] != descending[:-1]])
    weights = weights[:, order]
    positives = weights * positive[order]
    if len(first) < len(score):
        weights = np.add.reduceat(weights, first, axis=1)
        positives = np.add.reduceat(positives, first, axis=1)
    above = np.cumsum(positives, axis=1)  # positives with this score or a higher one
    called = np.cumsum(weights, axis=1)
    total, all_films = above[:, -1], called[:, -1]
    # Each negative counts the positives ranked above it, and half of those it ties with.
    won = np.einsum("ij,ij->i", weights - positives, above - positives / 2)
    precision = np.divide(above, called, out=np.zeros_like(above), where=called > 0)
    average_precision = np.einsum("ij,ij->i", positives, precision)
    return _share(won, total * (all_films - total)), _share(average_precision, total)


def _matthews(confusion: np.ndarray) -> np.ndarray:
    """Return Matthews' correlation of truth and decision, -1 to 1, shape (tests,)."""
    total = confusion.sum(axis=(1, 2))
    support, called = confusion.sum(axis=2), confusion.sum(axis=1)
    covariance = np.trace(confusion, axis1=1, axis2=2) * total - (support * called).sum(axis=1)
    spread = (total**2 - (support**2).sum(axis=1)) * (total**2 - (called**2).sum(axis=1))
    return _share(covariance, np.sqrt(spread))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _mean_defined(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the weighted mean over the columns that are not NaN, shape (tests,)."""
    defined = (~np.isnan(values)).astype(np.float64)
    if weights is not None:
        defined *= weights
    return _share((np.nan_to_num(values) * defined).sum(axis=1), defined.sum(axis=1))


def _interval(estimate: np.ndarray, drawn: np.ndarray, patients: int) -> list[float] | None:
    """Return one metric's interval from its estimate (1,) and its resamples (resamples,)."""
    if patients:
        return intervals.share_interval(float(estimate[0]), drawn, patients)
    return intervals.percentile_interval(drawn)


def number(value: float) -> float | None:
    """Return a plain number for JSON, None for NaN."""
    return None if np.isnan(value) else float(value)
