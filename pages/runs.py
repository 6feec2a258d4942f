"""All runs; any one of them opened, or several beside each other."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.training import jobs
from cxr_core.ui import compare_view, door, folds_view, loaders, notices, run_views

door.pass_through()
# Session keys: the ids that are open, those that the last link named, and how many were followed.
OPENED, LINKED, LINKS = "runs_opened", "runs_linked", "runs_links"

try:
    runs = jobs.runs(loaders.store())
except CxrError as error:
    notices.wrong(error)
    notices.end_page()

st.title(run_views.headline(folds_view.top_level(runs)), anchor=False)
if not runs:
    notices.empty(
        ":material/monitoring: Nothing to compare yet",
        "Every training run is kept here with its settings, curves and test results.",
        page="pages/train.py",
        action="Train a model",
    )
    notices.end_page()

asked = st.query_params.get_all("run")
if asked != st.session_state.get(OPENED):  # a link: it wins over what was selected before
    st.session_state[LINKS] = st.session_state.get(LINKS, 0) + 1
    st.session_state[LINKED] = asked
# A fold that a link named stays while others are selected: rows are selected by their place.
shown = folds_view.top_level(runs, st.session_state[LINKED])
opened = [run for run in shown if run.run_id in asked] or shown[:1]
opened = run_views.table(shown, opened, key=f"runs_table:{st.session_state.get(LINKS, 0)}")
st.query_params["run"] = st.session_state[OPENED] = [run.run_id for run in opened]
if len(opened) > 1:
    compare_view.show(opened)
else:
    run_views.details(opened[0], runs)
