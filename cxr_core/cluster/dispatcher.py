"""Who tends the runs that were handed to a cluster: one small actor, which outlives all who ask.

It gives each run to Ray's own scheduler, as a task with the cores and GPUs that the run asks for,
in the order of the queue; says that those in the queue are not forgotten; and takes note of how
tasks end. All it knows is in the run store, so it may be lost itself and begin anew.

Where a node is lost, its runs go on elsewhere from their last checkpoint.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    OwnerDiedError,
    TaskCancelledError,
    WorkerCrashedError,
)

from cxr_core.cluster import demand, node
from cxr_core.cluster.demand import Capacity
from cxr_core.cluster.envoy import NAMESPACE, cause
from cxr_core.training import jobs
from cxr_core.training.tracking import (
    TAG_LOST,
    TAG_NODE,
    TAG_NOTES,
    TAG_ORDER,
    TAG_PHASE,
    TAG_PLACE,
    TAG_REQUEST,
    TAG_SEEN_AT,
    RunRecord,
    Status,
)

_log = logging.getLogger(__name__)

WAITING = "waiting for a node"  # the phase of a run that the cluster has not begun yet

_LOOK = 1.0  # seconds between two looks at the run store
_SIGN_OF_LIFE = 30.0  # seconds between two signs of life for a run that waits
_IDLE = 600.0  # seconds without a run after which it ends
# Nodes that may be lost under a run: one that takes its node with it would go round the cluster.
_MOST_LOST = 3

# How Ray tells that a task went together with what it ran on.
_LOST = (NodeDiedError, WorkerCrashedError, LocalRayletDiedError, OwnerDiedError)


def of(uri: str) -> Any:
    """Return a handle of the dispatcher for a run store, making it where there is none."""
    name = f"runs-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
    return (
        ray.remote(Dispatcher)
        .options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            resources={"node:__internal_head__": 0.001},  # on the node that is lost last
            max_restarts=-1,
        )
        .remote(uri, name)
    )


class Dispatcher:
    """Tends the runs of a store that were handed to this cluster, as an actor of Ray.

    Args:
        uri: the run store.
        name: what the actor is called.

    Raises:
        TrainingError: the store cannot be reached from here.
    """

    def __init__(self, uri: str, name: str) -> None:
        self._uri, self._name = uri, name
        self._store = node.open_store(uri)
        self._place = f"ray {ray.get_runtime_context().gcs_address}"
        self._train = ray.remote(max_retries=0, max_calls=1)(node.train)
        self._tasks: dict[str, ray.ObjectRef] = {}  # by run, in the order they were handed over
        self._told_at: dict[str, float] = {}  # when a waiting run was given a sign of life
        self._wanted_at = time.monotonic()
        threading.Thread(target=self._tend, name="dispatcher", daemon=True).start()

    def place(self) -> str:
        """Return the place of runs that are handed to this cluster, as `RunRecord.place` has it."""
        self._wanted_at = time.monotonic()
        return self._place

    def _tend(self) -> None:
        while time.monotonic() - self._wanted_at < _IDLE:
            try:
                self._note_ends()
                self._look()
            except Exception:
                # A store that is away for a while must not end what the cluster is at.
                _log.exception("The runs could not be looked at; trying again.")
            time.sleep(_LOOK)
        ray.kill(ray.get_actor(self._name, NAMESPACE))

    # -- the queue ------------------------------------------------------------------------------

    def _look(self) -> None:
        """Bring the cluster up to date with the store."""
        own = {TAG_PLACE: self._place}
        running = self._store.list(Status.RUNNING, own)
        queued = self._store.list(Status.QUEUED, own)
        begun = [run for run in (*running, *queued) if not _waits(run)]
        waiting = [run for run in queued if _waits(run)]
        if begun or waiting or self._tasks:
            self._wanted_at = time.monotonic()
        for run in begun:
            if run.run_id not in self._tasks:  # begun before this process was
                self._go_on_elsewhere(run)
        for run in waiting:
            if run.request == "cancel" or (run.request == "stop" and not jobs.may_go_on(run)):
                self._take_back(run.run_id)
                jobs.drop_checkpoint(run, self._store)
                self._store.set_status(run.run_id, Status.CANCELLED)
        waiting = [run for run in waiting if run.request != "cancel"]
        self._hand_over_in_order(waiting)
        self._tell_patience(waiting)

    def _hand_over_in_order(self, waiting: Sequence[RunRecord]) -> None:
        """See that Ray has the waiting runs in the order of the queue.

        Ray begins tasks of equal demands in the order in which it got them. Where somebody moved a
        run it gets those that have not begun anew.
        """
        wanted = [run.run_id for run in sorted(waiting, key=lambda run: (run.order, run.run_id))]
        handed = [run_id for run_id in self._tasks if run_id in set(wanted)]
        if handed != wanted[: len(handed)]:
            for run_id in handed:
                self._take_back(run_id)
            handed = []
        nodes = capacities() if wanted[len(handed) :] else []
        for run_id in wanted[len(handed) :]:
            asked = demand.of(self._store.config(run_id).hardware, nodes)
            self._tasks[run_id] = self._train.options(
                num_cpus=asked.cores,
                num_gpus=asked.gpus,
                scheduling_strategy="SPREAD",
                name=f"run {run_id[:8]}",
            ).remote(run_id, self._uri, asked.cores)

    def _take_back(self, run_id: str) -> None:
        """Take a run from Ray that has not begun; one that just did goes back to the queue."""
        task = self._tasks.pop(run_id, None)
        if task is None:
            return
        ray.cancel(task)
        try:
            ray.get(task)
        except TaskCancelledError:
            pass
        except Exception:
            _log.exception("The task of run %s ended while it was taken back.", run_id)
        run = self._store.get(run_id)
        if run.status.active and not _waits(run):
            self._store.queue_again(run_id, self._as_it_waited(run))

    def _tell_patience(self, waiting: Sequence[RunRecord]) -> None:
        """Give signs of life for runs that wait, and say what they wait for."""
        self._told_at = {run.run_id: self._told_at.get(run.run_id, 0.0) for run in waiting}
        now = time.time()
        late = [run for run in waiting if now - self._told_at[run.run_id] >= _SIGN_OF_LIFE]
        nodes = capacities() if late else []
        for run in late:
            asked = demand.of(self._store.config(run.run_id).hardware, nodes)
            fits = any(asked.fits(node) for node in nodes)
            phase = WAITING if fits else f"{WAITING} with {asked.words}: the cluster has none"
            self._store.set_tags(run.run_id, {TAG_SEEN_AT: f"{now:.0f}", TAG_PHASE: phase})
            self._told_at[run.run_id] = now

    # -- how tasks end ---------------------------------------------------------------------------

    def _note_ends(self) -> None:
        """Take note of the tasks that ended, where their runs' own workers did not."""
        tasks = list(self._tasks.values())
        ended = ray.wait(tasks, num_returns=len(tasks), timeout=0)[0] if tasks else []
        for run_id in [run_id for run_id, task in self._tasks.items() if task in ended]:
            self._note_end(self._store.get(run_id), self._tasks[run_id])
            del self._tasks[run_id]

    def _note_end(self, run: RunRecord, task: ray.ObjectRef) -> None:
        if not run.status.active or _waits(run):  # it may have been resumed meanwhile
            return
        try:
            ray.get(task)
            reason = "Its worker ended without a word."
        except _LOST:
            self._go_on_elsewhere(run)
            return
        except OutOfMemoryError:
            reason = f"Memory ran out there. {jobs.LESS_MEMORY}"
        except Exception as error:
            _log.exception("The task of run %s failed.", run.run_id)
            reason = cause(error)
        on = run.tags.get(TAG_NODE) or "a node of the cluster"
        self._store.set_status(run.run_id, Status.FAILED, f"It failed on {on}. {reason}")

    def _go_on_elsewhere(self, run: RunRecord) -> None:
        """Put a run whose node was lost back into the queue, at its old place."""
        if run.request == "cancel":
            jobs.drop_checkpoint(run, self._store)
            self._store.set_status(run.run_id, Status.CANCELLED)
            return
        on = run.tags.get(TAG_NODE) or "a node"
        doing = f" while {run.phase}" if run.phase else ""
        lost = [
            *run.tags.get(TAG_LOST, "").splitlines(),
            f"{on} at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC{doing}",
        ]
        told = {TAG_LOST: "\n".join(lost)}
        if len(lost) >= _MOST_LOST:
            self._store.set_tags(run.run_id, told)
            self._store.set_status(
                run.run_id,
                Status.FAILED,
                f"{len(lost)} nodes were lost under the run, the last one {on}{doing}: it may take "
                f"them with it. {jobs.LESS_MEMORY}",
            )
            return
        note = f"{lost[-1]} was lost; the run went on on another node."
        notes = [*run.tags.get(TAG_NOTES, "").splitlines(), note]
        told[TAG_NOTES] = "\n".join(notes)
        self._store.queue_again(run.run_id, {**self._as_it_waited(run), **told})

    def _as_it_waited(self, run: RunRecord) -> dict[str, str]:
        """Return the tags of a run that goes back to its place in this cluster's queue."""
        return {
            TAG_PLACE: self._place,
            TAG_ORDER: f"{run.order:.6f}",
            TAG_REQUEST: run.request or "",
            TAG_PHASE: WAITING,
        }


def _waits(run: RunRecord) -> bool:
    """Tell if no node has begun a run yet."""
    return run.status is Status.QUEUED and not run.tags.get(TAG_NODE)


def capacities() -> list[Capacity]:
    """Return what the living nodes offer to runs."""
    resources = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    return [Capacity(int(each.get("CPU", 0)), int(each.get("GPU", 0))) for each in resources]
