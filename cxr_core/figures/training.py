"""Figures of a training run: curves over the epochs, alone or beside other runs, and the machine.

Training and validation differ by line style, never by colour alone. Alone, a run has slate for what
was trained on and teal for what is believed; beside others, each run has a colour and a marker.

A live page draws these every two seconds, so each figure is built in one go: Plotly takes several
times as long to add traces and change axes one by one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cxr_core.figures.lines import NOTHING, Line, Lines, best_epoch
from cxr_core.figures.look import (
    LEGEND_HEIGHT,
    MARK,
    SECOND_COLOUR,
    TRAIN_COLOUR,
    VALIDATION_COLOUR,
    layout,
)
from cxr_core.figures.thinning import envelope, thin

# One a run, in the order of the runs: mid-tones that stand out on dark and light, and a shape each.
RUN_COLOURS = ("#18A39B", "#7F78D8", "#A8842C", "#B9608A", "#6F9A3E")
RUN_MARKERS = ("circle", "square", "diamond", "triangle-up", "x")

Runs = Mapping[str, Lines]  # other runs by name
Trace = dict[str, Any]

_HEIGHT = 290  # px
_SMALL = 190  # px
_TITLES = {"loss": "Loss", "accuracy": "Accuracy", "auroc": "AUROC"}
_MARKERS = 16  # a line over the epochs
_KEPT = 0.9  # share of the running mean that stays at each batch point when curves are smoothed


def curves(
    lines: Lines,
    steps_per_epoch: int,
    metric: str,
    monitor: str = "val_loss",
    *,
    smooth: bool = False,
    log: bool = False,
    others: Runs | None = None,
    end: int | None = None,
) -> go.Figure:
    """Draw one metric over the epochs: batch points, training line, validation line.

    Args:
        lines: The run's. The metrics ``train_<metric>`` and ``val_<metric>`` count steps in epochs
            from 1, ``batch_<metric>`` in batches from 1.
        steps_per_epoch: Batches an epoch has.
        metric: "loss", "accuracy" or "auroc".
        monitor: The metric that decides the best epoch: lowest for a loss, else highest.
        smooth: Whether the batch points get a running mean over them.
        log: Whether the axis of a loss is logarithmic.
        others: Lines of other runs by name, drawn without their batch points.
        end: The last epoch of the axis; by default the data's.
    """
    number = ":.1%" if metric == "accuracy" else ":.3f"
    batches = lines.get(f"batch_{metric}", NOTHING)
    traces = _batches(batches, max(steps_per_epoch, 1), number, smooth)
    drawn = []
    for name, place, run in _numbered(lines, others):
        train, validation = (run.get(f"{part}_{metric}", NOTHING) for part in ("train", "val"))
        drawn += [train, validation]
        dark, believed = _colours(place, others)
        traces += _epochs(train, _titled(name, "train"), dark, "solid", number)
        traces += _epochs(
            validation, _titled(name, "validation"), believed, "dash", number, RUN_MARKERS[place]
        )
    traces += _ring(lines, monitor, [f"val_{metric}"], number)
    if metric == "loss":
        axis = _loss_axis(batches, drawn, log)
    else:
        axis = {
            "tickformat": ".0%" if metric == "accuracy" else ".3~f",
            "autorangeoptions": {"clipmin": 0, "clipmax": 1.02},
        }
    return _figure(traces, _TITLES.get(metric, metric), axis, end, legend=not others)


def detection(
    lines: Lines,
    monitor: str = "val_loss",
    *,
    others: Runs | None = None,
    end: int | None = None,
) -> go.Figure:
    """Draw sensitivity and specificity on the validation films over the epochs.

    Args:
        lines: The run's; reads ``val_sensitivity`` and ``val_specificity``.
        monitor: The metric that decides the best epoch.
        others: Lines of other runs by name.
        end: The last epoch of the axis; by default the data's.
    """
    traces: list[Trace] = []
    for name, place, run in _numbered(lines, others):
        for metric, title, dash, colour, marker in (
            ("val_sensitivity", "sensitivity", "dash", VALIDATION_COLOUR, "circle"),
            ("val_specificity", "specificity", "dot", SECOND_COLOUR, "square"),
        ):
            traces += _epochs(
                run.get(metric, NOTHING),
                _titled(name, title),
                RUN_COLOURS[place] if others else colour,
                dash,
                ":.1%",
                RUN_MARKERS[place] if others else marker,
            )
    traces += _ring(lines, monitor, ["val_sensitivity", "val_specificity"], ":.1%")
    axis = {"range": [-0.02, 1.02], "tickformat": ".0%", "dtick": 0.2}
    return _figure(traces, "Sensitivity and specificity", axis, end, legend=not others)


def learning_rate(lines: Lines, *, others: Runs | None = None, end: int | None = None) -> go.Figure:
    """Draw the learning rate over the epochs, on a log axis of at least one decade.

    Args:
        lines: The run's; reads ``learning_rate``.
        others: Lines of other runs by name.
        end: The last epoch of the axis; by default the data's.
    """
    traces: list[Trace] = []
    drawn = []
    for name, place, run in _numbered(lines, others):
        rates = run.get("learning_rate", NOTHING)
        rates = rates.at(rates.values > 0)
        drawn.append(rates.values)
        dark, _ = _colours(place, others)
        traces += _epochs(
            rates, name or "Learning rate", dark, "solid", ":.2e", RUN_MARKERS[place], shape="hv"
        )
    all_rates = np.concatenate(drawn)
    span = None
    if len(all_rates):  # at least half a decade of room on either side
        span = [np.log10(all_rates.min()) - 0.5, np.log10(all_rates.max()) + 0.5]
    axis = {
        "type": "log",
        "range": span,
        "dtick": 1,
        "exponentformat": "power",
        "minor": {"dtick": "D1"},
    }
    return _figure(traces, "Learning rate", axis, end, legend=False)


def pace(lines: Lines, *, others: Runs | None = None, end: int | None = None) -> go.Figure:
    """Draw how many films a second each epoch trained on.

    Args:
        lines: The run's; reads ``images_per_second``.
        others: Lines of other runs by name.
        end: The last epoch of the axis; by default the data's.
    """
    traces: list[Trace] = []
    for name, place, run in _numbered(lines, others):
        dark, _ = _colours(place, others)
        traces += _epochs(
            run.get("images_per_second", NOTHING),
            name or "Films a second",
            dark,
            "solid",
            ":.0f",
            RUN_MARKERS[place],
        )
    axis = {"rangemode": "tozero", "tickformat": "~g"}
    return _figure(traces, "Films a second", axis, end, legend=False)


def machine(
    lines: Lines, named: Mapping[str, str], title: str, unit: str, most: float | None = None
) -> go.Figure:
    """Draw what the machine did over the minutes of a run.

    Args:
        lines: The run's, with those of the machine; the first point of any is minute 0.
        named: Metric to the line's name.
        title: What is drawn, above the figure.
        unit: Of the values.
        most: Where the axis ends; by default at the highest value.
    """
    start = min((line.times[0] for line in lines.values() if len(line)), default=0.0)
    traces = []
    for place, (metric, name) in enumerate(named.items()):
        line = lines.get(metric, NOTHING)
        line = line.at(thin(len(line)))
        traces.append(
            {
                "type": "scatter",
                "x": (line.times - start) / 60,
                "y": line.values,
                "mode": "lines" if len(line) > 1 else "markers",
                "name": name,
                "line": {"color": RUN_COLOURS[place % len(RUN_COLOURS)], "width": 2},
                "hovertemplate": f"%{{y:,.0f}} {unit} after %{{x:.1f}} min<extra>{name}</extra>",
            }
        )
    legend = len(named) > 1
    return go.Figure(
        {
            "data": traces,
            "layout": layout(
                _SMALL + LEGEND_HEIGHT * legend,
                title=title,
                legend=legend,
                x={"title": {"text": "minutes"}, "rangemode": "tozero", "nticks": 7},
                y={
                    "range": None if most is None else [0, 1.04 * most],
                    "rangemode": "tozero",
                    "nticks": 5,
                    "ticksuffix": f" {unit}",
                },
            ),
        }
    )


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


def _figure(
    traces: Sequence[Trace], title: str, axis: dict[str, Any], end: int | None, *, legend: bool
) -> go.Figure:
    """Return traces over the epochs. Beside other runs the page holds one legend for all charts."""
    few = end is not None and end <= 10
    across = {
        "title": {"text": "epoch"},
        "rangemode": "tozero",
        "nticks": 9,
        "tickformat": "~g",
        "range": None if end is None else [0, 1.02 * end],
        "dtick": 1 if few else None,
    }
    drawn = any(len(trace["x"]) for trace in traces)
    axis = axis if drawn else {**axis, "showticklabels": False, "showgrid": False}
    look = layout(_HEIGHT, title=title, legend=legend, x=across, y=axis)
    if not drawn:
        middle = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
        look["annotations"] = [{"text": "no points yet", "font": {"color": MARK}, **middle}]
    return go.Figure({"data": traces, "layout": look})


def _numbered(lines: Lines, others: Runs | None) -> Iterable[tuple[str, int, Lines]]:
    """Return name, place and lines of the run at hand and the others; those lie under it."""
    named = [(name, place, run) for place, (name, run) in enumerate((others or {}).items(), 1)]
    return [*reversed(named), ("This run" if others else "", 0, lines)]


def _titled(run: str, what: str) -> str:
    """Return a line's name: "Train", or "the run, train" beside other runs."""
    return f"{run}, {what}" if run else what.capitalize()


