"""The run store: the ONE channel between whoever watches and whoever trains.

An MLflow tracking server, by default a SQLite file in the workspace; ``MLFLOW_TRACKING_URI`` points
to another. A run's life, its settings, curves, files and the requests to it ("stop", "cancel") all
travel through here, so the watcher may be another process or another machine.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

# A tool for patient data makes no call home: before MLflow is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import pandas as pd
from filelock import FileLock
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.errors import TrainingError

EXPERIMENT = "cxr-studio"
Request = Literal["stop", "cancel"]


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
TAG_QUEUED_AT = "cxr.queued_at"  # seconds since 1970; the queue's order


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
    def request(self) -> Request | None:
        """What somebody asked of the run and it may not have done yet."""
        asked = self.tags.get(TAG_REQUEST)
        return asked if asked in ("stop", "cancel") else None  # type: ignore[return-value]


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
        try:
            # Two processes that make a new SQLite store at once would both create its tables.
            with FileLock(workspace.home() / "store.lock"):
                self._client = MlflowClient(tracking_uri=self.uri)
                self._experiment = self._open_experiment()
        except Exception as error:
            raise TrainingError(
                f"The run store at {self.uri} cannot be opened: {error}. Check that the place "
                "exists and can be written, or set MLFLOW_TRACKING_URI."
            ) from error

    # -- for whoever starts and watches ---------------------------------------------------------

    def create(self, config: RunConfig, *, name: str, tags: Mapping[str, str] | None = None) -> str:
        """Record a new queued run with its configuration; return its id."""
        now = time.time()
        run = self._client.create_run(
            self._experiment,
            run_name=name,
            tags={
                **(tags or {}),
                TAG_STATUS: Status.QUEUED,
                TAG_QUEUED_AT: f"{now:.6f}",
            },
        )
        run_id: str = run.info.run_id
        self.log_params(run_id, config.flat())
        self.write_text(run_id, "config.yaml", config.to_yaml())
        self._client.set_terminated(run_id, _MLFLOW_STATE[Status.QUEUED])
        return run_id

    def get(self, run_id: str) -> RunRecord:
        """Return one run.

        Raises:
            TrainingError: there is no such run.
        """
        try:
            return _record(self._client.get_run(run_id))
        except MlflowException as error:
            raise TrainingError(f"There is no run '{run_id}' in {self.uri}.") from error

    def list(self, status: Status | None = None) -> list[RunRecord]:
        """Return all runs, or those that stand at ``status``, the newest first."""
        records: list[RunRecord] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                filter_string=f"tags.`{TAG_STATUS}` = '{status}'" if status else "",
                run_view_type=ViewType.ACTIVE_ONLY,
                order_by=["attributes.start_time DESC"],
                max_results=1000,
                page_token=token,
            )
            records += [_record(run) for run in page]
            token = page.token
            if not token:
                return records

    def config(self, run_id: str) -> RunConfig:
        """Return the configuration that a run was started with."""
        return RunConfig.from_yaml(
            self.path(run_id, "config.yaml").read_text(encoding="utf-8"), f"run {run_id}"
        )

    def curves(self, run_id: str, metrics: Iterable[str]) -> pd.DataFrame:
        """Return metric histories as a long table: metric, step, value, time (seconds since 1970).

        Metrics that the run has not recorded (yet) are left out.
        """
        rows = [
            (metric, point.step, point.value, point.timestamp / 1000)
            for metric in metrics
            for point in self._client.get_metric_history(run_id, metric)
        ]
        return pd.DataFrame(rows, columns=["metric", "step", "value", "time"])

    def path(self, run_id: str, artefact: str) -> Path:
        """Return a local path of an artefact (a file or folder), fetched where it is remote.

        Raises:
            TrainingError: the run has no such artefact.
        """
        try:
            # By the artefact's own address: through "runs:/" MLflow copies even what lies here.
            place = self._client.get_run(run_id).info.artifact_uri
            return Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{place}/{artefact}", tracking_uri=self.uri
                )
            )
        except (MlflowException, OSError) as error:
            raise TrainingError(f"Run {run_id} has no file '{artefact}'.") from error

    def request(self, run_id: str, what: Request) -> None:
        """Ask a run to stop early (keeping its best weights) or to cancel."""
        self._client.set_tag(run_id, TAG_REQUEST, what)

    def delete(self, run_id: str) -> None:
        """Take a run off the list; its files stay until MLflow's own garbage collection."""
        self._client.delete_run(run_id)

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
        self._client.log_batch(run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()])

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Record facts that never change during the run."""
        self._client.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])

    def log_points(self, run_id: str, points: Iterable[tuple[str, int, float, float]]) -> None:
        """Record many metric points at once: (metric, step, value, seconds since 1970)."""
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

    def write_text(self, run_id: str, name: str, text: str) -> None:
        """Keep a text as an artefact of the run."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / name
            local.write_text(text, encoding="utf-8")
            self.write_file(run_id, local)

    def _open_experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        local = self.uri.startswith("sqlite")
        location = (workspace.home() / "artifacts").as_uri() if local else None
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=location))


def _local_uri() -> str:
    return f"sqlite:///{workspace.home() / 'runs.db'}"


def _record(run: Run) -> RunRecord:
    tags = run.data.tags
    ended = run.info.end_time
    status = Status(tags.get(TAG_STATUS, Status.FAILED))
    return RunRecord(
        run_id=run.info.run_id,
        name=run.info.run_name or run.info.run_id[:8],
        status=status,
        phase=tags.get(TAG_PHASE, ""),
        reason=tags.get(TAG_REASON, ""),
        created=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        ended=datetime.fromtimestamp(ended / 1000, UTC) if ended and not status.active else None,
        params=run.data.params,
        metrics=run.data.metrics,
        tags=tags,
    )
