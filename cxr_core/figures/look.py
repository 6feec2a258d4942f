"""One look for a dark and a light page: colours, and what all figures share.

Backgrounds are transparent and text carries no colour of its own, so that the page's theme shows
through. Marks use mid-tones that stand out on near-black and on white alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

# Okabe and Ito 2008: told apart with any colour vision. A class keeps its colour on every page.
CLASS_COLOURS = {"NORMAL": "#56B4E9", "PNEUMONIA": "#E69F00", "TUBERCULOSIS": "#CC79A7"}
OTHER_COLOURS = ("#009E73", "#F0E442", "#0072B2", "#D55E00")

# Figures that are about no class: slate for what was trained on, teal for what is believed.
TRAIN_COLOUR = "#8597A8"
VALIDATION_COLOUR = "#18A39B"
SECOND_COLOUR = "#7F78D8"  # a second figure beside the believed one
MARK = "#808A94"  # the threshold: a gray as far from black as from white
GUIDE = "rgba(128, 138, 148, 0.75)"
LEGEND_HEIGHT = 26  # px, one row
GRID = "rgba(128, 138, 148, 0.20)"


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


def layout(
    height: int,
    *,
    title: str = "",
    legend: bool = True,
    x: Mapping[str, Any] | None = None,
    y: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what all figures share: transparent, tight, legend on top, a fixed height.

    Args:
        height: px.
        title: Above the figure.
        legend: Whether there is a row for it.
        x: What the axis has beside what all axes share.
        y: The same.
    """
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True}
    return {
        "height": height,
        "title": {"text": title, "x": 0, "xanchor": "left", "y": 0.99, "yanchor": "top"},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        # A row for the title, one for the legend; a legend that wraps makes its own room.
        "margin": {"l": 8, "r": 12, "t": 12 + 26 * bool(title) + LEGEND_HEIGHT * legend, "b": 8},
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        # A redraw with new points leaves zoom and hidden traces as the reader set them.
        "uirevision": "kept",
        "hovermode": "closest",
        "xaxis": {**axis, **(x or {})},
        "yaxis": {**axis, **(y or {})},
    }


def unit_square(figure: go.Figure, x: str, y: str) -> None:
    """Give both axes 0 to 100 % at one scale, with room for a line that runs along an end."""
    share = {"range": [-0.015, 1.015], "tickformat": ".0%", "dtick": 0.2, "showgrid": True}
    figure.update_xaxes(title=x, constrain="domain", constraintoward="left", **share)
    figure.update_yaxes(title=y, constrain="domain", scaleanchor="x", **share)


def mark_threshold(figure: go.Figure, threshold: float, span: list[float]) -> None:
    """Draw an upright mark at the threshold, on the second y axis, from one end to the other."""
    figure.add_scatter(
        x=[threshold, threshold],
        y=span,
        yaxis="y2",
        mode="lines+markers",
        name=f"Threshold {100 * threshold:.1f} %",
        line={"color": MARK, "width": 2},
        marker={"symbol": ["triangle-down", "triangle-up"], "size": 9, "color": MARK},
        cliponaxis=False,
        hovertemplate=f"threshold {100 * threshold:.1f} %<extra></extra>",
    )


def chance_line(figure: go.Figure, left: float = 0.0, right: float = 1.0) -> None:
    """Draw what guessing gives: the diagonal of a ROC curve, unless other heights are given.

    Args:
        figure: with shares on both axes.
        left: height at 0, as a share.
        right: height at 1.
    """
    figure.add_scatter(
        x=[0, 1],
        y=[left, right],
        mode="lines",
        line={"color": GUIDE, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
        name="Chance",
    )
