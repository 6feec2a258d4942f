"""The predictions that labels are checked with: a cross-validation's where it is of these films."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from fake_folds import Recorder

from cxr_core.config import RunConfig
from cxr_core.data import exclusions, splits
from cxr_core.data.catalog import Catalog, scan
from cxr_core.diagnosis import label_review
from cxr_core.training import cross_validation, folds, jobs, label_source
from cxr_core.training.tracking import RunStore, Status


@pytest.fixture
def films(phantoms) -> Catalog:
    return scan(phantoms)


def told(films: pd.DataFrame, wrong: int = 0) -> pd.DataFrame:
    """Predict every film as its label says, but for the first ``wrong``."""
    numbers = films["label"].map({label: k for k, label in enumerate(tiny.THREE)}).to_numpy()
    numbers = np.where(np.arange(len(numbers)) < wrong, (numbers + 1) % 3, numbers)
    return pd.DataFrame(0.05 + 0.85 * np.eye(3)[numbers], columns=list(tiny.THREE)).assign(
        path=films["path"].to_numpy()
    )


def cross_validated(store: RunStore, films: Catalog, folder, wrong: int = 0) -> str:
    """Leave a complete cross-validation of these films in the store, as the trainer would have."""
    used, _ = exclusions.without(films)
    config = RunConfig().with_values({"data.root": str(films.root)})
    parent = cross_validation.start(config, 2, store=store, launcher=Recorder(), catalog=used)
    for run in store.list(tags={"cxr.parent": parent}):
        place = folder / run.run_id
        table = splits.cut(used, store.config(run.run_id).data, 0).table
        held_out = table[table["split"] == "test"]
        logits = np.log(told(held_out, wrong)[list(tiny.THREE)])
        logits.columns = pd.Index([f"logit_{label}" for label in tiny.THREE])
        predictions = pd.concat([held_out.reset_index(drop=True), logits], axis=1)
        (place / "bundle").mkdir(parents=True)
        info = tiny.info(tiny.THREE, run_id=run.run_id)
        (place / "bundle" / "bundle.json").write_text(info.model_dump_json())
        predictions.to_parquet(place / "predictions.parquet", index=False)
        for artefact in place.iterdir():
            store.write_file(run.run_id, artefact)
        store.log_params(run.run_id, {"data_fingerprint": used.fingerprint})
        store.set_status(run.run_id, Status.FINISHED)
    assert jobs.bury_if_dead(store.get(parent), store).status is Status.FINISHED
    assert folds.complete(store.get(parent))
    return parent


def test_a_cross_validation_of_the_same_films_is_taken(store, films, tmp_path):
    assert label_source.best(films, store) is None
    parent = cross_validated(store, films, tmp_path)
    found = label_source.best(films, store)
    assert found is not None
    assert (found.key, found.auroc) == (parent, 1.0)
    assert "the cross-validation 'plain_cnn, 2 folds'" in found.name
    assert sorted(found.predictions["path"]) == sorted(films.frame["path"])
    assert found.predictions[list(tiny.THREE)].sum(axis=1).to_numpy() == pytest.approx(1)
    assert label_source.best(films, None) is None


def test_one_of_other_films_labels_or_patients_is_not(store, films, tmp_path):
    cross_validated(store, films, tmp_path)
    frame = films.frame.copy()
    frame.loc[3, "label"] = "NORMAL" if frame.loc[3, "label"] != "NORMAL" else "PNEUMONIA"
    assert label_source.best(replace(films, frame=frame), store) is None
    together = films.frame.assign(patient_id="somebody")
    assert label_source.best(replace(films, frame=together), store) is None


def test_one_that_hardly_tells_the_classes_apart_is_not(store, films, tmp_path):
    cross_validated(store, films, tmp_path, wrong=20)
    assert label_source.best(films, store) is None


def test_one_that_is_damaged_hides_no_older_one(store, films, tmp_path):
    older = cross_validated(store, films, tmp_path)
    newer = cross_validated(store, films, tmp_path)
    store.path(newer, folds.PREDICTIONS_FILE).write_bytes(b"half a file")
    found = label_source.best(films, store)
    assert found is not None
    assert found.key == older


def test_excluded_films_have_no_prediction_and_are_no_hindrance(store, films, tmp_path):
    exclusions.exclude(films, [films.frame["path"].iloc[0]])
    cross_validated(store, films, tmp_path)
    found = label_source.best(films, store)
    assert found is not None
    assert len(found.predictions) == 59
    exclusions.exclude(films, [films.frame["path"].iloc[1]])
    assert label_source.best(films, store) is None


@pytest.mark.parametrize(("wrong", "taken"), [(0, "probe"), (20, "folds")])
def test_of_two_the_one_that_tells_the_classes_apart_better_is_taken(
    store, films, tmp_path, monkeypatch, wrong, taken
):
    parent = cross_validated(store, films, tmp_path)
    label_review.keep(films, told(films.frame, wrong))
    monkeypatch.setattr(
        label_source, "_of_folds", lambda *_: label_source.Source(films.frame, "", parent, 0.9)
    )
    found = label_source.best(films, store)
    assert found is not None
    assert found.key == (parent if taken == "folds" else "probe")
