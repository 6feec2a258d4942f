"""The parts of the Home page: doors, what is in use, and a newcomer's path."""

from collections.abc import Sequence

import streamlit as st

from cxr_core import figures
from cxr_core.data.catalog import Catalog
from cxr_core.training.tracking import RunRecord, Status
from cxr_core.ui import (
    charts,
    datasets,
    loaders,
    models,
    monitor,
    notices,
    run_views,
    uploads,
    words,
)

_DOORS = (
    (
        "pages/diagnose.py",
        ":material/radiology:",
        "Diagnose a film",
        "Drop an X-ray and read a probability, its threshold and the evidence.",
    ),
    (
        "pages/train.py",
        ":material/model_training:",
        "Train a model",
        "Pick a recipe, press one button and watch the curves.",
    ),
    (
        "pages/dataset.py",
        ":material/photo_library:",
        "Look at data",
        "Classes, parts and patients of a set, and every film in it.",
    ),
)


def headline(catalog: Catalog, runs: Sequence[RunRecord]) -> str:
    """Return what is here in one sentence."""
    done = sum(run.status.has_model for run in runs)
    trained = f"{words.count(done, 'trained model')}" if done else "no model yet"
    return f"{words.count(len(datasets.labelled(catalog)), 'film')} to learn from, {trained}"


def doors() -> None:
    """Draw the three ways into the app."""
    for column, (page, icon, title, text) in zip(st.columns(3), _DOORS, strict=True):
        with column, st.container(border=True, height="stretch", key=f"door:{page}"):
            st.page_link(page, label=f"**{title}**", icon=icon, width="stretch")
            st.caption(text)


def model() -> None:
    """Say which model judges films, and what it is worth."""
    st.subheader("Model in use", anchor=False)
    ref = models.in_use()
    if ref is None:
        st.markdown("None yet. Train one: the built-in films are enough for a first.")
        return
    st.markdown(f"**{ref.label}**")
    st.caption(models.worth(ref.info))


def data(catalog: Catalog) -> None:
    """Say which films are in use."""
    st.subheader("Films in use", anchor=False)
    st.markdown(f"**{catalog.name}**: {datasets.headline(catalog)}.")
    notices.synthetic_badge(catalog.synthetic)


def run(runs: Sequence[RunRecord]) -> None:
    """Show the run at work, drawn anew while it goes on."""
    working = next((run for run in runs if run.status is Status.RUNNING), None)
    if working is None:
        return
    st.subheader("Run in progress", anchor=False)
    st.fragment(_working, run_every=monitor.EVERY)(working.run_id)


def path(catalog: Catalog, runs: Sequence[RunRecord]) -> None:
    """Show a newcomer's three steps, ticked off as they happen."""
    steps = (
        ("Look at the films", bool(st.session_state.get(datasets.SEEN)), "pages/dataset.py"),
        ("Train a first model", any(run.status.has_model for run in runs), "pages/train.py"),
        ("Diagnose a film with it", bool(uploads.held()), "pages/diagnose.py"),
    )
    with st.container(border=True):
        st.subheader("First steps", anchor=False)
        for number, (text, done, page) in enumerate(steps, start=1):
            icon = ":material/check_circle:" if done else f":material/counter_{number}:"
            st.page_link(page, label=text, icon=icon)


def _working(run_id: str) -> None:
    store = loaders.store()
    record = store.get(run_id)
    if not record.status.active:
        st.rerun()
    table = store.curves(run_id, monitor.EPOCH_METRICS + monitor.BATCH_METRICS)
    now = monitor.progress(record, table)
    text, curve = st.columns([1, 1], vertical_alignment="center")
    with text:
        st.markdown(f"**{record.name}**, epoch {now.epoch or '–'} of {now.epochs}")
        st.caption(f"{(record.phase or 'starting').capitalize()}.")
    scores = run_views.sparkline(table[table["metric"] == "val_auroc"])
    with curve:
        if scores:
            charts.show(figures.sparkline(scores), key="home_run", alt="Validation AUROC by epoch")
            st.caption(f"Validation AUROC {words.figure(scores[-1])}")
