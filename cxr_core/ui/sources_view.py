"""Getting a data set: what can be had and under which licence, the download, an uploaded zip."""

from pathlib import Path

import pandas as pd
import streamlit as st

from cxr_core.data import archive, kaggle, library, sources
from cxr_core.data.library import Source
from cxr_core.errors import DatasetError, FetchCancelledError
from cxr_core.ui import background, notices

Fetch = background.Task[Path]

_TASK, _FAILED, _FOUND = "fetch", "fetch_failed", "kaggle_found"
_ZIP, _KAGGLE = "zip", "kaggle"
_OTHERS = {_ZIP: "A zip file of your own", _KAGGLE: "Any set on Kaggle, by its handle"}
_PATIENCE = 20.0  # seconds a page waits for Kaggle to describe a set


@st.dialog("Get films", width="large", icon=":material/download:")
def choose() -> None:
    """Ask which set to get, and say what one should know of it before it is fetched."""
    offered = {s.key: s for s in sources.SOURCES if s.key != sources.BUILT_IN}
    titles = {**{key: source.title for key, source in offered.items()}, **_OTHERS}
    key = st.selectbox("From", list(titles), format_func=lambda name: titles[name])
    if key == _ZIP:
        _from_zip()
        return
    source = _from_kaggle() if key == _KAGGLE else offered[key]
    if source is None:
        return
    _facts(source)
    size = f", {library.in_words(source.bytes)}" if source.bytes else ""
    if st.button(f"Fetch it{size}", type="primary", icon=":material/download:"):
        fetch(source)
        st.rerun()


def fetch(source: Source) -> None:
    """Begin to fetch a set in the background."""

    def work(task: Fetch) -> Path:
        return sources.fetch(
            source,
            progress=lambda done, total: task.tell(f"Fetching {source.title}", done, total),
            cancelled=task.stopped,
        )

    st.session_state[_TASK] = background.Task(work)


def progress() -> None:
    """Draw the download under way with its Cancel button, or why the last one failed."""
    task: Fetch | None = st.session_state.get(_TASK)
    if task is not None:
        background.watch(task, _bytes, "fetch", stop="Cancel")
    elif _FAILED in st.session_state:
        st.error(st.session_state[_FAILED], icon=":material/cloud_off:")
        st.button("Dismiss", on_click=st.session_state.pop, args=(_FAILED,))


def arrived() -> Path | None:
    """Return the folder of a set whose download has just ended well, once; None otherwise."""
    task: Fetch | None = st.session_state.get(_TASK)
    if task is None or not task.ended():
        return None
    del st.session_state[_TASK]
    st.session_state.pop(_FAILED, None)
    try:
        return task.result()
    except FetchCancelledError as stopped:
        st.toast(str(stopped))
    except DatasetError as error:
        st.session_state[_FAILED] = str(error)
    return None


def _facts(source: Source) -> None:
    st.markdown(source.summary)
    facts = {
        "Licence": source.licence,
        "Size": library.in_words(source.bytes) if source.bytes else "not known before the download",
        "Needs": source.needs,
        "To cite": source.citation,
    }
    st.table(pd.Series(facts, name="").to_frame(), border="horizontal", hide_header=True)
    if source.licence == library.NOT_REPORTED:
        st.caption("No licence is reported: ask its owner before you share films or models of it.")


def _from_kaggle() -> Source | None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        handle = st.text_input(
            "Handle",
            placeholder="owner/name, or the address of the set's page",
            key="kaggle_handle",
        )
        asked = st.button("Look it up", disabled=not handle.strip())
    if asked:
        st.session_state.pop(_FOUND, None)
        try:
            with st.spinner("Asking Kaggle"):
                st.session_state[_FOUND] = kaggle.describe(handle, patience=_PATIENCE)
        except DatasetError as error:
            notices.wrong(error)
    found: kaggle.KaggleSet | None = st.session_state.get(_FOUND)
    return found


def _from_zip() -> None:
    upload = st.file_uploader("A zip of films in a folder a class, or with a metadata.csv", "zip")
    st.caption(
        "Checked before anything is unpacked: paths, links, number and size of the files. For more "
        "than 200 MB unpack it yourself and open the folder."
    )
    if upload is None:
        return
    if st.button(f"Unpack {upload.name}", type="primary", icon=":material/folder_zip:"):

        def work(task: Fetch) -> Path:
            return archive.unpack(
                upload,
                upload.name,
                progress=lambda done, total: task.tell(f"Unpacking {upload.name}", done, total),
                cancelled=task.stopped,
            )

        st.session_state[_TASK] = background.Task(work)
        st.rerun()


def _bytes(done: int, total: int) -> str:
    got = library.in_words(done)
    return f"{got} of {library.in_words(total)}" if total else got
