"""A cross-validation: its folds, how it stands, and what its folds say together."""

import dataclasses
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from fake_folds import CLASSES, Recorder, finish, held_out
from sklearn.metrics import roc_auc_score

from cxr_core.config import RunConfig
from cxr_core.data import splits
from cxr_core.data.catalog import scan
from cxr_core.errors import BundleError, ConfigError, DatasetError, TrainingError
from cxr_core.training import bundle_index, cross_validation, folds, jobs, worker
from cxr_core.training.tracking import TAG_WORKER, Kind, RunRecord, RunStore, Status

ME = jobs.worker_name(os.getpid())


def start(store: RunStore, number: int = 3, **changes: object) -> str:
    config = RunConfig().with_values(changes)
    return cross_validation.start(
        config, number, recipe="plain_cnn", store=store, launcher=Recorder()
    )


def by_number(store: RunStore, parent: str) -> dict[int, RunRecord]:
    return folds.by_number(folds.children(parent, store))


def read(store: RunStore, parent: str) -> RunRecord:
    return jobs.bury_if_dead(store.get(parent), store)


# -- the folds ------------------------------------------------------------------------------------


def test_every_film_is_held_out_once_and_every_fold_validates_on_other_patients(phantoms):
    films = scan(phantoms)
    config = cross_validation.of_all(RunConfig(), 4)
    held: list[str] = []
    for fold in range(1, 5):
        data = cross_validation.of_fold(config, fold).data
        table = splits.cut(films, data, config.seed).table
        sides = table.groupby("split")["label"].agg(set)
        assert list(sides.index) == ["test", "train", "val"]
        assert all(side == set(films.classes) for side in sides)
        assert splits.on_several_sides(table, "patient_id") == []
        assert sorted(table["path"]) == sorted(films.frame["path"])
        held += list(table.loc[table["split"] == "test", "path"])
    assert sorted(held) == sorted(films.frame["path"])


def test_published_parts_mean_nothing_to_a_fold(phantoms):
    films = scan(phantoms)
    published = films.frame.assign(split=["train", "val", "test"] * 20)
    data = cross_validation.of_fold(RunConfig(), 2).data
    tables = [
        splits.cut(dataclasses.replace(films, frame=frame), data, 0)
        for frame in (films.frame, published)
    ]
    pd.testing.assert_frame_equal(tables[0].table, tables[1].table)
    assert "Fold 2 of 5 was held out as the test part, by patient" in " ".join(tables[0].notes)


def test_a_fold_that_is_not_among_the_folds_is_a_sentence(phantoms):
    config = RunConfig().with_values({"data.folds": 3, "data.fold": 4})
    with pytest.raises(DatasetError, match=r"data.fold is 4, and there are 3 folds"):
        splits.cut(scan(phantoms), config.data, 0)


# -- starting -------------------------------------------------------------------------------------


def test_a_start_queues_a_run_a_fold_and_an_entry_that_sums_them_up(store, phantoms):
    launcher = Recorder()
    config = RunConfig().with_values({"data.root": str(phantoms), "data.fold": 2})
    parent = cross_validation.start(config, 3, recipe="quick", store=store, launcher=launcher)
    runs = by_number(store, parent)
    assert launcher.started == [run.run_id for run in runs.values()]
    assert [run.name for run in runs.values()] == [f"quick, fold {n} of 3" for n in (1, 2, 3)]
    for number, run in runs.items():
        data = store.config(run.run_id).data
        assert (data.fold, data.folds) == (number, 3)
        assert run.tags["mlflow.parentRunId"] == run.parent == parent
    record = read(store, parent)
    assert (record.kind, record.status) == (Kind.FOLDS, Status.QUEUED)
    assert record.name == "quick, 3 folds"
    assert store.config(parent).data.fold == 0
    assert [run.run_id for run in jobs.queue(store)] == launcher.started  # the entry has no turn
    assert {run.run_id for run in jobs.runs(store)} == {parent, *launcher.started}


@pytest.mark.parametrize("number", [1, 11])
def test_a_number_of_folds_that_is_not_allowed_starts_nothing(store, number):
    with pytest.raises(ConfigError, match=r"data.folds.*2 to 10"):
        start(store, number)
    assert store.list() == []


def test_films_of_too_few_patients_start_nothing(store, phantoms, tmp_path):
    folder = tmp_path / "films"
    shutil.copytree(phantoms, folder)
    table = pd.read_csv(folder / "metadata.csv").assign(patient_id=["one", "two"] * 30)
    table.to_csv(folder / "metadata.csv", index=False)
    with pytest.raises(TrainingError, match="cannot be divided"):
        start(store, 3, **{"data.root": str(folder)})
    assert store.list() == []


