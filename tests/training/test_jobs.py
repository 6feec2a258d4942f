"""The verbs on runs, and their workers, without training any."""

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from mlflow.exceptions import MlflowException

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.errors import ConfigError, DatasetError, TrainingError
from cxr_core.training import jobs, worker
from cxr_core.training.tracking import (
    TAG_CODE,
    TAG_EXIT,
    TAG_MEMORY_KILLS,
    TAG_PLACE,
    TAG_RECIPE,
    TAG_RESUMED,
    TAG_WORKER,
    RunStore,
    Status,
)

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


def checkpoint(run_id: str, name: str = "checkpoint.npz") -> Path:
    folder = workspace.checkpoint_folder(run_id)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"weights")
    return folder


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


def test_a_relative_folder_is_recorded_as_absolute(store, phantoms, tmp_path, monkeypatch):
    (tmp_path / "films").symlink_to(phantoms)
    monkeypatch.chdir(tmp_path)
    config = CONFIG.with_values({"data.root": "films"})
    run_id = jobs.start(config, store=store, launcher=Recorder())
    assert store.config(run_id).data.root == str(phantoms)


def test_films_that_cannot_be_divided_start_nothing(store, phantoms, tmp_path):
    launcher = Recorder()
    (tmp_path / "films" / "NORMAL").mkdir(parents=True)
    film = next((phantoms / "images").iterdir())
    shutil.copy(film, tmp_path / "films" / "NORMAL" / film.name)
    config = CONFIG.with_values({"data.root": str(tmp_path / "films")})
    with pytest.raises(TrainingError, match=r"cannot be divided.*only the class NORMAL"):
        jobs.start(config, store=store, launcher=launcher)
    assert launcher.started == []


def test_the_built_in_set_is_not_drawn_just_to_check_it(store):
    assert jobs.open_films(CONFIG) is None
    assert jobs.open_films(CONFIG.with_values({"data.root": "/no/such/folder"})) is None


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


def test_a_worker_that_died_after_a_request_to_cancel_did_as_it_was_asked(store, gone):
    run_id = queue(store, gone, Status.RUNNING)
    kept = checkpoint(run_id)
    jobs.cancel(run_id, store)
    (record,) = jobs.runs(store)
    assert (record.status, record.reason) == (Status.CANCELLED, "")
    assert not kept.exists()


@pytest.mark.parametrize(
    ("ended", "log", "words"),
    [
        ("", "", "it was killed, or the machine ran out of memory or was restarted"),
        ("SIGKILL", "", "killed (SIGKILL), by a user or by the system when memory ran out"),
        ("SIGBUS", "", "mapped into memory could not be read or written (SIGBUS)"),
        ("SIGSEGV", "", "it was ended by SIGSEGV"),
        ("status 3", "", "it ended with status 3"),
        ("SIGABRT", "what():  std::bad_alloc\nAborted", "memory ran out. Lower"),
    ],
)
def test_how_a_worker_went_is_told_as_far_as_it_is_known(store, gone, ended, log, words):
    run_id = queue(store, gone, Status.RUNNING)
    store.set_tags(run_id, {TAG_EXIT: ended})
    (workspace.run_folder(run_id) / jobs.LOG_FILE).write_text(log)
    (record,) = jobs.runs(store)
    assert words in record.reason


@pytest.mark.parametrize(("count", "blamed"), [(2, True), (3, False)])
def test_the_systems_own_count_tells_that_memory_ran_out(store, gone, tmp_path, count, blamed):
    (tmp_path / "memory.events").write_text("oom_kill 3\n")
    run_id = queue(store, gone, Status.RUNNING)
    tags = {TAG_MEMORY_KILLS: f"{count} {tmp_path}/memory.events", TAG_EXIT: "SIGKILL"}
    store.set_tags(run_id, tags)
    (record,) = jobs.runs(store)
    assert ("the system killed it because memory ran out. Lower" in record.reason) is blamed


