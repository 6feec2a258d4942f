"""The verbs on runs that page and command line share: start, stop early, cancel, move in the queue,
resume, repeat, delete, list, wait.

A run trains in a process of its own that outlives whoever started it. All that is known of it is in
the run store, so any process may watch it or ask it to end.
"""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import psutil
from filelock import FileLock

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.data import sources
from cxr_core.data.catalog import Catalog
from cxr_core.errors import StoreAwayError, TrainingError
from cxr_core.training import folds, kept
from cxr_core.training.checks import Problem, check, independent_of_folder
from cxr_core.training.machine import MemoryKills
from cxr_core.training.tracking import (
    SYSTEM_METRICS,
    TAG_CHECKPOINT,
    TAG_DATA,
    TAG_EXIT,
    TAG_FOLD,
    TAG_MEMORY_KILLS,
    TAG_NESTED,
    TAG_ORDER,
    TAG_PARENT,
    TAG_PHASE,
    TAG_RECIPE,
    TAG_SEEN_AT,
    TAG_SYNTHETIC,
    TAG_WORKER,
    Kind,
    Request,
    RunRecord,
    RunStore,
    Status,
)

__all__ = [
    "Launcher",
    "LocalLauncher",
    "Problem",
    "RemoteLauncher",
    "cancel",
    "check",
    "delete",
    "move",
    "open_films",
    "queue",
    "repeat",
    "resume",
    "runs",
    "start",
    "stop_early",
    "wait",
    "why_not_resumed",
]

_log = logging.getLogger(__name__)

LOG_FILE = "train.log"

LESS_MEMORY = "Lower optimise.batch_size or image.size, or close other programs."

Direction = Literal["up", "down", "first"]

_WAITING = "waiting for the device"  # the phase of a run in the queue
_POLL = 0.5  # seconds between two looks at a run that is waited for
_LAUNCH_GRACE = 60.0  # seconds that a run may be without a worker's name
# How long another machine's worker may be silent: it gives a sign of life every half minute, but
# its clock may be minutes off.
_SILENCE = 600.0  # seconds
_CROWDED = 90.0  # percent; a machine whose memory was fuller than this may have run out of it
_WITH_PARTS = (Kind.FOLDS, Kind.SWEEP)  # whose entries are the parents of runs
_KIND_WORDS = {
    Kind.FOLDS: "a cross-validation",
    Kind.ENSEMBLE: "an ensemble",
    Kind.SWEEP: "a sweep",
}
_LOG_END = 50  # lines in which a library's last cry is looked for


class Launcher(Protocol):
    """Starts workers somewhere: on this machine, or on another that shares the run store."""

    def start(self, run_id: str) -> None:
        """Start a worker for a queued run, and return at once."""


@runtime_checkable
class RemoteLauncher(Launcher, Protocol):
    """Starts workers on other machines, and knows what those say against a run."""

    def check(self, config: RunConfig) -> list[Problem]:
        """Return what stands against a run there."""