# -- how it stands --------------------------------------------------------------------------------


def test_it_stands_as_its_folds_do(store, tmp_path):
    parent = start(store)
    first, second, third = by_number(store, parent).values()
    store.set_status(first.run_id, Status.RUNNING)
    store.set_tags(first.run_id, {TAG_WORKER: ME})
    assert read(store, parent).status is Status.RUNNING
    finish(store, first, tmp_path)
    record = read(store, parent)
    assert (record.status, record.phase) == (Status.RUNNING, "1 of 3 folds done")
    finish(store, second, tmp_path)
    finish(store, third, tmp_path)
    assert folds.summary(store.get(parent), store) is None  # nobody has read it since
    (record,) = [run for run in jobs.runs(store) if run.run_id == parent]
    assert (record.status, record.reason, record.has_model) == (Status.FINISHED, "", False)
    assert folds.complete(record)


def test_the_worker_of_the_last_fold_sums_up(store, tmp_path):
    parent = start(store, 2)
    runs = by_number(store, parent)
    for run in runs.values():
        finish(store, run, tmp_path)
    worker._tell_parent(runs[1].run_id, store)
    assert store.get(parent).status is Status.FINISHED


def test_a_fold_that_failed_is_named_and_the_others_are_summed_up(store, tmp_path):
    parent = start(store)
    first, second, third = by_number(store, parent).values()
    finish(store, first, tmp_path)
    store.set_status(second.run_id, Status.FAILED, "The disk is full.")
    finish(store, third, tmp_path, films="others")
    record = read(store, parent)
    assert record.status is Status.FAILED
    assert "Folds 2 and 3 of 3 are missing. Fold 2: The disk is full." in record.reason
    found = folds.summary(record, store)
    assert found["done"] == [1]
    assert [entry["fold"] for entry in found["missing"]] == [2, 3]
    assert "films had changed" in found["missing"][1]["reason"]
    assert found["metrics"]["auc"]["sd"] is None


def test_a_cross_validation_of_which_nothing_is_left_says_so_once(store, monkeypatch):
    parent = start(store, 2)
    jobs.cancel(parent, store)
    assert {run.request for run in by_number(store, parent).values()} == {"cancel"}
    for run in by_number(store, parent).values():
        store.set_status(run.run_id, Status.CANCELLED)
    record = read(store, parent)
    assert record.status is Status.CANCELLED
    assert folds.summary(record, store)["pooled"] is None
    monkeypatch.setattr(store, "set_tags", None)
    assert read(store, parent).status is Status.CANCELLED


