"""Distillation: teachers blind to a part of the films each, and what is learned of them."""

import shutil
from dataclasses import dataclass
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


def _prepare(patch: pytest.MonkeyPatch) -> None:
    """Every batch is a point, every state is saved, and every third film is of a part."""
    patch.setattr(callbacks, "_POINT_INTERVAL", 0.0)
    patch.setattr(checkpoint, "_PACE", 0.0)
    patch.setattr(splits, "parts", lambda catalog, paths, k, seed: np.arange(len(paths)) % k)


@pytest.fixture(autouse=True)
def every_third_film_is_of_a_part(monkeypatch):
    _prepare(monkeypatch)


def _spy_on_fits(patch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Note the rows of the films that each training learns from, in their order."""
    rows, fit = [], teachers.fit

    def spy(films: FilmSet, *rest: object, **named: object) -> object:
        rows.append(films.train.rows)
        return fit(films, *rest, **named)

    patch.setattr(teachers, "fit", spy)
    return rows


@pytest.fixture
def trained(monkeypatch) -> list[np.ndarray]:
    """The rows of the films that each training of this test learned from, in their order."""
    return _spy_on_fits(monkeypatch)


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


@dataclass(frozen=True)
class Taught:
    """Three teachers that were left alone, trained once for all tests."""

    films: FilmSet  # before
    targets: np.ndarray  # what is to be learned of them, half of it the opinions
    run: Run
    folder: Path  # what they left; to be copied, not changed
    learned: list[np.ndarray]  # rows of the films each learned from
    asked: list[np.ndarray]  # rows of the training films each was asked about


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Taught:
    films, run, folder = film_set(), Run(), tmp_path_factory.mktemp("taught")
    asked, inference = [], teachers.network.inference

    def spied(*given: object) -> object:
        infer = inference(*given)

        def ask(pixels: object, rows: np.ndarray) -> np.ndarray:
            if set(rows) <= set(films.train.rows):
                asked.append(rows)
            return infer(pixels, rows)

        return ask

    with pytest.MonkeyPatch.context() as patch:
        _prepare(patch)
        learned = _spy_on_fits(patch)
        patch.setattr(teachers.network, "inference", spied)
        targets = teachers.teach(films, config(), run, CPU, folder).targets
    return Taught(films, targets, run, folder, learned, asked)


@pytest.fixture
def left(taught, tmp_path) -> Path:
    """A copy of what the teachers left, for a test to change or to go on from."""
    return shutil.copytree(taught.folder, tmp_path / "left")


def test_every_teacher_is_blind_to_a_part_and_every_film_is_in_one(taught):
    assert len(taught.learned) == 3
    every = set(taught.films.train.rows)
    blind = [every - set(rows) for rows in taught.learned]
    assert sorted(row for part in blind for row in part) == sorted(every)


def test_a_teacher_is_asked_about_the_films_it_never_saw(taught, left, trained):
    assert len(taught.asked) == len(taught.learned) == 3
    rows_of_all = taught.films.train.rows
    for rows, learned in zip(taught.asked, taught.learned, strict=True):
        assert set(rows) == set(rows_of_all) - set(learned)
    targets = teach(Run(), left, **{"distil.share": 1.0}).targets
    assert trained == []  # they are not trained again
    for number, rows in enumerate(taught.asked, start=1):  # each film has its own one's opinion
        said = np.load(left / f"teacher-{number}" / "opinions.npy")
        places = np.searchsorted(rows_of_all, rows)
        np.testing.assert_allclose(targets[places, 0], said[:, 1], rtol=1e-6)


def test_a_target_lies_between_the_label_and_the_opinion(left):
    run = Run()
    taught = teach(run, left, **{"distil.share": 0.25})
    labels = taught.train.labels
    own = np.where(labels == 1, taught.targets[:, 0], 1 - taught.targets[:, 0])
    assert taught.targets.shape == (36, 1)
    assert (own >= 0.75).all()
    assert (own < 1).any()
    targets = taught.training(config(), 32).targets
    np.testing.assert_array_equal(targets, taught.targets)
    assert any("agree with" in note for note in run.notes)


def test_what_teachers_go_through_is_told_without_curves_and_pictures(taught):
    run = taught.run
    assert {phase.partition(":")[0] for phase in run.phases} == {
        f"teacher {number} of 3" for number in (1, 2, 3)
    }
    assert run.told[STEPS - 1] == (72, 72)
    assert not run.metrics
    assert not run.files


def test_killed_among_teachers_it_goes_on_to_the_same_targets(taught, tmp_path, trained):
    with pytest.raises(RunCancelled):  # in the second teacher's second epoch
        teachers.teach(film_set(), config(), _Ending(STEPS + 3), CPU, tmp_path / "killed")
    assert len(trained) == 2
    run = Run()
    resumed = teach(run, tmp_path / "killed").targets
    np.testing.assert_array_equal(resumed, taught.targets)
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


def test_opinions_of_other_films_are_not_taken(left):
    np.save(left / "teacher-2" / "opinions.npy", np.zeros((3, 2)))
    with pytest.raises(TrainingError, match="other films"):
        teach(Run(), left)


def test_a_teacher_whose_opinions_are_damaged_is_asked_again(taught, left, trained):
    (left / "teacher-2" / "opinions.npy").write_bytes(b"damaged")
    again = teach(Run(), left)
    assert len(trained) == 1
    np.testing.assert_allclose(again.targets, taught.targets, rtol=1e-6)


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
