"""How films lie: upright or turned, positive or inverted, whole or cut, framed or not.

A set teaches what its films should look like. Every film is also shown turned, inverted and cut, a
linear model learns to tell these views from the film as it is, and a film that this model, fitted
without it, takes for one of the views, is likely to be one.
"""

from dataclasses import dataclass

import numpy as np

from cxr_core.data.likeness import unit

AS_IT_IS = "as it is"
_SIDE = 16  # px; turning and cutting show at any size
_CUT = 0.6  # of the side, what a cut film still shows
_WHOLE, _CENTRE, _END = (0.0, 1.0), ((1 - _CUT) / 2, (1 + _CUT) / 2), (1 - _CUT, 1.0)
_START = (0.0, _CUT)
# Each view: quarter turns, mirrored, inverted, and which (columns, rows) of the film it shows.
_VIEWS = {
    AS_IT_IS: (0, False, False, _WHOLE, _WHOLE),
    "rotated by 90°": (1, False, False, _WHOLE, _WHOLE),
    "rotated by 180°": (2, False, False, _WHOLE, _WHOLE),
    "rotated by 270°": (3, False, False, _WHOLE, _WHOLE),
    "inverted": (0, False, True, _WHOLE, _WHOLE),
    "mirrored": (0, True, False, _WHOLE, _WHOLE),
    "cut to its left part": (0, False, False, _START, _WHOLE),
    "cut to its right part": (0, False, False, _END, _WHOLE),
    "cut to its upper part": (0, False, False, _WHOLE, _START),
    "cut to its lower part": (0, False, False, _WHOLE, _END),
    "cut to its centre": (0, False, False, _CENTRE, _CENTRE),
}
VIEWS = tuple(_VIEWS)
# By how much a view must score higher than the film as it is (scores are near 0 or 1). No phantom
# reaches 0.1; of 5,232 real films one in 40 reaches this, and the last of them are still cut films.
_MARGIN = 0.4
_FOLDS = 5
_SAMPLE = 2_500  # films the model learns from
_RIDGE = 0.01  # of the mean variance
_FLAT = 3.0  # gray levels that compression may leave in a frame of one gray
_FRAME = 0.1  # of the film; what is narrower is the collimator's edge


@dataclass(frozen=True, eq=False)
class Postures:
    """How each of n films lies."""

    view: np.ndarray  # str (n,), one of VIEWS
    margin: np.ndarray  # float (n,), how much more the view convinces than the film as it is
    frame: np.ndarray  # float (n,), share of the film that is an even frame, 0-1


def judge(thumbnails: np.ndarray) -> Postures:
    """Judge how films lie, each by a model fitted to the others.

    Args:
        thumbnails: uint8 (n, side, side).
    """
    frame = _frames(thumbnails)
    if len(thumbnails) < 2 * _FOLDS:
        return Postures(np.full(len(frame), AS_IT_IS), np.zeros(len(frame)), frame)
    scores = _scores(thumbnails)
    margin = scores.max(axis=1) - scores[:, 0]
    best = np.where((margin >= _MARGIN) & (frame < _FRAME), scores.argmax(axis=1), 0)
    return Postures(np.array(VIEWS)[best], margin, frame)


def _scores(thumbnails: np.ndarray) -> np.ndarray:
    """Return the scores (n, views) of a ridge regression on the views, fitted in folds."""
    number = len(thumbnails)
    rng = np.random.default_rng(0)
    order = rng.permutation(number)
    fold = np.empty(number, np.int64)
    fold[order] = np.arange(number) % _FOLDS
    sample = order[:_SAMPLE]
    shown = np.stack([unit(_view(thumbnails[sample], name)) for name in VIEWS])
    inside = [shown[:, fold[sample] == k] for k in range(_FOLDS)]
    flat = [part.reshape(-1, part.shape[-1]) for part in inside]
    squares = np.stack([part.T @ part for part in flat])
    sums = np.stack([part.sum(axis=1).T for part in inside])

    films = unit(_view(thumbnails, AS_IT_IS))
    scores = np.empty((number, len(VIEWS)), np.float32)
    for k in range(_FOLDS):
        square, total = squares.sum(axis=0) - squares[k], sums.sum(axis=0) - sums[k]
        ridge = _RIDGE * np.trace(square) / len(square) * np.eye(len(square), dtype=np.float32)
        scores[fold == k] = films[fold == k] @ np.linalg.solve(square + ridge, total)
    return scores


def _view(thumbnails: np.ndarray, name: str) -> np.ndarray:
    """Return films in one view, float32 (n, _SIDE, _SIDE)."""
    turns, mirrored, inverted, columns, rows = _VIEWS[name]
    side = thumbnails.shape[1]
    films = _averaging(side, rows) @ thumbnails.astype(np.float32) @ _averaging(side, columns).T
    films = np.rot90(films, turns, (1, 2))
    films = films[:, :, ::-1] if mirrored else films
    return 255 - films if inverted else films


def _averaging(side: int, shown: tuple[float, float]) -> np.ndarray:
    """Return the matrix (_SIDE, side) that averages a stretch of ``side`` pixels into _SIDE."""
    edges = side * np.linspace(*shown, _SIDE + 1)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(side)
    covered = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)


def _frames(thumbnails: np.ndarray) -> np.ndarray:
    """Return the share of each film that is rows and columns of one gray at its edges."""
    height = _within(thumbnails)
    width = _within(thumbnails.transpose(0, 2, 1))
    return 1 - height * width


def _within(films: np.ndarray) -> np.ndarray:
    """Return the share of the rows between the even ones at the top and at the bottom."""
    values = films.astype(np.float32)
    flat = np.ptp(values, axis=2) <= _FLAT
    rows = films.shape[1]
    top = np.where(flat.all(axis=1), rows, np.argmin(flat, axis=1))
    bottom = np.where(flat.all(axis=1), 0, np.argmin(flat[:, ::-1], axis=1))
    return np.clip(rows - top - bottom, 0, rows) / rows
