"""AUROC by ranks, for tests that resample thousands of times: scikit-learn's takes milliseconds."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata


def auroc(truth: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Return the share of pairs that the scores order rightly (Mann-Whitney; ties count half)."""
    positive = np.asarray(truth, bool)
    ranks = rankdata(scores)[positive]
    number = len(ranks)
    above = ranks.sum() - number * (number + 1) / 2
    return float(above / (number * (len(positive) - number)))
