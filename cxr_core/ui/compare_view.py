"""Two or more runs beside each other, on the test films that they have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import figures
from cxr_core.config import settings
from cxr_core.errors import CxrError
from cxr_core.evaluation import comparison, scores
from cxr_core.training.tested import Films, RunResult
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import charts, ensemble_view, loaders, notices, results_view, run_films, words

_FEW = 50  # common test films; fewer say little


@dataclass(frozen=True, eq=False)
class Compared:
    """Runs with a model, and what each said about the same test films."""

    runs: Mapping[str, RunRecord]  # by a name that no other has
    tested: Mapping[str, RunResult]  # the test films are the common ones, in one order

    @property
    def first(self) -> RunResult:
        """The run that the others are compared with."""
        return next(iter(self.tested.values()))


def show(runs: Sequence[RunRecord]) -> None:
    """Draw a comparison; the first run is what the others are measured by.

    Args:
        runs: two or more.
    """
    st.markdown(f"### {words.count(len(runs), 'run')} beside each other")
    with_model = [run for run in runs if run.has_model]
    if len(with_model) < len(runs):
        st.caption("Runs without a model of their own are compared by their settings alone.")
    names = unique_names(runs)
    try:
        compared = common(
            {names[run.run_id]: run for run in with_model},
            {names[run.run_id]: loaders.tested(run.run_id) for run in with_model},
        )
    except CxrError as error:
        notices.wrong(error)
        return
    if isinstance(compared, str):
        st.markdown(compared)
    else:
        _judged(compared)
    st.markdown("#### Settings that differ")
    _settings({names[run.run_id]: run for run in runs})
    st.markdown("#### One model of all")
    ensemble_view.offer(runs)


def unique_names(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return a name for each run by its id; those of one name get the start of their id, too."""
    names = [run.name for run in runs]
    return {
        run.run_id: run.name if names.count(run.name) == 1 else f"{run.name} ({run.run_id[:6]})"
        for run in runs
    }


def common(runs: Mapping[str, RunRecord], tested: Mapping[str, RunResult]) -> Compared | str:
    """Bring runs to the test films that all of them have, or say why that cannot be.

    Films are the same where contents and label agree, wherever they lie.
    """
    if len(tested) < 2:
        return "Two runs with a model are needed to compare what they say about test films."
    classes = {each.info.classes for each in tested.values()}
    if len(classes) > 1:
        lists = "; ".join(words.listing(list(names)) for names in sorted(classes))
        return (
            f"These runs tell different classes apart ({words.plain(lists)}), so their answers "
            "differ in kind."
        )
    keys = {name: _keys(each.test.table) for name, each in tested.items()}
    shared, *others = keys.values()
    for other in others:
        shared = shared.intersection(other, sort=False)
    if len({label for _, label, _ in shared}) < 2:
        return (
            "These runs have no test films in common, or of one class only: they were trained on "
            "other films, or divided them by another seed. Train them on the same films with the "
            "same seed and shares to compare them."
        )
    return Compared(
        runs,
        {
            name: replace(each, test=_taken(each.test, keys[name].get_indexer(shared)))
            for name, each in tested.items()
        },
    )


def _keys(table: pd.DataFrame) -> pd.MultiIndex:
    """Return what names each film: contents, label, and which it is of several such copies."""
    copy = table.groupby(["md5", "label"]).cumcount()
    return pd.MultiIndex.from_arrays([table["md5"], table["label"], copy])


def _taken(films: Films, rows: np.ndarray) -> Films:
    return Films(
        films.table.iloc[rows].reset_index(drop=True),
        films.labels[rows],
        films.logits[rows],
        films.probabilities[rows],
    )


def _judged(compared: Compared) -> None:
    first = compared.first
    test = first.test
    own = {name: len(loaders.tested(run.run_id).test) for name, run in compared.runs.items()}
    few = " So few films say little." if len(test) < _FEW else ""
    of = words.listing([f"{number:,} of {words.plain(name)}" for name, number in own.items()])
    st.caption(
        f"On the {words.count(len(test), 'test film')} that all of them have, each at its own "
        f"threshold, of {of}.{few}"
    )
    _metrics(compared)
    left, right = st.columns([1.1, 1], gap="large")
    with left:
        st.markdown("**ROC, any finding**")
        charts.show(
            figures.rocs(
                test.labels,
                {n: scores.abnormal(t.test.probabilities) for n, t in compared.tested.items()},
                {n: t.info.threshold.value for n, t in compared.tested.items()},
            ),
            key="compare:roc",
            alt="ROC curves of the compared runs on their common test films",
        )
    with right:
        _tests(compared)
    _disagreements(compared)


