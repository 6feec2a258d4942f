"""Choosing a data set, and saying in a sentence what it is."""

import pandas as pd
import streamlit as st

from cxr_core import figures
from cxr_core.data import patients, sources
from cxr_core.data.catalog import Catalog
from cxr_core.errors import DatasetError
from cxr_core.ui import background, charts, loaders, means_view, notices, sources_view, words

SEEN = "dataset_seen"  # session key: the visitor has opened the Dataset page
_KIND = "data_kind"
_FOLDER = "data_folder"
_LOCAL = "data_local"
_TITLES = {
    sources.BUILT_IN: ":material/draw: Built-in phantoms",
    "local": ":material/inventory_2: Fetched sets",
    "folder": ":material/folder_open: A folder on this machine",
}
_AT_ONCE = 2.0  # seconds that even a page with something live on it waits for a set
LAYOUTS = (
    "A folder laid out as `train|val|test/CLASS/`, as plain `CLASS/`, or with a `metadata.csv` "
    "(`path,label` and, where known, `split,patient_id`). Files are read, never changed."
)


def choose(*, wait: bool = True) -> Catalog | None:
    """Draw the choice of a data set and open what is chosen.

    The same choice stands on every page that asks for data, and lasts the browser session.

    Args:
        wait: whether the page waits for a set that takes time to read. A page with something live
            on it does not: it is drawn anew once the set is there.

    Returns:
        The data set, or None where none is open: nothing typed yet, or the sentence that says what
        is wrong stands on the page.
    """
    came = sources_view.arrived()
    if came is not None:
        st.session_state[_KIND], st.session_state[_LOCAL] = "local", str(came)
    local = {str(kept.root): kept.source.title for kept in sources.local_sets()}
    kinds = [kind for kind in _TITLES if kind != "local" or local]
    # Not the widget's own first value: Streamlit warns where that and one set by a fetch meet.
    if st.session_state.get(_KIND) not in kinds:
        st.session_state[_KIND] = sources.BUILT_IN
    for key in (_KIND, _FOLDER, _LOCAL):
        if key in st.session_state:
            # Said again: a browser that comes from another page with this choice would show none.
            st.session_state[key] = st.session_state[key]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control(
            "Films from",
            kinds,
            required=True,
            format_func=lambda name: _TITLES[name],
            key=_KIND,
            persist_state="session",
        )
        root = sources.BUILT_IN
        if kind == "folder":
            root = st.text_input(
                "Folder",
                key=_FOLDER,
                placeholder="/home/me/chest-x-rays",
                help=LAYOUTS,
                persist_state="session",
            ).strip()
        elif kind == "local":
            root = st.selectbox(
                "Set",
                list(local),
                format_func=lambda folder: local[folder],
                key=_LOCAL,
                persist_state="session",
            )
        wanted = st.button("Get films", icon=":material/download:")
    if wanted:
        sources_view.choose()
    sources_view.progress()
    if not root:
        st.caption(LAYOUTS)
        return None
    if not wait and (work := loaders.reading(root)) and not work.ended(_AT_ONCE):
        background.watch(work, lambda done, total: loaders.pace(done, total, work.seconds), "set")
        return None
    try:
        catalog = loaders.catalog(root)
    except DatasetError as error:
        notices.wrong(error)
        return None
    loaders.use_data(root)
    return catalog


def take(root: str) -> None:
    """Have the choice show this data set; before it is drawn, as in a callback.

    Args:
        root: a folder, or the built-in set's name.
    """
    kept = {str(found.root) for found in sources.local_sets()}
    if root == sources.BUILT_IN:
        st.session_state[_KIND] = sources.BUILT_IN
    elif root in kept:
        st.session_state[_KIND], st.session_state[_LOCAL] = "local", root
    else:
        st.session_state[_KIND], st.session_state[_FOLDER] = "folder", root


