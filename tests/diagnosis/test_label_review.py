"""Labels are checked in a process of its own, which can be ended and says what is wrong."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cxr_core.data import exclusions
from cxr_core.data.catalog import Catalog, scan
from cxr_core.diagnosis import label_review
from cxr_core.errors import DatasetError


@pytest.fixture
def instead_of_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a few lines in TensorFlow's place, as the child process sees it."""

    def put(lines: str) -> None:
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules" / "tensorflow.py").write_text(lines)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))

    return put


@pytest.mark.slow
def test_every_film_is_predicted_beside_this_process_and_the_result_is_kept(
    phantoms: Path,
) -> None:
    films = scan(phantoms)
    steps: list[tuple[str, int, int]] = []
    found = label_review.predict_beside(films, progress=lambda *step: steps.append(step))
    assert list(found["path"]) == list(films.frame["path"])
    assert found[list(films.classes)].sum(axis=1).to_numpy() == pytest.approx(1)
    assert ("Looking at films", 60, 60) in steps
    assert list(dict.fromkeys(step[0] for step in steps)) == [
        "Starting TensorFlow",
        "Decoding films",
        "Looking at films",
        "Predicting each film from the others",
    ]
    kept = label_review.kept(scan(phantoms))
    pd.testing.assert_frame_equal(kept, found)
    likely = found.set_index("path")[list(films.classes)].idxmax(axis=1)
    right = (likely == films.frame.set_index("path")["label"]).mean()
    assert right > 0.5  # chance is a third


def some_predictions(films: Catalog) -> pd.DataFrame:
    told = pd.get_dummies(films.frame["label"]).astype(float)
    return told.assign(path=films.frame["path"])


def test_what_was_kept_holds_for_the_same_films_labels_and_patients_alone(phantoms: Path) -> None:
    films = scan(phantoms)
    assert label_review.kept(films) is None
    label_review.keep(films, some_predictions(films))
    assert label_review.has_kept(films)
    for column, value in (("label", "OTHER"), ("patient_id", "somebody"), ("md5", "0" * 32)):
        frame = films.frame.copy()
        frame.loc[3, column] = value
        assert not label_review.has_kept(replace(films, frame=frame))
    parts = films.frame.assign(split="train")
    assert label_review.has_kept(replace(films, frame=parts))
    exclusions.exclude(films, [films.frame["path"].iloc[0]])
    assert not label_review.has_kept(exclusions.without(films)[0])


def test_a_damaged_result_is_none_and_does_not_pass_for_one(
    phantoms: Path, workspace_folder: Path
) -> None:
    films = scan(phantoms)
    label_review.keep(films, some_predictions(films))
    (file,) = (workspace_folder / "cache" / "labels").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert label_review.kept(films) is None
    assert not label_review.has_kept(films)


def test_a_review_can_be_stopped(phantoms: Path, workspace_folder: Path) -> None:
    with pytest.raises(label_review.ReviewCancelledError, match="You stopped"):
        label_review.predict_beside(scan(phantoms), cancelled=lambda: True)
    assert not (workspace_folder / "cache" / "labels").exists()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            "raise ModuleNotFoundError('No module', name='tensorflow')",
            "tensorflow is needed, and it is not installed",
        ),
        ("import os\nos._exit(9)", "ended without a word"),
        ("raise MemoryError", "Memory ran out"),
        ("raise ValueError('odd')", "A fault ended .*ValueError: odd"),
    ],
)
def test_what_ends_the_child_is_said_in_a_sentence(
    phantoms: Path, instead_of_tensorflow, lines: str, reason: str
) -> None:
    instead_of_tensorflow(lines)
    with pytest.raises(DatasetError, match=reason):
        label_review.predict_beside(scan(phantoms))


def test_a_set_that_cannot_be_checked_says_why_before_anything_takes_long(
    phantoms: Path, instead_of_tensorflow
) -> None:
    films = scan(phantoms)
    normal = films.frame["label"] == "NORMAL"
    alone = films.frame.assign(patient_id=films.frame["patient_id"].where(~normal, "one"))
    instead_of_tensorflow("raise AssertionError")
    with pytest.raises(DatasetError, match="two patients; NORMAL has fewer"):
        label_review.predict_beside(replace(films, frame=alone))
