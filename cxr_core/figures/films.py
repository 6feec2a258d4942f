"""Figures of a data set and of single films: balance, spreads, gray levels."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from cxr_core.figures.look import TRAIN_COLOUR, class_colour, layout

_PARTS = {"train": "Train", "val": "Validation", "test": "Test", "": "No part yet"}
_NORMAL_LIKE = ("NORMAL", "NEGATIVE", "NO_FINDING", "NO FINDING", "HEALTHY")


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
    figure = go.Figure(layout=layout(320, legend=len(labels) > 1))
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


def gray_levels(pixels: np.ndarray) -> go.Figure:
    """Draw the histogram of a film's gray levels.

    Args:
        pixels: uint8 (height, width), 0 black to 255 white.
    """
    counts = np.bincount(np.asarray(pixels).ravel(), minlength=256)
    width = 4  # gray levels a bar
    shares = counts.reshape(-1, width).sum(axis=1) / counts.sum()
    levels = np.arange(0, 256, width)
    figure = go.Figure(layout=layout(180, legend=False))
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
    figure = go.Figure(layout=layout(240))
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
    figure = go.Figure(layout=layout(560, legend=False))
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
    figure = go.Figure(layout=layout(80 + 30 * len(ordered), legend=False))
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


def _reading_order(label: str) -> tuple[bool, str]:
    """Sort normal-like classes first, then by name."""
    return label not in _NORMAL_LIKE, label
