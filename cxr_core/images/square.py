"""Fits films of any proportions into the network's square, and maps of the square back onto them.

Both directions go through one pair of boxes, so that they cannot disagree.
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class _Box:
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


def to_square(pixels: np.ndarray, size: int, fit: str) -> np.ndarray:
    """Fit a film into a square.

    Args:
        pixels: uint8 (height, width).
        size: side of the square, px.
        fit: 'squash' stretches the film to the square; 'letterbox' keeps its proportions and
            pads with black; 'crop' keeps them and cuts the centre square.

    Returns:
        uint8 (size, size); averaged over areas where it shrinks, linear where it grows.

    Raises:
        ValueError: another word for ``fit``.
    """
    film, place = _boxes((pixels.shape[0], pixels.shape[1]), size, fit)
    square = np.zeros((size, size), np.uint8)
    square[place.slices] = _resize(pixels[film.slices], place)
    return square


def from_square(map: np.ndarray, shape: tuple[int, int], fit: str) -> np.ndarray:
    """Lay a map of the square back onto the film it was computed from.

    Args:
        map: float (size, size), any scale, with the size given to :func:`to_square`.
        shape: (height, width) of the film, px.
        fit: as given to :func:`to_square`.

    Returns:
        float32 (height, width), aligned with the film's pixels; 0 where the square did not see
        the film (crop).

    Raises:
        ValueError: another word for ``fit``.
    """
    film, place = _boxes(shape, map.shape[0], fit)
    whole = np.zeros(shape, np.float32)
    seen = np.ascontiguousarray(map[place.slices], dtype=np.float32)
    whole[film.slices] = _resize(seen, film)
    return whole


def _boxes(shape: tuple[int, int], size: int, fit: str) -> tuple[_Box, _Box]:
    """Return the part of the film that is seen, and the part of the square it fills."""
    height, width = shape
    film, place = _Box(0, 0, height, width), _Box(0, 0, size, size)
    if fit == "letterbox":
        longest = max(shape)
        rows = max(1, round(height * size / longest))
        columns = max(1, round(width * size / longest))
        place = _Box((size - rows) // 2, (size - columns) // 2, rows, columns)
    elif fit == "crop":
        side = min(shape)
        film = _Box((height - side) // 2, (width - side) // 2, side, side)
    elif fit != "squash":
        raise ValueError(f"fit must be squash, letterbox or crop, not {fit!r}")
    return film, place


def _resize(pixels: np.ndarray, box: _Box) -> np.ndarray:
    """Resize to a box's height and width, each axis by what suits it."""
    height, width = pixels.shape
    if box.height < height or box.width < width:
        # OpenCV averages areas only if neither axis grows, so the shrinking goes first.
        smaller = (min(box.width, width), min(box.height, height))
        pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    if pixels.shape != (box.height, box.width):
        pixels = cv2.resize(pixels, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
    return pixels
