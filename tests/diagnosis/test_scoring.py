"""Files and folders become outcomes in order; a bad file is an outcome too."""

import csv
import os
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import pytest
import tiny

from cxr_core import NOT_FOR_CLINICAL_USE, images
from cxr_core.data import phantom
from cxr_core.diagnosis import answer_table, gate, scoring
from cxr_core.diagnosis.predictor import Predictor
from cxr_core.errors import DatasetError
from cxr_core.images import raster


@pytest.fixture(scope="module")
def predictor(binary_bundle: Path) -> Predictor:
    return Predictor(binary_bundle)


@pytest.fixture
def folder(tmp_path: Path, phantoms: Path) -> Path:
    """Two films in two folders, a file that is none, a photograph, and files to pass over."""
    place = tmp_path / "films"
    (place / "b").mkdir(parents=True)
    first, second = sorted((phantoms / "images").iterdir())[:2]
    (place / "a.png").write_bytes(first.read_bytes())
    (place / "b" / "a.png").write_bytes(second.read_bytes())
    (place / "broken.png").write_text("no picture")
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (90, 90, 3)).astype(np.uint8)
    cv2.imwrite(str(place / "cat.png"), photograph)
    (place / "notes.txt").write_text("not a film")
    (place / "LICENSE").write_text("not a film either")
    (place / ".hidden.png").write_bytes(first.read_bytes())
    return place


def test_a_folder_is_searched_in_the_order_of_names(folder: Path) -> None:
    found = [str(name) for _, name in scoring.find([folder])]
    assert found == ["a.png", "broken.png", "cat.png", "b/a.png"]


def test_dicom_files_without_a_suffix_are_found(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "1.2.840.10008").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "README").write_text("x" * 200)
    assert [path.name for path, _ in scoring.find([tmp_path])] == ["1.2.840.10008", "IM0001"]


def test_a_named_file_is_taken_whatever_it_is_called(folder: Path) -> None:
    assert [path.name for path, _ in scoring.find([folder / "notes.txt"])] == ["notes.txt"]


def test_every_file_has_an_outcome_and_a_bad_one_stops_nothing(
    predictor: Predictor, folder: Path
) -> None:
    outcomes = [o.as_json() for o in scoring.score(predictor, scoring.find([folder]))]
    film, broken, cat, other = outcomes
    for outcome in (film, other):
        assert outcome["accepted"] is True
        assert outcome["reasons"] == []
        assert outcome["label"] in tiny.BINARY
        assert outcome["probability"] == outcome["probabilities"][outcome["label"]]
        assert outcome["threshold"] == 0.5
        assert outcome["note"].startswith(NOT_FOR_CLINICAL_USE)
        assert "synthetic" in outcome["note"]
        assert "error" not in outcome
    assert film["probability"] != other["probability"]
    assert "broken.png" in broken["error"]
    assert broken["probability"] is None
    assert cat["accepted"] is False
    assert "in colour" in cat["reasons"][0]
    assert (cat["label"], cat["probability"], cat["probabilities"]) == (None, None, {})


def test_a_film_scores_the_same_alone_and_in_a_batch(predictor: Predictor, phantoms: Path) -> None:
    paths = sorted((phantoms / "images").iterdir())[: scoring.BATCH + 2]
    together = list(scoring.score(predictor, scoring.find(paths)))
    assert [outcome.path for outcome in together] == paths
    (alone,) = scoring.score(predictor, scoring.find(paths[-1:]))
    expected = together[-1].as_json()["probabilities"]
    assert alone.as_json()["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_no_more_films_are_read_than_a_few_batches(
    predictor: Predictor, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "BATCH", 4)
    asked = 0

    def films():
        nonlocal asked
        for path in sorted((phantoms / "images").iterdir()):
            asked += 1
            yield path, Path(path.name)

    next(scoring.score(predictor, films()))
    assert asked == 4 * (2 + scoring.AHEAD)


