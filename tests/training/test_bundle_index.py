"""Finding the models there are."""

import shutil
from pathlib import Path

import pytest
import tiny

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.diagnosis import bundle
from cxr_core.diagnosis.bundle import DataInfo, Estimate, RecipeSelection, Variant
from cxr_core.errors import BundleError
from cxr_core.training import bundle_index, recipes
from cxr_core.training.tracking import TAG_FOLD, TAG_RECIPE, RunStore, Status


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setattr(workspace, "published_models", lambda: folder)
    return folder


def finished_run(
    store: RunStore, made: Path, status: Status = Status.FINISHED, fold: str = ""
) -> str:
    run_id = store.create(RunConfig(), name="run", tags={TAG_FOLD: fold} if fold else {})
    store.write_file(run_id, made, "bundle")
    store.set_status(run_id, status)
    return run_id


def change(folder: Path, **changes: object) -> None:
    """Change what a bundle says of itself."""
    info = bundle.read(folder).model_copy(update=changes)
    (folder / "bundle.json").write_text(info.model_dump_json(), encoding="utf-8")


def test_where_nothing_was_trained_there_is_nothing(store):
    assert bundle_index.available(store) == []


def test_published_models_and_those_of_ended_runs_are_found_newest_first(
    store, made, models, tmp_path
):
    old = {"created": "2020-01-01T00:00:00+00:00"}
    tiny.write_bundle(models / "pneumonia", name="Pneumonia", **old)
    finished = finished_run(store, made)
    stopped = finished_run(store, made, Status.STOPPED)
    finished_run(store, made, Status.FAILED)
    found = bundle_index.available(store)
    assert {ref.run_id for ref in found[:2]} == {finished, stopped}
    assert (found[2].spec, found[2].label, found[2].run_id) == ("pneumonia", "Pneumonia", "")
    for ref in found:
        assert bundle_index.resolve(ref.spec, store).joinpath("model.keras").is_file()


def test_models_of_synthetic_films_alone_come_last(store, models):
    films = {"counts": {}, "name": "films"}
    tiny.write_bundle(models / "drawn", data=DataInfo(synthetic=True, **films))
    real = {"created": "2020-01-01T00:00:00+00:00", "data": DataInfo(synthetic=False, **films)}
    tiny.write_bundle(models / "real", **real)
    assert [ref.spec for ref in bundle_index.available(store)] == ["real", "drawn"]


def test_models_of_folds_come_after_whole_ones(store, made, models):
    older = finished_run(store, made)
    change(store.path(older, "bundle"), created="2020-01-01T00:00:00+00:00")
    fold = finished_run(store, made, fold="1")
    assert [ref.run_id for ref in bundle_index.available(store)] == [older, fold]


def test_a_damaged_bundle_is_left_out(store, made, models):
    shutil.copytree(made, models / "good")
    shutil.copytree(made, models / "damaged")
    (models / "damaged" / "bundle.json").write_text("{")
    assert [ref.spec for ref in bundle_index.available(store)] == ["good"]


def test_a_bundle_is_found_by_folder_name_run_id_and_its_beginning(store, made, models):
    shutil.copytree(made, models / "published")
    run_id = finished_run(store, made)
    assert bundle_index.resolve(str(made), store) == made
    assert bundle_index.resolve("published", store) == models / "published"
    of_run = bundle_index.resolve(run_id, store)
    assert bundle_index.resolve(run_id[:8], store) == of_run
    assert of_run.joinpath("bundle.json").read_text() == made.joinpath("bundle.json").read_text()


def test_what_is_not_there_is_told_with_the_places_looked_at(store, models):
    with pytest.raises(BundleError, match=r"no model 'nothing'.*models.*runs\.db"):
        bundle_index.resolve("nothing", store)


def test_a_run_without_a_model_says_how_it_stands(store, made):
    run_id = finished_run(store, made, Status.CANCELLED)
    with pytest.raises(BundleError, match="no model: it is cancelled"):
        bundle_index.resolve(run_id, store)


