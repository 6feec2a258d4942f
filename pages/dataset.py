"""What the data set is: its films, classes, parts and patients."""

import streamlit as st

from cxr_core import figures
from cxr_core.data import sources
from cxr_core.ui import charts, datasets, door, films, loaders, notices

door.pass_through()
title = st.container()
catalog = datasets.choose()
if catalog is None:
    title.title("Which films shall it be?", anchor=False)
    notices.end_page()

st.session_state[datasets.SEEN] = True
with title:
    st.title(datasets.headline(catalog), anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        notices.synthetic_badge(catalog.synthetic)
        origin = sources.provenance(catalog)
        st.caption(
            f"{catalog.name}. Layout: {catalog.layout}. Licence: {origin['licence']}.",
            width="content",
        )

overview, gallery, patients = st.tabs(["Overview", "Films", "Patients"])
with overview:
    chart, notes = st.columns([1.6, 1], gap="large")
    with chart:
        st.subheader("Films by part and class", anchor=False)
        charts.show(
            figures.balance(datasets.labelled(catalog)),
            key="balance",
            alt="Number of films by part and class",
        )
    with notes:
        st.subheader("Worth knowing", anchor=False)
        st.markdown("\n".join(f"- {note}" for note in datasets.notes(catalog)))
        datasets.unreadable(catalog)
        if st.button("Look at the files again", icon=":material/refresh:"):
            loaders.forget_catalog(loaders.data_root())
            st.rerun()
with gallery:
    films.gallery(catalog)
with patients:
    datasets.patients(catalog)
