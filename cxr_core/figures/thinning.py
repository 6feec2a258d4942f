"""Which points of a long series to draw: a page must not slow down as a run grows."""

import numpy as np

MOST_POINTS = 1500  # a trace; a chart is some 500 px wide


def thin(points: int) -> np.ndarray:
    """Return the indices to draw of a line: all, or evenly spaced ones with both ends."""
    return np.linspace(0, points - 1, min(points, MOST_POINTS)).round().astype(int)


def envelope(values: np.ndarray) -> np.ndarray:
    """Return the indices to draw of a noisy series: all, or the lowest and highest of each bin.

    What stands out of a series is what a reader looks for, and every n-th point would miss it.

    Args:
        values: finite, shape (n,), in the order of drawing.

    Returns:
        Ascending indices, at most :data:`MOST_POINTS`, the first and the last of all among them.
    """
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    bins = np.array_split(values[1:-1], (MOST_POINTS - 2) // 2)
    starts = 1 + np.cumsum([0, *(len(part) for part in bins[:-1])])
    lowest = starts + [int(part.argmin()) for part in bins]
    highest = starts + [int(part.argmax()) for part in bins]
    return np.unique(np.r_[0, lowest, highest, len(values) - 1])
