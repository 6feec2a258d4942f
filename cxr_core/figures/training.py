"""Figures of a training run: curves over the epochs, alone or beside other runs, and the machine.

Training and validation differ by line style, never by colour alone. Alone, a run has slate for what
was trained on and teal for what is believed; beside others, each run has a colour and a marker.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cxr_core.figures.look import (
    LEGEND_HEIGHT,
    SECOND_COLOUR,
    TRAIN_COLOUR,
    VALIDATION_COLOUR,
    layout,
)
from cxr_core.figures.thinning import envelope, thin

# One a run, in the order of the runs: mid-tones that stand out on dark and light, and a shape each.
RUN_COLOURS = ("#18A39B", "#7F78D8", "#A8842C", "#B9608A", "#6F9A3E")
RUN_MARKERS = ("circle", "square", "diamond", "triangle-up", "x")

Tables = Mapping[str, pd.DataFrame]

_HEIGHT = 290  # px
_SMALL = 190  # px
_TITLES = {"loss": "Loss", "accuracy": "Accuracy", "auroc": "AUROC"}
_KEPT = 0.9  # share of the running mean that stays at each batch point when curves are smoothed
_SHARES = {"range": [-0.02, 1.02], "tickformat": ".0%", "dtick": 0.2}


def curves(
    table: pd.DataFrame,
    steps_per_epoch: int,
    metric: str,
    monitor: str = "val_loss",
    *,
    smooth: bool = False,
    log: bool = False,
    others: Tables | None = None,
) -> go.Figure:
    """Draw one metric over the epochs: batch points, training line, validation line.

    Args:
        table: Columns ``metric``, ``step``, ``value``. The metrics ``train_<metric>`` and
            ``val_<metric>`` count steps in epochs from 1, ``batch_<metric>`` in batches from 1.
        steps_per_epoch: Batches an epoch has.
        metric: "loss", "accuracy" or "auroc".
        monitor: The metric that decides the best epoch: lowest for a loss, else highest.
        smooth: Whether the batch points get a running mean over them.
        log: Whether the axis of a loss is logarithmic.
        others: Tables of other runs by name, drawn without their batch points.
    """
    figure = _empty(_TITLES.get(metric, metric), others)
    number = ":.1%" if metric == "accuracy" else ":.3f"
    batches = series(table, f"batch_{metric}")
    train, validation = series(table, f"train_{metric}"), series(table, f"val_{metric}")
    drawn = [train, validation]
    if len(batches):
        _batches(figure, batches, max(steps_per_epoch, 1), number, smooth)
    if others:
        for name, place, runs in _numbered(table, others):
            lines = [series(runs, f"train_{metric}"), series(runs, f"val_{metric}")]
            drawn += lines
            _line(figure, lines[0], f"{name}, train", RUN_COLOURS[place], "solid", number)
            _line(
                figure,
                lines[1],
                f"{name}, validation",
                RUN_COLOURS[place],
                "dash",
                number,
                RUN_MARKERS[place],
            )
    else:
        _line(figure, train, "Train", TRAIN_COLOUR, "solid", number)
        _line(figure, validation, "Validation", VALIDATION_COLOUR, "dash", number, "circle")
    _mark_best(figure, best_epoch(table, monitor), [validation], number)
    _epoch_axis(figure)
    if metric == "loss":
        _loss_axis(figure, batches, drawn, log)
    else:
        figure.update_yaxes(
            tickformat=".0%" if metric == "accuracy" else ".3~f",
            autorangeoptions={"clipmin": 0, "clipmax": 1.02},
        )
    return figure


def detection(
    table: pd.DataFrame, monitor: str = "val_loss", *, others: Tables | None = None
) -> go.Figure:
    """Draw sensitivity and specificity on the validation films over the epochs.

    Args:
        table: As :func:`curves` takes it; reads ``val_sensitivity`` and ``val_specificity``.
        monitor: The metric that decides the best epoch.
        others: Tables of other runs by name.
    """
    figure = _empty("Sensitivity and specificity", others)
    found, spared = series(table, "val_sensitivity"), series(table, "val_specificity")
    if others:
        for name, place, run in _numbered(table, others):
            for metric, title, dash in (
                ("val_sensitivity", "sensitivity", "dash"),
                ("val_specificity", "specificity", "dot"),
            ):
                _line(
                    figure,
                    series(run, metric),
                    f"{name}, {title}",
                    RUN_COLOURS[place],
                    dash,
                    ":.1%",
                    RUN_MARKERS[place],
                )
    else:
        _line(figure, found, "Sensitivity", VALIDATION_COLOUR, "dash", ":.1%", "circle")
        _line(figure, spared, "Specificity", SECOND_COLOUR, "dot", ":.1%", "square")
    _mark_best(figure, best_epoch(table, monitor), [found, spared], ":.1%")
    _epoch_axis(figure)
    figure.update_yaxes(**_SHARES)
    return figure


def learning_rate(table: pd.DataFrame, *, others: Tables | None = None) -> go.Figure:
    """Draw the learning rate over the epochs, on a log axis of at least one decade.

    Args:
        table: Columns ``metric``, ``step`` (epoch), ``value``; reads ``learning_rate``.
        others: Tables of other runs by name.
    """
    figure = _empty("Learning rate", others, legend=False)
    drawn = []
    for name, place, run in _numbered(table, others or {}):
        rates = series(run, "learning_rate")
        rates = rates[rates["value"] > 0]
        drawn.append(rates["value"])
        figure.add_scatter(
            x=rates["step"],
            y=rates["value"],
            mode="lines+markers",
            name=name or "Learning rate",
            line={
                "color": RUN_COLOURS[place] if others else TRAIN_COLOUR,
                "width": 2.5,
                "shape": "hv",
            },
            marker={"size": 5, "symbol": RUN_MARKERS[place]},
            hovertemplate=f"%{{y:.2e}} at epoch %{{x}}<extra>{name}</extra>",
        )
    _epoch_axis(figure)
    figure.update_yaxes(
        type="log",
        range=_decades(pd.concat(drawn)),
        dtick=1,
        exponentformat="power",
        minor_dtick="D1",
    )
    return figure


def pace(table: pd.DataFrame, *, others: Tables | None = None) -> go.Figure:
    """Draw how many films a second each epoch trained on.

    Args:
        table: As :func:`curves` takes it; reads ``images_per_second``.
        others: Tables of other runs by name.
    """
    figure = _empty("Films a second", others, legend=False)
    for name, place, run in _numbered(table, others or {}):
        _line(
            figure,
            series(run, "images_per_second"),
            name,
            RUN_COLOURS[place] if others else TRAIN_COLOUR,
            "solid",
            ":.0f",
            RUN_MARKERS[place],
        )
    _epoch_axis(figure)
    figure.update_yaxes(rangemode="tozero", tickformat="~g")
    return figure


def machine(
    table: pd.DataFrame, lines: Mapping[str, str], title: str, unit: str, most: float | None = None
) -> go.Figure:
    """Draw what the machine did over the minutes of a run.

    Args:
        table: Columns ``metric``, ``value`` and ``time`` (seconds since 1970).
        lines: Metric to the line's name; those without a point are left out.
        title: What is drawn, above the figure.
        unit: Of the values, for the hover text.
        most: Where the axis ends; by default at the highest value.
    """
    named = len(lines) > 1
    height = _SMALL + LEGEND_HEIGHT * named
    figure = go.Figure(layout=layout(height, title=title, legend=named))
    start = table["time"].min() if len(table) else 0.0
    for place, (metric, name) in enumerate(lines.items()):
        points = table[(table["metric"] == metric) & table["value"].notna()].sort_values("time")
        points = points.iloc[thin(len(points))]
        figure.add_scatter(
            x=(points["time"] - start) / 60,
            y=points["value"],
            mode="lines" if len(points) > 1 else "markers",
            name=name,
            line={"color": RUN_COLOURS[place % len(RUN_COLOURS)], "width": 2},
            hovertemplate=f"%{{y:,.0f}} {unit} after %{{x:.1f}} min<extra>{name}</extra>",
        )
    figure.update_xaxes(title="minutes", rangemode="tozero", nticks=7)
    figure.update_yaxes(
        range=None if most is None else [0, 1.04 * most],
        rangemode="tozero",
        nticks=5,
        ticksuffix=f" {unit}",
    )
    return figure


def sparkline(values: Sequence[float], name: str = "Validation AUROC") -> go.Figure:
    """Draw a word-sized curve without axes, its last point marked.

    Args:
        values: One value an epoch.
        name: What the values are, for the hover text.
    """
    line = np.asarray(values, dtype=np.float64)
    epochs = np.arange(1, len(line) + 1)
    kept = thin(len(line))
    figure = go.Figure(layout=layout(56, legend=False))
    figure.add_scatter(
        x=epochs[kept],
        y=line[kept],
        mode="lines",
        name=name,
        line={"color": VALIDATION_COLOUR, "width": 2},
        hovertemplate=f"{name} %{{y:.3f}} at epoch %{{x}}<extra></extra>",
    )
    figure.add_scatter(
        x=epochs[-1:],
        y=line[-1:],
        mode="markers",
        marker={"color": VALIDATION_COLOUR, "size": 6},
        hoverinfo="skip",
        cliponaxis=False,
    )
    figure.update_layout(margin={"l": 4, "r": 8, "t": 6, "b": 6})
    figure.update_xaxes(visible=False, fixedrange=True)
    figure.update_yaxes(visible=False, fixedrange=True)
    return figure


def series(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the finite points of one metric by step: columns ``step`` and ``value``."""
    points = table.loc[table["metric"] == metric, ["step", "value"]]
    return points[np.isfinite(points["value"].to_numpy(dtype=np.float64))].sort_values("step")


