"""Train a model: what to train on the left, the run as it goes on the right."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.training import jobs
from cxr_core.training.tracking import Kind
from cxr_core.ui import (
    datasets,
    door,
    launch,
    loaders,
    monitor,
    notices,
    places_view,
    run_verbs,
    run_views,
)

door.pass_through()
try:
    entries = jobs.runs(loaders.store())
    runs = [run for run in entries if run.kind is Kind.TRAINING]
    waiting = jobs.queue(loaders.store())
except CxrError as error:
    notices.wrong(error)
    notices.end_page()
shown = launch.watched(runs)
st.title(run_views.train_headline(runs), anchor=False)

live = shown is not None and shown.status.active
with st.container(key="bench-live" if live else "bench-idle"):
    setup, bench = st.columns([1, 2], gap="large")
with bench:  # first: opening a data set must not keep a run from being seen
    if shown is None:
        notices.nothing(
            ":material/model_training: No run yet",
            "Choose films and a recipe on the left and press the button. Loss and AUROC appear "
            "here as the network learns; the run goes on if you close this page.",
        )
    else:
        monitor.heading(shown, "train")
        run_views.of_sweep(shown, entries, here="train")
        run_views.outcome(shown)
        monitor.picture(shown, runs, key="monitor")
    run_verbs.queue([run for run in waiting if run != shown])
with setup:
    st.subheader("What to train", anchor=False)
    catalog = datasets.choose(wait=False)
    if catalog is not None:
        notices.synthetic_badge(catalog.synthetic)
        chosen = launch.configure(catalog)
        if chosen is not None:
            cluster = places_view.choose()
            sound = launch.checks(chosen.config, catalog, cluster)
            launch.button(chosen, catalog, runs, cluster, enabled=sound)
