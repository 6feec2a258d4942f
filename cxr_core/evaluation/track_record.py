"""How probabilities fared: of the test films that scored alike, how many had the finding.

A reliability diagram shows this to whoever can read one; these short tables travel with a model, so
that an answer can say what became of others like it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr_core.evaluation.intervals import patient_groups, resample_weights, share_interval
from cxr_core.evaluation.scores import abnormal

# Finer at both ends: good models score most films there, and 0.91 is another claim than 0.999.
EDGES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
FEWEST = 10  # films in a bin; neighbouring bins with fewer are joined
_RESAMPLES = 1000


def tables(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    patients: Sequence[object] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return how often films of each range of probability had the finding.

    Args:
        labels: True class of each test film, int, shape (n,); 0 is the reference class.
        probabilities: Calibrated probabilities, shape (n, k).
        classes: The class names, the reference class first.
        patients: A patient id a film, or None where no patient is known.
        seed: Of the bootstrap.

    Returns:
        A table of ``finding`` (a class, or "" for any finding; of two classes the finding alone)
        and ``bins``, from 0 to 1 without a gap: ``low``, ``high``, ``films`` that scored at least
        ``low`` and less than ``high`` (the last bin holds 1), ``found`` (how many of them had the
        finding), ``ci95`` of that share by bootstrap over patients (None without films). Empty
        where there are no films.
    """
    truth, table = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if not len(truth):
        return []
    groups = patient_groups(len(truth), patients)
    asked = [(name, table[:, number], truth == number) for number, name in enumerate(classes)][1:]
    if len(asked) > 1:
        asked.insert(0, ("", abnormal(table), truth != 0))
    return [
        {"finding": name, "bins": _bins(scores, had, groups, seed)} for name, scores, had in asked
    ]


def _bins(
    scores: np.ndarray, had: np.ndarray, groups: np.ndarray, seed: int
) -> list[dict[str, Any]]:
    place = np.minimum(np.searchsorted(EDGES, scores, side="right") - 1, len(EDGES) - 2)
    counts = np.bincount(place, minlength=len(EDGES) - 1)
    found = []
    for first, last in _joined(counts):
        inside = (place >= first) & (place <= last)
        found.append(
            {
                "low": EDGES[first],
                "high": EDGES[last + 1],
                "films": int(inside.sum()),
                "found": int(had[inside].sum()),
                "ci95": _interval(had[inside], groups[inside], seed),
            }
        )
    return found


def _joined(counts: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and the last of the narrow bins that each bin is made of.

    A bin that has films enough stays as narrow as it is: joined to its empty neighbours it would
    speak for probabilities that no film ever had.
    """
    bins: list[tuple[int, int]] = []
    films = FEWEST  # in the last bin, which is closed at first
    for number, count in enumerate(counts):
        if films < FEWEST and count < FEWEST:
            bins[-1] = (bins[-1][0], number)
            films += count
        else:
            bins.append((number, number))
            films = count
    return bins


def _interval(had: np.ndarray, groups: np.ndarray, seed: int) -> list[float] | None:
    if not len(had):
        return None
    patients = np.unique(groups, return_inverse=True)[1]
    shares = np.concatenate(
        [
            weights @ had / weights.sum(axis=1)  # each patient has films here
            for weights in resample_weights(patients, _RESAMPLES, seed)
        ]
    )
    return share_interval(float(had.mean()), shares, int(patients.max()) + 1)