def best_epoch(table: pd.DataFrame, monitor: str) -> int | None:
    """Return the epoch whose monitored figure is the best so far, the first of equals.

    Args:
        table: As :func:`curves` takes it.
        monitor: The metric: lowest for a loss, else highest.
    """
    scores = series(table, monitor)
    if not len(scores):
        return None
    values = scores["value"].to_numpy()
    place = values.argmin() if monitor.endswith("loss") else values.argmax()
    return int(scores["step"].iloc[place])


def _empty(title: str, others: Tables | None, *, legend: bool = True) -> go.Figure:
    """Return a figure to draw into; beside other runs the page holds one legend for all charts."""
    return go.Figure(layout=layout(_HEIGHT, title=title, legend=legend and not others))


def _numbered(table: pd.DataFrame, others: Tables) -> list[tuple[str, int, pd.DataFrame]]:
    """Return name, place and table of the run at hand and the others; those lie under it."""
    named = [(name, place, run) for place, (name, run) in enumerate(others.items(), start=1)]
    return [*reversed(named), ("This run" if others else "", 0, table)]


def _batches(
    figure: go.Figure, batches: pd.DataFrame, steps: int, number: str, smooth: bool
) -> None:
    values = batches["value"].to_numpy()
    kept = envelope(values)
    at = batches["step"].to_numpy()
    figure.add_scatter(
        x=at[kept] / steps,
        y=values[kept],
        mode="markers",
        name="Batch",
        marker={"size": 4, "color": TRAIN_COLOUR, "opacity": 0.18 if smooth else 0.4},
        showlegend=not smooth,
        customdata=at[kept],
        hovertemplate=f"%{{y{number}}} at batch %{{customdata:,}}<extra>Batch</extra>",
    )
    if smooth:
        mean = batches["value"].ewm(alpha=1 - _KEPT).mean().to_numpy()
        kept = thin(len(mean))
        figure.add_scatter(
            x=at[kept] / steps,
            y=mean[kept],
            mode="lines",
            name="Batch, smoothed",
            line={"color": TRAIN_COLOUR, "width": 1.5},
            customdata=at[kept],
            hovertemplate=f"%{{y{number}}} at batch %{{customdata:,}}<extra>Smoothed</extra>",
        )