def test_a_machine_whose_memory_was_full_is_named_beside_a_kill(store, gone):
    run_id = queue(store, gone, Status.RUNNING)
    store.log_metrics(run_id, {"system/system_memory_usage_percentage": 97.2})
    store.set_tags(run_id, {TAG_EXIT: "SIGKILL"})
    (record,) = jobs.runs(store)
    assert "memory was 97 % full shortly before" in record.reason


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process table as Linux keeps it")
def test_a_dead_worker_that_nobody_took_note_of_is_read_in_the_process_table(store, until):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    run_id = queue(store, jobs.worker_name(process.pid), Status.RUNNING)
    process.kill()
    zombie = psutil.Process(process.pid)
    until(lambda: zombie.status() == psutil.STATUS_ZOMBIE, "its end")
    record = jobs.bury_if_dead(store.get(run_id), store)
    process.communicate()
    assert "it was killed (SIGKILL)" in record.reason


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


def test_a_run_on_a_cluster_is_held_for_dead_only_when_nobody_speaks_of_it_any_more(
    store, gone, monkeypatch
):
    """Its process may be on this machine and gone: the cluster lets it go on on another node."""
    run_id = queue(store, gone, Status.RUNNING)
    store.set_tags(run_id, {TAG_PLACE: "ray head:6379"})
    (record,) = jobs.runs(store)
    assert record.status is Status.RUNNING
    monkeypatch.setattr(jobs, "_SILENCE", 0.0)
    (record,) = jobs.runs(store)
    assert record.status is Status.FAILED
    assert "The cluster (ray head:6379) was shut down, or it no longer reaches" in record.reason


def test_a_run_on_a_cluster_holds_up_none_on_this_machine(store):
    store.create(CONFIG, name="there", tags={TAG_PLACE: "ray head:6379"})
    here = queue(store, ME)
    assert worker._before_in_queue(here, store) == 0


def test_a_run_that_was_never_launched_is_failed_after_a_while(store, monkeypatch):
    store.create(CONFIG, name="run")
    (record,) = jobs.runs(store)
    assert record.status is Status.QUEUED
    monkeypatch.setattr(jobs, "_LAUNCH_GRACE", 0.0)
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


# -- the queue ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moves", "order"),
    [
        ([], "abc"),
        ([("c", "up")], "acb"),
        ([("c", "up"), ("c", "up")], "cab"),
        ([("a", "down")], "bac"),
        ([("c", "first")], "cab"),
        ([("c", "first"), ("b", "first")], "bca"),
        ([("a", "up"), ("a", "first"), ("c", "down")], "abc"),
        ([("c", "first"), ("c", "down"), ("b", "up")], "abc"),
    ],
)
def test_waiting_runs_are_moved(store, moves, order):
    ids = {name: queue(store, ME) for name in "abc"}
    for name, where in moves:
        jobs.move(ids[name], where, store)
    names = {run_id: name for name, run_id in ids.items()}
    assert "".join(names[record.run_id] for record in jobs.queue(store)) == order
    assert [worker._before_in_queue(ids[name], store) for name in order] == [0, 1, 2]


@pytest.mark.parametrize("status", [Status.RUNNING, Status.FINISHED])
def test_only_a_waiting_run_is_moved(store, status):
    run_id = queue(store, ME, status)
    with pytest.raises(TrainingError, match=f"is {status}: only a waiting run"):
        jobs.move(run_id, "first", store)


# -- resuming, repeating, deleting ----------------------------------------------------------------


def failed(store: RunStore, *, trained: bool = True) -> str:
    run_id = store.create(CONFIG, name="run", tags={TAG_RECIPE: "plain_cnn"})
    if trained:
        store.log_metrics(run_id, {"val_loss": 0.5}, 1)
    store.set_status(run_id, Status.FAILED, "It was killed.")
    return run_id


