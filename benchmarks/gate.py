"""What the gate refuses: a model's own test films, and pictures that are none of its kind.

The model is the one that ships, `pneumonia_v1`; the folder holds the data set that it was trained
on. Films are of its test part, which nothing was fitted to. The others: photographs (those that
come with scikit-learn and, where installed, scikit-image), in colour, in gray and as gray cut-outs;
noise; drawn pages of text; CT, MR, ultrasound and extremity files of pydicom-data, whole and as
bare pixels without a header; and the test films inverted and turned. Each must be refused, inverted
and turned ones for just that, the others for anything else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks import harness
from benchmarks.harness import Case, Figure, MissingError, Setting
from cxr_core import images
from cxr_core.diagnosis import bundle, gate
from cxr_core.errors import UnreadableImageError
from cxr_core.images import Radiograph

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Predictor

_MOST_OWN, _LEAST_OTHERS = 2, 98  # % refused

MODEL = harness.REPOSITORY / "models" / "pneumonia_v1"
CUTS = 4  # cut-outs a photograph
# What comes with pydicom: an extremity, CT, MR and ultrasound. Those in several frames or in colour
# are not read at all, which counts as refused.
DICOM_FILES = (
    "RG3_UNCR.dcm",
    "RG3_UNCI.dcm",
    "RG3_J2KR.dcm",
    "CT_small.dcm",
    "693_UNCR.dcm",
    "MR_small.dcm",
    "MR2_UNCR.dcm",
    "emri_small.dcm",
    "US1_UNCR.dcm",
    "examples_palette.dcm",
)
Group = tuple[str, set[str], list[Radiograph | None]]  # name, right reasons, films; None: not read


def chosen(root: Path, most: int) -> list[Radiograph]:
    """Return films of the model's own test part, at random."""
    table = bundle.read_splits(MODEL)
    paths = table.loc[table["split"] == "test", "path"].to_numpy()
    if not (root / paths[0]).is_file():
        raise MissingError(f"{root} does not hold the films that {MODEL.name} was tested on")
    order = np.random.default_rng(0).permutation(len(paths))[:most]
    return [images.read(root / path) for path in paths[np.sort(order)]]


def picture(pixels: np.ndarray, name: str) -> Radiograph:
    """Return pixels as the app reads them from a PNG file."""
    return images.read(cv2.imencode(".png", pixels)[1].tobytes(), f"{name}.png")


def photographs() -> list[tuple[str, np.ndarray]]:
    """Return photographs (name, BGR or gray)."""
    from sklearn.datasets import load_sample_images

    data = load_sample_images()
    found = [
        (Path(name).stem, image[:, :, ::-1].copy())
        for name, image in zip(data.filenames, data.images, strict=True)
    ]
    try:
        from skimage import data as samples
    except ImportError:
        return found
    # Those that come with the package; the others would be fetched.
    for path in sorted(Path(samples.__file__).parent.iterdir()):
        pixels = cv2.imread(str(path)) if path.suffix in (".png", ".jpg", ".tif") else None
        if pixels is not None and min(pixels.shape[:2]) >= gate.MIN_SIDE:
            found.append((path.stem, pixels))
    return found


