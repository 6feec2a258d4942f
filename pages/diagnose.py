"""Drop a film, get an answer that says how far to trust it."""

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.ui import answers, door, film_table, loaders, models, notices, report_view, uploads

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
        "A film is judged by a trained model. The built-in synthetic films are "
        "enough for a first one.",
        page="pages/train.py",
        action="Train a model",
    )
    notices.end_page()

uploads.drop_zone()
films = uploads.held()
if not films:
    report_view.forget()
    uploads.samples(judge=models.for_synthetic(chosen))
    models.prepare(chosen)  # last: what the visitor sees is drawn
    notices.end_page()

try:
    predictor = loaders.predictor(models.folder(chosen))
except CxrError as error:
    notices.wrong(error)
    notices.end_page()
opened = uploads.chosen(predictor)
reading = uploads.opened(opened, predictor)
work = uploads.judge(predictor)
film_table.status(predictor, work, opened)
if len(films) > 1:
    film_table.show(predictor, work, opened)
if reading.film is not None and reading.film.burned_in:
    st.warning(film_table.BURNED_IN, icon=":material/visibility:")
answers.card(reading, predictor)
report_view.offer(predictor, reading, uploads.outcomes(predictor))
with st.expander("Try a sample film"):
    uploads.samples(judge=models.for_synthetic(chosen))
