"""Reads PNG, JPEG, BMP, TIFF and WebP: Pillow looks at the header, OpenCV decodes the pixels."""

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, WebPImagePlugin

from cxr_core.images import codestream
from cxr_core.images.levels import LEVELS, as_levels, count, own_range, ramp, through
from cxr_core.images.radiograph import (
    COPY_AGAIN,
    EXPORT_AGAIN,
    MAX_PIXELS,
    Radiograph,
    check_amount,
    check_size,
    refusal,
)

# Both plug-ins are loaded here because Pillow would load all sixty of its own to find them.
_PLUGINS = (TiffImagePlugin, WebPImagePlugin)

# OpenCV prints what its decoders think of a damaged file; the refusal is what people need.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_BLOCK = 1_000_000  # pixels converted at a time
# Decoding at a fraction of the scale, by its denominator: gray, and in colour.
_REDUCED = {
    2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
    4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
    8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
}
_ORIENTATION = 274  # the tag's number in EXIF and TIFF
_PHOTOMETRIC = 262
_STRIP_OFFSETS, _STRIP_BYTES = 273, 279
_TILE_OFFSETS, _TILE_BYTES = 324, 325
# EXIF 2.32, 4.6.4.A: what to do to the stored rows and columns to see the picture upright.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: np.rot90(np.fliplr(pixels)),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(np.fliplr(pixels), -1),
    8: np.rot90,
}


@dataclass(frozen=True)
class _Header:
    """What Pillow reads of a file without decoding it."""

    width: int
    height: int
    mode: str  # Pillow's: "L", "RGB", "P", "I;16", ...
    animated: bool
    orientation: int  # EXIF's 1-8; 1 is upright
    white_is_zero: bool
    extent: int  # bytes that the file must have for its strips or tiles; 0 where not known


def read(data: bytes, name: str, kind: str) -> Radiograph:
    """Read a picture whose format is known to be ``kind``.

    Gray pictures of 8 bit come out as stored. Deeper ones are scaled by their own range
    (:func:`cxr_core.images.levels.own_range`), since the bits that films fill vary from 10 to
    16. Colour becomes luma (ITU-R BT.601); what is transparent becomes black.

    Raises:
        UnreadableImageError: see :func:`cxr_core.images.read`.
    """
    header = _checked_header(data, name, kind)
    pixels = _decode(data, name, kind, cv2.IMREAD_UNCHANGED)

    notes: list[str] = []
    mode = _mode(header.mode, pixels)
    if pixels.dtype != np.uint8:
        pixels = as_levels(pixels)
    gray, colour = _to_gray(pixels, notes)
    if gray.dtype != np.uint8:
        if header.white_is_zero:  # OpenCV inverts such files itself, but only those of 8 bit
            gray = np.uint16(LEVELS - 1) - gray
        gray = _by_own_range(gray)
        notes.append("Scaled to 8 bit by the film's own range, 0.1 % cut at either end.")
    if header.white_is_zero:
        notes.append("The file stores white as zero: inverted.")
    if header.orientation in _UPRIGHT:
        if kind != "TIFF":  # OpenCV turns those itself
            gray = np.ascontiguousarray(_UPRIGHT[header.orientation](gray))
        notes.append("Turned upright as the file's orientation tag says.")
    return Radiograph(gray, name, kind, mode, tuple(notes), colour=colour)


