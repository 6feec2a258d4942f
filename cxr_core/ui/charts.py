"""The one way a Plotly figure comes onto a page."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st
from streamlit.elements import plotly_chart

# Streamlit 1.67 tells charts apart by all that is in them, key or no key: one more point on a live
# chart, and the browser takes the old chart away, with the reader's zoom, and draws another. By the
# key alone it is the same chart, redrawn in place.
_inside = vars(plotly_chart)
_identity = _inside["compute_and_register_element_id"]


def _identity_by_key(kind: str, **told: Any) -> Any:
    return _identity(kind, **(told | {"key_as_main_identity": bool(told["user_key"])}))


_inside["compute_and_register_element_id"] = _identity_by_key


def show(figure: go.Figure, key: str, alt: str, *, zoom: bool = False) -> None:
    """Draw a figure at the width there is, without Plotly's buttons.

    Args:
        figure: what to draw; its colours are its own, its text takes the theme's.
        key: keeps the chart the same one over reruns, so that zoom and legend stay.
        alt: what it shows, for who cannot see it.
        zoom: whether turning the wheel over it zooms.
    """
    config = {"displayModeBar": False, "scrollZoom": zoom}
    st.plotly_chart(figure, key=key, alt=alt, config=config)
