"""Does a heat map name what the score rests on? Deletion and insertion against random orders.

Petsiuk and others 2018 (RISE, arXiv 1806.07421): take away from a film what a map marks, the most
first, and watch the score fall; give it back to a blurred film, and watch it rise. Both curves mean
something beside those of random orders of the same cells alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from cxr_core.evaluation.scores import expand_logits

GRID = 8  # cells a side that are taken away as a whole
ORDERS = 10  # random orders that a map is held against
# Shares of the cells at which the score is asked for, besides none and all. Closer together where a
# small finding makes the curves fall, and the same from both ends: one random order taken backwards
# is another one.
_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8, 15 / 16)
_BATCH = 32  # films at a time

Predict = Callable[[np.ndarray], np.ndarray]  # uint8 (n, size, size) -> logits (n, outputs)


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """How the score follows a heat map, and how it follows chance.

    Areas are means over the share of cells taken away or given back, in logits (log odds of the
    class): a low deletion and a high insertion area speak for the map.
    """

    shares: np.ndarray  # of the cells, (points,), 0-1
    deletion_curve: np.ndarray  # log odds with that share of the cells gone, (points,)
    insertion_curve: np.ndarray  # log odds with only that share there, (points,)
    deletion: float  # area
    insertion: float
    random_deletion: np.ndarray  # areas of random orders, (orders,)
    random_insertion: np.ndarray

    @property
    def deletion_beats(self) -> float:
        """Share of random orders that lower the score more slowly than the map, 0-1."""
        return float((self.deletion < self.random_deletion).mean())

    @property
    def insertion_beats(self) -> float:
        """Share of random orders that bring the score back more slowly than the map, 0-1."""
        return float((self.insertion > self.random_insertion).mean())

    @property
    def words(self) -> str:
        """What came out, in sentences."""
        orders = len(self.random_deletion)
        gone, back = (
            f"{round(share * orders)} of {orders}"
            for share in (self.deletion_beats, self.insertion_beats)
        )
        found = (
            f"Blurring what the map marks, the most first, lowers the score faster than {gone} "
            f"random orders do; giving it back to a blurred film raises it faster than {back}."
        )
        lower = min(self.deletion_beats, self.insertion_beats)
        if lower >= 0.9:
            return f"{found} The score rests on what is marked."
        if lower >= 0.7:
            return f"{found} The score rests largely on what is marked."
        return f"{found} The score rests on other places too: do not rely on this map."


def deletion_insertion(
    predict: Predict,
    square: np.ndarray,
    cells: np.ndarray,
    target: int,
    *,
    orders: int = ORDERS,
    seed: int = 0,
) -> Faithfulness:
    """Measure how faithful a heat map is to the score of its class.

    The film is cut into `GRID` x `GRID` cells. A cell that is gone is blurred over a cell's width:
    black would be a mark of its own. About 15 + 7 x ``orders`` films are asked about.

    Args:
        predict: the network's logits for squares of any number.
        square: uint8 (size, size), the film.
        cells: the map, float (rows, columns), at least 0, over the whole square.
        target: the class that the map is for, counted from the reference class, 0.
        orders: how many random orders it is held against.
        seed: of the orders, and of the order of cells that the map does not tell apart.
    """
    rng = np.random.default_rng(seed)
    size, count = len(square), GRID * GRID
    marked = cv2.resize(cells.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA)
    own = np.lexsort((rng.random(count), -marked.ravel()))
    ranks = [own, *(rng.permutation(count) for _ in range(orders))]
    kept = np.array([round(share * count) for share in _SHARES])
    blurred = cv2.GaussianBlur(square, (0, 0), size / GRID)
    place = (np.arange(size) * GRID) // size  # the cell that a row or a column lies in

    def without(order: np.ndarray, gone: int) -> np.ndarray:
        """Return the film with the first cells of an order blurred."""
        mask = np.zeros(count, bool)
        mask[order[:gone]] = True
        return np.where(mask.reshape(GRID, GRID)[place][:, place], blurred, square)

    films = [square, blurred]
    films += [without(own[::-1], count - n) for n in kept]  # given back: only the first n are there
    films += [without(order, n) for order in ranks for n in kept]
    scores = np.concatenate(
        [
            _log_odds(predict(np.stack(films[start : start + _BATCH])), target)
            for start in range(0, len(films), _BATCH)
        ]
    )
    whole, nothing = scores[:2]
    back, gone = scores[2 : 2 + len(kept)], scores[2 + len(kept) :].reshape(len(ranks), -1)
    shares = np.array([0, *_SHARES, 1.0])
    deletion = np.column_stack([np.full(len(ranks), whole), gone, np.full(len(ranks), nothing)])
    insertion = np.array([nothing, *back, whole])
    areas = np.trapezoid(deletion, shares, axis=1)
    return Faithfulness(
        shares=shares,
        deletion_curve=deletion[0],
        insertion_curve=insertion,
        deletion=float(areas[0]),
        insertion=float(np.trapezoid(insertion, shares)),
        random_deletion=areas[1:],
        # A random order taken away is its reverse given back, seen from the other end.
        random_insertion=areas[1:].copy(),
    )


def _log_odds(logits: np.ndarray, target: int) -> np.ndarray:
    """Return the log odds of a class against all others, float64 (n,)."""
    table = expand_logits(logits)
    others = np.delete(table, target, axis=1)
    highest = others.max(axis=1, keepdims=True)
    return table[:, target] - (highest[:, 0] + np.log(np.exp(others - highest).sum(axis=1)))