def _colours(place: int, others: Runs | None) -> tuple[str, str]:
    """Return a run's colours for what was trained on and for what is believed."""
    if others:
        return RUN_COLOURS[place], RUN_COLOURS[place]
    return TRAIN_COLOUR, VALIDATION_COLOUR


def _batches(batches: Line, steps: int, number: str, smooth: bool) -> list[Trace]:
    if not len(batches):
        return []
    points = batches.at(envelope(batches.values))
    traces: list[Trace] = [
        {
            "type": "scatter",
            "x": points.steps / steps,
            "y": points.values,
            "mode": "markers",
            "name": "Batch",
            "marker": {"size": 4, "color": TRAIN_COLOUR, "opacity": 0.18 if smooth else 0.4},
            "showlegend": not smooth,
            "customdata": points.steps,
            "hovertemplate": f"%{{y{number}}} at batch %{{customdata:,}}<extra>Batch</extra>",
        }
    ]
    if smooth:
        kept = thin(len(batches))
        mean = pd.Series(batches.values).ewm(alpha=1 - _KEPT).mean().to_numpy()
        traces.append(
            {
                "type": "scatter",
                "x": batches.steps[kept] / steps,
                "y": mean[kept],
                "mode": "lines",
                "name": "Smoothed",
                "line": {"color": TRAIN_COLOUR, "width": 1.5},
                "customdata": batches.steps[kept],
                "hovertemplate": f"%{{y{number}}} at batch %{{customdata:,}}"
                "<extra>Smoothed</extra>",
            }
        )
    return traces


