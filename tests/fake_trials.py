"""Trials of a sweep as their workers would train them, epoch by epoch, without a training."""

import json
import os
import time
from collections.abc import Callable, Sequence

import pytest

from cxr_core.config import RunConfig
from cxr_core.training import jobs, search_space, sweep_driver, sweeps
from cxr_core.training.search import Search
from cxr_core.training.tracking import TAG_PARENT, TAG_TRIAL, TAG_WORKER, RunStore, Status
from cxr_core.training.writer import RunWriter

SPACE = search_space.SearchSpace.from_mapping(
    {
        "optimise.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "optimise.optimizer": ["adam", "adamw"],
    }
)
TEST = {
    "n": 90,
    "patients": 62,
    "auc": 0.875,
    "sensitivity": 0.9,
    "specificity": 0.8,
    "threshold": 0.4,
    "ci95": {"auc": [0.8, 0.93]},
}

Course = Callable[[int, RunConfig], Sequence[float]]  # trial, settings -> AUROC by epoch


class Killed(BaseException):
    """The worker of the sweep is gone in the midst of it."""


class Trainer:
    """A launcher whose workers train an epoch each time the sweep's worker waits.

    Args:
        store: where runs are kept.
        course: validation AUROC by epoch of a trial; too short a course fails it.
        epochs: how many a trial has.
    """

    def __init__(self, store: RunStore, course: Course, epochs: int = 3) -> None:
        self.store, self.course, self.epochs = store, course, epochs
        self.started: list[str] = []
        self.tested: list[str] = []
        self.at_work: dict[str, int] = {}  # epochs done
        self.most_at_work = 0
        self.fault = ""  # what a test fails of
        self.before_tick: Callable[[], None] = lambda: None

    def start(self, run_id: str) -> None:
        self.started.append(run_id)
        self.at_work[run_id] = 0
        self.most_at_work = max(self.most_at_work, len(self.at_work))
        parameters = 1000 + self.store.get(run_id).trial
        self.store.log_params(run_id, {"parameters": parameters, "val_films": 45})
        self.store.set_tags(run_id, {TAG_WORKER: jobs.worker_name(os.getpid())})
        self.store.set_status(run_id, Status.RUNNING)

    def tick(self, seconds: float = 0) -> None:
        self.before_tick()
        for run_id in list(self.at_work):
            self._epoch(run_id)

    def _epoch(self, run_id: str) -> None:
        run, store = self.store.get(run_id), self.store
        if run.request == "cancel":
            return self._end(run_id, Status.CANCELLED)
        if not run.untested and self.fault:
            return self._end(run_id, Status.FAILED, self.fault)
        if not run.untested:
            self.tested.append(run_id)
            store.write_text(run_id, "evaluation.json", json.dumps({"test": TEST}))
            return self._end(run_id, Status.FINISHED)
        course = self.course(run.trial, store.config(run_id))
        done = self.at_work[run_id]
        if done == len(course):
            return self._end(run_id, Status.FAILED, "The loss was no longer a number.")
        self.at_work[run_id] = done = done + 1
        values = {"val_auroc": course[done - 1], "val_loss": 1 - course[done - 1]}
        best = max(range(done), key=lambda place: course[place]) + 1
        store.log_metrics(run_id, {**values, "epoch_seconds": 2.0, "best_epoch": best}, step=done)
        if run.request == "stop":
            return self._end(run_id, Status.STOPPED)
        return self._end(run_id, Status.FINISHED) if done == self.epochs else None

    def _end(self, run_id: str, status: Status, reason: str = "") -> None:
        del self.at_work[run_id]
        self.store.set_status(run_id, status, reason)


def enter(
    store: RunStore, trials: int, space: search_space.SearchSpace = SPACE, **how: object
) -> str:
    """Enter a sweep whose worker has not begun; return its id."""

    class Nobody:
        def start(self, run_id: str) -> None:
            pass

    config = RunConfig().with_values({"optimise.epochs": 3})
    how = {"pruner": "none", **how}
    search = Search(space, trials=trials, **how)
    return sweeps.start(config, search, recipe="quick", store=store, launcher=Nobody())


def drive(sweep: str, store: RunStore, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> Status:
    """Do what the sweep's worker does, and note how it ended, as the worker would."""
    with monkeypatch.context() as patch, RunWriter(store, sweep) as run:
        patch.setattr(time, "sleep", trainer.tick)
        store.set_status(sweep, Status.RUNNING)
        try:
            status = sweep_driver.drive(store, run, trainer)
        except sweep_driver.RunCancelled:
            status = Status.CANCELLED
        except Killed:
            store.set_status(sweep, Status.FAILED, "It was killed.")
            return Status.FAILED
    store.set_status(sweep, status)
    return status


def numbers(store: RunStore, sweep: str) -> list[int]:
    """Return the numbers of a sweep's trials in the order of their runs."""
    runs = store.list(tags={TAG_PARENT: sweep})
    return sorted(int(run.tags[TAG_TRIAL]) for run in runs)
