"""The few looks that the theme file cannot say, and the classes' colours in the theme's words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import streamlit as st

from cxr_core import figures
from cxr_core.ui import words

Colour = Literal["blue", "orange", "violet", "green", "yellow", "gray"]

ICON = str(Path(__file__).with_name("icon.svg"))  # a Material icon would be fetched from the web
_SHEET = Path(__file__).with_name("style.css")

# .streamlit/config.toml gives these names the same values.
_NAMES: dict[str, Colour] = {
    "#56B4E9": "blue",
    "#E69F00": "orange",
    "#CC79A7": "violet",
    "#009E73": "green",
    "#F0E442": "yellow",
}


def apply() -> None:
    """Put the style sheet on the page."""
    st.html(_SHEET)


def colour(label: str, classes: Sequence[str]) -> Colour:
    """Return the theme's name of a class's colour, gray for one that has no name there."""
    return _NAMES.get(figures.class_colour(label, classes).upper(), "gray")


def dot(label: str, classes: Sequence[str]) -> str:
    """Return Markdown of a class name behind a dot in its colour."""
    return f":{colour(label, classes)}[●] {words.plain(label)}"
