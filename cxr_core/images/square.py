"""Fits films of any proportions into the network's square, and maps of the square back onto them.

Both directions go through one pair of boxes, so that they cannot disagree.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

if TYPE_CHECKING:  # exports carry this file away: it needs nothing else of the package
    from cxr_core.images.radiograph import Radiograph

_GRID = 8  # tiles a side for CLAHE


class Squares(Protocol):
    """Films of one size, uint8 ``(n, size, size)``: an array in memory, or a file of them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of films, height and width in px."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return the films in these rows, uint8 ``(b, size, size)``."""


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


def to_square(pixels: np.ndarray, size: int, fit: str, clahe: float = 0.0) -> np.ndarray:
    """Fit a film into a square: the one way from a film to what a network sees.

    Args:
        pixels: uint8 (height, width).
        size: side of the square, px.
        fit: 'squash' stretches the film to the square; 'letterbox' keeps its proportions and
            pads with black; 'crop' keeps them and cuts the centre square.
        clahe: clip limit of contrast-limited adaptive histogram equalisation on an 8 x 8 grid
            (Zuiderveld 1994), times the mean of a histogram bin; 0 is off. It works on the film as
            it lies in the square, so that one limit means the same to films of every resolution,
            and leaves a letterbox's bars alone.

    Returns:
        uint8 (size, size); averaged over areas where it shrinks, linear where it grows.

    Raises:
        ValueError: another word for ``fit``.
    """
    film, place = _boxes((pixels.shape[0], pixels.shape[1]), size, fit)
    return _in_place(_resize(pixels[film.slices], place), place, size, clahe)


def of_film(film: "Radiograph", size: int, fit: str, clahe: float = 0.0) -> np.ndarray:
    """Fit a film into a square, at whatever scale it was decoded.

    Args:
        film: whole, or at a reduced scale with at least two of its pixels for one of the square.
        size: as for :func:`to_square`, like the rest.
        fit: as for :func:`to_square`; a reduced film cannot be cropped, as a centre square begins
            anywhere and its pixels do not.
        clahe: as for :func:`to_square`.

    Returns:
        uint8 (size, size); of a reduced film within one gray level, on average, of
        :func:`to_square` of the whole.

    Raises:
        ValueError: another word for ``fit``, or a reduced film to be cropped.
    """
    if film.scale == 1:
        return to_square(film.pixels, size, fit, clahe)
    if fit == "crop":
        raise ValueError("a film decoded at a reduced scale cannot be cropped: read it whole")
    pixels, scale = film.pixels, film.scale
    box, place = _boxes((film.height, film.width), size, fit)
    # By the factors and not by the shape they lead to: what the last row and column stand for is
    # less than a whole pixel, and OpenCV's areas then end where the film ends.
    part = cv2.resize(
        pixels,
        None,
        fx=place.width * scale / box.width,
        fy=place.height * scale / box.height,
        interpolation=cv2.INTER_AREA,
    )
    return _in_place(part, place, size, clahe)


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


def _in_place(part: np.ndarray, place: _Box, size: int, clahe: float) -> np.ndarray:
    """Lay the film, resized to its box, into the square; the rest is black."""
    if clahe:
        part = cv2.createCLAHE(clahe, (_GRID, _GRID)).apply(part)
    square = np.zeros((size, size), np.uint8)
    square[place.slices] = part
    return square


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
