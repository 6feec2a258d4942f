"""The Runs page: what a finished run says in each tab, several runs beside each other."""

import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Finished, texts
from streamlit.testing.v1 import AppTest

from cxr_core import workspace
from cxr_core.config import ImageConfig, RunConfig
from cxr_core.data import sources
from cxr_core.diagnosis import bundle, exports
from cxr_core.diagnosis.bundle import BundleInfo, DataInfo, ThresholdInfo
from cxr_core.evaluation import operating, scores
from cxr_core.training.tested import Films, RunResult, load
from cxr_core.training.tracking import RunStore
from cxr_core.ui import (
    compare_view,
    downloads,
    export_view,
    mistakes_view,
    results_view,
    subgroups_view,
)

Open = Callable[..., AppTest]


def films_of(names: list[str], findings: list[int], logits: list[float]) -> Films:
    """Films of two classes with the logits of the second."""
    table = pd.DataFrame(
        {
            "path": [f"{name}.png" for name in names],
            "label": [("NORMAL", "PNEUMONIA")[finding] for finding in findings],
            "patient_id": "",
            "md5": names,
        }
    )
    pairs = scores.expand_logits(np.array(logits)[:, None])
    return Films(table, np.array(findings), pairs, scores.probabilities(pairs))


def result_on(films: Films, classes: tuple[str, ...] = ("NORMAL", "PNEUMONIA")) -> RunResult:
    info = BundleInfo(
        name="tiny",
        classes=classes,
        image=ImageConfig(),
        architecture="plain_cnn",
        cam_layer="conv",
        threshold=ThresholdInfo(value=0.5, method="youden"),
        data=DataInfo(name="drawn", synthetic=True, counts={}),
    )
    return RunResult(info, films, films)


# -- what is computed for the page ----------------------------------------------------------------


def test_galleries_put_the_gravest_mistakes_first():
    films = films_of(list("abcdef"), [0, 0, 0, 1, 1, 1], [-3, 0.5, 4, 3, -1, -2])
    kinds = {
        kind.title: kind.rows.tolist() for kind in mistakes_view.galleries(result_on(films), 0.5)
    }
    assert kinds["Most certain and wrong"] == [2, 5, 4, 1]
    assert kinds["Missed findings"] == [5, 4]
    assert kinds["False alarms"] == [2, 1]
    assert kinds["Least certain"][0] == 1
    assert sorted(kinds["Right"]) == [0, 3]


def test_certainty_is_counted_from_the_threshold_not_from_one_half():
    films = films_of(list("ab"), [1, 0], [np.log(0.85 / 0.15), np.log(0.55 / 0.45)])
    # At 0.9, 0.55 is further below than 0.85 and is the surer "normal".
    kinds = mistakes_view.galleries(result_on(films), 0.9)
    assert kinds[3].rows.tolist() == [0, 1]


def test_runs_are_compared_on_the_films_that_they_share_wherever_those_lie():
    one = result_on(films_of(list("abcd"), [0, 1, 0, 1], [-1, 1, -2, 2]))
    other = films_of(list("dxba"), [1, 0, 1, 0], [5, 0, 6, -7])
    other.table["path"] = [f"moved/{path}" for path in other.table["path"]]
    compared = compare_view.common({}, {"one": one, "other": result_on(other)})
    assert not isinstance(compared, str)
    first, second = (each.test for each in compared.tested.values())
    assert first.table["md5"].tolist() == second.table["md5"].tolist() == ["a", "b", "d"]
    assert second.logits[:, 1].tolist() == [-7, 6, 5]
    assert first.labels.tolist() == second.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("findings", [[0, 0, 0, 1], [1, 1, 1, 1]])
