"""A sweep on the pages: what it is to search, how it stands, and settings taken from it."""

from typing import Any

import pytest
from conftest import Open, texts
from fake_trials import SPACE, Trainer, drive, enter
from streamlit.testing.v1 import AppTest

from cxr_core.config import RunConfig
from cxr_core.training import folds, jobs, sweeps, trials
from cxr_core.training.search import Search
from cxr_core.training.tracking import Kind, RunStore, Status


@pytest.fixture
def swept(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """A sweep of four trials, the third of which failed and the last of which is the best."""

    def course(number: int, config: RunConfig) -> list[float]:
        return [0.6] if number == 3 else [0.5, 0.6, 0.7 + number / 100]

    sweep = enter(store, 4)
    assert drive(sweep, store, Trainer(store, course), monkeypatch) is Status.FINISHED
    return sweep


def opened(run_id: str, open_page: Open) -> AppTest:
    app = open_page("runs")
    app.query_params["run"] = run_id
    return app.run()


def trial_table(app: AppTest) -> Any:
    return next(frame.value for frame in app.dataframe if "Trial" in frame.value)


def key_of(app: AppTest, prefix: str) -> str:
    return next(b.key for b in app.button if b.key and b.key.startswith(prefix))


# -- opened ---------------------------------------------------------------------------------------


def test_a_sweep_that_ended_says_what_it_came_to_and_shows_its_trials(
    swept: str, open_page: Open
) -> None:
    app = opened(swept, open_page)
    assert not app.exception
    said = texts(app)
    assert "Trial 4 beats the default settings: a validation AUROC of 0.7400" in said
    assert "these 45 validation films, so its figure there is optimistic" in said
    assert "On the 90 test films, by which nothing was chosen" in said
    table = trial_table(app)
    assert list(table["What became of it"]) == ["complete", "complete", "failed", "the best"]
    assert list(table["Trial"]) == ["1 (default)", "2", "3", "4"]
    assert "Trial 3 failed: The loss was no longer a number." in said
    assert len(app.get("plotly_chart")) == 3  # importance needs four that are complete
    assert "Known once four trials are complete" in said


def test_trials_are_listed_with_their_sweep_and_not_beside_it(swept: str, open_page: Open) -> None:
    app = open_page("runs")
    assert len(app.dataframe[0].value) == 1
    assert "1 run" in app.title[0].value


def test_the_settings_of_a_trial_fill_the_form(
    swept: str, store: RunStore, open_page: Open
) -> None:
    best = trials.summary(swept, store).trials[3]
    app = opened(swept, open_page)
    app.button(key=f"use:{best.run_id}").click().run()  # the best is selected at first
    assert not app.exception
    app.switch_page("pages/train.py").run()
    assert "Trial 4 of quick, sweep." in texts(app)  # the latest run is shown beside the form
    assert "Filled from trial 4 of quick, sweep." in texts(app)
    rate = next(f for f in app.number_input if f.label == "Learning rate")
    assert rate.value == pytest.approx(best.values["optimise.learning_rate"])


def test_a_trial_says_what_it_belongs_to_and_why_it_has_no_test(
    swept: str, store: RunStore, open_page: Open
) -> None:
    first = trials.summary(swept, store).trials[0]
    app = opened(first.run_id, open_page)
    assert not app.exception
    assert "Trial 1 of quick, sweep." in texts(app)
    assert app.button(key=f"runs:sweep_of:{first.run_id}")


@pytest.mark.parametrize("trials_done", [0, 2])
def test_a_sweep_at_work_is_shown_as_far_as_it_is(
    store: RunStore, open_page: Open, monkeypatch: pytest.MonkeyPatch, trials_done: int
) -> None:
    sweep = enter(store, 6)
    if trials_done:
        trainer = Trainer(store, lambda number, _: [0.5, 0.6, 0.7 + number / 100])
        trainer.before_tick = lambda: (
            jobs.stop_early(sweep, store) if len(trainer.started) == trials_done else None
        )
        drive(sweep, store, trainer, monkeypatch)
    store.set_status(sweep, Status.RUNNING)
    monkeypatch.setattr(jobs, "worker_alive", lambda record: True)
    app = opened(sweep, open_page)
    assert not app.exception
    if trials_done:
        assert len(trial_table(app)) == trials_done
    else:
        assert "No trial has begun yet." in texts(app)


def test_a_sweep_that_failed_says_why_and_may_go_on(
    store: RunStore, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = enter(store, 2)
    with pytest.raises(Exception, match="None of 2 trials"):
        drive(sweep, store, Trainer(store, lambda *_: []), monkeypatch)
    store.set_status(sweep, Status.FAILED, "None of 2 trials gave a figure.")
    monkeypatch.setattr(jobs.LocalLauncher, "start", lambda *_: None)
    app = opened(sweep, open_page)
    assert not app.exception
    assert "None of 2 trials gave a figure." in texts(app)
    app.number_input(key=f"runs:trials:{sweep}").set_value(5).run()
    app.button(key=f"runs:resume:{sweep}").click().run()
    assert not app.exception
    assert trials.search(sweep, store).trials == 5
    assert store.get(sweep).status is Status.QUEUED


def test_a_damaged_summary_is_a_sentence_on_the_page(
    swept: str, store: RunStore, open_page: Open
) -> None:
    store.path(swept, trials.SUMMARY_FILE).write_text("half a")
    app = opened(swept, open_page)
    assert not app.exception
    assert "'sweep.json' of sweep" in texts(app)


# -- asked for ------------------------------------------------------------------------------------


@pytest.fixture
def wishes(monkeypatch: pytest.MonkeyPatch, store: RunStore) -> list[tuple[RunConfig, Search]]:
    """What the page had started, in place of starting it."""
    found: list[tuple[RunConfig, Search]] = []
    made = enter(store, 2)

    def start(config: RunConfig, search: Search, **_: object) -> str:
        found.append((config, search))
        return made

    monkeypatch.setattr(sweeps, "start", start)
    return found


def test_the_form_offers_ranges_about_the_settings_and_starts_what_it_says(
    open_page: Open, wishes: list[tuple[RunConfig, Search]]
) -> None:
    app = open_page("train", recipe="plain_cnn")
    app.multiselect(key="sweep:paths").set_value(
        ["optimise.learning_rate", "optimise.optimizer", "image.size"]
    ).run()
    prefix = "train:plain_cnn:sweep:optimise.learning_rate"
    assert app.number_input(key=f"{prefix}:low").value == pytest.approx(1e-4)
    app.number_input(key=f"{prefix}:high").set_value(5e-3)
    app.number_input(key="sweep:trials").set_value(7)
    app.run()
    assert not app.exception
    app.button(key="start_sweep").click().run()
    ((config, search),) = wishes
    assert config.image.size == 96
    assert search.trials == 7
    by_path = {dimension.path: dimension for dimension in search.space.dimensions}
    assert by_path["optimise.learning_rate"].high == pytest.approx(5e-3)
    assert by_path["optimise.learning_rate"].log
    assert set(by_path["optimise.optimizer"].choices) == {"adam", "adamw", "sgd"}
    assert by_path["image.size"].step == 32


def test_a_faulty_range_is_a_sentence_and_starts_nothing(open_page: Open, store: RunStore) -> None:
    app = open_page("train", recipe="plain_cnn")
    prefix = "train:plain_cnn:sweep:optimise.learning_rate"
    app.number_input(key=f"{prefix}:high").set_value(1e-5).run()
    assert not app.exception
    assert "low must be below high" in texts(app)
    assert not [b for b in app.button if b.key == "start_sweep"]


def test_a_space_is_pasted_as_yaml(open_page: Open, wishes: list[tuple[RunConfig, Search]]) -> None:
    app = open_page("train", recipe="plain_cnn")
    app.toggle(key="sweep:by_yaml").set_value(True).run()
    offered = app.text_area(key="sweep:text").value
    assert "optimise.learning_rate: {low: 0.0001, high: 0.01, log: true}" in offered
    app.text_area(key="sweep:text").set_value("optimise.rate: [1]").run()
    assert "There is no setting 'optimise.rate'" in texts(app)
    app.text_area(key="sweep:text").set_value("augment.flip: [true, false]").run()
    assert "The space has 2 settings in all" in texts(app)
    app.button(key="start_sweep").click().run()
    assert wishes[0][1].space.paths == ("augment.flip",)


def test_a_sweep_is_repeated_with_its_space(swept: str, store: RunStore, open_page: Open) -> None:
    app = opened(swept, open_page)
    app.button(key=f"runs:repeat:{swept}").click().run()
    app.switch_page("pages/train.py").run()
    assert not app.exception
    assert app.toggle(key="sweep:by_yaml").value
    assert app.text_area(key="sweep:text").value == SPACE.to_yaml()
    assert app.number_input(key="sweep:trials").value == 4


def test_the_train_page_starts_a_sweep_that_its_worker_drives(
    open_page: Open, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(jobs.LocalLauncher, "start", lambda _, run_id: asked.append(run_id))
    app = open_page("train", recipe="plain_cnn")
    app.button(key="start_sweep").click().run()
    assert not app.exception
    (sweep,) = store.list()
    assert (sweep.kind, asked) == (Kind.SWEEP, [sweep.run_id])
    assert folds.children(sweep.run_id, store) == []  # the page trains nothing and asks nothing