class LocalLauncher:
    """Starts workers on this machine, each a process of its own that outlives this one.

    Args:
        store: the run store, which the worker shall use too.
    """

    _stdin = subprocess.DEVNULL  # what a worker reads: nothing

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def start(self, run_id: str) -> None:
        """Start the worker.

        Raises:
            TrainingError: the system cannot start another process.
        """
        worker, name = self._begin(run_id)
        threading.Thread(
            target=self._reap, args=(run_id, name, worker), name=f"reap-{worker.pid}", daemon=True
        ).start()

    def _begin(self, run_id: str) -> tuple["subprocess.Popen[bytes]", str]:
        """Start the worker; return it with its name."""
        log = workspace.run_folder(run_id) / LOG_FILE
        try:
            with log.open("ab") as output:
                worker = subprocess.Popen(
                    self._command(run_id),
                    stdin=self._stdin,
                    stdout=output,
                    stderr=output,
                    env=self._environment(),
                    start_new_session=True,  # closing the terminal or the app does not end it
                )
        except OSError as error:
            raise TrainingError(f"The worker process cannot be started: {error}.") from error
        name = worker_name(worker.pid)
        self._store.set_tags(run_id, {TAG_WORKER: name})
        return worker, name

    def _command(self, run_id: str) -> list[str]:
        # -P: a file called keras.py in the user's folder is not what is meant.
        return [sys.executable, "-P", "-m", "cxr_core.training.worker", run_id]

    def _reap(self, run_id: str, name: str, worker: "subprocess.Popen[bytes]") -> None:
        """Take note of a worker's end, or it stays in the process table as long as this process.

        How it ended is written down while its entry is still there: whoever finds it gone finds
        the note.
        """
        if sys.platform == "linux":
            ended = os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
            assert ended is not None  # only where it does not wait
            code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        else:
            code = worker.wait()
        try:
            if self._store.get(run_id).tags.get(TAG_WORKER) == name:
                self._store.set_tags(run_id, {TAG_EXIT: _exit_words(code)})
                record = self._store.get(run_id)
                if record.status.active:
                    _bury(record, self._store)
        except Exception:
            _log.exception("How the worker of run %s ended could not be noted.", run_id)
        worker.wait()

    def _environment(self) -> dict[str, str]:
        paths = [str(workspace.REPOSITORY), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            "CXR_HOME": str(workspace.home()),
            "MLFLOW_TRACKING_URI": self._store.uri,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONUNBUFFERED": "1",
        }


def open_films(
    config: RunConfig, progress: Callable[[str, int, int], None] | None = None
) -> Catalog | None:
    """Open the data set that a run would train on, for :func:`check` and :func:`start`.

    Quick where the set was opened before. None where there is nothing to check yet: a folder that
    is not there, or the built-in set before it was drawn.

    Raises:
        DatasetError: the folder is no usable data set.
    """
    root = config.data.root
    if not sources.folder(root).is_dir():
        return None
    pattern = config.data.patient_pattern
    return sources.open_catalog(root, patient_pattern=pattern, progress=progress)


def start(
    config: RunConfig,
    *,
    recipe: str = "",
    name: str = "",
    tags: Mapping[str, str] | None = None,
    store: RunStore | None = None,
    launcher: Launcher | None = None,
    catalog: Catalog | None = None,
) -> str:
    """Check a configuration, queue a run of it, start its worker, and return the run's id.

    Args:
        config: what to train.
        recipe: the recipe it came from, for people.
        name: what to call the run; by default as the configuration says.
        tags: more tags of the run.
        store: where runs are kept.
        launcher: who starts the worker.
        catalog: the data set, where the caller has it open.

    Raises:
        TrainingError: a check found an error, or the worker cannot be started.
        DatasetError: the folder is no usable data set.
    """
    store = store or RunStore()
    config = independent_of_folder(config)
    require_sound(config, store, catalog or open_films(config), launcher)
    run_id = store.create(
        config,
        name=name or run_name(config, recipe),
        tags={**about_films(config), **(tags or {}), TAG_RECIPE: recipe, TAG_PHASE: _WAITING},
    )
    launch(run_id, store, launcher)
    return run_id


def require_sound(
    config: RunConfig, store: RunStore, catalog: Catalog | None, launcher: Launcher | None = None
) -> None:
    """Refuse a configuration that a check found an error in.

    Raises:
        TrainingError: says which errors.
    """
    there = launcher.check(config) if isinstance(launcher, RemoteLauncher) else None
    found = check(config, store, catalog, there)
    errors = [problem for problem in found if problem.severity == "error"]
    if errors:
        raise TrainingError(" ".join(error.text for error in errors))


