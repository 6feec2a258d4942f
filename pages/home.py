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
    notices.end_page()

st.title(overview.headline(catalog, runs), anchor=False)
grid = st.grid(3, min_column_width=240, key="home")
overview.doors(grid)
overview.run(runs, grid)
with grid.cell(column_span=2):
    overview.data(catalog)
with grid.cell():
    overview.path(runs)
    overview.model()
