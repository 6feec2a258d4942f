"""A film's report: one sheet that holds what the page shows, and nothing of the patient."""

import base64
import dataclasses
import re
import shutil
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

from cxr_core import NOT_FOR_CLINICAL_USE, __version__
from cxr_core.data import phantom
from cxr_core.diagnosis import explain, gate, report, scoring, sentences
from cxr_core.diagnosis.explain import HeatMap
from cxr_core.diagnosis.predictor import Diagnosis, Predictor
from cxr_core.images import Radiograph

CHROMIUM = next(
    (found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def predictor(three_class_bundle: Path) -> Predictor:
    return Predictor(three_class_bundle)


@pytest.fixture(scope="module")
def film() -> Radiograph:
    pixels = phantom.draw("PNEUMONIA", np.random.default_rng(4)).pixels
    tags = {"Modality": "DX", "ViewPosition": "PA", "PatientAge": "057Y", "PatientSex": "F"}
    return Radiograph(pixels, "<b>film & 1.dcm", "DICOM", "gray 12 bit", ("Rescaled.",), tags=tags)


@pytest.fixture(scope="module")
def answer(predictor: Predictor, film: Radiograph) -> Diagnosis:
    answer = predictor.diagnose(film)
    assert answer.accepted
    return answer


def text(page: str) -> str:
    """Return what a reader sees of a page."""
    body = page[page.index("<body>") :]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(each), np.uint8), 1) for each in found]


def test_it_holds_the_answer_the_model_and_the_limits(
    predictor: Predictor, film: Radiograph, answer: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    sanity = {
        "name": "sanity",
        "value": 0.24,
        "words": "Made random, they keep a likeness of 0.24.",
    }
    tested = predictor.info.model_copy(update={"probes": {"findings": [sanity]}})
    monkeypatch.setattr(predictor, "info", tested)
    page = report.page(predictor, film, answer, made=made)
    seen = text(page)
    for words in (
        NOT_FOR_CLINICAL_USE,
        sentences.answer(answer),
        "Any finding",
        "2026-01-02 03:04 UTC",
        scoring.version(predictor.info),
        predictor.info.created[:10],
        f"CXR Studio {__version__}",
        "over 8 slight changes of the film",
        gate.UNCHECKED,
        scoring.SYNTHETIC,
        "not where disease is",
        "keep a likeness of 0.24",
    ):
        assert words in seen, words
    for share in answer.probabilities.values():
        assert sentences.probability(share) in seen


def test_it_needs_no_other_file_and_runs_nothing(
    predictor: Predictor, film: Radiograph, answer: Diagnosis
) -> None:
    page = report.page(predictor, film, answer)
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert "<b>film" not in page  # a file's name is text, whatever it holds
    assert "<b>film & 1.dcm" in text(page)


def test_the_header_gives_how_the_film_was_taken_and_nothing_of_the_patient(
    predictor: Predictor, film: Radiograph, answer: Diagnosis
) -> None:
    seen = text(report.page(predictor, film, answer))
    assert "DX, PA" in seen
    assert "057Y" not in seen
    burned = dataclasses.replace(answer, burned_in=True)
    assert report.BURNED_IN not in seen
    assert report.BURNED_IN in text(report.page(predictor, film, burned))


def test_the_film_stands_beside_the_heat_map_that_the_reader_chose(
    predictor: Predictor, film: Radiograph, answer: Diagnosis
) -> None:
    values = np.zeros((tiny.SIZE, tiny.SIZE), np.float32)
    values[:16] = 1
    mine = HeatMap(values, "TUBERCULOSIS", "letterbox", 3.0, method="hires_cam")
    page = report.page(predictor, film, answer, report.Shown(mine, opacity=1, colours="viridis"))
    shown, over = pictures(page)
    assert shown.shape == over.shape == (*film.pixels.shape, 3)
    assert np.abs(shown[..., 0].astype(int) - film.pixels).mean() < 2
    expected = explain.overlay(film.pixels, mine, 1, colours="viridis")[..., ::-1]
    assert np.abs(over.astype(int) - expected).mean() < 5
    assert "What spoke for tuberculosis: HiResCAM. What stands out adds up to 3.0 logits." in text(
        page
    )


def test_a_refused_film_gets_its_reasons_and_no_number(predictor: Predictor) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 90)).astype(np.uint8)
    film = Radiograph(noise, "cat.png", "PNG", "colour 8 bit", colour=40.0)
    page = report.page(predictor, film, predictor.diagnose(film))
    seen = text(page)
    assert "Not judged: the model's gate refused this image The image is in colour" in seen
    assert "Calibrated probability;" not in seen
    assert len(pictures(page)) == 1

    insisted = text(report.page(predictor, film, predictor.diagnose(film, force=True)))
    assert "Refused, answered on request." in insisted
    assert report.REFUSED in insisted
    assert "Calibrated probability;" in insisted


def test_a_synthetic_film_is_said_to_be_one(
    predictor: Predictor, film: Radiograph, answer: Diagnosis
) -> None:
    seen = text(report.page(predictor, film, answer, synthetic=True))
    assert "This film is synthetic" in seen
    assert scoring.SYNTHETIC not in seen


def test_a_large_film_is_shown_smaller_and_a_small_one_as_it_is() -> None:
    assert report.fitted(np.zeros((3000, 1500), np.uint8), 1000).shape == (1000, 500)
    assert report.fitted(np.zeros((300, 150), np.uint8), 1000).shape == (300, 150)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt install chromium")
def test_it_is_one_sheet_of_paper_whatever_it_says(
    predictor: Predictor, film: Radiograph, answer: Diagnosis, tmp_path: Path
) -> None:
    from playwright.sync_api import sync_playwright

    classes = ("NORMAL", *(f"A_LONG_NAME_OF_FINDING_{n}_OF_THE_CHEST" for n in range(14)))
    crowded = dataclasses.replace(
        answer,
        accepted=False,
        classes=classes,
        probabilities=dict.fromkeys(classes, 1 / 15),
        label=classes[1],
        reasons=(gate.far(99).words,) * 5,
        burned_in=True,
    )
    tall = dataclasses.replace(
        film, pixels=film.pixels[:, :80], name="a long name " * 40, notes=("A note. " * 9,) * 9
    )
    cases = {"usual": (film, answer), "crowded": (tall, crowded)}
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        for name, (picture, said) in cases.items():
            path = tmp_path / f"{name}.html"
            path.write_text(report.page(predictor, picture, said), encoding="utf-8")
            tab = browser.new_page(viewport={"width": 1000, "height": 1200})
            tab.goto(path.as_uri())
            sheet = tab.evaluate(
                "() => { const s = document.querySelector('main');"
                " return [s.scrollHeight - s.clientHeight,"
                " document.querySelector('img').getBoundingClientRect().height] }"
            )
            assert sheet[0] <= 0, name  # nothing is cut off
            assert sheet[1] > 70, name  # px: the film is still to be seen
            printed = tab.pdf(prefer_css_page_size=True)
            assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1, name
        browser.close()
