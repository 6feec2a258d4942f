"""How steady an answer is: asked again of the same film, slightly moved, scaled and exposed.

Nothing of that changes what a film shows. Where the answer changes all the same, little hangs on
its last digits, or on the answer (compare Azulay and Weiss 2019, arXiv 1805.12177).
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from cxr_core.diagnosis.sentences import probability
from cxr_core.evaluation import scores

_SHIFT = 0.02  # of the square's side
_SCALE = 1.03
_GAMMA = 1.1  # about as much as two exposures of one patient differ
# Shift right and down, as shares of the side; scale; gamma.
_CHANGES = (
    (_SHIFT, 0.0, 1.0, 1.0),
    (-_SHIFT, 0.0, 1.0, 1.0),
    (0.0, _SHIFT, 1.0, 1.0),
    (0.0, -_SHIFT, 1.0, 1.0),
    (0.0, 0.0, _SCALE, 1.0),
    (0.0, 0.0, 1 / _SCALE, 1.0),
    (0.0, 0.0, 1.0, _GAMMA),
    (0.0, 0.0, 1.0, 1 / _GAMMA),
)

# uint8 (n, size, size) -> calibrated probabilities (n, classes)
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Stability:
    """What a model says of a film's slight changes."""

    low: float  # the least probability, 0-1: of the finding called, or of any where none is
    high: float  # the greatest; the film as it is counts for both
    changes: int  # how many there were
    turned: int  # of them, those for which the decision is another

    @property
    def words(self) -> str:
        """What came out, in a sentence or two."""
        low, high = probability(self.low), probability(self.high)
        span = f"lies between {low.removesuffix(' %')} and {high}"
        if low == high:
            span = f"stays at {low}" if low[0].isdigit() else f"stays {low}"
        elif high == f"over {low}":
            span = f"is {low} or more"
        elif low == f"under {high}":
            span = f"is {high} or less"
        if not self.turned:
            told = "The decision stays the same."
        else:
            told = f"For {self.turned} of them the decision is another: do not rely on it."
        return f"The probability {span} over {self.changes} slight changes of the film. {told}"


def measure(predict: Predict, square: np.ndarray, threshold: float) -> Stability:
    """Ask a model about a film's slight changes, all at once.

    Args:
        predict: the model's calibrated probabilities of squares.
        square: uint8 (size, size), what the network sees of the film.
        threshold: on the abnormal probability.
    """
    table = predict(np.stack([square, *changed(square)]))
    decisions = scores.decide(table, threshold)
    own = int(decisions[0])
    asked = table[:, own] if own else scores.abnormal(table)
    return Stability(
        low=float(asked.min()),
        high=float(asked.max()),
        changes=len(_CHANGES),
        turned=int((decisions[1:] != own).sum()),
    )


def changed(square: np.ndarray) -> np.ndarray:
    """Return a film moved by 2 % of its side, scaled by 3 %, and exposed by a tenth more and less.

    What comes in from outside is what lies at the edge.

    Args:
        square: uint8 (size, size).

    Returns:
        uint8 (8, size, size).
    """
    size = square.shape[0]
    middle = (size - 1) / 2
    levels = np.arange(256) / 255
    films = []
    for right, down, scale, gamma in _CHANGES:
        if gamma != 1:
            films.append(cv2.LUT(square, np.rint(255 * levels**gamma).astype(np.uint8)))
            continue
        aside = middle * (1 - scale)
        matrix = np.array(
            [[scale, 0, aside + right * size], [0, scale, aside + down * size]], np.float64
        )
        films.append(
            cv2.warpAffine(
                square,
                matrix,
                (size, size),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        )
    return np.stack(films)
