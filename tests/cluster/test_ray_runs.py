"""Runs on a Ray cluster: on both nodes, asked through the store, resumed when a node is lost."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cxr_core.cluster import launcher, survey
from cxr_core.config import RunConfig
from cxr_core.data import exclusions
from cxr_core.data.catalog import scan
from cxr_core.errors import TrainingError
from cxr_core.training import bundle_index, jobs
from cxr_core.training.tracking import (
    TAG_LOST,
    TAG_NODE,
    TAG_NOTES,
    TAG_RESUMED,
    TAG_WORKER,
    RunRecord,
    RunStore,
    Status,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_the_cluster")]


def config(root: Path, **changes: object) -> RunConfig:
    return RunConfig().with_values(
        {
            "data.root": str(root),
            "image.size": 32,
            "optimise.batch_size": 16,
            "optimise.epochs": 1000,
            "stop.patience": 1000,
            "hardware.cores": 1,
            **changes,
        }
    )


@dataclass(frozen=True)
class Scene:
    """Four runs that were handed to two nodes at once, and how they ended."""

    home: Path
    store: RunStore
    moved: RunRecord  # on the node that was killed under it; asked to stop early later on
    before: RunRecord  # the same just before that
    killed: RunRecord  # on the node that stayed; its worker was killed
    cancelled: tuple[RunRecord, ...]  # while they waited
    excluded: str  # the path of a film that was on the list of excluded ones


@pytest.fixture(scope="module")
def scene(
    ray_cluster: Any, home: Path, phantoms: Path, until: Callable[..., None]
) -> Iterator[Scene]:
    store = RunStore()
    catalog = scan(phantoms)
    excluded = str(catalog.frame["path"].iloc[0])
    exclusions.exclude(catalog, [excluded])
    there = launcher.RayLauncher(store, ray_cluster.address)

    def start(seed: int) -> str:
        return jobs.start(config(phantoms, seed=seed), store=store, launcher=there)

    def in_epoch(run_id: str, epoch: int) -> None:
        def reached() -> bool:
            record = jobs.bury_if_dead(store.get(run_id), store)
            assert record.status.active, record.reason
            table = store.curves(run_id, ["val_loss"])
            return bool(len(table)) and int(table["step"].max()) >= epoch

        until(reached, f"epoch {epoch}")

    ids = [start(seed) for seed in range(4)]
    for run_id in ids[:2]:
        in_epoch(run_id, 1)
    for run_id in ids[2:]:
        jobs.cancel(run_id, store)

    (node,) = ray_cluster.worker_nodes
    on_it = [run_id for run_id in ids[:2] if node.node_id[:8] in store.get(run_id).tags[TAG_NODE]]
    assert len(on_it) == 1, "two runs of a core each on two nodes of one"
    (lost,) = on_it
    (killed,) = set(ids[:2]) - {lost}
    until(lambda: jobs.may_go_on(store.get(lost)), "a checkpoint in the run store")
    before = store.get(lost)
    ray_cluster.remove_node(node, allow_graceful=False)
    until(lambda: TAG_LOST in store.get(lost).tags, "the loss to be seen")
    os.kill(int(store.get(killed).tags[TAG_WORKER].split()[1]), signal.SIGKILL)
    jobs.wait(killed, store)
    until(lambda: "resumed after" in store.get(lost).tags[TAG_NOTES], "the run to go on")
    jobs.stop_early(lost, store)
    jobs.wait(lost, store)
    until(lambda: jobs.may_go_on(store.get(killed)), "its checkpoint in the run store")
    ended = {record.run_id: record for record in jobs.runs(store)}
    cancelled = tuple(ended[run_id] for run_id in ids[2:])
    yield Scene(home, store, ended[lost], before, ended[killed], cancelled, excluded)


def test_what_runs_on_a_cluster_finishes_with_a_model_in_the_store(scene):
    assert scene.moved.status is Status.STOPPED, scene.moved.reason
    assert (bundle_index.resolve(scene.moved.run_id, scene.store) / "model.keras").is_file()
    assert scene.store.path(scene.moved.run_id, "train.log").stat().st_size


def test_a_run_whose_node_is_lost_goes_on_elsewhere_from_its_checkpoint(scene):
    run = scene.moved
    assert run.tags[TAG_NODE] == scene.killed.tags[TAG_NODE] != scene.before.tags[TAG_NODE]
    assert run.tags[TAG_RESUMED] == "1"
    assert scene.before.tags[TAG_NODE] in run.tags[TAG_LOST]
    notes = run.tags[TAG_NOTES]
    assert "was lost; the run went on on another node" in notes
    assert "The run was resumed after epoch" in notes
    steps = list(scene.store.curves(run.run_id, ["val_loss"])["step"])
    assert steps == list(range(1, len(steps) + 1))


def test_nothing_is_kept_to_go_on_from_once_a_run_has_ended_well(scene):
    assert not jobs.may_go_on(scene.moved)
    with pytest.raises(TrainingError, match="no file"):
        scene.store.path(scene.moved.run_id, "checkpoint")


def test_a_run_cancelled_while_it_waits_never_begins(scene):
    for run in scene.cancelled:
        assert run.status is Status.CANCELLED
        assert TAG_NODE not in run.tags


def test_a_killed_worker_is_told_in_words_as_on_one_machine(scene):
    run = scene.killed
    assert run.status is Status.FAILED
    assert "ended without a word while training: it was killed (SIGKILL)" in run.reason
    assert not jobs.why_not_resumed(run)


def test_films_that_somebody_excluded_are_left_out_on_the_nodes_too(scene):
    assert scene.moved.params["excluded_films"] == "1"
    left_out = scene.store.path(scene.moved.run_id, "exclusions.csv").read_text()
    assert scene.excluded in left_out


def test_no_workspace_of_a_run_stays_behind_on_a_machine(scene, until):
    shelf = scene.home / "cluster"  # the next run there also clears up after a node that was killed
    until(lambda: not any(place.is_dir() for place in shelf.iterdir()), "the last to be removed")


def test_a_node_says_what_it_does_not_reach(scene, ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(scene.store, "uri", f"sqlite:///{tmp_path}/runs.db")
    absent = str(tmp_path / "films")
    (node,) = survey.look(ray_cluster.address, scene.store, [absent, str(tmp_path)])
    assert node.missing == (absent,)
    assert "is not on this machine" in node.store
    assert not (tmp_path / "runs.db").exists()
    assert (node.error, node.differences, node.cores) == ("", "", 1)
