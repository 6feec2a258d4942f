"""What every reader of films shares: the result, the limits, and the form of a refusal."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cxr_core.errors import UnreadableImageError

# The largest plate, 43 x 43 cm, digitised at 54 µm. Reading the worst kind of file of this size
# (16 bit, four channels) takes just under 1 GiB.
MAX_PIXELS = 64_000_000
MIN_SIDE = 8  # px; what is smaller is an icon or a damaged header
MAX_BYTES = 400_000_000  # MAX_PIXELS, three channels of 16 bit, uncompressed

# A film has noise: the hardest compression leaves about 100 pixels a byte. Small pictures are
# spared the question, since an evenly gray one of 1000 x 1000 px does fit into 1 kB.
_PIXELS_A_BYTE = 500
_SMALL = 2_000_000  # pixels

EXPORT_AGAIN = "Export it again as PNG, JPEG or DICOM."
COPY_AGAIN = "Copy or export it again."


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One film as the app shows it and the models see it."""

    pixels: np.ndarray  # uint8 (height, width), 0 black to 255 white; see `scale`
    name: str  # the file's name as shown to people, without its folder
    format: str  # PNG, JPEG, BMP, TIFF, WEBP or DICOM
    mode: str  # how the file stores it: "gray 8 bit", "gray 12 bit", "colour 8 bit", ...
    notes: tuple[str, ...] = ()  # what was done, in sentences
    # The allow-list of DICOM tags, as text; {} for other formats and where a tag is missing.
    tags: Mapping[str, str] = field(default_factory=dict)
    colour: float = 0.0  # mean spread between the colour channels, gray levels 0-255
    burned_in: bool = False  # whether its header says that the pixels hold text, perhaps a name

    # Decoded at a half, a quarter or an eighth: how many times smaller, each side of the pixels
    # rounded up, and the film's own (height, width).
    scale: int = 1
    whole: tuple[int, int] | None = None

    @property
    def width(self) -> int:
        """Width of the film in pixels."""
        return int((self.whole or self.pixels.shape)[1])

    @property
    def height(self) -> int:
        """Height of the film in pixels."""
        return int((self.whole or self.pixels.shape)[0])


def refusal(name: str, why: str, mend: str) -> UnreadableImageError:
    """Return the error that says which file, why, and what to do."""
    return UnreadableImageError(f"{name} {why}. {mend}")


def check_size(name: str, width: int, height: int) -> None:
    """Refuse a picture by its header, before memory is spent on its pixels.

    Raises:
        UnreadableImageError: a side below MIN_SIDE, or more than MAX_PIXELS.
    """
    if min(width, height) < MIN_SIDE:
        raise refusal(
            name,
            f"is {width} x {height} px, too small to be a film",
            f"Use the original, at least {MIN_SIDE} px on each side.",
        )
    if width * height > MAX_PIXELS:
        raise refusal(
            name,
            f"is {width} x {height} px, more than {MAX_PIXELS // 10**6} megapixels",
            "Export it at a lower resolution.",
        )


def check_amount(name: str, pixels: int, stored: int) -> None:
    """Refuse a large picture that has hardly any data, before it is decoded for nothing.

    Args:
        name: the file's name.
        pixels: how many the header promises.
        stored: bytes of compressed data there are.

    Raises:
        UnreadableImageError: most of the data is missing, or was made to fill the memory.
    """
    if pixels > _SMALL and pixels > _PIXELS_A_BYTE * stored:
        raise refusal(
            name,
            f"is damaged: its header promises {pixels / 10**6:.0f} megapixels, "
            f"but it has only {stored / 1000:.0f} kB of them",
            COPY_AGAIN,
        )