def test_a_film_that_fails_in_an_unknown_way_costs_no_other(
    predictor: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(source: Path, name: str = "", *, square: int | None = None) -> images.Radiograph:
        if source.name == "cat.png":
            raise RuntimeError("patient Doe")
        return reading(source, name, square=square)

    reading = images.read
    monkeypatch.setattr(images, "read", read)
    *_, bad, good = scoring.score(predictor, scoring.find([folder]))
    assert bad.error.startswith("cat.png could not be read: the program failed (RuntimeError)")
    assert "Doe" not in bad.error
    assert good.diagnosis is not None and good.diagnosis.accepted


def test_a_large_film_is_decoded_alone(
    predictor: Predictor, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, held = images.read, []

    def read(source: Path, name: str = "", *, square: int | None = None) -> images.Radiograph:
        held.append((source.name, scoring._ALONE.locked()))
        return reading(source, name, square=square)

    monkeypatch.setattr(images, "read", read)
    monkeypatch.setattr(scoring, "READERS", 1)  # else another's film may hold the lock
    monkeypatch.setattr(scoring, "LARGE", (folder / "a.png").stat().st_size - 1)
    monkeypatch.setattr(images, "could_be_film", lambda path: path.name in ("a.png", "broken.png"))
    list(scoring.score(predictor, scoring.find([folder]), tmp_path / "maps"))
    assert set(held) >= {("a.png", True), ("broken.png", False)}
    assert [locked for name, locked in held if name == "a.png"].count(True) >= 2  # also to draw it


def test_a_folder_that_cannot_be_opened_is_an_outcome(
    predictor: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def closed(place: str) -> object:
        if Path(place).name == "b":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", closed)
    *_, last = scoring.score(predictor, scoring.find([folder]))
    assert last.error == f"The folder {folder / 'b'} cannot be opened. Check its permissions."


def test_a_large_jpeg_is_read_at_a_reduced_scale_and_scores_as_on_the_page(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = phantom.draw("PNEUMONIA", np.random.default_rng(1), size=(301, 403)).pixels
    path = tmp_path / "large.jpg"
    cv2.imwrite(str(path), film, (cv2.IMWRITE_JPEG_QUALITY, 90))
    whole = predictor.diagnose(images.read(path), heatmap=False)
    seen = predictor.read(path)
    assert (seen.scale, seen.width, seen.height) == (4, 403, 301)
    monkeypatch.setattr(raster, "read", lambda *_: pytest.fail("was decoded whole"))
    (outcome,) = scoring.score(predictor, [(path, Path(path.name))])
    assert outcome.diagnosis is not None
    page = predictor.diagnose(seen, heatmap=False)
    assert outcome.diagnosis.probabilities == pytest.approx(page.probabilities, abs=1e-6)
    assert outcome.diagnosis.abnormal == pytest.approx(whole.abnormal, abs=0.01)
    # What is asked again of slight changes is what was answered for, not the film in full.
    assert np.array_equal(page.square, predictor.square(seen))
    assert not np.array_equal(page.square, whole.square)


def test_what_the_gate_saw_is_told(predictor: Predictor, folder: Path) -> None:
    film, broken, *_ = (o.as_json() for o in scoring.score(predictor, scoring.find([folder])))
    assert film["unchecked"] == [gate.UNCHECKED]  # this bundle has no statistics of its films
    assert film["burned_in"] is False
    assert film["distance"] is None
    assert film["model"] == broken["model"] == predictor.info.model_sha256[:12]
    assert broken["burned_in"] is None


def test_heat_maps_are_drawn_at_the_films_own_size_under_their_own_names(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "maps"
    (folder / "a.jpeg").write_bytes(
        cv2.imencode(".jpg", cv2.imread(str(folder / "a.png"), cv2.IMREAD_GRAYSCALE))[1].tobytes()
    )
    outcomes = list(scoring.score(predictor, scoring.find([folder, folder / "a.png"]), out))
    drawn = {str(o.overlay.relative_to(out)): o for o in outcomes if o.overlay}
    assert set(drawn) == {"a.png", "a.png.png", "a.png-2.png", "b/a.png"}
    for name, outcome in drawn.items():
        film = cv2.imread(str(outcome.path), cv2.IMREAD_GRAYSCALE)
        shown = cv2.imread(str(out / name))
        assert shown.shape == (*film.shape, 3)
        assert outcome.as_json()["heatmap"] == str(out / name)


def test_the_table_has_a_column_for_every_class(predictor: Predictor, folder: Path) -> None:
    names = scoring.columns(tiny.BINARY)
    rows = [o.as_row(tiny.BINARY) for o in scoring.score(predictor, scoring.find([folder]))]
    assert all(list(row) == names for row in rows)
    assert rows[0]["p_NORMAL"] + rows[0]["p_PNEUMONIA"] == pytest.approx(1)
    assert rows[1]["error"]
    assert rows[1]["p_NORMAL"] is None
    assert rows[2]["reasons"].endswith(".")


class TestGoingOn:
    """A table that was interrupted, and is taken up again."""

    MODEL = MappingProxyType({"model": "abc", "threshold": 0.5})
    COLUMNS = ("path", "model", "threshold", "note")

    def table(self, path: Path, resume: bool = True, **model: object) -> answer_table.AnswerTable:
        return answer_table.AnswerTable(path, self.COLUMNS, {**self.MODEL, **model}, resume=resume)

    def write(self, path: Path, *films: str) -> bytes:
        with self.table(path) as table:
            for film in films:
                table.add({"path": film, **self.MODEL, "note": "a, b"})
        return path.read_bytes()

    def test_at_whatever_byte_it_was_cut_the_table_becomes_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        films = ("=1+1.png", 'a\r\n"b".png', "ä\udcff.png")
        whole = self.write(path, *films)
        for end in range(len(whole)):
            path.write_bytes(whole[:end])
            with self.table(path) as table:
                left = [film for film in films if not table.has(film)]
                for film in left:
                    table.add({"path": film, **self.MODEL, "note": "a, b"})
            assert path.read_bytes() == whole, end
            rows = whole[:end].count(b'a, b"\r\n')
            assert len(left) == len(films) - rows

    def test_a_cell_is_never_a_formula(self, tmp_path: Path) -> None:
        self.write(tmp_path / "a.csv", "=1+1.png", "-2.png", "@x.png", "ordinary.png")
        with (tmp_path / "a.csv").open(newline="") as file:
            paths = [row["path"] for row in csv.DictReader(file)]
        assert paths == ["'=1+1.png", "'-2.png", "'@x.png", "ordinary.png"]
        assert answer_table.text(["path"], [{"path": "=1"}]) == "path\r\n'=1\r\n"

    def test_without_resume_it_is_written_anew(self, tmp_path: Path) -> None:
        self.write(tmp_path / "a.csv", "x.png")
        with self.table(tmp_path / "a.csv", resume=False) as table:
            assert not table.has("x.png")
        assert (tmp_path / "a.csv").read_text().count("\n") == 1

    @pytest.mark.parametrize("change", [{"model": "other"}, {"threshold": 0.6}])
    def test_another_model_is_refused_and_the_table_kept(
        self, tmp_path: Path, change: dict[str, object]
    ) -> None:
        whole = self.write(tmp_path / "a.csv", "x.png")
        with pytest.raises(DatasetError, match="answers of another model, or at another threshold"):
            self.table(tmp_path / "a.csv", **change)
        assert (tmp_path / "a.csv").read_bytes() == whole

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("name,age\r\nx,1\r\n", "has other columns"),
            ("a list of films", "has other columns"),
            ("path,model,threshold,note\r\nx.png,abc\r\ny.png,abc,0.5,\r\n", "is damaged"),
            ('path,model,threshold,note\r\n"x.png,abc\r\n' + 200_000 * "y", "is damaged"),
        ],
        ids=["another table", "no table", "half a row within", "a quote without end"],
    )
    def test_what_is_no_such_table_is_left_alone(
        self, tmp_path: Path, content: str, said: str
    ) -> None:
        path = tmp_path / "a.csv"
        path.write_bytes(content.encode())
        with pytest.raises(DatasetError, match=said):
            self.table(path)
        assert path.read_bytes() == content.encode()

    def test_films_passed_over_keep_their_heat_maps_names(
        self, predictor: Predictor, folder: Path, tmp_path: Path
    ) -> None:
        film = folder / "a.png"
        same = cv2.imread(str(film), cv2.IMREAD_GRAYSCALE)
        (folder / "a.jpeg").write_bytes(cv2.imencode(".jpg", same)[1].tobytes())
        found = scoring.score(
            predictor, scoring.find([folder]), tmp_path, skip=lambda path: path.name == "a.jpeg"
        )
        assert next(found).overlay == tmp_path / "a.png.png"  # a.png is the JPEG's
