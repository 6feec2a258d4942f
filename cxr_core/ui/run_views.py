"""Runs as tables and as opened records: headline, tabs, settings, files."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.elements.arrow import DataframeStateInput

from cxr_core.config import settings
from cxr_core.errors import CxrError, TrainingError
from cxr_core.training.tracking import (
    TAG_DATA,
    TAG_DEVICE,
    TAG_NODE,
    TAG_NOTES,
    TAG_PRUNED,
    TAG_RECIPE,
    TAG_SYNTHETIC,
    Kind,
    RunRecord,
    Status,
)
from cxr_core.ui import (
    calibration_view,
    card_view,
    downloads,
    export_view,
    folds_view,
    loaders,
    mistakes_view,
    models,
    monitor,
    notices,
    publish_view,
    results_view,
    subgroups_view,
    sweep_view,
    trust_view,
    words,
)

_VALIDATION = "val_auroc"
_STATUS_COLOURS = {
    monitor.STATUS_WORDS[Status.RUNNING]: "#3E9BCF",
    monitor.STATUS_WORDS[Status.FINISHED]: "#18A39B",
    monitor.STATUS_WORDS[Status.STOPPED]: "#18A39B",
    monitor.STATUS_WORDS[Status.FAILED]: "#E5534B",
}


def headline(runs: Sequence[RunRecord]) -> str:
    """Return all runs in one sentence."""
    if not runs:
        return "No run yet"
    done = sum(run.has_model for run in runs)
    active = sum(run.status.active for run in runs)
    parts = [words.count(len(runs), "run")]
    if done:
        parts.append(f"{done} with a model")
    if active:
        parts.append(f"{active} at work or waiting")
    return ", ".join(parts)


def train_headline(runs: Sequence[RunRecord]) -> str:
    """Return what the device does now, in one sentence."""
    working = next((run for run in runs if run.status is Status.RUNNING), None)
    waiting = sum(run.status is Status.QUEUED for run in runs)
    if working:
        behind = f", {words.count(waiting, 'run')} waiting" if waiting else ""
        return f"Training {working.name}{behind}"
    return f"{words.count(waiting, 'run')} about to start" if waiting else "Train a model"


def table(runs: Sequence[RunRecord], opened: Sequence[RunRecord], key: str) -> list[RunRecord]:
    """Draw the table of runs with some of them open; return those selected, else the same."""
    rows = [
        {
            "Run": run.name,
            "Status": monitor.STATUS_WORDS[run.status],
            "Films": run.tags.get(TAG_DATA, "") + (" (synthetic)" if synthetic(run) else ""),
            "Network": run.params.get("model.architecture", ""),
            "Size": int(run.params.get("image.size", 0)),
            "Validation AUROC": _validation_auroc(run),
            "Test AUROC": run.metrics.get("test_auc"),
            "Sensitivity": _percent(run.metrics.get("test_sensitivity")),
            "Specificity": _percent(run.metrics.get("test_specificity")),
            "Duration": words.duration(run.duration),
            "Started": run.created,
        }
        for run in runs
    ]
    share = st.column_config.NumberColumn(format="%.1f %%")
    marked: DataframeStateInput = {
        "selection": {"rows": [place for place, run in enumerate(runs) if run in opened]}
    }
    # Rows are selected by their place: where a run comes or goes, the table is a new one, and
    # begins with the runs that were open.
    places = hashlib.sha256("".join(run.run_id for run in runs).encode()).hexdigest()[:16]
    state = st.dataframe(
        pd.DataFrame(rows).style.map(_status_colour, subset=["Status"]),
        key=f"{key}:{places}",
        selection_default=marked,
        placeholder="–",
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        column_config={
            "Run": st.column_config.TextColumn(pinned=True),
            "Size": st.column_config.NumberColumn(format="%d px"),
            "Validation AUROC": st.column_config.LineChartColumn(y_min=0.5, y_max=1.0, width=140),
            "Test AUROC": st.column_config.NumberColumn(format="%.3f"),
            "Sensitivity": share,
            "Specificity": share,
            "Started": st.column_config.DatetimeColumn(format="distance"),
        },
    )
    chosen = state["selection"]["rows"]
    return [runs[place] for place in chosen if place < len(runs)] or list(opened)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _status_colour(status: Any) -> str:
    """Return the style of a status cell; mid-tones, legible on a dark and on a light page."""
    return f"color: {_STATUS_COLOURS.get(status, '#8A96A1')}"


def _validation_auroc(run: RunRecord) -> list[float]:
    """Return a run's validation AUROC, epoch by epoch."""
    if run.ended is None:
        return sparkline(loaders.store().curves(run.run_id, [_VALIDATION]))
    return _of_ended(loaders.store().uri, run.run_id, run.ended)


