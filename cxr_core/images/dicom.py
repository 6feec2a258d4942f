"""Reads DICOM films: decodes one gray frame and takes it through the standard's gray pipeline.

Only the elements listed here are ever parsed, so a patient's name cannot reach a note, an error
or a log. For the same reason no text of pydicom's own is passed on.
"""

import io
import logging
import re
import warnings
import zlib
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.config import IGNORE, settings
from pydicom.encaps import get_frame
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing, get_decoder, pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from cxr_core.errors import UnreadableImageError
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

# pydicom reports odd values by quoting them; what matters of it is said in this app's sentences.
settings.reading_validation_mode = IGNORE
warnings.filterwarnings("ignore", module=r"pydicom\b")
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

# What may be kept of a header, each with the form its value must have to be believed. Free text,
# which might hold a name in the wrong field, fits none of them.
_KEPT = {
    "Modality": r"[A-Z]{2,16}",
    "BodyPartExamined": r"[A-Z][A-Z ]{1,15}",
    "ViewPosition": r"[A-Z]{2,4}",
    "PatientAge": r"\d{3}[DWMY]",
    "PatientSex": r"[MFO]",
}
# PS3.3 C.7.6.3.1.2: words that an error may repeat, because they are none of the patient's.
_COLOUR_MODELS = {
    "RGB",
    "PALETTE COLOR",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_PARTIAL_420",
    "YBR_ICT",
    "YBR_RCT",
}
_PARSED = [
    *_KEPT,
    "PixelSpacing",
    "BurnedInAnnotation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
]


def read(data: bytes, name: str) -> Radiograph:
    """Read a DICOM file of one gray frame.

    The pipeline is that of PS3.3 C.7.6.3 and C.11: modality LUT or rescale, then VOI LUT or
    window, then inversion of MONOCHROME1. The output range of the window becomes 0-255. A film
    of more than 8 bits without a usable window is scaled by its own range.

    Raises:
        UnreadableImageError: see :func:`cxr_core.images.read`.
    """
    dataset = _parse(data, name)
    _check_film(dataset, name)
    _check_coding(dataset, name)
    stored = _decode(dataset, name)
    levels = as_levels(stored)
    notes: list[str] = []
    try:
        table = _gray_table(dataset, stored.dtype.kind == "i", count(levels), notes)
    except Exception:
        raise refusal(
            name, "has a damaged description of its gray scale (modality LUT)", EXPORT_AGAIN
        ) from None
    burned_in = str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES"
    if burned_in:
        notes.append("Text is burned into the pixels; it may name the patient.")
    bits = _whole(dataset, "BitsStored")
    return Radiograph(
        through(table, levels),
        name,
        "DICOM",
        f"gray {bits} bit",
        tuple(notes),
        tags=_kept_tags(dataset),
        burned_in=burned_in,
    )


def _parse(data: bytes, name: str) -> Dataset:
    """Return the elements of _PARSED, with a transfer syntax even where the file names none."""
    damaged = refusal(name, "is a damaged DICOM file: its header cannot be read", EXPORT_AGAIN)
    if DeflatedExplicitVRLittleEndian.encode() in data[:4096]:
        _check_inflated_size(data, name)
    try:
        dataset = dcmread(io.BytesIO(data), force=True, specific_tags=_PARSED)
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            dataset.file_meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian
                if implicit
                else ExplicitVRLittleEndian
                if little
                else ExplicitVRBigEndian
            )
        if not isinstance(dataset.file_meta.TransferSyntaxUID, UID):
            raise damaged
        if "PixelData" not in dataset:
            raise refusal(
                name,
                "holds no picture: it is a report, a plan or a list, or was cut off before "
                "its pixels",
                "Choose the film itself, or copy it again.",
            )
        for keyword in _PARSED:
            dataset.get(keyword)  # converts the value, which fails on damaged ones
    except UnreadableImageError:
        raise
    except Exception:  # pydicom's parser lets many kinds through on damaged files
        raise damaged from None
    return dataset


