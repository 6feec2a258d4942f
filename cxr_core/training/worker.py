"""The process that trains one run: ``python -m cxr_core.training.worker RUN_ID``.

Waits for its turn, trains (or joins the members of an ensemble, or drives a sweep, which need no
turn), and leaves in the run store how it ended: with a bundle, or with the reason in words. A run
that failed keeps its checkpoint, from which it can be resumed; so does a trial of a sweep, as it
may be the one that is tested.
"""

import errno
import faulthandler
import importlib.metadata
import logging
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout

from cxr_core import workspace
from cxr_core.errors import CxrError, TrainingError
from cxr_core.training import ensembles, jobs, kept
from cxr_core.training.machine import THREADS, MemoryKills, code_version
from cxr_core.training.tracking import (
    TAG_CODE,
    TAG_MEMORY_KILLS,
    TAG_PHASE,
    TAG_SEEN_AT,
    TAG_WORKER,
    Kind,
    RunRecord,
    RunStore,
    Status,
)
from cxr_core.training.writer import RunCancelled, RunTaken, RunWriter, patiently

_log = logging.getLogger(__name__)

_QUEUE_POLL = 1.0  # seconds between two looks at the queue, for each run before this one
_LONGEST_POLL = 5.0  # seconds; a request to cancel need not wait longer
# How libraries that write files or the run store say it, in an error of their own.
_DISK_FULL = ("No space left on device", "database or disk is full")


def main(run_id: str, launcher: jobs.Launcher | None = None) -> int:
    """Train one run to its end; return the exit status, 0 unless it failed.

    Args:
        run_id: which.
        launcher: who starts the workers of its trials, if it is a sweep.
    """
    folder = workspace.run_folder(run_id)
    log = folder / jobs.LOG_FILE
    try:
        alone = FileLock(folder / "worker.lock").acquire(timeout=0)
    except Timeout:
        _log.error("Run %s has a worker already.", run_id)
        return 1
    with alone:
        store = RunStore()
        if not store.get(run_id).status.active:
            _log.error("Run %s has ended already.", run_id)
            return 1
        _write_all_output_to(log)
        signal.signal(signal.SIGTERM, _on_terminate)
        return int(_run(run_id, store, log, launcher) is Status.FAILED)


def _run(run_id: str, store: RunStore, log: Path, launcher: jobs.Launcher | None = None) -> Status:
    """Take the run's turn and train; leave how it ended in the store, and return it."""
    status, reason = Status.FAILED, ""
    try:
        patiently(lambda: kept.fetch(store.get(run_id), store))
        about = {
            TAG_WORKER: jobs.worker_name(os.getpid()),
            TAG_CODE: code_version(),
            TAG_MEMORY_KILLS: str(MemoryKills.so_far() or ""),
        }
        patiently(lambda: store.set_tags(run_id, about))
        patiently(lambda: store.write_text(run_id, "environment.txt", environment()))
        record = patiently(lambda: store.get(run_id))
        on_cluster = bool(record.place)
        with ExitStack() as held:
            if record.kind is Kind.TRAINING and not on_cluster:
                held.enter_context(_turn(run_id, store))
            patiently(lambda: store.set_status(run_id, Status.RUNNING))
            held.enter_context(store.watch_system(run_id))
            if on_cluster:
                held.enter_context(kept.Keeper(store, record, log))
                _heed(record)
            if record.kind is Kind.SWEEP:
                status = _drive(run_id, store, launcher)
            else:
                status = _train(run_id, store)
    except RunTaken:
        _log.error("The run is another worker's now: this one was held for dead.")
        return status  # and leaves no other trace
    except RunCancelled:
        status = Status.CANCELLED
    except BaseException as error:
        _log.exception("The run failed.")
        reason = in_words(error)
    _log.info("The run is %s.", status)
    try:
        store.set_tags(run_id, {TAG_PHASE: "done" if status.has_model else ""})
        store.write_file(run_id, log)
    except Exception:
        _log.exception("The log could not be kept with the run.")  # how it ended matters more
    patiently(lambda: store.set_status(run_id, status, reason))
    if status is not Status.FAILED and not (status.has_model and _is_trial(run_id, store)):
        jobs.drop_checkpoint(patiently(lambda: store.get(run_id)), store)
    _tell_parent(run_id, store)
    return status


def _is_trial(run_id: str, store: RunStore) -> bool:
    """Tell if a run is a trial that may yet be tested: its sweep drops what it kept otherwise."""
    return patiently(lambda: store.get(run_id)).untested