def _epochs(
    line: Line,
    name: str,
    colour: str,
    dash: str,
    number: str,
    marker: str = "",
    shape: str = "linear",
) -> list[Trace]:
    """Draw a line over the epochs; a lone point gets a marker, or nothing would be seen."""
    if not len(line):
        return []
    line = line.at(thin(len(line)))
    return [
        {
            "type": "scatter",
            "x": line.steps,
            "y": line.values,
            "mode": "lines+markers" if marker or len(line) == 1 else "lines",
            "name": name,
            "line": {"color": colour, "width": 2.5, "dash": dash, "shape": shape},
            "marker": {
                "size": 6,
                "color": colour,
                "symbol": marker or "circle",
                "maxdisplayed": _MARKERS,  # else they hide the line's style
            },
            "hovertemplate": f"%{{y{number}}} at epoch %{{x}}<extra>{name}</extra>",
        }
    ]


def _ring(lines: Lines, monitor: str, metrics: Sequence[str], number: str) -> list[Trace]:
    """Ring the points of the best epoch and name it, on whichever metrics are drawn."""
    epoch = best_epoch(lines, monitor)
    found = [lines.get(metric, NOTHING) for metric in metrics]
    values = np.concatenate([line.values[line.steps == epoch] for line in found])
    if epoch is None or not len(values):
        return []
    return [
        {
            "type": "scatter",
            "x": np.full(len(values), epoch),
            "y": values,
            "mode": "markers",
            "name": f"Best epoch {epoch}",
            "marker": {
                "size": 14,
                "symbol": "circle-open",
                "color": VALIDATION_COLOUR,
                "line": {"width": 2},
            },
            "cliponaxis": False,
            "hovertemplate": f"%{{y{number}}} at the best epoch, {epoch}<extra></extra>",
        }
    ]


def _loss_axis(batches: Line, lines: Sequence[Line], log: bool) -> dict[str, Any]:
    """Return an axis that a few wild batches cannot stretch."""
    tops = [line.values.max() for line in lines if len(line)]
    lows = [line.values.min() for line in lines if len(line)]
    if len(batches):
        low, top = np.quantile(batches.values, [0.02, 0.98])
        tops.append(top)
        lows.append(low)
    span = None
    if tops and max(tops) > 0:
        span = [0, 1.08 * max(tops)]
        if log:
            low = max(min(lows), 1e-6 * max(tops))
            span = [np.log10(low) - 0.05, np.log10(max(tops)) + 0.05]
    kind = "log" if log else "linear"
    # A zoom made on one scale means nothing on the other.
    return {"type": kind, "range": span, "tickformat": ".3~g", "uirevision": kind}
