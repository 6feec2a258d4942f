"""Films over HTTP get the command line's answers; what cannot be answered says why."""

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import pydicom
import pytest
import tiny
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import TypeAdapter
from serving import Service, open_desk
from typer.testing import CliRunner

from cxr_core import NOT_FOR_CLINICAL_USE, cli
from cxr_core.diagnosis import bundle, scoring
from cxr_core.service import app, desk, examples, models, schemas
from cxr_core.service.watch import NOTICE


@pytest.fixture
def films(phantoms: Path, photograph: bytes, tmp_path: Path) -> list[Path]:
    """Films of three formats, a photograph, and a letter."""
    first, second, *_ = sorted((phantoms / "images").iterdir())
    pixels = cv2.imread(str(second), cv2.IMREAD_GRAYSCALE)
    large = cv2.resize(pixels, (900, 900), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "large.jpg"), large)  # decoded at a reduced scale
    (tmp_path / "film.png").write_bytes(first.read_bytes())
    dicom(tmp_path / "chest.dcm", pixels)
    (tmp_path / "cat.png").write_bytes(photograph)
    (tmp_path / "letter.png").write_text("Dear colleague")
    names = ("film.png", "large.jpg", "chest.dcm", "cat.png", "letter.png")
    return [tmp_path / name for name in names]


def dicom(path: Path, pixels: np.ndarray, **tags: str) -> None:
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    film = pydicom.Dataset()
    film.file_meta = meta
    film.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    film.SOPInstanceUID = pydicom.uid.generate_uid()
    film.Modality, film.PhotometricInterpretation = "DX", "MONOCHROME2"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PixelRepresentation = 1, 0
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit = 7
    film.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(film, name, value)
    film.save_as(path, enforce_file_format=True)


def on_the_command_line(folder: Path, films: list[Path], *more: object) -> list[dict[str, Any]]:
    arguments = [str(each) for each in ("predict", folder, *films, "--json", *more)]
    return json.loads(CliRunner().invoke(cli.app, arguments).stdout)


def test_answers_are_those_of_the_command_line(
    service: Service, folders: tuple[Path, Path], films: list[Path]
) -> None:
    for folder, name in zip(folders, ("tiny", "three"), strict=True):
        expected = on_the_command_line(folder, films)
        found = service.predict(*films, model=name).json()
        assert [entry["path"] for entry in found] == [film.name for film in films]
        for mine, theirs in zip(found, expected, strict=True):
            assert list(mine) == list(theirs)
            for key, value in theirs.items():
                if key == "path":
                    continue
                exact = not isinstance(value, float | dict)
                assert mine[key] == (value if exact else pytest.approx(value, abs=1e-6)), key
    assert [entry["accepted"] for entry in found] == [True, True, True, False, False]
    assert "error" in found[-1] and found[-2]["reasons"]


def test_a_refused_film_is_answered_for_only_on_request_and_then_marked(
    service: Service, photograph: bytes
) -> None:
    (refused,) = service.predict(("cat.png", photograph)).json()
    (forced,) = service.predict(("cat.png", photograph), force=True).json()
    assert (refused["label"], refused["probability"], refused["probabilities"]) == (None, None, {})
    assert scoring.FORCED not in refused["note"]
    assert forced["accepted"] is False
    assert forced["reasons"] == refused["reasons"]
    assert forced["probability"] == forced["probabilities"][forced["label"]]
    assert scoring.FORCED in forced["note"]


def test_a_name_comes_back_as_it_was_sent(service: Service) -> None:
    names = ["./a//b.png", "Röntgen „1“.png", "../../etc/passwd", "=1+1"]
    found = service.predict(*((name, b"nothing") for name in names)).json()
    assert [entry["path"] for entry in found] == names
    assert all("error" in entry for entry in found)


