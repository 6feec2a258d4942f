"""A cross-validation opened: its folds, what they say on average, and all their films pooled."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from cxr_core import figures
from cxr_core.errors import TrainingError
from cxr_core.evaluation import calibration
from cxr_core.training import folds, jobs
from cxr_core.training.tracking import Kind, RunRecord
from cxr_core.ui import charts, downloads, loaders, monitor, notices, results_view, words

EVERY = 5.0  # seconds between two looks at one that is at work


def top_level(runs: Sequence[RunRecord], opened: Collection[str] = ()) -> list[RunRecord]:
    """Return the runs that a list should show: folds and trials stand in what they are part of.

    Args:
        runs: all runs.
        opened: ids of those that are shown in any case.
    """
    parents = {run.run_id for run in runs if run.kind in (Kind.FOLDS, Kind.SWEEP)}
    return [run for run in runs if run.parent not in parents or run.run_id in opened]


def show(parent: RunRecord, runs: Sequence[RunRecord]) -> None:
    """Draw a cross-validation, as far as it is; drawn anew now and then while it is at work.

    Args:
        parent: its entry.
        runs: all runs, the folds' among them.
    """
    if parent.status.active:
        st.fragment(_follow, run_every=EVERY)(parent.run_id)
    else:
        _draw(parent, [run for run in runs if run.parent == parent.run_id])


def _follow(run_id: str) -> None:
    store = loaders.store()
    parent = jobs.bury_if_dead(store.get(run_id), store)
    if not parent.status.active:
        st.rerun()
    _draw(parent, folds.children(run_id, store))


def _draw(parent: RunRecord, children: Sequence[RunRecord]) -> None:
    _folds(parent, folds.by_number(children))
    if parent.status.active:
        st.caption("Mean, deviation and pooled figures appear here once every fold has ended.")
        return
    try:
        summary = folds.summary(parent, loaders.store())
    except TrainingError as error:
        notices.wrong(error)
        return
    if summary is not None and summary["pooled"] is not None:
        _together(parent, summary)


def _folds(parent: RunRecord, own: Mapping[int, RunRecord]) -> None:
    number = int(parent.params["data.folds"])
    rows = []
    for fold in range(1, number + 1):
        run = own.get(fold)
        figures_of = run.metrics if run else {}
        status = monitor.STATUS_WORDS[run.status] if run else "not there"
        rows.append(
            {
                "Fold": str(fold),
                "Status": status,
                "Films held out": run.params.get("test_films", "–") if run else "–",
                "Test AUROC": words.figure(figures_of.get("test_auc")),
                "Sensitivity": words.percent(figures_of.get("test_sensitivity")),
                "Specificity": words.percent(figures_of.get("test_specificity")),
                "Accuracy": words.percent(figures_of.get("test_accuracy")),
            }
        )
    st.markdown("**Folds**, each tested on films that its model never saw")
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
    with st.container(horizontal=True, gap="xsmall"):
        for fold, run in own.items():
            if st.button(
                f"Fold {fold}",
                key=f"fold:{run.run_id}",
                icon=":material/open_in_full:",
                type="tertiary",
                help="Open the run of this fold.",
            ):
                st.switch_page("pages/runs.py", query_params={"run": run.run_id})


def _together(parent: RunRecord, summary: Mapping[str, Any]) -> None:
    pooled = summary["pooled"]
    done = len(summary["done"])
    of = f" of {words.count(pooled['patients'], 'patient')}" if pooled["patients"] else ""
    unseen = "its patient" if pooled["patients"] else "it"
    missing = summary["folds"] - done
    st.markdown(
        f"**Together:** {words.count(pooled['n'], 'film')}{of}, each predicted by the one model "
        f"of {done} that never saw {unseen}"
        + (f"; {words.count(missing, 'fold')} missing." if missing else ".")
    )
    left, right = st.columns(2, gap="large")
    with left:
        st.table(table(summary), border="horizontal", hide_index=True)
        st.caption(
            "The deviation says how much a figure depends on which films were held out. The 95 % "
            "interval is that of the pooled films, by bootstrap over patients. Each film is "
            "decided at the threshold of its own fold."
        )
    with right:
        _curve(parent, summary)
    _files(parent)


def table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return mean ± deviation over the folds, the pooled figure and its interval, as text."""
    rows = []
    for name, title in results_view.METRIC_TITLES.items():
        over_folds, pooled = summary["metrics"][name], summary["pooled"]
        if over_folds["mean"] is None:
            continue
        share = name in results_view.SHARES
        bounds = pooled["ci95"].get(name)
        rows.append(
            {
                "Metric": title,
                "Mean ± deviation": spread(over_folds["mean"], over_folds["sd"], share=share),
                "Pooled": (words.percent if share else words.figure)(pooled[name]),
                "95 % interval": _percents(bounds) if share else words.interval(bounds),
            }
        )
    return pd.DataFrame(rows)


def spread(mean: float, deviation: float | None, *, share: bool) -> str:
    """Write a mean with its deviation: "0.987 ± 0.004", "91.2 ± 1.3 %"."""
    scale, digits, unit = (100, 1, " %") if share else (1, 3, "")
    about = "" if deviation is None else f" ± {scale * deviation:.{digits}f}"
    return f"{scale * mean:.{digits}f}{about}{unit}"


def _percents(bounds: Sequence[float] | None) -> str:
    return " to ".join(words.percent(bound) for bound in bounds) if bounds else "–"


def _curve(parent: RunRecord, summary: Mapping[str, Any]) -> None:
    """Draw the reliability of the pooled probabilities."""
    try:
        pooled = folds.predictions(parent, loaders.store())
    except TrainingError as error:
        notices.wrong(error)
        return
    classes = summary["classes"]
    labels = [classes.index(label) for label in pooled["label"]]
    bins = calibration.reliability(labels, folds.probabilities(pooled, classes))
    st.markdown("**Calibration of all films pooled**")
    charts.show(
        figures.reliability({"Pooled folds": bins}),
        key=f"folds_reliability:{parent.run_id}",
        alt="Reliability diagram of the pooled predictions",
    )


def _files(parent: RunRecord) -> None:
    with st.container(horizontal=True):
        for name in (folds.PREDICTIONS_FILE, folds.SUMMARY_FILE, "config.yaml"):
            downloads.artefact(parent.run_id, name)