def _metrics(compared: Compared) -> None:
    paired = _paired(
        tuple((name, run.run_id, run.created.isoformat()) for name, run in compared.runs.items()),
        compared,
    )
    reference = words.plain(paired["reference"])
    rows = []
    for metric, title in results_view.METRIC_TITLES.items():
        row = {"Metric": title}
        for name, model in paired["models"].items():
            row[words.plain(name)] = _with_interval(
                metric, model[metric], model["ci95"].get(metric)
            )
        for name, differences in paired["differences"].items():
            found = differences[metric]
            row[f"{words.plain(name)} less {reference}"] = _with_interval(
                metric, found["value"], found["ci95"], signed=True
            )
        rows.append(row)
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
    st.caption(
        "In brackets 95 % intervals; those of differences by paired bootstrap over patients: the "
        "same patients are drawn for all runs, so an interval may differ a little from the one on "
        "the run's own page. Points are percentage points. An interval that holds 0 leaves open "
        "which is better. In bold those that do not; of so many figures one or another is bold by "
        "chance."
    )


def _with_interval(
    metric: str, value: float | None, bounds: Sequence[float] | None, *, signed: bool = False
) -> str:
    scale, digits = (100, 1) if metric in results_view.SHARES else (1, 3)
    if value is None:
        return "–"
    sign = "+" if signed else ""
    text = f"{scale * value:{sign}.{digits}f}"
    if bounds:
        text += " (" + " to ".join(f"{scale * bound:{sign}.{digits}f}" for bound in bounds) + ")"
    text += (" points" if signed else " %") if scale == 100 else ""
    decided = signed and bounds and (bounds[0] > 0 or bounds[1] < 0)
    return f"**{text}**" if decided else text


@st.cache_data(max_entries=20, show_spinner="Comparing")
def _paired(key: tuple[tuple[str, str, str], ...], _compared: Compared) -> dict[str, Any]:
    info, test = _compared.first.info, _compared.first.test
    return comparison.paired(
        test.labels,
        {name: each.test.probabilities for name, each in _compared.tested.items()},
        {name: each.info.threshold.value for name, each in _compared.tested.items()},
        info.classes,
        patients=test.patients,
        # Where runs have all their test films in common, the intervals are those of the first's.
        seed=int(info.config.get("seed", 0)),
    )


def _tests(compared: Compared) -> None:
    """Say what the classical tests say of each run against the first."""
    (reference, first), *others = compared.tested.items()
    test = first.test
    finding = test.labels != 0
    for name, other in others:
        st.markdown(f"**{words.plain(name)} against {words.plain(reference)}**")
        if 2 <= finding.sum() <= len(finding) - 2:
            areas = comparison.delong(
                finding,
                scores.abnormal(test.probabilities),
                scores.abnormal(other.test.probabilities),
                patients=test.patients,
            )
            st.markdown(f"AUROC, any finding (DeLong): {areas.words}")
        else:
            st.markdown(
                "AUROC, any finding (DeLong): the test needs two films with a finding and two "
                "without among the common ones."
            )
        right = [
            scores.decide(each.test.probabilities, each.info.threshold.value) == test.labels
            for each in (first, other)
        ]
        decisions = comparison.mcnemar(*right, patients=test.patients)
        st.markdown(f"Decisions (McNemar): {decisions.words}")


def _disagreements(compared: Compared) -> None:
    decided = {
        name: scores.decide(each.test.probabilities, each.info.threshold.value)
        for name, each in compared.tested.items()
    }
    table = np.stack(list(decided.values()))
    rows = np.flatnonzero((table != table[0]).any(axis=0))
    st.markdown(f"#### {words.count(len(rows), 'film')} on which they disagree")
    if not len(rows):
        return
    abnormal = {n: scores.abnormal(t.test.probabilities) for n, t in compared.tested.items()}
    spread = np.ptp(np.stack(list(abnormal.values())), axis=0)
    rows = rows[np.argsort(-spread[rows], kind="stable")]
    classes = compared.first.info.classes
    said = {
        int(row): "  \n".join(
            f"{words.plain(name)}: {words.plain(words.finding(classes[decided[name][row]]))}, "
            f"{words.probability(float(abnormal[name][row]))}"
            for name in compared.tested
        )
        for row in rows
    }
    st.caption(
        "Those first on which the probabilities of any finding lie furthest apart. Heat maps are "
        f"of {words.plain(next(iter(compared.tested)))}."
    )
    run = next(iter(compared.runs.values()))
    first = compared.first
    run_films.grid(
        run, first, rows, first.info.threshold.value, f"disagree:{'-'.join(compared.runs)}", said
    )


def _settings(runs: Mapping[str, RunRecord]) -> None:
    rows = []
    for setting in settings():
        values = {name: run.params.get(setting.path, "–") for name, run in runs.items()}
        if len(set(values.values())) > 1:
            rows.append({"Setting": setting.path, **values, "What it is": setting.help})
    if not rows:
        st.markdown("None: the runs have the same settings.")
        return
    st.dataframe(pd.DataFrame(rows), hide_index=True, height="content")