@st.cache_data(max_entries=20_000, show_spinner=False)
def _of_ended(uri: str, run_id: str, ended: datetime) -> list[float]:
    # An ended run records nothing more, and one that is resumed ends at another time.
    return sparkline(loaders.store().curves(run_id, [_VALIDATION]))


def sparkline(curve: pd.DataFrame) -> list[float]:
    """Return the values of one metric in the order of its steps."""
    return [float(value) for value in curve.sort_values("step")["value"]]


def synthetic(run: RunRecord) -> bool:
    """Return whether a run's films were drawn, not taken."""
    return run.tags.get(TAG_SYNTHETIC) == "true"


def details(run: RunRecord, runs: Sequence[RunRecord]) -> None:
    """Show one run: what it is worth in a sentence, then everything behind it.

    Args:
        run: the run.
        runs: all runs, for those drawn beside it.
    """
    monitor.heading(run, "runs")
    st.caption(_origin(run))
    of_sweep(run, runs, here="runs")
    if run.status is Status.FAILED:
        monitor.reason(run)
    summary = evaluation(run).get("test")
    if summary:
        st.markdown(f"#### {verdict(summary)}")
    if run.has_model:
        actions(run, here="runs")
    if run.kind is Kind.FOLDS:
        folds_view.show(run, runs)
    elif run.kind is Kind.SWEEP:
        sweep_view.show(run)
    else:
        _tabs(run, runs)


def of_sweep(trial: RunRecord, runs: Sequence[RunRecord], here: str) -> None:
    """Say which sweep a run is a trial of, if it is one, with the way there.

    Args:
        trial: any run.
        runs: all runs.
        here: the page, "train" or "runs".
    """
    sweep = next((run for run in runs if run.run_id == trial.parent), None)
    if sweep is None or not trial.trial:
        return
    after = trial.tags.get(TAG_PRUNED, "")
    early = f" Ended after epoch {after}, as others did better." if after else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"Trial {trial.trial} of {words.plain(sweep.name)}.{early}", width="content")
        if st.button(
            "Open the sweep",
            key=f"{here}:sweep_of:{trial.run_id}",
            icon=":material/arrow_upward:",
            type="tertiary",
        ):
            st.switch_page("pages/runs.py", query_params={"run": sweep.run_id})


def _tabs(run: RunRecord, runs: Sequence[RunRecord]) -> None:
    """Draw the tab that is open, and compute for no other."""
    names = ["Training", "Test results", "Mistakes", "Trust", "Card", "Settings", "Files"]
    tabs = dict(
        zip(names, st.tabs(names, key=f"tabs:{run.run_id}", on_change="rerun"), strict=True)
    )
    opened = next((name for name, tab in tabs.items() if tab.open), names[0])
    with tabs[opened]:
        if opened == "Training" and run.kind is Kind.ENSEMBLE:
            for note in run.tags.get(TAG_NOTES, "").splitlines():
                st.markdown(words.plain(note))
        elif opened == "Training":
            monitor.picture(run, runs, key="opened")
        elif opened == "Settings":
            _settings(run)
        elif opened == "Files":
            _files(run)
        else:
            _judged(run, opened)


def _judged(run: RunRecord, tab: str) -> None:
    """Draw a tab about what the run's model is worth."""
    if run.untested:
        st.markdown(
            "A trial of a sweep is judged by validation films alone; only the best of them is "
            "tested and has a model. Train its settings as a run of their own to test them."
        )
        return
    if not run.has_model:
        st.markdown("A run is tested when its training has ended; this one has no result.")
        return
    try:
        tested = loaders.tested(run.run_id)
    except CxrError as error:
        notices.wrong(error)
        return
    if tab != "Card" and not len(tested.test):
        st.markdown("This model has no test films of its own, so nobody knows what it is worth.")
    elif tab == "Test results":
        results_view.show(run, tested)
    elif tab == "Mistakes":
        mistakes_view.show(run, tested)
    elif tab == "Trust":
        trust_view.show(run.run_id, tested.info.probes)
        calibration_view.show(run.run_id, tested)
        subgroups_view.show(run, tested)
    else:
        card_view.show(run, tested)