def read_reduced(data: bytes, name: str, side: int) -> Radiograph | None:
    """Decode a JPEG at a half, a quarter or an eighth, in a fraction of the time and memory.

    Args:
        data: a JPEG.
        name: of the film, for the refusal.
        side: how many pixels each side must keep.

    Returns:
        The film at that scale. None where it is too small to be reduced, or is one that has to be
        read whole: stored lying, or as CMYK.

    Raises:
        UnreadableImageError: see :func:`cxr_core.images.read`.
    """
    shape = codestream.shape(data)  # cheap, and enough for most films
    if shape is None or min(shape[:2]) < min(_REDUCED) * side:
        return None
    header = _checked_header(data, name, "JPEG")
    shortest = min(header.height, header.width)
    scale = max((n for n in _REDUCED if shortest >= n * side), default=1)
    if scale == 1 or header.mode not in ("L", "RGB") or header.orientation in _UPRIGHT:
        return None
    pixels = _decode(data, name, "JPEG", _REDUCED[scale][header.mode == "RGB"])
    if pixels.shape[:2] != (-(-header.height // scale), -(-header.width // scale)):
        return None
    notes: list[str] = []
    mode = _mode(header.mode, pixels)
    gray, colour = _to_gray(pixels, notes)
    whole = (header.height, header.width)
    return Radiograph(
        gray, name, "JPEG", mode, tuple(notes), colour=colour, scale=scale, whole=whole
    )


def _checked_header(data: bytes, name: str, kind: str) -> _Header:
    """Return the header of a picture that is worth decoding, else raise its refusal."""
    header = _header(data, name, kind)
    if header.animated:
        raise refusal(
            name,
            f"is a {kind} with several pictures, and which one is the film is not known",
            "Export the one film as a file of its own.",
        )
    check_size(name, header.width, header.height)
    check_amount(name, header.width * header.height, len(data))
    if not _is_whole(data, kind, header):
        raise refusal(name, "is cut off or damaged: part of its data is missing", COPY_AGAIN)
    return header


def _header(data: bytes, name: str, kind: str) -> _Header:
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
            return _Header(
                width=image.width,
                height=image.height,
                mode=image.mode,
                # A phone's JPEG may carry previews behind the picture ("MPO"): no animation.
                animated=kind != "JPEG" and getattr(image, "is_animated", False),
                orientation=_orientation(image),
                white_is_zero=tags.get(_PHOTOMETRIC) == 0,
                extent=max(
                    _extent(tags.get(_STRIP_OFFSETS), tags.get(_STRIP_BYTES)),
                    _extent(tags.get(_TILE_OFFSETS), tags.get(_TILE_BYTES)),
                ),
            )
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise refusal(
            name,
            f"has more than {MAX_PIXELS // 10**6} megapixels",
            "Export it at a lower resolution.",
        ) from error
    except Exception as error:  # Pillow's parsers let many kinds through on damaged headers
        raise refusal(
            name, f"begins like a {kind} file, but its header cannot be read", EXPORT_AGAIN
        ) from error


def _orientation(image: Image.Image) -> int:
    if "exif" not in image.info and not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1  # the common case, spared the search
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data is no reason to refuse the picture
        return 1


def _extent(offsets: object, lengths: object) -> int:
    if not isinstance(offsets, tuple) or not isinstance(lengths, tuple):
        return 0
    return max((o + n for o, n in zip(offsets, lengths, strict=False)), default=0)


def _is_whole(data: bytes, kind: str, header: _Header) -> bool:
    """Whether all data is there, as far as the format lets one see without decoding."""
    if kind == "JPEG":
        return codestream.jpeg_is_whole(data)
    if kind == "PNG":
        return _png_is_whole(data)
    if kind == "WEBP":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return len(data) >= header.extent


def _png_is_whole(data: bytes) -> bool:
    """Whether every chunk up to IEND is there, and those that hold the picture are unharmed.

    Decoders warn of a wrong checksum and go on (PNG 3rd edition, 5.3 and 13.2). In ancillary
    chunks (first letter in lower case, 5.4) damage is harmless.
    """
    whole = memoryview(data)
    at = 8
    while at + 12 <= len(whole):
        end = at + 12 + int.from_bytes(whole[at : at + 4])
        if end > len(whole):
            return False
        kind, checksum = bytes(whole[at + 4 : at + 8]), int.from_bytes(whole[end - 4 : end])
        ancillary = bool(kind[0] & 0x20)
        if not ancillary and zlib.crc32(whole[at + 4 : end - 4]) != checksum:
            return False
        if kind == b"IEND":
            return True
        at = end
    return False


def _decode(data: bytes, name: str, kind: str, how: int) -> np.ndarray:
    """Return the stored pixels: (height, width) or (height, width, 3 or 4), BGR order."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except (cv2.error, MemoryError) as error:
        raise _undecodable(name, kind) from error
    if pixels is None or pixels.ndim not in (2, 3):
        raise _undecodable(name, kind)
    return pixels


def _undecodable(name: str, kind: str) -> Exception:
    return refusal(
        name, f"is a damaged {kind} file, or an uncommon kind that cannot be decoded", EXPORT_AGAIN
    )


def _mode(pillow_mode: str, pixels: np.ndarray) -> str:
    if pillow_mode == "1":
        return "gray 1 bit"
    if pillow_mode in ("P", "PA"):
        kind = "palette"
    elif pillow_mode in ("L", "LA", "La", "F") or pillow_mode.startswith("I"):
        kind = "gray"
    else:
        kind = "colour"
    alpha = " with alpha" if pillow_mode.endswith(("A", "a")) else ""
    return f"{kind} {8 * pixels.dtype.itemsize} bit{alpha}"


def _to_gray(pixels: np.ndarray, notes: list[str]) -> tuple[np.ndarray, float]:
    """Return (height, width) of the same depth, and the mean spread in gray levels of 255."""
    if pixels.ndim == 2:
        return pixels, 0.0
    height, width = pixels.shape[:2]
    full = np.iinfo(pixels.dtype).max
    gray = np.empty((height, width), pixels.dtype)
    spread, transparent = 0.0, False
    rows = max(1, _BLOCK // width)  # in blocks, to hold one copy of a large film and not five
    for top in range(0, height, rows):
        block = pixels[top : top + rows]
        colours = cv2.cvtColor(block, cv2.COLOR_BGRA2BGR) if block.shape[2] == 4 else block
        luma = cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY)
        if cv2.norm(cv2.cvtColor(luma, cv2.COLOR_GRAY2BGR), colours, cv2.NORM_INF) > 0:
            spread += _spread(colours) * luma.size
        if block.shape[2] == 4 and (alpha := cv2.extractChannel(block, 3)).min() < full:
            luma = cv2.multiply(luma, alpha, scale=1 / full)
            transparent = True
        gray[top : top + rows] = luma
    colour = spread / gray.size * 255 / full
    notes.append(
        f"Colour picture, its channels {colour:.1f} gray levels apart on average: "
        "converted to gray."
        if colour > 0
        else "A gray film stored in colour."
    )
    if transparent:
        notes.append("Transparent parts are shown as black.")
    return gray, colour


def _spread(colours: np.ndarray) -> float:
    """Return the mean difference between the largest and the smallest channel of a pixel."""
    blue, green, red = cv2.split(colours)
    largest, smallest = cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red)
    return float(cv2.mean(cv2.subtract(largest, smallest))[0])


def _by_own_range(levels: np.ndarray) -> np.ndarray:
    values = np.arange(LEVELS)
    return through(ramp(values, *own_range(values, count(levels))), levels)
