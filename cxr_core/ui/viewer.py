"""One film, close: zoom and pan, window and level, its histogram, and what its file says."""

from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import figures, images
from cxr_core.errors import UnreadableImageError
from cxr_core.ui import charts, loaders, notices, words

_SIDE = 4096  # px, longer side of the film that travels to the browser: all of it but for plates


@st.dialog("Look closer", width="large")
def open_film(path: str, modified: str) -> None:
    """Show a film large; ``modified`` tells a changed file from the one seen before."""
    try:
        film = _read(path, modified)
    except UnreadableImageError as error:
        st.caption(Path(path).name)
        notices.wrong(error)
        return
    _closer(film, path)


@st.dialog("Look closer", width="large")
def open_radiograph(film: images.Radiograph, key: str) -> None:
    """Show a film that is in memory large; ``key`` tells it from others."""
    _closer(film, key)


def window_controls(key: str) -> tuple[float, float, bool]:
    """Draw the controls of window and level; return level, window, and whether to invert."""
    level = st.slider("Level", 0, 255, 128, key=f"level:{key}", help="The gray shown midway.")
    window = st.slider(
        "Window", 1, 255, 255, key=f"window:{key}", help="How many gray levels are told apart."
    )
    invert = st.toggle("Invert", key=f"invert:{key}", help="Black for white, to look at only.")
    return level, window, invert


def windowed(pixels: np.ndarray, level: float, window: float, invert: bool = False) -> np.ndarray:
    """Return a film with ``window`` gray levels about ``level`` stretched over black to white.

    Args:
        pixels: uint8 (height, width).
        level: the gray that becomes 128, 0-255.
        window: how many levels are stretched, at least 1; 255 about 127.5 leaves all as it is.
        invert: whether black becomes white, after that.
    """
    grays = (np.arange(256, dtype=np.float64) - level) / window + 0.5
    table = np.rint(255 * grays.clip(0, 1)).astype(np.uint8)
    return (255 - table if invert else table)[pixels]


def _closer(film: images.Radiograph, key: str) -> None:
    st.caption(words.plain(film.name))
    viewer, panel = st.columns([2, 1], gap="medium")
    with panel:
        level, window, invert = window_controls(key)
        charts.show(figures.gray_levels(film.pixels), key="histogram", alt="Gray levels")
        facts = {"Format": film.format, "Stored as": film.mode, **film.tags}
        st.table(pd.Series(facts, name="").to_frame(), border="horizontal", hide_header=True)
        for note in film.notes:
            st.caption(note)
    with viewer:
        shown = loaders.jpeg(windowed(film.pixels, level, window, invert), _SIDE)
        charts.show(
            figures.film(loaders.data_url(shown), film.width, film.height),
            key="film",
            alt=f"Film {film.name}",
            zoom=True,
        )
        reduced = (
            f" Reduced to {words.count(_SIDE, 'pixel')} on its longer side."
            if max(film.width, film.height) > _SIDE
            else ""
        )
        st.caption(f"Scroll to zoom, drag to move, double-click to see all of it.{reduced}")


@st.cache_data(max_entries=8, show_spinner=False)
def _read(path: str, modified: str) -> images.Radiograph:
    return images.read(Path(path))