def cut_outs(gray: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield parts of a picture, 0.4 to 0.8 of its sides."""
    for share in rng.uniform(0.4, 0.8, CUTS):
        height, width = (int(share * side) for side in gray.shape)
        if min(height, width) < gate.MIN_SIDE:
            continue
        top, left = (
            rng.integers(a - b + 1) for a, b in zip(gray.shape, (height, width), strict=True)
        )
        yield gray[top : top + height, left : left + width].copy()


def noise(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield noise from single pixels to large clouds."""
    for step in range(20):
        cells = int(np.geomspace(6, 500, 20)[step])
        field = rng.normal(128, 45, (cells, cells)).clip(0, 255).astype(np.uint8)
        yield cv2.resize(field, (500, 500), interpolation=cv2.INTER_CUBIC)


def pages(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield drawn pages of text, sparse and dense, dark on light and light on dark."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz ,."))
    for number in range(20):
        paper, ink = (240, 20) if number % 2 else (25, 230)
        page = np.full((700, 500), paper, np.uint8)
        for row in range(40, 680, 14 + 2 * (number // 2)):
            line = "".join(rng.choice(letters, 70))
            cv2.putText(page, line, (15, row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, ink, 1, cv2.LINE_AA)
        yield page


def dicom_films() -> list[Radiograph | None]:
    """Return pydicom's files as the app reads them; None where it refuses to."""
    from pydicom.data import get_testdata_file

    films: list[Radiograph | None] = []
    for name in DICOM_FILES:
        place = get_testdata_file(name, download=False)
        if place is None:
            continue
        try:
            films.append(images.read(Path(str(place))))
        except UnreadableImageError:
            films.append(None)
    return films


def groups(test: Sequence[Radiograph]) -> list[Group]:
    """Return all groups of pictures that are not to be accepted."""
    rng = np.random.default_rng(2026)
    others = {"file", "exposure", "view", "distance"}
    found = photographs()
    grays = [
        (name, pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))
        for name, pixels in found
    ]
    dicom = dicom_films()

    def turned(mend: str) -> list[Radiograph | None]:
        return [gate.mended(film, mend) for film in test]

    return [
        ("photographs", others, [picture(pixels, name) for name, pixels in found]),
        ("photographs in gray", others, [picture(gray, name) for name, gray in grays]),
        (
            "cut-outs in gray",
            others,
            [picture(cut, name) for name, gray in grays for cut in cut_outs(gray, rng)],
        ),
        ("noise", others, [picture(field, "noise") for field in noise(rng)]),
        ("pages of text", others, [picture(page, "page") for page in pages(rng)]),
        ("DICOM of other kinds", others, dicom),
        (
            "DICOM without a header",
            others,
            [replace(film, tags={}) for film in dicom if film is not None],
        ),
        ("test films inverted", {"inverted"}, turned(gate.INVERT)),
        ("test films turned right", {"rotated"}, turned("rotate 90")),
        ("test films upside down", {"rotated"}, turned("rotate 180")),
        ("test films turned left", {"rotated"}, turned("rotate 270")),
    ]


def refused(
    predictor: "Predictor", films: Sequence[Radiograph | None], right: set[str]
) -> list[bool]:
    """Return of each film whether it is refused, for a right reason where there are such."""
    answers = predictor.diagnose_all([film for film in films if film is not None])
    kinds = [{refusal.kind for refusal in answer.refusals} for answer in answers]
    kinds += [{"file"}] * (len(films) - len(answers))  # what is not read at all
    return [bool(each & right if right else each) for each in kinds]


def measure(setting: Setting) -> list[Figure]:
    """Return how many are refused of the model's own test films and, rightly, of the others."""
    from cxr_core.diagnosis.predictor import Predictor  # imports TensorFlow

    test = chosen(setting.films, setting.pick(4, 60, 200))
    predictor = Predictor(MODEL)
    own = refused(predictor, test, set())
    others = {
        name: refused(predictor, films, right) for name, right, films in groups(test) if films
    }
    every = [each for found in others.values() for each in found]
    return [
        Figure(f"own test films, {len(own)}", _percent(own), "%", most=_MOST_OWN),
        *(Figure(f"{name}, {len(found)}", _percent(found), "%") for name, found in others.items()),
        Figure(
            f"all others, {len(every)}, for a right reason",
            _percent(every),
            "%",
            least=_LEAST_OTHERS,
        ),
    ]


def _percent(which: Sequence[bool]) -> float:
    return 100 * sum(which) / len(which)


CASES = (Case("gate", "own test films and pictures of other kinds: what is refused", measure),)