def test_a_film_that_fails_in_an_unknown_way_costs_no_other(
    service: Service, films: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(source: bytes, name: str = "", **how: Any) -> Any:
        if name == "cat.png":
            raise RuntimeError("patient Doe")
        return reading(source, name, **how)

    reading = scoring.images.read
    monkeypatch.setattr(scoring.images, "read", read)
    good, bad = service.predict(films[0], films[3]).json()
    assert good["accepted"] is True
    assert bad["error"].startswith("cat.png could not be read: the program failed (RuntimeError)")


def test_a_fault_of_the_network_is_no_answer(
    open_service: Callable[..., Any],
    films: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing:
        def __init__(self, folder: Path) -> None:
            self.predictor = loaded(folder)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.predictor, name)

        def answer(self, *films: Any, **how: Any) -> Any:
            raise ValueError("patient Doe")

    loaded = desk.load
    monkeypatch.setattr(desk, "load", Failing)
    with open_service() as service:
        response = service.predict(films[0])
        assert response.status_code == 500
        assert response.headers[NOTICE] == NOT_FOR_CLINICAL_USE
        assert "The program failed (ValueError)" in response.json()["detail"]
        assert service.client.get("/healthz").status_code == 200
    assert "Doe" not in response.text + caplog.text
    assert "conftest.py" not in caplog.text and "batching.py" in caplog.text


# -- heat maps ------------------------------------------------------------------------------------


def test_a_heat_map_is_that_of_the_command_line(
    service: Service, folders: tuple[Path, Path], films: list[Path], tmp_path: Path
) -> None:
    on_the_command_line(folders[1], films[:3], "--heatmaps", tmp_path / "maps")
    for film in films[:3]:
        response = service.client.post(
            "/v1/heatmap",
            files={"files": (film.name, film.read_bytes())},
            params={"model": "three"},
        )
        assert response.headers["content-type"] == "image/png"
        shown = np.asarray(Image.open(io.BytesIO(response.content)))
        drawn = cv2.imread(str(tmp_path / "maps" / f"{film.stem}.png"))
        assert shown.shape == drawn.shape
        assert np.abs(shown.astype(int) - drawn[:, :, ::-1]).max() <= 1  # by the last digits


def test_a_heat_map_says_what_it_shows_and_what_it_is_not_for(
    service: Service, films: list[Path], photograph: bytes
) -> None:
    def ask(film: tuple[str, bytes], **query: Any) -> Any:
        return service.client.post(
            "/v1/heatmap", files={"files": film}, params={"model": "three", **query}
        )

    response = ask(("film.png", films[0].read_bytes()), target="TUBERCULOSIS")
    text = Image.open(io.BytesIO(response.content)).text
    assert text["Description"].startswith("Grad-CAM for TUBERCULOSIS by three")
    assert text["Disclaimer"].startswith(NOT_FOR_CLINICAL_USE)
    assert unquote(response.headers["CXR-Target"]) == "TUBERCULOSIS"
    assert response.headers["CXR-Accepted"] == "true"

    refused = ask(("cat.png", photograph))
    assert refused.status_code == 422
    assert "in colour" in refused.json()["reasons"][0]
    forced = ask(("cat.png", photograph), force=True)
    assert (forced.status_code, forced.headers["CXR-Accepted"]) == (200, "false")
    assert scoring.FORCED in Image.open(io.BytesIO(forced.content)).text["Disclaimer"]

    assert "holds text" in ask(("letter.png", b"Dear colleague")).json()["detail"]
    unknown = ask(("film.png", films[0].read_bytes()), target="COVID")
    assert unknown.status_code == 404
    assert "NORMAL, PNEUMONIA, TUBERCULOSIS" in unknown.json()["detail"]


def test_a_heat_map_is_of_one_film(service: Service, films: list[Path]) -> None:
    two = [("files", (film.name, film.read_bytes())) for film in films[:2]]
    response = service.client.post("/v1/heatmap", files=two)
    assert response.status_code == 422
    assert "one film" in response.json()["detail"]


# -- models ---------------------------------------------------------------------------------------


def test_models_are_described_and_one_is_asked_by_default(
    service: Service, folders: tuple[Path, Path], films: list[Path]
) -> None:
    first, second = service.client.get("/v1/models").json()
    assert (first["name"], first["default"]) == ("tiny", True)
    assert (second["name"], second["default"], second["classes"]) == (
        "three",
        False,
        list(tiny.THREE),
    )
    assert second["threshold"] == {
        "value": 0.5,
        "method": "fixed for a test",
        "chosen_on": "validation",
    }
    assert second["training_data"]["synthetic"] is True
    assert second["test"] is None
    assert second["note"].startswith(NOT_FOR_CLINICAL_USE)
    assert service.client.get("/v1/models/three").json() == second
    card = service.client.get(second["card"])
    assert card.headers["content-type"].startswith("text/markdown")
    assert card.text == (folders[1] / bundle.CARD_FILE).read_text()
    assert service.predict(films[0]).json()[0]["bundle"] == "tiny"


def test_figures_come_with_their_intervals() -> None:
    summary = {"n": 90, "patients": 62, "auc": 0.9, "ece": None, "ci95": {"auc": [0.8, 0.95]}}
    described = schemas.described("tiny", tiny.info(metrics={"test": summary}), default=True)
    assert described.model_dump()["test"] == {
        "films": 90,
        "patients": 62,
        "figures": {
            "auc": {"value": 0.9, "ci95": (0.8, 0.95)},
            "ece": {"value": None, "ci95": None},
        },
    }


@pytest.mark.parametrize("path", ["/v1/models/other", "/v1/models/other/card"])
def test_an_unknown_model_is_not_found_and_those_that_are_there_are_named(
    service: Service, films: list[Path], path: str
) -> None:
    for response in (service.client.get(path), service.predict(films[0], model="other")):
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert "tiny, three" in response.json()["detail"]


def test_two_models_of_one_name_are_not_served(folders: tuple[Path, Path]) -> None:
    with pytest.raises(models.ServiceError, match="Two models are called tiny"):
        models.read([folders[0], folders[0]])


# -- the whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/metrics", "/no/such/place", "/docs"])
def test_every_response_says_what_the_answers_are_not_for(service: Service, path: str) -> None:
    assert service.client.get(path).headers[NOTICE] == NOT_FOR_CLINICAL_USE


def test_the_description_is_read_without_a_network(service: Service) -> None:
    page = service.client.get("/docs").text
    for address in (part.split('"')[0] for part in page.split('src="')[1:]):
        assert address.startswith("/")
        assert service.client.get(address).status_code == 200
    assert service.client.get("/", follow_redirects=False).headers["location"] == "docs"


def test_the_examples_have_the_form_that_they_are_examples_of() -> None:
    form = TypeAdapter(list[schemas.Answer | schemas.Unread])
    assert form.dump_python(form.validate_python(examples.ANSWERS)) == examples.ANSWERS
    for status in examples.PROBLEMS:
        schemas.Problem.model_validate(examples.problem(status))


def test_nothing_is_answered_before_the_models_have_answered_once(
    open_service: Callable[..., Any],
    folders: tuple[Path, Path],
    films: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    go_on, loaded = threading.Event(), desk.load

    def load(folder: Path) -> Any:
        go_on.wait()
        return loaded(folder)

    monkeypatch.setattr(desk, "load", load)
    made = open_desk(folders, {})
    with TestClient(app.create(made)) as client:
        health = client.get("/healthz")
        assert (health.status_code, health.json()) == (503, {"status": "loading"})
        early = Service(client, made).predict(films[0])
        assert early.status_code == 503
        assert int(early.headers["Retry-After"]) > 0
        assert client.get("/v1/models").status_code == 200
        go_on.set()
        client.portal.call(made.loaded)
        assert client.get("/healthz").json() == {"status": "ready"}
        assert Service(client, made).predict(films[0]).status_code == 200
