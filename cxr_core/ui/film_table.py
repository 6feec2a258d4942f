"""The table of the films a visitor brought: filled in as they are read, a click opens one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from cxr_core.ui import background, loaders, uploads, words
from cxr_core.ui.uploads import Outcome, Upload

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Predictor

_DRAWN = "film_table_drawn"  # the film whose card stands under the table
BURNED_IN = "The header says that text is burned into the pixels: it may name the patient."
_ROW = 62  # px; in rows of 4 rem and less Streamlit breaks no line, and a note would be cut off
_EVERY = 1.0  # seconds between two looks at what came in
_ROWS_A_SECOND = 200  # for each so many rows one second more, since each look sends all of them


def status(predictor: "Predictor", work: "background.Task[None] | None", opened: Upload) -> None:
    """Draw one line over the table: how far the reading is, or what came of it; ways to forget.

    Args:
        predictor: the model.
        work: as for :func:`show`, like ``opened``.
        opened: the film whose card the page draws.
    """
    found = uploads.outcomes(predictor)
    with st.container(horizontal=True, vertical_alignment="center", key="uploads-status"):
        if work is None:
            st.markdown(f"**{headline(found)}**", width="stretch")
        else:
            background.watch(work, _amount, "uploads")
        if len(found) > 1:
            st.button(
                "Remove this film",
                icon=":material/close:",
                type="tertiary",
                on_click=uploads.remove,
                args=(opened.digest,),
                help="The one that is open below.",
            )
        st.button(
            "Remove all", icon=":material/delete:", type="tertiary", on_click=uploads.remove_all
        )


def show(predictor: "Predictor", work: "background.Task[None] | None", opened: Upload) -> None:
    """Draw the table of all films.

    Args:
        predictor: the model.
        work: what asks it about the films; None where it was asked about all.
        opened: the film whose card the page draws.
    """
    st.session_state[_DRAWN] = opened.digest
    every = _EVERY + len(uploads.held()) / _ROWS_A_SECOND if work else None
    # A fragment: rows fill in and a click is answered without drawing the card anew.
    st.fragment(_table, run_every=every)(predictor, work is not None)


def headline(found: Sequence[Outcome | None]) -> str:
    """Return how many files there are and what became of them: "12 films, 2 refused, 1 not read".

    Args:
        found: the outcomes; None stands for a film that was not read yet.
    """
    read = [outcome for outcome in found if outcome is not None]
    unread = sum(outcome.diagnosis is None for outcome in read)
    refused = sum(not o.diagnosis.accepted for o in read if o.diagnosis is not None)
    parts = [words.count(len(found), "file")]
    parts += [f"{refused:,} refused"] if refused else []
    parts += [f"{unread:,} not read"] if unread else []
    return ", ".join(parts)


def _table(predictor: "Predictor", filling: bool) -> None:
    """Draw the table; while it fills in, it keeps its order.

    A browser remembers what is marked by its place on the screen: were rows that are sorted to
    change, the mark would come to stand beside another film than the one that is open. So a table
    that changed is a new one, with the mark where it belongs, and one that fills in is not sorted.
    """
    if uploads.chosen(predictor).digest != st.session_state[_DRAWN]:
        st.rerun()  # a click chose another film: the page draws its card
    films, found = uploads.held(), uploads.outcomes(predictor)
    rows = [_row(film, outcome) for film, outcome in zip(films, found, strict=True)]
    place = [film.digest for film in films].index(st.session_state[_DRAWN])
    state = hash((predictor.info.model_sha256, tuple(film.digest for film in films)))
    key = f"films_read:{state}:{filling}"
    st.caption(
        "Click a row to open its film below. The table can be sorted once all films are read."
        if filling
        else "Click a row to open its film below, a column's head to sort by it."
    )
    asked = words.asked(predictor.info.classes)
    st.dataframe(
        pd.DataFrame(rows).style.format(_written, subset=["Probability"]),
        key=key,
        hide_index=True,
        on_select=lambda: _choose(key),
        # A row is opened by a click anywhere in it; where columns are chosen, none is sorted.
        selection_mode=["single-cell", "single-column"] if filling else "single-cell",
        selection_default={"selection": {"cells": [(place, "File")]}},
        row_height=_ROW,
        placeholder="–",
        alt="The films and what the model says of each",
        column_config={
            "Film": st.column_config.ImageColumn(width=70),
            "File": st.column_config.TextColumn(width=150),
            "Answer": st.column_config.TextColumn(width=100),
            "Probability": st.column_config.NumberColumn(
                asked.capitalize(),
                width=110,
                help=f"Calibrated probability that the film shows {asked}.",
            ),
            "Notes": st.column_config.TextColumn(width=330),
        },
    )


def _written(probability: Any) -> str:
    """Write a probability as on the film's card; the table sorts by the number all the same."""
    return words.probability(probability)


def _amount(done: int, total: int) -> str:
    return f"{done:,} of {words.count(total, 'film')}"


def _choose(key: str) -> None:
    """Open the film whose row was clicked."""
    films = uploads.held()
    for place, _ in st.session_state[key]["selection"]["cells"]:
        if place < len(films):  # a browser may tell of a table that was drawn anew meanwhile
            uploads.choose(films[place].digest)


def _row(film: Upload, outcome: Outcome | None) -> dict[str, Any]:
    row = {"Film": None, "File": film.name, "Answer": "…", "Probability": None, "Notes": ""}
    if outcome is None:
        return row
    diagnosis = outcome.diagnosis
    if diagnosis is None:
        return {**row, "Answer": "not read", "Notes": outcome.error}
    called = words.finding(diagnosis.label) if diagnosis.label else ""
    answer = called if diagnosis.accepted else f"refused ({called})" if called else "refused"
    notes = [BURNED_IN] if outcome.burned_in else []
    return {
        **row,
        "Film": loaders.data_url(outcome.thumbnail),
        "Answer": answer,
        "Probability": diagnosis.abnormal,
        "Notes": " ".join([*notes, *(diagnosis.reasons or diagnosis.unchecked)]),
    }
