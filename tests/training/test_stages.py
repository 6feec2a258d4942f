"""Which epochs see which films and train which layers."""

import pytest

from cxr_core.config import RunConfig
from cxr_core.training.stages import ALL, Stage, plan, sizes


def config(**optimise: float) -> RunConfig:
    values = {"image.size": 160, "optimise.epochs": 10}
    return RunConfig().with_values(
        {**values, **{f"optimise.{key}": value for key, value in optimise.items()}}
    )


def test_a_plain_training_is_one_stage():
    assert plan(config()) == [Stage(0, 10, 160, ALL, 1.0)]


def test_the_head_comes_first_and_then_the_last_layers_at_a_lower_rate():
    stages = plan(config(head_epochs=3, train_layers=12, body_rate=0.1))
    assert stages == [Stage(0, 3, 160, 0, 1.0), Stage(3, 10, 160, 12, 0.1)]
    assert [stage.words for stage in stages] == [
        "training the head at 160 px",
        "training the last 12 layers and the head at 160 px",
    ]


def test_where_the_body_is_never_trained_its_rate_means_nothing():
    stages = plan(config(head_epochs=3, train_layers=0, body_rate=0.1))
    assert stages == [Stage(0, 10, 160, 0, 1.0)]


def test_films_grow_and_the_head_phase_may_end_at_another_epoch():
    stages = plan(config(small_size=96, small_epochs=4, head_epochs=2))
    assert stages == [
        Stage(0, 2, 96, 0, 1.0),
        Stage(2, 4, 96, ALL, 1.0),
        Stage(4, 10, 160, ALL, 1.0),
    ]
    assert sizes(config(small_size=96, small_epochs=4)) == [96, 160]


@pytest.mark.parametrize(
    "values",
    [{}, {"head_epochs": 20}, {"small_size": 64, "small_epochs": 30}, {"small_epochs": 3}],
)
def test_stages_cover_every_epoch_and_end_at_the_full_size(values):
    stages = plan(config(**values))
    assert stages[0].first == 0
    assert [stage.end for stage in stages[:-1]] == [stage.first for stage in stages[1:]]
    assert stages[-1].end == 10
    assert stages[-1].size == 160
