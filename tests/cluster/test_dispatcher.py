"""Who tends the runs of a cluster: the order of the queue, and how often a node may be lost.

What Ray does is played here; `test_ray_runs` has the real one.
"""

from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")

from cxr_core.cluster import dispatcher
from cxr_core.config import RunConfig
from cxr_core.training import jobs
from cxr_core.training.tracking import (
    TAG_LOST,
    TAG_NODE,
    TAG_NOTES,
    TAG_ORDER,
    TAG_PHASE,
    TAG_PLACE,
    TAG_WORKER,
    RunStore,
    Status,
)

PLACE = "ray head:6379"


class FakeRay:
    """Takes tasks and runs none; those that were taken back are gone."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.nodes = lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def options(self, **_: object) -> "FakeRay":
        return self

    def remote(self, run_id: str, uri: str, cores: int) -> str:
        self.tasks.append(run_id)
        return run_id

    def cancel(self, task: str) -> None:
        self.tasks.remove(task)

    def get(self, task: str) -> None:
        raise dispatcher.TaskCancelledError


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(dispatcher, "ray", fake)
    return fake


@pytest.fixture
def tended(ray: FakeRay, store: RunStore) -> Any:
    """A dispatcher that looks when it is told to."""
    found = dispatcher.Dispatcher.__new__(dispatcher.Dispatcher)
    vars(found).update(
        _uri=store.uri,
        _store=store,
        _place=PLACE,
        _train=ray,
        _tasks={},
        _told_at={},
        _wanted_at=0.0,
    )
    return found


def queue(store: RunStore, name: str, **tags: str) -> str:
    return store.create(RunConfig(), name=name, tags={TAG_PLACE: PLACE, **tags})


def begin(store: RunStore, run_id: str, node: str) -> None:
    store.set_tags(run_id, {TAG_NODE: node, TAG_WORKER: "host 1 1.0", TAG_PHASE: "training"})
    store.set_status(run_id, Status.RUNNING)


def test_ray_gets_the_waiting_runs_in_the_order_of_the_queue(tended, ray, store):
    ids = [queue(store, name) for name in "abc"]
    tended._look()
    assert ray.tasks == ids
    jobs.move(ids[2], "first", store)
    tended._look()
    assert ray.tasks == [ids[2], *ids[:2]]


def test_a_run_that_began_is_not_taken_back_when_others_are_moved(tended, ray, store):
    ids = [queue(store, name) for name in "abc"]
    tended._look()
    begin(store, ids[0], "one")
    jobs.move(ids[2], "first", store)
    tended._look()
    assert ray.tasks == [ids[0], ids[2], ids[1]]


def test_runs_of_another_cluster_are_left_to_it(tended, ray, store):
    queue(store, "elsewhere", **{TAG_PLACE: "ray other:6379"})
    store.create(RunConfig(), name="here")
    tended._look()
    assert ray.tasks == []


def test_a_run_asked_to_cancel_while_it_waits_is_cancelled(tended, ray, store):
    run_id = queue(store, "run")
    tended._look()
    jobs.cancel(run_id, store)
    tended._look()
    assert ray.tasks == []
    assert store.get(run_id).status is Status.CANCELLED


def test_a_run_that_waits_is_not_forgotten_and_says_what_for(tended, ray, store):
    ray.nodes = lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}]
    config = RunConfig().with_values({"hardware.device": "gpu"})
    run_id = store.create(config, name="run", tags={TAG_PLACE: PLACE})
    tended._look()
    record = store.get(run_id)
    assert "with 1 core and 1 GPU: the cluster has none" in record.phase
    assert jobs.worker_alive(record)


def test_a_lost_run_keeps_its_place_and_its_request_and_tells_what_happened(tended, ray, store):
    lost, other = queue(store, "lost"), queue(store, "other")
    begin(store, lost, "one (node 1)")
    jobs.stop_early(lost, store)
    before = store.get(lost)
    tended._look()  # as a dispatcher that was itself lost, and knows of no task
    record = store.get(lost)
    assert (record.status, record.request, record.place) == (Status.QUEUED, "stop", PLACE)
    assert record.order == pytest.approx(before.order, abs=1e-6)
    assert float(record.tags[TAG_ORDER]) < store.get(other).order
    assert record.tags[TAG_NODE] == record.tags[TAG_WORKER] == ""
    assert record.tags[TAG_LOST].startswith("one (node 1) at ")
    assert "while training was lost; the run went on" in record.tags[TAG_NOTES]


def test_a_lost_run_that_was_asked_to_cancel_is_cancelled(tended, ray, store):
    run_id = queue(store, "run")
    begin(store, run_id, "one")
    jobs.cancel(run_id, store)
    tended._look()
    assert store.get(run_id).status is Status.CANCELLED


def test_a_run_that_takes_its_nodes_with_it_does_not_go_round_the_cluster(tended, ray, store):
    run_id = queue(store, "run")
    for number in range(3):
        begin(store, run_id, f"node {number}")
        tended._look()
    record = store.get(run_id)
    assert record.status is Status.FAILED
    assert "3 nodes were lost under the run, the last one node 2 while training" in record.reason


def test_a_task_that_failed_fails_its_run_with_the_nodes_own_words(tended, ray, store):
    run_id = queue(store, "run")
    store.set_tags(run_id, {TAG_NODE: "one"})

    def fail(task: str) -> None:
        raise RuntimeError("a long story\ncxr_core.errors.TrainingError: The store is not here.")

    ray.get = fail  # type: ignore[method-assign]
    tended._note_end(store.get(run_id), "task")
    record = store.get(run_id)
    assert record.status is Status.FAILED
    assert record.reason == "It failed on one. The store is not here."


def test_a_run_resumed_before_its_last_task_was_noted_is_left_in_the_queue(tended, ray, store):
    run_id = queue(store, "run")
    store.set_status(run_id, Status.FAILED, "because")
    store.queue_again(run_id, {TAG_PLACE: PLACE})
    tended._note_end(store.get(run_id), "task")
    assert store.get(run_id).status is Status.QUEUED
