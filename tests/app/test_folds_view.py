"""A cross-validation and an ensemble on the pages."""

from pathlib import Path
from typing import Any

import fake_folds
import pytest
import tiny
from conftest import Open, texts
from fake_folds import Recorder, finish
from streamlit.testing.v1 import AppTest

from cxr_core.config import RunConfig
from cxr_core.training import cross_validation, folds, jobs
from cxr_core.training.tracking import RunStore, Status
from cxr_core.ui import folds_view


def cross_validated(store: RunStore, folder: Path, failed: int = 0) -> str:
    """Leave a cross-validation of three folds in the store; return its id."""
    parent = cross_validation.start(RunConfig(), 3, store=store, launcher=Recorder())
    for number, run in folds.by_number(folds.children(parent, store)).items():
        if number == failed:
            store.set_status(run.run_id, Status.FAILED, "The disk is full.")
        else:
            finish(store, run, folder)
    jobs.runs(store)
    return parent


def opened(parent: str) -> AppTest:
    def page(parent: str) -> None:
        from cxr_core.training import jobs
        from cxr_core.ui import folds_view, loaders

        runs = jobs.runs(loaders.store())
        folds_view.show(next(run for run in runs if run.run_id == parent), runs)

    return AppTest.from_function(page, args=(parent,), default_timeout=60).run()


def test_a_cross_validation_shows_its_folds_and_what_they_say_together(store, tmp_path):
    parent = cross_validated(store, tmp_path)
    app = opened(parent)
    assert not app.exception
    by_fold, together = (table.value for table in app.table)
    assert list(by_fold["Status"]) == ["finished"] * 3
    summary = folds.summary(store.get(parent), store)
    area = summary["metrics"]["auc"]
    row = together.set_index("Metric").loc["AUROC"]
    assert row["Mean ± deviation"] == f"{area['mean']:.3f} ± {area['sd']:.3f}"
    assert row["Pooled"] == f"{summary['pooled']['auc']:.3f}"
    assert "36 films of 18 patients" in texts(app)
    assert "the one model of 3 that never saw its patient." in texts(app)


def test_nothing_is_said_of_patients_that_nobody_knows(store, tmp_path, monkeypatch):
    known = fake_folds.held_out
    monkeypatch.setattr(fake_folds, "held_out", lambda fold: known(fold).assign(patient_id=""))
    told = texts(opened(cross_validated(store, tmp_path)))
    assert "36 films, each predicted by the one model of 3 that never saw it." in told
    assert "patients" not in told.split("**Together:**")[0]


def test_a_cross_validation_with_a_fold_missing_says_so(store, tmp_path):
    app = opened(cross_validated(store, tmp_path, failed=2))
    assert not app.exception
    assert list(app.table[0].value["Status"]) == ["finished", "failed", "finished"]
    assert "1 fold missing" in texts(app)


def test_a_list_of_runs_leaves_folds_to_their_cross_validation(store, tmp_path):
    parent = cross_validated(store, tmp_path)
    alone = store.create(RunConfig(), name="alone")
    runs = jobs.runs(store)
    chosen = [run.run_id for run in folds.children(parent, store)[:2]]
    assert {run.run_id for run in folds_view.top_level(runs)} == {parent, alone}
    assert {run.run_id for run in folds_view.top_level(runs, chosen)} == {parent, alone, *chosen}


def test_several_folds_are_opened_by_a_link_and_stay_in_the_list_while_one_is_chosen(
    store, tmp_path, open_page
):
    parent = cross_validated(store, tmp_path)
    chosen = sorted(run.run_id for run in folds.children(parent, store)[:2])
    app = open_page("runs")
    assert len(app.dataframe[0].value) == 1
    app.query_params["run"] = chosen
    app.run()
    assert not app.exception
    assert sorted(app.session_state["runs_opened"]) == chosen
    assert len(app.dataframe[0].value) == 3
    app.query_params["run"] = app.session_state["runs_opened"] = chosen[:1]  # one is deselected
    app.run()
    assert len(app.dataframe[0].value) == 3


def test_a_mean_is_written_with_its_deviation():
    assert folds_view.spread(0.98749, 0.00413, share=False) == "0.987 ± 0.004"
    assert folds_view.spread(0.912, 0.0131, share=True) == "91.2 ± 1.3 %"
    assert folds_view.spread(0.5, None, share=False) == "0.500"


def test_the_train_page_starts_as_many_folds_as_are_asked_for(
    open_page: Open, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.LocalLauncher, "start", lambda *_: None)
    app = open_page("train")
    app = app.number_input(key="folds_wanted").set_value(3).run()
    app = app.button(key="start_folds").click().run()
    assert not app.exception
    records = store.list()
    (parent,) = [record for record in records if not record.parent]
    assert parent.params["data.folds"] == "3"
    assert {record.fold for record in records if record.parent == parent.run_id} == {1, 2, 3}
    assert "fold 1 of 3" in texts(app)  # it is the one that is watched


def ensemble_of(ids: list[str]) -> AppTest:
    def page(ids: list[str]) -> None:
        from cxr_core.ui import ensemble_view, loaders

        ensemble_view.offer([loaders.store().get(run_id) for run_id in ids])

    return AppTest.from_function(page, args=(ids,), default_timeout=60).run()


def member(store: RunStore, folder: Path, **changes: Any) -> str:
    run_id = store.create(RunConfig(), name="member")
    place = folder / run_id / "bundle"
    place.mkdir(parents=True)
    (place / "bundle.json").write_text(tiny.info(run_id=run_id, **changes).model_dump_json())
    store.write_file(run_id, place)
    store.set_status(run_id, Status.FINISHED)
    return run_id


def test_an_ensemble_is_offered_where_models_go_together(store, tmp_path, monkeypatch):
    ids = [member(store, tmp_path) for _ in range(2)]
    ids.append(member(store, tmp_path, image={"size": 64, "fit": "letterbox"}))
    app = ensemble_of(ids)
    assert app.button(key="make_ensemble").disabled
    assert "image.size is 32" in texts(app)

    monkeypatch.setattr(
        jobs.LocalLauncher,
        "start",
        lambda self, run_id: self._store.set_status(run_id, Status.FAILED, "The disk is full."),
    )
    app = ensemble_of(ids[:2])
    app.text_input(key="ensemble_name").set_value("both")  # reaches the page with the press
    app.button(key="make_ensemble").click().run()
    task = app.session_state["ensemble_in_the_making"]
    assert task.ended(patience=60)
    app.run()
    assert not app.exception
    assert "The disk is full." in texts(app)
    assert [run.name for run in store.list() if run.kind == "ensemble"] == ["both"]
