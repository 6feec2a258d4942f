"""Ensembles of runs: which are refused, what they are calibrated and tested on, what they leave."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny
from fake_folds import Recorder

from cxr_core.config import RunConfig
from cxr_core.diagnosis import bundle, predictor
from cxr_core.diagnosis.predictor import Predictor, load
from cxr_core.errors import TrainingError
from cxr_core.evaluation import calibration, metrics, operating
from cxr_core.training import (
    bundle_index,
    checks,
    cross_validation,
    device,
    ensembles,
    jobs,
    worker,
)
from cxr_core.training.tracking import TAG_NOTES, Kind, RunStore, Status

CLASSES = tiny.BINARY
COLUMNS = [f"logit_{label}" for label in CLASSES]
TEMPERATURES = (1.5, 0.7)


def division(films: int, sides: str, patients: int = 1) -> pd.DataFrame:
    """Divide films: film i is on the side that ``sides``, repeated, has at its patient's place."""
    names = {"t": "train", "v": "val", "e": "test"}
    rows = range(films)
    return pd.DataFrame(
        {
            "path": [f"{row:03}.png" for row in rows],
            "label": [CLASSES[row % 2] for row in rows],
            "split": [names[sides[(row // patients) % len(sides)]] for row in rows],
            "patient_id": [f"p{row // patients}" for row in rows],
            "md5": [f"{row:032}" for row in rows],
        }
    )


def predicted(split: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draw what a model says of its validation and test films."""
    table = split.loc[split["split"] != "train", ["path", "label", "split", "patient_id"]]
    noise = np.random.default_rng(seed).normal(0, 1.5, len(table))
    finding = (table["label"] == CLASSES[1]).to_numpy()
    return table.assign(**{COLUMNS[0]: 0.0, COLUMNS[1]: 2.0 * finding - 1 + noise}).reset_index(
        drop=True
    )


# -- which films ----------------------------------------------------------------------------------


def common(*splits: pd.DataFrame) -> ensembles.Common:
    return ensembles.common(
        splits,
        [predicted(split, seed) for seed, split in enumerate(splits)],
        TEMPERATURES[: len(splits)],
        CLASSES,
    )


def test_members_of_one_division_keep_it_and_average_calibrated_logits():
    split = division(60, "ttve", patients=3)
    found = common(split, split)
    assert found.same
    pd.testing.assert_frame_equal(found.split, split)
    tables = [predicted(split, seed) for seed in (0, 1)]
    wanted = tables[0][COLUMNS[1]] / 1.5 / 2 + tables[1][COLUMNS[1]] / 0.7 / 2
    assert list(found.predictions["path"]) == list(tables[0]["path"])
    np.testing.assert_allclose(found.predictions[COLUMNS[1]], wanted, rtol=1e-12)


def test_a_film_or_patient_that_any_member_learned_from_is_no_test_of_the_ensemble():
    one, other = division(120, "tve"), division(120, "tteev")
    one.loc[90:, "patient_id"] = [f"q{row // 2}" for row in range(90, 120)]
    found = common(one, other)
    assert not found.same
    side = found.split.set_index("md5")["split"]
    for table in (one, other):
        learned = set(table.loc[table["split"] == "train", "md5"])
        assert set(side[list(learned)]) == {"train"}
        persons = set(table.loc[table["split"] == "train", "patient_id"])
        rest = found.split[found.split["split"] != "train"]
        assert not persons & set(rest["patient_id"])
        validated = set(table.loc[table["split"] == "val", "md5"])
        assert set(side[list(validated)]) <= {"train", "val"}
    assert set(found.predictions["split"]) == {"val", "test"}


def test_a_film_that_one_member_never_saw_has_no_prediction_of_the_ensemble():
    whole = division(60, "tve")
    part = whole[whole.index != 2].reset_index(drop=True)
    assert whole["split"][2] == "test"
    found = common(whole, part)
    assert "002.png" in set(found.split["path"])
    assert "002.png" not in set(found.predictions["path"])


def test_a_film_is_known_by_its_content_wherever_it_lies():
    split = division(60, "tve")
    moved = split.assign(path="elsewhere/" + split["path"])
    assert len(common(split, moved).predictions) == len(common(split, split).predictions)


# -- runs -----------------------------------------------------------------------------------------


def member(
    store: RunStore, folder, split: pd.DataFrame, seed: int, name: str = "", **changes: object
) -> str:
    """Leave a finished run in the store: an untrained network, and predictions that are drawn."""
    config = RunConfig().with_values({"name": name or f"run {seed}"})
    run_id = store.create(config, name=config.name)
    about = {
        "name": config.name,
        "run_id": run_id,
        "temperature": TEMPERATURES[seed],
        "threshold": {"value": 0.4 + 0.2 * seed, "method": "youden"},
        "config": config.model_dump(),
        **changes,
    }
    place = folder / run_id
    classes = about.pop("classes", CLASSES)
    tiny.write_bundle(place / "bundle", classes, splits=split, **about)
    predicted(split, seed).to_parquet(place / "predictions.parquet", index=False)
    for artefact in place.iterdir():
        store.write_file(run_id, artefact)
    store.set_status(run_id, Status.FINISHED)
    return run_id


def made(store: RunStore, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Ask for an ensemble and be its worker; return its id."""
    monkeypatch.setattr(worker, "_write_all_output_to", lambda log: log.touch())
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    run_id = ensembles.start(ids, name="both", store=store, launcher=Recorder())
    worker.main(run_id)
    return run_id


def test_an_ensemble_is_a_run_with_a_model_and_results_of_its_own(store, tmp_path, monkeypatch):
    split = division(80, "ttve", patients=2)
    ids = [member(store, tmp_path, split, seed) for seed in (0, 1)]
    steps: list[str] = []
    monkeypatch.setattr(device, "choose", lambda hardware: steps.append(hardware.device))
    monkeypatch.setattr(predictor, "load", lambda *of: steps.append("load") or load(*of))
    run_id = made(store, ids, monkeypatch)
    assert steps == ["cpu", "load", "load"]  # it has no turn at the GPU
    record = store.get(run_id)
    assert (record.status, record.reason, record.kind) == (Status.FINISHED, "", Kind.ENSEMBLE)
    folder = bundle_index.resolve(run_id, store)
    info = bundle.read(folder)
    assert [each.run_id for each in info.members] == ids
    assert (info.name, info.architecture, info.data.synthetic) == ("both", "ensemble", True)
    pd.testing.assert_frame_equal(bundle.read_splits(folder), split)

    table = pd.read_parquet(store.path(run_id, "predictions.parquet"))
    val, test = (table[table["split"] == part] for part in ("val", "test"))
    labels = [CLASSES.index(label) for label in val["label"]]
    assert info.temperature == pytest.approx(
        calibration.fit_temperature(val[COLUMNS].to_numpy(), labels)
    )
    threshold = operating.choose_threshold(
        labels, metrics.probabilities(val[COLUMNS], info.temperature)
    )
    assert info.threshold.value == pytest.approx(threshold.value)
    results = json.loads(store.path(run_id, "evaluation.json").read_text())["test"]
    assert results["n"] == len(test) == 20
    assert record.metrics["test_auc"] == pytest.approx(results["auc"])
    (fared,) = info.track_record
    assert sum(each.films for each in fared.bins) == 20
    assert sum(each.found for each in fared.bins) == (test["label"] == CLASSES[1]).sum()
    assert info.gate is info.similar is None  # as no member has one

    squares = np.random.default_rng(3).integers(0, 256, (3, tiny.SIZE, tiny.SIZE), np.uint8)
    logits = [
        Predictor(bundle_index.resolve(each, store)).logits(squares) / temperature
        for each, temperature in zip(ids, TEMPERATURES, strict=True)
    ]
    np.testing.assert_allclose(
        Predictor(folder).logits(squares), np.mean(logits, axis=0), atol=1e-5
    )

    with pytest.raises(TrainingError, match="is an ensemble itself"):
        ensembles.start([run_id, ids[0]], store=store, launcher=Recorder())
    with pytest.raises(TrainingError, match="is an ensemble, which is no training"):
        jobs.repeat(run_id, store=store, launcher=Recorder())
    config = RunConfig().with_values({"model.weights": f"bundle:{run_id}"})
    titles = [problem.title for problem in checks.check(config, store)]
    assert "A training cannot go on from an ensemble" in titles


def test_what_a_members_data_do_not_say_is_no_empty_place_in_the_list():
    split = division(20, "tve")
    infos = [
        tiny.info(data={"name": "drawn", "synthetic": True, "licence": licence, "counts": {}})
        for licence in ("", "CC0", "", "CC BY 4.0", "CC0")
    ]
    found = ensembles._provenance(infos, common(split, split))
    assert (found.licence, found.citation) == ("CC0; CC BY 4.0", "not reported")


def test_without_films_that_no_member_knows_nothing_is_fitted_and_nothing_reported(
    store, tmp_path, monkeypatch
):
    ids = [
        member(store, tmp_path, division(80, sides), seed)
        for seed, sides in enumerate(("ttve", "vett"))
    ]
    run_id = made(store, ids, monkeypatch)
    record = store.get(run_id)
    info = bundle.read(bundle_index.resolve(run_id, store))
    assert info.temperature == 1
    assert info.threshold.value == pytest.approx(0.5)
    assert "mean of the members" in info.threshold.method
    assert (info.metrics, info.track_record) == ({}, ())
    assert pd.read_parquet(store.path(run_id, "predictions.parquet")).empty
    assert "test results are not reported" in record.tags[TAG_NOTES]
    assert "test_auc" not in record.metrics


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"classes": ("NORMAL", "COVID")},
            r"classes is NORMAL, PNEUMONIA for 'run 0' .* NORMAL, COVID for 'other'",
        ),
        (
            {"image": {"size": 48, "fit": "letterbox"}},
            r"image.size is 32 for .* and 48 for 'other'",
        ),
        ({"image": {"size": 32, "fit": "crop"}}, r"image.fit is letterbox for .* and crop for"),
    ],
)
def test_models_that_do_not_fit_together_are_refused_by_field(store, tmp_path, changes, words):
    split = division(20, "tve")
    one = member(store, tmp_path, split, 0)
    other = store.create(RunConfig(), name="other")
    described = {"name": "other", "run_id": other, **changes}
    info = tiny.info(described.pop("classes", CLASSES), **described)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text(info.model_dump_json())
    store.write_file(other, tmp_path / "bundle")
    store.set_status(other, Status.FINISHED)
    before = len(store.list())
    with pytest.raises(TrainingError, match=words):
        ensembles.start([one, other], store=store, launcher=Recorder())
    assert len(store.list()) == before


def test_an_ensemble_needs_two_runs_with_models(store, tmp_path):
    one = member(store, tmp_path, division(20, "tve"), 0)
    with pytest.raises(TrainingError, match="two runs or more, each of them once"):
        ensembles.start([one, one], store=store, launcher=Recorder())
    waiting = store.create(RunConfig(), name="waits")
    with pytest.raises(TrainingError, match="no model to join: it is queued"):
        ensembles.start([one, waiting], store=store, launcher=Recorder())


def test_a_cross_validation_stands_for_its_folds(store, tmp_path):
    parent = cross_validation.start(RunConfig(), 2, store=store, launcher=Recorder())
    with pytest.raises(TrainingError, match="no model to join"):
        ensembles.start([parent], store=store, launcher=Recorder())
    for run in store.list(tags={"cxr.parent": parent}):
        info = tiny.info(run_id=run.run_id, name=run.name)
        (tmp_path / run.run_id / "bundle").mkdir(parents=True)
        (tmp_path / run.run_id / "bundle" / "bundle.json").write_text(info.model_dump_json())
        store.write_file(run.run_id, tmp_path / run.run_id / "bundle")
        store.set_status(run.run_id, Status.FINISHED)
    run_id = ensembles.start([parent], store=store, launcher=Recorder())
    assert len(store.get(run_id).params["members"].split(",")) == 2
    assert store.get(run_id).name == "ensemble of 2"
