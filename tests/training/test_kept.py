"""A checkpoint kept in the run store: whole, only the newest, and gone once it is not needed."""

import json
import shutil
from pathlib import Path

import pytest

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.errors import TrainingError
from cxr_core.training import jobs, kept
from cxr_core.training.tracking import TAG_CHECKPOINT, RunStore, Status


@pytest.fixture
def run_id(store: RunStore) -> str:
    return store.create(RunConfig(), name="run")


@pytest.fixture
def keeper(store: RunStore, run_id: str) -> kept.Keeper:
    return kept.Keeper(store, store.get(run_id), workspace.run_folder(run_id) / jobs.LOG_FILE)


def write(run_id: str, content: bytes, name: str = "checkpoint.npz") -> Path:
    """Put a state where a trainer keeps it, as it does: under another name first."""
    file = workspace.checkpoint_folder(run_id) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(content)
    part.replace(file)
    return file


def go_elsewhere(run_id: str) -> Path:
    """Leave nothing of a run in this workspace, as on another machine; return its folder."""
    folder = workspace.checkpoint_folder(run_id)
    shutil.rmtree(folder)
    return folder


def test_the_newest_state_is_fetched_on_another_machine(store, run_id, keeper):
    for content in (b"epoch 1", b"epoch 2", b"epoch 3"):
        write(run_id, content)
        write(run_id, b"said", "teacher-1/opinions.npy")
        keeper.copy_new()
    folder = go_elsewhere(run_id)
    assert not jobs.has_checkpoint(run_id)
    assert jobs.may_go_on(store.get(run_id))
    kept.fetch(store.get(run_id), store)
    assert (folder / "checkpoint.npz").read_bytes() == b"epoch 3"
    assert (folder / "teacher-1" / "opinions.npy").read_bytes() == b"said"


def test_no_more_than_two_versions_are_kept_and_what_is_the_same_is_not_copied(
    store, run_id, keeper, monkeypatch
):
    for epoch in range(5):
        write(run_id, b"epoch %d" % epoch)
        keeper.copy_new()
    files = [file for file in store.path(run_id, kept.FOLDER).rglob("*") if file.is_file()]
    assert sorted(file.read_bytes() for file in files) == [b"epoch 3", b"epoch 4"]
    monkeypatch.setattr(store, "write_file", lambda *_: pytest.fail("copied again"))
    keeper.copy_new()
    write(run_id, b"epoch 4")  # as saved again by a run that was resumed
    keeper.copy_new()


def test_a_machine_lost_in_the_midst_of_a_copy_leaves_the_state_before(
    store, run_id, keeper, monkeypatch
):
    write(run_id, b"epoch 1")
    keeper.copy_new()
    write(run_id, b"epoch 2")
    with monkeypatch.context() as lost:
        lost.setattr(store, "set_tags", lambda *_: 1 / 0)  # the file is there, and nobody says so
        with pytest.raises(ZeroDivisionError):
            keeper.copy_new()
    folder = go_elsewhere(run_id)
    kept.fetch(store.get(run_id), store)
    assert (folder / "checkpoint.npz").read_bytes() == b"epoch 1"


def test_a_state_of_this_machine_is_not_replaced_by_that_in_the_store(store, run_id, keeper):
    write(run_id, b"there")
    keeper.copy_new()
    file = write(run_id, b"here")
    kept.fetch(store.get(run_id), store)
    assert file.read_bytes() == b"here"


def test_a_damaged_state_is_a_sentence(store, run_id, keeper):
    write(run_id, b"epoch 1")
    keeper.copy_new()
    store.path(run_id, "checkpoint/a/checkpoint.npz").write_bytes(b"epoch")
    go_elsewhere(run_id)
    with pytest.raises(TrainingError, match=r"checkpoint/a/checkpoint\.npz.*Start it anew"):
        kept.fetch(store.get(run_id), store)
    assert not jobs.has_checkpoint(run_id)


def test_a_stores_word_does_not_lead_out_of_the_runs_folder(store, run_id):
    store.set_tags(run_id, {TAG_CHECKPOINT: json.dumps({"../../evil": ["a", 1, "0"]})})
    with pytest.raises(TrainingError, match="not its own"):
        kept.fetch(store.get(run_id), store)


def test_a_training_that_fails_keeps_its_last_state_and_one_that_ends_well_none(
    store, run_id, keeper
):
    with pytest.raises(ZeroDivisionError), keeper:
        write(run_id, b"the last")
        raise ZeroDivisionError
    record = store.get(run_id)
    assert jobs.may_go_on(record)
    jobs.drop_checkpoint(record, store)
    assert not jobs.may_go_on(store.get(run_id))
    with pytest.raises(TrainingError, match="no file"):
        store.path(run_id, kept.FOLDER)


def test_a_run_is_resumed_from_what_the_store_has(store, run_id, keeper):
    write(run_id, b"epoch 1")
    keeper.copy_new()
    store.log_metrics(run_id, {"val_loss": 0.5}, step=1)
    store.set_status(run_id, Status.FAILED, "Its node was lost.")
    go_elsewhere(run_id)
    assert jobs.why_not_resumed(store.get(run_id)) == ""
