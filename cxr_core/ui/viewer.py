"""One film, close: zoom and pan, window and level, its histogram, and what its file says."""

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import figures, images
from cxr_core.errors import UnreadableImageError
from cxr_core.ui import charts, loaders, notices

_SIDE = 1600  # px, longer side of the film that travels to the browser


@st.dialog("Look closer", width="large")
def open_film(path: str, modified: str) -> None:
    """Show a film large; ``modified`` tells a changed file from the one seen before."""
    st.caption(Path(path).name)
    try:
        film = _read(path, modified)
    except UnreadableImageError as error:
        notices.wrong(error)
        return
    viewer, panel = st.columns([2, 1], gap="medium")
    with panel:
        level = st.slider("Level", 0, 255, 128, key=f"level:{path}", help="The gray shown midway.")
        window = st.slider(
            "Window", 1, 255, 255, key=f"window:{path}", help="How many gray levels are told apart."
        )
        charts.show(figures.gray_levels(film.pixels), key="histogram", alt="Gray levels")
        facts = {"Format": film.format, "Stored as": film.mode, **film.tags}
        st.table(pd.Series(facts, name="").to_frame(), border="horizontal", hide_header=True)
        for note in film.notes:
            st.caption(note)
    with viewer:
        shown = loaders.jpeg(windowed(film.pixels, level, window), _SIDE)
        charts.show(
            figures.film(loaders.data_url(shown), film.width, film.height),
            key="film",
            alt=f"Film {Path(path).name}",
            zoom=True,
        )
        st.caption("Scroll to zoom, drag to move, double-click to see all of it.")


def windowed(pixels: np.ndarray, level: float, window: float) -> np.ndarray:
    """Return a film with ``window`` gray levels about ``level`` stretched over black to white.

    Args:
        pixels: uint8 (height, width).
        level: the gray that becomes 128, 0-255.
        window: how many levels are stretched, at least 1; 255 about 127.5 leaves all as it is.
    """
    grays = (np.arange(256, dtype=np.float64) - level) / window + 0.5
    table = np.rint(255 * grays.clip(0, 1)).astype(np.uint8)
    return table[pixels]


@st.cache_data(max_entries=8, show_spinner=False)
def _read(path: str, modified: str) -> images.Radiograph:
    return images.read(Path(path))
