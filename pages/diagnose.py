"""Drop a film, get an answer that says how far to trust it."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.ui import answers, door, loaders, models, notices, uploads, words

door.pass_through()
st.title("Diagnose a film", anchor=False)
try:
    chosen = models.choose()
except CxrError as error:
    notices.wrong(error)
    notices.end_page()
if chosen is None:
    notices.empty(
        ":material/radiology: No model yet",
        "A film is judged by a model that was trained here. The built-in synthetic films are "
        "enough for a first one.",
        page="pages/train.py",
        action="Train a model",
    )
    notices.end_page()

uploads.drop_zone()
films = uploads.held()
if not films:
    uploads.samples()
    models.prepare(chosen)  # last: what the visitor sees is drawn
    notices.end_page()

try:
    predictor = loaders.predictor(models.folder(chosen))
except CxrError as error:
    notices.wrong(error)
    notices.end_page()
bar = st.empty()
readings = []
for done, reading in enumerate(uploads.read_all(predictor), start=1):
    readings.append(reading)
    if done < len(films):
        bar.progress(done / len(films), text=f"Reading film {done + 1} of {len(films)}")
bar.empty()

with st.container(horizontal=True, vertical_alignment="center"):
    st.markdown(f"**{words.count(len(readings), 'file')}**")
    st.button("Remove all", icon=":material/delete:", type="tertiary", on_click=uploads.remove_all)
shown = answers.overview(readings, key="films_read") if len(readings) > 1 else readings[0]
answers.card(shown, predictor)
with st.expander("Try a synthetic film"):
    uploads.samples()
