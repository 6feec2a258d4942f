"""Data in, Plotly figures out: every chart of the app, in one look for a dark and a light page.

Backgrounds are transparent and text carries no colour of its own, so that the page's theme shows
through. Marks use mid-tones that stand out on near-black and on white alike. Shares are passed as
0-1 and shown in percent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

# Okabe and Ito 2008: told apart with any colour vision. A class keeps its colour on every page.
CLASS_COLOURS = {"NORMAL": "#56B4E9", "PNEUMONIA": "#E69F00", "TUBERCULOSIS": "#CC79A7"}
OTHER_COLOURS = ("#009E73", "#F0E442", "#0072B2", "#D55E00")

# Figures that are about no class: slate for what was trained on, teal for what is believed.
TRAIN_COLOUR = "#8597A8"
VALIDATION_COLOUR = "#18A39B"
_MARK = "#808A94"  # the threshold: a gray as far from black as from white
_GUIDE = "rgba(128, 138, 148, 0.75)"
_GRID = "rgba(128, 138, 148, 0.20)"

MOST_POINTS = 2000  # a trace; more would make each refresh of a live page slow
_PARTS = {"train": "Train", "val": "Validation", "test": "Test", "": "No part yet"}
_NORMAL_LIKE = ("NORMAL", "NEGATIVE", "NO_FINDING", "NO FINDING", "HEALTHY")
_TITLES = {"loss": "Loss", "accuracy": "Accuracy", "auroc": "AUROC"}


def class_colour(label: str, classes: Sequence[str]) -> str:
    """Return the colour of a class as ``#RRGGBB``, the same for all figures of a data set.

    Args:
        label: The class.
        classes: All classes of the data set in their order, the reference class first. A
            reference class of another name than NORMAL shares its colour.
    """
    if label in CLASS_COLOURS:
        return CLASS_COLOURS[label]
    if classes and label == classes[0]:
        return CLASS_COLOURS["NORMAL"]
    others = [other for other in classes[1:] if other not in CLASS_COLOURS]
    place = others.index(label) if label in others else len(others)
    return OTHER_COLOURS[place % len(OTHER_COLOURS)]


def balance(frame: pd.DataFrame, classes: Sequence[str] | None = None) -> go.Figure:
    """Draw how many films each part holds of each class, as grouped bars with their counts.

    Args:
        frame: One row a film, with the columns ``split`` (train, val, test or empty) and
            ``label``.
        classes: Order of the classes; by default those of the frame, normal first.
    """
    counts = pd.crosstab(frame["split"].fillna(""), frame["label"])
    labels = list(classes) if classes else sorted(counts.columns, key=_reading_order)
    parts = [part for part in _PARTS if part in counts.index]
    parts += [part for part in counts.index if part not in _PARTS]
    counts = counts.reindex(index=parts, columns=labels, fill_value=0)
    figure = go.Figure(layout=_layout(320, legend=len(labels) > 1))
    for label in labels:
        films = counts[label].to_numpy()
        figure.add_bar(
            x=[_PARTS.get(part, part) for part in parts],
            y=films,
            name=label,
            marker_color=class_colour(label, labels),
            text=[f"{count:,}" for count in films],
            textposition="outside",
            cliponaxis=False,
            customdata=films / np.maximum(counts.sum(axis=1), 1),
            hovertemplate="%{y:,} films, %{customdata:.1%} of the part<extra>%{x}: "
            + label
            + "</extra>",
        )
    figure.update_layout(barmode="group", bargap=0.3, bargroupgap=0.08)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(title="films", tickformat=",d", rangemode="tozero")
    return figure


def curves(
    table: pd.DataFrame, steps_per_epoch: int, metric: str, monitor: str = "val_loss"
) -> go.Figure:
    """Draw one metric over the epochs: batch points, training line, validation line.

    Args:
        table: Columns ``metric``, ``step``, ``value``. The metrics ``train_<metric>`` and
            ``val_<metric>`` count steps in epochs from 1, ``batch_<metric>`` in batches from 1.
        steps_per_epoch: Batches an epoch has.
        metric: "loss", "accuracy" or "auroc".
        monitor: The metric that decides the best epoch: lowest for a loss, else highest.
    """
    figure = go.Figure(layout=_layout(320, title=_TITLES.get(metric, metric)))
    number = ":.1%" if metric == "accuracy" else ":.3f"
    batches = _series(table, f"batch_{metric}")
    train, validation = _series(table, f"train_{metric}"), _series(table, f"val_{metric}")
    if len(batches):
        figure.add_scatter(
            x=batches["step"] / max(steps_per_epoch, 1),
            y=batches["value"],
            mode="markers",
            name="Batch",
            marker={"size": 4, "color": TRAIN_COLOUR, "opacity": 0.4},
            customdata=batches["step"],
            hovertemplate=f"%{{y{number}}} at batch %{{customdata:,}}<extra>Batch</extra>",
        )
    if len(train):
        figure.add_scatter(
            x=train["step"],
            y=train["value"],
            mode="lines+markers" if len(train) == 1 else "lines",
            name="Train",
            line={"color": TRAIN_COLOUR, "width": 2.5, "dash": "solid"},
            hovertemplate=f"%{{y{number}}} at epoch %{{x}}<extra>Train</extra>",
        )
    if len(validation):
        figure.add_scatter(
            x=validation["step"],
            y=validation["value"],
            mode="lines+markers",
            name="Validation",
            line={"color": VALIDATION_COLOUR, "width": 2.5, "dash": "dash"},
            marker={"size": 6, "color": VALIDATION_COLOUR},
            hovertemplate=f"%{{y{number}}} at epoch %{{x}}<extra>Validation</extra>",
        )
        _mark_best(figure, table, validation, monitor, number)
    _epoch_axis(figure)
    if metric == "loss":
        figure.update_yaxes(range=_loss_range(batches, train, validation), tickformat=".3~g")
    else:
        figure.update_yaxes(
            tickformat=".0%" if metric == "accuracy" else ".3~f",
            autorangeoptions={"clipmin": 0, "clipmax": 1.02},
        )
    return figure


def learning_rate(table: pd.DataFrame) -> go.Figure:
    """Draw the learning rate over the epochs, on a log axis of at least one decade.

    Args:
        table: Columns ``metric``, ``step`` (epoch), ``value``; reads ``learning_rate``.
    """
    figure = go.Figure(layout=_layout(320, title="Learning rate", legend=False))
    rates = _series(table, "learning_rate")
    rates = rates[rates["value"] > 0]
    figure.add_scatter(
        x=rates["step"],
        y=rates["value"],
        mode="lines+markers",
        name="Learning rate",
        line={"color": TRAIN_COLOUR, "width": 2.5, "shape": "hv"},
        marker={"size": 5},
        hovertemplate="%{y:.2e} at epoch %{x}<extra></extra>",
    )
    _epoch_axis(figure)
    figure.update_yaxes(
        type="log",
        range=_decades(rates["value"]),
        dtick=1,
        exponentformat="power",
        minor_dtick="D1",
    )
    return figure


def confusion(matrix: npt.ArrayLike, classes: Sequence[str]) -> go.Figure:
    """Draw a confusion matrix: counts, and the share of each true class.

    Args:
        matrix: Film counts, shape (k, k), rows truth, columns decision.
        classes: The k class names.
    """
    counts = np.asarray(matrix)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    figure = go.Figure(layout=_layout(120 + 76 * len(classes), legend=False))
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
        customdata=counts,
        hovertemplate="%{customdata:,} films, %{z:.1%} of the true %{y}"
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
    figure.update_xaxes(title="decided", side="bottom", showgrid=False, ticks="")
    figure.update_yaxes(title="true", autorange="reversed", showgrid=False, ticks="")
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
    figure = go.Figure(layout=_layout(440))
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": _GUIDE, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
        name="Chance",
    )
    findings = [(label, truth == number, table[:, number]) for number, label in enumerate(classes)]
    findings = findings[1:]
    score = table[:, 1:].sum(axis=1)
    if len(findings) > 1:
        findings.append(("Any finding", truth != 0, score))
    for label, positive, ranked in findings:
        alarms, found, cuts = _roc_points(positive, ranked)
        if not len(cuts):
            continue
        area = f"{np.trapezoid(found, alarms):.3f}"
        interval = (intervals or {}).get(label)
        area += f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else ""
        one = label == "Any finding"
        kept = _thin(len(cuts))
        figure.add_scatter(
            x=alarms[kept],
            y=found[kept],
            mode="lines",
            name=f"{label}: AUROC {area}",
            line={
                "color": TRAIN_COLOUR if one else class_colour(label, classes),
                "width": 2.5,
                "dash": "dash" if one else "solid",
            },
            customdata=cuts[kept],
            hovertemplate="sensitivity %{y:.1%}, 1 − specificity %{x:.1%} from %{customdata:.1%} up"
            f"<extra>{label}</extra>",
        )
    called, finding = score >= threshold, truth != 0
    if finding.any() and not finding.all():
        figure.add_scatter(
            x=[called[~finding].mean()],
            y=[called[finding].mean()],
            mode="markers",
            name=f"Threshold {threshold:.1%}",
            marker={"size": 12, "symbol": "circle-open", "color": VALIDATION_COLOUR},
            marker_line_width=3,
            hovertemplate="sensitivity %{y:.1%}, 1 − specificity %{x:.1%}"
            f"<extra>Threshold {threshold:.1%}</extra>",
        )
    _unit_square(figure, "1 − specificity", "sensitivity")
    return figure


def probability_bars(probabilities: Mapping[str, float], threshold: float) -> go.Figure:
    """Draw one film's probability by class as bars, with the threshold where it applies.

    The threshold applies to any finding together: with two classes that is the second one's bar,
    with more a bar of its own at the top.

    Args:
        probabilities: Class to probability (0-1), in the order of the classes, reference first.
        threshold: On the abnormal probability, 0-1.
    """
    classes = list(probabilities)
    bars = {label: float(value) for label, value in probabilities.items()}
    colours = [class_colour(label, classes) for label in classes]
    marked = 1
    if len(classes) > 2:
        bars = {"Any finding": sum(list(bars.values())[1:])} | bars
        colours, marked = [TRAIN_COLOUR, *colours], 0
    figure = go.Figure(layout=_layout(80 + 42 * len(bars)))
    figure.add_bar(
        x=list(bars.values()),
        y=list(bars),
        orientation="h",
        marker_color=colours,
        text=[f"{value:.1%}" for value in bars.values()],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{x:.1%}<extra>%{y}</extra>",
        showlegend=False,
    )
    _mark_threshold(figure, threshold, [marked - 0.44, marked + 0.44])
    figure.update_layout(bargap=0.35, yaxis2={"overlaying": "y", "matches": "y", "visible": False})
    # Room on the right for the text of a full bar. Bars run from top to bottom.
    figure.update_xaxes(
        range=[0, 1.3], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%", fixedrange=True
    )
    figure.update_yaxes(
        range=[len(bars) - 0.5, -0.5], showgrid=False, zeroline=False, fixedrange=True, ticks=""
    )
    return figure


def sparkline(values: Sequence[float], name: str = "Validation AUROC") -> go.Figure:
    """Draw a word-sized curve without axes, its last point marked.

    Args:
        values: One value an epoch.
        name: What the values are, for the hover text.
    """
    series = np.asarray(values, dtype=np.float64)
    epochs = np.arange(1, len(series) + 1)
    kept = _thin(len(series))
    figure = go.Figure(layout=_layout(56, legend=False))
    figure.add_scatter(
        x=epochs[kept],
        y=series[kept],
        mode="lines",
        name=name,
        line={"color": VALIDATION_COLOUR, "width": 2},
        hovertemplate=f"{name} %{{y:.3f}} at epoch %{{x}}<extra></extra>",
    )
    figure.add_scatter(
        x=epochs[-1:],
        y=series[-1:],
        mode="markers",
        marker={"color": VALIDATION_COLOUR, "size": 6},
        hoverinfo="skip",
        cliponaxis=False,
    )
    figure.update_layout(margin={"l": 4, "r": 8, "t": 6, "b": 6})
    figure.update_xaxes(visible=False, fixedrange=True)
    figure.update_yaxes(visible=False, fixedrange=True)
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
    figure = go.Figure(layout=_layout(320))
    edges = np.linspace(0, 1, bins + 1)
    for number, label in enumerate(classes):
        films, _ = np.histogram(score[truth == number], edges)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=films / max(films.sum(), 1),
            width=1 / bins,
            name=f"{label} ({films.sum():,} films)",
            marker={"color": class_colour(label, classes), "line": {"width": 0}},
            opacity=0.65,
            customdata=np.column_stack([films, edges[:-1], edges[1:]]),
            hovertemplate="%{customdata[0]:,} films, %{y:.1%} of the class, between "
            "%{customdata[1]:.0%} and %{customdata[2]:.0%}"
            f"<extra>{label}</extra>",
        )
    _mark_threshold(figure, threshold, [1, 0])
    figure.update_layout(
        barmode="overlay", yaxis2={"overlaying": "y", "range": [0, 1], "visible": False}
    )
    figure.update_xaxes(
        title="probability of any finding", range=[-0.01, 1.01], dtick=0.2, tickformat=".0%"
    )
    figure.update_yaxes(title="share of the class", tickformat=".0%", rangemode="tozero")
    return figure


def reliability(tables: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Draw observed frequency over forecast probability; on the diagonal a probability is true.

    Args:
        tables: Name ("Before temperature", "After") to the bins of
            ``evaluation.calibration.reliability``: columns ``low``, ``high``, ``forecast``,
            ``observed`` and ``n``. The last one is drawn strongest.
    """
    figure = go.Figure(layout=_layout(440))
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="Perfect",
        line={"color": _GUIDE, "width": 1, "dash": "dot"},
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
    _unit_square(figure, "forecast probability", "observed frequency")
    return figure


