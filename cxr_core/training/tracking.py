"""The run store: the ONE channel between whoever watches and whoever trains.

An MLflow tracking server, by default a SQLite file in the workspace; ``MLFLOW_TRACKING_URI`` points
to another. A run's life, its settings, curves, files and the requests to it ("stop", "cancel") all
travel through here, so the watcher may be another process or another machine.

Everything is written through MLflow; where the store is a file of this machine, it is read without
(:mod:`cxr_core.training.local_runs`), and MLflow is loaded when there is something to write.
"""

import hashlib
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

# A tool for patient data makes no call home: before MLflow is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # --json owns stdout

import numpy as np
import pandas as pd
from filelock import FileLock

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.errors import StoreAwayError, TrainingError
from cxr_core.training.local_runs import LocalRuns, Point, StoredRun

if TYPE_CHECKING:
    from mlflow.entities import FileInfo, Metric, Run
    from mlflow.tracking import MlflowClient

_log = logging.getLogger(__name__)

EXPERIMENT = "cxr-studio"
SYSTEM_METRICS = "system/"  # what MLflow's names of the machine's load begin with
Request = Literal["stop", "cancel"]

_SYSTEM_INTERVAL = 5.0  # seconds between two looks at the machine's load
_RUNS_REMEMBERED = 64  # whose curves are kept in memory
_SHORTEST_PREFIX = 4  # characters of a run id that may stand for it
_FETCHED = "fetched"  # the folder of a run's copies of files that lie on a server
_SQLITE = "sqlite:///"  # what the address of a local store begins with
_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's, of an unknown id


