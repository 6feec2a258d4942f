"""What is here: the model and the films in use, the run at work, and where to go."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.training import jobs
from cxr_core.ui import door, loaders, notices, overview

door.pass_through()
try:
    catalog = loaders.catalog(loaders.data_root())
    runs = jobs.runs(loaders.store())
except CxrError as error:
    notices.wrong(error)
    st.stop()

st.title(overview.headline(catalog, runs), anchor=False)
overview.doors()
left, right = st.columns([1.6, 1], gap="large")
with left:
    overview.model()
    overview.data(catalog)
    overview.run(runs)
with right:
    overview.path(catalog, runs)
