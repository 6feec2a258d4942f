"""The verbs on runs that page and command line share: start, stop early, cancel, list, wait.

A run trains in a process of its own that outlives whoever started it. All that is known of it is in
the run store, so any process may watch it or ask it to end.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import psutil

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.data import sources
from cxr_core.errors import TrainingError
from cxr_core.training.checks import Problem, check
from cxr_core.training.tracking import (
    TAG_DATA,
    TAG_PHASE,
    TAG_RECIPE,
    TAG_SEEN_AT,
    TAG_SYNTHETIC,
    TAG_WORKER,
    RunRecord,
    RunStore,
    Status,
)

__all__ = [
    "Launcher",
    "LocalLauncher",
    "Problem",
    "cancel",
    "check",
    "runs",
    "start",
    "stop_early",
    "wait",
]

LOG_FILE = "train.log"

_POLL = 0.5  # seconds between two looks at a run that is waited for
_LAUNCH_GRACE = timedelta(seconds=60)  # how long a run may be without a worker's name
# How long another machine's worker may be silent: it gives a sign of life every half minute, but
# its clock may be minutes off.
_SILENCE = timedelta(minutes=10)


class Launcher(Protocol):
    """Starts workers somewhere: on this machine, or on another that shares the run store."""

    def start(self, run_id: str) -> None:
        """Start a worker for a queued run, and return at once."""


class LocalLauncher:
    """Starts workers on this machine, each a process of its own that outlives this one.

    Args:
        store: the run store, which the worker shall use too.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def start(self, run_id: str) -> None:
        """Start the worker.

        Raises:
            TrainingError: the system cannot start another process.
        """
        log = workspace.run_folder(run_id) / LOG_FILE
        try:
            with log.open("ab") as output:
                worker = subprocess.Popen(
                    # -P: a file called keras.py in the user's folder is not what is meant.
                    [sys.executable, "-P", "-m", "cxr_core.training.worker", run_id],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment(),
                    start_new_session=True,  # closing the terminal or the app does not end it
                )
        except OSError as error:
            raise TrainingError(f"The worker process cannot be started: {error}.") from error
        self._store.set_tags(run_id, {TAG_WORKER: worker_name(worker.pid)})
        # Take note of its end, or it stays in the process table as long as this process lives.
        threading.Thread(target=worker.wait, name=f"reap-{worker.pid}", daemon=True).start()

    def _environment(self) -> dict[str, str]:
        paths = [str(workspace.REPOSITORY), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            "CXR_HOME": str(workspace.home()),
            "MLFLOW_TRACKING_URI": self._store.uri,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONUNBUFFERED": "1",
        }


def start(
    config: RunConfig,
    *,
    recipe: str = "",
    store: RunStore | None = None,
    launcher: Launcher | None = None,
) -> str:
    """Check a configuration, queue a run of it, start its worker, and return the run's id.

    Raises:
        TrainingError: a check found an error, or the worker cannot be started.
    """
    store = store or RunStore()
    config = _independent_of_folder(config)
    errors = [problem for problem in check(config, store) if problem.severity == "error"]
    if errors:
        raise TrainingError(" ".join(f"{error.title}. {error.message}" for error in errors))
    run_id = store.create(
        config,
        name=config.name or recipe or config.model.architecture,
        tags={
            TAG_RECIPE: recipe,
            TAG_PHASE: "waiting for the device",
            TAG_DATA: Path(config.data.root).name,
            TAG_SYNTHETIC: str(config.data.root == sources.BUILT_IN).lower(),
        },
    )
    try:
        (launcher or LocalLauncher(store)).start(run_id)
    except TrainingError as error:
        store.set_status(run_id, Status.FAILED, str(error))
        raise
    return run_id


def stop_early(run_id: str, store: RunStore | None = None) -> None:
    """Ask a run to end its training now, keep its best weights, and finish with a bundle."""
    (store or RunStore()).request(run_id, "stop")


def cancel(run_id: str, store: RunStore | None = None) -> None:
    """Ask a run to end now and keep nothing; one that waits in the queue leaves it."""
    (store or RunStore()).request(run_id, "cancel")


def runs(store: RunStore | None = None) -> list[RunRecord]:
    """Return all runs, the newest first; those whose worker died are marked as failed before."""
    store = store or RunStore()
    return [bury_if_dead(record, store) for record in store.list()]


def wait(
    run_id: str,
    store: RunStore | None = None,
    on_change: Callable[[RunRecord], None] | None = None,
) -> RunRecord:
    """Wait until a run has ended; return how.

    Args:
        run_id: which run.
        store: where it is kept.
        on_change: called with the run as it is at first and whenever it has changed.
    """
    store = store or RunStore()
    seen: RunRecord | None = None
    while True:
        record = bury_if_dead(store.get(run_id), store)
        if on_change is not None and record != seen:
            on_change(record)
        seen = record
        if not record.status.active:
            return record
        time.sleep(_POLL)


def bury_if_dead(record: RunRecord, store: RunStore) -> RunRecord:
    """Mark a run as failed if its worker is gone without saying so; return it as it is then."""
    if not record.status.active or worker_alive(record):
        return record
    record = store.get(record.run_id)  # it may have ended well between the two looks
    if record.status.active:
        log = workspace.run_folder(record.run_id) / LOG_FILE
        store.set_status(record.run_id, Status.FAILED, _last_words(record, log))
        if log.is_file():
            store.write_file(record.run_id, log)
        record = store.get(record.run_id)
    return record


def worker_name(pid: int) -> str:
    """Return what tells one process from all others: host, pid, and when it started."""
    return f"{socket.gethostname()} {pid} {psutil.Process(pid).create_time():.2f}"


def worker_alive(record: RunRecord) -> bool:
    """Tell if a run's worker lives: by its process here, by its signs of life elsewhere."""
    try:
        host, pid, started = record.tags[TAG_WORKER].split()
        number, at = int(pid), float(started)
    except (KeyError, ValueError):  # not launched yet, or the launcher died before it said so
        return datetime.now(UTC) - record.created < _LAUNCH_GRACE
    if host != socket.gethostname():
        seen_at = float(record.tags.get(TAG_SEEN_AT, record.created.timestamp()))
        return time.time() - seen_at < _SILENCE.total_seconds()
    try:
        process = psutil.Process(number)
        # Else the number went to another process. The start time moves when the clock is set, the
        # command line does not.
        same = abs(process.create_time() - at) < 1 or record.run_id in process.cmdline()
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _independent_of_folder(config: RunConfig) -> RunConfig:
    """Make paths absolute: the worker, or a repeat of the run, may stand in another folder."""
    changes = {}
    if config.data.root != sources.BUILT_IN:
        changes["data.root"] = str(Path(config.data.root).expanduser().resolve())
    kind, _, spec = config.model.weights.partition(":")
    if kind == "bundle" and Path(spec).expanduser().is_dir():
        changes["model.weights"] = f"bundle:{Path(spec).expanduser().resolve()}"
    return config.with_values(changes)


def _last_words(record: RunRecord, log: Path) -> str:
    doing = f" while {record.phase}" if record.phase else ""
    lines = log.read_text("utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    last = f" The last line of its log: {lines[-1].strip()[:300]}" if lines else ""
    return (
        f"The worker process ended without a word{doing}: it was killed, or the machine ran out of "
        f"memory or was restarted.{last}"
    )
