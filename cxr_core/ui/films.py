"""The gallery: films in a grid with filters and pages, and one film in detail beside it."""

import hashlib
from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core.data import exclusions
from cxr_core.data.catalog import Catalog
from cxr_core.errors import DatasetError
from cxr_core.ui import loaders, style, viewer, words

Film = Mapping[Hashable, Any]  # a row of a catalog

PAGE = 24  # films a page: what is drawn does not grow with the data set
_THUMBNAIL, _LARGE = 240, 900  # px, longer side
_PICKED = "film_picked"
_CHANGED = "exclusions_changed"  # session key: a click in the gallery changed the list
_NO_SPLIT = "none"
# How films may be ordered: by which measure, and whether from its smallest value on.
ORDERS: dict[str, tuple[str, bool] | None] = {
    "As listed": None,
    "Darkest first": ("mean", True),
    "Brightest first": ("mean", False),
    "Flattest first": ("std", True),
    "Smallest first": ("size", True),
    "Largest first": ("size", False),
}


@st.fragment
def gallery(
    catalog: Catalog,
    findings: Mapping[str, Sequence[str]],
    remarks: Mapping[str, Mapping[str, str]],
    twins: Mapping[str, Sequence[str]],
    excluded: Collection[str],
) -> None:
    """Show the films of a data set, with filters above and one film at the side.

    Args:
        catalog: the data set.
        findings: films to choose from by name, such as those of each finding of the audit.
        remarks: what such a choice says of single films, by its name and their paths.
        twins: the films that are one picture with a film, by its path.
        excluded: paths of the films that training leaves out.
    """
    if st.session_state.pop(_CHANGED, False):
        st.rerun()  # the findings above the gallery too
    rows, which, finding = _filters(catalog, findings)
    grid, side = st.columns([2.4, 1], gap="large")
    with grid:
        if not len(rows):
            st.markdown("No film passes these filters. Loosen one of them.")
            return
        # Kept across pages of the same filter only: another filter starts at its first page.
        pages = -(-len(rows) // PAGE)
        key = f"films_page:{catalog.root}:{which}"
        shown = catalog.frame.iloc[page(rows, st.session_state.get(key, 1))]
        chosen_path = _picked(catalog, shown)
        with st.grid(min_column_width=115, gap="small"):
            for film in shown.to_dict("records"):
                said = [remarks.get(finding or "", {}).get(film["path"], "")]
                said.append(":material/block: excluded" if film["path"] in excluded else "")
                cell(
                    catalog,
                    film,
                    "grid",
                    caption=_caption(film, catalog, *said),
                    picked=film["path"] == chosen_path,
                )
        if pages > 1:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.pagination(pages, key=key)
                st.caption(f"{words.count(len(rows), 'film')}", width="content")
    with side, st.container(key="beside"):
        row = _row(catalog, chosen_path)
        detail(catalog, row, twins.get(chosen_path, ()))
        _exclusion(catalog, chosen_path, chosen_path in excluded, finding or "Excluded by hand")


def strip(catalog: Catalog, frame: pd.DataFrame, most: int = 12) -> None:
    """Show a few films, the classes in turn."""
    turn = frame.groupby("label").cumcount()
    order = frame["label"].map({label: place for place, label in enumerate(catalog.classes)})
    shown = frame.assign(turn=turn, order=order).nsmallest(most, ["turn", "order"])
    with st.grid(6, min_column_width=90, gap="small"):
        for film in shown.to_dict("records"):
            data = loaders.thumbnail(
                str(catalog.root / film["path"]), str(film["modified"]), _THUMBNAIL
            )
            if data is not None:
                with st.container(gap=None, key=f"strip-{film['path']}"):
                    st.image(data, width="stretch", alt=f"Film {film['path']}")
                    st.caption(style.dot(film["label"], catalog.classes))


def still(catalog: Catalog, film: Film, place: str, *, remark: str | None = None) -> None:
    """Show one film small, without a click; with a remark, its class and patient stand below too.

    Args:
        catalog: the data set.
        film: which film.
        place: names the row of films, since a film may stand in two of them.
        remark: what there is to say of it; None leaves the film without words.
    """
    path = film["path"]
    data = loaders.thumbnail(str(catalog.root / path), str(film["modified"]), _THUMBNAIL)
    with st.container(gap=None, key=f"strip:{place}:{path}"):
        if data is None:
            st.caption(":material/broken_image: unreadable")
        else:
            st.image(data, width="stretch", alt=f"Film {path}")
        if remark is not None:
            st.caption(_caption(film, catalog, remark))


def filter_by(catalog: Catalog, finding: str) -> None:
    """Have the gallery show the films of a finding of the audit, and pick none of them yet."""
    for name in ("labels", "splits", "text"):
        st.session_state.pop(f"films_{name}:{catalog.root}", None)
    st.session_state[f"films_finding:{catalog.root}"] = finding
    st.session_state.pop(_PICKED, None)


def page(rows: np.ndarray, number: int) -> np.ndarray:
    """Return one page of the row numbers, the first page having number 1."""
    return rows[(number - 1) * PAGE : number * PAGE]


@st.cache_data(max_entries=64, show_spinner=False)
def selected(
    key: str,
    order: str,
    parts: tuple[str, ...],
    labels: tuple[str, ...],
    text: str,
    among_films: int,
    _frame: pd.DataFrame,
    _paths: Sequence[str] | None,
) -> tuple[np.ndarray, str]:
    """Return the row numbers of the films that pass the filters, in order, and a name for them.

    Worked out once, so that to turn a page costs the same in any set. ``key`` names the set and
    ``among_films`` the paths to the cache; the other arguments are as for :func:`matching`,
    :func:`among` and :func:`ordered`.
    """
    frame = _frame.reset_index(drop=True)
    if _paths is not None:
        frame = among(frame, _paths)
    rows = ordered(matching(frame, parts, labels, text), order).index.to_numpy()
    return rows, f"{order}:{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}"


def matching(
    frame: pd.DataFrame, splits: Sequence[str], labels: Sequence[str], text: str
) -> pd.DataFrame:
    """Return the films that pass all filters; an empty filter passes every film.

    Args:
        frame: a catalog's rows.
        splits: parts to keep; "none" stands for films without one.
        labels: classes to keep.
        text: letters that must be in the path or the patient's id, in any case.
    """
    keep = pd.Series(True, index=frame.index)
    if splits:
        keep &= frame["split"].replace("", _NO_SPLIT).isin(splits)
    if labels:
        keep &= frame["label"].isin(labels)
    if text:
        keep &= frame["path"].str.contains(text, case=False, regex=False) | frame[
            "patient_id"
        ].str.contains(text, case=False, regex=False)
    return frame[keep]


def among(frame: pd.DataFrame, paths: Sequence[str]) -> pd.DataFrame:
    """Return the films of these paths in the order of the paths."""
    place = {path: number for number, path in enumerate(dict.fromkeys(paths))}
    rows = frame[frame["path"].isin(place)]
    return rows.iloc[rows["path"].map(place).argsort(kind="stable")]


def ordered(frame: pd.DataFrame, order: str) -> pd.DataFrame:
    """Return films in one of the ``ORDERS``; in the order they came for any other word."""
    rule = ORDERS.get(order)
    if rule is None:
        return frame
    by, rising = rule
    key = frame["width"] * frame["height"] if by == "size" else frame[by]
    places = key.argsort(kind="stable") if rising else (-key).argsort(kind="stable")
    return frame.iloc[places]


def cell(catalog: Catalog, film: Film, place: str, *, caption: str, picked: bool = False) -> None:
    """Draw one film of a grid; a click on it picks it.

    Args:
        catalog: the data set.
        film: which film.
        place: names the grid, since a film may stand in two of them.
        caption: the text below.
        picked: whether it is the one in detail at the side.
    """
    path = film["path"]
    data = loaders.thumbnail(str(catalog.root / path), str(film["modified"]), _THUMBNAIL)
    # The style sheet lays the button over the film and frames the picked one.
    with st.container(key=f"film{'-picked' if picked else ''}:{place}:{path}", gap=None):
        if data is None:
            st.caption(":material/broken_image: unreadable")
        else:
            st.image(data, width="stretch", alt=f"Film {path}")
        st.button(f"Show {path}", key=f"pick:{place}:{path}", on_click=_pick, args=(catalog, path))
        st.caption(caption)


def picked(catalog: Catalog) -> pd.Series | None:
    """Return the film picked in the gallery, else the first readable one; None if there is none."""
    readable = catalog.frame[catalog.frame["readable"]]
    return None if readable.empty else _row(catalog, _picked(catalog, readable))


def detail(catalog: Catalog, row: pd.Series, twins: Sequence[str]) -> None:
    """Show one film large, what is known of it, its twins and the patient's other films."""
    path = catalog.root / row["path"]
    data = loaders.thumbnail(str(path), str(row["modified"]), _LARGE)
    if data is None:
        st.error(f"{row['path']} cannot be read. {row['error']}", icon=":material/broken_image:")
    else:
        st.image(data, width="stretch", alt=f"Film {row['path']}")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        if row["label"]:
            st.badge(row["label"], color=style.colour(row["label"], catalog.classes))
        if row["split"]:
            st.badge(row["split"], color="gray")
        if catalog.synthetic:
            st.badge("synthetic", icon=":material/draw:", color="gray")
        closer = data is not None and st.button("Look closer", icon=":material/zoom_in:")
    if closer:  # not from a callback: a dialog drawn there takes the place of the style sheet
        viewer.open_film(str(path), str(row["modified"]))
    facts = {
        "File": row["path"],
        "Patient": row["patient_id"] or "not known",
        "Size": f"{row['width']} × {row['height']} px, {row['mode']}",
        "On disk": words.size(int(row["bytes"])),
        "Gray level": f"mean {row['mean']:.0f}, spread {row['std']:.0f} (of 0 to 255)",
    }
    st.table(pd.Series(facts, name="").to_frame(), border="horizontal", hide_header=True)
    copies = catalog.frame.iloc[[catalog.rows[path] for path in twins if path in catalog.rows]]
    if len(copies):
        st.caption(f"{words.count(len(copies), 'twin')} of this film")
        _row_of(catalog, copies, "twin")
    _others(catalog, row)


def _exclusion(catalog: Catalog, path: str, excluded: bool, reason: str) -> None:
    """Offer to leave the film out of training, or to take it back."""
    if excluded:
        st.caption(":material/block: Training leaves this film out. The file is where it was.")
        st.button(
            "Use it again",
            icon=":material/undo:",
            key="include_picked",
            on_click=_include,
            args=(catalog, path),
        )
    else:
        st.button(
            "Exclude from training",
            icon=":material/block:",
            key="exclude_picked",
            help="Training leaves it out and records that. No file is deleted.",
            on_click=_exclude,
            args=(catalog, path, reason),
        )


def _exclude(catalog: Catalog, path: str, reason: str) -> None:
    try:
        exclusions.exclude(catalog, [path], reason)
    except DatasetError as error:
        st.toast(str(error))
    st.session_state[_CHANGED] = True


def _include(catalog: Catalog, path: str) -> None:
    try:
        exclusions.include(catalog, [path])
    except DatasetError as error:
        st.toast(str(error))
    st.session_state[_CHANGED] = True


def _others(catalog: Catalog, row: pd.Series) -> None:
    if not row["patient_id"]:
        return
    films = catalog.frame.iloc[catalog.rows_of_patient[row["patient_id"]]]
    others = films[films["path"] != row["path"]]
    if others.empty:
        st.caption("The patient's only film.")
        return
    st.caption(f"{words.count(len(others), 'more film')} of this patient")
    _row_of(catalog, others, "patient")


def _row_of(catalog: Catalog, frame: pd.DataFrame, place: str) -> None:
    with st.grid(min_column_width=80, gap="small"):
        for other in frame.head(6).to_dict("records"):
            cell(catalog, other, place, caption=other["label"])


def _row(catalog: Catalog, path: str) -> pd.Series:
    return catalog.frame.iloc[catalog.rows[path]]


def _filters(
    catalog: Catalog, findings: Mapping[str, Sequence[str]]
) -> tuple[np.ndarray, str, str | None]:
    """Draw the filter bar; return the rows that pass, a name for them, and the finding chosen."""
    splits = [part or _NO_SPLIT for part in catalog.parts]
    splits = splits if splits != [_NO_SPLIT] else []
    with st.container(horizontal=True, vertical_alignment="bottom"):
        labels = st.pills(
            "Class",
            list(catalog.classes),
            selection_mode="multi",
            format_func=lambda label: style.dot(label, catalog.classes),
            key=f"films_labels:{catalog.root}",
        )
        parts = (
            st.pills("Part", splits, selection_mode="multi", key=f"films_splits:{catalog.root}")
            if splits
            else []
        )
        finding = None
        if findings:
            asked = f"films_finding:{catalog.root}"
            if st.session_state.get(asked) not in findings:
                st.session_state.pop(asked, None)  # the finding is gone, its filter with it
            finding = st.selectbox(
                "Finding of the audit",
                list(findings),
                index=None,
                placeholder="Any film",
                key=asked,
                width=260,
            )
        order = st.selectbox("Order", list(ORDERS), key=f"films_order:{catalog.root}", width=170)
        text = st.text_input(
            "File or patient",
            key=f"films_text:{catalog.root}",
            type="search",
            icon=":material/search:",
            width=200,
        )
    paths = None if finding is None else findings[finding]
    rows, which = selected(
        loaders.key(catalog),
        order,
        tuple(parts),
        tuple(labels),
        text.strip(),
        0 if paths is None else hash(tuple(paths)),
        catalog.frame,
        paths,
    )
    return rows, which, finding


def _caption(film: Film, catalog: Catalog, *remarks: str) -> str:
    """Return class, patient (or file) and remarks, a line each."""
    mark = style.dot(film["label"], catalog.classes) if film["label"] else "no label"
    who = film["patient_id"] or Path(film["path"]).name
    return "  \n".join(filter(None, [mark, who, *remarks]))


def _picked(catalog: Catalog, shown: pd.DataFrame) -> str:
    """Return the film at the side: the one picked, else the first of the grid."""
    root, path = st.session_state.get(_PICKED, (None, ""))
    if root == str(catalog.root) and path in catalog.rows:
        return str(path)
    return str(shown.iloc[0]["path"])


def _pick(catalog: Catalog, path: str) -> None:
    st.session_state[_PICKED] = (str(catalog.root), path)
