"""The one way a Plotly figure comes onto a page."""

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
