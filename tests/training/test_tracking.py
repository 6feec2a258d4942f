"""The run store: what is written by one process is read by another."""

import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.system_metrics import system_metrics_monitor
from mlflow.utils.search_utils import SearchUtils

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.errors import StoreAwayError, TrainingError
from cxr_core.training import jobs, local_runs, tracking
from cxr_core.training.local_runs import LocalRuns
from cxr_core.training.tracking import (
    TAG_EXIT,
    TAG_NOTES,
    TAG_PHASE,
    TAG_RESUMED,
    TAG_WORKER,
    RunStore,
    Status,
    settings_key,
)
from cxr_core.training.writer import RunCancelled, RunTaken, RunWriter

CONFIG = RunConfig().with_values({"optimise.epochs": 3, "data.root": "phantom"})


@pytest.fixture
def run_id(store: RunStore) -> str:
    return store.create(CONFIG, name="a run")


def test_a_new_run_is_queued_and_carries_its_configuration(store, run_id):
    record = RunStore().get(run_id)
    assert record.status is Status.QUEUED
    assert record.name == "a run"
    assert record.ended is None
    assert record.params["optimise.epochs"] == "3"
    assert store.config(run_id) == CONFIG


@pytest.mark.parametrize("status", list(Status))
def test_a_status_is_read_as_it_was_written(store, run_id, status):
    store.set_status(run_id, status, "because")
    record = store.get(run_id)
    assert record.status is status
    assert record.reason == "because"
    assert (record.ended is None) == status.active


def test_an_ended_run_has_a_duration_that_stands_still(store, run_id):
    store.set_status(run_id, Status.RUNNING)
    store.set_status(run_id, Status.FINISHED)
    record = store.get(run_id)
    assert 0 <= record.duration <= (datetime.now(UTC) - record.created).total_seconds()
    assert record.duration == store.get(run_id).duration


def test_runs_are_listed_newest_first_and_by_status(store):
    ids = [store.create(CONFIG, name=str(number)) for number in range(3)]
    store.set_status(ids[1], Status.RUNNING)
    assert [record.run_id for record in store.list()] == ids[::-1]
    assert [record.run_id for record in store.list(Status.QUEUED)] == [ids[2], ids[0]]
    assert store.list(Status.FAILED) == []


def test_runs_are_found_by_their_tags(store):
    ids = [store.create(CONFIG, name="run", tags={"cxr.data": name}) for name in "ab"]
    assert [record.run_id for record in store.list(tags={"cxr.data": "b"})] == [ids[1]]
    assert store.list(Status.RUNNING, {"cxr.data": "b"}) == []


def test_runs_of_the_same_settings_share_a_key_whatever_their_name():
    assert settings_key(CONFIG.with_values({"name": "mine"})) == settings_key(CONFIG)
    assert settings_key(CONFIG.with_values({"seed": 1})) != settings_key(CONFIG)


def test_a_run_is_found_by_the_beginning_of_its_id(store, run_id):
    assert store.find(run_id).run_id == run_id
    assert store.find(run_id[:6]).run_id == run_id
    for spec in (run_id[:3], "nothing"):
        with pytest.raises(TrainingError, match="There is no run"):
            store.find(spec)


def test_a_deleted_run_is_off_the_list_and_off_the_disk(store, run_id):
    other = store.create(CONFIG, name="another run")
    files = [store.path(each, "config.yaml") for each in (run_id, other)]
    store.delete(run_id)
    assert [record.run_id for record in store.list()] == [other]
    with pytest.raises(TrainingError, match="was deleted"):
        store.get(run_id)
    assert [file.exists() for file in files] == [False, True]


@pytest.mark.parametrize(
    "place", ["file:///srv/films/artifacts", "s3://bucket/RUN/artifacts", "mlflow-artifacts:/RUN/a"]
)
def test_deleting_a_run_removes_nothing_but_its_own_local_folder(store, run_id, monkeypatch, place):
    removed: list[object] = []
    monkeypatch.setattr(tracking.shutil, "rmtree", lambda folder, **_: removed.append(folder))
    run = replace(store._get(run_id), files=place.replace("RUN", run_id))
    monkeypatch.setattr(store, "_stored", lambda _: run)
    store.delete(run_id)
    assert removed == []


