"""Files and folders become outcomes in order; a bad file is an outcome too."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

from cxr_core import NOT_FOR_CLINICAL_USE
from cxr_core.diagnosis import scoring
from cxr_core.diagnosis.predictor import Predictor


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


def test_files_are_read_as_the_outcomes_are_asked_for(predictor: Predictor, phantoms: Path) -> None:
    asked = 0

    def films():
        nonlocal asked
        for path in sorted((phantoms / "images").iterdir()):
            asked += 1
            yield path, Path(path.name)

    next(scoring.score(predictor, films()))
    assert asked == scoring.BATCH


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