def test_a_failed_run_with_a_checkpoint_goes_back_to_the_queue(store):
    run_id, launcher = failed(store), Recorder()
    checkpoint(run_id)
    jobs.resume(run_id, store=store, launcher=launcher)
    record = store.get(run_id)
    assert launcher.started == [run_id]
    assert (record.status, record.reason) == (Status.QUEUED, "")
    assert record.phase == "waiting for the device"
    assert jobs.bury_if_dead(record, store).status is Status.QUEUED  # its worker is on its way
    with pytest.raises(TrainingError, match="is queued: there is nothing to resume"):
        jobs.resume(run_id, store=store, launcher=launcher)
    assert launcher.started == [run_id]


def test_a_run_whose_worker_is_gone_can_be_resumed_before_anybody_noticed(store, gone):
    run_id = queue(store, gone, Status.RUNNING)
    checkpoint(run_id)
    jobs.resume(run_id, store=store, launcher=Recorder())
    assert store.get(run_id).status is Status.QUEUED


def test_a_run_that_failed_before_it_trained_begins_anew(store):
    run_id = failed(store, trained=False)
    store.log_metrics(run_id, {"system/cpu_utilization_percentage": 3.0})
    jobs.resume(run_id, store=store, launcher=Recorder())
    assert store.get(run_id).status is Status.QUEUED


@pytest.mark.parametrize("left", ["", "checkpoint.npz.part"])
def test_a_run_without_a_checkpoint_is_to_be_repeated(store, left):
    run_id = failed(store)
    if left:
        checkpoint(run_id, left)
    with pytest.raises(TrainingError, match=r"before its first checkpoint.*Repeat"):
        jobs.resume(run_id, store=store, launcher=Recorder())
    store.set_tags(run_id, {TAG_WORKER: "elsewhere 1 2.0"})
    assert "it trained on elsewhere" in jobs.why_not_resumed(store.get(run_id))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.RUNNING, "is running"),
        (Status.FINISHED, "has its model. Repeat"),
        (Status.STOPPED, "has its model. Repeat"),
        (Status.CANCELLED, "was cancelled.*Repeat"),
    ],
)
def test_a_run_that_did_not_fail_is_not_resumed(store, status, words):
    run_id, launcher = queue(store, ME, status), Recorder()
    checkpoint(run_id)
    with pytest.raises(TrainingError, match=words):
        jobs.resume(run_id, store=store, launcher=launcher)
    assert launcher.started == []
    assert store.get(run_id).status is status


def test_a_run_whose_films_are_gone_is_not_resumed(store, phantoms, tmp_path):
    folder = tmp_path / "films"
    shutil.copytree(phantoms, folder)
    config = CONFIG.with_values({"data.root": str(folder)})
    run_id = jobs.start(config, store=store, launcher=Recorder())
    store.set_status(run_id, Status.FAILED, "It was killed.")
    checkpoint(run_id)
    shutil.rmtree(folder)
    with pytest.raises(TrainingError, match="no such folder"):
        jobs.resume(run_id, store=store, launcher=Recorder())
    assert store.get(run_id).reason == "It was killed."


def test_a_run_that_cannot_be_resumed_now_can_be_resumed_later(store):
    run_id = failed(store)
    checkpoint(run_id)
    with pytest.raises(TrainingError, match="no processes left"):
        launcher = Recorder(fault="There are no processes left.")
        jobs.resume(run_id, store=store, launcher=launcher)
    assert store.get(run_id).reason == "There are no processes left."
    assert jobs.why_not_resumed(store.get(run_id)) == ""


