"""Figures carry the right points, in the right colours and line styles, for both themes."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from cxr_core import figures

CLASSES = ("NORMAL", "PNEUMONIA", "TUBERCULOSIS")
CURVE = {
    "x": [-10, 0, 10],
    "unit": "% of full scale",
    "auc": [0.7, 0.9, None],
    "sensitivity": [0.5, 0.8, 1.0],
    "specificity": [0.9, 0.8, 0.1],
}


def traces(figure):
    return {trace.name: trace for trace in figure.data}


def metric_rows(**values):
    """A table as the run store gives it: values of each metric at steps 1, 2, ..."""
    return pd.DataFrame(
        [
            (metric, step, value, 1000.0 + step)
            for metric, row in values.items()
            for step, value in enumerate(row, start=1)
        ],
        columns=["metric", "step", "value", "time"],
    )


def metric_lines(**values):
    """The same as figures take it."""
    return figures.by_metric(metric_rows(**values))


@pytest.fixture
def history():
    return metric_lines(
        train_loss=[0.9, 0.6, 0.4],
        val_loss=[0.8, 0.5, 0.7],
        train_auroc=[0.7, 0.8, 0.9],
        val_auroc=[0.7, 0.75, 0.8],
        val_sensitivity=[0.2, 0.8, 0.9],
        val_specificity=[0.9, 0.7, 0.6],
        images_per_second=[30.0, 31.0, 29.0],
        learning_rate=[1e-3, 1e-3, 5e-4],
        batch_loss=np.linspace(1, 0.4, 30),
    )


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=200)
    scores = rng.random((200, 3)) + np.eye(3)[labels]
    return labels, scores / scores.sum(axis=1, keepdims=True)


def up_to_epoch(last, lines):
    return {metric: line.at(line.steps <= last) for metric, line in lines.items()}


def every_figure(history, predictions):
    labels, table = predictions
    frame = pd.DataFrame({"split": ["train", "val"], "label": ["NORMAL", "PNEUMONIA"]})
    bins = pd.DataFrame({"low": [0], "high": [1], "forecast": [0.5], "observed": [0.4], "n": [9]})
    return {
        "balance": figures.balance(frame),
        "curves": figures.curves(history, 10, "loss"),
        "learning_rate": figures.learning_rate(history),
        "detection": figures.detection(history),
        "pace": figures.pace(history),
        "machine": figures.machine(history, {"batch_loss": "CPU"}, "CPU", "%"),
        "score_bins": figures.score_bins([0, 0.5, 1], {"NORMAL": [3, 1]}, 0.5),
        "confusion": figures.confusion([[3, 1], [0, 4]], CLASSES[:2]),
        "roc": figures.roc(labels, table, CLASSES, 0.5),
        "precision_recall": figures.precision_recall(labels, table, CLASSES, 0.5),
        "rocs": figures.rocs(labels, {"one": table[:, 1]}, {"one": 0.5}),
        "probability_bars": figures.probability_bars({"NORMAL": 0.1, "PNEUMONIA": 0.9}, 0.4),
        "sparkline": figures.sparkline([0.7, 0.8]),
        "score_histogram": figures.score_histogram(labels, table, CLASSES, 0.5),
        "reliability": figures.reliability({"After": bins}),
        "gray_levels": figures.gray_levels(np.zeros((4, 4), np.uint8)),
        "sensitivity_curve": figures.sensitivity_curve(CURVE, "Brightness"),
        "cascade": figures.cascade(["dense", "conv"], [0.5, 0.1]),
    }


def test_every_figure_lets_the_page_show_through_and_keeps_its_place(history, predictions):
    for name, figure in every_figure(history, predictions).items():
        layout = figure.layout
        assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0, 0, 0, 0)", name
        assert layout.uirevision == "kept", name
        assert layout.height, name
        assert layout.font.color is None, name
        assert layout.margin.l <= 12, name
        json.loads(figure.to_json())


def test_a_live_figure_keeps_its_height_as_points_come(history):
    first = up_to_epoch(1, history)
    assert (
        figures.curves(first, 10, "loss").layout.height
        == figures.curves(history, 10, "loss").layout.height
    )


def test_known_classes_keep_their_colours_in_any_company():
    for classes in (CLASSES, CLASSES[::-1], ("NORMAL", "EFFUSION", "PNEUMONIA")):
        assert figures.class_colour("PNEUMONIA", classes) == "#E69F00"
    assert figures.class_colour("NORMAL", CLASSES) == "#56B4E9"
    assert figures.class_colour("TUBERCULOSIS", CLASSES) == "#CC79A7"


def test_other_classes_get_colours_of_their_own():
    classes = ("HEALTHY", "COVID", "EFFUSION", "PNEUMONIA", "ZOSTER")
    colours = [figures.class_colour(label, classes) for label in classes]
    assert colours[0] == "#56B4E9"
    assert len(set(colours)) == len(classes)


def test_balance_counts_films_by_part_and_class():
    rows = {("train", "NORMAL"): 3, ("train", "PNEUMONIA"): 5, ("test", "PNEUMONIA"): 2}
    frame = pd.DataFrame(
        [(split, label) for (split, label), films in rows.items() for _ in range(films)],
        columns=["split", "label"],
    )
    figure = figures.balance(frame.sample(frac=1, random_state=0))
    normal, pneumonia = figure.data
    assert (normal.name, pneumonia.name) == ("NORMAL", "PNEUMONIA")
    assert list(normal.x) == ["Train", "Test"]
    assert list(normal.y) == [3, 0]
    assert list(pneumonia.y) == [5, 2]
    assert list(pneumonia.text) == ["5", "2"]
    assert normal.marker.color == "#56B4E9"
    assert list(normal.customdata) == pytest.approx([3 / 8, 0])


def test_balance_puts_the_normal_class_first_and_names_films_without_a_part():
    frame = pd.DataFrame({"split": ["", ""], "label": ["EFFUSION", "NEGATIVE"]})
    figure = figures.balance(frame)
    assert [trace.name for trace in figure.data] == ["NEGATIVE", "EFFUSION"]
    assert list(figure.data[0].x) == ["No part yet"]


def test_curves_tell_train_from_validation_by_style(history):
    drawn = traces(figures.curves(history, 10, "loss"))
    assert drawn["Train"].line.dash == "solid"
    assert drawn["Train"].mode == "lines"
    assert drawn["Validation"].line.dash == "dash"
    assert "markers" in drawn["Validation"].mode
    assert list(drawn["Train"].x) == [1, 2, 3]
    assert list(drawn["Validation"].y) == [0.8, 0.5, 0.7]


def test_batches_are_dim_points_under_the_lines_at_their_part_of_the_epoch(history):
    figure = figures.curves(history, 10, "loss")
    batches = figure.data[0]
    assert batches.name == "Batch"
    assert batches.mode == "markers"
    assert batches.marker.opacity < 0.5
    np.testing.assert_allclose(batches.x, np.arange(1, 31) / 10)


def test_the_best_epoch_is_that_of_the_monitored_metric_on_every_chart(history):
    for metric, value in (("loss", 0.5), ("auroc", 0.75)):
        ring = traces(figures.curves(history, 10, metric))["Best epoch 2"]
        assert (ring.x[0], ring.y[0]) == (2, value)
    ring = traces(figures.curves(history, 10, "loss", monitor="val_auroc"))["Best epoch 3"]
    assert ring.y[0] == 0.7


def test_the_first_epoch_is_visible_before_there_is_a_line(history):
    drawn = traces(figures.curves(up_to_epoch(1, history), 10, "loss"))
    assert drawn["Train"].mode == "lines+markers"


def test_curves_without_a_point_yet_are_an_empty_chart():
    empty = figures.by_metric(pd.DataFrame(columns=["metric", "step", "value", "time"]))
    for figure in (figures.curves(empty, 0, "loss"), figures.learning_rate(empty)):
        assert not figure.data
        assert not figure.layout.yaxis.showticklabels
        assert [note.text for note in figure.layout.annotations] == ["no points yet"]


def test_lines_are_the_finite_points_of_each_metric_by_step():
    table = metric_rows(a=[1.0, np.nan, 3.0], b=[np.inf], c=[5.0]).sample(frac=1, random_state=1)
    lines = figures.by_metric(table)
    assert set(lines) == {"a", "c"}
    assert list(lines["a"].steps) == [1, 3]
    assert list(lines["a"].values) == [1, 3]
    assert list(lines["a"].times) == [1001, 1003]


def test_the_axis_of_epochs_ends_where_it_is_told_and_counts_few_epochs_one_by_one(history):
    few = figures.curves(history, 10, "loss", end=5).layout.xaxis
    assert few.range[1] == pytest.approx(5.1)
    assert few.dtick == 1
    assert figures.pace(history, end=50).layout.xaxis.dtick is None


def test_a_wild_batch_or_a_diverged_loss_does_not_flatten_the_curves(history):
    wild = metric_lines(batch_loss=[1.0] * 98 + [500.0, np.nan, np.inf], train_loss=[0.9, np.nan])
    figure = figures.curves(wild, 10, "loss")
    assert figure.layout.yaxis.range[1] < 2
    assert list(traces(figure)["Train"].y) == [0.9]


def test_long_series_are_thinned_with_both_ends_and_all_that_stands_out_kept():
    losses = np.random.default_rng(0).normal(1, 0.01, 50_000)
    losses[12_345], losses[33_333] = 9, 0.1
    figure = figures.curves(metric_lines(batch_loss=losses), 100, "loss", smooth=True)
    batches = traces(figure)["Batch"]
    assert 1000 < len(batches.x) <= figures.MOST_POINTS
    assert (batches.x[0], batches.x[-1]) == (0.01, 500)
    assert (max(batches.y), min(batches.y)) == (9, 0.1)
    assert list(batches.x) == sorted(batches.x)
    assert len(traces(figure)["Smoothed"].x) <= figures.MOST_POINTS
    assert len(figure.to_json()) < 200_000


def test_smoothing_is_a_running_mean_from_the_first_batch_on():
    table = metric_lines(batch_loss=[1.0] * 20 + [2.0] * 200)
    line = traces(figures.curves(table, 10, "loss", smooth=True))["Smoothed"]
    assert line.y[0] == pytest.approx(1)
    assert 1 < line.y[20] < 1.2
    assert line.y[-1] == pytest.approx(2, abs=1e-6)


def test_a_loss_on_a_log_axis_holds_all_its_lines():
    table = metric_lines(train_loss=[1.0, 0.1, 0.01], val_loss=[0.9, 0.2, 0.0])
    axis = figures.curves(table, 10, "loss", log=True).layout.yaxis
    assert axis.type == "log"
    assert axis.range[0] < np.log10(0.01)
    assert axis.range[1] > 0
    assert figures.curves(table, 10, "loss").layout.yaxis.uirevision != axis.uirevision


def test_runs_beside_one_another_have_a_colour_and_a_marker_each_and_share_the_line_styles(
    history,
):
    figure = figures.curves(history, 10, "auroc", others={"a": history, "b": history})
    drawn = traces(figure)
    assert set(drawn) == {
        f"{run}, {part}" for run in ("This run", "a", "b") for part in ("train", "validation")
    } | {"Best epoch 2"}
    for part, dash in (("train", "solid"), ("validation", "dash")):
        assert {drawn[f"{run}, {part}"].line.dash for run in ("This run", "a", "b")} == {dash}
    looks = {
        (line.line.color, line.marker.symbol)
        for name, line in drawn.items()
        if name.endswith("validation")
    }
    assert len(looks) == 3
    assert not figure.layout.showlegend


def test_batches_of_other_runs_are_left_out(history):
    names = [trace.name for trace in figures.curves(history, 9, "loss", others={"a": history}).data]
    assert names.count("Batch") == 1


def test_sensitivity_and_specificity_differ_by_colour_style_and_marker(history):
    drawn = traces(figures.detection(history))
    found, spared = drawn["Sensitivity"], drawn["Specificity"]
    assert list(found.y) == [0.2, 0.8, 0.9]
    assert found.line.color != spared.line.color
    assert found.line.dash != spared.line.dash
    assert found.marker.symbol != spared.marker.symbol
    assert list(drawn["Best epoch 2"].y) == [0.8, 0.7]


def test_the_machine_is_drawn_over_the_minutes_of_the_run():
    table = pd.DataFrame(
        [("cpu", 0, 50.0, 1000.0), ("cpu", 1, 70.0, 1030.0), ("gpu", 0, 1.0, 1060.0)],
        columns=["metric", "step", "value", "time"],
    )
    lines = figures.by_metric(table)
    figure = figures.machine(lines, {"cpu": "CPU", "none": "None"}, "CPU", "%", most=100)
    drawn = traces(figure)
    assert list(drawn["CPU"].x) == [0, 0.5]
    assert list(drawn["None"].x) == []
    assert figure.layout.yaxis.range[1] > 100


def test_a_line_without_points_does_not_keep_the_machine_from_being_drawn():
    table = pd.DataFrame(
        [("cpu", 0, 50.0, 1000.0), ("cpu", 1, 70.0, 1030.0)],
        columns=["metric", "step", "value", "time"],
    )
    lines = figures.by_metric(table)
    lines = {**lines, "gpu": lines["cpu"].at(np.array([], int))}
    drawn = traces(figures.machine(lines, {"cpu": "CPU", "gpu": "GPU"}, "Load", "%"))
    assert list(drawn["CPU"].x) == [0, 0.5]
    assert list(drawn["GPU"].x) == []


def test_counted_probabilities_are_shares_of_each_class():
    figure = figures.score_bins(
        [0, 0.5, 1], {"NORMAL": [3, 1], "PNEUMONIA": [0, 0]}, 0.5, whole=True
    )
    drawn = traces(figure)
    assert list(drawn["NORMAL (4 films)"].y) == [0.75, 0.25]
    assert list(drawn["PNEUMONIA (0 films)"].y) == [0, 0]
    assert figure.layout.yaxis.range[1] > 1


def test_learning_rate_is_on_a_log_axis_with_room_around_a_constant(history):
    figure = figures.learning_rate(history)
    assert figure.layout.yaxis.type == "log"
    assert list(figure.data[0].y) == [1e-3, 1e-3, 5e-4]
    constant = figures.learning_rate(metric_lines(learning_rate=[1e-3, 1e-3]))
    assert constant.layout.yaxis.range == pytest.approx((-3.5, -2.5))


def test_confusion_shows_counts_and_row_shares_with_truth_downwards():
    figure = figures.confusion([[90, 10], [5, 1195]], CLASSES[:2])
    texts = {(note.y, note.x): note.text for note in figure.layout.annotations}
    assert texts["NORMAL", "PNEUMONIA"] == "<b>10</b><br>10.0%"
    assert texts["PNEUMONIA", "PNEUMONIA"] == "<b>1,195</b><br>99.6%"
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.yaxis.title.text == "true"


def test_confusion_of_an_absent_class_claims_no_share():
    figure = figures.confusion([[0, 0], [1, 3]], CLASSES[:2])
    assert [note.text for note in figure.layout.annotations][:2] == ["<b>0</b><br>–"] * 2


def test_roc_of_two_classes_names_area_interval_and_operating_point():
    labels = np.array([0, 0, 0, 1, 1, 1])
    finding = np.array([0.1, 0.4, 0.4, 0.4, 0.8, 0.9])
    table = np.column_stack([1 - finding, finding])
    figure = figures.roc(labels, table, CLASSES[:2], 0.5, {"PNEUMONIA": [0.5, 1.0]})
    area = roc_auc_score(labels, finding)
    curve = traces(figure)[f"PNEUMONIA: AUROC {area:.3f} (0.500–1.000)"]
    assert curve.line.color == "#E69F00"
    np.testing.assert_allclose(curve.x, [0, 0, 0, 2 / 3, 1])
    np.testing.assert_allclose(curve.y, [0, 1 / 3, 2 / 3, 1, 1])
    point = traces(figure)["Threshold 50.0 %"]
    assert (point.x[0], point.y[0]) == pytest.approx((0, 2 / 3))


def test_roc_of_more_classes_puts_the_operating_point_on_any_finding(predictions):
    labels, table = predictions
    figure = figures.roc(labels, table, CLASSES, 0.6)
    areas = {
        "PNEUMONIA": roc_auc_score(labels == 1, table[:, 1]),
        "TUBERCULOSIS": roc_auc_score(labels == 2, table[:, 2]),
        "Any finding": roc_auc_score(labels > 0, 1 - table[:, 0]),
    }
    drawn = traces(figure)
    assert {f"{label}: AUROC {area:.3f}" for label, area in areas.items()} <= set(drawn)
    assert drawn[f"Any finding: AUROC {areas['Any finding']:.3f}"].line.dash == "dash"
    point = drawn["Threshold 60.0 %"]
    called = 1 - table[:, 0] >= 0.6
    assert point.y[0] == pytest.approx(called[labels > 0].mean())
    assert point.x[0] == pytest.approx(called[labels == 0].mean())


def test_roc_without_both_kinds_of_films_draws_no_curve():
    figure = figures.roc([1, 1], [[0.4, 0.6], [0.1, 0.9]], CLASSES[:2], 0.5)
    assert [trace.name for trace in figure.data] == ["Chance"]


def test_precision_recall_names_average_precision_and_the_operating_point():
    labels = np.array([0, 0, 1, 0, 1, 1])
    finding = np.array([0.1, 0.2, 0.3, 0.6, 0.8, 0.9])
    table = np.column_stack([1 - finding, finding])
    figure = figures.precision_recall(labels, table, CLASSES[:2], 0.5)
    area = average_precision_score(labels, finding)
    curve = traces(figure)[f"PNEUMONIA: average precision {area:.3f}"]
    precision, recall, _ = precision_recall_curve(labels, finding)
    np.testing.assert_allclose(curve.x, recall[-2::-1])
    np.testing.assert_allclose(curve.y, precision[-2::-1])
    point = traces(figure)["Threshold 50.0 %"]
    assert (point.x[0], point.y[0]) == pytest.approx((2 / 3, 2 / 3))
    assert traces(figure)["Chance"].y[0] == 0.5


def test_rocs_give_each_model_its_curve_and_its_own_operating_point():
    labels = np.array([0, 0, 1, 1])
    good, poor = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.1, 0.8, 0.2, 0.9])
    figure = figures.rocs(labels, {"good": good, "poor": poor}, {"good": 0.5, "poor": 0.85})
    assert {"good: AUROC 1.000", "poor: AUROC 0.750"} <= set(traces(figure))
    points = {
        trace.name: (trace.x[0], trace.y[0]) for trace in figure.data if trace.mode == "markers"
    }
    assert points == {"good": (0, 1), "poor": (0, 0.5)}


def test_groups_show_value_and_interval_and_leave_out_what_is_undefined():
    rows = [
        {"group": "large", "n": 80, "auc": 0.9, "ci95": {"auc": [0.8, 0.95]}},
        {"group": "small", "n": 4, "auc": None, "ci95": {}},
    ]
    (points,) = figures.by_group(rows, "auc", "AUROC", 0.88).data
    assert list(points.y) == ["large (n = 80)"]
    assert points.error_x.array[0] == pytest.approx(0.05)
    assert points.error_x.arrayminus[0] == pytest.approx(0.1)


def test_probability_bars_mark_the_threshold_on_the_findings_bar():
    bars, mark = figures.probability_bars({"NORMAL": 0.13, "PNEUMONIA": 0.87}, 0.62).data
    assert list(bars.y) == ["NORMAL", "PNEUMONIA"]
    assert list(bars.text) == ["13.0%", "87.0%"]
    assert list(bars.marker.color) == ["#56B4E9", "#E69F00"]
    assert mark.name == "Threshold 62.0 %"
    assert list(mark.x) == [0.62, 0.62]
    assert min(mark.y) < 1 < max(mark.y)


def test_probability_bars_never_write_certainty_where_they_are_told_how_to_write():
    bars, _ = figures.probability_bars(
        {"NORMAL": 0.0001, "PNEUMONIA": 0.9999},
        0.5,
        lambda p: "over 99.9 %" if p > 0.999 else "low",
    ).data
    assert list(bars.text) == ["low", "over 99.9 %"]


def test_probability_bars_of_more_classes_mark_the_threshold_on_any_finding():
    probabilities = dict(zip(CLASSES, (0.3, 0.5, 0.2), strict=True))
    bars, mark = figures.probability_bars(probabilities, 0.4).data
    assert list(bars.y) == ["Any finding", *CLASSES]
    assert bars.x[0] == pytest.approx(0.7)
    assert min(mark.y) < 0 < max(mark.y)


def test_sparkline_has_no_axes_and_marks_the_last_value():
    figure = figures.sparkline([0.6, 0.8, 0.7])
    line, last = figure.data
    assert list(line.y) == [0.6, 0.8, 0.7]
    assert (last.x[0], last.y[0]) == (3, 0.7)
    assert not figure.layout.xaxis.visible
    assert len(figures.sparkline([]).data[0].x) == 0


def test_score_histogram_shares_add_up_within_each_class(predictions):
    labels, table = predictions
    figure = figures.score_histogram(labels, table, CLASSES, 0.5)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert len(bars) == 3
    for number, (bar, label) in enumerate(zip(bars, CLASSES, strict=True)):
        films = (labels == number).sum()
        assert bar.name == f"{label} ({films:,} films)"
        assert sum(bar.y) == pytest.approx(1)
        assert sum(row[0] for row in bar.customdata) == films
        assert bar.marker.color == figures.class_colour(label, CLASSES)


def test_reliability_draws_the_last_table_strongest():
    before = pd.DataFrame(
        {"low": [0, 0.5], "high": [0.5, 1], "forecast": [0.2, 0.9], "observed": [0.3, 0.7], "n": 9}
    )
    figure = figures.reliability({"Before": before, "After": before.assign(forecast=[0.3, 0.7])})
    drawn = traces(figure)
    assert list(drawn["Perfect"].x) == [0, 1]
    assert list(drawn["After"].x) == [0.3, 0.7]
    assert list(drawn["Before"].y) == [0.3, 0.7]
    assert drawn["After"].line.width > drawn["Before"].line.width
    assert drawn["Before"].line.dash != drawn["After"].line.dash


def test_gray_levels_are_shares_of_the_pixels():
    pixels = np.array([[0, 1, 2, 3], [255, 255, 254, 128]], np.uint8)
    bars = figures.gray_levels(pixels).data[0]
    assert bars.y[0] == 0.5
    assert bars.y[-1] == pytest.approx(3 / 8)
    assert sum(bars.y) == pytest.approx(1)
    assert list(bars.customdata[-1]) == [252, 255]


def test_shortcuts_start_at_chance_with_the_strongest_on_top():
    figure = figures.shortcuts({"file_size": 0.9, "width": 0.55, "mean": 0.45})
    (bars,) = figure.data
    assert list(bars.y) == ["mean", "width", "file size"]
    assert np.allclose(np.array(bars.x) + 0.5, [0.45, 0.55, 0.9])


def test_distributions_are_shares_of_each_class_in_its_colour():
    values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    labels = ["NORMAL"] * 8 + ["PNEUMONIA"] * 2
    lines = traces(figures.distribution(values, labels, CLASSES[:2], "px"))
    assert sum(lines["PNEUMONIA"].y) == pytest.approx(1)
    assert lines["PNEUMONIA"].line.color == figures.CLASS_COLOURS["PNEUMONIA"]


def test_a_film_keeps_its_proportions():
    figure = figures.film("data:image/jpeg;base64,", 300, 200)
    assert (figure.layout.images[0].sizex, figure.layout.images[0].sizey) == (300, 200)
    assert figure.layout.yaxis.scaleanchor == "x"


def test_where_the_trainer_says_which_epoch_it_keeps_that_is_the_best_one():
    epochs = np.arange(1, 5)
    auroc = figures.Line(epochs, np.array([0.9, 0.99, 0.95, 0.96]), epochs * 60.0)
    kept = figures.Line(epochs, np.array([1.0, 2.0, 3.0, 4.0]), epochs * 60.0)
    assert figures.best_epoch({"val_auroc": auroc}, "val_auroc") == 2
    assert figures.best_epoch({"val_auroc": auroc, "best_epoch": kept}, "val_auroc") == 4


# -- probes ---------------------------------------------------------------------------------------


def test_a_sensitivity_curve_has_a_line_a_figure_with_a_style_of_its_own():
    figure = figures.sensitivity_curve(CURVE, "Brightness")
    lines = traces(figure)
    assert list(lines) == ["AUROC", "sensitivity", "specificity"]
    assert list(lines["sensitivity"].y) == CURVE["sensitivity"]
    assert lines["AUROC"].y[2] is None  # undefined stays a gap
    assert len({line.line.dash for line in figure.data}) == 3
    assert figure.layout.xaxis.title.text == "brightness (% of full scale)"


def test_a_cascade_starts_at_the_trained_network():
    line = figures.cascade(["dense", "conv"], [0.5, 0.1]).data[0]
    assert list(line.y) == [1.0, 0.5, 0.1]
    assert list(line.customdata) == ["none", "dense", "conv"]


# -- a sweep --------------------------------------------------------------------------------------


@pytest.fixture
def tried():
    return [
        figures.Tried(1, 0.80, default=True, cost=100.0),
        figures.Tried(2, 0.70, pruned=True, cost=40.0),
        figures.Tried(3, 0.75, cost=50.0),
        figures.Tried(4, 0.90, best=True, cost=400.0),
        figures.Tried(5, 0.85, cost=None),
    ]


def test_a_sweeps_history_marks_kinds_by_shape_and_runs_along_the_best_so_far(tried):
    drawn = traces(figures.sweep_history(tried, "Validation AUROC"))
    assert list(drawn["Best so far"].y) == [0.80, 0.80, 0.90, 0.90, 0.90]
    assert list(drawn["Best so far"].x) == [1, 3, 4, 5, 5]
    assert list(drawn["Ended early"].x) == [2]
    symbols = {drawn[name].marker.symbol for name in ("Trial", "Ended early", "Best")}
    assert len(symbols) == 3
    lowest = traces(figures.sweep_history(tried, "Validation loss", maximised=False))
    assert list(lowest["Best so far"].y) == [0.80, 0.75, 0.75, 0.75, 0.75]


def test_a_sweeps_front_is_drawn_through_complete_trials_that_have_a_cost(tried):
    figure = figures.sweep_front(tried, [3, 1, 4], "Validation AUROC", "Parameters", log=True)
    drawn = traces(figure)
    assert list(drawn["Front"].x) == [50.0, 100.0, 400.0]
    assert "Ended early" not in drawn
    assert list(drawn["Trial"].x) == [50.0]
    assert figure.layout.xaxis.type == "log"


def test_a_sweeps_parallel_coordinates_give_each_kind_of_setting_its_axis():
    axes = [
        figures.Axis("Learning rate", [1e-4, 1e-2, 1e-3], log=True),
        figures.Axis("Optimizer", ["SGD", "Adam", "SGD"]),
        figures.Axis("Mirror half", [True, False, True]),
        figures.Axis("Epochs", [4, 4, 4]),
    ]
    outcome = figures.Axis("Validation AUROC", [0.7, 0.8, 0.9])
    (lines,) = figures.sweep_parallel(axes, outcome).data
    rate, optimizer, flip, epochs, auroc = lines.dimensions
    assert list(rate.values) == pytest.approx([-4, -2, -3])
    assert rate.ticktext[0] == "0.0001"
    assert list(optimizer.ticktext) == ["Adam", "SGD"]
    assert list(optimizer.values) == [1, 0, 1]
    assert list(flip.ticktext) == ["no", "yes"]
    assert epochs.range[0] < 4 < epochs.range[1]
    assert list(auroc.values) == [0.7, 0.8, 0.9]
    assert list(lines.line.color) == [0, 1, 2]
    lowest = figures.sweep_parallel(axes, outcome, maximised=False).data[0]
    assert list(lowest.line.color) == [2, 1, 0]


def test_what_mattered_most_stands_on_top():
    (bars,) = figures.sweep_importance({"Learning rate": 0.75, "Head": 0.25}).data
    assert list(bars.y) == ["Head", "Learning rate"]  # from below
    assert list(bars.text) == ["25 %", "75 %"]
