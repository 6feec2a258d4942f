"""Starting, stopping and listing runs, without training any."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.errors import DatasetError, TrainingError
from cxr_core.training import jobs, worker
from cxr_core.training.tracking import TAG_RECIPE, TAG_WORKER, RunStore, Status

CONFIG = RunConfig()
ME = jobs.worker_name(os.getpid())


class Recorder:
    """A launcher that starts nothing and remembers what it was asked for."""

    def __init__(self, fault: str = "") -> None:
        self.started: list[str] = []
        self.fault = fault

    def start(self, run_id: str) -> None:
        if self.fault:
            raise TrainingError(self.fault)
        self.started.append(run_id)


@pytest.fixture
def gone() -> str:
    """The name of a worker that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = jobs.worker_name(process.pid)
    process.communicate()
    return name


def queue(store: RunStore, worker_tag: str, status: Status = Status.QUEUED) -> str:
    run_id = store.create(CONFIG, name="run", tags={TAG_WORKER: worker_tag})
    store.set_status(run_id, status)
    return run_id


# -- starting -------------------------------------------------------------------------------------


def test_a_start_queues_the_run_and_asks_the_launcher(store):
    launcher = Recorder()
    run_id = jobs.start(CONFIG, recipe="plain_cnn", store=store, launcher=launcher)
    record = store.get(run_id)
    assert launcher.started == [run_id]
    assert record.status is Status.QUEUED
    assert record.name == "plain_cnn"
    assert record.tags[TAG_RECIPE] == "plain_cnn"


def test_a_faulty_configuration_starts_nothing(store):
    launcher = Recorder()
    config = CONFIG.with_values({"data.root": "/no/such/folder"})
    with pytest.raises(TrainingError, match="no such folder"):
        jobs.start(config, store=store, launcher=launcher)
    assert launcher.started == []
    assert store.list() == []


def test_a_run_whose_worker_cannot_start_is_failed_with_the_reason(store):
    with pytest.raises(TrainingError, match="no processes left"):
        jobs.start(CONFIG, store=store, launcher=Recorder(fault="There are no processes left."))
    (record,) = store.list()
    assert record.status is Status.FAILED
    assert record.reason == "There are no processes left."


def test_a_relative_folder_is_recorded_as_absolute(store, tmp_path, monkeypatch):
    (tmp_path / "films").mkdir()
    monkeypatch.chdir(tmp_path)
    config = CONFIG.with_values({"data.root": "films"})
    run_id = jobs.start(config, store=store, launcher=Recorder())
    assert store.config(run_id).data.root == str(tmp_path / "films")


def test_requests_are_seen_by_whoever_reads_the_run(store):
    run_id = queue(store, ME)
    jobs.stop_early(run_id, store)
    assert RunStore().get(run_id).request == "stop"
    jobs.cancel(run_id, store)
    assert RunStore().get(run_id).request == "cancel"


# -- dead workers ---------------------------------------------------------------------------------


def test_a_run_with_a_living_worker_is_left_alone(store):
    queue(store, ME, Status.RUNNING)
    (record,) = jobs.runs(store)
    assert record.status is Status.RUNNING


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
def test_a_run_whose_worker_is_gone_is_failed_with_the_last_line_of_its_log(store, gone, status):
    run_id = queue(store, gone, status)
    log = workspace.run_folder(run_id) / jobs.LOG_FILE
    log.write_text("Now training.\nEpoch 3: val_loss 0.2\n")
    (record,) = jobs.runs(store)
    assert record.status is Status.FAILED
    assert "killed" in record.reason
    assert "Epoch 3: val_loss 0.2" in record.reason
    assert store.path(run_id, jobs.LOG_FILE).read_text() == log.read_text()


def test_another_process_with_the_same_number_is_not_the_worker(store):
    host, pid, started = ME.split()
    queue(store, f"{host} {pid} {float(started) - 3600:.2f}", Status.RUNNING)
    (record,) = jobs.runs(store)
    assert record.status is Status.FAILED