def launch(run_id: str, store: RunStore, launcher: Launcher | None = None) -> None:
    """Start the worker of a queued run.

    Raises:
        TrainingError: it cannot be started; the run is marked as failed.
    """
    try:
        (launcher or LocalLauncher(store)).start(run_id)
    except TrainingError as error:
        store.set_status(run_id, Status.FAILED, str(error))
        raise


def run_name(config: RunConfig, recipe: str) -> str:
    """Return what a run is called."""
    return config.name or recipe or config.model.architecture


def about_films(config: RunConfig) -> dict[str, str]:
    """Return the tags that say which films a run is of, as far as its settings tell."""
    return {
        TAG_DATA: Path(config.data.root).name,
        TAG_SYNTHETIC: str(config.data.root == sources.BUILT_IN).lower(),
    }


def resume(run_id: str, *, store: RunStore | None = None, launcher: Launcher | None = None) -> None:
    """Queue a failed run again: it goes on from its last checkpoint, under the same id.

    A cross-validation is resumed by `cross_validation.resume`, a sweep by `sweeps.resume`.

    Raises:
        TrainingError: there is nothing to go on from (the text says why), a check found an error,
            or the worker cannot be started.
        DatasetError: its films are no usable data set any more.
    """
    store = store or RunStore()
    store.get(run_id)
    with FileLock(workspace.run_folder(run_id) / "resume.lock"):  # two may ask at once
        record = bury_if_dead(store.get(run_id), store)
        reason = why_not_resumed(record)
        if record.kind is Kind.FOLDS:
            reason = reason or f"Run {run_id} is a cross-validation; its folds are trained, not it."
        if record.kind is Kind.SWEEP:
            reason = reason or f"Run {run_id} is a sweep; its trials are trained, not it."
        if reason:
            raise TrainingError(reason)
        if record.kind is Kind.TRAINING:
            config = store.config(run_id)
            require_sound(config, store, open_films(config), launcher)
        store.queue_again(run_id)
        store.set_tags(run_id, {TAG_PHASE: _WAITING})
    launch(run_id, store, launcher)


def why_not_resumed(record: RunRecord) -> str:
    """Return why a run cannot be resumed, in sentences with what to do instead; "" if it can."""
    if record.status.active:
        return f"Run {record.run_id} is {record.status}: there is nothing to resume."
    if record.kind is Kind.FOLDS:  # what is missing can be trained at any time
        done = f"Run {record.run_id} is finished: all its folds have their models."
        return done if folds.complete(record) else ""
    if record.kind is Kind.SWEEP:  # more trials can be made at any time
        done = f"Run {record.run_id} is finished: it has all its trials. Ask for more of them."
        return done if record.status is Status.FINISHED else ""
    if record.untested and record.status.has_model:
        return (
            f"Run {record.run_id} is {record.status}: it is a trial of a sweep and was judged on "
            "validation films alone. Train its settings as a run of their own."
        )
    if record.has_model:
        return (
            f"Run {record.run_id} is {record.status} and has its model. Repeat it to train another."
        )
    if record.status is Status.CANCELLED:
        return (
            f"Run {record.run_id} was cancelled, which keeps nothing to go on from. Repeat it to "
            "train from the start."
        )
    if may_go_on(record) or not any(map(_of_training, record.metrics)):
        return ""  # one that had not begun to train loses nothing by a new start
    host = record.tags.get(TAG_WORKER, "").partition(" ")[0]
    elsewhere = f" on this machine; it trained on {host}" if host not in ("", _host()) else ""
    return (
        f"Run {record.run_id} ended before its first checkpoint, or it is gone{elsewhere}. Repeat "
        "the run to train from the start."
    )


def has_checkpoint(run_id: str) -> bool:
    """Tell if a run left something to go on from in this workspace."""
    folder = workspace.checkpoint_folder(run_id)
    return folder.is_dir() and any(file.suffix != ".part" for file in folder.iterdir())


