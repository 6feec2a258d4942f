"""Opens a file, decides by its content what it is, and hands it to the reader for that."""

import stat
import struct
from pathlib import Path, PurePath

import numpy as np

from cxr_core.images import raster
from cxr_core.images import square as squares
from cxr_core.images.radiograph import COPY_AGAIN, EXPORT_AGAIN, MAX_BYTES, Radiograph, refusal

_FORMAT_OF_SUFFIX = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
}
# Lower-case suffixes worth trying in a folder; "" because DICOM files often have none.
SUFFIXES: frozenset[str] = frozenset({*_FORMAT_OF_SUFFIX, ""})

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)
# What decoding at a reduced scale must leave for one pixel of the square: the decoder's way of
# shrinking differs from averaging over areas, and the less so the more is left to average.
_SPARE = 2
_FOREIGN_MAGIC = (
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
)


def could_be_film(path: Path) -> bool:
    """Tell if a file is worth reading, without reading it whole.

    Decided by the suffix; without one, as scanners name DICOM files, by DICOM's preamble. A file
    that cannot be opened counts, so that reading it says what is wrong.
    """
    suffix = path.suffix.lower()
    if suffix and not suffix[1:].isdigit():  # 1.2.840.10008 has no suffix, it is a DICOM UID
        return suffix in SUFFIXES
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return True


def read(source: Path | bytes, name: str = "", *, square: int | None = None) -> Radiograph:
    """Read one film.

    Args:
        source: the file, or its bytes (an upload).
        name: the file's name as people know it; taken from the path where it is empty. Its
            suffix, where it is one of SUFFIXES, must agree with the content.
        square: side, px, of the square that the film is read for, where nothing finer is needed of
            it. JPEGs of at least four times as many pixels a side are then decoded at a reduced
            scale, which takes a fraction of the time and memory; see :attr:`Radiograph.scale`.

    Returns:
        The film, with its notes. What is not needed to show it is not kept, DICOM's patient
        module least of all.

    Raises:
        UnreadableImageError: the file is no film this app can show; the text says why.
    """
    data, name, kind = _open(source, name)
    if square is not None and kind == "JPEG":
        reduced = raster.read_reduced(data, name, _SPARE * square)
        if reduced is not None:
            return reduced
    return _decode(data, name, kind)


def read_square(
    source: Path | bytes, name: str = "", *, size: int, fit: str, clahe: float = 0.0
) -> np.ndarray:
    """Read one film as the square that a network sees, where nothing else of it is needed.

    Args:
        source: as for :func:`read`, like ``name``.
        name: the file's name as people know it.
        size: as for :func:`cxr_core.images.to_square`, like the rest.
        fit: 'squash', 'letterbox' or 'crop'.
        clahe: clip limit, 0 is off.

    Returns:
        uint8 (size, size): what ``to_square(read(source), ...)`` gives, or, of a JPEG decoded at a
        reduced scale, within one gray level of it on average.

    Raises:
        UnreadableImageError: as for :func:`read`.
        ValueError: another word for ``fit``.
    """
    # A centre square begins anywhere, the pixels of a reduced film do not.
    film = read(source, name, square=None if fit == "crop" else size)
    return squares.of_film(film, size, fit, clahe)


def _open(source: Path | bytes, name: str) -> tuple[bytes, str, str]:
    """Return a file's bytes, its name, and its format by content."""
    shown = PurePath(name) if name or isinstance(source, bytes) else source
    name = shown.name or "The file"
    if isinstance(source, bytes):
        data = source
        _check_bytes(name, len(data))
    else:
        data = _load(source, name)
    kind = _recognise(data)
    expected = _FORMAT_OF_SUFFIX.get(shown.suffix.lower())
    if kind is None:
        content = _foreign(data)
        if expected == "DICOM" and content is None:
            raise refusal(name, "is no DICOM file, or its beginning is damaged", EXPORT_AGAIN)
        raise refusal(
            name,
            f"holds {content or 'no picture that this app knows'}",
            "Films are read from PNG, JPEG, BMP, TIFF, WebP and DICOM files.",
        )
    if expected not in (None, kind):
        raise refusal(
            name,
            f"is named like a {expected} file but holds {kind}",
            "Give it the right suffix if you trust it, or export it again.",
        )
    return data, name, kind


def _decode(data: bytes, name: str, kind: str) -> Radiograph:
    if kind != "DICOM":
        return raster.read(data, name, kind)
    # Imported on need: a folder of JPEGs should not wait half a second for pydicom.
    from cxr_core.images import dicom

    return dicom.read(data, name)


def _load(path: Path, name: str) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise refusal(name, "is no file but a folder or a device", "Choose a file.")
        _check_bytes(name, status.st_size)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise refusal(name, "is not there", "Check its path.") from error
    except OSError as error:
        raise refusal(
            name, f"cannot be opened ({error.strerror})", "Check the permissions and the disk."
        ) from error


def _check_bytes(name: str, size: int) -> None:
    if size == 0:
        raise refusal(name, "is empty (0 bytes)", COPY_AGAIN)
    if size > MAX_BYTES:
        raise refusal(
            name,
            f"has {size // 10**6} MB, more than the limit of {MAX_BYTES // 10**6} MB",
            "Export the one film, at a lower resolution.",
        )


def _recognise(data: bytes) -> str | None:
    """Return the format by content, None for what this app does not read."""
    # DICOM first: its 128 free bytes at the start may imitate any other format.
    if data[128:132] == b"DICM":
        return "DICOM"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    return "DICOM" if _starts_like_dicom(data) else None


def _starts_like_dicom(data: bytes) -> bool:
    """Whether a file without DICOM's preamble begins with an element of group 2 or 8."""
    if len(data) < 8:
        return False
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    for layout in ("<HHI", ">HHI"):
        group, element, length = struct.unpack(layout, data[:8])
        if group in (2, 8) and element <= 0x0100 and (explicit or 0 < length < len(data)):
            return True
    return False


def _foreign(data: bytes) -> str | None:
    """Name what a file holds that is no film, so that the refusal can say it."""
    for magic, words in _FOREIGN_MAGIC:
        if data.startswith(magic):
            return words
    if data[4:8] == b"ftyp":
        return "a HEIC picture or a video"
    beginning = data[:512]
    if beginning.isascii() and all(c.isprintable() or c.isspace() for c in beginning.decode()):
        return "text"
    return None
