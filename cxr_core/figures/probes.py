"""Figures of what a network uses: how it holds under changes, and its maps at random weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from cxr_core.figures.look import GUIDE, SECOND_COLOUR, TRAIN_COLOUR, VALIDATION_COLOUR, layout

# Line style and marker tell them apart without colour.
_LINES = (
    ("auc", "AUROC", TRAIN_COLOUR, "solid", "diamond", ":.3f"),
    ("sensitivity", "sensitivity", VALIDATION_COLOUR, "dash", "circle", ":.1%"),
    ("specificity", "specificity", SECOND_COLOUR, "dot", "square", ":.1%"),
)
_HEIGHT = 260  # px


def sensitivity_curve(curve: Mapping[str, Any], title: str) -> go.Figure:
    """Draw AUROC, sensitivity and specificity against how far films are changed.

    Args:
        curve: ``x``, ``unit``, and a list each of ``auc``, ``sensitivity`` and ``specificity``,
            shares 0-1, None where undefined.
        title: What is changed.
    """
    figure = go.Figure(layout=layout(_HEIGHT))
    for key, name, colour, dash, symbol, number in _LINES:
        figure.add_scatter(
            x=curve["x"],
            y=curve[key],
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2, "dash": dash},
            marker={"symbol": symbol, "size": 7, "color": colour},
            cliponaxis=False,
            hovertemplate=f"%{{y{number}}} at %{{x}} {curve['unit']}<extra>{name}</extra>",
        )
    if min(curve["x"]) < 0:
        figure.add_vline(0, line={"color": GUIDE, "width": 1, "dash": "dot"})
    figure.update_xaxes(title=f"{title.lower()} ({curve['unit']})", tickvals=curve["x"])
    figure.update_yaxes(range=[-0.02, 1.02], dtick=0.2, tickformat=".1f")
    return figure


def cascade(layers: Sequence[str], likeness: Sequence[float]) -> go.Figure:
    """Draw how like heat maps stay to the trained network's while its weights become random.

    Args:
        layers: The lowest layer that is random, step by step; the last step has them all.
        likeness: SSIM at each step, -1 to 1.
    """
    steps = ["none", *layers]
    figure = go.Figure(layout=layout(_HEIGHT, legend=False))
    figure.add_scatter(
        x=list(range(len(steps))),
        y=[1.0, *likeness],
        mode="lines+markers",
        line={"color": VALIDATION_COLOUR, "width": 2},
        marker={"size": 7},
        customdata=steps,
        cliponaxis=False,
        hovertemplate="SSIM %{y:.2f}<extra>random down to %{customdata}</extra>",
    )
    figure.update_xaxes(
        title="random from the top down to", tickvals=list(range(len(steps))), ticktext=steps
    )
    figure.update_yaxes(title="likeness (SSIM)", range=[-0.12, 1.02], dtick=0.2, tickformat=".1f")
    return figure
