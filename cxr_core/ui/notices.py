"""What the app says about itself: the research notice, synthetic marks, empty and wrong states."""

from typing import NoReturn

import streamlit as st

from cxr_core import NOT_FOR_CLINICAL_USE, __version__

ABOUT = f"""
**CXR Studio {__version__}**

Chest X-ray classification in the browser: look at data, train, evaluate, diagnose.

{NOT_FOR_CLINICAL_USE}
"""

# A cookie without an expiry date lives exactly as long as the browser session.
_COOKIE, _YES = "cxr_notice", "accepted"
_ACCEPTED = "notice_accepted"


def accepted() -> bool:
    """Return whether this browser session has accepted the research notice."""
    return bool(st.session_state.get(_ACCEPTED)) or _remembered()


def ask() -> None:
    """Show the research notice with the button that accepts it."""
    _, column, _ = st.columns([1, 2, 1])
    with column:
        st.space("large")
        st.title("CXR Studio", anchor=False)
        st.markdown("Look at chest X-rays, train a classifier on them, and see what it is worth.")
        with st.container(border=True):
            st.subheader("For research and teaching only", anchor=False)
            st.markdown(
                "- This is **not a medical device**. Nothing it shows is a diagnosis, and nothing "
                "here may decide how a person is treated.\n"
                "- Probabilities hold for films like those a model learned from, and for no "
                "others.\n"
                "- Heat maps show what moved the model's answer, which may not be the disease.\n"
                "- Films stay on the computer that runs this app. Uploads are kept in memory only."
            )
            st.button(
                "I understand, open the studio",
                type="primary",
                on_click=_accept,
                width="stretch",
            )


def footer() -> None:
    """Repeat the notice in one line under every page."""
    if not _remembered():
        st.html(
            f"<script>document.cookie = '{_COOKIE}={_YES}; path=/; SameSite=Strict'</script>",
            unsafe_allow_javascript=True,
        )
    st.space("small")
    st.caption(f":material/science: {NOT_FOR_CLINICAL_USE}")


def end_page() -> NoReturn:
    """End a page early, with the line that stands under every page."""
    footer()
    st.stop()


def synthetic_badge(synthetic: bool, text: str = "Synthetic films") -> None:
    """Mark films, models and figures that come from drawn, not real, X-rays."""
    if synthetic:
        st.badge(
            text,
            icon=":material/draw:",
            color="gray",
            help="Drawn by a program for teaching. No person was X-rayed, and a model trained on "
            "them knows nothing about real disease.",
        )


def nothing(title: str, text: str) -> None:
    """Show that there is nothing yet, and how that changes."""
    with st.container(border=True):
        st.space("medium")
        st.subheader(title, anchor=False, text_alignment="center")
        st.markdown(text, text_alignment="center")
        st.space("medium")


def empty(title: str, text: str, page: str, action: str) -> None:
    """Show that there is nothing yet, with the one link that changes it.

    Args:
        title: what is missing, in a few words behind a Material icon.
        text: what would stand here and how to get it.
        page: the script of the page that helps, such as ``pages/train.py``.
        action: the button's label.
    """
    with st.container(border=True, horizontal_alignment="center"):
        st.space("medium")
        st.subheader(title, anchor=False, text_alignment="center")
        st.markdown(text, text_alignment="center")
        if st.button(action, type="primary", icon=":material/arrow_forward:"):
            st.switch_page(page)
        st.space("medium")


def wrong(error: Exception) -> None:
    """Show an error's own sentence, which says what happened and what to do."""
    st.error(str(error), icon=":material/error:")


def _remembered() -> bool:
    """Return whether the browser brought the cookie; a reload starts a new session with it."""
    return st.context.cookies.get(_COOKIE) == _YES


def _accept() -> None:
    st.session_state[_ACCEPTED] = True
