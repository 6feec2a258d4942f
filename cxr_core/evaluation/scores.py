"""From logits to probabilities to a decision: the few steps every consumer of a model shares.

The classes are ordered with the *reference* class (normal) first; see ``cxr_core.data.catalog``.
"""

import numpy as np
import numpy.typing as npt


def expand_logits(outputs: npt.ArrayLike) -> np.ndarray:
    """Turn what a model returns into one logit a class.

    A two-class model has one output z, the logit of the second class; it becomes ``[0, z]``, whose
    softmax is ``sigmoid(z)``. More classes pass through.

    Args:
        outputs: Raw model outputs, shape (n, 1) or (n, k).

    Returns:
        Logits, float64, shape (n, k) with k >= 2.

    Raises:
        ValueError: If the outputs are not a table.
    """
    logits = np.asarray(outputs, dtype=np.float64)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"Model outputs must have the shape (n, classes), not {logits.shape}.")
    if logits.shape[1] == 1:
        return np.hstack([np.zeros_like(logits), logits])
    return logits


def probabilities(logits: npt.ArrayLike, temperature: float = 1.0) -> np.ndarray:
    """Return ``softmax(logits / temperature)``, shape (n, k), rows summing to 1.

    Args:
        logits: One logit a class, shape (n, k); see `expand_logits`.
        temperature: Above 1 softens, below 1 sharpens (Guo et al. 2017, arXiv 1706.04599).

    Raises:
        ValueError: If the temperature is not above 0.
    """
    from scipy.special import softmax  # slow to load, and no page opens with it

    if not temperature > 0:
        raise ValueError(f"The temperature must be above 0, not {temperature}.")
    return softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)


def abnormal(probabilities: npt.ArrayLike) -> np.ndarray:
    """Return the probability of any finding: all classes but the reference, shape (n,), 0-1."""
    # The sum keeps the digits of a tiny probability, which 1 - p[reference] would round away.
    # Rounding may carry it past 1, where no threshold can lie.
    return np.minimum(np.asarray(probabilities, dtype=np.float64)[:, 1:].sum(axis=1), 1.0)


def decide(probabilities: npt.ArrayLike, threshold: npt.ArrayLike) -> np.ndarray:
    """Return the decided class of each film, int, shape (n,).

    The reference class where the abnormal probability is below the threshold, else the most
    probable of the other classes. The threshold is one for all films, or one a film, shape (n,).
    """
    table = np.asarray(probabilities, dtype=np.float64)
    finding = 1 + table[:, 1:].argmax(axis=1)
    return np.where(abnormal(table) < threshold, 0, finding)