def test_a_run_queued_again_bears_no_trace_of_its_end(store, run_id):
    store.set_status(run_id, Status.RUNNING)
    store.request(run_id, "stop")
    store.set_tags(run_id, {TAG_WORKER: "host 1 2.0", TAG_EXIT: "SIGKILL"})
    store.set_status(run_id, Status.FAILED, "because")
    before = store.get(run_id)
    store.queue_again(run_id)
    record = store.get(run_id)
    assert (record.status, record.reason, record.request) == (Status.QUEUED, "", None)
    assert record.ended is None
    assert record.tags[TAG_WORKER] == record.tags[TAG_EXIT] == ""
    assert record.tags[TAG_RESUMED] == "1"
    assert record.order > before.order
    assert record.params == before.params


def test_a_request_to_stop_does_not_take_back_one_to_cancel(store, run_id):
    store.request(run_id, "cancel")
    store.request(run_id, "stop")
    assert store.get(run_id).request == "cancel"


def test_a_fact_that_changed_while_a_run_was_away_is_a_sentence(store, run_id):
    store.log_params(run_id, {"films": 100, "classes": "A,B"})
    store.log_params(run_id, {"films": 100, "classes": "A,B"})  # as after a resume
    with pytest.raises(TrainingError, match="began with films = 100, and now it is 99"):
        store.log_params(run_id, {"films": 99, "classes": "A,B"})


def test_curves_come_back_in_order_and_unknown_metrics_are_left_out(store, run_id):
    store.log_metrics(run_id, {"val_loss": 0.5, "val_auroc": 0.8}, step=1)
    store.log_metrics(run_id, {"val_loss": 0.4, "val_auroc": 0.9}, step=2)
    table = store.curves(run_id, ["val_loss", "nothing"])
    assert list(table["metric"]) == ["val_loss", "val_loss"]
    assert list(table["step"]) == [1, 2]
    assert list(table["value"]) == [0.5, 0.4]
    assert store.get(run_id).metrics["val_auroc"] == 0.9


def test_more_points_than_one_call_may_carry(store, run_id):
    store.log_points(run_id, [("batch_loss", step, 1 / (step + 1), 0.0) for step in range(2500)])
    assert len(store.curves(run_id, ["batch_loss"])) == 2500


def test_what_was_trained_again_after_a_resume_takes_the_place_of_what_was_before(store, run_id):
    first = [("batch_loss", step, 1.0, 100 + step) for step in (1, 3, 5, 8, 10)]
    again = [("batch_loss", step, 2.0, 200 + step) for step in (5, 6, 9)]  # from step 4 on
    store.log_points(run_id, [*first, ("val_loss", 1, 1.0, 110.0)])
    store.log_points(run_id, [*again, ("val_loss", 1, 2.0, 210.0)])
    table = store.curves(run_id, ["batch_loss", "val_loss"])
    batches = table[table["metric"] == "batch_loss"]
    assert list(batches["step"]) == [1, 3, 5, 6, 9]
    assert list(batches["value"]) == [1, 1, 2, 2, 2]
    assert list(table.loc[table["metric"] == "val_loss", "value"]) == [2]


@pytest.mark.parametrize("steps", [[1, 2, 3, 4, 6, 9], [1, 2, 3, 4, 3, 4, 5, 2, 3, 6]])
@pytest.mark.parametrize("metrics", [["batch_loss"], ["batch_loss", "val_loss"], []])
def test_curves_read_bit_by_bit_are_those_read_at_once(store, run_id, metrics, steps):
    watcher = RunStore()
    for time, step in enumerate(steps):
        if step < max(steps[: time + 1]):
            store.queue_again(run_id)
        store.log_points(
            run_id, [(metric, step, step / 10, 1000.0 + time) for metric in ("batch_loss", "other")]
        )
        if time == 5:
            store.log_points(run_id, [("val_loss", 1, 0.5, 1000.5)])
        pd.testing.assert_frame_equal(
            watcher.curves(run_id, metrics), RunStore().curves(run_id, metrics)
        )