def may_go_on(record: RunRecord) -> bool:
    """Tell if a run left something to go on from, in this workspace or in the run store."""
    return has_checkpoint(record.run_id) or bool(record.tags.get(TAG_CHECKPOINT))


def drop_checkpoint(record: RunRecord, store: RunStore) -> None:
    """Free what a run kept to go on from, here and in the run store."""
    shutil.rmtree(workspace.checkpoint_folder(record.run_id), ignore_errors=True)
    kept.drop(record, store)


def repeat(
    run_id: str,
    changes: Mapping[str, Any] | None = None,
    *,
    store: RunStore | None = None,
    launcher: Launcher | None = None,
    catalog: Catalog | None = None,
) -> str:
    """Start a new run with the settings of another and these changes; return its id.

    A fold that is repeated as it was takes the place of the one that failed, as long as its
    cross-validation lacks it.

    Args:
        run_id: the run to repeat, in whatever state.
        changes: dotted paths and values, as :meth:`RunConfig.with_values` takes them.
        store: where runs are kept.
        launcher: who starts the worker.
        catalog: the data set, where the caller has it open.

    Raises:
        ConfigError: an unknown path or a bad value.
        TrainingError: as :func:`start`.
        DatasetError: as :func:`start`.
    """
    store = store or RunStore()
    record = store.get(run_id)
    if record.kind is not Kind.TRAINING:
        raise TrainingError(
            f"Run {run_id} is {_KIND_WORDS[record.kind]}, which is no training: make another one."
        )
    before = store.config(run_id)
    config = before.with_values(dict(changes or {}))
    return start(
        config,
        recipe=record.tags.get(TAG_RECIPE, ""),
        tags=_family(record, store) if config == before else None,
        store=store,
        launcher=launcher,
        catalog=catalog,
    )


def fold_tags(parent: str, number: int) -> dict[str, str]:
    """Return the tags by which a run is a fold of a cross-validation."""
    return {TAG_PARENT: parent, TAG_NESTED: parent, TAG_FOLD: str(number)}


def _family(record: RunRecord, store: RunStore) -> dict[str, str]:
    """Return the tags of a run's place in a cross-validation that still lacks it."""
    if not record.fold:
        return {}
    try:
        done = folds.complete(store.get(record.parent))
    except StoreAwayError:
        raise
    except TrainingError:  # deleted
        return {}
    return {} if done else fold_tags(record.parent, record.fold)


def stop_early(run_id: str, store: RunStore | None = None) -> None:
    """Ask a run to end its training now, keep its best weights, and finish with a bundle.

    A run that was asked to cancel is cancelled nevertheless. Of a cross-validation or a sweep the
    fold or trial in training ends early, and those that wait are not trained.
    """
    _ask(run_id, "stop", store or RunStore())


def cancel(run_id: str, store: RunStore | None = None) -> None:
    """Ask a run to end now and keep nothing; one that waits in the queue leaves it.

    Of a cross-validation the folds that are done keep their models, of a sweep the trials that are
    done their figures.
    """
    _ask(run_id, "cancel", store or RunStore())


def _ask(run_id: str, what: Request, store: RunStore) -> None:
    store.request(run_id, what)
    if store.get(run_id).kind in _WITH_PARTS:
        for child in folds.children(run_id, store):
            if child.status.active:
                store.request(child.run_id, what)


def queue(store: RunStore | None = None) -> list[RunRecord]:
    """Return the runs that wait for the device, the next one first."""
    store = store or RunStore()
    waiting = [bury_if_dead(record, store) for record in store.list(Status.QUEUED)]
    waiting = [
        record
        for record in waiting
        if record.status is Status.QUEUED and record.kind is Kind.TRAINING
    ]
    return sorted(waiting, key=lambda record: (record.order, record.run_id))


