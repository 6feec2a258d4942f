"""At its end a training learns what its films look like, and never fails for that."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from cxr_core import zoo  # noqa: F401  registers the networks
from cxr_core.config import RunConfig
from cxr_core.data import phantom
from cxr_core.diagnosis import familiar, similar
from cxr_core.images import to_square
from cxr_core.training import known_films
from cxr_core.training.film_set import FilmSet, Part
from cxr_core.training.known_films import KnownFilms
from cxr_core.training.writer import RunCancelled, RunWriter
from cxr_core.zoo import registry

SIZE = 32  # px
FILMS = 80


class Run:
    """Stands for a run's writer."""

    def __init__(self, cancelled: bool = False) -> None:
        self.notes: list[str] = []
        self.done = (0, 0)
        self.cancelled = cancelled

    def note(self, *notes: str) -> None:
        self.notes += notes

    def progress(self, done: int, total: int) -> None:
        if self.cancelled:
            raise RunCancelled
        self.done = (done, total)


class Stored:
    """Films in a file, which gives rows by an array of their numbers alone."""

    def __init__(self, squares: np.ndarray) -> None:
        self._squares = squares

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        assert len(rows) <= FILMS
        return self._squares[rows]


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    return np.stack(
        [
            to_square(
                phantom.draw("NORMAL", np.random.default_rng(seed), size=(320, 288)).pixels,
                SIZE,
                "squash",
            )
            for seed in range(FILMS)
        ]
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return registry.build("plain_cnn", size=SIZE, outputs=1, seed=1)


def names(rows: np.ndarray) -> list[str]:
    return [f"{row:032}"[::-1] for row in rows]


def learn(
    model: Any, squares: np.ndarray, train: int, run: Run, *, pictures: bool = True
) -> KnownFilms:
    """Learn from the last ``train`` films, the others held back."""

    def part(rows: np.ndarray) -> Part:
        table = pd.DataFrame({"md5": names(rows), "patient_id": ""})
        return Part(table, rows % 2, rows)

    rows = np.arange(len(squares))
    films = SimpleNamespace(
        decoded={SIZE: Stored(squares)},
        train=part(rows[-train:]),
        val=part(rows[:-train]),
        provenance=SimpleNamespace(pictures=pictures),
    )
    config = RunConfig().with_values(
        {"image.size": SIZE, "image.fit": "squash", "model.architecture": "plain_cnn"}
    )
    return known_films.learn(model, cast(FilmSet, films), config, cast(RunWriter, run))


@pytest.mark.parametrize("pictures", [True, False])
def test_a_model_learns_its_films_looks_and_keeps_some_with_pictures_where_the_licence_allows(
    model: Any, squares: np.ndarray, pictures: bool
) -> None:
    run = Run()
    found = learn(model, squares, 55, run, pictures=pictures)
    assert found.gate is not None and found.similar is not None
    assert (run.done, run.notes) == ((80, 80), [])
    known, about = found.gate
    assert (about.train_films, about.val_films) == (55, 25)
    assert about.val_refused <= 2
    assert known.layers[-1] == registry.get("plain_cnn").cam_layer
    assert [known.view(np.rot90(squares[0], turns)) for turns in range(4)] == [0, 1, 2, 3]
    kept, about = found.similar
    assert (about.films, about.pictures, bool(kept.pictures.size)) == (55, pictures, pictures)
    assert sorted(kept.films) == sorted(name[:8] for name in names(np.arange(25, 80)))


def test_each_kept_film_is_nearest_to_itself(model: Any, squares: np.ndarray) -> None:
    from cxr_core.diagnosis.single_pass import SinglePass

    found = learn(model, squares, 55, Run())
    assert found.similar is not None
    network = SinglePass(model, (registry.get("plain_cnn").cam_layer,))
    for row in (25, 50, 79):
        (features,) = network.answers(squares[row : row + 1]).features
        nearest = found.similar[0].nearest(features, ("NORMAL", "PNEUMONIA"))[0]
        assert nearest.film == names(np.array([row]))[0][:8]
        assert nearest.label == ("NORMAL", "PNEUMONIA")[row % 2]
        assert nearest.distance < similar.SAME


def test_too_few_films_are_a_note_of_the_run_and_what_is_possible_is_kept(
    model: Any, squares: np.ndarray
) -> None:
    run = Run()
    found = learn(model, squares, 40, run)
    assert found.gate is None and found.similar is not None
    assert run.notes == [
        "The model cannot refuse pictures unlike its films: 40 training and 40 validation films "
        "are too few: 50 and 20 are needed."
    ]
    assert learn(model, squares, 4, run).similar is None
    assert "compare films with: 4 films of 4 patients are too few" in run.notes[-1]


@pytest.mark.parametrize("module", [familiar, similar])
def test_a_fault_in_one_is_a_note_of_the_run_and_does_not_cost_the_other(
    model: Any, squares: np.ndarray, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(module, "fit", fail)
    run = Run()
    found = learn(model, squares, 55, run)
    assert (found.gate is None, found.similar is None) == (module is familiar, module is similar)
    (note,) = run.notes
    assert "SVD did not converge" in note


def test_films_that_cannot_be_read_are_a_note_of_the_run(
    model: Any, squares: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the cache is gone")

    monkeypatch.setattr(Stored, "__getitem__", fail)
    run = Run()
    found = learn(model, squares, 55, run)
    assert (found.gate, found.similar) == (None, None)
    assert run.notes == ["The model's films could not be shown to it: the cache is gone."]


def test_a_request_to_cancel_ends_it(model: Any, squares: np.ndarray) -> None:
    with pytest.raises(RunCancelled):
        learn(model, squares, 55, Run(cancelled=True))
