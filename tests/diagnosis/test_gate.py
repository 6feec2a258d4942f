"""The gate accepts chest films and says in words why it refuses anything else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_core import images
from cxr_core.data import phantom
from cxr_core.diagnosis import gate
from cxr_core.images import Radiograph


@pytest.fixture
def film() -> Radiograph:
    pixels = phantom.draw("PNEUMONIA", np.random.default_rng(0)).pixels
    return Radiograph(pixels, "film.png", "PNG", "gray 8 bit")


def test_phantoms_of_every_class_are_accepted(phantoms: Path) -> None:
    for path in sorted((phantoms / "images").iterdir())[:20]:
        assert gate.check(images.read(path)) == (), path.name


def test_a_colour_photograph_is_refused(film: Radiograph) -> None:
    (reason,) = gate.check(replace(film, colour=41.0))
    assert "in colour" in reason


def test_a_gray_film_stored_as_colour_is_accepted(film: Radiograph) -> None:
    assert gate.check(replace(film, colour=1.5, mode="colour 8 bit")) == ()


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_an_image_of_one_shade_is_refused(film: Radiograph, shade: int) -> None:
    noise = np.random.default_rng(0).integers(-5, 6, (300, 300))
    pixels = np.clip(shade + noise, 0, 255).astype(np.uint8)
    (reason,) = gate.check(replace(film, pixels=pixels))
    assert "almost one shade" in reason


def test_a_page_of_text_is_refused(film: Radiograph) -> None:
    pixels = np.full((300, 300), 255, np.uint8)
    pixels[::10, 20:280] = 0
    pixels[1::10, 20:280] = 0
    (reason,) = gate.check(replace(film, pixels=pixels))
    assert "page of text" in reason


def test_a_tiny_image_is_refused(film: Radiograph) -> None:
    (reason,) = gate.check(replace(film, pixels=images.to_square(film.pixels, 40, "squash")))
    assert "too small to show lungs: 40 x 40 px" in reason


def test_a_strip_is_refused(film: Radiograph) -> None:
    (reason,) = gate.check(replace(film, pixels=np.tile(film.pixels, (1, 4))))
    assert "longer than wide or wider than tall" in reason


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Modality": "CT"}, "a CT slice"),
        ({"Modality": "MR"}, "an MR image"),
        ({"Modality": "US"}, "an ultrasound image"),
        ({"Modality": "SEG"}, "of modality SEG"),
        ({"Modality": "CR", "BodyPartExamined": "EXTREMITY"}, "another body part"),
        ({"Modality": "DX", "BodyPartExamined": "SKULL"}, "another body part (skull)"),
        ({"Modality": "DX", "ViewPosition": "LL"}, "a lateral view"),
        ({"Modality": "DX", "ViewPosition": "lateral"}, "a lateral view"),
        ({"Modality": "CR", "ViewPosition": "RAO"}, "an oblique view"),
    ],
)
def test_headers_of_other_examinations_are_refused(
    film: Radiograph, tags: dict[str, str], words: str
) -> None:
    (reason,) = gate.check(replace(film, tags=tags))
    assert words in reason


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"Modality": "CR", "BodyPartExamined": "CHEST", "ViewPosition": "PA"},
        {"Modality": "DX", "BodyPartExamined": "Chest", "ViewPosition": "AP"},
        {"Modality": "DX", "BodyPartExamined": "", "ViewPosition": ""},
        {"Modality": "DX", "BodyPartExamined": "THORAX", "PatientAge": "004Y"},
        {"Modality": "OT"},
    ],
)
def test_headers_of_chest_films_are_accepted(film: Radiograph, tags: dict[str, str]) -> None:
    assert gate.check(replace(film, tags=tags)) == ()


def test_every_reason_is_given(film: Radiograph) -> None:
    reasons = gate.check(replace(film, colour=50.0, tags={"Modality": "CT"}))
    assert len(reasons) == 2
    assert all(reason.endswith(".") for reason in reasons)


@pytest.mark.real_data
def test_real_films_of_any_size_are_accepted(real_data: Path) -> None:
    films = [path for path in (real_data / "native").rglob("*") if path.is_file()]
    refused = {path.name: why for path in films if (why := gate.check(images.read(path)))}
    assert len(films) == 80
    assert refused == {}