def test_only_metrics_with_something_new_are_read(store, run_id, monkeypatch):
    store.log_points(run_id, [(name, 1, 1.0, 100.0) for name in ("val_loss", "val_auroc")])
    metrics = ["val_loss", "val_auroc", "never_recorded"]
    store.curves(run_id, metrics)
    store.log_points(run_id, [("val_loss", 2, 1.0, 200.0)])
    read = []
    monkeypatch.setattr(store, "_read_on", lambda _, metric, known: read.append(metric) or known)
    store.curves(run_id, metrics)
    assert read == ["val_loss"]


def test_points_from_before_the_known_ones_are_not_lost(store, run_id):
    """As where a run is resumed on a machine whose clock is behind."""
    store.log_points(run_id, [("loss", step, 1.0, 100.0 + step) for step in (1, 2, 3)])
    store.curves(run_id, ["loss"])
    store.log_points(run_id, [("loss", 4, 1.0, 50.0)])
    store.log_points(run_id, [("loss", 5, 1.0, 104.0)])
    pd.testing.assert_frame_equal(
        store.curves(run_id, ["loss"]), RunStore().curves(run_id, ["loss"])
    )


def test_a_server_that_counts_its_pages_differently_is_read_from_the_start(
    store, run_id, monkeypatch
):
    store._local = None  # as where it is a server
    store.log_points(run_id, [("loss", step, 1.0, 100.0 + step) for step in (1, 2)])
    store.curves(run_id, ["loss"])
    store.log_points(run_id, [("loss", 3, 1.0, 103.0)])

    def refuse(count):
        return "no token of this server"

    monkeypatch.setattr(SearchUtils, "create_page_token", refuse)
    assert list(store.curves(run_id, ["loss"])["step"]) == [1, 2, 3]


def test_no_more_runs_are_remembered_than_there_is_room_for(store, monkeypatch):
    monkeypatch.setattr(tracking, "_RUNS_REMEMBERED", 2)
    ids = [store.create(CONFIG, name="run") for _ in range(3)]
    for _ in range(2):
        for run_id in ids:
            store.log_points(run_id, [("loss", len(store.curves(run_id, ["loss"])), 1.0, 1.0)])
    assert [len(store.curves(run_id, ["loss"])) for run_id in ids] == [2, 2, 2]
    assert len(store._histories) == 2


