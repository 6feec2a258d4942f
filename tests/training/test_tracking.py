"""The run store: what is written by one process is read by another."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from cxr_core.config import RunConfig
from cxr_core.errors import TrainingError
from cxr_core.training.tracking import TAG_PHASE, RunStore, Status
from cxr_core.training.writer import RunCancelled, RunWriter

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


def test_a_deleted_run_is_off_the_list(store, run_id):
    store.delete(run_id)
    assert store.list() == []


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


def test_files_and_folders_are_kept_under_their_names(store, run_id, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    store.write_file(run_id, folder)
    store.write_text(run_id, "environment.txt", "python")
    assert store.path(run_id, "bundle/bundle.json").read_text() == "{}"
    assert store.path(run_id, "environment.txt").read_text() == "python"


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
