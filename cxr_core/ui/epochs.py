"""A slider through the epochs of a run: at the latest one until the reader moves it."""

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from cxr_core.errors import TrainingError
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import loaders

_LOOKED_AGAIN = 10  # seconds until a folder that may lie on a server is listed again


def choose(epochs: Sequence[int], key: str) -> int:
    """Draw the slider and return the epoch chosen.

    Args:
        epochs: those there are, ascending, at least one; 0 is the network before training.
        key: of the slider.
    """
    latest = epochs[-1]
    moved = st.session_state.get(_moved(key), False)
    # Written only where it must change: a write would take the slider out of a reader's hand.
    if st.session_state.get(key) not in epochs or (
        not moved and st.session_state.get(key) != latest
    ):
        st.session_state[key] = latest
    titles = {epoch: "before" if epoch == 0 else str(epoch) for epoch in epochs}
    chosen: int = st.select_slider(
        "Epoch",
        # A slider needs two ends: with one epoch its place is kept, and it cannot be moved.
        list(epochs) if len(epochs) > 1 else [latest, latest + 1],
        format_func=lambda epoch: titles.get(epoch, ""),
        key=key,
        disabled=len(epochs) < 2,
        on_change=_hold,
        args=(key, latest),
        persist_state="session",
    )
    return chosen


def written(record: RunRecord, folder: str, suffix: str) -> list[tuple[int, Path]]:
    """Return the files that a run wrote into a folder, one an epoch, in order.

    Args:
        record: the run.
        folder: the artefact folder; its files are called by the epoch, such as ``0007.json``.
        suffix: ".json" or ".jpg".
    """
    return listed(loaders.store().uri, record.run_id, record.status, folder, suffix)


@st.cache_data(ttl=_LOOKED_AGAIN, max_entries=64, show_spinner=False)
def listed(uri: str, run_id: str, status: str, folder: str, suffix: str) -> list[tuple[int, Path]]:
    """List a folder; ``uri`` and ``status`` only tell one store and one moment from another."""
    try:
        place = loaders.store().path(run_id, folder)
    except TrainingError:
        return []
    files = [(file.stem, file) for file in place.glob(f"*{suffix}")]
    return sorted((int(stem), file) for stem, file in files if stem.isdecimal())


def _hold(key: str, latest: int) -> None:
    """Note whether the reader looks at an earlier epoch, which then stays."""
    st.session_state[_moved(key)] = st.session_state[key] != latest


def _moved(key: str) -> str:
    return f"{key}:moved"