def move(run_id: str, where: Direction, store: RunStore | None = None) -> None:
    """Move a waiting run: a place "up" or "down" in the queue, or "first".

    At the end of the queue it stays where it is.

    Raises:
        TrainingError: the run does not wait.
    """
    store = store or RunStore()
    with FileLock(workspace.home() / "queue.lock"):
        waiting = queue(store)
        ids = [record.run_id for record in waiting]
        if run_id not in ids:
            status = store.get(run_id).status
            raise TrainingError(f"Run {run_id} is {status}: only a waiting run can be moved.")
        place = ids.index(run_id)
        if where == "first":
            if place:
                store.set_tags(run_id, {TAG_ORDER: f"{waiting[0].order - 1:.6f}"})
            return
        other = place + (1 if where == "down" else -1)
        if 0 <= other < len(waiting):
            store.set_tags(run_id, {TAG_ORDER: f"{waiting[other].order:.6f}"})
            store.set_tags(ids[other], {TAG_ORDER: f"{waiting[place].order:.6f}"})


def delete(run_id: str, store: RunStore | None = None) -> None:
    """Take an ended run off the list, and its files, model and checkpoint off this machine.

    What was published of it stays. A cross-validation goes with its folds, a sweep with its trials;
    one that is complete keeps its figures when a part of it goes.

    Raises:
        TrainingError: there is no such run, or it has not ended.
    """
    store = store or RunStore()
    record = bury_if_dead(store.get(run_id), store)
    if record.status.active:
        raise TrainingError(f"Run {run_id} is {record.status}. Cancel it before you delete it.")
    if record.kind in _WITH_PARTS:
        for child in folds.children(run_id, store):
            delete(child.run_id, store)
    store.delete(run_id)
    shutil.rmtree(workspace.run_folder(run_id), ignore_errors=True)


def runs(store: RunStore | None = None) -> list[RunRecord]:
    """Return all runs, the newest first; those whose worker died are marked as failed before."""
    store = store or RunStore()
    found = [
        record if record.kind is Kind.FOLDS else bury_if_dead(record, store)
        for record in store.list()
    ]
    families: dict[str, list[RunRecord]] = {}
    for record in found:
        families.setdefault(record.parent, []).append(record)
    return [
        folds.settle(record, families.get(record.run_id, []), store)
        if record.kind is Kind.FOLDS
        else record
        for record in found
    ]


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
    """Mark a run as ended if its worker is gone without saying so; return it as it is then.

    A cross-validation, which has no worker, is brought up to date with its folds.
    """
    if record.kind is Kind.FOLDS:
        if folds.complete(record):
            return record
        runs = [bury_if_dead(child, store) for child in folds.children(record.run_id, store)]
        return folds.settle(record, runs, store)
    if not record.status.active or worker_alive(record):
        return record
    record = store.get(record.run_id)  # it may have ended well between the two looks
    if record.status.active and not worker_alive(record):  # or may have been queued again
        record = _bury(record, store)
    return record


def _bury(record: RunRecord, store: RunStore) -> RunRecord:
    """Mark a run whose worker is gone as ended; return it as it is then."""
    log = workspace.run_folder(record.run_id) / LOG_FILE
    if record.request == "cancel":  # it only came sooner
        drop_checkpoint(record, store)
        store.set_status(record.run_id, Status.CANCELLED)
    else:
        store.set_status(record.run_id, Status.FAILED, _last_words(record, log))
    if log.is_file():
        store.write_file(record.run_id, log)
    return store.get(record.run_id)


def worker_name(pid: int) -> str:
    """Return what tells one process from all others: host, pid, and when it started."""
    return f"{_host()} {pid} {psutil.Process(pid).create_time():.2f}"


def worker_alive(record: RunRecord) -> bool:
    """Tell if a run's worker lives: by its process here, by its signs of life elsewhere.

    A run on a cluster waits for as long as the cluster gives signs of life for it, and may go on on
    another machine when its worker's is lost: whoever tends it there sees to that.
    """
    if record.place:
        return _heard_of(record)
    try:
        host, pid, started = record.tags[TAG_WORKER].split()
        number, at = int(pid), float(started)
    except (KeyError, ValueError):  # not launched yet, or the launcher died before it said so
        return time.time() - record.queued_at < _LAUNCH_GRACE
    if host != _host():
        return _heard_of(record)
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


