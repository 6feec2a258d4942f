"""Every page, empty and full, as a visitor without a browser sees it."""

import ast
import asyncio
import importlib.util
import io
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
import streamlit as st
from conftest import REPOSITORY, Finished, texts
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser
from streamlit.testing.v1 import AppTest

from cxr_core import images
from cxr_core.config import RunConfig
from cxr_core.data import phantom, sources
from cxr_core.diagnosis import gate
from cxr_core.training.tracking import TAG_DATA, RunStore, Status
from cxr_core.ui import background, film_table, uploads

Open = Callable[..., AppTest]

PAGES = ("home", "dataset", "train", "runs", "diagnose")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_without_any_run_opens(page: str, open_page: Open) -> None:
    app = open_page(page)
    assert not app.exception
    assert app.title[0].value
    assert "not for clinical use" in texts(app)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_a_finished_run_opens(page: str, open_page: Open, finished: Finished) -> None:
    app = open_page(page)
    assert not app.exception
    assert app.title[0].value


@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_reached_without_the_notice(page: str, open_page: Open) -> None:
    app = open_page(page, accepted=False)
    assert "For research and teaching only" in texts(app)
    assert len(app.button) == 1
    app.button[0].click().run()
    assert "For research and teaching only" not in texts(app)
    assert not app.exception


@pytest.mark.parametrize("page", PAGES)
def test_every_page_goes_through_the_door(page: str) -> None:
    script = (REPOSITORY / "pages" / f"{page}.py").read_text(encoding="utf-8")
    _, *statements = ast.parse(script).body  # the first is the docstring
    first = next(each for each in statements if not isinstance(each, ast.Import | ast.ImportFrom))
    assert ast.unparse(first) == "door.pass_through()"


