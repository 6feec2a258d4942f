"""Bytes or a path -> Radiograph: one gray film of 8 bits, and what was done to make it so.

``read`` decides by content whether a file is a picture (``raster``) or DICOM (``dicom``), and
refuses what it cannot show faithfully, with a sentence for the person who chose the file.
"""

from cxr_core.images.radiograph import MAX_BYTES, MAX_PIXELS, MIN_SIDE, Radiograph
from cxr_core.images.reader import SUFFIXES, could_be_film, read, read_square
from cxr_core.images.square import Squares, from_square, of_film, to_square

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "SUFFIXES",
    "Radiograph",
    "Squares",
    "could_be_film",
    "from_square",
    "of_film",
    "read",
    "read_square",
    "to_square",
]
