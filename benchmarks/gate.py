"""What the gate refuses: a model's own test films, and pictures that are none of its kind.

    python benchmarks/gate.py BUNDLE --data FOLDER [--films 200] [--json]

BUNDLE is a finished run's bundle or one of ``models/``; FOLDER holds the data set that it was
trained on. A bundle without statistics of its films gets them for this run, fitted on its training
and validation films as at the end of a training; it is not changed.

Films are of the test part, which nothing was fitted to. The others: photographs (those that come
with scikit-learn and, where installed, scikit-image), in colour, in gray and as gray cut-outs;
noise; drawn pages of text; CT, MR, ultrasound and extremity files of pydicom-data, whole and as
bare pixels without a header; and the test films inverted and turned. Each must be refused, inverted
and turned ones for just that, the others for anything else.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from cxr_core import images  # noqa: E402  found by the line above
from cxr_core.diagnosis import bundle, familiar, gate, single_pass  # noqa: E402
from cxr_core.diagnosis.bundle import GateInfo  # noqa: E402
from cxr_core.diagnosis.familiar import Shown  # noqa: E402
from cxr_core.diagnosis.predictor import Predictor, load  # noqa: E402
from cxr_core.errors import UnreadableImageError  # noqa: E402
from cxr_core.images import Radiograph  # noqa: E402

TRAIN_FILMS, VAL_FILMS = 1_000, 500  # as a training takes
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


def chosen(folder: Path, root: Path, part: str, most: int, seed: int = 0) -> list[Path]:
    """Return films of a part of a bundle's own division, at random."""
    table = bundle.read_splits(folder)
    paths = table.loc[table["split"] == part, "path"].to_numpy()
    order = np.random.default_rng(seed).permutation(len(paths))[:most]
    return [root / path for path in paths[np.sort(order)]]


def with_statistics(folder: Path, root: Path, into: Path) -> Path:
    """Return a bundle that has statistics of its films: itself, or a copy that got them now."""
    info = bundle.read(folder)
    if info.gate is not None:
        return folder
    model, image = load(folder, info), info.image
    layers = single_pass.look_layers(model, info.cam_layer)
    network = single_pass.SinglePass(model, (info.cam_layer,), layers)

    def shown(part: str, most: int) -> Shown:
        films = [images.read(path).pixels for path in chosen(folder, root, part, most)]
        squares = np.stack(
            [images.to_square(film, image.size, image.fit, image.clahe) for film in films]
        )
        look = network.answers(squares).look
        return Shown.of(squares, look, bars=image.fit == "letterbox")

    train, val = shown("train", TRAIN_FILMS), shown("val", VAL_FILMS)
    known = familiar.fit(train, val, layers)
    about = GateInfo(
        train_films=len(train),
        val_films=len(val),
        val_refused=int(known.refused(val).sum()),
    )
    info = info.model_copy(update={"gate": about})
    source = folder / bundle.MODEL_FILE
    bundle.write(
        into,
        info,
        lambda path: (
            path.hardlink_to(source)
            if path.parent.stat().st_dev == source.stat().st_dev
            else path.write_bytes(source.read_bytes())
        ),
        bundle.read_splits(folder),
        known.save,
    )
    return into


def picture(pixels: np.ndarray, name: str) -> Radiograph:
    """Return pixels as the app reads them from a PNG file."""
    return images.read(cv2.imencode(".png", pixels)[1].tobytes(), f"{name}.png")


def photographs() -> tuple[list[tuple[str, np.ndarray]], str]:
    """Return photographs (name, BGR or gray), and what they are."""
    from sklearn.datasets import load_sample_images

    data = load_sample_images()
    found = [
        (Path(name).stem, image[:, :, ::-1].copy())
        for name, image in zip(data.filenames, data.images, strict=True)
    ]
    try:
        from skimage import data as samples
    except ImportError:
        return found, "scikit-learn's; scikit-image is not installed, so without its"
    # Those that come with the package; the others would be fetched.
    for path in sorted(Path(samples.__file__).parent.iterdir()):
        pixels = cv2.imread(str(path)) if path.suffix in (".png", ".jpg", ".tif") else None
        if pixels is not None and min(pixels.shape[:2]) >= gate.MIN_SIDE:
            found.append((path.stem, pixels))
    return found, "scikit-learn's and scikit-image's"


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


def groups(test: Sequence[Radiograph]) -> tuple[list[Group], str]:
    """Return all groups of pictures, and what the photographs are."""
    rng = np.random.default_rng(2026)
    others = {"file", "exposure", "view", "distance"}
    found, source = photographs()
    grays = [
        (name, pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))
        for name, pixels in found
    ]
    dicom = dicom_films()

    def turned(mend: str) -> list[Radiograph | None]:
        return [gate.mended(film, mend) for film in test]

    return [
        ("test films", set(), list(test)),
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
    ], source


def judge(
    predictor: Predictor, films: Sequence[Radiograph | None], right: set[str]
) -> dict[str, Any]:
    """Return how many are refused, how many for a right reason, and for which kinds of reason."""
    answers = predictor.diagnose_all([film for film in films if film is not None])
    kinds = [{refusal.kind for refusal in answer.refusals} for answer in answers]
    kinds += [{"file"}] * (len(films) - len(answers))  # what is not read at all
    every = sorted({kind for each in kinds for kind in each})
    return {
        "films": len(films),
        "refused": sum(map(bool, kinds)),
        "right": sum(bool(each & right) for each in kinds),
        "kinds": {kind: sum(kind in each for each in kinds) for kind in every},
        "passed": [answer.name for answer in answers if answer.accepted][:10] if right else [],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = with_statistics(options.bundle, options.data, Path(name) / "bundle")
        predictor = Predictor(folder)
        stored = folder / bundle.GATE_FILE
        size = stored.stat().st_size
    test = [
        images.read(path) for path in chosen(options.bundle, options.data, "test", options.films)
    ]
    every, source = groups(test)
    result: dict[str, Any] = {
        "bundle": predictor.info.name,
        "gate": predictor.info.gate.model_dump() if predictor.info.gate else None,
        "gate_bytes": size,
        "photographs": source,
        "groups": {name: judge(predictor, films, right) for name, right, films in every},
    }
    others = [found for name, found in result["groups"].items() if name != "test films"]
    films, right = (sum(found[key] for found in others) for key in ("films", "right"))
    own = result["groups"]["test films"]
    result["own_refused"] = own["refused"] / own["films"]
    result["others_refused_rightly"] = right / films
    result["worst_group"] = min(found["right"] / found["films"] for found in others)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{predictor.info.name}: {result['gate']}, {size / 1000:.0f} kB. Photographs: {source}.")
    for name, found in result["groups"].items():
        reasons = ", ".join(f"{kind} {count}" for kind, count in found["kinds"].items())
        passed = f"; passed: {', '.join(found['passed'])}" if found["passed"] else ""
        print(
            f"  {name}: {found['refused']} of {found['films']} refused, {found['right']} for a "
            f"right reason ({reasons}){passed}"
        )
    print(
        f"Own test films refused: {result['own_refused']:.1%} (at most 2 %). Others refused for a "
        f"right reason: {result['others_refused_rightly']:.1%} of {films} (at least 98 %), "
        f"{result['worst_group']:.1%} in the worst group."
    )


if __name__ == "__main__":
    main()