def _heard_of(record: RunRecord) -> bool:
    """Tell if somebody gave a sign of life for a run of another machine lately."""
    seen_at = float(record.tags.get(TAG_SEEN_AT) or record.queued_at)
    return time.time() - seen_at < _SILENCE


def _host() -> str:
    return socket.gethostname()


def _of_training(metric: str) -> bool:
    return not metric.startswith(SYSTEM_METRICS)


def _last_words(record: RunRecord, log: Path) -> str:
    """Say how a worker went that left no word itself."""
    doing = f" while {record.phase}" if record.phase else ""
    if record.place and not record.tags.get(TAG_EXIT):
        return (
            f"Nothing was heard of the run for {_SILENCE / 60:.0f} minutes{doing}. The cluster "
            f"({record.place}) was shut down, or it no longer reaches the run store."
        )
    lines = log.read_text("utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    last = f" The last line of its log: {lines[-1].strip()[:300]}" if lines else ""
    return f"The worker process ended without a word{doing}: {_cause(record, lines)}{last}"


def _cause(record: RunRecord, lines: Sequence[str]) -> str:
    """Say why a worker ended, as far as the system or its log tells."""
    ended = record.tags.get(TAG_EXIT) or _exit_of_zombie(record)
    if ended in ("", "SIGKILL") and _memory_kills_since(record):
        return f"the system killed it because memory ran out. {LESS_MEMORY}"
    if any("std::bad_alloc" in line for line in lines[-_LOG_END:]):
        return f"memory ran out. {LESS_MEMORY}"
    if ended == "SIGKILL":
        full = record.metrics.get(f"{SYSTEM_METRICS}system_memory_usage_percentage", 0.0)
        crowded = f" The machine's memory was {full:.0f} % full shortly before." * (full > _CROWDED)
        return f"it was killed (SIGKILL), by a user or by the system when memory ran out.{crowded}"
    if ended == "SIGBUS":
        free = shutil.disk_usage(workspace.home()).free / 1e9
        return (
            "a file it had mapped into memory could not be read or written (SIGBUS). "
            f"{workspace.home()} has {free:.1f} GB left: where that is little, free some space."
        )
    if ended.startswith("SIG"):
        return f"it was ended by {ended}."
    if ended:
        return f"it ended with {ended}."
    return "it was killed, or the machine ran out of memory or was restarted."


def _memory_kills_since(record: RunRecord) -> bool:
    """Tell if this system ended a process for want of memory since a run's worker began."""
    here = record.tags.get(TAG_WORKER, "").partition(" ")[0] == _host()
    kills = MemoryKills.from_text(record.tags.get(TAG_MEMORY_KILLS, ""))
    return here and kills is not None and kills.more_since


def _exit_words(code: int) -> str:
    """Return how a process ended, from Python's code for it: "SIGKILL", "status 1"."""
    if code >= 0:
        return f"status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-code}"


def _exit_of_zombie(record: RunRecord) -> str:
    """Return how a worker ended that nobody took note of yet, "" where its entry is gone."""
    host, _, rest = record.tags.get(TAG_WORKER, "").partition(" ")
    if host != _host():
        return ""
    try:
        number = rest.split()[0]
        if psutil.Process(int(number)).status() != psutil.STATUS_ZOMBIE:
            return ""
        # The last field is what wait(2) would give (proc(5)).
        waited = int(Path("/proc", number, "stat").read_text(encoding="ascii").split()[-1])
    except (psutil.Error, OSError, ValueError, IndexError):
        return ""
    return _exit_words(os.waitstatus_to_exitcode(waited))
