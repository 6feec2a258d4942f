"""Distillation: teachers blind to a part of the films each, and what is learned of them."""

from pathlib import Path

import numpy as np
import pytest
from discs import CPU, Run, film_set

from cxr_core.config import RunConfig
from cxr_core.data import catalog, splits
from cxr_core.errors import ConfigError, DatasetError, TrainingError
from cxr_core.training import callbacks, checkpoint, teachers
from cxr_core.training.film_set import FilmSet
from cxr_core.training.writer import RunCancelled

STEPS = 6  # of a teacher: 24 films in batches of 12, three epochs


@pytest.fixture(autouse=True)
def every_third_film_is_of_a_part(monkeypatch):
    monkeypatch.setattr(callbacks, "_POINT_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "_PACE", 0.0)
    monkeypatch.setattr(splits, "parts", lambda catalog, paths, k, seed: np.arange(len(paths)) % k)


@pytest.fixture
def trained(monkeypatch) -> list[np.ndarray]:
    """The rows of the films that each training learned from, in their order."""
    rows, fit = [], teachers.fit

    def spy(films: FilmSet, *rest: object) -> object:
        rows.append(films.train.rows)
        return fit(films, *rest)

    monkeypatch.setattr(teachers, "fit", spy)
    return rows


def config(**changes: object) -> RunConfig:
    return RunConfig().with_values(
        {
            "image.size": 32,
            "optimise.batch_size": 12,
            "optimise.epochs": 3,
            "distil.teachers": 3,
            **changes,
        }
    )


def teach(run: Run, folder: Path, **changes: object) -> FilmSet:
    return teachers.teach(film_set(), config(**changes), run, CPU, folder)


def test_every_teacher_is_blind_to_a_part_and_every_film_is_in_one(tmp_path, trained):
    films = film_set()
    teach(Run(), tmp_path)
    assert len(trained) == 3
    blind = [set(films.train.rows) - set(rows) for rows in trained]
    assert sorted(row for part in blind for row in part) == sorted(films.train.rows)


def test_a_teacher_is_asked_about_the_films_it_never_saw(tmp_path, trained, monkeypatch):
    asked, inference = [], teachers.network.inference

    def spied(*given: object) -> object:
        infer = inference(*given)

        def ask(pixels: object, rows: np.ndarray) -> np.ndarray:
            asked.append(rows)
            return infer(pixels, rows)

        return ask

    monkeypatch.setattr(teachers.network, "inference", spied)
    films = film_set()
    taught = teach(Run(), tmp_path, **{"distil.share": 1.0})
    of_train = [rows for rows in asked if set(rows) <= set(films.train.rows)]
    assert len(of_train) == len(trained) == 3
    for rows, learned in zip(of_train, trained, strict=True):
        assert set(rows) == set(films.train.rows) - set(learned)
    for number, rows in enumerate(of_train, start=1):  # each film has its own teacher's opinion
        said = np.load(tmp_path / f"teacher-{number}" / "opinions.npy")
        places = np.searchsorted(films.train.rows, rows)
        np.testing.assert_allclose(taught.targets[places, 0], said[:, 1], rtol=1e-6)


def test_a_target_lies_between_the_label_and_the_opinion(tmp_path):
    run = Run()
    taught = teach(run, tmp_path, **{"distil.share": 0.25})
    labels = taught.train.labels
    own = np.where(labels == 1, taught.targets[:, 0], 1 - taught.targets[:, 0])
    assert taught.targets.shape == (36, 1)
    assert (own >= 0.75).all()
    assert (own < 1).any()
    targets = taught.training(config(), 32).targets
    np.testing.assert_array_equal(targets, taught.targets)
    assert any("agree with" in note for note in run.notes)


def test_what_teachers_go_through_is_told_without_curves(tmp_path):
    run = Run()
    teach(run, tmp_path)
    assert {phase.partition(":")[0] for phase in run.phases} == {
        f"teacher {number} of 3" for number in (1, 2, 3)
    }
    assert run.told[STEPS - 1] == (72, 72)
    assert not run.metrics
    assert not run.files


def test_killed_among_teachers_it_goes_on_to_the_same_targets(tmp_path, trained):
    whole = teach(Run(), tmp_path / "whole").targets
    trained.clear()
    with pytest.raises(RunCancelled):  # in the second teacher's second epoch
        teachers.teach(film_set(), config(), _Ending(STEPS + 3), CPU, tmp_path / "killed")
    assert len(trained) == 2
    run = Run()
    resumed = teach(run, tmp_path / "killed").targets
    np.testing.assert_array_equal(resumed, whole)
    assert len(trained) == 4  # the first teacher was not trained again
    assert run.told[0][0] == 36  # the second went on after its first epoch


class _Ending(Run):
    """A run that is cancelled after some batches of its teachers."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._left = batches

    def progress(self, done: int, total: int) -> None:
        super().progress(done, total)
        self._left -= 1
        if not self._left:
            self.request = "cancel"


def test_a_stop_among_teachers_ends_a_run_that_has_nothing_to_keep(tmp_path):
    run = Run()
    run.request = "stop"
    with pytest.raises(RunCancelled):
        teach(run, tmp_path)


def test_opinions_of_other_films_are_not_taken(tmp_path):
    teach(Run(), tmp_path)
    np.save(tmp_path / "teacher-2" / "opinions.npy", np.zeros((3, 2)))
    with pytest.raises(TrainingError, match="other films"):
        teach(Run(), tmp_path)


def test_a_teacher_whose_opinions_are_damaged_is_asked_again(tmp_path, trained):
    whole = teach(Run(), tmp_path)
    (tmp_path / "teacher-2" / "opinions.npy").write_bytes(b"damaged")
    again = teach(Run(), tmp_path)
    np.testing.assert_allclose(again.targets, whole.targets, rtol=1e-6)


def test_a_single_teacher_is_refused():
    with pytest.raises(ConfigError, match="2 or more"):
        config(**{"distil.teachers": 1})


def test_parts_divide_no_patient_and_have_every_class(phantoms, monkeypatch):
    monkeypatch.undo()
    found = catalog.scan(phantoms)
    films = found.frame[found.frame["split"] == "train"]
    part = splits.parts(found, list(films["path"]), 3, seed=0)
    by_part = films.assign(part=part)
    assert (by_part.groupby("patient_id")["part"].nunique() == 1).all()
    assert (by_part.groupby("part")["label"].nunique() == 3).all()
    np.testing.assert_array_equal(part, splits.parts(found, list(films["path"]), 3, seed=0))
    assert (part != splits.parts(found, list(films["path"]), 3, seed=1)).any()


def test_more_teachers_than_patients_of_a_class_is_a_sentence(phantoms, monkeypatch):
    monkeypatch.undo()
    found = catalog.scan(phantoms)
    few = found.frame.groupby("label").head(2)
    with pytest.raises(DatasetError, match="one for each of 5 parts of the training films"):
        splits.parts(found, list(few["path"]), 5, seed=0)
