"""Patients and splits on the Dataset page: who is known how, and what a cut would look like."""

import hashlib

import pandas as pd
import streamlit as st

from cxr_core.config import DataConfig, RunConfig, settings
from cxr_core.data import exclusions, splits
from cxr_core.data import patients as rules
from cxr_core.data.audit import patients as sharing
from cxr_core.data.catalog import COLUMNS, METADATA, Catalog, with_patients
from cxr_core.errors import ConfigError, DatasetError
from cxr_core.training import recipes
from cxr_core.ui import datasets, forms, launch, loaders, notices, words

_WRONG = "patient_pattern_wrong"  # session key: why the rule that was typed cannot be used
_PARTS = {"train": "Training", "val": "Validation", "test": "Test"}
_CUT_BY = ("data.split", "data.val_fraction", "data.test_fraction", "seed")
_LONGEST = 200  # letters of a rule, as data.patient_pattern allows


def panel(catalog: Catalog) -> None:
    """Draw the tab: patients on the left, the cut and its preview on the right."""
    with st.container(key="bench-splits"):  # the style sheet puts them one below the other
        left, right = st.columns([1, 1.6], gap="large")
    with left:
        _patients(catalog)
    with right:
        _division(catalog)


def cut_anew() -> None:
    """Have training cut all parts anew, as the Train page's form then says too; in a callback."""
    st.session_state[f"train:{_recipe()}:data.split"] = "recut"


def table_of(cut: splits.Split, catalog: Catalog) -> str:
    """Return a cut as the text of a metadata.csv, with the extra columns the set had."""
    extra = [column for column in catalog.frame if column not in COLUMNS]
    table = cut.table[["path", "label", "split", "patient_id"]]
    return table.merge(catalog.frame[["path", *extra]], on="path").to_csv(index=False)


def _patients(catalog: Catalog) -> None:
    st.subheader("How patients are known", anchor=False)
    root = loaders.data_root()
    key = f"patient_pattern:{root}"
    st.session_state.setdefault(key, loaders.patient_pattern(root))
    st.text_input(
        "Another rule, as a regular expression",
        key=key,
        max_chars=_LONGEST,
        placeholder=r"^[^/]*/(\d+)_",
        help="Searched in each path below the set's folder; its first group names the patient. "
        "Empty: the set's own column, or the file names of well-known sets.",
        on_change=_name_patients,
        args=(catalog, root, key),
    )
    wrong = st.session_state.get(_WRONG, {}).get(root)
    if wrong:
        st.error(f"{words.plain(wrong)} The rule below stays in use.", icon=":material/error:")
    st.markdown(words.plain(datasets.patients_known(catalog)))
    examples = rules.examples(catalog.frame)
    if examples:
        st.table(
            pd.DataFrame(examples, columns=["File", "Patient"]),
            border="horizontal",
            hide_index=True,
        )
        st.caption(_films_a_patient(catalog.frame["patient_id"]))
    st.caption("Audit, division and training all know patients by this rule.")


def _name_patients(catalog: Catalog, root: str, key: str) -> None:
    """Take the rule that was typed, unless it names nobody."""
    pattern = st.session_state[key].strip()
    st.session_state[_WRONG] = {}
    if pattern:
        try:
            with_patients(catalog, pattern)
        except DatasetError as error:
            st.session_state[_WRONG] = {root: str(error)}
            return
    loaders.use_patient_pattern(root, pattern)


