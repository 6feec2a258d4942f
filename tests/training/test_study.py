"""What a sweep tries next and which trial it ends early, without a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_trials import SPACE

from cxr_core.training.search import Search
from cxr_core.training.study import Study
from cxr_core.training.trials import Outcome, Trial

SEARCH = Search(SPACE, pruner="none")


def study(folder: Path, search: Search = SEARCH, epochs: int = 9) -> Study:
    return Study(folder / "study.db", "sweep", search, epochs=epochs, seed=0)


def trial(number: int, values: dict, *course: float, outcome: Outcome = Outcome.COMPLETE) -> Trial:
    return Trial(
        number,
        f"run {number}",
        values,
        outcome,
        figures={"val_auroc": max(course)},
        course=dict(enumerate(course, start=1)),
        seconds=9.0,
        parameters=100,
    )


def try_out(at: Study, number: int, *course: float) -> list[int]:
    """Try what is asked for; return the epochs after which it was said to do worse."""
    asked = at.ask(number)
    told = [
        epoch
        for epoch in range(1, len(course) + 1)
        if asked.worse(dict(enumerate(course[:epoch], start=1)))
    ]
    at.tell(asked, trial(number, asked.values, *course))
    return told


def test_what_is_asked_lies_in_the_space_and_depends_on_what_was_told(tmp_path):
    at, rates = study(tmp_path), []
    for number in range(1, 25):
        asked = at.ask(number)
        rate, optimizer = asked.values.values()
        assert 1e-4 <= rate <= 1e-2
        assert optimizer in ("adam", "adamw")
        at.tell(asked, trial(number, asked.values, 10 * rate))
        rates.append(rate)
    assert np.mean(np.log10(rates[12:])) > -2.6  # by chance it would be about -3


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_that_is_opened_again_goes_on_drawing_as_if_it_had_not_been_closed(
    tmp_path, sampler
):
    search, drawn = replace(SEARCH, sampler=sampler), []
    for folder, opened in ((tmp_path / "once", 1), (tmp_path / "often", 9)):
        folder.mkdir()
        at, rates = study(folder, search), []
        for number in range(1, 10):
            if opened > 1:
                at.ask(number)  # by a process that was killed
                at = study(folder, search)
            asked = at.ask(number)
            rates.append(asked.values["optimise.learning_rate"])
            at.tell(asked, trial(number, asked.values, 10 * rates[-1]))
        drawn.append(rates)
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 9


def test_what_a_killed_process_asked_for_is_no_trial_of_the_next_one(tmp_path):
    at = study(tmp_path)
    at.ask(1)
    at._study.enqueue_trial({"optimise.learning_rate": 1e-3, "optimise.optimizer": "adam"})
    states = [each.state.name for each in study(tmp_path)._study.trials]
    assert states == ["FAIL", "FAIL"]


def test_the_median_ends_a_trial_below_the_others_after_the_epochs_that_are_spared(tmp_path):
    at = study(tmp_path, replace(SEARCH, pruner="median"))
    for number in range(1, 5):
        assert try_out(at, number, 0.6, 0.7, 0.8) == []
    assert try_out(at, 5, 0.1, 0.1, 0.1) == [2, 3]
    assert try_out(at, 6, 0.1, 0.75, 0.8) == []


def test_hyperband_ends_the_worse_of_many(tmp_path):
    at = study(tmp_path, replace(SEARCH, pruner="hyperband"))
    for number in range(1, 13):
        try_out(at, number, *[0.8] * 9)
    ended = [bool(try_out(at, number, *[0.1] * 9)) for number in range(13, 21)]
    assert sum(ended) >= 4  # the others are in a bracket that judges later
    assert try_out(at, 21, *[0.9] * 9) == []


def test_what_matters_is_told_once_there_are_trials_enough(tmp_path):
    at = study(tmp_path)
    for number in range(1, 15):
        asked = at.ask(number)
        better = asked.values["optimise.learning_rate"] < 1e-3
        at.tell(asked, trial(number, asked.values, 0.9 if better else 0.7))
        if number == 3:
            assert at.importance() == {}
    importance = at.importance()
    assert sum(importance.values()) == pytest.approx(1)
    assert importance["optimise.learning_rate"] > importance["optimise.optimizer"]


def test_nothing_matters_where_all_have_one_figure(tmp_path):
    at = study(tmp_path)
    for number in range(1, 7):
        try_out(at, number, 0.8)
    assert at.importance() == {}


def test_a_failed_trial_says_nothing_and_an_outsider_is_not_told_of(tmp_path):
    at = study(tmp_path)
    inside = {"optimise.learning_rate": 1e-3, "optimise.optimizer": "adam"}
    outside = {**inside, "optimise.learning_rate": 0.5}
    at.learn(
        [
            trial(1, outside, 0.9),
            trial(2, inside, 0.8),
            trial(3, inside, 0.8, outcome=Outcome.FAILED),
            trial(4, inside, 0.8, outcome=Outcome.PRUNED),
        ]
    )
    at.learn([trial(2, inside, 0.8)])  # which it knows
    states = {each.user_attrs["trial"]: each.state.name for each in at._study.trials}
    assert states == {2: "COMPLETE", 4: "PRUNED"}
    assert len(at._study.trials) == 2
