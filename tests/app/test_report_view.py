"""What a visitor takes away: the table and the archives, made of the films that are held."""

import csv
import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tiny
from streamlit.testing.v1 import AppTest

from cxr_core.diagnosis import scoring
from cxr_core.diagnosis.predictor import Predictor
from cxr_core.ui import background, report_view, uploads
from cxr_core.ui.uploads import Outcome, Upload


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "binary"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films, one of them inverted; a photograph; a text."""
    place = tmp_path_factory.mktemp("films")
    (place / "normal.png").write_bytes(uploads.sample("NORMAL"))
    (place / "=1+1.png").write_bytes(uploads.sample("PNEUMONIA"))
    photograph = np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8)
    cv2.imwrite(str(place / "cat.png"), photograph)
    (place / "notes.png").write_text("no picture")
    return place


@pytest.fixture(scope="module")
def found(predictor: Predictor, folder: Path) -> list[Outcome]:
    """The outcomes of the folder's films, as the page has them."""
    outcomes = []
    for path in sorted(folder.iterdir()):
        upload = Upload(path.name, path.name, path.read_bytes())
        reading = uploads.read(upload, predictor)
        outcomes.append(Outcome(upload, reading.diagnosis, error=reading.error))
    return outcomes


def rows(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table, newline="")))


def test_the_table_is_that_of_the_command_line(
    predictor: Predictor, folder: Path, found: list[Outcome]
) -> None:
    classes = predictor.info.classes
    expected = [o.as_row(classes) for o in scoring.score(predictor, scoring.find([folder]))]
    table = rows(report_view.table(predictor.info, found))
    assert len(table) == len(expected) == 4
    assert list(table[0]) == scoring.columns(classes)
    for row, theirs in zip(table, expected, strict=True):
        assert row.pop("path").removeprefix("'") == Path(theirs.pop("path")).name
        for name, value in theirs.items():
            if isinstance(value, float):
                assert float(row[name]) == pytest.approx(value, abs=1e-6), name
            else:
                assert row[name] == ("" if value is None else str(value)), name


def test_what_was_put_right_is_noted(predictor: Predictor) -> None:
    upload = Upload("a", "a.png", uploads.sample("NORMAL"), mends=("rotate 90",))
    answer = uploads.read(upload, predictor).diagnosis
    (row,) = rows(report_view.table(predictor.info, [Outcome(upload, answer)]))
    assert row["note"].startswith("Put right on request: rotate 90. For research")


def test_an_archive_holds_a_heat_map_of_every_answered_film_and_the_table(
    predictor: Predictor, found: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_view, "_ROOM", 4 * 1.5 * 64 * 64)  # for pictures of 64 px
    heat_maps, reports = report_view._KINDS
    with zipfile.ZipFile(io.BytesIO(report_view.pack(None, predictor, found, heat_maps))) as packed:
        assert packed.namelist() == ["answers.csv", "=1+1.png", "normal.png"]
        shown = cv2.imdecode(np.frombuffer(packed.read("normal.png"), np.uint8), cv2.IMREAD_COLOR)
        assert max(shown.shape) == 64
        assert len(rows(packed.read("answers.csv").decode())) == 4
    with zipfile.ZipFile(io.BytesIO(report_view.pack(None, predictor, found, reports))) as packed:
        assert packed.namelist()[1:] == [
            "=1+1-report.html",
            "cat-report.html",  # refused, which its report says
            "normal-report.html",
        ]
        assert "in colour" in packed.read("cat-report.html").decode()
        small = packed.read("normal-report.html")
    whole = report_view._report(predictor, uploads.read(found[-2].upload, predictor), 1_000)
    assert whole is not None
    assert len(small) < 0.7 * len(whole[1])  # its pictures have less room


def test_a_film_on_which_the_program_fails_costs_no_other() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("patient Doe")

    upload = Upload("a", "a.png", b"x")
    reading = uploads.read(upload, SimpleNamespace(read=fail))  # type: ignore[arg-type]
    assert reading.film is reading.diagnosis is None
    assert reading.error.startswith("a.png could not be read: the program failed (RuntimeError)")
    assert "Doe" not in reading.error


def test_no_name_in_an_archive_stands_twice_or_leads_out_of_it() -> None:
    films = ["a.png", "A.jpg", "b/a.png", "../../etc/x.png", "c:\\d.png", "..", "/e.png"]
    names = list(report_view._names(films))
    assert names == ["a", "A-2", "b_a", "etc_x", "c__d", "film", "e"]


def script() -> None:
    import streamlit as st

    from cxr_core.ui import report_view

    state = st.session_state
    report_view.offer(state["predictor"], state["reading"], state["outcomes"])


@pytest.fixture
def page(predictor: Predictor, found: list[Outcome]) -> AppTest:
    app = AppTest.from_function(script, default_timeout=60)
    app.session_state["predictor"] = predictor
    app.session_state["reading"] = uploads.read(found[-2].upload, predictor)
    app.session_state["outcomes"] = found
    return app


def labels(app: AppTest, *, disabled: bool = False) -> list[str]:
    return [b.label for b in app.get("download_button") if b.proto.disabled == disabled]


def test_a_few_films_are_given_at_once(page: AppTest) -> None:
    page.run()
    assert labels(page) == [
        "Report of this film (HTML)",
        "Table of all films (CSV)",
        "Heat maps of all films (zip)",
        "Reports of all films (zip)",
    ]


def test_what_is_of_all_films_waits_for_the_last(page: AppTest, found: list[Outcome]) -> None:
    page.session_state["outcomes"] = [*found, None]
    page.run()
    assert labels(page) == ["Report of this film (HTML)"]
    assert len(labels(page, disabled=True)) == 3


def test_one_file_that_was_not_read_offers_nothing(page: AppTest, found: list[Outcome]) -> None:
    page.session_state["reading"] = uploads.read(found[-1].upload, page.session_state["predictor"])
    page.session_state["outcomes"] = found[-1:]
    page.run()
    assert labels(page) == labels(page, disabled=True) == []


def test_many_films_are_packed_beside_the_page_until_others_come(
    page: AppTest, found: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_view, "_AT_ONCE", 2)
    page.run()
    assert labels(page) == ["Report of this film (HTML)", "Table of all films (CSV)"]
    page.button(key="report:make:Heat maps").click().run()
    task: background.Task[bytes] = page.session_state["reports_packing"].task
    assert task.ended(60)
    page.run()
    assert labels(page)[-1] == "Heat maps of all films (zip)"
    assert zipfile.ZipFile(io.BytesIO(task.result())).testzip() is None
    assert page.button(key="report:make:Reports").disabled is False

    page.session_state["outcomes"] = found[:1]
    page.run()
    assert "reports_packing" not in page.session_state
    page.session_state["outcomes"] = found
    page.run().button(key="report:make:Heat maps").click().run()
    page.session_state["outcomes"] = found[:3]
    page.run()
    assert "reports_packing" not in page.session_state
    assert [button.label for button in page.button] == [
        "Make heat maps of all films",
        "Make reports of all films",
    ]
