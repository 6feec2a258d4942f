"""Figures of what a model is worth: confusion, ROC, probabilities, calibration."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from cxr_core.figures.look import (
    GUIDE,
    TRAIN_COLOUR,
    VALIDATION_COLOUR,
    chance_line,
    class_colour,
    layout,
    mark_threshold,
    unit_square,
)
from cxr_core.figures.thinning import thin

_ANY = "Any finding"


def confusion(matrix: npt.ArrayLike, classes: Sequence[str]) -> go.Figure:
    """Draw a confusion matrix: counts, and the share of each true class.

    Args:
        matrix: Film counts, shape (k, k), rows truth, columns decision.
        classes: The k class names.
    """
    counts = np.asarray(matrix)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    figure = go.Figure(layout=layout(120 + 76 * len(classes), legend=False))
    names = list(classes)
    figure.add_heatmap(
        x=names,
        y=names,
        z=shares,
        zmin=0,
        zmax=1,
        # Below half a tint that leaves the theme's text legible, above it a ground for white text.
        colorscale=[
            [0, "rgba(47, 111, 147, 0.08)"],
            [0.5, "rgba(47, 111, 147, 0.24)"],
            [0.5, "rgba(47, 111, 147, 0.88)"],
            [1, "rgba(47, 111, 147, 1)"],
        ],
        showscale=False,
        xgap=3,
        ygap=3,
        hoverinfo="skip",
    )
    # A heat map cannot be clicked on: an unseen mark in each cell can.
    across, down = np.meshgrid(names, names)
    figure.add_scatter(
        x=across.ravel(),
        y=down.ravel(),
        mode="markers",
        marker={"symbol": "square", "size": 64, "opacity": 0},
        customdata=np.column_stack([counts.ravel(), shares.ravel()]),
        hovertemplate="%{customdata[0]:,} films, %{customdata[1]:.1%} of the true %{y}"
        "<extra>decided: %{x}</extra>",
    )
    for (row, column), count in np.ndenumerate(counts):
        share = f"{shares[row, column]:.1%}" if totals[row, 0] else "–"
        figure.add_annotation(
            x=names[column],
            y=names[row],
            text=f"<b>{count:,}</b><br>{share}",
            font_color="#FFFFFF" if shares[row, column] >= 0.5 else None,
            showarrow=False,
        )
    # Else classes with numbers for names would stand on a line of numbers.
    figure.update_xaxes(title="decided", side="bottom", showgrid=False, ticks="", type="category")
    figure.update_yaxes(
        title="true", autorange="reversed", showgrid=False, ticks="", type="category"
    )
    return figure


def roc(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    threshold: float,
    intervals: Mapping[str, Sequence[float] | None] | None = None,
) -> go.Figure:
    """Draw the ROC curve with the operating point; more than two classes add one curve each.

    The point belongs to "any finding against the reference class", which is what the threshold
    decides; for two classes that is the only curve.

    Args:
        labels: True class of each film, int, shape (n,).
        probabilities: Shape (n, k).
        classes: The k class names, the reference class first.
        threshold: On the abnormal probability, 0-1.
        intervals: 95 % interval of the AUROC by class name, shown in the legend.
    """
    truth, table = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    figure = go.Figure(layout=layout(440))
    chance_line(figure)
    for label, positive, ranked in _findings(truth, table, classes):
        alarms, found, cuts = roc_points(positive, ranked)
        if not len(cuts):
            continue
        area = _with_interval(float(np.trapezoid(found, alarms)), (intervals or {}).get(label))
        kept = thin(len(cuts))
        figure.add_scatter(
            x=alarms[kept],
            y=found[kept],
            mode="lines",
            name=f"{label}: AUROC {area}",
            line=_finding_line(label, classes),
            customdata=cuts[kept],
            hovertemplate="sensitivity %{y:.1%}, 1 − specificity %{x:.1%} from %{customdata:.1%} up"
            f"<extra>{label}</extra>",
        )
    called, finding = table[:, 1:].sum(axis=1) >= threshold, truth != 0
    if finding.any() and not finding.all():
        _operating_point(
            figure,
            called[~finding].mean(),
            called[finding].mean(),
            threshold,
            "sensitivity %{y:.1%}, 1 − specificity %{x:.1%}",
        )
    unit_square(figure, "1 − specificity", "sensitivity")
    return figure


def precision_recall(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    threshold: float,
    intervals: Mapping[str, Sequence[float] | None] | None = None,
) -> go.Figure:
    """Draw precision (PPV) over recall (sensitivity), with the operating point of any finding.

    A dotted line marks the share of findings among these films: the precision of guessing. Unlike
    the ROC curve, this one holds for that share alone (Davis and Goadrich 2006).

    Args:
        labels: True class of each film, int, shape (n,).
        probabilities: Shape (n, k).
        classes: The k class names, the reference class first.
        threshold: On the abnormal probability, 0-1.
        intervals: 95 % interval of the average precision by class name, shown in the legend.
    """
    truth, table = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    figure = go.Figure(layout=layout(440))
    finding, score = truth != 0, table[:, 1:].sum(axis=1)
    chance_line(figure, finding.mean(), finding.mean())
    for label, positive, ranked in _findings(truth, table, classes):
        alarms, found, cuts = roc_points(positive, ranked)
        if not len(cuts):
            continue
        hits, false = found[1:] * positive.sum(), alarms[1:] * (~positive).sum()
        precision = hits / (hits + false)
        area = _with_interval(
            float((np.diff(found) * precision).sum()), (intervals or {}).get(label)
        )
        kept = thin(len(precision))
        figure.add_scatter(
            x=found[1:][kept],
            y=precision[kept],
            mode="lines",
            name=f"{label}: average precision {area}",
            line={**_finding_line(label, classes), "shape": "vh"},
            customdata=cuts[1:][kept],
            hovertemplate="precision %{y:.1%}, sensitivity %{x:.1%} from %{customdata:.1%} up"
            f"<extra>{label}</extra>",
        )
    called = score >= threshold
    if finding.any() and not finding.all() and called.any():
        _operating_point(
            figure,
            called[finding].mean(),
            finding[called].mean(),
            threshold,
            "precision %{y:.1%}, sensitivity %{x:.1%}",
        )
    unit_square(figure, "sensitivity (recall)", "precision (PPV)")
    return figure


def probability_bars(
    probabilities: Mapping[str, float],
    threshold: float,
    written: Callable[[float], str] = "{:.1%}".format,
) -> go.Figure:
    """Draw one film's probability by class as bars, with the threshold where it applies.

    The threshold applies to any finding together: with two classes that is the second one's bar,
    with more a bar of its own at the top.

    Args:
        probabilities: Class to probability (0-1), in the order of the classes, reference first.
        threshold: On the abnormal probability, 0-1.
        written: How a probability is written beside its bar.
    """
    classes = list(probabilities)
    bars = {label: float(value) for label, value in probabilities.items()}
    colours = [class_colour(label, classes) for label in classes]
    marked = 1
    if len(classes) > 2:
        bars = {_ANY: sum(list(bars.values())[1:])} | bars
        colours, marked = [TRAIN_COLOUR, *colours], 0
    figure = go.Figure(layout=layout(80 + 42 * len(bars)))
    figure.add_bar(
        x=list(bars.values()),
        y=list(bars),
        orientation="h",
        marker_color=colours,
        text=[written(value) for value in bars.values()],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{text}<extra>%{y}</extra>",
        showlegend=False,
    )
    mark_threshold(figure, threshold, [marked - 0.44, marked + 0.44])
    figure.update_layout(bargap=0.35, yaxis2={"overlaying": "y", "matches": "y", "visible": False})
    # Room on the right for the text of a full bar. Bars run from top to bottom.
    figure.update_xaxes(
        range=[0, 1.6], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%", fixedrange=True
    )
    figure.update_yaxes(
        range=[len(bars) - 0.5, -0.5], showgrid=False, zeroline=False, fixedrange=True, ticks=""
    )
    return figure


def score_histogram(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    threshold: float,
    bins: int = 25,
) -> go.Figure:
    """Draw how the abnormal probability spreads over the films of each true class.

    Args:
        labels: True class of each film, int, shape (n,).
        probabilities: Shape (n, k).
        classes: The k class names, the reference class first.
        threshold: On the abnormal probability, 0-1.
        bins: Bars across 0-1.
    """
    truth = np.asarray(labels)
    score = np.asarray(probabilities, dtype=np.float64)[:, 1:].sum(axis=1).clip(0, 1)
    edges = np.linspace(0, 1, bins + 1)
    counts = {
        label: np.histogram(score[truth == number], edges)[0]
        for number, label in enumerate(classes)
    }
    return score_bins(edges, counts, threshold)


def score_bins(
    edges: npt.ArrayLike,
    counts: Mapping[str, npt.ArrayLike],
    threshold: float,
    *,
    whole: bool = False,
) -> go.Figure:
    """Draw a histogram of the abnormal probability that has been counted already.

    Args:
        edges: Of the bins, ascending, 0-1, shape (b + 1,).
        counts: Films in each bin by class, shape (b,) each, the reference class first.
        threshold: On the abnormal probability, 0-1.
        whole: Whether the axis always reaches 100 %, so that figures of one kind can be compared
            by looking from one to the next.
    """
    ends = np.asarray(edges, dtype=np.float64)
    figure = go.Figure(layout=layout(320))
    for label, films in ((label, np.asarray(row)) for label, row in counts.items()):
        figure.add_bar(
            x=(ends[:-1] + ends[1:]) / 2,
            y=films / max(films.sum(), 1),
            width=np.diff(ends),
            name=f"{label} ({films.sum():,} films)",
            marker={"color": class_colour(label, list(counts)), "line": {"width": 0}},
            opacity=0.65,
            customdata=np.column_stack([films, ends[:-1], ends[1:]]),
            hovertemplate="%{customdata[0]:,} films, %{y:.1%} of the class, between "
            "%{customdata[1]:.0%} and %{customdata[2]:.0%}"
            f"<extra>{label}</extra>",
        )
    mark_threshold(figure, threshold, [1, 0])
    figure.update_layout(
        barmode="overlay", yaxis2={"overlaying": "y", "range": [0, 1], "visible": False}
    )
    figure.update_xaxes(
        title="probability of any finding", range=[-0.01, 1.01], dtick=0.2, tickformat=".0%"
    )
    figure.update_yaxes(
        title="share of the class",
        tickformat=".0%",
        rangemode="tozero",
        range=[0, 1.02] if whole else None,
    )
    return figure


def reliability(tables: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Draw observed frequency over forecast probability; on the diagonal a probability is true.

    Args:
        tables: Name ("Before calibration", "After") to the bins of
            ``evaluation.calibration.reliability``: columns ``low``, ``high``, ``forecast``,
            ``observed`` and ``n``. The last one is drawn strongest.
    """
    figure = go.Figure(layout=layout(440))
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="Perfect",
        line={"color": GUIDE, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
    for place, (name, table) in enumerate(tables.items(), start=1):
        last = place == len(tables)
        figure.add_scatter(
            x=table["forecast"],
            y=table["observed"],
            mode="lines+markers",
            name=name,
            line={
                "color": VALIDATION_COLOUR if last else TRAIN_COLOUR,
                "width": 2.5 if last else 1.5,
                "dash": "solid" if last else "dash",
            },
            marker={"size": 8 if last else 5},
            customdata=table[["n", "low", "high"]],
            hovertemplate="forecast %{x:.1%}, observed %{y:.1%}<br>%{customdata[0]:,} films "
            "between %{customdata[1]:.1%} and %{customdata[2]:.1%}"
            f"<extra>{name}</extra>",
        )
    unit_square(figure, "forecast probability", "observed frequency")
    return figure


def _findings(
    truth: np.ndarray, table: np.ndarray, classes: Sequence[str]
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return name, which films have it and their score, of each finding; of several, of any too."""
    found = [(label, truth == number, table[:, number]) for number, label in enumerate(classes)][1:]
    if len(found) > 1:
        found.append((_ANY, truth != 0, table[:, 1:].sum(axis=1)))
    return found


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.3f}" + (f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else "")


def _operating_point(
    figure: go.Figure, across: float, upwards: float, threshold: float, hover: str
) -> None:
    name = f"Threshold {100 * threshold:.1f} %"
    figure.add_scatter(
        x=[across],
        y=[upwards],
        mode="markers",
        name=name,
        marker={"size": 12, "symbol": "circle-open", "color": VALIDATION_COLOUR},
        marker_line_width=3,
        hovertemplate=f"{hover}<extra>{name}</extra>",
    )


def _finding_line(label: str, classes: Sequence[str]) -> dict[str, object]:
    if label == _ANY:
        return {"color": TRAIN_COLOUR, "width": 2.5, "dash": "dash"}
    return {"color": class_colour(label, classes), "width": 2.5, "dash": "solid"}


def roc_points(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return 1 - specificity, sensitivity and threshold of each step, all (steps,).

    Empty where the films are all of one kind.
    """
    if positive.all() or not positive.any():
        return np.empty(0), np.empty(0), np.empty(0)
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], positive[order]
    last = np.r_[np.flatnonzero(np.diff(ranked)), len(ranked) - 1]
    found = np.cumsum(hits)[last] / positive.sum()
    alarms = np.cumsum(~hits)[last] / (~positive).sum()
    return np.r_[0.0, alarms], np.r_[0.0, found], np.r_[1.0, ranked[last]]
