"""Patients and splits on the Dataset page: who is known how, and what a cut would look like."""

from dataclasses import replace

import pandas as pd
import streamlit as st

from cxr_core.config import DataConfig, RunConfig, Setting, settings
from cxr_core.data import exclusions, splits
from cxr_core.data import patients as rules
from cxr_core.data.audit import patients as sharing
from cxr_core.data.catalog import COLUMNS, METADATA, Catalog
from cxr_core.errors import DatasetError
from cxr_core.ui import forms, loaders, notices, words

DIVISION = "cut:data.split"  # session key: how the preview divides
_PARTS = {"train": "Training", "val": "Validation", "test": "Test"}
_DIVISIONS = {
    "auto": "Keep usable parts",
    "published": "As published",
    "recut": "Cut all anew",
}


def panel(catalog: Catalog) -> None:
    """Draw the tab: patients on the left, the cut and its preview on the right."""
    left, right = st.columns([1, 1.6], gap="large")
    with left:
        known = _patients(catalog)
    with right:
        _division(known)


def with_patients(catalog: Catalog, expression: str) -> Catalog:
    """Return a catalog whose patients are named by a regular expression.

    Raises:
        DatasetError: the expression is malformed, has no group or matches no path.
    """
    ids, rule = rules.identify(list(catalog.frame["path"]), None, expression)
    return replace(catalog, frame=catalog.frame.assign(patient_id=ids), patient_rule=rule)


def table_of(cut: splits.Split, catalog: Catalog) -> str:
    """Return a cut as the text of a metadata.csv, with the extra columns the set had."""
    extra = [column for column in catalog.frame if column not in COLUMNS]
    table = cut.table[["path", "label", "split", "patient_id"]]
    return table.merge(catalog.frame[["path", *extra]], on="path").to_csv(index=False)


def _patients(catalog: Catalog) -> Catalog:
    st.subheader("How patients are known", anchor=False)
    expression = st.text_input(
        "Another rule, as a regular expression",
        key=f"patient_pattern:{catalog.root}",
        placeholder=r"^[^/]*/(\d+)_",
        help="Searched in each path below the set's folder; its first group names the patient.",
    ).strip()
    known = catalog
    if expression:
        try:
            known = with_patients(catalog, expression)
        except DatasetError as error:
            notices.wrong(error)
    st.markdown(f"By {known.patient_rule}.")
    examples = rules.examples(known.frame)
    if examples:
        st.table(
            pd.DataFrame(examples, columns=["File", "Patient"]),
            border="horizontal",
            hide_index=True,
        )
        st.caption(_films_a_patient(known.frame["patient_id"]))
    if known is not catalog:
        st.caption(
            f"To train with this rule, save the cut as {METADATA} into the set's folder: it names "
            "the patient of every film."
        )
    return known


def _division(catalog: Catalog) -> None:
    st.subheader("How training would divide the set", anchor=False)
    data, seed = _asked(catalog)
    try:
        films, out = exclusions.without(catalog)
        cut = _cut(loaders.key(films), data, seed, films)
    except DatasetError as error:
        notices.wrong(error)
        return
    table = pd.crosstab(cut.table["split"], cut.table["label"])
    table = table.reindex(index=list(_PARTS), columns=list(films.classes), fill_value=0)
    known = cut.table[cut.table["patient_id"] != ""]
    table["Patients"] = known.groupby("split")["patient_id"].nunique()
    table = table.fillna(0).astype(int).rename(index=_PARTS)
    st.table(table.rename_axis(index=None, columns=None), border="horizontal")
    notes = list(cut.notes)
    if out:
        notes.append(f"{words.count(len(out), 'film')} left out, because you excluded them.")
    st.markdown("\n".join(f"- {note}" for note in notes))
    _matrices(films, cut)
    st.download_button(
        f"Save this cut as {METADATA}",
        table_of(cut, films),
        METADATA,
        "text/csv",
        icon=":material/download:",
        help="path, label, split and patient_id of every film. In the set's folder it is read "
        "back as the set's own division.",
    )


def _asked(catalog: Catalog) -> tuple[DataConfig, int]:
    """Draw the settings of a cut; return them with the seed."""
    fields: dict[str, Setting] = {setting.path: setting for setting in settings()}
    start = RunConfig().flat()
    paths = ("data.split", "data.val_fraction", "data.test_fraction", "seed")
    values = {}
    for path, place in zip(paths, st.columns([1.6, 1, 1, 1]), strict=True):
        with place:
            values[path] = forms.widget(
                fields[path],
                start[path],
                f"cut:{path}",
                _DIVISIONS if path == "data.split" else None,
            )
    config = RunConfig().with_values(values)
    return config.data, config.seed


def _matrices(catalog: Catalog, cut: splits.Split) -> None:
    """Set the patients that parts share as published beside those of the cut."""
    before = sharing.matrix(splits_of(catalog))
    after = sharing.matrix(cut.table)
    if not after:
        return
    st.markdown("**Patients with films in both parts** (on the diagonal: in one)")
    left, right = st.columns(2, gap="medium")
    for place, name, frame, shared in (
        (left, "As published", before, splits_of(catalog)),
        (right, "After this cut", after, cut.table),
    ):
        with place:
            if not frame:
                st.caption(f"{name}: the set publishes no parts.")
                continue
            number = len(splits.on_several_sides(shared, "patient_id"))
            st.caption(f"{name}: {words.count(number, 'patient')} on more than one side")
            table = pd.DataFrame(frame).rename(index=_PARTS, columns=_PARTS)
            st.table(table, border="horizontal")


def splits_of(catalog: Catalog) -> pd.DataFrame:
    """Return the films that stand in a published part, readable and labelled."""
    frame = catalog.frame
    return frame[frame["readable"] & (frame["label"] != "") & (frame["split"] != "")]


@st.cache_data(max_entries=16, show_spinner="Dividing the films by patient")
def _cut(key: str, data: DataConfig, seed: int, _catalog: Catalog) -> splits.Split:
    """Return a cut; ``key`` names the set to the cache."""
    return splits.cut(_catalog, data, seed)


def _films_a_patient(ids: pd.Series) -> str:
    films = ids[ids != ""].value_counts()
    several = films[films > 1]
    if several.empty:
        return f"{words.count(len(films), 'patient')}, one film each."
    return (
        f"{words.count(len(films), 'patient')}: {len(films) - len(several):,} with one film, "
        f"{len(several):,} with more, up to {films.max()}."
    )
