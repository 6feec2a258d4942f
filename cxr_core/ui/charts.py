"""The one way a Plotly figure comes onto a page."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st


def show(figure: go.Figure, key: str, alt: str, *, zoom: bool = False) -> None:
    """Draw a figure at the width there is, without Plotly's buttons.

    Args:
        figure: what to draw; its colours are its own, its text takes the theme's.
        key: tells the chart from others. It is the same one to the browser, with the reader's zoom,
            for as long as nothing in it changes; Streamlit 1.67 draws a changed one anew.
        alt: what it shows, for who cannot see it.
        zoom: whether turning the wheel over it zooms.
    """
    config = {"displayModeBar": False, "scrollZoom": zoom}
    st.plotly_chart(figure, key=key, alt=alt, config=config)


def pick(figure: go.Figure, key: str, alt: str) -> list[dict[str, Any]]:
    """Draw a figure whose points can be picked; return those picked, by their ``point_index``.

    Args:
        figure: as for :func:`show`.
        key: the same.
        alt: the same.
    """
    state = st.plotly_chart(
        figure,
        key=key,
        alt=alt,
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
    )
    points: list[dict[str, Any]] = state["selection"]["points"]
    return points