def test_too_few_films_of_a_kind_leave_one_test_out_and_not_the_page(
    findings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = result_on(films_of(list("abcd"), findings, [-1, 1, -2, 2]))
    said: list[str] = []
    monkeypatch.setattr(compare_view.st, "markdown", said.append)
    compare_view._tests(compare_view.Compared({}, {"one": one, "*other*": one}))
    assert said[0] == r"**\*other\* against one**"
    assert "needs two films with a finding" in said[1]
    assert "McNemar" in said[2]


def test_copies_of_a_film_are_told_apart_when_runs_are_compared():
    one = result_on(films_of(list("aab"), [0, 0, 1], [-1, -2, 3]))
    compared = compare_view.common({}, {"one": one, "other": one})
    assert not isinstance(compared, str)
    assert [len(each.test) for each in compared.tested.values()] == [3, 3]


def test_runs_that_cannot_be_compared_say_why():
    one = result_on(films_of(list("ab"), [0, 1], [-1, 1]))
    apart = result_on(films_of(list("cd"), [0, 1], [-1, 1]))
    assert "no test films in common" in compare_view.common({}, {"one": one, "other": apart})
    three = replace(one, info=result_on(one.test, ("NORMAL", "PNEUMONIA", "TUBERCULOSIS")).info)
    assert "different classes" in compare_view.common({}, {"one": one, "other": three})
    assert "Two runs" in compare_view.common({}, {"one": one})


def test_test_films_are_divided_by_columns_of_the_set(phantoms, finished: Finished):
    catalog = sources.open_catalog(str(phantoms))
    tested = load(finished.run_id, RunStore())
    extra = np.where(np.arange(len(catalog.frame)) % 2, "F", None)
    catalog = replace(catalog, frame=catalog.frame.assign(sex=extra))
    kinds = subgroups_view.divisions(catalog, tested)
    assert {"Image size", "sex"} <= set(kinds)
    assert set(kinds["sex"]) == {"F", ""}
    assert all(len(groups) == len(tested.test) for groups in kinds.values())


def test_films_that_are_gone_leave_the_sizes_of_the_others_as_they_are(
    phantoms, finished: Finished
):
    catalog = sources.open_catalog(str(phantoms))
    tested = load(finished.run_id, RunStore())
    gone = tested.test.table["path"].iloc[0]
    whole = subgroups_view.divisions(catalog, tested)["Image size"]
    catalog = replace(catalog, frame=catalog.frame[catalog.frame["path"] != gone])
    assert subgroups_view.divisions(catalog, tested)["Image size"] == ["", *whole[1:]]
    nothing = replace(catalog, frame=catalog.frame.iloc[:0])
    assert subgroups_view.divisions(nothing, tested).keys() <= {"Kind of file", "Folder"}


def test_probabilities_of_a_balanced_training_come_with_a_caution():
    info = result_on(films_of(list("ab"), [0, 1], [-1, 1])).info
    assert results_view.caution(info) == ""
    config = RunConfig().with_values({"optimise.balance": "weights"}).model_dump()
    assert "rare classes" in results_view.caution(info.model_copy(update={"config": config}))


def test_names_of_classes_are_no_markup():
    found = {"n": 3, "auc": 0.9, "ci95": {}}
    table = results_view.class_table({"per_class": {"![x](http://a/b)": found}})
    assert table["Class"].tolist() == [r"!\[x\](http://a/b)"]


# -- the page -------------------------------------------------------------------------------------


def at_tab(open_page: Open, finished: Finished, tab: str, **state: object) -> AppTest:
    app = open_page("runs", **{f"tabs:{finished.run_id}": tab}, **state)
    assert not app.exception
    return app


@pytest.mark.slow
def test_everything_follows_the_threshold(open_page: Open, finished: Finished):
    app = at_tab(open_page, finished, "Test results")
    assert "all figures below are at it" in texts(app)
    before = {metric.label: metric.value for metric in app.metric}
    slider = next(s for s in app.slider if s.label.startswith("Threshold"))
    app = slider.set_value(100.0).run()
    assert not app.exception
    after = {metric.label: metric.value for metric in app.metric}
    assert after["Sensitivity"] == "0.0 %"
    assert after["Specificity"] == "100.0 %"
    assert before != after
    assert "the bundle stays as it is" in texts(app)
    chosen = next(box for box in app.selectbox if box.label == "Chosen by")
    app = chosen.set_value("As it ships").run()
    assert {metric.label: metric.value for metric in app.metric} == before


@pytest.mark.slow
def test_a_rule_chooses_the_threshold_on_validation(open_page: Open, finished: Finished):
    app = at_tab(open_page, finished, "Test results")
    chosen = next(box for box in app.selectbox if box.label == "Chosen by")
    app = chosen.set_value("Specificity at least").run()
    target = next(field for field in app.number_input if field.label.startswith("At least"))
    app = target.set_value(60.0).run()
    val = load(finished.run_id, RunStore()).val
    rule = operating.Rule("specificity", target=0.6)
    expected = operating.choose_threshold(val.labels, val.probabilities, rule).value
    slider = next(s for s in app.slider if s.label.startswith("Threshold"))
    assert slider.value == pytest.approx(100 * expected, abs=0.05)
    assert "Chosen by a specificity of at least 60 %." in texts(app)


@pytest.mark.slow
def test_a_rule_stays_chosen_when_one_looks_at_another_tab(open_page: Open, finished: Finished):
    app = at_tab(open_page, finished, "Test results")
    slider = next(s for s in app.slider if s.label.startswith("Threshold"))
    app = slider.set_value(90.0).run()
    for tab in ("Files", "Test results"):
        app.session_state[f"tabs:{finished.run_id}"] = tab
        app = app.run()
    assert not app.exception
    assert next(s for s in app.slider if s.label.startswith("Threshold")).value == 90.0
    assert next(box for box in app.selectbox if box.label == "Chosen by").value == "By hand"


@pytest.mark.slow
def test_a_model_is_published_from_its_files_and_a_taken_name_refused(
    open_page: Open, finished: Finished, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setattr(workspace, "published_models", lambda: models)
    app = at_tab(open_page, finished, "Files")
    assert "Licence of these films: " in texts(app)

    def publish(name: str) -> AppTest:
        next(box for box in app.text_input if box.label == "Name").set_value(name)
        return next(b for b in app.button if b.label == "Publish the model").click().run()

    app = publish("lungs_v1")
    assert "lungs_v1" in app.success[0].value
    assert bundle.read(models / "lungs_v1").name == "lungs_v1"
    (models / "taken").mkdir()
    app = publish("taken")
    assert "is there already" in texts(app)
    assert not app.success
    app = publish("no name/at all")
    assert "cannot be a model's name" in texts(app)
    assert sorted(path.name for path in models.iterdir()) == ["lungs_v1", "taken"]


@pytest.mark.slow
def test_a_model_is_exported_from_its_files(open_page: Open, finished: Finished):
    app = at_tab(open_page, finished, "Files")
    app = app.selectbox(key=f"export_format:{finished.run_id}").set_value("litert").run()
    app = next(b for b in app.button if b.label == "Export the model").click().run()
    work = app.session_state[export_view._WORKS][finished.run_id, "litert"]
    assert work.ended(240)
    app = app.run()
    assert "LiteRT" in app.success[0].value
    made = work.result()
    assert made.told["furthest"] <= exports.MOST_APART
    names = zipfile.ZipFile(io.BytesIO(downloads.zipped(made.folder))).namelist()
    assert {"litert/model.tflite", "litert/answer.py", "litert/export.json"} <= set(names)


def test_an_export_that_lacks_its_libraries_says_what_to_install(
    open_page: Open, finished: Finished, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exports, "missing", lambda _: ["onnx", "tf2onnx"])
    app = at_tab(open_page, finished, "Files")
    assert "needs onnx and tf2onnx" in texts(app)
    assert "Export the model" not in {button.label for button in app.button}


@pytest.mark.slow
def test_predictive_values_follow_the_prevalence(open_page: Open, finished: Finished):
    app = at_tab(open_page, finished, "Test results")
    threshold = next(s for s in app.slider if s.label.startswith("Threshold"))
    app = threshold.set_value(0.0).run()  # every film is called a finding
    for share in (50.0, 1.0):
        slider = next(s for s in app.slider if s.label.startswith("Share of people with "))
        app = slider.set_value(share).run()
        value = next(m.value for m in app.metric if m.label == "Pos. predictive value")
        assert float(value.rstrip(" %")) == share


@pytest.mark.slow
def test_the_other_tabs_say_what_a_run_is_worth(open_page: Open, finished: Finished):
    wrong = texts(at_tab(open_page, finished, "Mistakes"))
    assert re.search(r"\d+ test films? of \d+ decided wrong", wrong)
    trust = texts(at_tab(open_page, finished, "Trust"))
    assert "Calibration" in trust
    assert "Lungs masked" in trust
    assert "By subgroup" in trust
    assert "Intended use" in texts(at_tab(open_page, finished, "Card"))
