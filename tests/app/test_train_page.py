"""The Train page: the form, what fills it, and a run watched in every state."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_runs
import pytest
from conftest import texts
from streamlit.testing.v1 import AppTest

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.errors import TrainingError
from cxr_core.training import bundle_index, jobs, recipes
from cxr_core.training.tracking import RunStore, Status
from cxr_core.ui import epochs, forms

Open = Callable[..., AppTest]


def button(app: AppTest, label: str) -> Any:
    """The button of that label, or the first that begins so."""
    return next(b for b in app.button if b.label == label or b.label.startswith(f"{label} "))


def number(app: AppTest, label: str) -> Any:
    return next(field for field in app.number_input if field.label == label)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunConfig, str]]:
    """What the page had started, in place of starting it: configuration and recipe."""
    wishes: list[tuple[RunConfig, str]] = []

    def start(config: RunConfig, *, recipe: str, **_: object) -> str:
        wishes.append((config, recipe))
        return fake_runs.make(Status.FINISHED)

    monkeypatch.setattr(jobs, "start", start)
    return wishes


# -- the form ---------------------------------------------------------------------------------


def test_an_untouched_form_on_synthetic_films_alarms_nobody(open_page: Open) -> None:
    app = open_page("train")
    assert not app.warning
    assert "nothing speaks against this run" in texts(app)
    assert "To learn the app with, these will do." in texts(app)


def test_every_recipe_fills_the_form_as_it_is(open_page: Open) -> None:
    app = open_page("train")
    for name in recipes.names():
        app = app.selectbox(key="recipe").set_value(name).run()
        assert not app.exception, name
        assert "As the recipe has it." in texts(app), name
        assert number(app, "Image size (px)").value == recipes.load(name).image.size


def test_what_differs_from_the_recipe_is_counted_and_can_be_undone(
    open_page: Open, started: list[tuple[RunConfig, str]]
) -> None:
    app = open_page("train")
    as_it_was = number(app, "Epochs, at most").value
    app = number(app, "Epochs, at most").set_value(as_it_was + 1).run()
    assert "1 setting changed." in texts(app)
    app = button(app, "Back to the recipe").click().run()
    assert number(app, "Epochs, at most").value == as_it_was
    assert "As the recipe has it." in texts(app)


def test_pasted_yaml_fills_the_form_and_is_what_starts(
    open_page: Open, started: list[tuple[RunConfig, str]], phantoms: Path
) -> None:
    wanted = RunConfig.from_yaml(
        "image: {size: 64}\naugment: {flip: true}\noptimise: {epochs: 3, schedule: constant}\n"
    )
    app = open_page("train")
    app.text_area(key="yaml_text").set_value(wanted.to_yaml().replace("root: phantom", "")).run()
    app = button(app, "Fill the form").click().run()
    assert number(app, "Image size (px)").value == 64
    assert "Filled from text." in texts(app)
    button(app, "Train").click().run()
    assert started == [(wanted.with_values({"data.root": str(phantoms)}), "")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image: {size: 5}", "image.size cannot be 5"),
        ("image: [", "is not valid YAML"),
        ("imago: {}", "There is no setting 'imago'"),
    ],
)
def test_bad_yaml_gets_the_readers_sentence_and_changes_nothing(
    open_page: Open, text: str, sentence: str
) -> None:
    app = open_page("train")
    app.text_area(key="yaml_text").set_value(text).run()
    app = button(app, "Fill the form").click().run()
    assert any(sentence in error.value for error in app.error)
    assert "As the recipe has it." in texts(app)
    assert not app.exception


def test_a_run_can_be_repeated_with_its_films_and_settings(
    open_page: Open, started: list[tuple[RunConfig, str]], phantoms: Path
) -> None:
    run_id = fake_runs.make(
        Status.FINISHED, data__root=str(phantoms), image__size=96, optimise__clip_norm=1.5
    )
    app = open_page("train", data_folder="")
    app = button(app, "Repeat with changes").click().run()
    assert app.session_state["data_folder"] == str(phantoms)
    assert "Filled from run plain_cnn" in texts(app)
    app = number(app, "Epochs, at most").set_value(2).run()
    button(app, "Train plain cnn").click().run()
    expected = RunStore().config(run_id).with_values({"optimise.epochs": 2})
    assert started == [(expected, "plain_cnn")]


def test_a_network_can_go_on_from_the_bundles_of_its_kind(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = [
        SimpleNamespace(spec=f"run-{kind}", label=kind, info=SimpleNamespace(architecture=kind))
        for kind in ("efficientnet_lite0", "plain_cnn")
    ]
    monkeypatch.setattr(bundle_index, "available", lambda store: refs)
    app = open_page("train", **{forms.MORE: True})
    starts = app.selectbox(key="train:quick:model.weights").options
    assert starts == ["Random weights", "ImageNet weights", "Bundle efficientnet_lite0"]
    app = app.selectbox(key="train:quick:model.architecture").set_value("plain_cnn").run()
    starts = app.selectbox(key="train:quick:model.weights").options
    assert starts == ["Random weights", "Bundle plain_cnn"]


def test_a_bundle_that_is_gone_stays_chosen_and_the_check_says_so(open_page: Open) -> None:
    app = open_page("train", **{forms.MORE: True})
    app.text_area(key="yaml_text").set_value(
        "model: {architecture: plain_cnn, weights: 'bundle:gone'}"
    ).run()
    app = button(app, "Fill the form").click().run()
    assert app.selectbox(key="train:quick:model.weights").value == "bundle:gone"
    assert any("no model 'gone'" in error.value for error in app.error)
    assert button(app, "Train").disabled


def test_settings_that_do_nothing_as_things_are_cannot_be_changed(open_page: Open) -> None:
    app = open_page("train", **{forms.MORE: True})
    assert number(app, "First cosine (steps)").disabled
    schedule = app.selectbox(key="train:quick:optimise.schedule")
    app = schedule.set_value("cosine_restarts").run()
    assert not number(app, "First cosine (steps)").disabled


def test_another_network_keeps_weights_only_where_it_has_them(
    open_page: Open, started: list[tuple[RunConfig, str]]
) -> None:
    app = open_page("train")
    app = app.selectbox(key="train:quick:model.architecture").set_value("plain_cnn").run()
    assert not app.exception
    assert "from random weights" in texts(app)
    button(app, "Train").click().run()
    assert started[0][0].model.weights == "none"


def test_settings_out_of_sight_are_those_of_the_form(
    open_page: Open, started: list[tuple[RunConfig, str]]
) -> None:
    app = open_page("train", **{forms.MORE: True})
    app.number_input(key="train:quick:seed").set_value(7).run()
    app.session_state[forms.MORE] = False
    app = app.run()
    assert "seed" not in {box.key.rpartition(":")[2] for box in app.number_input}
    button(app, "Train").click().run()
    assert started[0][0].seed == 7


def test_a_number_typed_just_before_the_press_counts(
    open_page: Open, started: list[tuple[RunConfig, str]]
) -> None:
    app = open_page("train")
    number(app, "Epochs, at most").set_value(3)  # no run of the page between it and the press
    button(app, "Train").click().run()
    assert started[0][0].optimise.epochs == 3


def test_a_run_that_cannot_be_started_says_why(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object, **__: object) -> str:
        raise TrainingError("The worker process cannot be started: no memory.")

    monkeypatch.setattr(jobs, "start", start)
    app = button(open_page("train"), "Train").click().run()
    assert any("cannot be started" in error.value for error in app.error)


# -- the monitor ------------------------------------------------------------------------------


def test_a_run_at_work_is_shown_in_figures_and_curves(open_page: Open) -> None:
    fake_runs.make(Status.RUNNING, epochs=4)
    app = open_page("train")
    told = {metric.label: (metric.value, metric.delta) for metric in app.metric}
    assert told["Epoch"] == ("5 of 8", "2 since the best")
    assert told["Best validation AUROC"] == ("0.780", "at epoch 4")
    assert told["Films a second"][0] == "31"
    assert "left" in told["Training time"][1]
    assert len(app.get("plotly_chart")) == 6
    assert {"Stop early", "Yes, cancel the run"} <= {b.label for b in app.button}
    assert not app.exception


def test_a_run_that_waits_says_when_its_curves_begin(open_page: Open) -> None:
    fake_runs.make(Status.QUEUED)
    app = open_page("train")
    assert "The curves begin with the first step." in texts(app)
    assert not app.exception


def test_a_run_that_has_begun_nothing_yet_shows_where_its_curves_will_be(open_page: Open) -> None:
    fake_runs.make(Status.RUNNING, epochs=0)
    app = open_page("train")
    assert len(app.get("plotly_chart")) == 6
    assert {m.label: m.value for m in app.metric}["Epoch"] == "– of 8"
    assert not app.exception


def test_curves_held_still_stay_the_same_charts_while_the_run_goes_on(open_page: Open) -> None:
    run_id = fake_runs.make(Status.RUNNING, epochs=1)
    app = open_page("train")

    def charts_after(epoch: int) -> list[str]:
        fake_runs.add_epoch(run_id, epoch)
        return [chart.proto.spec for chart in app.run().get("plotly_chart")]

    first = charts_after(2)
    assert charts_after(3) != first
    app.toggle(key="monitor:hold").set_value(True).run()
    held = [chart.proto.spec for chart in app.get("plotly_chart")]
    assert charts_after(4) == held
    assert next(m for m in app.metric if m.label == "Epoch").value == "5 of 8"  # the run is seen


@pytest.mark.parametrize(
    ("tab", "said", "charts"),
    [
        ("Validation", "18 validation films", 2),
        ("What it looks at", "Grad-CAM on the same validation films", 0),
        ("Machine", "No GPU was seen", 2),
    ],
)
def test_each_tab_of_a_run_shows_its_part(
    open_page: Open, tab: str, said: str, charts: int
) -> None:
    fake_runs.make(Status.RUNNING)
    app = open_page("train", **{"monitor:tabs": tab})
    assert not app.exception
    assert said in texts(app)
    assert len(app.get("plotly_chart")) == charts


@pytest.mark.parametrize("tab", ["Validation", "What it looks at", "Machine"])
def test_a_tab_without_anything_yet_says_when_that_changes(open_page: Open, tab: str) -> None:
    fake_runs.make(Status.RUNNING, epochs=0)
    app = open_page("train", **{"monitor:tabs": tab})
    assert not app.exception
    assert any(word in texts(app) for word in ("after each epoch", "with the first"))


def test_the_slider_follows_the_latest_epoch_until_it_is_moved(open_page: Open) -> None:
    run_id = fake_runs.make(Status.RUNNING, epochs=2)
    app = open_page("train", **{"monitor:tabs": "Validation"})

    def look_again(epoch: int) -> AppTest:
        fake_runs.add_epoch(run_id, epoch)
        epochs.listed.clear()
        return app.run()

    assert app.select_slider[0].value == 2
    assert look_again(3).select_slider[0].value == 3
    app.select_slider[0].set_value(1).run()
    assert look_again(4).select_slider[0].value == 1
    app.select_slider[0].set_value(4).run()
    assert look_again(5).select_slider[0].value == 5


def test_other_runs_are_drawn_beside_by_their_names(open_page: Open) -> None:
    other = fake_runs.make(Status.FINISHED, name="<earlier>")
    fake_runs.make(Status.QUEUED, name="not begun")
    fake_runs.make(Status.RUNNING)
    app = open_page("train")
    beside = next(m for m in app.multiselect if m.label == "Beside other runs")
    assert len(beside.options) == 1
    app = beside.set_value([other]).run()
    assert not app.exception
    legend = next(h.proto.body for h in app.get("html") if "validation dashed" in h.proto.body)
    assert "&lt;earlier&gt;" in legend


def test_a_failed_run_is_resumed_where_it_left_something_to_go_on_from(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed: list[str] = []
    monkeypatch.setattr(jobs, "resume", lambda run_id, **_: resumed.append(run_id))
    run_id = fake_runs.make(Status.FAILED, reason="The worker was killed.")
    app = open_page("train")
    assert "The worker was killed." in app.error[0].value
    assert button(app, "Resume").disabled
    checkpoint = workspace.checkpoint_folder(run_id)
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "state").write_text("")
    app = app.run()
    button(app, "Resume").click().run()
    assert resumed == [run_id]


def test_a_wish_that_cannot_be_granted_gets_its_sentence(
    open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = fake_runs.make(Status.FINISHED)
    app = open_page("train")
    (RunStore().path(run_id, "config.yaml")).unlink()
    app = button(app, "Repeat with changes").click().run()
    assert "has no file 'config.yaml'" in app.error[0].value
    assert not app.run().error


def test_an_ended_run_can_be_deleted(open_page: Open) -> None:
    fake_runs.make(Status.CANCELLED)
    app = open_page("train")
    app = button(app, "Yes, delete the run").click().run()
    assert not RunStore().list()
    assert "No run yet" in texts(app)


def test_waiting_runs_stand_in_the_order_of_their_turns_and_can_be_moved(open_page: Open) -> None:
    fake_runs.make(Status.RUNNING)
    first = fake_runs.make(Status.QUEUED, name="first")
    fake_runs.make(Status.QUEUED, name="second")
    app = open_page("train")

    def waiting() -> list[str]:
        rows = [m.value for m in app.markdown if "asked for" in m.value]
        return [name for row in rows for name in ("first", "second") if f"**{name}**" in row]

    assert waiting() == ["first", "second"]
    assert app.button(key=f"move:up:{first}").disabled
    app = app.button(key=f"move:down:{first}").click().run()
    assert waiting() == ["second", "first"]


def test_a_check_says_how_to_mend_it_and_does_so_at_a_press(open_page: Open) -> None:
    app = open_page("train", **{"train:quick:augment.flip": True})
    assert any("Turn it off" in warning.value for warning in app.warning)
    next(b for b in app.button if (b.key or "").endswith(":Films are mirrored")).click().run()
    assert not app.exception
    assert app.session_state["train:quick:augment.flip"] is False
    assert not any("wrong side" in warning.value for warning in app.warning)
