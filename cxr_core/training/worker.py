"""The process that trains one run: ``python -m cxr_core.training.worker RUN_ID``.

Waits for its turn, trains, and leaves in the run store how it ended: with a bundle, or with the
reason in words.
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
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout

import cxr_core
from cxr_core import workspace
from cxr_core.errors import CxrError, TrainingError
from cxr_core.training.jobs import LOG_FILE, worker_alive, worker_name
from cxr_core.training.tracking import (
    TAG_PHASE,
    TAG_QUEUED_AT,
    TAG_SEEN_AT,
    TAG_WORKER,
    RunStore,
    Status,
)
from cxr_core.training.writer import RunCancelled, RunWriter, patiently

_log = logging.getLogger(__name__)

_QUEUE_POLL = 1.0  # seconds between two looks at the queue


def main(run_id: str) -> int:
    """Train one run to its end; return the exit status, 0 unless it failed."""
    log = workspace.run_folder(run_id) / LOG_FILE
    _write_all_output_to(log)
    signal.signal(signal.SIGTERM, _on_terminate)
    store = RunStore()
    status, reason = Status.FAILED, ""
    try:
        store.set_tags(run_id, {TAG_WORKER: worker_name(os.getpid())})
        store.write_text(run_id, "environment.txt", environment())
        with _turn(run_id, store):
            store.set_status(run_id, Status.RUNNING)
            status = _train(run_id, store)
    except RunCancelled:
        status = Status.CANCELLED
    except BaseException as error:
        _log.exception("The run failed.")
        reason = in_words(error)
    finally:
        _log.info("The run is %s.", status)
        try:
            store.set_tags(run_id, {TAG_PHASE: "done" if status.has_model else ""})
            store.write_file(run_id, log)
        except Exception:
            _log.exception("The log could not be kept with the run.")  # how it ended matters more
        patiently(lambda: store.set_status(run_id, status, reason))
    return int(status is Status.FAILED)


def in_words(error: BaseException) -> str:
    """Return why a run failed, in sentences for people."""
    if isinstance(error, CxrError):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return (
            "Memory ran out. Lower optimise.batch_size or image.size, or close other programs. "
            f"({_first_line(error)})"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            f"The disk is full ({error.filename or workspace.home()}). Free some space, or set "
            "CXR_HOME to a larger disk."
        )
    return (
        f"An unexpected fault ended the run: {type(error).__name__}: {_first_line(error)}. "
        "See the log for where it happened."
    )


def environment() -> str:
    """Return what the run runs on, a line each: the system, the versions, every package."""
    packages = sorted(
        f"{package.name}=={package.version}" for package in importlib.metadata.distributions()
    )
    return "\n".join(
        [
            f"cxr_core {cxr_core.__version__}",
            f"python {platform.python_version()}",
            f"system {platform.platform()}",
            f"processors {os.cpu_count()}",
            "",
            *packages,
            "",
        ]
    )


def _train(run_id: str, store: RunStore) -> Status:
    store.set_tags(run_id, {TAG_PHASE: "loading TensorFlow"})
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before it is imported
    from cxr_core.training.trainer import train

    with RunWriter(store, run_id) as run:
        trained = train(store.config(run_id), run)
    return Status.STOPPED if trained.stopped else Status.FINISHED


@contextmanager
def _turn(run_id: str, store: RunStore) -> Iterator[None]:
    """Hold the device: one run a machine, in the order they were asked for.

    Raises:
        RunCancelled: somebody no longer wants the run before its turn came.
    """
    lock = FileLock(workspace.home() / "device.lock")
    while True:
        store.set_tags(run_id, {TAG_SEEN_AT: f"{time.time():.0f}"})
        if store.get(run_id).request is not None:  # nothing to keep yet: "stop" is "cancel"
            raise RunCancelled
        if _first_in_queue(run_id, store):
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                pass
        time.sleep(_QUEUE_POLL)
    try:
        yield
    finally:
        lock.release()


def _first_in_queue(run_id: str, store: RunStore) -> bool:
    """Tell if no living worker of this machine waits since longer."""
    queued = store.list(Status.QUEUED)
    queued.sort(key=lambda record: (float(record.tags[TAG_QUEUED_AT]), record.run_id))
    host = worker_name(os.getpid()).split()[0]
    for record in queued:
        if record.run_id == run_id:
            return True
        if record.tags.get(TAG_WORKER, host).split()[0] == host and worker_alive(record):
            return False
    return True


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
