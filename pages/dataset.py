"""What the data set is: its films, classes, parts and patients, and what is wrong with it."""

import streamlit as st

from cxr_core.data import sources
from cxr_core.ui import audit_view, augmentation_view, datasets, door, films, notices, splits_view

door.pass_through()
title = st.container()
catalog = datasets.choose()
if catalog is None:
    title.title("Which films shall it be?", anchor=False)
    notices.end_page()

st.session_state[datasets.SEEN] = True
work = audit_view.job(catalog)
found, excluded = audit_view.finished(work), audit_view.excluded(catalog)
with title:
    headline = datasets.headline(catalog)
    if found is not None:
        known = audit_view.things_to_know(audit_view.open_findings(found, excluded))
        headline = f"{headline}; {known}"
    st.title(headline, anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        notices.synthetic_badge(catalog.synthetic)
        origin = sources.provenance(catalog)
        st.caption(
            f"{catalog.name}. Layout: {catalog.layout}. Licence: {origin['licence']}.",
            width="content",
        )
audit_view.cards(catalog, work, excluded)

overview, gallery, audit, patients, changes = st.tabs(
    [
        audit_view.OVERVIEW,
        audit_view.FILMS,
        audit_view.AUDIT,
        audit_view.SPLITS,
        audit_view.AUGMENTATION,
    ],
    key=audit_view.TABS,
    on_change="rerun",  # a tab that is not open costs nothing
)
if overview.open:
    with overview:
        datasets.overview(catalog)
if gallery.open:
    with gallery:
        films.gallery(
            catalog,
            audit_view.by_title(found, excluded),
            audit_view.remarks_by_title(found),
            audit_view.twins(found),
            excluded,
        )
if audit.open:
    with audit:
        audit_view.panel(catalog, work, excluded)
if patients.open:
    with patients:
        splits_view.panel(catalog)
if changes.open:
    with changes:
        augmentation_view.panel(catalog)