def gray_levels(pixels: np.ndarray) -> go.Figure:
    """Draw the histogram of a film's gray levels.

    Args:
        pixels: uint8 (height, width), 0 black to 255 white.
    """
    counts = np.bincount(np.asarray(pixels).ravel(), minlength=256)
    width = 4  # gray levels a bar
    shares = counts.reshape(-1, width).sum(axis=1) / counts.sum()
    levels = np.arange(0, 256, width)
    figure = go.Figure(layout=_layout(180, legend=False))
    figure.add_bar(
        x=levels + (width - 1) / 2,
        y=shares,
        width=width,
        name="Pixels",
        marker={"color": TRAIN_COLOUR, "line": {"width": 0}},
        customdata=np.column_stack([levels, levels + width - 1]),
        hovertemplate="%{y:.1%} of the pixels have gray levels %{customdata[0]} to %{customdata[1]}"
        "<extra></extra>",
    )
    figure.update_xaxes(title="gray level", range=[-0.5, 255.5], tickvals=[0, 64, 128, 192, 255])
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", nticks=4)
    return figure


def distribution(
    values: npt.ArrayLike, labels: Sequence[str], classes: Sequence[str], title: str
) -> go.Figure:
    """Draw how a measure of the films spreads within each class, as outlines over one another.

    Args:
        values: One number a film.
        labels: The films' classes.
        classes: All classes, the reference class first.
        title: What the number is, with its unit.
    """
    numbers, names = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=object)
    figure = go.Figure(layout=_layout(240))
    edges = np.histogram_bin_edges(numbers, bins=min(40, max(10, int(np.sqrt(len(numbers))))))
    for label in classes:
        films, _ = np.histogram(numbers[names == label], edges)
        figure.add_scatter(
            x=(edges[:-1] + edges[1:]) / 2,
            y=films / max(films.sum(), 1),
            mode="lines",
            name=label,
            line={"color": class_colour(label, classes), "width": 2, "shape": "hvh"},
            customdata=np.column_stack([films, edges[:-1], edges[1:]]),
            hovertemplate="%{customdata[0]:,} films, %{y:.1%} of the class, from "
            "%{customdata[1]:,.0f} to %{customdata[2]:,.0f}"
            f"<extra>{label}</extra>",
        )
    figure.update_xaxes(title=title)
    figure.update_yaxes(title="share of the class", tickformat=".0%", rangemode="tozero", nticks=5)
    return figure