def test_a_repeat_is_a_new_run_with_changes(store):
    run_id, launcher = failed(store), Recorder()
    repeated = jobs.repeat(run_id, {"optimise.epochs": 3}, store=store, launcher=launcher)
    assert launcher.started == [repeated] != [run_id]
    assert store.config(repeated) == CONFIG.with_values({"optimise.epochs": 3})
    assert store.get(repeated).tags[TAG_RECIPE] == "plain_cnn"
    assert store.get(run_id).status is Status.FAILED
    with pytest.raises(ConfigError, match=r"no setting 'optimise\.epoch'"):
        jobs.repeat(run_id, {"optimise.epoch": 3}, store=store, launcher=launcher)
    assert len(store.list()) == 2


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING])
def test_a_run_at_work_is_not_deleted(store, status):
    run_id = queue(store, ME, status)
    with pytest.raises(TrainingError, match=f"is {status}. Cancel it"):
        jobs.delete(run_id, store)
    assert store.get(run_id).status is status


def test_a_deleted_run_leaves_neither_checkpoint_nor_log(store, gone):
    run_id = queue(store, gone, Status.RUNNING)
    kept = checkpoint(run_id)
    jobs.delete(run_id, store)
    assert store.list() == []
    assert not kept.parent.exists()
    with pytest.raises(TrainingError, match="was deleted"):
        jobs.delete(run_id, store)


# -- the worker, up to the training ---------------------------------------------------------------


@pytest.fixture
def in_this_process(monkeypatch):
    """Let a worker run here without taking over output and signals."""
    monkeypatch.setattr(worker, "_write_all_output_to", lambda log: log.touch())
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)


def test_runs_take_turns_in_the_order_they_were_asked_for(store, gone):
    queue(store, gone)  # does not hold up those behind it
    first, second = queue(store, ME), queue(store, ME)
    assert worker._before_in_queue(first, store) == 0
    assert worker._before_in_queue(second, store) == 1
    store.set_status(first, Status.RUNNING)
    assert worker._before_in_queue(second, store) == 0


@pytest.mark.parametrize("ask", [jobs.cancel, jobs.stop_early])
def test_a_run_that_nobody_wants_leaves_the_queue(store, in_this_process, ask):
    run_id = queue(store, ME)
    ask(run_id, store)
    assert worker.main(run_id) == 0
    record = store.get(run_id)
    assert record.status is Status.CANCELLED
    assert record.reason == ""


def test_a_resumed_run_stopped_in_the_queue_keeps_what_it_learned(
    store, in_this_process, monkeypatch
):
    monkeypatch.setattr(worker, "_train", lambda *_: Status.STOPPED)
    run_id = queue(store, ME)
    kept = checkpoint(run_id)
    jobs.stop_early(run_id, store)
    assert worker.main(run_id) == 0
    assert store.get(run_id).status is Status.STOPPED
    assert not kept.exists()


@pytest.mark.parametrize("call", ["log_batch", "get_run", "search_runs"])
def test_a_waiting_run_survives_a_store_that_is_away_for_a_moment(store, monkeypatch, call):
    run_id = queue(store, ME)
    store._local = None  # as where it is a server
    works, failed = getattr(store._client, call), []

    def fails_once(*args: object, **kwargs: object) -> object:
        if not failed:
            failed.append(call)
            raise MlflowException("database is locked")
        return works(*args, **kwargs)

    monkeypatch.setattr("cxr_core.training.writer._PAUSES", (0.0,))
    monkeypatch.setattr(store._client, call, fails_once)
    with worker._turn(run_id, store):
        assert failed == [call]


def test_a_run_never_has_two_workers(store, in_this_process, monkeypatch):
    run_id = queue(store, ME)
    monkeypatch.setattr(worker, "_train", lambda *_: pytest.fail("trained twice"))
    with FileLock(workspace.run_folder(run_id) / "worker.lock"):
        assert worker.main(run_id) == 1
    assert store.get(run_id).status is Status.QUEUED


