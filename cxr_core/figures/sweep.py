"""Figures of a sweep: how it got on, what trials cost, which settings go together, what matters.

Trials are told apart by shape as well as by colour: the default settings are a diamond, the best a
star, one that was ended early a cross.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cxr_core.figures.look import GUIDE, MARK, SECOND_COLOUR, VALIDATION_COLOUR, layout

_HEIGHT = 300  # px
_ROW = 30  # px a bar
_TICKS = 5  # of an axis of numbers
_FEW = 4  # different numbers that each have a tick
_LONGEST = 18  # characters of a word on an axis
_KINDS = {  # marker, colour, size
    "Trial": ("circle", VALIDATION_COLOUR, 8),
    "Ended early": ("x", MARK, 7),
    "Default settings": ("diamond", SECOND_COLOUR, 12),
    "Best": ("star", "#E69F00", 15),
}
_SCALE = ((0.0, "#7F78D8"), (0.5, "#3E9BCF"), (1.0, "#E69F00"))  # from the worst to the best


@dataclass(frozen=True)
class Tried:
    """A trial as figures see it."""

    number: int  # from 1
    value: float  # the figure that the sweep goes by
    settings: str = ""  # what was tried, in words
    pruned: bool = False  # True where it was ended early
    default: bool = False  # True for the settings the sweep began from
    best: bool = False
    cost: float | None = None  # in the unit of the figure's axis

    @property
    def kind(self) -> str:
        """What its marker is called in the legend."""
        if self.best:
            return "Best"
        if self.default:
            return "Default settings"
        return "Ended early" if self.pruned else "Trial"


@dataclass(frozen=True)
class Axis:
    """One setting, or the figure, over the trials."""

    title: str
    values: Sequence[float | str | bool]  # one a trial
    log: bool = False


def sweep_history(tried: Sequence[Tried], title: str, *, maximised: bool = True) -> go.Figure:
    """Draw each trial's figure in the order of the trials, and the best so far.

    Args:
        tried: the trials that have a figure, by number.
        title: what the figure is.
        maximised: whether a higher one is better.
    """
    every = -(-max((each.number for each in tried), default=1) // 12)  # trials from tick to tick
    figure = go.Figure(
        layout=layout(
            _HEIGHT,
            x={"title": {"text": "trial"}, "tickformat": "d", "tick0": 1, "dtick": every},
            y={"title": {"text": title}},
        )
    )
    whole = [each for each in tried if not each.pruned]
    if whole:
        running = np.maximum if maximised else np.minimum
        last = tried[-1].number
        figure.add_scatter(
            x=[*(each.number for each in whole), last],
            y=[*(best := running.accumulate([each.value for each in whole])), best[-1]],
            mode="lines",
            name="Best so far",
            line={"color": GUIDE, "width": 2, "shape": "hv"},
            hoverinfo="skip",
        )
    for name, members in _by_kind(tried):
        _markers(figure, name, members, [each.number for each in members], "")
    return figure


def sweep_front(
    tried: Sequence[Tried], front: Sequence[int], title: str, cost: str, *, log: bool = False
) -> go.Figure:
    """Draw each complete trial's figure against its cost, and the front that none beats in both.

    Args:
        tried: the trials that have a figure; those without a cost are left out.
        front: the numbers of those on the front, the cheapest first.
        title: what the figure is.
        cost: what the cost is, with its unit.
        log: whether the cost's axis is logarithmic.
    """
    figure = go.Figure(
        layout=layout(
            _HEIGHT,
            x={
                "title": {"text": cost},
                "type": "log" if log else "linear",
                "tickformat": "~s" if log else "~g",
            },
            y={"title": {"text": title}},
        )
    )
    shown = [each for each in tried if each.cost is not None and not each.pruned]
    by_number = {each.number: each for each in shown}
    line = [by_number[number] for number in front if number in by_number]
    figure.add_scatter(
        x=[each.cost for each in line],
        y=[each.value for each in line],
        mode="lines",
        name="Front",
        line={"color": GUIDE, "width": 2, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
    )
    for name, members in _by_kind(shown):
        _markers(figure, name, members, [each.cost for each in members], "<br>%{x:.4~g} " + cost)
    return figure


def sweep_parallel(axes: Sequence[Axis], outcome: Axis, *, maximised: bool = True) -> go.Figure:
    """Draw a line a trial through its settings to its figure, coloured by its rank.

    Args:
        axes: the settings.
        outcome: the figure that the sweep goes by, one value a trial.
        maximised: whether a higher one is better.
    """
    values = np.asarray(outcome.values, dtype=np.float64)
    # By its value, one that is far off would leave the others one colour.
    rank = np.unique(values if maximised else -values, return_inverse=True)[1]
    figure = go.Figure(layout=layout(360, legend=False))
    figure.add_parcoords(
        dimensions=[_dimension(axis) for axis in [*axes, outcome]],
        line={
            "color": rank,
            "colorscale": [list(stop) for stop in _SCALE],
            "showscale": False,
        },
        labelangle=-12 if len(axes) > 3 else 0,
        labelside="top",
        labelfont={"size": 13},
        tickfont={"size": 12},
        unselected={"line": {"color": MARK, "opacity": 0.15}},
    )
    top = 96 if len(axes) > 3 else 56
    figure.update_layout(margin={"l": 72, "r": 56, "t": top, "b": 24})
    return figure


def sweep_importance(shares: Mapping[str, float]) -> go.Figure:
    """Draw how much of the differences between trials each setting explains.

    Args:
        shares: of 1, by the settings' names, the most important first.
    """
    names = list(shares)[::-1]
    figure = go.Figure(
        layout=layout(
            70 + _ROW * len(names),
            legend=False,
            x={"tickformat": ".0%", "rangemode": "tozero", "range": [0, 1.02]},
            y={"showgrid": False},
        )
    )
    figure.add_bar(
        x=[shares[name] for name in names],
        y=names,
        orientation="h",
        marker={"color": VALIDATION_COLOUR},
        width=0.6,
        text=[f"{100 * shares[name]:.0f} %" for name in names],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    return figure


def _by_kind(tried: Sequence[Tried]) -> list[tuple[str, list[Tried]]]:
    """Return the trials of each kind, the best drawn last."""
    groups = {kind: [each for each in tried if each.kind == kind] for kind in _KINDS}
    return [(kind, members) for kind, members in groups.items() if members]


def _markers(
    figure: go.Figure, name: str, members: Sequence[Tried], x: Sequence[Any], more: str
) -> None:
    symbol, colour, size = _KINDS[name]
    figure.add_scatter(
        x=x,
        y=[each.value for each in members],
        mode="markers",
        name=name,
        marker={"symbol": symbol, "color": colour, "size": size},
        customdata=[[each.number, each.settings] for each in members],
        hovertemplate="Trial %{customdata[0]}: %{y:.4f}"
        + more
        + "<br>%{customdata[1]}<extra></extra>",
        cliponaxis=False,
    )


def _dimension(axis: Axis) -> dict[str, Any]:
    """Return an axis as Plotly takes it: words as places, orders of magnitude as powers of ten."""
    values = list(axis.values)
    if any(isinstance(value, str | bool) for value in values):
        texts = ["yes" if v is True else "no" if v is False else str(v) for v in values]
        words = sorted(set(texts))
        return {
            "label": axis.title,
            "values": [words.index(text) for text in texts],
            "tickvals": list(range(len(words))),
            "ticktext": [_short(word) for word in words],
            "range": [-0.15, max(len(words) - 1, 1) + 0.15],
        }
    numbers = np.asarray(values, dtype=np.float64)
    if axis.log and (numbers > 0).all():
        low, high = (float(np.log10(end)) for end in (numbers.min(), numbers.max()))
        ticks = np.linspace(low, high, _TICKS) if high > low else np.array([low])
        return {
            "label": axis.title,
            "values": np.log10(numbers),
            "tickvals": ticks,
            "ticktext": [f"{10**tick:.2g}" for tick in ticks],
            "range": _range(low, high),
        }
    low, high = float(numbers.min()), float(numbers.max())
    different = np.unique(numbers)
    ticks = different if len(different) <= _FEW else np.linspace(low, high, _TICKS)
    return {
        "label": axis.title,
        "values": numbers,
        "tickvals": ticks,
        "ticktext": [f"{tick:.3g}" for tick in ticks],
        "range": _range(low, high),
    }


def _range(low: float, high: float) -> list[float]:
    """Return the ends of an axis with some room, also where all values are one."""
    room = 0.04 * (high - low) or 0.5 * abs(low) or 0.5
    return [low - room, high + room]


def _short(word: str) -> str:
    return word if len(word) <= _LONGEST else f"{word[: _LONGEST - 1]}…"