def headline(catalog: Catalog) -> str:
    """Return the data set in one sentence: films, patients, share of each finding."""
    frame = labelled(catalog)
    people = frame["patient_id"].replace("", pd.NA).nunique()
    of = f" of {words.count(people, 'patient')}" if people else ""
    shares = frame["label"].value_counts(normalize=True)
    parts = [f"{words.percent(shares[label])} {words.finding(label)}" for label in catalog.classes]
    # Two classes share one number: the finding's.
    told = parts[1:] if len(parts) == 2 else parts
    return f"{words.count(len(frame), 'film')}{of}, {', '.join(told)}"


def labelled(catalog: Catalog) -> pd.DataFrame:
    """Return the films that can be used: readable and with a label."""
    frame = catalog.frame
    return frame[frame["readable"] & (frame["label"] != "")]


def patients_known(catalog: Catalog) -> str:
    """Return in a sentence how the set's patients are known."""
    rule = catalog.patient_rule
    return f"Patients are {rule}." if rule == patients.UNKNOWN else f"Patients are known by {rule}."


def notes(catalog: Catalog) -> list[str]:
    """Return what a reader should know before training on the set, a sentence each."""
    frame = labelled(catalog)
    said = [patients_known(catalog)]
    counts = frame["label"].value_counts()
    most, least = counts.index[0], counts.index[-1]
    if counts[most] >= 1.5 * counts[least]:
        said.append(
            f"{words.finding(most).capitalize()} has {counts[most] / counts[least]:.1f} times the "
            f"films of {words.finding(least)}. Read sensitivity and specificity, not accuracy "
            'alone; on the Train page "Rare classes" weighs them more or shows them more often.'
        )
    elif len(counts) > 1:
        said.append(f"The classes are near balance: {counts[most] / counts[least]:.1f} to 1.")
    sizes = frame["width"] * frame["height"]
    small, large = frame.iloc[int(sizes.argmin())], frame.iloc[int(sizes.argmax())]
    if sizes.min() == sizes.max():
        said.append(f"Every film is {small['width']} × {small['height']} px.")
    else:
        said.append(
            f"Films measure {small['width']} × {small['height']} to "
            f"{large['width']} × {large['height']} px."
        )
    twins = int(frame["md5"].duplicated().sum())
    if twins:
        said.append(f"{words.count(twins, 'file')} repeat another file byte for byte.")
    return said


def overview(catalog: Catalog) -> None:
    """Draw the Overview tab: balance, what is worth knowing, sizes, exposure, mean films."""
    frame = labelled(catalog)
    chart, told = st.columns([1.6, 1], gap="large")
    with chart:
        st.subheader("Films by part and class", anchor=False)
        charts.show(figures.balance(frame), key="balance", alt="Number of films by part and class")
    with told:
        st.subheader("Worth knowing", anchor=False)
        st.markdown("\n".join(f"- {words.plain(note)}" for note in notes(catalog)))
        unreadable(catalog)
        if st.button("Look at the files again", icon=":material/refresh:"):
            loaders.forget_catalog(loaders.data_root())
            st.rerun()
    _distributions(catalog, frame)
    means_view.panel(catalog, frame)


def _distributions(catalog: Catalog, frame: pd.DataFrame) -> None:
    labels = list(frame["label"])
    longer = frame[["width", "height"]].max(axis=1)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Size", anchor=False)
        if longer.nunique() == 1:
            st.markdown(f"The longer side of every film is {longer.iloc[0]:,} px.")
        else:
            charts.show(
                figures.distribution(longer, labels, catalog.classes, "longer side, px"),
                key="sizes",
                alt="Spread of the film sizes by class",
            )
    with right:
        st.subheader("Exposure", anchor=False)
        charts.show(
            figures.distribution(frame["mean"], labels, catalog.classes, "mean gray level, 0-255"),
            key="exposures",
            alt="Spread of the mean gray level by class",
        )


def unreadable(catalog: Catalog) -> None:
    """List the files that could not be read, if there are any."""
    lost = catalog.frame[~catalog.frame["readable"]]
    if lost.empty:
        return
    st.warning(
        f"{words.count(len(lost), 'file')} cannot be read and will not be used.",
        icon=":material/broken_image:",
    )
    with st.expander("Which, and why"):
        st.dataframe(
            lost[["path", "error"]].rename(columns={"path": "File", "error": "Why"}),
            hide_index=True,
        )