def film(source: str, width: int, height: int) -> go.Figure:
    """Draw a film to be zoomed and moved about, at its own proportions.

    Args:
        source: The picture as a data URL.
        width: Of the film, px.
        height: The same.
    """
    figure = go.Figure(layout=_layout(560, legend=False))
    figure.add_layout_image(
        source=source, xref="x", yref="y", x=0, y=0, sizex=width, sizey=height, sizing="stretch"
    )
    figure.update_layout(margin={"l": 0, "r": 0, "t": 0, "b": 0}, dragmode="pan")
    figure.update_layout(plot_bgcolor="#000000")
    figure.update_xaxes(visible=False, range=[0, width], constrain="domain")
    figure.update_yaxes(
        visible=False, range=[height, 0], scaleanchor="x", constrain="domain", showgrid=False
    )
    return figure


def shortcuts(scores: Mapping[str, float]) -> go.Figure:
    """Draw how well each feature alone predicts the class, as points on the scale of chance to 1.

    Args:
        scores: Name of the feature to its AUROC, 0-1.
    """
    ordered = sorted(scores.items(), key=lambda item: item[1])
    names = [name.replace("_", " ") for name, _ in ordered]
    values = [value for _, value in ordered]
    figure = go.Figure(layout=_layout(80 + 30 * len(ordered), legend=False))
    figure.add_bar(
        x=[value - 0.5 for value in values],
        base=0.5,
        y=names,
        orientation="h",
        marker_color=TRAIN_COLOUR,
        text=[f"{value:.2f}" for value in values],
        textposition="outside",
        cliponaxis=False,
        customdata=values,
        hovertemplate="AUROC %{customdata:.3f}<extra>%{y}</extra>",
    )
    figure.update_layout(bargap=0.4)
    figure.update_xaxes(
        title="AUROC; 0.5 is chance",
        range=[min([0.48, *values]) - 0.08, 1.08],
        dtick=0.1,
        fixedrange=True,
    )
    figure.update_yaxes(showgrid=False, fixedrange=True, ticks="")
    return figure


