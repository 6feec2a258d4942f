"""Turns films of more than 8 bits into uint8: 16-bit levels, their range, and the table between.

All arithmetic is done on a table of the 65,536 possible levels, not on the pixels: it is exact,
fast, and needs one byte a pixel.
"""

import cv2
import numpy as np

LEVELS = 65_536
CUT = 0.001  # share of the pixels that may lie beyond either end of a film's own range


def as_levels(pixels: np.ndarray) -> np.ndarray:
    """Return any kind of pixel as uint16 levels of the same order and shape.

    Integers up to 16 bit map one to one (signed ones shifted by 32,768); wider integers and
    floats are spread over the levels from their smallest to their largest finite value.
    """
    kind, width = pixels.dtype.kind, pixels.dtype.itemsize
    if kind in "ub" and width <= 2:
        return pixels.astype(np.uint16, copy=False)
    if kind == "i" and width <= 2:
        return pixels.astype(np.uint16) ^ np.uint16(0x8000)
    spread = pixels.astype(np.float32)
    finite = np.isfinite(spread)
    if not finite.any():
        return np.zeros(pixels.shape, np.uint16)
    low, high = float(spread[finite].min()), float(spread[finite].max())
    spread = np.nan_to_num(spread, nan=low, posinf=high, neginf=low)
    return ((spread - low) * ((LEVELS - 1) / max(high - low, 1e-30))).astype(np.uint16)


def count(levels: np.ndarray) -> np.ndarray:
    """Return how many pixels have each level: float32 (65536,)."""
    return cv2.calcHist([levels], [0], None, [LEVELS], [0, LEVELS]).ravel()


def own_range(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return the range of values that a film fills, one in a thousand cut at either end.

    The cut keeps dead pixels and burned-in letters from setting the contrast of the lung, which
    they do under plain minimum and maximum; it is small enough to leave the lung untouched.

    Args:
        values: (65536,) the value each level stands for.
        counts: (65536,) how many pixels of the film have it.
    """
    present = np.flatnonzero(counts)
    order = present[np.argsort(values[present], kind="stable")]
    share = np.cumsum(counts[order], dtype=np.float64)
    share /= share[-1]
    low = values[order[np.searchsorted(share, CUT, side="right")]]
    high = values[order[np.searchsorted(share, 1 - CUT)]]
    if low == high:  # nearly all of it is one value: then the rest is what there is to see
        low, high = values[order[0]], values[order[-1]]
    return float(low), float(high)


def ramp(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Return uint8 (65536,): each value's gray, 0 at ``black`` and 255 at ``white``."""
    if white == black:
        return np.zeros(LEVELS, np.uint8)
    share = (values.astype(np.float64) - black) / (white - black)
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def through(table: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return uint8 (height, width): every pixel's level looked up in a table of 65,536 grays."""
    return cv2.LUT(levels, table)