def test_a_run_that_has_ended_is_not_run_again(store, in_this_process, monkeypatch):
    monkeypatch.setattr(worker, "_train", lambda *_: pytest.fail("trained again"))
    run_id = queue(store, ME, Status.FINISHED)
    assert worker.main(run_id) == 1
    assert store.get(run_id).status is Status.FINISHED


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DatasetError("The folder has no films."), "^The folder has no films.$"),
        (MemoryError(), "Memory ran out"),
        (type("ResourceExhaustedError", (Exception,), {})("OOM"), "Memory ran out"),
        (RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"), "Memory ran out"),
        (OSError(errno.ENOSPC, "No space left", "/big/file"), "disk is full.*/big/file"),
        (RuntimeError("write failed\n[Errno 28] No space left on device"), "disk is full"),
        (OSError(errno.EIO, "Input/output error", "/films/a.png"), "file /films/a.png cannot"),
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


def test_a_run_that_failed_keeps_its_checkpoint(store, in_this_process, monkeypatch):
    monkeypatch.setattr(worker, "_train", lambda *_: 1 / 0)
    run_id = queue(store, ME)
    kept = checkpoint(run_id)
    assert worker.main(run_id) == 1
    assert kept.is_dir()
    assert jobs.why_not_resumed(store.get(run_id)) == ""


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
    assert f"cxr_core {store.get(run_id).tags[TAG_CODE]}\n" in text
    assert store.path(run_id, "config.yaml").is_file()


# -- workers in processes of their own ------------------------------------------------------------

UNDERSTUDY = """
import sys, time
from cxr_core import workspace
from cxr_core.training import worker
from cxr_core.training.tracking import Status

def train(run_id, store):
    with (workspace.home() / "trained").open("a") as file:
        file.write(run_id + "\\n")
    folder = workspace.run_folder(run_id) / "checkpoint"
    folder.mkdir(exist_ok=True)
    (folder / "epoch").touch()
    store.log_metrics(run_id, {"val_loss": 0.5}, 1)
    while not (workspace.home() / "go").exists():
        time.sleep(0.02)
    return Status.FINISHED

worker._train = train
worker._QUEUE_POLL = 0.1
sys.exit(worker.main(sys.argv[1]))
"""


class Understudies(jobs.LocalLauncher):
    """Starts workers that do all but train: they wait for a file called "go"."""

    def _command(self, run_id: str) -> list[str]:
        return [sys.executable, "-c", UNDERSTUDY, run_id]


def test_runs_asked_for_at_once_take_turns_as_they_were_moved_and_a_killed_one_goes_on(
    store, workspace_folder, until
):
    launcher = Understudies(store)
    ids = [jobs.start(CONFIG, store=store, launcher=launcher) for _ in range(3)]
    first, second, third = ids

    def stands(run_id: str, status: Status) -> None:
        until(lambda: jobs.bury_if_dead(store.get(run_id), store).status is status, status)

    stands(first, Status.RUNNING)
    until(lambda: len(store.curves(first, ["val_loss"])) == 1, "the first epoch")
    assert [store.get(run_id).status for run_id in (second, third)] == [Status.QUEUED] * 2
    jobs.move(third, "first", store)
    pid = int(store.get(first).tags[TAG_WORKER].split()[1])
    os.kill(pid, signal.SIGKILL)
    stands(first, Status.FAILED)
    assert "it was killed (SIGKILL)" in store.get(first).reason
    until(lambda: store.get(first).tags.get(TAG_EXIT) == "SIGKILL", "the note of its end")

    jobs.resume(first, store=store, launcher=launcher)
    stands(third, Status.RUNNING)
    assert [store.get(run_id).status for run_id in (first, second)] == [Status.QUEUED] * 2
    (workspace_folder / "go").touch()
    for run_id in ids:
        stands(run_id, Status.FINISHED)
    trained = (workspace_folder / "trained").read_text().split()
    assert trained == [first, third, second, first]
    record = store.get(first)
    assert (record.reason, record.tags[TAG_RESUMED]) == ("", "1")
    until(lambda: not jobs.has_checkpoint(first), "the disk to be freed")