def _layout(height: int, *, title: str = "", legend: bool = True) -> dict[str, Any]:
    """Return what all figures share: transparent, tight, legend on top, a fixed height."""
    axis = {"gridcolor": _GRID, "zeroline": False, "automargin": True}
    return {
        "height": height,
        "title": {"text": title, "x": 0, "xanchor": "left", "y": 0.99, "yanchor": "top"},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        # A row for the title, one for the legend; a legend that wraps makes its own room.
        "margin": {"l": 8, "r": 12, "t": 12 + 26 * bool(title) + 26 * legend, "b": 8},
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        # A redraw with new points leaves zoom and hidden traces as the reader set them.
        "uirevision": "kept",
        "hovermode": "closest",
        "xaxis": dict(axis),
        "yaxis": dict(axis),
    }


def _epoch_axis(figure: go.Figure) -> None:
    figure.update_xaxes(title="epoch", rangemode="tozero", nticks=9, tickformat="~g")


def _unit_square(figure: go.Figure, x: str, y: str) -> None:
    """Give both axes 0 to 100 % at one scale, with room for a line that runs along an end."""
    share = {"range": [-0.015, 1.015], "tickformat": ".0%", "dtick": 0.2, "showgrid": True}
    figure.update_xaxes(title=x, constrain="domain", constraintoward="left", **share)
    figure.update_yaxes(title=y, constrain="domain", scaleanchor="x", **share)