def test_a_beginning_that_several_runs_share_is_refused(store, made, monkeypatch):
    records = [store.get(finished_run(store, made)) for _ in range(2)]
    twins = [
        type(record)(**{**vars(record), "run_id": f"abcd{number}"})
        for number, record in enumerate(records)
    ]
    monkeypatch.setattr(store, "list", lambda: twins)
    with pytest.raises(BundleError, match="Several runs begin with 'abcd'"):
        bundle_index.resolve("abcd", store)


def test_a_published_model_has_its_name_and_outlives_its_run(store, made, models):
    run_id = finished_run(store, made)
    folder = bundle_index.publish(run_id[:8], "lungs_v1", store)
    store.delete(run_id)
    (ref,) = bundle_index.available(store)
    assert (ref.spec, ref.label, folder) == ("lungs_v1", "lungs_v1", models / "lungs_v1")
    assert "lungs_v1" in (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert bundle.verified_model(folder, ref.info).is_file()
    assert sorted(path.name for path in models.iterdir()) == ["lungs_v1"]


def test_a_published_model_carries_the_comparison_that_came_after_its_training(
    store, made, models, monkeypatch
):
    seen = Estimate(value=0.9, ci95=(0.8, 1.0))
    later = RecipeSelection(
        chosen="steady",
        data="clinic",
        films=90,
        folds=3,
        altered_films=30,
        alterations=("blur",),
        variants=(
            Variant(
                name="steady",
                words="Holds still.",
                auc=seen,
                balanced_accuracy=seen,
                ece=seen,
                altered_auc=0.9,
                altered_balanced_accuracy=0.8,
                altered_worst=0.7,
            ),
        ),
    )
    monkeypatch.setattr(
        recipes, "selection", lambda name, config: later if name == "steady_one" else None
    )
    run_id = store.create(RunConfig(), name="run", tags={TAG_RECIPE: "steady_one"})
    store.write_file(run_id, made, "bundle")
    store.set_status(run_id, Status.FINISHED)
    change(store.path(run_id, "bundle"), run_id=run_id, config=RunConfig().model_dump())
    folder = bundle_index.publish(run_id, "lungs_v1", store)
    assert bundle.read(folder).selection == later
    assert "Holds still." in (folder / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_a_published_model_does_not_tell_where_its_films_lie(store, made, models):
    run_id = finished_run(store, made)
    root = "/home/someone/secret-project/films"
    weights = "bundle:C:\\Users\\someone\\secret-project\\first"
    config = RunConfig().with_values({"data.root": root, "model.weights": weights}).model_dump()
    change(store.path(run_id, "bundle"), config=config)
    folder = bundle_index.publish(run_id, "lungs_v1", store)
    assert bundle.read(folder).config["data"]["root"] == "films"
    assert bundle.read(folder).config["model"]["weights"] == "bundle:first"
    for file in folder.iterdir():
        assert b"secret-project" not in file.read_bytes(), file.name


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a b", "x" * 61, "a/b"])
def test_a_name_that_is_no_folder_name_is_refused(store, made, models, name):
    run_id = finished_run(store, made)
    with pytest.raises(BundleError, match="cannot be a model's name"):
        bundle_index.publish(run_id, name, store)
    assert list(models.iterdir()) == []


def test_a_published_model_is_never_replaced(store, made, models):
    run_id = finished_run(store, made)
    folder = bundle_index.publish(run_id, "taken", store)
    before = (folder / "bundle.json").read_bytes()
    with pytest.raises(BundleError, match="there already"):
        bundle_index.publish(run_id, "taken", store)
    assert (folder / "bundle.json").read_bytes() == before


def test_a_damaged_model_is_not_published(store, made, models):
    run_id = finished_run(store, made)
    (store.path(run_id, "bundle") / "model.keras").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="SHA-256"):
        bundle_index.publish(run_id, "damaged", store)
    assert list(models.iterdir()) == []