class Status(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"  # asked for; waits for the device
    RUNNING = "running"
    FINISHED = "finished"  # to its end, by epochs or by patience
    STOPPED = "stopped"  # ended early by request, with its best weights kept
    CANCELLED = "cancelled"  # ended by request, nothing kept
    FAILED = "failed"  # ended by a fault; ``RunRecord.reason`` says which

    @property
    def active(self) -> bool:
        """True while the run may still change by itself."""
        return self in (Status.QUEUED, Status.RUNNING)

    @property
    def has_model(self) -> bool:
        """True where the run ended with a bundle."""
        return self in (Status.FINISHED, Status.STOPPED)


class Kind(StrEnum):
    """What an entry of the store is."""

    TRAINING = "training"  # of one network
    FOLDS = "folds"  # a cross-validation: sums up trainings of its own, has no worker and no model
    ENSEMBLE = "ensemble"  # joins the networks of other runs; its worker trains nothing
    SWEEP = "sweep"  # tries settings in trainings of their own; its worker orders and follows them


# MLflow knows five states; which of ours it is, where one of its stands for two, is a tag.
_MLFLOW_STATE = {
    Status.QUEUED: "SCHEDULED",
    Status.RUNNING: "RUNNING",
    Status.FINISHED: "FINISHED",
    Status.STOPPED: "FINISHED",
    Status.CANCELLED: "KILLED",
    Status.FAILED: "FAILED",
}

# Tags of a run. Everything here may be read by any tool that knows MLflow.
TAG_STATUS = "cxr.status"
TAG_PHASE = "cxr.phase"  # what the worker does now, in words
TAG_PROGRESS = "cxr.progress"  # how far that is, in words; "" where it cannot be counted
TAG_REASON = "cxr.reason"  # why it failed, in a sentence
TAG_NOTES = "cxr.notes"  # what happened to data and weights, a sentence a line
TAG_REQUEST = "cxr.request"  # "stop" or "cancel"
TAG_RECIPE = "cxr.recipe"
TAG_DATA = "cxr.data"  # the data set's name, for people
TAG_SYNTHETIC = "cxr.synthetic"  # "true" where the films are phantoms
TAG_DEVICE = "cxr.device"  # the device in words
TAG_WORKER = "cxr.worker"  # "host pid start-time" of the process that trains
TAG_SEEN_AT = "cxr.seen_at"  # seconds since 1970; the worker's last sign of life, by its clock
TAG_QUEUED_AT = "cxr.queued_at"  # seconds since 1970; when the run was asked for, or resumed
TAG_ORDER = "cxr.order"  # its place in the queue: the lower the sooner
TAG_EXIT = "cxr.exit"  # how the worker process ended: "SIGKILL", "status 1"
TAG_MEMORY_KILLS = "cxr.memory_kills"  # see `machine.MemoryKills`, when the worker began
TAG_PLACE = "cxr.place"  # whose the run is where that is not this machine: "ray HOST:PORT"
TAG_NODE = "cxr.node"  # of a run on a cluster: the machine that has it now, in words
TAG_LOST = "cxr.lost"  # of a run on a cluster: the machines that were lost under it, a line each
TAG_CHECKPOINT = "cxr.checkpoint"  # see `kept`; absent where nothing is kept in the store
TAG_RESUMED = "cxr.resumed"  # how often the run was resumed; absent where never
TAG_CODE = "cxr.code"  # version of the code that trains, with its commit where it is a checkout
TAG_SETTINGS = "cxr.settings"  # see :func:`settings_key`
TAG_KIND = "cxr.kind"  # see `Kind`; absent from a training
TAG_PARENT = "cxr.parent"  # of a fold or a trial: the id of its cross-validation or its sweep
TAG_FOLD = "cxr.fold"  # of a fold's training: which fold it holds out, from 1
TAG_SUMMED = "cxr.summed"  # of a cross-validation: which runs its summary is made of
TAG_TRIAL = "cxr.trial"  # of a trial of a sweep: its number, from 1
TAG_UNTESTED = "cxr.untested"  # of a trial: "true" where its training ends before test and bundle
TAG_PRUNED = "cxr.pruned"  # of a trial: after which epoch its sweep ended it, as others did better
TAG_NESTED = "mlflow.parentRunId"  # the same as TAG_PARENT; by it MLflow's own pages nest runs


@dataclass(frozen=True)
class RunRecord:
    """One run as it stood when it was read."""

    run_id: str
    name: str
    status: Status
    phase: str
    reason: str
    created: datetime  # UTC
    ended: datetime | None  # UTC
    params: Mapping[str, str]  # the flat configuration and what the worker added
    metrics: Mapping[str, float]  # the latest value of each
    tags: Mapping[str, str]

    @property
    def duration(self) -> float:
        """Seconds from creation to the end, or to now."""
        return ((self.ended or datetime.now(UTC)) - self.created).total_seconds()

    @property
    def kind(self) -> Kind:
        """What the entry is."""
        return Kind(self.tags.get(TAG_KIND, Kind.TRAINING))

    @property
    def has_model(self) -> bool:
        """True where the entry has a bundle."""
        return (
            self.status.has_model
            and self.kind in (Kind.TRAINING, Kind.ENSEMBLE)
            and not self.untested
        )

    @property
    def parent(self) -> str:
        """The cross-validation or the sweep that this run is a part of; "" for one of its own."""
        return self.tags.get(TAG_PARENT, "")

    @property
    def fold(self) -> int:
        """Which fold the run holds out, from 1; 0 for one that is no fold."""
        return int(self.tags.get(TAG_FOLD) or 0)

    @property
    def trial(self) -> int:
        """Which trial of a sweep the run is, from 1; 0 for one that is no trial."""
        return int(self.tags.get(TAG_TRIAL) or 0)

    @property
    def untested(self) -> bool:
        """True for a trial that is judged on validation films alone, and leaves no bundle."""
        return self.tags.get(TAG_UNTESTED) == "true"

    @property
    def place(self) -> str:
        """The cluster that the run was handed to; "" where workers are processes of a machine."""
        return self.tags.get(TAG_PLACE, "")

    @property
    def request(self) -> Request | None:
        """What somebody asked of the run and it may not have done yet."""
        asked = self.tags.get(TAG_REQUEST)
        return asked if asked in ("stop", "cancel") else None  # type: ignore[return-value]

    @property
    def queued_at(self) -> float:
        """Seconds since 1970 when the run was asked for, or asked for again."""
        return float(self.tags.get(TAG_QUEUED_AT) or self.created.timestamp())

    @property
    def order(self) -> float:
        """Place in the queue: of two runs the one with the lower order is the next."""
        return float(self.tags.get(TAG_ORDER) or self.queued_at)


def settings_key(config: RunConfig) -> str:
    """Return 16 hex digits that all runs of the same settings share, whatever they are called."""
    settings = {path: value for path, value in config.flat().items() if path != "name"}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


class RunStore:
    """Reads and writes runs.

    Args:
        uri: an MLflow tracking URI; by default ``MLFLOW_TRACKING_URI``, else SQLite in the
            workspace.

    Raises:
        TrainingError: the store cannot be opened; the text says which and what to do.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or _local_uri()
        self._histories: OrderedDict[str, dict[str, _History]] = OrderedDict()
        self._reading = threading.Lock()  # for the histories
        self._places: dict[str, Path] = {}  # of runs met so far whose files lie on this machine
        self._opening = threading.RLock()  # for what follows
        self._opened: MlflowClient | None = None
        self._experiment: str | None = None  # its id, once it is known
        self._local = _local_runs(self.uri)
        try:
            if self._tables() is not None:
                self._follow_a_moved_workspace()
        except (OSError, sqlite3.Error) as error:
            raise self._not_opened(error) from error
        if self._local is None:
            self.prepare()

    def _tables(self) -> LocalRuns | None:
        """Return the tables of the store where they can be read without MLflow."""
        if self._local is not None and not self._local.known:
            with _store_lock():  # somebody may be making them
                if not self._local.known:
                    self._local = None
        return self._local

    def _not_opened(self, error: Exception) -> TrainingError:
        return TrainingError(
            f"The run store at {self.uri} cannot be opened: {error}. Check that the place exists "
            "and can be written, or set MLFLOW_TRACKING_URI."
        )

    def prepare(self) -> str:
        """Get ready to write, which takes seconds once; return the id of the experiment.

        Nobody has to call it: what writes does. A page may, so that nobody waits for it later.

        Raises:
            TrainingError: the store cannot be opened.
        """
        with self._opening:
            if self._experiment is None:
                try:
                    with _store_lock():  # two that make the tables at once would both create them
                        self._experiment = self._open_experiment()
                except Exception as error:
                    raise self._not_opened(error) from error
            return self._experiment

    @property
    def _client(self) -> "MlflowClient":
        """MLflow's way to the store, which takes seconds to load."""
        with self._opening:
            if self._opened is None:
                from mlflow.tracking import MlflowClient

                self._opened = MlflowClient(tracking_uri=self.uri)
            return self._opened

    @property
    def files_at(self) -> str:
        """The address below which new runs keep their files."""
        place: str = self._client.get_experiment(self.prepare()).artifact_location
        return place

    # -- for whoever starts and watches ---------------------------------------------------------

    def create(self, config: RunConfig, *, name: str, tags: Mapping[str, str] | None = None) -> str:
        """Record a new queued run with its configuration; return its id."""
        tags = {**(tags or {}), TAG_SETTINGS: settings_key(config)}
        run_id = self.enter(config.flat(), name=name, tags=tags)
        self.write_text(run_id, "config.yaml", config.to_yaml())
        return run_id

    def enter(
        self, params: Mapping[str, object], *, name: str, tags: Mapping[str, str] | None = None
    ) -> str:
        """Record a new queued entry that has no configuration of its own; return its id."""
        now = time.time()
        run = self._client.create_run(
            self.prepare(),
            run_name=name,
            tags={
                **(tags or {}),
                TAG_STATUS: Status.QUEUED,
                TAG_QUEUED_AT: f"{now:.6f}",
                TAG_ORDER: f"{now:.6f}",
            },
        )
        run_id: str = run.info.run_id
        self.log_params(run_id, params)
        self._client.set_terminated(run_id, _MLFLOW_STATE[Status.QUEUED])
        return run_id

    def get(self, run_id: str) -> RunRecord:
        """Return one run.

        Raises:
            TrainingError: there is no such run, or it was deleted.
            StoreAwayError: the store does not answer.
        """
        return self._met(self._get(run_id))

    def _met(self, run: StoredRun) -> RunRecord:
        """Return what is known of a run, and remember where its files lie."""
        local = _local_folder(run.files)
        if local is not None:
            self._places[run.run_id] = local
        return _record(run)

    def _get(self, run_id: str) -> StoredRun:
        run = self._stored(run_id)
        if run.deleted:
            raise TrainingError(f"The run '{run_id}' was deleted.")
        return run

    def _stored(self, run_id: str) -> StoredRun:
        """Return a run, deleted or not."""
        tables = self._tables()
        if tables is None:
            return self._asked(run_id)
        try:
            run = tables.get(run_id)
        except sqlite3.Error as error:
            raise self._away(error) from error
        if run is None:
            raise self._unknown(run_id)
        return run

    def _asked(self, run_id: str) -> StoredRun:
        """Return a run, deleted or not, as MLflow has it."""
        from mlflow.exceptions import MlflowException

        try:
            return _stored(self._client.get_run(run_id))
        except MlflowException as error:
            unknown = error.error_code in _NOT_THERE
            raise (self._unknown(run_id) if unknown else self._away(error)) from error

    def _unknown(self, run_id: str) -> TrainingError:
        return TrainingError(f"There is no run '{run_id}' in {self.uri}.")

    def _away(self, error: Exception) -> StoreAwayError:
        return StoreAwayError(f"The run store at {self.uri} does not answer: {error}. Try again.")

    def find(self, spec: str) -> RunRecord:
        """Return the run with an id, or with one that begins so (4 characters at least).

        Raises:
            TrainingError: no run, or more than one, has such an id.
        """
        runs = [
            run
            for run in self.list()
            if run.run_id == spec or (len(spec) >= _SHORTEST_PREFIX and run.run_id.startswith(spec))
        ]
        if len(runs) > 1:
            ids = ", ".join(run.run_id[:12] for run in runs)
            raise TrainingError(f"Several runs begin with '{spec}': {ids}. Give more of the id.")
        if not runs:
            raise TrainingError(f"There is no run '{spec}' in {self.uri}.")
        return runs[0]

    def list(
        self, status: Status | None = None, tags: Mapping[str, str] | None = None
    ) -> list[RunRecord]:
        """Return the runs that stand at ``status`` and have these tags, the newest first."""
        wanted = {**(tags or {}), **({TAG_STATUS: str(status)} if status else {})}
        tables = self._tables()
        if tables is None:
            return [self._met(run) for run in self._searched(wanted)]
        try:
            found = tables.experiment(EXPERIMENT)
            return [self._met(run) for run in tables.search(found[0], wanted)] if found else []
        except sqlite3.Error as error:
            raise self._away(error) from error

    def _searched(self, tags: Mapping[str, str]) -> Iterator[StoredRun]:
        """Yield the runs that have these tags, the newest first, as MLflow has them."""
        from mlflow.entities import ViewType

        token = None
        while True:
            page = self._client.search_runs(
                [self.prepare()],
                filter_string=" and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items()),
                run_view_type=ViewType.ACTIVE_ONLY,
                order_by=["attributes.start_time DESC"],
                max_results=1000,
                page_token=token,
            )
            yield from map(_stored, page)
            token = page.token
            if not token:
                return

    def config(self, run_id: str) -> RunConfig:
        """Return the configuration that a run was started with."""
        return RunConfig.from_yaml(
            self.path(run_id, "config.yaml").read_text(encoding="utf-8"), f"run {run_id}"
        )

    def curves(self, run_id: str, metrics: Iterable[str]) -> pd.DataFrame:
        """Return metric histories as a long table: metric, step, value, time (seconds since 1970).

        Metrics that the run has not recorded (yet) are left out. Where a run was resumed, what it
        had recorded beyond its checkpoint is left out: the steps were trained again. A call reads
        only what is new since the last one on this store, so it may be made every second.
        """
        with self._reading:
            known = self._histories.setdefault(run_id, {})
            self._histories.move_to_end(run_id)
            while len(self._histories) > _RUNS_REMEMBERED:
                self._histories.popitem(last=False)
            run = self._stored(run_id)
            # MLflow holds the point of the highest step for the latest one: not so after a resume.
            resumed = TAG_RESUMED in run.tags
            latest = {key: (point.step, point.at) for key, point in run.latest.items()}
            found = {}
            for metric in metrics:
                history = known.get(metric, _NOTHING)
                if resumed or latest.get(metric) != history.end:
                    known[metric] = history = self._read_on(run_id, metric, history)
                found[metric] = history.valid()
        return pd.DataFrame(
            {
                "metric": pd.Series(
                    np.repeat(np.array([*found, ""], object), [*map(len, found.values()), 0]),
                    dtype="str",
                ),
                "step": np.concatenate([_NOTHING.steps, *(h.steps for h in found.values())]),
                "value": np.concatenate([_NOTHING.values, *(h.values for h in found.values())]),
                "time": np.concatenate([_NOTHING.times, *(h.times for h in found.values())]) / 1e3,
            }
        )

    def _read_on(self, run_id: str, metric: str, known: "_History") -> "_History":
        """Return a history with what was recorded since it was read."""
        if len(known):
            # Points come in the order of their time: the new ones are those after the known ones.
            new = self._points(run_id, metric, len(known))
            if new is not None and new.follows(known):
                return known.plus(new)
        read = self._points(run_id, metric, 0)
        assert read is not None  # from the first point on, every store can
        return read

    def _points(self, run_id: str, metric: str, skip: int) -> "_History | None":
        """Return a metric's points but for the first ones; None where the store cannot skip."""
        tables = self._tables()
        if tables is None:
            return self._asked_points(run_id, metric, skip)
        try:
            return _History.of(tables.history(run_id, metric, skip))
        except sqlite3.Error as error:
            raise self._away(error) from error

    def _asked_points(self, run_id: str, metric: str, skip: int) -> "_History | None":
        """Return what :meth:`_points` does, as MLflow has it."""
        from mlflow.exceptions import MlflowException
        from mlflow.utils.search_utils import SearchUtils

        if not skip:
            return _History.of(map(_point, self._client.get_metric_history(run_id, metric)))
        store = self._client._tracking_client.store  # MlflowClient itself reads all, always
        try:
            token = SearchUtils.create_page_token(skip)
            return _History.of(map(_point, store.get_metric_history(run_id, metric, None, token)))
        except MlflowException:  # a server that counts its pages in another way
            return None

    def path(self, run_id: str, artefact: str) -> Path:
        """Return a local path of an artefact (a file or folder), fetched where it is remote.

        What lies on this machine is not copied. What was fetched stays in the run's folder in the
        workspace; later calls fetch what is new or has changed since.

        Raises:
            TrainingError: the run has no such artefact, or there is no such run.
            StoreAwayError: the store does not answer.
        """
        known = self._places.get(run_id)
        if known is not None and (known / artefact).exists():  # without a word with the store
            return known / artefact
        run = self._get(run_id)
        local = _local_folder(run.files)
        try:
            found = local / artefact if local is not None else self._fetched(run, artefact)
            found.stat()
        except OSError as error:
            raise TrainingError(f"Run {run_id} has no file '{artefact}'.") from error
        return found

    def _fetched(self, run: StoredRun, artefact: str) -> Path:
        """Fetch what is not here yet of a remote artefact; return the local copy's path.

        Raises:
            OSError: the store does not hold it, or cannot hand it out.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self._fetch(run, artefact)
        except MlflowException as error:
            raise OSError(str(error)) from error

    def _fetch(self, run: StoredRun, artefact: str) -> Path:
        import mlflow

        run_id, address = run.run_id, run.files
        # A resumed run writes some files again, perhaps as long as before.
        folder = workspace.run_folder(run_id) / _FETCHED / run.tags.get(TAG_RESUMED, "0")
        listed = self._client.list_artifacts(run_id, artefact.rpartition("/")[0] or None)
        files = list(self._files(run_id, [entry for entry in listed if entry.path == artefact]))
        for file in files:  # a server's word must not lead out of the folder
            if ".." in Path(file.path).parts or not file.path.startswith(artefact):
                raise TrainingError(f"Run {run_id} names a file that is not its own: {file.path}.")
        missing = [file.path for file in files if _size(folder / file.path) != file.file_size]
        if not missing:
            return folder / artefact
        # All at once where none is here: MLflow fetches the files of a folder side by side.
        wanted = [artefact] if len(missing) == len(files) else missing
        with tempfile.TemporaryDirectory(dir=workspace.run_folder(run_id)) as scratch:
            for path in wanted:
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{address}/{path}",
                    tracking_uri=self.uri,
                    dst_path=str(Path(scratch, path).parent),
                )
            for path in missing:  # whole files only: a page may be reading
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                Path(scratch, path).replace(folder / path)
        return folder / artefact

    def _files(self, run_id: str, entries: "Iterable[FileInfo]") -> "Iterator[FileInfo]":
        """Yield the files among these artefacts and in the folders among them."""
        for entry in entries:
            if entry.is_dir:
                yield from self._files(run_id, self._client.list_artifacts(run_id, entry.path))
            else:
                yield entry

    def request(self, run_id: str, what: Request) -> None:
        """Ask a run to stop early (keeping its best weights) or to cancel; a cancel stays one."""
        if what == "stop" and self.get(run_id).request == "cancel":
            return
        self._client.set_tag(run_id, TAG_REQUEST, what)

    def queue_again(self, run_id: str, tags: Mapping[str, str] | None = None) -> None:
        """Put a run at the end of the queue, without a trace of how it ended.

        Args:
            run_id: which run.
            tags: what is to be said of it at the same time.
        """
        now = f"{time.time():.6f}"
        times = int(self.get(run_id).tags.get(TAG_RESUMED) or 0) + 1
        gone = (
            *(TAG_REASON, TAG_REQUEST, TAG_WORKER, TAG_EXIT, TAG_SEEN_AT, TAG_PROGRESS),
            *(TAG_PLACE, TAG_NODE),
        )
        self.set_tags(
            run_id,
            {
                **dict.fromkeys(gone, ""),
                TAG_QUEUED_AT: now,
                TAG_ORDER: now,
                TAG_RESUMED: str(times),
                TAG_STATUS: Status.QUEUED,
                **(tags or {}),
            },
        )
        self._client.update_run(run_id, _MLFLOW_STATE[Status.QUEUED])

    def delete(self, run_id: str) -> None:
        """Take a run off the list and its files off this machine's disk.

        Files kept on a server stay there until MLflow's own garbage collection.
        """
        place = _local_folder(self._stored(run_id).files)
        self._client.delete_run(run_id)
        with self._reading:
            self._histories.pop(run_id, None)
        self._places.pop(run_id, None)
        # MLflow keeps them in ".../RUN_ID/artifacts": nothing else is ever removed.
        if place is not None and place.parent.name == run_id:
            shutil.rmtree(place.parent, ignore_errors=True)

    # -- for whoever trains ---------------------------------------------------------------------

    def set_status(self, run_id: str, status: Status, reason: str = "") -> None:
        """Record where a run stands; an inactive status also sets its end time."""
        self.set_tags(run_id, {TAG_STATUS: status, **({TAG_REASON: reason} if reason else {})})
        if status.active:
            self._client.update_run(run_id, _MLFLOW_STATE[status])
        else:
            self._client.set_terminated(run_id, _MLFLOW_STATE[status])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set several tags at once."""
        from mlflow.entities import RunTag

        self._client.log_batch(run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Record facts that never change during the run.

        Raises:
            TrainingError: one was recorded with another value before the run was resumed.
        """
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])
        except MlflowException:
            known = self.get(run_id).params
            for name, value in params.items():
                if known.get(name, str(value)) != str(value):
                    raise TrainingError(
                        f"The run began with {name} = {known[name]}, and now it is {value}: its "
                        "data or the code changed since, so it cannot go on. Repeat it."
                    ) from None
            raise

    def log_points(self, run_id: str, points: Iterable[tuple[str, int, float, float]]) -> None:
        """Record many metric points at once: (metric, step, value, seconds since 1970)."""
        from mlflow.entities import Metric

        metrics = [Metric(key, value, int(at * 1000), step) for key, step, value, at in points]
        for start in range(0, len(metrics), 1000):  # MLflow's limit a call
            self._client.log_batch(run_id, metrics=metrics[start : start + 1000])

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record several metrics of one step."""
        now = time.time()
        self.log_points(run_id, [(key, step, value, now) for key, value in metrics.items()])

    def write_file(self, run_id: str, local: Path, folder: str | None = None) -> None:
        """Keep a local file or folder as an artefact of the run, under its own name."""
        if local.is_dir():
            self._client.log_artifacts(run_id, str(local), folder or local.name)
        else:
            self._client.log_artifact(run_id, str(local), folder)

    def remove(self, run_id: str, artefact: str) -> None:
        """Take a file or folder of a run out of the store, where it is there."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        place = self._get(run_id).files
        get_artifact_repository(place, tracking_uri=self.uri).delete_artifacts(artefact)

    def write_text(self, run_id: str, name: str, text: str) -> None:
        """Keep a text as an artefact of the run."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / name
            local.write_text(text, encoding="utf-8")
            self.write_file(run_id, local)

    @contextmanager
    def watch_system(self, run_id: str) -> Iterator[None]:
        """Record the machine's load while the context lasts, a point every five seconds.

        MLflow's system metrics: CPU, memory, disk and network, and load and memory of each GPU
        where ``nvidia-ml-py`` is installed; their names begin with ``system/``. The run must be
        running. What goes wrong here is logged and ends no run.
        """
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = None
        try:
            monitor = SystemMetricsMonitor(
                run_id,
                sampling_interval=_SYSTEM_INTERVAL,
                resume_logging=True,  # steps go on where the run was resumed
                tracking_uri=self.uri,
            )
            monitor.start()
        except Exception:
            _log.exception("The machine's load cannot be recorded.")
        try:
            yield
        finally:
            try:
                if monitor is not None:
                    monitor.finish()
            except Exception:
                _log.exception("The last points of the machine's load are lost.")

    def _open_experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        place = workspace.home() / "artifacts"
        local = self.uri.startswith("sqlite")
        return str(
            self._client.create_experiment(
                EXPERIMENT, artifact_location=place.as_uri() if local else None
            )
        )

    def _follow_a_moved_workspace(self) -> None:
        """Let a workspace that was moved or copied find its runs' files where they are now.

        MLflow keeps where they lie as full addresses and has no way to change them: a copy would go
        on writing into the workspace that it was copied from.
        """
        found = self._local.experiment(EXPERIMENT) if self._local is not None else None
        before = _local_folder(found[1]) if found is not None else None
        if found is None or before is None or self.uri != _local_uri():
            return
        place = workspace.home() / "artifacts"
        moved = before.resolve() != place.resolve()
        # A store that was copied without its files has them only where they were.
        if moved and (place.is_dir() or not before.is_dir()):
            with _store_lock():
                _readdress(workspace.home() / "runs.db", found[1], place.as_uri())


@dataclass(frozen=True, eq=False)
class _History:
    """All points of one metric of one run, in the order of their time."""

    steps: np.ndarray  # int64 (n,)
    values: np.ndarray  # float64 (n,)
    times: np.ndarray  # int64 (n,), milliseconds since 1970

    def __len__(self) -> int:
        return len(self.steps)

    @classmethod
    def of(cls, points: Iterable[Point]) -> "_History":
        steps, values, times = tuple(zip(*points, strict=True)) or ((), (), ())
        return cls(
            np.array(steps, np.int64), np.array(values, np.float64), np.array(times, np.int64)
        )

    @property
    def end(self) -> tuple[int, int] | None:
        """Step and time of the last point, None where there is none."""
        return (int(self.steps[-1]), int(self.times[-1])) if len(self) else None

    def follows(self, known: "_History") -> bool:
        """Tell if all points come after the known ones: not so where a clock was set back."""
        if not len(self) or not len(known):
            return True
        return (self.times[0], self.steps[0]) > (known.times[-1], known.steps[-1])

    def plus(self, new: "_History") -> "_History":
        if not len(new):
            return self
        return _History(
            np.concatenate([self.steps, new.steps]),
            np.concatenate([self.values, new.values]),
            np.concatenate([self.times, new.times]),
        )

    def valid(self) -> "_History":
        """Leave out what was trained again: a point at or beyond the step of a later point."""
        if not len(self):
            return self
        least_after = np.minimum.accumulate(self.steps[:0:-1])[::-1]
        kept = np.append(self.steps[:-1] < least_after, True)
        return self if kept.all() else _History(*(a[kept] for a in vars(self).values()))


_NOTHING = _History.of(())


def _local_folder(artifact_uri: str) -> Path | None:
    """Return the folder that an artefact address means on this machine, None for a remote one."""
    parts = urlsplit(artifact_uri)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    return Path(unquote(parts.path))


def _readdress(database: Path, before: str, now: str) -> None:
    """Have a local store name another folder for the files of its runs."""
    length = len(before)
    with closing(sqlite3.connect(database, timeout=30)) as store, store:
        store.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
            "WHERE substr(artifact_uri, 1, ?) = ?",
            (now, length + 1, length + 1, f"{before}/"),
        )
        store.execute(
            "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?",
            (now, before),
        )


def _size(file: Path) -> int:
    """Return the bytes of a file, -1 where it is not there."""
    return file.stat().st_size if file.is_file() else -1


def _local_uri() -> str:
    return f"{_SQLITE}{workspace.home() / 'runs.db'}"


def _local_runs(uri: str) -> LocalRuns | None:
    """Return the tables of a store that is a file of this machine.

    None as well where a file that somebody names is not there: MLflow makes it, or says why not.
    """
    if not uri.startswith(_SQLITE):
        return None
    file = Path(uri.removeprefix(_SQLITE))
    return LocalRuns(file) if uri == _local_uri() or file.is_file() else None


def _store_lock() -> FileLock:
    return FileLock(workspace.home() / "store.lock")


def _stored(run: "Run") -> StoredRun:
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        began=run.info.start_time,
        ended=run.info.end_time,
        deleted=run.info.lifecycle_stage == "deleted",
        files=run.info.artifact_uri,
        params=run.data.params,
        tags=run.data.tags,
        latest={metric.key: _point(metric) for metric in run.data._metric_objs},
    )


def _point(metric: "Metric") -> Point:
    return Point(metric.step, metric.value, metric.timestamp)


def _record(run: StoredRun) -> RunRecord:
    status = Status(run.tags.get(TAG_STATUS, Status.FAILED))
    ended = run.ended if not status.active else None
    return RunRecord(
        run_id=run.run_id,
        name=run.name or run.run_id[:8],
        status=status,
        phase=run.tags.get(TAG_PHASE, ""),
        reason=run.tags.get(TAG_REASON, ""),
        created=datetime.fromtimestamp(run.began / 1000, UTC),
        ended=datetime.fromtimestamp(ended / 1000, UTC) if ended else None,
        params=run.params,
        metrics={key: point.value for key, point in run.latest.items()},
        tags=run.tags,
    )