def _check_inflated_size(data: bytes, name: str) -> None:
    """Refuse a deflated file that would not fit into memory; pydicom inflates without asking."""
    start_of_data = 144 + int.from_bytes(data[140:144], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflater.decompress(data[start_of_data:], 2 * MAX_PIXELS)
    except zlib.error:
        raise refusal(
            name, "is damaged: its compressed part cannot be unpacked", COPY_AGAIN
        ) from None
    if inflater.unconsumed_tail:
        raise refusal(name, "unpacks to more than a film can have", "Export it uncompressed.")


def _check_film(dataset: Dataset, name: str) -> None:
    """Refuse what is no single gray film, by its header."""
    frames = _whole(dataset, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise refusal(
            name,
            f"is a DICOM file with {frames} frames (a series or a video), not a single film",
            "Export the one frame to be read as a file of its own.",
        )
    photometric = dataset.get("PhotometricInterpretation")
    width, height = _whole(dataset, "Columns"), _whole(dataset, "Rows")
    allocated, stored = _whole(dataset, "BitsAllocated"), _whole(dataset, "BitsStored")
    if not photometric or width is None or height is None or allocated is None or stored is None:
        raise refusal(
            name, "is a DICOM file that does not say how its pixels are stored", EXPORT_AGAIN
        )
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or dataset.get("SamplesPerPixel", 1) != 1:
        model = f" ({photometric})" if photometric in _COLOUR_MODELS else ""
        raise refusal(
            name,
            f"is a DICOM file in colour{model}, which X-ray detectors do not make",
            "Use the original film in place of a screenshot or a processed copy.",
        )
    check_size(name, width, height)
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise refusal(
            name,
            f"is a DICOM file with {allocated} bits a pixel ({stored} of them used), as masks and "
            "doses have; films have 8 or 16",
            "Choose the film itself.",
        )


def _check_coding(dataset: Dataset, name: str) -> None:
    """Refuse pixel data that cannot be decoded, or that would decode to another size."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        known = f" ({syntax.name})" if syntax.is_valid and syntax.name != str(syntax) else ""
        raise refusal(
            name,
            f"is compressed in a way that this app cannot decode{known}",
            "Export it uncompressed, or as JPEG 2000 or JPEG lossless.",
        )
    pixel_data = dataset["PixelData"]
    expected = dataset.Rows * dataset.Columns * (dataset.BitsAllocated // 8)
    cut_off = refusal(name, "is cut off: part of its pixel data is missing", COPY_AGAIN)
    damaged = refusal(
        name, "is damaged: its compressed picture does not fit its header", EXPORT_AGAIN
    )
    if not syntax.is_compressed or syntax == DeflatedExplicitVRLittleEndian:
        if pixel_data.is_undefined_length:
            raise damaged
        if len(pixel_data.value) < expected:
            raise cut_off
        return
    try:
        frame = get_frame(pixel_data.value, 0, number_of_frames=1)
    except Exception:
        raise damaged from None
    check_amount(name, dataset.Rows * dataset.Columns, len(frame))
    # No coder makes a film larger than it was; what does is made to fill the memory.
    if len(frame) > 2 * expected + 4096:
        raise damaged
    if syntax != RLELossless and codestream.shape(frame) != (dataset.Rows, dataset.Columns, 1):
        raise damaged


def _decode(dataset: Dataset, name: str) -> np.ndarray:
    """Return the stored values: (height, width), integers of 8 or 16 bits."""
    try:
        pixels = pixel_array(dataset)
    except Exception:  # each plug-in has its own kinds of error
        raise refusal(
            name, "is damaged, or compressed in a way that this app cannot decode", EXPORT_AGAIN
        ) from None
    if pixels.shape != (dataset.Rows, dataset.Columns) or pixels.dtype.itemsize > 2:
        raise refusal(name, "is damaged: its picture does not fit its header", EXPORT_AGAIN)
    return pixels


def _gray_table(dataset: Dataset, signed: bool, counts: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return uint8 (65536,): the gray of every level, by modality, window and photometry."""
    _mend(dataset)
    stored = np.arange(LEVELS) - (LEVELS // 2 if signed else 0)
    padding = _padding(dataset, stored)
    if padding.any() and counts[padding].any():
        notes.append("Padding around the picture is shown as black.")
        counts = np.where(padding, 0, counts) if counts[~padding].any() else counts

    values = apply_modality_lut(stored, dataset)
    if not np.isfinite(values).all():
        raise ValueError("the modality LUT leads to infinite values")
    if not np.array_equal(values, stored):
        notes.append("Stored values rescaled by the modality LUT.")
    table = _windowed(dataset, values, counts, notes)
    if table is None and dataset.BitsStored <= 8:
        bits = int(dataset.BitsStored)
        first = -(2 ** (bits - 1)) if signed else 0
        ends = values[(stored == first) | (stored == first + 2**bits - 1)]
        table = ramp(values, float(ends.min()), float(ends.max()))
    elif table is None:
        table = ramp(values, *own_range(values, counts))
        notes.append("No usable window: scaled by the film's own range, 0.1 % cut at either end.")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        table = 255 - table
        notes.append("MONOCHROME1: inverted, so that bone is white.")
    table[padding] = 0
    return table


def _windowed(
    dataset: Dataset, values: np.ndarray, counts: np.ndarray, notes: list[str]
) -> np.ndarray | None:
    """Return the table under the file's VOI LUT or first window, None where it has no usable one.

    Unusable are those that cannot be computed, such as a width of 0, and those that show a film
    of many values as one even gray.
    """
    try:
        if dataset.get("VOILUTSequence"):
            shown = apply_voi(np.rint(values).astype(np.int64), dataset)
            black, white = float(shown.min()), float(shown.max())
            note = "VOI LUT of the file applied."
        elif dataset.get("WindowWidth") and dataset.get("WindowCenter") is not None:
            with np.errstate(over="ignore"):
                shown = apply_windowing(values, dataset)
                # Beyond its edges a window is flat: what it gives there is its output range.
                black, white = apply_windowing(np.array([-1e12, 1e12]), dataset)
            note = "Window of the file applied."
        else:
            return None
        table = ramp(shown, black, white)
    except Exception:
        return None
    present = np.flatnonzero(counts)
    if np.ptp(table[present]) == 0 and len(present) > 1:
        return None
    notes.append(note)
    return table


def _mend(dataset: Dataset) -> None:
    """Change what pydicom stumbles over in descriptions of the gray scale that are in use."""
    if dataset.get("RescaleSlope") is None or dataset.get("RescaleIntercept") is None:
        for keyword in {"RescaleSlope", "RescaleIntercept"} & set(dataset.dir("Rescale")):
            del dataset[keyword]  # there, but empty
    # pydicom looks tables up in the depth they declare: an 8-bit table of more than 256 entries
    # is misread, a 12-bit one refused. Declared as 16 bit, every table comes out right.
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        for item in dataset.get(keyword) or []:
            entries, first, _ = item.LUTDescriptor
            item.LUTDescriptor = [entries, first, 16]


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Return bool (65536,): the levels that mark places without a picture (PS3.3 C.7.5.1.1.2)."""
    one = _whole(dataset, "PixelPaddingValue")
    if one is None:
        return np.zeros(LEVELS, bool)
    other = _whole(dataset, "PixelPaddingRangeLimit")
    first, last = sorted((one, one if other is None else other))
    return (stored >= first) & (stored <= last)


def _kept_tags(dataset: Dataset) -> dict[str, str]:
    """Return the allow-listed tags whose values have the form they should have."""
    tags = {}
    for keyword, form in _KEPT.items():
        value = str(dataset.get(keyword) or "").strip().upper()
        if re.fullmatch(form, value):
            tags[keyword] = value
    spacing: Any = dataset.get("PixelSpacing")
    try:
        rows, columns = (float(value) for value in spacing)
    except (TypeError, ValueError):
        return tags  # missing, or not two numbers
    if rows > 0 and columns > 0:
        tags["PixelSpacing"] = f"{rows:g} x {columns:g} mm"
    return tags


def _whole(dataset: Dataset, keyword: str) -> int | None:
    """Return an element as a whole number, None where it is missing or none."""
    try:
        return int(dataset.get(keyword))
    except (TypeError, ValueError):
        return None
