"""At its end a training keeps films to compare with, and never fails for that."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from cxr_core import zoo  # noqa: F401  registers the networks
from cxr_core.config import RunConfig
from cxr_core.diagnosis import similar
from cxr_core.training import similar_films
from cxr_core.training.film_set import FilmSet, Part
from cxr_core.training.writer import RunCancelled, RunWriter
from cxr_core.zoo import registry

SIZE = 32  # px
FILMS = 40


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
def model() -> Any:
    return registry.build("plain_cnn", size=SIZE, outputs=1, seed=1)


def fit(model: Any, run: Run, *, films: int = FILMS, pictures: bool = True) -> Any:
    squares = np.random.default_rng(0).integers(0, 256, (FILMS + 5, SIZE, SIZE), np.uint8)
    rows = np.arange(5, films + 5)  # the training films are not the first that were decoded
    table = pd.DataFrame({"md5": [f"{row:032}"[::-1] for row in rows], "patient_id": ""})
    given = SimpleNamespace(
        decoded={SIZE: Stored(squares)},
        train=Part(table, rows % 2, rows),
        provenance=SimpleNamespace(pictures=pictures),
    )
    config = RunConfig().with_values({"image.size": SIZE, "model.architecture": "plain_cnn"})
    return similar_films.fit(model, cast(FilmSet, given), config, cast(RunWriter, run))


@pytest.mark.parametrize("pictures", [True, False])
def test_training_films_go_with_the_model_with_pictures_where_the_licence_allows(
    model: Any, pictures: bool
) -> None:
    run = Run()
    known, about = fit(model, run, pictures=pictures)
    assert (about.films, about.pictures, run.done, run.notes) == (FILMS, pictures, (40, 40), [])
    assert sorted(known.films) == sorted(f"{row:032}"[::-1][:8] for row in range(5, FILMS + 5))
    assert bool(known.pictures.size) is pictures


def test_what_prevents_it_is_a_note_of_the_run(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run()
    assert fit(model, run, films=4) is None
    assert run.notes == [
        "No training films go with the model to compare films with: 4 films of 4 patients are too "
        "few."
    ]

    def fail(*_: object) -> None:
        raise np.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(similar, "fit", fail)
    assert fit(model, run) is None
    assert "did not converge" in run.notes[1]


def test_a_request_to_cancel_ends_it(model: Any) -> None:
    with pytest.raises(RunCancelled):
        fit(model, Run(cancelled=True))