def test_files_and_folders_are_kept_under_their_names(store, run_id, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    store.write_file(run_id, folder)
    store.write_text(run_id, "environment.txt", "python")
    assert store.path(run_id, "bundle/bundle.json").read_text() == "{}"
    assert store.path(run_id, "environment.txt").read_text() == "python"


class _Server(LocalArtifactRepository):
    """Keeps files in a folder of this machine as if it were another's."""

    asked: list[str]

    def __init__(self, uri: str, **_: object) -> None:
        super().__init__(uri.replace("afar:", "file:"))

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        assert dst_path, "fetched to a place that nobody clears"
        self.asked.append(artifact_path)
        return super().download_artifacts(artifact_path, dst_path)


@pytest.fixture
def afar(store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the store keep its files on a server; what is asked of it goes on this list."""
    known = artifact_repository_registry._artifact_repository_registry._registry
    monkeypatch.setitem(known, "afar", _Server)
    monkeypatch.setattr(_Server, "asked", [], raising=False)
    place = (tmp_path / "server").as_uri().replace("file:", "afar:")
    store._experiment = store._client.create_experiment("afar", artifact_location=place)
    return _Server.asked


def heat_map(store: RunStore, run_id: str, tmp_path: Path, epoch: int, content: str) -> None:
    strip = tmp_path / f"{epoch:04d}.jpg"
    strip.write_text(content)
    store.write_file(run_id, strip, "attention")


def test_a_copied_workspace_is_a_workspace_of_its_own(store, run_id, tmp_path, monkeypatch):
    store.write_text(run_id, "note.txt", "before")
    copied = tmp_path / "copied"
    shutil.copytree(workspace.home(), copied)
    monkeypatch.setenv("CXR_HOME", str(copied))
    own = RunStore()
    assert own.path(run_id, "note.txt").is_relative_to(copied)
    later = own.create(RunConfig(), name="later")
    assert own.path(later, "config.yaml").is_relative_to(copied)
    own.delete(run_id)
    assert store.path(run_id, "note.txt").read_text() == "before"


def test_a_store_without_its_files_has_them_where_they_were(store, run_id, tmp_path, monkeypatch):
    store.write_text(run_id, "note.txt", "text")
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(workspace.home() / "runs.db", bare)
    monkeypatch.setenv("CXR_HOME", str(bare))
    assert RunStore().path(run_id, "note.txt").read_text() == "text"


def test_of_a_folder_on_a_server_only_what_is_new_is_fetched(store, afar, tmp_path):
    run_id = store.create(CONFIG, name="far")
    heat_map(store, run_id, tmp_path, 1, "first")
    heat_map(store, run_id, tmp_path, 2, "second")
    folder = store.path(run_id, "attention")
    assert folder.is_relative_to(workspace.run_folder(run_id))
    assert afar == ["attention"]
    heat_map(store, run_id, tmp_path, 3, "third")
    assert store.path(run_id, "attention") == folder
    assert store.path(run_id, "attention/0001.jpg") == folder / "0001.jpg"
    assert afar == ["attention", "0003.jpg"]
    assert [file.read_text() for file in sorted(folder.iterdir())] == ["first", "second", "third"]
    assert [entry.name for entry in workspace.run_folder(run_id).iterdir()] == ["fetched"]


def test_a_file_that_grew_on_a_server_is_fetched_again(store, afar):
    run_id = store.create(CONFIG, name="far")
    for text in ("one line", "one line, and another"):
        store.write_text(run_id, "train.log", text)
        assert store.path(run_id, "train.log").read_text() == text


def test_what_a_resumed_run_wrote_again_at_the_same_length_is_fetched_again(store, afar, tmp_path):
    run_id = store.create(CONFIG, name="far")
    heat_map(store, run_id, tmp_path, 1, "before")
    assert store.path(run_id, "attention/0001.jpg").read_text() == "before"
    store.queue_again(run_id)
    heat_map(store, run_id, tmp_path, 1, "after!")
    assert store.path(run_id, "attention/0001.jpg").read_text() == "after!"


def test_a_fetch_that_breaks_off_leaves_nothing_half_written(store, afar, monkeypatch):
    def breaks_off(self, remote_file_path: str, local_path: str) -> None:
        Path(local_path).write_text("par")
        raise OSError("connection reset")

    run_id = store.create(CONFIG, name="far")
    store.write_text(run_id, "splits.csv", "part,films")
    with monkeypatch.context() as bad:
        bad.setattr(_Server, "_download_file", breaks_off)
        with pytest.raises(TrainingError, match=r"no file 'splits\.csv'"):
            store.path(run_id, "splits.csv")
    assert list(workspace.run_folder(run_id).iterdir()) == []
    assert store.path(run_id, "splits.csv").read_text() == "part,films"


def test_a_deleted_run_leaves_no_copies_of_what_was_fetched(store, afar, tmp_path):
    run_id = store.create(CONFIG, name="far")
    heat_map(store, run_id, tmp_path, 1, "a film")
    copy = store.path(run_id, "attention")
    store.set_status(run_id, Status.FAILED)
    jobs.delete(run_id, store)
    assert not copy.exists()
    with pytest.raises(TrainingError, match="was deleted"):  # nor does a page left open fetch it
        store.path(run_id, "attention")
    assert not copy.exists()


def test_a_server_cannot_have_files_written_elsewhere(store, afar, monkeypatch):
    run_id = store.create(CONFIG, name="far")
    store.write_text(run_id, "splits.csv", "part,films")
    folder, file = FileInfo("a", True, None), FileInfo("a/../../b", False, 1)
    monkeypatch.setattr(
        store._client, "list_artifacts", lambda _, path: [file] if path == "a" else [folder]
    )
    with pytest.raises(TrainingError, match="not its own"):
        store.path(run_id, "a")
    assert afar == []


def test_what_lies_on_this_machine_is_not_copied(store, run_id):
    place = store._get(run_id).files
    assert store.path(run_id, "config.yaml").as_uri() == f"{place}/config.yaml"


@pytest.fixture(params=["tables", "server"])
def either(request: pytest.FixtureRequest, store: RunStore) -> RunStore:
    """The store, read as a file of this machine and as one that MLflow alone can read."""
    if request.param == "server":
        store._local = None
    return store


def test_a_store_that_is_away_is_not_taken_for_a_run_that_is_not_there(either, run_id, monkeypatch):
    def away(*_: object) -> None:
        error = sqlite3.OperationalError if either._local else MlflowException
        raise error("database is locked")

    monkeypatch.setattr(
        *((LocalRuns, "get") if either._local else (either._client, "get_run")), away
    )
    with pytest.raises(StoreAwayError, match=r"does not answer.*database is locked"):
        either.get(run_id)


def test_a_locked_store_is_told_as_one_that_does_not_answer(store, run_id, monkeypatch):
    monkeypatch.setattr(local_runs, "_PATIENCE", 0.0)
    with closing(sqlite3.connect(workspace.home() / "runs.db")) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        for ask in (store.list, lambda: store.get(run_id), lambda: store.curves(run_id, ["loss"])):
            with pytest.raises(StoreAwayError, match="locked"):
                ask()
    assert store.get(run_id).run_id == run_id


def test_a_store_read_from_its_tables_says_what_mlflow_says(store):
    ids = [store.create(CONFIG, name=name, tags={"cxr.data": "films"}) for name in "abc"]
    points = [("loss", 1, 0.5, 101.0), ("loss", 2, float("nan"), 102.0), ("auroc", 1, 0.75, 99.5)]
    store.log_points(ids[0], points)
    store.log_points(ids[0], [("loss", 2, 0.25, 103.0)])
    store.set_status(ids[0], Status.FAILED, "because")
    store.set_status(ids[1], Status.RUNNING)
    store.delete(ids[2])
    tables, server = RunStore(), RunStore()
    server._local = None

    assert [run.name for run in tables.list()] == ["b", "a"]
    for wanted in (None, {"cxr.data": "films"}, {"cxr.data": "other"}):
        for status in (None, Status.FAILED):
            assert tables.list(status, wanted) == server.list(status, wanted)
    for metrics in (["loss", "auroc"], ["nothing"]):
        read = [store.curves(ids[0], metrics) for store in (tables, server)]
        pd.testing.assert_frame_equal(*read)
    for store in (tables, server):
        with pytest.raises(TrainingError, match="was deleted"):
            store.get(ids[2])
        with pytest.raises(TrainingError, match="There is no run"):
            store.get("abc")


def test_a_workspace_without_runs_is_read_without_making_a_store(workspace_folder):
    store = RunStore()
    assert store.list() == []
    with pytest.raises(TrainingError, match="There is no run"):
        store.get("abc")
    assert not (workspace_folder / "runs.db").exists()


def test_a_store_of_another_layout_is_left_to_mlflow(store, run_id, monkeypatch):
    monkeypatch.setattr(local_runs, "LAYOUT", "another")
    other = RunStore()
    assert other._tables() is None
    assert other.get(run_id).name == "a run"


def test_the_layout_that_is_read_is_the_one_that_mlflow_makes(store):
    with closing(sqlite3.connect(workspace.home() / "runs.db")) as tables:
        made = tables.execute("SELECT version_num FROM alembic_version").fetchall()
    assert made == [(local_runs.LAYOUT,)]


def test_looking_at_runs_does_not_load_mlflow(store, run_id):
    store.log_metrics(run_id, {"loss": 0.5})
    code = (
        "import sys; from cxr_core.training.tracking import RunStore; store = RunStore();"
        f"store.get({run_id!r}); store.curves({run_id!r}, ['loss']); store.config({run_id!r});"
        "print(len(store.list()), sorted({'mlflow', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 []"


def test_a_run_or_file_that_is_not_there_is_a_sentence(store, run_id):
    with pytest.raises(TrainingError, match="no run 'abc'"):
        store.get("abc")
    with pytest.raises(TrainingError, match=r"no file 'nothing\.txt'"):
        store.path(run_id, "nothing.txt")


def test_a_store_that_cannot_be_opened_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match="cannot be opened"):
        RunStore(f"sqlite:///{tmp_path / 'file' / 'runs.db'}")


def test_two_may_open_a_new_store_at_once():
    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(lambda _: RunStore(), range(2)))
    run_id = stores[0].create(CONFIG, name="seen by both")
    assert stores[1].get(run_id).name == "seen by both"


# -- the machine's load ---------------------------------------------------------------------------


def test_the_machines_load_is_recorded_and_goes_on_after_a_resume(
    store, run_id, monkeypatch, until
):
    monkeypatch.setattr(tracking, "_SYSTEM_INTERVAL", 0.02)
    store.set_status(run_id, Status.RUNNING)
    name = "system/cpu_utilization_percentage"
    for known in (0, 2):
        with store.watch_system(run_id):
            until(lambda least=known + 2: len(store.curves(run_id, [name])) >= least, "two points")
    table = store.curves(run_id, [name, "system/system_memory_usage_percentage"])
    cpu = table[table["metric"] == name]
    assert list(cpu["step"]) == list(range(len(cpu)))
    assert table["value"].between(0, 100).all()


def test_a_machine_that_cannot_be_watched_ends_no_run(store, run_id, monkeypatch):
    def fail(*_, **__):
        raise OSError("no such sensor")

    monkeypatch.setattr(system_metrics_monitor, "SystemMetricsMonitor", fail)
    with store.watch_system(run_id):
        pass
    with pytest.raises(ZeroDivisionError), store.watch_system(run_id):
        raise ZeroDivisionError  # what ends the run stays what it is


# -- the writer -----------------------------------------------------------------------------------


def test_points_of_a_writer_are_in_the_store_when_it_closes(store, run_id):
    with RunWriter(store, run_id) as run:
        for step in range(1, 4):
            run.points({"batch_loss": 1 / step, "batch_accuracy": 0.5}, step)
    table = store.curves(run_id, ["batch_loss"])
    assert list(table["step"]) == [1, 2, 3]
    assert list(table["value"]) == [1, 1 / 2, pytest.approx(1 / 3)]


def test_points_reach_the_store_though_training_failed(store, run_id):
    with pytest.raises(ZeroDivisionError), RunWriter(store, run_id) as run:
        run.points({"batch_loss": 1.0}, 1)
        raise ZeroDivisionError
    assert len(store.curves(run_id, ["batch_loss"])) == 1


def test_points_survive_a_store_that_is_away_for_a_moment(store, run_id, monkeypatch):
    writer = RunWriter(store, run_id)
    writer.points({"batch_loss": 1.0}, 1)
    with monkeypatch.context() as away:
        away.setattr(store, "log_points", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            writer._flush()
    writer._flush()
    writer._flush()
    assert len(store.curves(run_id, ["batch_loss"])) == 1


def test_a_resumed_run_keeps_what_was_told_of_it_and_repeats_nothing(store, run_id):
    RunWriter(store, run_id).note("Two films were left out.", "The head is new.")
    RunWriter(store, run_id).note("Two films were left out.", "It went on from epoch 3.")
    assert store.get(run_id).tags[TAG_NOTES].splitlines() == [
        "Two films were left out.",
        "The head is new.",
        "It went on from epoch 3.",
    ]


def test_a_writer_sees_requests_and_a_cancelled_run_goes_no_further(
    store, run_id, monkeypatch, until
):
    monkeypatch.setattr("cxr_core.training.writer._INTERVAL", 0.01)
    with RunWriter(store, run_id) as run:
        run.phase("training")
        assert store.get(run_id).tags[TAG_PHASE] == "training"
        store.request(run_id, "cancel")
        until(lambda: run.request == "cancel", "the request")
        for step in (run.obey, lambda: run.phase("testing"), lambda: run.progress(1, 2)):
            with pytest.raises(RunCancelled):
                step()
    assert store.get(run_id).phase == "training"


def test_a_worker_from_which_the_run_was_taken_writes_nothing_more(
    store, run_id, monkeypatch, until
):
    monkeypatch.setattr("cxr_core.training.writer._INTERVAL", 0.01)
    store.set_tags(run_id, {TAG_WORKER: "host 1 1.00"})
    with pytest.raises(RunTaken), RunWriter(store, run_id) as run:
        store.set_tags(run_id, {TAG_WORKER: "host 1 1.02"})  # the same: somebody set the clock
        run.points({"batch_loss": 1.0}, 1)
        until(lambda: len(store.curves(run_id, ["batch_loss"])), "a visit to the store")
        store.queue_again(run_id)  # it was held for dead
        until(lambda: run._taken, "its next visit")
        run.points({"batch_loss": 1.0}, 2)
        run.obey()
    assert list(store.curves(run_id, ["batch_loss"])["step"]) == [1]
