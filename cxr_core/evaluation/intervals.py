"""Confidence intervals by bootstrap over patients, for any metric that accepts weights.

Films of one patient resemble each other, so patients are drawn, not films: drawing films would
give intervals that are too narrow (Efron and Tibshirani 1993, section 8.4; Field and Welsh 2007).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

LEVEL = 0.95
# A block of weights this large (2 MB) stays in the processor's cache while metrics read it.
_BLOCK_VALUES = 2**18


def patient_groups(films: int, patients: Sequence[object] | None = None) -> np.ndarray:
    """Number the patients of a list of films.

    Args:
        films: How many films there are.
        patients: A patient id a film, or None where no patient is known.

    Returns:
        The patient's number, int, shape (films,). A film without an id (None, NaN or blank) is a
        patient of its own.

    Raises:
        ValueError: If there is not one id a film.
    """
    if patients is None:
        return np.arange(films)
    if len(patients) != films:
        raise ValueError(f"There are {films} films but {len(patients)} patient ids.")
    numbers: dict[object, int] = {}
    groups = np.empty(films, dtype=np.intp)
    for row, patient in enumerate(patients):
        known = not pd.isna(patient) and str(patient).strip()  # type: ignore[call-overload]
        groups[row] = numbers.setdefault(str(patient) if known else row, len(numbers))
    return groups


def resample_weights(groups: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw patients with replacement and yield how often each film was drawn.

    Args:
        groups: The patient's number of each film, shape (n,), see `patient_groups`.
        resamples: How many resamples in all.
        seed: The same seed gives the same resamples.

    Yields:
        Blocks of weights, float64, shape (some resamples, n).
    """
    rng = np.random.default_rng(seed)
    patients = int(groups.max()) + 1
    block = max(1, _BLOCK_VALUES // len(groups))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(patients, size=(rows, patients))
        drawn += np.arange(rows)[:, None] * patients
        counts = np.bincount(drawn.ravel(), minlength=rows * patients).astype(np.float64)
        yield counts.reshape(rows, patients)[:, groups]


def percentile_interval(values: np.ndarray, patients: int = 0) -> list[float] | None:
    """Return the 95 % percentile interval of a metric's resampled values.

    Where every resample scores 1 (or 0), as after a test without a mistake, the bootstrap would
    claim certainty. The exact binomial bound (Clopper and Pearson 1934) stands in: a success in
    each of m patients leaves every rate down to ``0.025 ** (1 / m)`` plausible. For AUROC, m is
    the smaller of the two groups, since so many independent pairs were all ranked right.

    Args:
        values: The metric by resample, shape (resamples,); NaN where it was undefined.
        patients: How many independent patients stand behind a metric that is a share; 0 for
            metrics on another scale.

    Returns:
        ``[low, high]``, or None where the sample cannot tell.
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    tail = (1 - LEVEL) / 2
    low, high = (float(bound) for bound in np.quantile(defined, [tail, 1 - tail]))
    if defined.min() < defined.max():
        return [low, high]
    if patients and np.isclose(low, 1.0):
        return [tail ** (1 / patients), 1.0]
    if patients and np.isclose(high, 0.0):
        return [0.0, 1 - tail ** (1 / patients)]
    return None


def share_interval(estimate: float, values: np.ndarray, patients: int) -> list[float] | None:
    """Return the 95 % interval of a metric between 0 and 1, symmetric in its logit.

    Close to 1, where a good model's AUROC lies, percentiles of the bootstrap are too narrow: films
    that nobody drew cannot show how wrong the model may be. On the logit scale the bootstrap's
    distribution is near normal, and its width is the standard error. It is taken in two ways, from
    the values by the delta method and from the logits, and the larger stands: the first is right
    for a handful of films, the second where few films are ranked wrong.

    Args:
        estimate: The metric of the films themselves; NaN where it is undefined.
        values: The metric by resample, shape (resamples,); NaN where it was undefined.
        patients: How many independent patients stand behind the metric.

    Returns:
        ``[low, high]``, or None where the sample cannot tell. Where all resamples are alike, as
        after a test without a mistake, that of `percentile_interval`.
    """
    from scipy.special import expit, logit, ndtri  # slow to load, and no page opens with it

    defined = values[~np.isnan(values)]
    if not len(defined) or np.isnan(estimate):
        return None
    if defined.min() == defined.max() or not 0 < estimate < 1:
        return percentile_interval(defined, patients)
    inside = np.append(defined[(defined > 0) & (defined < 1)], estimate)
    # A resample without any mistake counts as one with half of the least mistake seen.
    bounded = np.clip(defined, inside.min() / 2, (1 + inside.max()) / 2)
    spread = max(defined.std() / (estimate * (1 - estimate)), logit(bounded).std())
    half = ndtri((1 + LEVEL) / 2) * spread
    return [float(bound) for bound in expit(logit(estimate) + np.array([-half, half]))]
