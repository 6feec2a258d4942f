"""At its end a training learns what its films look like, and never fails for that."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from cxr_core import zoo  # noqa: F401  registers the networks
from cxr_core.config import RunConfig
from cxr_core.data import phantom
from cxr_core.diagnosis import familiar
from cxr_core.images import to_square
from cxr_core.training import gating
from cxr_core.training.film_set import FilmSet, Part
from cxr_core.training.writer import RunCancelled, RunWriter
from cxr_core.zoo import registry

SIZE = 32  # px


class Run:
    """Stands for a run's writer."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done = (0, 0)
        self.cancelled = False

    def note(self, *notes: str) -> None:
        self.notes += notes

    def progress(self, done: int, total: int) -> None:
        self.done = (done, total)

    def obey(self) -> None:
        if self.cancelled:
            raise RunCancelled


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    return np.stack(
        [
            to_square(
                phantom.draw("NORMAL", np.random.default_rng(seed), size=(320, 288)).pixels,
                SIZE,
                "squash",
            )
            for seed in range(80)
        ]
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return registry.build("plain_cnn", size=SIZE, outputs=1, seed=1)


def fit(model: Any, squares: np.ndarray, train: int, run: Run) -> Any:
    """Fit on the first ``train`` films, the others held back."""

    def part(rows: np.ndarray) -> Part:
        return Part(pd.DataFrame(index=rows), np.zeros(len(rows), np.int64), rows)

    rows = np.arange(len(squares))
    films = SimpleNamespace(
        decoded={SIZE: squares}, train=part(rows[:train]), val=part(rows[train:])
    )
    config = RunConfig().with_values(
        {"image.size": SIZE, "image.fit": "squash", "model.architecture": "plain_cnn"}
    )
    return gating.fit(model, cast(FilmSet, films), config, cast(RunWriter, run))


def test_the_statistics_of_a_runs_films_are_learned(model: Any, squares: np.ndarray) -> None:
    run = Run()
    known, about = fit(model, squares, 55, run)
    assert (about.train_films, about.val_films) == (55, 25)
    assert about.val_refused <= 2
    assert run.done == (80, 80)
    assert known.layers[-1] == registry.get("plain_cnn").cam_layer
    assert [known.view(np.rot90(squares[-1], turns)) for turns in range(4)] == [0, 1, 2, 3]


def test_too_few_films_are_a_note_of_the_run(model: Any, squares: np.ndarray) -> None:
    run = Run()
    assert fit(model, squares, 40, run) is None
    (note,) = run.notes
    assert note.startswith("The 40 training and 40 validation films are too few")


def test_a_fault_is_a_note_of_the_run(
    model: Any, squares: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(familiar, "fit", fail)
    run = Run()
    assert fit(model, squares, 55, run) is None
    assert "SVD did not converge" in run.notes[0]


def test_a_request_to_cancel_ends_it(model: Any, squares: np.ndarray) -> None:
    run = Run()
    run.cancelled = True
    with pytest.raises(RunCancelled):
        fit(model, squares, 55, run)