def _line(
    figure: go.Figure,
    points: pd.DataFrame,
    name: str,
    colour: str,
    dash: str,
    number: str,
    marker: str = "",
) -> None:
    """Draw one figure over the epochs; a lone point gets a marker, or nothing would be seen."""
    if not len(points):
        return
    points = points.iloc[thin(len(points))]
    figure.add_scatter(
        x=points["step"],
        y=points["value"],
        mode="lines+markers" if marker or len(points) == 1 else "lines",
        name=name,
        line={"color": colour, "width": 2.5, "dash": dash},
        marker={"size": 6, "color": colour, "symbol": marker or "circle"},
        hovertemplate=f"%{{y{number}}} at epoch %{{x}}<extra>{name}</extra>",
    )


def _mark_best(
    figure: go.Figure, epoch: int | None, lines: Sequence[pd.DataFrame], number: str
) -> None:
    """Ring the points of the best epoch and name it, on whichever metric is drawn."""
    points = pd.concat([line[line["step"] == epoch] for line in lines])
    if epoch is None or not len(points):
        return
    figure.add_scatter(
        x=points["step"],
        y=points["value"],
        mode="markers",
        name=f"Best epoch {epoch}",
        marker={"size": 14, "symbol": "circle-open", "color": VALIDATION_COLOUR},
        marker_line_width=2,
        hovertemplate=f"%{{y{number}}} at the best epoch, {epoch}<extra></extra>",
    )


def _epoch_axis(figure: go.Figure) -> None:
    figure.update_xaxes(title="epoch", rangemode="tozero", nticks=9, tickformat="~g")


def _loss_axis(
    figure: go.Figure, batches: pd.DataFrame, lines: Sequence[pd.DataFrame], log: bool
) -> None:
    """Range the axis so that a few wild batches cannot stretch it."""
    tops = [float(line["value"].max()) for line in lines if len(line)]
    lows = [float(line["value"].min()) for line in lines if len(line)]
    if len(batches):
        tops.append(float(np.quantile(batches["value"], 0.98)))
        lows.append(float(np.quantile(batches["value"], 0.02)))
    span = None
    if tops and max(tops) > 0:
        span = [0.0, 1.08 * max(tops)]
        if log:
            low = max(min(lows), 1e-6 * max(tops))
            span = [float(np.log10(low)) - 0.05, float(np.log10(max(tops))) + 0.05]
    # A zoom made on one scale means nothing on the other.
    figure.update_yaxes(
        type="log" if log else "linear",
        range=span,
        tickformat=".3~g",
        uirevision="log" if log else "linear",
    )


def _decades(rates: pd.Series) -> list[float] | None:
    """Return a log range with at least half a decade of room on either side."""
    if rates.empty:
        return None
    return [float(np.log10(rates.min()) - 0.5), float(np.log10(rates.max()) + 0.5)]
