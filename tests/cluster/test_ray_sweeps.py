"""A sweep whose trials train side by side on a Ray cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxr_core.cluster import launcher
from cxr_core.config import RunConfig
from cxr_core.training import bundle_index, folds, jobs, sweeps, trials
from cxr_core.training.search import Search
from cxr_core.training.search_space import SearchSpace
from cxr_core.training.tracking import TAG_NODE, RunStore, Status

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_the_cluster")]


def test_trials_train_on_both_nodes_at_once_and_the_best_is_tested_there(
    ray_cluster: Any, phantoms: Path, until: Callable[..., None]
) -> None:
    store = RunStore()
    config = RunConfig().with_values(
        {
            "data.root": str(phantoms),
            "image.size": 32,
            "optimise.batch_size": 16,
            "optimise.epochs": 40,
            "stop.patience": 40,
            "hardware.cores": 1,
        }
    )
    space = SearchSpace.from_mapping({"optimise.learning_rate": {"low": 1e-4, "high": 1e-3}})
    search = Search(space, trials=2, pruner="none", at_once=2)
    there = launcher.for_sweep(ray_cluster.address, store)
    sweep = sweeps.start(config, search, store=store, launcher=there)

    def both_train() -> bool:
        record = jobs.bury_if_dead(store.get(sweep), store)
        assert record.status.active, record.reason
        runs = folds.children(sweep, store)
        return [run.status for run in runs] == [Status.RUNNING] * 2

    until(both_train, "two trials side by side")
    runs = folds.children(sweep, store)
    assert len({run.tags[TAG_NODE] for run in runs}) == 2
    for run in runs:
        jobs.stop_early(run.run_id, store)
    record = jobs.wait(sweep, store)
    assert (record.status, record.reason) == (Status.FINISHED, "")
    found = trials.summary(sweep, store)
    assert [trial.outcome for trial in found.trials] == ["complete", "complete"]
    winner = store.get(found.winner(search).run_id)
    assert winner.has_model
    assert winner.place  # it went back there for its test
    assert (bundle_index.resolve(winner.run_id, store) / "model.keras").is_file()
    assert isinstance(launcher.of(record, store), launcher.SweepLauncher)  # and would go on there