def _tell_parent(run_id: str, store: RunStore) -> None:
    """Bring the cross-validation or the sweep that a run is a part of up to date.

    Whoever reads it next would do so: a fault here is no fault of the run.
    """
    try:
        parent = store.get(run_id).parent
        if parent:
            jobs.bury_if_dead(store.get(parent), store)
    except Exception:
        _log.exception(
            "What the run is a part of is not up to date; its next reader will see to it."
        )


def in_words(error: BaseException) -> str:
    """Return why a run failed, in sentences for people."""
    if isinstance(error, CxrError):
        return str(error)
    text = _first_line(error)
    kind = type(error).__name__
    if isinstance(error, MemoryError) or kind == "ResourceExhaustedError" or "OUT_OF_MEM" in text:
        return f"Memory ran out. {jobs.LESS_MEMORY} ({text})"
    file = error.filename if isinstance(error, OSError) else None
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if full or any(words in str(error) for words in _DISK_FULL):
        return (
            f"The disk is full ({file or workspace.home()}). Free some space, or set CXR_HOME to "
            "a larger disk."
        )
    if isinstance(error, OSError) and file:
        return f"The file {file} cannot be read or written: {error.strerror}."
    return f"An unexpected fault ended the run: {kind}: {text}. See the log for where it happened."


def environment() -> str:
    """Return what the run runs on, a line each: the system, the versions, every package."""
    packages = sorted(
        f"{package.name}=={package.version}" for package in importlib.metadata.distributions()
    )
    return "\n".join(
        [
            f"cxr_core {code_version()}",
            f"python {platform.python_version()}",
            f"system {platform.platform()}",
            f"processors {os.cpu_count()}",
            "",
            *packages,
            "",
        ]
    )


def _drive(run_id: str, store: RunStore, launcher: jobs.Launcher | None) -> Status:
    from cxr_core.training import sweep_driver  # Optuna: for this worker alone

    with RunWriter(store, run_id) as run:
        return sweep_driver.drive(store, run, launcher)


def _train(run_id: str, store: RunStore) -> Status:
    patiently(lambda: store.set_tags(run_id, {TAG_PHASE: "loading TensorFlow"}))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before it is imported
    if patiently(lambda: store.get(run_id)).kind is Kind.ENSEMBLE:
        with RunWriter(store, run_id) as run:
            ensembles.build(store, run)
        return Status.FINISHED
    config = patiently(lambda: store.config(run_id))
    if config.hardware.cores:
        os.environ.setdefault(THREADS, str(config.hardware.cores))
    from cxr_core.training.trainer import train

    with RunWriter(store, run_id) as run:
        trained = train(config, run)
    return Status.STOPPED if trained.stopped else Status.FINISHED


@contextmanager
def _turn(run_id: str, store: RunStore) -> Iterator[None]:
    """Hold the device: one run a machine, in the order they were asked for.

    A run on a cluster needs none: its scheduler gave it the cores and GPUs that it asked for.

    Raises:
        RunCancelled: somebody no longer wants the run before its turn came.
    """
    lock = FileLock(workspace.home() / "device.lock")
    while True:
        record, before = patiently(lambda: _look(run_id, store))
        _heed(record)
        if not before:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                pass
        time.sleep(min(_QUEUE_POLL * (1 + before), _LONGEST_POLL))
    try:
        yield
    finally:
        lock.release()


def _heed(record: RunRecord) -> None:
    """End here if the run is not to begin.

    Raises:
        RunCancelled: somebody asked for it. Where there is nothing to keep yet, "stop" is "cancel".
    """
    if record.request == "cancel" or (record.request == "stop" and not jobs.may_go_on(record)):
        raise RunCancelled


def _look(run_id: str, store: RunStore) -> tuple[RunRecord, int]:
    """Give a sign of life; return the run as it is now, and how many are before it."""
    store.set_tags(run_id, {TAG_SEEN_AT: f"{time.time():.0f}"})
    return store.get(run_id), _before_in_queue(run_id, store)


def _before_in_queue(run_id: str, store: RunStore) -> int:
    """Return how many living workers of this machine are before a run in the queue."""
    host = jobs.worker_name(os.getpid()).split()[0]
    before = 0
    for record in jobs.queue(store):
        if record.run_id == run_id:
            break
        here = (record.tags.get(TAG_WORKER) or host).split()[0] == host
        before += here and not record.place
    return before


def _write_all_output_to(log: Path) -> None:
    """Send what this process and the libraries under it print to the run's log."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    faulthandler.enable()  # a crash below Python leaves at least where it was
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s"
    )


def _on_terminate(number: int, frame: object) -> NoReturn:
    raise TrainingError(
        f"The worker process was told to end ({signal.Signals(number).name}), by a user or because "
        "the machine was shut down."
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or "no details"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
