"""Damaged PNG, JPEG and DICOM bytes: each ends in a film or in the reader's own error.

Within two seconds of work and one GiB of memory each, as a file must not keep others waiting. The
work is counted in the processor's time, not by the clock, so that a busy machine is no failure; run
with -s to see both.
"""

import random
import resource
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pydicom.data
import pytest

from cxr_core import images
from cxr_core.errors import UnreadableImageError

INPUTS = 5000
MOST_WORK = 2.0  # seconds of the processor
MOST_MEMORY = 1024  # MiB
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
DICOM_SEEDS = [
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "JPGExtended.dcm",
    "JPEG2000.dcm",
    "CT_small.dcm",
    "image_dfl.dcm",
    "dicomdirtests/77654033/CR1/6154",
]
EXTREMES = [b"\0\0", b"\xff\xff", b"\x7f\xff", b"\x80\0", b"\0\0\0\0", b"\xff\xff\xff\xff"]


def picture_seeds() -> list[bytes]:
    ramp = np.add.outer(np.arange(60), np.arange(80)).astype(np.uint8)
    colour = cv2.applyColorMap(ramp, cv2.COLORMAP_JET)
    pictures = [
        (".png", ramp, []),
        (".png", ramp.astype(np.uint16) * 200, []),
        (".png", cv2.cvtColor(colour, cv2.COLOR_BGR2BGRA), []),
        (".jpg", ramp, []),
        (".jpg", colour, []),
        (".jpg", colour, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".jpg", ramp, [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]),
    ]
    return [cv2.imencode(kind, pixels, options)[1].tobytes() for kind, pixels, options in pictures]


def with_checksums(png: bytes) -> bytes:
    """Mend the checksums of a damaged PNG, so that the damage gets past them."""
    data = bytearray(png)
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if end > len(data):
            break
        data[end - 4 : end] = zlib.crc32(data[at + 4 : end - 4]).to_bytes(4)
        at = end
    return bytes(data)


def damage(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to six injuries: flipped bits, extreme numbers, cuts, repeats, parts of another file."""
    mutant = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        # Half of them hit the beginning, where headers decide what the rest means.
        at = chance.randrange(min(len(mutant), 700) if chance.random() < 0.5 else len(mutant))
        length = chance.randint(1, 64)
        match chance.randrange(7):
            case 0 | 1:
                mutant[at] ^= 1 << chance.randrange(8)
            case 2:
                value = chance.choice(EXTREMES)
                mutant[at : at + len(value)] = value
            case 3:
                mutant[at : at + length] = chance.randbytes(length)
            case 4:
                del mutant[at : at + length]
            case 5:
                mutant[at:at] = mutant[at : at + length]
            case 6:
                start = chance.randrange(len(other))
                mutant[at : at + length] = other[start : start + length]
        if not mutant:
            return b""
    if chance.random() < 0.1:
        del mutant[chance.randrange(len(mutant)) :]
    if mutant.startswith(b"\x89PNG") and chance.random() < 0.7:
        return with_checksums(bytes(mutant))
    return bytes(mutant)


def mutants(count: int, seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    pictures = picture_seeds()
    dicom = [(TEST_FILES / name).read_bytes() for name in DICOM_SEEDS]
    for number in range(count):
        family = dicom if number % 2 else pictures
        yield damage(chance.choice(family), chance.choice(family), chance)


def peak_memory() -> float:
    """The largest memory this process ever had, or has had since it was forgotten, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak_memory() -> None:
    """Begin to measure anew: tests before this one may have needed more."""
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_end_in_a_film_or_in_the_readers_own_error():
    films, hardest = 0, 0.0
    forget_peak_memory()
    memory_before = peak_memory()
    for number, data in enumerate(mutants(INPUTS, seed=7)):
        start = time.process_time()
        try:
            film = images.read(data, name="mutant")
        except UnreadableImageError as error:
            assert str(error).startswith("mutant "), error
        except Exception as error:
            raise AssertionError(f"input {number} of seed 7 got past the reader") from error
        else:
            films += 1
            assert film.pixels.dtype == np.uint8
            assert film.pixels.ndim == 2
            assert film.width * film.height <= images.MAX_PIXELS
        hardest = max(hardest, time.process_time() - start)
    added = peak_memory() - memory_before
    print(f"{INPUTS} inputs, {films} read, hardest {hardest:.2f} s, {added:.0f} MiB at most")
    assert 0 < films < INPUTS, "damage that never or always shows tests nothing"
    assert hardest < MOST_WORK
    assert added < MOST_MEMORY
