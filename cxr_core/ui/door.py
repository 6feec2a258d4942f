"""Nobody reaches a page but through streamlit_app.py, where the notice and the navigation are."""

import importlib

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager


def pass_through() -> None:
    """Send a page that Streamlit opened by itself through the app's door; every page begins so.

    Streamlit takes a folder called ``pages`` for its older kind of app until ``st.navigation`` was
    called once: when a page's own address is the first to be opened after the server starts, that
    script runs alone, without notice or navigation. With the mark for the older kind taken off, the
    same address runs again from streamlit_app.py.
    """
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()


@st.cache_resource(show_spinner="Opening the studio")
def warm() -> None:
    """Import what all pages share, once a server, while the first visitor is told to wait."""
    importlib.import_module("cxr_core.ui.run_views")
