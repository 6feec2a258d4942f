"""All runs, and any one of them opened."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.training import jobs
from cxr_core.ui import door, loaders, notices, run_views

door.pass_through()
try:
    runs = jobs.runs(loaders.store())
except CxrError as error:
    notices.wrong(error)
    notices.end_page()

st.title(run_views.headline(runs), anchor=False)
if not runs:
    notices.empty(
        ":material/monitoring: Nothing to compare yet",
        "Every training run is kept here with its settings, curves and test results.",
        page="pages/train.py",
        action="Train a model",
    )
    notices.end_page()

asked = st.query_params.get("run")
run = next((run for run in runs if run.run_id == asked), runs[0])
run = run_views.table(runs, opened=run, key="runs_table")
st.query_params["run"] = run.run_id
run_views.details(run, runs)
