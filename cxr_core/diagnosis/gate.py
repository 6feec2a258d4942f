"""The gate: is this file a frontal chest radiograph at all? Asked before any probability is shown.

The cheap layers: what the file's header says (DICOM), its size, its colour and its gray levels.
They catch photographs, drawings, scans of other body parts and empty images; a lateral film or a CT
slice saved as PNG passes them. Behind them stand the layers that know the model's own films, see
`familiar`: whether this one is turned or inverted, and how far it is from them.
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from cxr_core.diagnosis import familiar
from cxr_core.images import Radiograph

INVERT = "invert"
FAR = 10  # times the limit; how far beyond it a picture is says nothing more
UNCHECKED = (
    "Whether this film is turned, inverted or far from those the model learned from was not "
    "checked: the model's bundle holds no statistics of its films."
)

Kind = Literal["file", "exposure", "inverted", "rotated", "view", "distance"]


@dataclass(frozen=True)
class Refusal:
    """One reason why a film is not judged."""

    kind: Kind
    words: str  # a sentence
    mend: str | None = None  # what would mend the film, as `mended` takes it; None where nothing


# Shorter side, px. Below it ribs and vessels cannot be told apart, whatever the network's input.
MIN_SIDE = 64
# Longer by shorter side. The widest of 380 chest films measured is 2.3 (a small child, lying).
MAX_ASPECT = 2.6
# Mean spread between the colour channels, gray levels of 255. Gray films saved as colour have 0, a
# JPEG's rounding adds about 2, photographs have 20 and more.
MAX_COLOUR = 8.0
# Between the 5th and the 95th percentile, gray levels of 255. The flattest of 980 films has 68.
MIN_CONTRAST = 30.0
# Share of the pixels in the most common gray level. The most in 980 films, with a wide black
# border, is 0.56; pages of text and line drawings are nearly all paper.
MAX_ONE_LEVEL = 0.75

# DICOM PS3.3 C.7.3.1.1.1, Modality: projection radiography, and the two that say nothing.
RADIOGRAPHY = frozenset({"CR", "DX", "RG", "DR", "OT", "SC"})
MODALITY_WORDS = {
    "CT": "a CT slice",
    "MR": "an MR image",
    "US": "an ultrasound image",
    "NM": "a nuclear medicine image",
    "PT": "a PET image",
    "MG": "a mammogram",
    "XA": "an angiogram",
    "RF": "a fluoroscopy image",
}
# DICOM PS3.16 annex L, Body Part Examined: parts of a term that name the chest.
CHEST_WORDS = ("CHEST", "THORAX", "LUNG", "RIB")
# DICOM PS3.3 C.8.1.3, View Position, as written by the standard and by machines.
LATERAL = frozenset({"LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "LLATERAL", "RLATERAL"})
OBLIQUE = frozenset({"RLO", "LLO", "RAO", "LAO", "RPO", "LPO", "OBL", "OBLIQUE"})


def check(film: Radiograph) -> tuple[str, ...]:
    """Return why a film is refused, a sentence a reason; empty where it is accepted."""
    return tuple(refusal.words for refusal in refusals(film))


def refusals(film: Radiograph) -> tuple[Refusal, ...]:
    """Return why a film is refused by what needs no model; empty where it is accepted."""
    layers: tuple[tuple[Kind, list[str]], ...] = (
        ("view", _by_tags(film)),
        ("file", _by_shape(film)),
        ("file", _by_colour(film)),
        ("exposure", _by_gray_levels(film)),
    )
    return tuple(Refusal(kind, words) for kind, reasons in layers for words in reasons)


def lying(view: int) -> Refusal:
    """Return the refusal of a film in a view that is not upright, a place in `familiar.VIEWS`."""
    words, mend = familiar.VIEWS[view]
    if mend == INVERT:
        return Refusal(
            "inverted",
            "The film is inverted: air is white and bone is black. Invert it to have it judged.",
            mend,
        )
    return Refusal("rotated", f"The film {words}. Turn it upright to have it judged.", mend)


def far(distance: float) -> Refusal:
    """Return the refusal of a film that is this many times as far away as the limit."""
    times = f"{distance:.1f} times as far" if distance < FAR else f"more than {FAR} times as far"
    return Refusal(
        "distance",
        f"The image is unlike the films that the model learned from: {times} from them as 99 of "
        "100 films of their kind. It may be no frontal chest film, or one of another kind.",
    )


def mended(film: Radiograph, mend: str) -> Radiograph:
    """Return a film with what a refusal names put right, and a note that says so.

    Args:
        film: the refused one.
        mend: ``invert``, or ``rotate 90``, ``rotate 180``, ``rotate 270``: degrees clockwise.

    Raises:
        ValueError: another word.
    """
    if mend == INVERT:
        return replace(film, pixels=255 - film.pixels, notes=(*film.notes, "Inverted on request."))
    word, _, degrees = mend.partition(" ")
    if word != "rotate" or degrees not in ("90", "180", "270"):
        raise ValueError(f"mend must be {INVERT} or rotate 90, 180 or 270, not {mend!r}")
    pixels = np.ascontiguousarray(np.rot90(film.pixels, -(int(degrees) // 90)))
    whole = film.whole if film.whole is None or degrees == "180" else film.whole[::-1]
    note = f"Turned by {degrees}° clockwise on request."
    return replace(film, pixels=pixels, whole=whole, notes=(*film.notes, note))


def _by_tags(film: Radiograph) -> list[str]:
    """Judge what the DICOM header says; a missing tag is no reason."""
    reasons = []
    modality = _tag(film, "Modality")
    if modality and modality not in RADIOGRAPHY:
        what = MODALITY_WORDS.get(modality, f"of modality {modality}")
        reasons.append(
            f"The file's header says it is {what}; the model knows plain radiographs only."
        )
    part = _tag(film, "BodyPartExamined")
    if part and not any(word in part for word in CHEST_WORDS):
        reasons.append(f"The file's header says it shows another body part ({part.lower()}).")
    view = _tag(film, "ViewPosition").replace(" ", "").replace("_", "").replace("-", "")
    if view in LATERAL or view in OBLIQUE:
        name = "a lateral" if view in LATERAL else "an oblique"
        reasons.append(
            f"The file's header says it is {name} view ({view}); the model knows frontal films "
            "only."
        )
    return reasons


def _by_shape(film: Radiograph) -> list[str]:
    reasons = []
    short, long = sorted((film.width, film.height))
    if short < MIN_SIDE:
        reasons.append(
            f"The image is too small to show lungs: {film.width} x {film.height} px, and the "
            f"shorter side must have at least {MIN_SIDE}."
        )
    if long > MAX_ASPECT * short:
        reasons.append(
            f"The image is far longer than wide or wider than tall ({film.width} x {film.height} "
            "px); a chest film is not."
        )
    return reasons


def _by_colour(film: Radiograph) -> list[str]:
    if film.colour <= MAX_COLOUR:
        return []
    return [
        f"The image is in colour (channels differ by {film.colour:.0f} gray levels on average); a "
        "radiograph is gray."
    ]


def _by_gray_levels(film: Radiograph) -> list[str]:
    # OpenCV counts without holding other threads up, and without a copy of eight times the size.
    counts = cv2.calcHist([film.pixels], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    shares = counts / film.pixels.size
    low, high = np.searchsorted(np.cumsum(shares), (0.05, 0.95))
    if high - low < MIN_CONTRAST:
        return [
            f"The image is almost one shade: nine tenths of it lie within {high - low} of 255 gray "
            "levels."
        ]
    if shares.max() > MAX_ONE_LEVEL:
        return [
            f"{100 * shares.max():.0f} % of the image has one and the same gray level, as in a "
            "page of text or a drawing."
        ]
    return []


def _tag(film: Radiograph, name: str) -> str:
    return str(film.tags.get(name, "")).strip().upper()
