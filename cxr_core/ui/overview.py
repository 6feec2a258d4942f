"""The parts of the Home page: doors, what is in use, and a newcomer's path."""

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.elements.lib.grid_container import GridContainer

from cxr_core import figures
from cxr_core.data.catalog import Catalog
from cxr_core.training import jobs
from cxr_core.training.tracking import Kind, RunRecord, Status
from cxr_core.ui import (
    charts,
    curves_view,
    datasets,
    films,
    loaders,
    models,
    monitor,
    notices,
    uploads,
    words,
)

_DOORS = (
    (
        "pages/diagnose.py",
        ":material/radiology:",
        "Diagnose a film",
        "Drop an X-ray, read a probability and the evidence for it.",
    ),
    (
        "pages/train.py",
        ":material/model_training:",
        "Train a model",
        "Pick a recipe, press a button, watch the network learn.",
    ),
    (
        "pages/dataset.py",
        ":material/photo_library:",
        "Look at data",
        "The classes, parts and patients of a set, and every film in it.",
    ),
)


def headline(catalog: Catalog, runs: Sequence[RunRecord]) -> str:
    """Return what is here in one sentence."""
    done = sum(run.has_model for run in runs)
    trained = words.count(done, "trained model") if done else "no model trained here yet"
    return f"{words.count(len(datasets.labelled(catalog)), 'film')} to learn from, {trained}"


def doors(grid: GridContainer) -> None:
    """Draw the three ways into the app, a cell each."""
    for page, icon, title, text in _DOORS:
        name = page.removeprefix("pages/").removesuffix(".py")
        with (
            grid.cell(),
            st.container(border=True, height="stretch", key=f"door-{name}", gap="xsmall"),
        ):
            st.page_link(page, label=title, icon=icon)
            st.caption(text)


def model() -> None:
    """Say which model judges films, and what it is worth."""
    with st.container(border=True, height="stretch"):
        _card_title("Model in use")
        ref = models.in_use()
        if ref is None:
            st.markdown("None yet. The built-in films are enough to train a first one.")
            st.page_link("pages/train.py", label="Train a model", icon=":material/arrow_forward:")
            return
        st.markdown(ref.label)
        test = ref.info.metrics.get("test", {})
        with st.container(horizontal=True, gap="large"):
            for name, title in (("auc", "AUROC"), ("sensitivity", "Sensitivity")):
                bounds = test.get("ci95", {}).get(name)
                value = test.get(name)
                share = name != "auc"
                st.metric(
                    title,
                    words.percent(value) if share else words.figure(value),
                    help=f"On {test.get('n', 0):,} test films; 95 % interval "
                    f"{words.interval(bounds)}.",
                    width="content",
                )
        st.caption(models.worth(ref.info))


def data(catalog: Catalog) -> None:
    """Say which films are in use, and show some of each class."""
    with st.container(border=True, height="stretch"):
        with _card_title("Films in use"):
            notices.synthetic_badge(catalog.synthetic)
        st.markdown(f"{catalog.name}: {datasets.headline(catalog)}.")
        films.strip(catalog, datasets.labelled(catalog))


def run(runs: Sequence[RunRecord], grid: GridContainer) -> None:
    """Show the run at work in a row of its own, drawn anew while it goes on."""
    trainings = [run for run in runs if run.kind is Kind.TRAINING]
    working = next((run for run in trainings if run.status is Status.RUNNING), None)
    if working is None:
        return
    with grid.cell(column_span="all"), st.container(border=True):
        st.fragment(_working, run_every=monitor.EVERY)(working.run_id)


def path(runs: Sequence[RunRecord]) -> None:
    """Show a newcomer's three steps, ticked off as they happen."""
    steps = (
        ("Look at the films", bool(st.session_state.get(datasets.SEEN)), "pages/dataset.py"),
        ("Train a first model", any(run.has_model for run in runs), "pages/train.py"),
        ("Diagnose a film with it", bool(uploads.held()), "pages/diagnose.py"),
    )
    with st.container(border=True, gap="xsmall"):
        _card_title("First steps")
        for number, (text, done, page) in enumerate(steps, start=1):
            icon = ":material/check_circle:" if done else f":material/counter_{number}:"
            st.page_link(page, label=f":gray[{text}]" if done else text, icon=icon)


def _working(run_id: str) -> None:
    store = loaders.store()
    record = jobs.bury_if_dead(store.get(run_id), store)
    if not record.status.active:
        st.rerun()
    lines = curves_view.of_run(run_id)
    now = monitor.progress(record, lines)
    scores = list(map(float, lines.get("val_auroc", figures.NOTHING).values))
    text, numbers, curve = st.columns([1.2, 1, 1], vertical_alignment="center", gap="medium")
    with text:
        with _card_title(record.name):
            monitor.badge(record)
        left = "" if now.left is None else f", {words.estimate(now.left)} left"
        phase = (record.phase or "starting").capitalize()
        st.caption(f"Epoch {now.epoch} of {now.epochs}{left}." if now.epoch else f"{phase}.")
    if scores:
        numbers.metric("Validation AUROC", words.figure(scores[-1]))
    if len(scores) > 1:  # one point is no curve
        with curve:
            charts.show(figures.sparkline(scores), key="home_run", alt="Validation AUROC by epoch")


def _card_title(text: str) -> DeltaGenerator:
    """Draw a card's title; what is drawn into the returned row stands beside it."""
    row = st.container(horizontal=True, vertical_alignment="center")
    row.subheader(text, anchor=False, width="content")
    return row