def outcome(run: RunRecord) -> None:
    """Show what a run that has ended came to, and where to go with it."""
    if run.status is Status.FAILED:
        monitor.reason(run)
    if not run.has_model:
        return
    summary = evaluation(run).get("test")
    with st.container(border=True):
        if summary:
            st.markdown(f"**On films it never saw:** {verdict(summary)}")
        actions(run, here="train")


def actions(run: RunRecord, here: str) -> None:
    """Offer what can be done with a run that has a model."""
    with st.container(horizontal=True):
        if st.button(
            "Diagnose with this model",
            type="primary",
            icon=":material/radiology:",
            key=f"{here}:diagnose:{run.run_id}",
        ):
            models.use(run.run_id)
            st.switch_page("pages/diagnose.py")
        if here != "runs" and st.button(
            "Open in Runs", icon=":material/monitoring:", key=f"{here}:open:{run.run_id}"
        ):
            st.switch_page("pages/runs.py", query_params={"run": run.run_id})


def verdict(summary: Mapping[str, Any]) -> str:
    """Return a test in one sentence: AUROC with interval and n, sensitivity, specificity."""
    bounds = words.interval(summary.get("ci95", {}).get("auc"))
    patients = summary.get("patients")
    of = f" of {words.count(patients, 'patient')}" if patients else ""
    shares = [
        f"{name} {words.percent(summary[name])}"
        for name in ("sensitivity", "specificity")
        if summary.get(name) is not None
    ]
    several = "Mean AUROC of the classes" if len(summary.get("per_class", ())) > 2 else "AUROC"
    return (
        f"{several} {words.figure(summary.get('auc'))} (95 % interval {bounds}) on "
        f"{words.count(summary['n'], 'test film')}{of}; {', '.join(shares)} at the threshold of "
        f"{words.percent(summary['threshold'])}."
    )


def evaluation(run: RunRecord) -> dict[str, Any]:
    """Return the run's summaries by part ("val", "test"); empty before they are written."""
    if not run.has_model:
        return {}
    try:
        path = loaders.store().path(run.run_id, "evaluation.json")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (TrainingError, OSError, json.JSONDecodeError):
        return {}
    return found


def _origin(run: RunRecord) -> str:
    recipe = run.tags.get(TAG_RECIPE)
    parts = [
        f"On {words.plain(run.tags.get(TAG_DATA, 'unknown films'))}",
        f"recipe {words.plain(recipe)}" if recipe else "",
        f"network {run.params.get('model.architecture', 'unknown')}",
        f"{int(run.params['parameters']):,} parameters" if "parameters" in run.params else "",
        run.tags.get(TAG_NODE, ""),
        run.tags.get(TAG_DEVICE, ""),
        f"{words.duration(run.duration)} in all, started {words.ago(run.created)}",
    ]
    return ", ".join(part for part in parts if part) + "."


def _settings(run: RunRecord) -> None:
    rows = [
        (setting.path, run.params[setting.path], str(setting.default), setting.help)
        for setting in settings()
        if setting.path in run.params
    ]
    frame = pd.DataFrame(rows, columns=["Setting", "Value", "Default", "What it is"])
    st.dataframe(frame, hide_index=True, height="content")


def _files(run: RunRecord) -> None:
    store = loaders.store()
    with st.container(horizontal=True):
        if run.has_model:
            st.download_button(
                "Model bundle (zip)",
                data=lambda: downloads.zipped(store.path(run.run_id, "bundle")),
                file_name=f"{run.name}-{run.run_id[:8]}.zip",
                mime="application/zip",
                icon=":material/download:",
                type="primary",
                on_click="ignore",
                key=f"bundle:{run.run_id}",
            )
        for name in ("config.yaml", "splits.csv", "predictions.parquet", "environment.txt"):
            downloads.artefact(run.run_id, name)
        if run.has_model:
            publish_view.offer(run)
            export_view.offer(run)
    with suppress(TrainingError):  # an ensemble has no configuration
        settings_file = store.path(run.run_id, "config.yaml")
        with st.expander("Configuration", icon=":material/settings:"):
            st.code(settings_file.read_text(encoding="utf-8"), language="yaml")
    monitor.log(run)