def test_pages_on_data_and_runs_open_without_tensorflow(phantoms: Path, tmp_path: Path) -> None:
    script = f"""
import sys
from streamlit.testing.v1 import AppTest
for page in ("home", "dataset", "train", "runs", "diagnose"):
    app = AppTest.from_file({str(REPOSITORY / "streamlit_app.py")!r}, default_timeout=300)
    app.session_state["notice_accepted"] = True
    app.session_state["data_kind"] = "folder"
    app.session_state["data_folder"] = app.session_state["data_root"] = {str(phantoms)!r}
    app.switch_page(f"pages/{{page}}.py").run()
    assert not app.exception, app.exception
    assert "tensorflow" not in sys.modules, page
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY, timeout=600)


def test_the_first_launch_draws_the_built_in_set(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, workspace_folder: Path
) -> None:
    monkeypatch.setattr(sources, "BUILT_IN_IMAGES", 30)
    app = open_page("home", data_kind="phantom", data_root="phantom")
    assert app.title[0].value.startswith("30 films to learn from")
    assert "Synthetic films" in texts(app)
    assert (workspace_folder / "data" / "phantom" / "metadata.csv").is_file()


def test_the_dataset_page_says_what_the_set_is(open_page: Open) -> None:
    app = open_page("dataset")
    assert app.title[0].value.startswith("60 films of ")
    assert "33.3 % pneumonia" in app.title[0].value
    assert "Synthetic films" in texts(app)
    assert len(app.get("plotly_chart")) == 3  # balance, sizes, exposures


def test_a_folder_that_is_none_gets_a_sentence(open_page: Open) -> None:
    app = open_page("dataset", data_folder="/no/such/folder")
    assert "There is no folder /no/such/folder" in app.error[0].value
    assert not app.exception


def test_the_gallery_shows_the_class_that_was_chosen(open_page: Open, phantoms: Path) -> None:
    app = open_page("dataset", dataset_tab="Films")
    labels = next(group for group in app.get("button_group") if group.label == "Class")
    app = labels.set_value(["TUBERCULOSIS"]).run()
    captions = [c.value for c in app.caption if "●" in c.value]
    assert captions
    assert all("TUBERCULOSIS" in caption for caption in captions)


def test_a_click_on_a_film_shows_it_at_the_side_with_the_patients_others(
    open_page: Open, phantoms: Path
) -> None:
    films = pd.read_csv(phantoms / "metadata.csv").sort_values("path").head(24)
    several = films[films["patient_id"].duplicated(keep=False)]
    first, second = several["path"].iloc[:2]  # of one patient, both in the grid
    app = open_page("dataset", dataset_tab="Films")
    app = next(b for b in app.button if b.label == f"Show {first}").click().run()
    assert not app.exception
    assert any(first in str(table.value.to_numpy()) for table in app.table)
    assert [b.label for b in app.button].count(f"Show {second}") == 2


def test_the_train_page_says_what_its_button_will_do(open_page: Open) -> None:
    app = open_page("train")
    labels = [button.label for button in app.button]
    assert any(label.startswith("Train quick on ") for label in labels)


def test_a_setting_out_of_bounds_keeps_the_run_from_starting(open_page: Open) -> None:
    app = open_page("train")
    rate = next(field for field in app.number_input if field.label == "Learning rate")
    app = rate.set_value(-1.0).run()
    assert "optimise.learning_rate" in app.error[0].value
    assert not [b for b in app.button if b.label.startswith("Train ")]


def test_a_waiting_run_can_be_taken_from_the_queue(open_page: Open) -> None:
    store = RunStore()
    for name in ("first", "second"):
        store.create(RunConfig(name=name), name=name, tags={TAG_DATA: "phantoms"})
    app = open_page("train")
    assert app.title[0].value == "2 runs about to start"
    cancel = [b for b in app.button if b.label == "Cancel"]
    assert len(cancel) == 1  # the other one is in the monitor
    cancel[0].click().run()
    assert [run.request for run in store.list()].count("cancel") == 1


def test_a_failed_run_says_why(open_page: Open) -> None:
    store = RunStore()
    run_id = store.create(RunConfig(name="broken"), name="broken")
    store.set_status(run_id, Status.FAILED, "The disk is full. Free some space.")
    for page in ("train", "runs"):
        app = open_page(page)
        assert "The disk is full" in app.error[0].value
        assert not app.exception


@pytest.mark.slow
def test_a_finished_run_tells_what_it_is_worth(open_page: Open, finished: Finished) -> None:
    app = open_page("runs")
    said = texts(app)
    assert "95 % interval" in said
    assert "finished" in str(app.dataframe[0].value.to_numpy())
    assert len(app.get("plotly_chart")) == 6  # the curves
    app.session_state[f"tabs:{finished.run_id}"] = "Files"
    names = {button.label for button in app.run().get("download_button")}
    assert {"Model bundle (zip)", "config.yaml"} <= names


@pytest.mark.slow
def test_a_sample_film_gets_an_answer_in_words(open_page: Open, finished: Finished) -> None:
    app = open_page("diagnose")
    app = next(b for b in app.button if b.label == "Try tuberculosis").click().run()
    assert not app.exception
    assert re.search(r"(likely|possible|called): .*\d\s%", app.header[0].value)
    assert "threshold of" in app.header[0].value
    # This model has no gate: that stands above the answer, not in small print.
    assert any(gate.UNCHECKED in warning.value for warning in app.warning)
    assert "It cannot refuse pictures unlike its films." in texts(app)
    assert "not for clinical use" in texts(app)
    assert len(app.get("image")) >= 2  # the film and its heat map


@pytest.mark.slow
def test_a_file_that_is_no_image_gets_a_sentence_and_the_others_go_on(
    open_page: Open, finished: Finished
) -> None:
    film = uploads.Upload("a", "film.png", uploads.sample("PNEUMONIA"))
    text = uploads.Upload("b", "letter.png", b"Dear colleague, this is no film.")
    app = open_page("diagnose", uploads={"b": text, "a": film})
    assert not app.exception
    table = app.dataframe[0].value.set_index("File")
    assert table.loc["letter.png", "Answer"] == "not read"
    assert "letter.png holds text" in table.loc["letter.png", "Notes"]
    assert gate.UNCHECKED in set(table["Notes"])
    assert table.loc["film.png", "Answer"] != "not read"
    assert app.header, "the film that could be read is the one that is opened"


@pytest.mark.slow
def test_a_refused_picture_has_no_number_until_somebody_insists(
    open_page: Open, finished: Finished
) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    data = cv2.imencode(".png", colours)[1].tobytes()
    app = open_page("diagnose", uploads={"a": uploads.Upload("a", "cat.png", data)})
    assert app.header[0].value == "Not judged"
    assert "in colour" in app.warning[0].value
    assert not app.get("plotly_chart")
    asked = next(b for b in app.button if b.label == "Show the probability all the same")
    assert asked.proto.type == "secondary"  # it must look like a button
    asked.click().run()
    assert not app.exception
    assert app.header[0].value == "Refused, answered on request"
    assert "not to be relied on" in texts(app)
    assert app.get("plotly_chart")
    held = set(app.session_state["uploads"])
    assert {film for _, film in app.session_state["outcomes"]} == held  # the refusal is forgotten


@pytest.mark.slow
def test_a_film_is_put_right_before_it_is_judged(open_page: Open, finished: Finished) -> None:
    app = open_page(
        "diagnose", uploads={"a": uploads.Upload("a", "film.png", uploads.sample("NORMAL"))}
    )
    app.session_state["uploads"] = {
        "a:invert": replace(app.session_state["uploads"]["a"], digest="a:invert", mends=("invert",))
    }
    app.run()
    assert not app.exception
    assert "Inverted on request." in texts(app)


@pytest.mark.slow
def test_answers_outlive_a_change_of_page_and_are_not_asked_for_again(
    open_page: Open, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("diagnose")
    for label in ("Try normal", "Try pneumonia"):
        app = next(b for b in app.button if b.label == label).click().run()
    answer, table = app.header[0].value, app.dataframe[0].value
    app.switch_page("pages/runs.py").run()
    monkeypatch.setattr(images, "read", None)  # what was read is not read anew
    app.switch_page("pages/diagnose.py").run()
    assert not app.exception
    assert app.header[0].value == answer
    pd.testing.assert_frame_equal(app.dataframe[0].value, table)


@pytest.mark.slow
def test_a_zip_becomes_films_and_a_row_opens_its_film(open_page: Open, finished: Finished) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for label in ("NORMAL", "PNEUMONIA"):
            archive.writestr(f"set/{label}.png", uploads.sample(label))
        archive.writestr("set/notes.txt", b"x")
        archive.writestr("set/more.zip", b"x")
    app = open_page("diagnose")
    app.file_uploader[0].set_value(
        [
            ("films.zip", packed.getvalue(), "application/zip"),
            ("broken.zip", b"no archive", "application/zip"),
            ("annotated.dcm", _annotated(), "application/dicom"),
        ]
    )
    app = app.run()
    assert not app.exception
    table = app.dataframe[0].value.set_index("File")
    assert list(table.index) == ["set/NORMAL.png", "set/PNEUMONIA.png", "annotated.dcm"]
    assert table["Probability"].iloc[:2].between(0, 1).all()
    told = app.warning[0].value
    assert "Passed over in films.zip, no film by its name: set/notes.txt." in told
    assert "Passed over in films.zip, an archive itself: set/more.zip." in told
    assert "broken.zip is no zip archive" in told
    assert film_table.BURNED_IN in table.loc["annotated.dcm", "Notes"]
    assert film_table.BURNED_IN not in texts(app)

    uploads_held = list(app.session_state["uploads"].values())
    app.session_state["upload_chosen"] = uploads_held[2].digest
    app = app.run()
    assert film_table.BURNED_IN in [warning.value for warning in app.warning]
    assert "ViewPosition: PA" in texts(app)
    assert "034Y" not in texts(app)
    app = next(b for b in app.button if b.label == "Remove this film").click().run()
    assert "annotated.dcm" not in app.dataframe[0].value["File"].to_list()
    app = next(b for b in app.button if b.label == "Remove all").click().run()
    assert not app.dataframe
    assert "broken.zip" not in texts(app)


@pytest.mark.slow
def test_the_page_is_of_use_while_films_are_read_beside_it(
    open_page: Open, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, ask = threading.Event(), uploads._outcomes

    def held_up(*args: object) -> Iterator[uploads.Outcome]:
        assert go_on.wait(120)
        yield from ask(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(uploads, "_outcomes", held_up)
    monkeypatch.setattr(uploads, "_AT_ONCE", 0.0)
    films = {
        name: uploads.Upload(name, f"{name}.png", uploads.sample(label))
        for name, label in (("a", "NORMAL"), ("b", "PNEUMONIA"), ("c", "TUBERCULOSIS"))
    }
    app = open_page("diagnose", uploads=films)
    assert not app.exception
    assert app.dataframe[0].value["Answer"].to_list()[1:] == ["…", "…"]
    assert app.header, "the first film is open before the others are read"
    app.session_state["upload_chosen"] = "c"
    app = app.run()
    assert app.dataframe[0].value["Answer"].to_list()[1] == "…"
    assert app.dataframe[0].value["Answer"].to_list()[2] != "…"

    go_on.set()
    assert app.session_state["uploads_work"][1].ended(120)
    app = app.run()
    assert not app.exception
    assert "3 files" in texts(app)
    assert "…" not in app.dataframe[0].value["Answer"].to_list()


def test_a_film_that_is_removed_while_it_is_read_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, gone = (uploads.Upload(name, f"{name}.png", b"x") for name in "ab")
    films, found = {"a": kept, "b": gone}, {}

    def removed(asked: list[uploads.Upload], *_: object) -> Iterator[uploads.Outcome]:
        films.pop("b", None)
        yield from (uploads.Outcome(upload, None) for upload in asked)

    monkeypatch.setattr(uploads, "_outcomes", removed)
    predictor = SimpleNamespace(info=SimpleNamespace(model_sha256="m"))
    work = partial(uploads._judge, predictor=predictor, films=films, found=found)  # type: ignore[arg-type]
    task = background.Task(work)
    assert task.ended(60)
    assert task.result() is None
    assert list(found) == [("m", "a")]


def test_the_public_film_is_offered_only_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = uploads._public()
    assert found is not None
    assert images.read(found[0], "film.dcm").tags["BodyPartExamined"] == "CHEST"
    st.cache_data.clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert uploads._public() is None


def _annotated() -> bytes:
    """A DICOM film whose header says that text is burned into its pixels."""
    pixels = phantom.draw("NORMAL", np.random.default_rng(1)).pixels
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 7, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BurnedInAnnotation = "YES"
    dataset.ViewPosition, dataset.PatientAge = "PA", "034Y"
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_no_upload_touches_the_disk() -> None:
    """Starlette, which takes files for Streamlit, would spool those over 1 MB."""

    async def stream() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="f"; filename="f.dcm"\r\n\r\n'
        for _ in range(3):
            yield bytes(1_000_000)
        yield b"\r\n--b--\r\n"

    headers = Headers({"content-type": "multipart/form-data; boundary=b"})
    form = asyncio.run(MultiPartParser(headers, stream()).parse())
    taken = form["f"]
    assert isinstance(taken, UploadFile)
    assert taken.size == 3_000_000
    assert not taken.file._rolled  # type: ignore[attr-defined]
