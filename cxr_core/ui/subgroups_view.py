"""Results by subgroup: whether a run's model is as good on every kind of film."""

import re
from typing import Any

import pandas as pd
import streamlit as st

from cxr_core import figures
from cxr_core.data.catalog import COLUMNS, Catalog
from cxr_core.errors import CxrError
from cxr_core.evaluation import subgroups
from cxr_core.training.tested import RunResult
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import charts, loaders, notices, run_films, words

_BAND = re.compile(r"(-?[\d,.]+)( to -?[\d,.]+)?$")  # a group that `subgroups.bands` made
_MOST_GROUPS = 12  # more values than this, and numbers become bands
_FIGURES = {"auc": "AUROC", "sensitivity": "Sensitivity", "specificity": "Specificity"}


def show(run: RunRecord, tested: RunResult) -> None:
    """Draw a metric by group of the test films, the groups chosen by the reader."""
    st.markdown("#### By subgroup")
    folder = run_films.root(run)
    if folder is None or not folder.is_dir():
        st.markdown("The films are not where they were, so nothing is known of them.")
        return
    try:
        catalog = loaders.catalog(run.params["data.root"])
    except CxrError as error:
        notices.wrong(error)
        return
    kinds = divisions(catalog, tested)
    if not kinds:
        st.markdown("Nothing that is known of the test films divides them.")
        return
    left, right = st.columns([1, 2])
    kind = left.selectbox("Divided by", list(kinds), key=f"subgroups:{run.run_id}")
    metric = right.segmented_control(
        "Figure",
        list(_FIGURES),
        default="auc",
        required=True,
        format_func=_FIGURES.__getitem__,
        key=f"subgroups:metric:{run.run_id}",
    )
    rows = _rows(run.run_id, tested.info.created, kind, tuple(kinds[kind]), tested)
    if all(row[metric] is None for row in rows):
        st.markdown("No group has films of both kinds, so this figure is undefined.")
        return
    charts.show(
        figures.by_group(
            rows, metric, _FIGURES[metric], tested.info.metrics.get("test", {}).get(metric)
        ),
        key=f"subgroups:{run.run_id}:figure",
        alt=f"{_FIGURES[metric]} by {kind.lower()}, with 95 % intervals",
    )
    st.table(_table(rows), border="horizontal", hide_index=True)
    st.caption(
        "Dotted: all test films. Lines and brackets are 95 % intervals by bootstrap over patients; "
        "a small group says little, and of many groups one is low by chance. A group without "
        "findings, or without normal films, has no AUROC."
    )


def divisions(catalog: Catalog, tested: RunResult) -> dict[str, list[str]]:
    """Return by which columns test films can be divided, with each film's group.

    Sizes and exposure are cut into quarters; so is a column of ``metadata.csv`` with many numbers.
    """
    frame = catalog.frame.set_index("path").reindex(tested.test.table["path"])
    # Films that are gone have no size; as Int64 the others stay whole numbers beside them.
    width, height = (frame[side].astype("Int64").astype("string") for side in ("width", "height"))
    size = width + " x " + height
    found = {
        "Image size": _groups(size)
        if size.nunique() <= _MOST_GROUPS
        else subgroups.bands(list(frame["width"])),
        "Exposure (mean gray)": subgroups.bands(list(frame["mean"])),
        "Kind of file": _groups(frame.index.to_series().str.rpartition(".")[2].str.upper()),
        "Folder": _groups(frame.index.to_series().str.rpartition("/")[0]),
    }
    for name in frame.columns:
        if name not in COLUMNS:
            found[str(name)] = _groups(frame[name])
    return {name: groups for name, groups in found.items() if len(set(groups)) > 1}


def _groups(column: pd.Series) -> list[str]:
    if column.nunique() > _MOST_GROUPS:
        numbers = pd.to_numeric(column, errors="coerce")
        if numbers.notna().mean() > 0.5:
            return subgroups.bands(list(numbers))
        common = column.value_counts().index[: _MOST_GROUPS - 1]
        column = column.where(column.isin(common), "others")
    return [str(value) if pd.notna(value) else "" for value in column]


@st.cache_data(max_entries=50, show_spinner=False)
def _rows(
    run_id: str, created: str, kind: str, groups: tuple[str, ...], _tested: RunResult
) -> list[dict[str, Any]]:
    info, test = _tested.info, _tested.test
    rows = subgroups.by_group(
        test.labels,
        test.probabilities,
        groups,
        info.classes,
        info.threshold.value,
        patients=test.patients,
        seed=int(info.config.get("seed", 0)),
    )
    starts = [_BAND.match(row["group"]) for row in rows]
    numbers = [float(start[1].replace(",", "")) for start in starts if start]
    if len(numbers) < len(rows):
        return rows
    return [row for _, row in sorted(zip(numbers, rows, strict=True), key=lambda pair: pair[0])]


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    def figure(row: dict[str, Any], name: str) -> str:
        write = words.figure if name == "auc" else words.percent
        bounds = row["ci95"].get(name)
        spread = f" ({' to '.join(write(bound) for bound in bounds)})" if bounds else ""
        return f"{write(row[name])}{spread}"

    return pd.DataFrame(
        [
            {
                "Group": words.plain(row["group"]),
                "Films": row["n"],
                "Patients": "–" if row["patients"] is None else row["patients"],
                "With a finding": row["findings"],
                **{title: figure(row, name) for name, title in _FIGURES.items()},
            }
            for row in rows
        ]
    ).astype({"Patients": str})
