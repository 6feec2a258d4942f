"""The gallery: films in a grid with filters and pages, and one film in detail beside it."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from cxr_core.data.catalog import Catalog
from cxr_core.ui import loaders, style, viewer, words

Film = Mapping[Hashable, Any]  # a row of a catalog

PAGE = 24  # films a page: what is drawn does not grow with the data set
_THUMBNAIL, _LARGE = 240, 900  # px, longer side
_PICKED = "film_picked"
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
    twins: Mapping[str, Sequence[str]],
) -> None:
    """Show the films of a data set, with filters above and one film at the side.

    Args:
        catalog: the data set.
        findings: films to choose from by name, such as those of each finding of the audit.
        twins: the films that are one picture with a film, by its path.
    """
    chosen, order = _filters(catalog, findings)
    grid, side = st.columns([2.4, 1], gap="large")
    with grid:
        if chosen.empty:
            st.markdown("No film passes these filters. Loosen one of them.")
            return
        # Kept across pages of the same filter only: another filter starts at its first page.
        pages = -(-len(chosen) // PAGE)
        which = f"{pd.util.hash_pandas_object(chosen['path'], index=False).sum():x}"
        key = f"films_page:{catalog.root}:{order}:{which}"
        shown = page(chosen, st.session_state.get(key, 1))
        chosen_path = _picked(catalog, shown)
        with st.grid(min_column_width=115, gap="small"):
            for film in shown.to_dict("records"):
                cell(
                    catalog,
                    film,
                    "grid",
                    caption=_caption(film, catalog),
                    picked=film["path"] == chosen_path,
                )
        if pages > 1:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.pagination(pages, key=key)
                st.caption(f"{words.count(len(chosen), 'film')}", width="content")
    with side, st.container(key="beside"):
        detail(catalog, _row(catalog, chosen_path), twins.get(chosen_path, ()))


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
            st.caption(_caption(film, catalog) + (f"  \n{remark}" if remark else ""))


def filter_by(catalog: Catalog, finding: str) -> None:
    """Have the gallery show the films of a finding of the audit, and pick none of them yet."""
    for name in ("labels", "splits", "text"):
        st.session_state.pop(f"films_{name}:{catalog.root}", None)
    st.session_state[f"films_finding:{catalog.root}"] = finding
    st.session_state.pop(_PICKED, None)


def page(frame: pd.DataFrame, number: int) -> pd.DataFrame:
    """Return one page of the films, the first page having number 1."""
    return frame.iloc[(number - 1) * PAGE : number * PAGE]


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
    frame = catalog.frame
    copies = frame[frame["path"].isin(twins)]
    if len(copies):
        st.caption(f"{words.count(len(copies), 'twin')} of this film")
        _row_of(catalog, copies, "twin")
    _others(catalog, row)


def _others(catalog: Catalog, row: pd.Series) -> None:
    if not row["patient_id"]:
        return
    frame = catalog.frame
    others = frame[(frame["patient_id"] == row["patient_id"]) & (frame["path"] != row["path"])]
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
    return catalog.frame[catalog.frame["path"] == path].iloc[0]


def _filters(catalog: Catalog, findings: Mapping[str, Sequence[str]]) -> tuple[pd.DataFrame, str]:
    """Draw the filter bar; return the films that pass, and the word for their order."""
    frame = catalog.frame
    splits = [s for s in ("train", "val", "test") if (frame["split"] == s).any()]
    if (frame["split"] == "").any() and splits:
        splits.append(_NO_SPLIT)
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
    if finding is not None:
        frame = among(frame, findings[finding])
    return ordered(matching(frame, parts, labels, text.strip()), order), order


def _caption(film: Film, catalog: Catalog) -> str:
    mark = style.dot(film["label"], catalog.classes) if film["label"] else "no label"
    return f"{mark}  \n{film['patient_id'] or Path(film['path']).name}"


def _picked(catalog: Catalog, shown: pd.DataFrame) -> str:
    """Return the film at the side: the one picked, else the first of the grid."""
    root, path = st.session_state.get(_PICKED, (None, ""))
    if root == str(catalog.root) and (catalog.frame["path"] == path).any():
        return str(path)
    return str(shown.iloc[0]["path"])


def _pick(catalog: Catalog, path: str) -> None:
    st.session_state[_PICKED] = (str(catalog.root), path)