def _division(catalog: Catalog) -> None:
    st.subheader("How training divides the set", anchor=False)
    try:
        data, seed = _asked()
        out = exclusions.listed(catalog.root)
        told = hashlib.sha256(repr(out).encode()).hexdigest()
        cut, left_out = _cut(loaders.key(catalog), told, data, seed, catalog)
    except (ConfigError, DatasetError) as error:
        notices.wrong(error)
        return
    table = pd.crosstab(cut.table["split"], cut.table["label"])
    table = table.reindex(index=list(_PARTS), columns=list(catalog.classes), fill_value=0)
    known = cut.table[cut.table["patient_id"] != ""]
    table["Patients"] = known.groupby("split")["patient_id"].nunique()
    _numbers(table.fillna(0))
    notes = list(cut.notes)
    if left_out:
        notes.append(f"{words.count(left_out, 'film')} left out, because you excluded them.")
    st.markdown("\n".join(f"- {note}" for note in notes))
    _matrices(catalog, cut)
    st.download_button(
        f"Save this cut as {METADATA}",
        lambda: table_of(cut, catalog),
        METADATA,
        "text/csv",
        icon=":material/download:",
        help="path, label, split and patient_id of every film. In the set's folder it is read "
        "back as the set's own division.",
    )


def _asked() -> tuple[DataConfig, int]:
    """Draw the settings of a cut; return them with the seed.

    They have the keys of the Train page's form: what is set here holds there.

    Raises:
        ConfigError: they do not go together.
    """
    recipe = _recipe()
    base = recipes.load(recipe)
    fields = {setting.path: setting for setting in settings()}
    start = base.flat()
    values = {}
    with st.grid(min_column_width=150, gap="small"):
        for path in _CUT_BY:
            with st.container():
                values[path] = forms.widget(fields[path], start[path], f"train:{recipe}:{path}")
    st.caption(
        f"These are the settings of the recipe {recipe.replace('_', ' ')} on the Train page; what "
        "you change here holds there."
    )
    config: RunConfig = base.with_values(values)
    return config.data, config.seed


def _recipe() -> str:
    return str(st.session_state.get(launch.RECIPE, launch.FIRST_RECIPE))


def _matrices(catalog: Catalog, cut: splits.Split) -> None:
    """Set the patients that parts share as published beside those of the cut."""
    after = sharing.matrix(cut.table)
    if not after:
        return
    st.markdown("**Patients with films in both parts** (on the diagonal: in one)")
    published = splits_of(catalog)
    with st.grid(min_column_width=310, gap="medium"):
        for name, frame, shared in (
            ("As published", sharing.matrix(published), published),
            ("After this cut", after, cut.table),
        ):
            with st.container():
                if not frame:
                    st.caption(f"{name}: the set publishes no parts.")
                    continue
                number = len(splits.on_several_sides(shared, "patient_id"))
                st.caption(f"{name}: {words.count(number, 'patient')} on more than one side")
                _numbers(pd.DataFrame(frame).rename(columns=_PARTS))


def _numbers(table: pd.DataFrame) -> None:
    """Draw a table of counts with the parts as its rows."""
    named = table.rename(index=_PARTS).rename_axis(index=None, columns=None)
    st.table(named.astype(int).style.format("{:,}"), border="horizontal")


def splits_of(catalog: Catalog) -> pd.DataFrame:
    """Return the films that stand in a published part, readable and labelled."""
    frame = catalog.frame
    return frame[frame["readable"] & (frame["label"] != "") & (frame["split"] != "")]


@st.cache_data(max_entries=16, show_spinner="Dividing the films by patient")
def _cut(
    key: str, excluded: str, data: DataConfig, seed: int, _catalog: Catalog
) -> tuple[splits.Split, int]:
    """Return a cut and how many films were left out before.

    ``key`` and ``excluded`` name the set and the list of excluded films to the cache.
    """
    films, out = exclusions.without(_catalog)
    return splits.cut(films, data, seed), len(out)


def _films_a_patient(ids: pd.Series) -> str:
    films = ids[ids != ""].value_counts()
    several = films[films > 1]
    if several.empty:
        return f"{words.count(len(films), 'patient')}, one film each."
    return (
        f"{words.count(len(films), 'patient')}: {len(films) - len(several):,} with one film, "
        f"{len(several):,} with more, up to {films.max()}."
    )
