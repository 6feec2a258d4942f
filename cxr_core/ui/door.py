"""Nobody reaches a page but through streamlit_app.py, where the notice and the navigation are."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from cxr_core.ui import opening

_OPEN = "door_open"  # in the session's state while streamlit_app.py runs a page


@contextmanager
def opened() -> Iterator[None]:
    """Let pages pass for as long as this lasts; streamlit_app.py runs its page within."""
    st.session_state[_OPEN] = True
    try:
        yield
    finally:
        st.session_state[_OPEN] = False
        opening.first_page.set()


def pass_through() -> None:
    """Send a page that Streamlit opened by itself through the app's door; every page begins so.

    Streamlit takes a folder called ``pages`` for its older kind of app until ``st.navigation`` was
    called once: when a page's own address is the first to be opened after the server starts, that
    script runs alone, without notice or navigation. With the mark for the older kind taken off, the
    same address runs again from streamlit_app.py. The mark is the server's: another visitor's page
    may have taken it off a moment ago, so it does not tell whether this one came through the door.
    """
    if not st.session_state.get(_OPEN):
        PagesManager.uses_pages_directory = False
        st.rerun()


@st.cache_resource(show_spinner="Opening the studio")
def warm() -> None:
    """Wait for what all pages share, once a server, while the first visitor is told so."""
    importlib.import_module("cxr_core.ui.overview")
