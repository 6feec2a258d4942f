"""The parts of the pages that hold no widget: words, filters, progress, the form's making."""

import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from cxr_core import figures
from cxr_core.config import RunConfig, settings
from cxr_core.training.tracking import TAG_RESUMED, RunRecord, Status
from cxr_core.ui import downloads, films, launch, monitor, words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (660, "11 min"), (7500, "2 h 5 min")],
)
def test_durations_have_at_most_two_units(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_what_is_undefined_is_a_dash() -> None:
    assert words.percent(None) == words.figure(None) == words.interval(None) == "–"
    assert words.figure(float("nan")) == "–"


def test_long_lists_are_cut() -> None:
    assert words.listing(["a", "b", "c"]) == "a, b and c"
    assert words.listing(["a", "b", "c"], most=2) == "a, b and 1 more"


def test_a_pattern_is_no_markdown() -> None:
    assert words.plain(r"^[^/]*/(\d+)_") == r"^\[^/\]\*/(\\d+)\_"
    assert words.plain("5,232 films, 74.2 %") == "5,232 films, 74.2 %"


def test_filters_of_the_gallery_combine() -> None:
    frame = pd.DataFrame(
        {
            "path": ["x/one.png", "x/two.png", "y/three.png"],
            "split": ["train", "", "train"],
            "label": ["NORMAL", "NORMAL", "PNEUMONIA"],
            "patient_id": ["P1", "P2", "P3"],
        }
    )
    assert list(films.matching(frame, ["train"], [], "").index) == [0, 2]
    assert list(films.matching(frame, ["none"], [], "").index) == [1]
    assert list(films.matching(frame, ["train"], ["PNEUMONIA"], "").index) == [2]
    assert list(films.matching(frame, [], [], "p2").index) == [1]
    assert list(films.matching(frame, [], [], "(").index) == []  # letters, not a pattern


def test_a_page_of_films_does_not_grow_with_the_set() -> None:
    rows = np.arange(1000)
    assert len(films.page(rows, 1)) == films.PAGE
    assert films.page(rows, 2)[0] == films.PAGE


def test_a_choice_of_films_is_rows_in_order_with_a_name_of_its_own() -> None:
    frame = pd.DataFrame(
        {
            "path": ["a", "b", "c", "d"],
            "split": ["train", "test", "train", "train"],
            "label": ["X", "X", "Y", "X"],
            "patient_id": "",
            "mean": [4.0, 3.0, 2.0, 1.0],
        },
        index=[7, 3, 5, 1],
    )
    everything, name = films.selected("set", "As listed", (), (), "", 0, frame, None)
    assert everything.tolist() == [0, 1, 2, 3]
    dark, other = films.selected("set", "Darkest first", ("train",), ("X",), "", 0, frame, None)
    assert dark.tolist() == [3, 0]
    found, third = films.selected("set", "As listed", (), (), "", 1, frame, ["d", "gone", "b"])
    assert found.tolist() == [3, 1]
    assert len({name, other, third}) == 3


def record(status: Status = Status.RUNNING, **params: str) -> RunRecord:
    return RunRecord(
        run_id="r",
        name="r",
        status=status,
        phase="training",
        reason="",
        created=datetime.now(UTC) - timedelta(minutes=1),
        ended=None,
        params={"optimise.epochs": "10", "steps_per_epoch": "4", "train_films": "64", **params},
        metrics={},
        tags={},
    )


def points(**metrics: list[float]) -> figures.Lines:
    rows = [
        (metric, step, value, 100.0 + step)
        for metric, values in metrics.items()
        for step, value in enumerate(values, start=1)
    ]
    return figures.by_metric(pd.DataFrame(rows, columns=["metric", "step", "value", "time"]))


def test_progress_before_the_first_step_says_nothing() -> None:
    now = monitor.progress(record(), points())
    assert (now.epoch, now.best, now.left, now.used) == (None, None, None, None)


def test_progress_within_the_first_epoch_is_reckoned_from_the_batches() -> None:
    now = monitor.progress(record(), points(batch_loss=[1.0, 0.9]))
    assert now.epoch == 1
    assert now.images_per_second == pytest.approx(16)  # a step a second, 4 steps, 64 films
    assert now.left == pytest.approx(4 * 9.5)


def test_progress_after_some_epochs_names_the_best_one() -> None:
    table = points(
        val_loss=[1.0, 0.8, 0.9],
        val_auroc=[0.7, 0.9, 0.8],
        epoch_seconds=[20.0, 10.0, 12.0],
        batch_loss=[1.0] * 12,
    )
    now = monitor.progress(record(), table)
    assert (now.epoch, now.best, now.best_epoch, now.since_best) == (4, 0.9, 2, 1)
    assert now.left == pytest.approx(7 * 14)


def test_a_run_that_has_ended_has_no_time_left() -> None:
    table = points(val_loss=[1.0, 0.8], batch_loss=[1.0] * 8, epoch_seconds=[5.0, 5.0])
    now = monitor.progress(record(Status.FINISHED), table)
    assert (now.epoch, now.left) == (2, None)


def test_the_time_of_training_leaves_out_what_lies_between_a_crash_and_the_resumption() -> None:
    lines = dict(points(epoch_seconds=[20.0, 20.0], val_loss=[1.0, 0.9]))
    a_day_later = lines["epoch_seconds"].times.max() + 86_400
    lines["batch_loss"] = figures.Line(
        np.array([9, 10]), np.array([1.0, 1.0]), np.array([a_day_later, a_day_later + 5])
    )
    assert monitor.progress(record(Status.FAILED), lines).used == pytest.approx(45)


def test_time_is_estimated_from_the_same_network_at_the_same_size_only() -> None:
    config = RunConfig().with_values({"image.size": 64, "optimise.epochs": 2})
    known = record(**{"model.architecture": "plain_cnn", "image.size": "64"})
    known = RunRecord(**{**known.__dict__, "metrics": {"images_per_second": 10.0}})
    assert launch.estimate(config, 100, [known]) == pytest.approx(20)
    larger = config.with_values({"image.size": 128})
    assert launch.estimate(larger, 100, [known]) is None


def test_an_estimate_holds_what_a_run_takes_besides_its_epochs() -> None:
    config = RunConfig().with_values({"image.size": 64, "optimise.epochs": 2})
    asked = datetime.now(UTC) - timedelta(hours=1)
    known = replace(
        record(Status.FINISHED, **{"model.architecture": "plain_cnn", "image.size": "64"}),
        metrics={"images_per_second": 10.0},
        created=asked,
        ended=asked + timedelta(seconds=100),
    )
    assert launch.estimate(config, 100, [known]) == pytest.approx(20 + 100 - 64)
    before = replace(known, run_id="before", ended=asked + timedelta(seconds=30))
    assert launch.estimate(config, 100, [known, before]) == pytest.approx(20 + 70 - 64)
    early = replace(
        known,
        params={**known.params, "stop.patience": "2"},
        metrics={**known.metrics, "best_epoch": 3.0},
    )
    assert launch.estimate(config, 100, [early]) == pytest.approx(20 + 100 - 32)
    resumed = replace(known, tags={TAG_RESUMED: "1"})
    assert launch.estimate(config, 100, [resumed]) == pytest.approx(20)


def test_a_bundle_is_zipped_under_its_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    with zipfile.ZipFile(BytesIO(downloads.zipped(folder))) as archive:
        assert archive.namelist() == ["bundle/bundle.json"]


def form() -> None:
    import streamlit as st

    from cxr_core.config import RunConfig
    from cxr_core.ui import forms

    base = RunConfig()
    values = forms.run_settings(
        base, "test", choices={"model.architecture": {"plain_cnn": "Plain CNN", "b": "B"}}
    )
    st.session_state["values"] = values
    st.session_state["same"] = base.with_values(values) == base


def test_the_form_has_a_widget_for_every_setting_and_changes_none_by_itself() -> None:
    app = AppTest.from_function(form, default_timeout=300).run()
    assert not app.exception
    assert set(app.session_state["values"]) == {setting.path for setting in settings()}
    assert app.session_state["same"]


def test_every_widget_of_the_form_has_help() -> None:
    app = AppTest.from_function(form, default_timeout=300).run()
    for kind in ("number_input", "selectbox", "text_input", "toggle"):
        for widget in app.get(kind):
            assert widget.help, widget.label


def test_a_choice_is_shown_by_its_title() -> None:
    app = AppTest.from_function(form, default_timeout=300).run()
    network = next(box for box in app.selectbox if box.label == "Architecture")
    assert network.options == ["Plain CNN", "B"]


def renamed() -> None:
    import streamlit as st

    from cxr_core.ui import uploads

    for name in ("film.jpg", "film.png", "film.png"):
        uploads.add(name, b"the same bytes")
    st.session_state["names"] = [upload.name for upload in uploads.held()]


def test_a_file_under_a_new_name_is_taken_and_the_same_file_twice_is_one() -> None:
    # As when the first name had a wrong suffix, and the reader said so.
    app = AppTest.from_function(renamed, default_timeout=300).run()
    assert app.session_state["names"] == ["film.jpg", "film.png"]
