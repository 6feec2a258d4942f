"""Figures that set models or groups of films beside each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from cxr_core.figures.look import GUIDE, VALIDATION_COLOUR, chance_line, layout, unit_square
from cxr_core.figures.results import roc_points
from cxr_core.figures.thinning import thin
from cxr_core.figures.training import RUN_COLOURS


def rocs(
    labels: npt.ArrayLike,
    scores: Mapping[str, npt.ArrayLike],
    thresholds: Mapping[str, float],
) -> go.Figure:
    """Draw the ROC curves of several models on the same films, any finding against none.

    Args:
        labels: True class of each film, int, shape (n,); 0 is the reference class.
        scores: The abnormal probability, shape (n,), by the model's name.
        thresholds: Each model's own, 0-1, marked on its curve.
    """
    finding = np.asarray(labels) != 0
    figure = go.Figure(layout=layout(460))
    chance_line(figure)
    for place, (name, values) in enumerate(scores.items()):
        score = np.asarray(values, dtype=np.float64)
        alarms, found, cuts = roc_points(finding, score)
        if not len(cuts):
            continue
        colour = RUN_COLOURS[place % len(RUN_COLOURS)]
        kept = thin(len(cuts))
        figure.add_scatter(
            x=alarms[kept],
            y=found[kept],
            mode="lines",
            name=f"{name}: AUROC {np.trapezoid(found, alarms):.3f}",
            legendgroup=name,
            line={"color": colour, "width": 2.5, "dash": ("solid", "dash", "dot")[place % 3]},
            customdata=cuts[kept],
            hovertemplate="sensitivity %{y:.1%}, 1 − specificity %{x:.1%} from %{customdata:.1%} up"
            f"<extra>{name}</extra>",
        )
        called = score >= thresholds[name]
        figure.add_scatter(
            x=[called[~finding].mean()],
            y=[called[finding].mean()],
            mode="markers",
            showlegend=False,
            legendgroup=name,
            name=name,
            marker={"size": 11, "symbol": "circle-open", "color": colour},
            marker_line_width=3,
            hovertemplate="sensitivity %{y:.1%}, 1 − specificity %{x:.1%}"
            f"<extra>{name} at {thresholds[name]:.1%}</extra>",
        )
    unit_square(figure, "1 − specificity", "sensitivity")
    return figure


def by_group(
    rows: Sequence[Mapping[str, Any]], metric: str, title: str, whole: float | None
) -> go.Figure:
    """Draw a metric of each group of films with its 95 % interval.

    Args:
        rows: As `cxr_core.evaluation.subgroups.by_group` gives them; drawn from top to bottom.
        metric: Which of their metrics.
        title: Its name for people.
        whole: Its value on all films, marked by a line; None for no line.
    """
    drawn = [row for row in rows if row[metric] is not None]
    figure = go.Figure(layout=layout(90 + 34 * max(len(drawn), 1), legend=False))
    values = np.array([row[metric] for row in drawn], dtype=np.float64)
    bounds = [
        row["ci95"].get(metric) or (value, value) for row, value in zip(drawn, values, strict=True)
    ]
    low, high = np.array(bounds, dtype=np.float64).reshape(-1, 2).T
    figure.add_scatter(
        x=values,
        y=[f"{row['group']} (n = {row['n']:,})" for row in drawn],
        mode="markers",
        marker={"size": 9, "color": VALIDATION_COLOUR},
        error_x={
            "array": high - values,
            "arrayminus": values - low,
            "color": VALIDATION_COLOUR,
            "thickness": 1.5,
        },
        customdata=np.column_stack([low, high]),
        hovertemplate="%{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra>%{y}</extra>",
    )
    if whole is not None:
        figure.add_vline(x=whole, line={"color": GUIDE, "width": 1.5, "dash": "dot"})
    figure.update_xaxes(title=title)
    figure.update_yaxes(autorange="reversed", type="category", ticks="")
    return figure