def test_one_whose_summary_was_written_and_its_end_was_not_is_closed_by_the_next_reader(
    store, tmp_path, monkeypatch
):
    parent = start(store, 2)
    for run in by_number(store, parent).values():
        finish(store, run, tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(store, "set_status", None)
        with pytest.raises(TypeError):
            read(store, parent)
    assert store.get(parent).status is Status.QUEUED
    assert not folds.complete(store.get(parent))
    assert read(store, parent).status is Status.FINISHED
    jobs.delete(parent, store)


def test_a_reader_whose_folds_are_old_opens_nothing_that_was_closed_meanwhile(store, tmp_path):
    parent = start(store, 2)
    first, second = by_number(store, parent).values()
    store.set_status(first.run_id, Status.RUNNING)
    before, old = store.get(parent), folds.children(parent, store)
    for run in (first, second):
        finish(store, run, tmp_path)
    assert read(store, parent).status is Status.FINISHED
    assert folds.settle(before, old, store).status is Status.FINISHED
    assert store.get(parent).phase == "done"


def test_a_fold_whose_predictions_are_damaged_is_missing_and_trained_again(store, tmp_path):
    parent = start(store, 2)
    first, second = by_number(store, parent).values()
    for run in (first, second):
        finish(store, run, tmp_path)
    store.path(second.run_id, folds.PREDICTIONS_FILE).write_bytes(b"half a file")
    (record,) = [run for run in jobs.runs(store) if run.run_id == parent]
    assert record.status is Status.FAILED
    assert "Fold 2 of 2 is missing: The file 'predictions.parquet'" in record.reason
    assert "is damaged" in record.reason
    launcher = Recorder()
    cross_validation.resume(parent, store=store, launcher=launcher)
    again = by_number(store, parent)[2]
    assert launcher.started == [again.run_id]
    assert again.run_id != second.run_id
    record = read(store, parent)
    assert (record.status, record.phase) == (Status.RUNNING, "1 of 2 folds done")
    finish(store, again, tmp_path)
    assert read(store, parent).status is Status.FINISHED


@pytest.mark.parametrize("name", [folds.SUMMARY_FILE, folds.PREDICTIONS_FILE])
def test_a_damaged_file_of_its_own_is_a_sentence(store, tmp_path, name):
    parent = start(store, 2)
    for run in by_number(store, parent).values():
        finish(store, run, tmp_path)
    record = read(store, parent)
    store.path(parent, name).write_bytes(b"half a file")
    reader = folds.summary if name == folds.SUMMARY_FILE else folds.predictions
    with pytest.raises(TrainingError, match=rf"'{name}' of run {parent} is damaged"):
        reader(record, store)


# -- resuming, repeating, deleting ----------------------------------------------------------------


def test_what_is_missing_is_trained_again_and_what_is_there_is_not(store, tmp_path):
    parent = start(store)
    first, second, third = by_number(store, parent).values()
    finish(store, first, tmp_path)
    store.set_status(second.run_id, Status.FAILED, "It was killed.")
    store.log_metrics(third.run_id, {"val_loss": 0.5}, 1)
    store.set_status(third.run_id, Status.FAILED, "It was killed before its first checkpoint.")
    assert read(store, parent).status is Status.FAILED
    launcher = Recorder()
    cross_validation.resume(parent, store=store, launcher=launcher)
    runs = by_number(store, parent)
    assert launcher.started == [runs[2].run_id, runs[3].run_id]
    assert runs[2].run_id == second.run_id  # under its own id
    assert runs[3].run_id != third.run_id  # anew
    record = read(store, parent)
    assert (record.status, record.reason) == (Status.RUNNING, "")
    with pytest.raises(TrainingError, match="nothing to resume"):
        cross_validation.resume(parent, store=store, launcher=launcher)
    for number in (2, 3):
        finish(store, runs[number], tmp_path)
    assert read(store, parent).status is Status.FINISHED
    with pytest.raises(TrainingError, match="all its folds"):
        cross_validation.resume(parent, store=store, launcher=launcher)


def test_a_fold_of_other_films_is_trained_again_only_on_those_of_the_rest(
    store, phantoms, tmp_path
):
    films = scan(phantoms).fingerprint
    parents = [start(store, 2, **{"data.root": str(phantoms)}) for _ in range(2)]
    for parent, trained_on in zip(parents, ((films, "others"), ("others", films)), strict=True):
        for run, of in zip(by_number(store, parent).values(), trained_on, strict=True):
            finish(store, run, tmp_path, films=of)
        assert "films had changed" in read(store, parent).reason
    launcher = Recorder()
    cross_validation.resume(parents[0], store=store, launcher=launcher)
    assert launcher.started == [by_number(store, parents[0])[2].run_id]
    assert read(store, parents[0]).status is Status.RUNNING
    with pytest.raises(TrainingError, match="have changed since 1 of 2 folds"):
        cross_validation.resume(parents[1], store=store, launcher=launcher)


def test_one_cancelled_while_its_folds_are_queued_gets_no_more_of_them(store):
    class Canceller(Recorder):
        def start(self, run_id: str) -> None:
            super().start(run_id)
            store.request(store.get(run_id).parent, "cancel")  # by who does not see this fold yet

    launcher = Canceller()
    parent = cross_validation.start(RunConfig(), 3, store=store, launcher=launcher)
    (only,) = by_number(store, parent).values()
    assert (launcher.started, only.request) == ([only.run_id], "cancel")
    store.set_status(only.run_id, Status.CANCELLED)
    assert read(store, parent).status is Status.CANCELLED


def test_a_fold_repeated_as_it_was_takes_its_place_and_one_with_changes_does_not(store, tmp_path):
    parent = start(store, 2)
    first, second = by_number(store, parent).values()
    finish(store, first, tmp_path)
    store.set_status(second.run_id, Status.FAILED, "It was killed.")
    other = jobs.repeat(second.run_id, {"seed": 3}, store=store, launcher=Recorder())
    assert store.get(other).parent == ""
    again = jobs.repeat(second.run_id, store=store, launcher=Recorder())
    assert by_number(store, parent)[2].run_id == again
    finish(store, store.get(again), tmp_path)
    assert read(store, parent).status is Status.FINISHED
    alone = jobs.repeat(second.run_id, store=store, launcher=Recorder())
    assert store.get(alone).parent == ""  # it lacks nothing any more


def test_it_is_repeated_as_a_whole_and_never_as_a_training(store):
    parent = start(store, 2)
    launcher = Recorder()
    other = cross_validation.repeat(parent, {"seed": 1}, store=store, launcher=launcher)
    assert len(launcher.started) == 2
    assert store.config(other).seed == 1
    with pytest.raises(TrainingError, match="is a cross-validation, which is no training"):
        jobs.repeat(parent, store=store, launcher=launcher)
    store.set_status(parent, Status.FAILED)
    with pytest.raises(TrainingError, match="nothing to resume"):
        jobs.resume(parent, store=store, launcher=launcher)


def test_a_fold_may_go_once_all_are_summed_up_and_all_go_with_the_whole(store, tmp_path):
    parent = start(store, 2)
    first, second = by_number(store, parent).values()
    with pytest.raises(TrainingError, match="Cancel it before"):
        jobs.delete(parent, store)
    finish(store, first, tmp_path)
    finish(store, second, tmp_path)
    before = folds.summary(read(store, parent), store)
    jobs.delete(first.run_id, store)
    record = read(store, parent)
    assert record.status is Status.FINISHED
    assert folds.summary(record, store) == before
    jobs.delete(parent, store)
    assert store.list() == []


def test_it_has_no_model_and_says_what_has(store, tmp_path):
    parent = start(store, 2)
    runs = by_number(store, parent)
    for run in runs.values():
        finish(store, run, tmp_path)
    read(store, parent)
    with pytest.raises(BundleError, match="Name one of its folds"):
        bundle_index.resolve(parent, store)
    found = {ref.run_id for ref in bundle_index.available(store)} - {""}  # published ones
    assert found == {run.run_id for run in runs.values()}


# -- what the folds say together ------------------------------------------------------------------


def test_the_summary_is_that_of_an_independent_computation(store, tmp_path):
    parent = start(store)
    runs = by_number(store, parent)
    for run in runs.values():
        finish(store, run, tmp_path)
    record = read(store, parent)
    found = folds.summary(record, store)

    areas, right, scores, truths = [], [], [], []
    for fold in (1, 2, 3):
        table = held_out(fold)
        truth = (table["label"] == "PNEUMONIA").to_numpy()
        score = 1 / (1 + np.exp(-table["logit_PNEUMONIA"].to_numpy() / (0.5 + fold)))
        areas.append(roc_auc_score(truth, score))
        right.append((score >= 0.3 + fold / 10) == truth)
        scores.append(score)
        truths.append(truth)
    assert found["metrics"]["auc"]["mean"] == pytest.approx(np.mean(areas))
    assert found["metrics"]["auc"]["sd"] == pytest.approx(np.std(areas, ddof=1))
    assert list(found["metrics"]["auc"]["values"].values()) == pytest.approx(areas)
    accuracy = [each.mean() for each in right]
    assert found["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracy))
    pooled = found["pooled"]
    assert pooled["auc"] == pytest.approx(
        roc_auc_score(np.concatenate(truths), np.concatenate(scores))
    )
    assert pooled["accuracy"] == pytest.approx(np.concatenate(right).mean())
    assert (pooled["n"], pooled["patients"], pooled["threshold"]) == (36, 18, None)
    assert pooled["ci95"]["auc"][0] < pooled["auc"] < pooled["ci95"]["auc"][1]
    assert record.metrics["test_auc"] == pytest.approx(np.mean(areas))
    assert record.metrics["test_auc_sd"] == pytest.approx(np.std(areas, ddof=1))

    table = folds.predictions(record, store)
    assert list(table["path"]) == sorted(path for n in (1, 2, 3) for path in held_out(n)["path"])
    np.testing.assert_allclose(
        folds.probabilities(table, CLASSES)[:, 1], np.concatenate(scores), rtol=1e-12
    )


def test_the_intervals_are_drawn_with_the_seed_of_the_configuration(store, tmp_path):
    parent = start(store, 2, seed=7)
    for run in by_number(store, parent).values():
        finish(store, run, tmp_path)
    record = read(store, parent)
    table = folds.predictions(record, store)
    drawn = {seed: folds.summarise(table, CLASSES, seed=seed)["pooled"] for seed in (0, 7)}
    assert folds.summary(record, store)["pooled"] == drawn[7] != drawn[0]


def test_a_figure_that_some_folds_cannot_give_is_the_mean_of_the_others():
    one_kind = held_out(1)[lambda table: table["label"] == "NORMAL"]
    parts = [folds.Fold(1, one_kind, 1.0, 0.5), folds.Fold(2, held_out(2), 1.0, 0.5)]
    found = folds.summarise(folds.pool(parts, CLASSES), CLASSES)["metrics"]["auc"]
    assert found["values"]["1"] is None
    assert found["mean"] == found["values"]["2"]
    assert found["sd"] is None