def test_a_worker_of_another_machine_is_not_judged(store):
    queue(store, f"not-{socket.gethostname()} 1 0.00", Status.RUNNING)
    (record,) = jobs.runs(store)
    assert record.status is Status.RUNNING


def test_a_run_that_was_never_launched_is_failed_after_a_while(store, monkeypatch):
    store.create(CONFIG, name="run")
    (record,) = jobs.runs(store)
    assert record.status is Status.QUEUED
    monkeypatch.setattr(jobs, "_LAUNCH_GRACE", record.created - record.created)
    (record,) = jobs.runs(store)
    assert record.status is Status.FAILED


def test_a_run_that_ended_well_between_two_looks_stays_so(store, gone):
    run_id = queue(store, gone, Status.RUNNING)
    seen_running = store.get(run_id)
    store.set_status(run_id, Status.FINISHED)
    assert jobs.bury_if_dead(seen_running, store).status is Status.FINISHED


def test_waiting_tells_every_change_and_ends_with_the_run(store, monkeypatch):
    run_id = queue(store, ME)
    steps = iter([Status.RUNNING, Status.FINISHED])
    monkeypatch.setattr(jobs.time, "sleep", lambda _: store.set_status(run_id, next(steps)))
    seen = []
    record = jobs.wait(run_id, store, lambda record: seen.append(record.status))
    assert seen == [Status.QUEUED, Status.RUNNING, Status.FINISHED]
    assert record.status is Status.FINISHED


# -- the worker, up to the training ---------------------------------------------------------------


@pytest.fixture
def in_this_process(monkeypatch):
    """Let a worker run here without taking over output and signals."""
    monkeypatch.setattr(worker, "_write_all_output_to", lambda log: log.touch())
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)


def test_runs_take_turns_in_the_order_they_were_asked_for(store, gone):
    queue(store, gone)  # does not hold up those behind it
    first, second = queue(store, ME), queue(store, ME)
    assert worker._first_in_queue(first, store)
    assert not worker._first_in_queue(second, store)
    store.set_status(first, Status.RUNNING)
    assert worker._first_in_queue(second, store)


def test_a_run_cancelled_in_the_queue_leaves_it(store, in_this_process):
    run_id = queue(store, ME)
    jobs.cancel(run_id, store)
    assert worker.main(run_id) == 0
    record = store.get(run_id)
    assert record.status is Status.CANCELLED
    assert record.reason == ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DatasetError("The folder has no films."), "^The folder has no films.$"),
        (MemoryError(), "Memory ran out"),
        (type("ResourceExhaustedError", (Exception,), {})("OOM"), "Memory ran out"),
        (OSError(errno.ENOSPC, "No space left", "/big/file"), "disk is full.*/big/file"),
        (KeyError("x"), "unexpected fault.*KeyError.*See the log"),
    ],
)
def test_a_failure_is_told_in_words(store, in_this_process, monkeypatch, error, words):
    def fail(*_):
        raise error

    monkeypatch.setattr(worker, "_train", fail)
    run_id = queue(store, ME)
    assert worker.main(run_id) == 1
    record = store.get(run_id)
    assert record.status is Status.FAILED
    assert re.search(words, record.reason)
    assert store.path(run_id, jobs.LOG_FILE).is_file()


def test_a_worker_that_is_told_to_end_says_so(store, monkeypatch):
    monkeypatch.setattr(worker, "_write_all_output_to", lambda log: log.touch())
    monkeypatch.setattr(worker, "_train", lambda *_: signal.raise_signal(signal.SIGTERM))
    run_id = queue(store, ME)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert worker.main(run_id) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "told to end (SIGTERM)" in store.get(run_id).reason


def test_a_run_leaves_what_it_ran_on(store, in_this_process, monkeypatch):
    monkeypatch.setattr(worker, "_train", lambda *_: Status.FINISHED)
    run_id = queue(store, ME)
    assert worker.main(run_id) == 0
    text = store.path(run_id, "environment.txt").read_text()
    assert "tensorflow==" in text
    assert "python 3." in text