def _series(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the finite points of one metric by step, thinned for the wire."""
    points = table.loc[table["metric"] == metric, ["step", "value"]]
    points = points[np.isfinite(points["value"].to_numpy(dtype=np.float64))].sort_values("step")
    return points.iloc[_thin(len(points))]


def _thin(points: int) -> np.ndarray:
    """Return the indices to draw: all, or evenly spaced ones with both ends."""
    return np.linspace(0, points - 1, min(points, MOST_POINTS)).round().astype(int)


def _mark_best(
    figure: go.Figure, table: pd.DataFrame, validation: pd.DataFrame, monitor: str, number: str
) -> None:
    """Ring the validation point of the best epoch and name it, on whichever metric is drawn."""
    scores = _series(table, monitor)
    if not len(scores):
        return
    values = scores["value"].to_numpy()
    epoch = int(
        scores["step"].iloc[values.argmin() if monitor.endswith("loss") else values.argmax()]
    )
    point = validation[validation["step"] == epoch]
    figure.add_scatter(
        x=point["step"],
        y=point["value"],
        mode="markers",
        name=f"Best epoch {epoch}",
        marker={"size": 14, "symbol": "circle-open", "color": VALIDATION_COLOUR},
        marker_line_width=2,
        hovertemplate=f"%{{y{number}}} at the best epoch, {epoch}<extra></extra>",
    )


def _loss_range(*series: pd.DataFrame) -> list[float] | None:
    """Return a range from 0 that a few wild batches cannot stretch."""
    batches, *lines = series
    tops = [float(line["value"].max()) for line in lines if len(line)]
    if len(batches):
        tops.append(float(np.quantile(batches["value"], 0.98)))
    return [0, 1.08 * max(tops)] if tops and max(tops) > 0 else None


def _decades(rates: pd.Series) -> list[float] | None:
    """Return a log range with at least half a decade of room on either side."""
    if rates.empty:
        return None
    return [float(np.log10(rates.min()) - 0.5), float(np.log10(rates.max()) + 0.5)]


def _roc_points(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
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


def _mark_threshold(figure: go.Figure, threshold: float, span: list[float]) -> None:
    """Draw an upright mark at the threshold, on the second y axis, from one end to the other."""
    figure.add_scatter(
        x=[threshold, threshold],
        y=span,
        yaxis="y2",
        mode="lines+markers",
        name=f"Threshold {threshold:.1%}",
        line={"color": _MARK, "width": 2},
        marker={"symbol": ["triangle-down", "triangle-up"], "size": 9, "color": _MARK},
        cliponaxis=False,
        hovertemplate=f"threshold {threshold:.1%}<extra></extra>",
    )


def _reading_order(label: str) -> tuple[bool, str]:
    """Sort normal-like classes first, then by name."""
    return label not in _NORMAL_LIKE, label
