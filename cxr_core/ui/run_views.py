"""Runs as tables and as opened records: headline, curves, test results, settings, files."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.elements.arrow import DataframeStateInput

from cxr_core import figures
from cxr_core.config import settings
from cxr_core.diagnosis import bundle
from cxr_core.errors import CxrError, TrainingError
from cxr_core.evaluation import metrics
from cxr_core.training.tracking import (
    TAG_DATA,
    TAG_DEVICE,
    TAG_RECIPE,
    TAG_SYNTHETIC,
    RunRecord,
    Status,
)
from cxr_core.ui import charts, loaders, models, monitor, notices, words

# What a summary holds, in the words of the field, in the order of the table.
METRIC_TITLES = {
    "auc": "AUROC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "f1": "F1",
    "average_precision": "Average precision",
    "mcc": "Matthews correlation",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "log_loss": "Log loss",
}
_STATUS_COLOURS = {
    monitor.STATUS_WORDS[Status.RUNNING]: "#3E9BCF",
    monitor.STATUS_WORDS[Status.FINISHED]: "#18A39B",
    monitor.STATUS_WORDS[Status.STOPPED]: "#18A39B",
    monitor.STATUS_WORDS[Status.FAILED]: "#E5534B",
}
_SHARES = ("sensitivity", "specificity", "accuracy", "balanced_accuracy", "ppv", "npv")


def headline(runs: Sequence[RunRecord]) -> str:
    """Return all runs in one sentence."""
    if not runs:
        return "No run yet"
    done = sum(run.status.has_model for run in runs)
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


def table(runs: Sequence[RunRecord], opened: RunRecord, key: str) -> RunRecord:
    """Draw the table of runs with one of them open; return the one selected, else that one."""
    store = loaders.store()
    rows = [
        {
            "Run": run.name,
            "Status": monitor.STATUS_WORDS[run.status],
            "Films": run.tags.get(TAG_DATA, "") + (" (synthetic)" if synthetic(run) else ""),
            "Network": run.params.get("model.architecture", ""),
            "Size": int(run.params.get("image.size", 0)),
            "Validation AUROC": sparkline(store.curves(run.run_id, ["val_auroc"])),
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
        "selection": {"rows": [place for place, run in enumerate(runs) if run == opened]}
    }
    state = st.dataframe(
        pd.DataFrame(rows).style.map(_status_colour, subset=["Status"]),
        key=key,
        selection_default=marked,
        placeholder="–",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
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
    return runs[chosen[0]] if chosen and chosen[0] < len(runs) else opened


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _status_colour(status: Any) -> str:
    """Return the style of a status cell; mid-tones, legible on a dark and on a light page."""
    return f"color: {_STATUS_COLOURS.get(status, '#8A96A1')}"


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
    if run.status is Status.FAILED:
        monitor.reason(run)
    summary = evaluation(run).get("test")
    if summary:
        st.markdown(f"#### {verdict(summary)}")
    if run.status.has_model:
        actions(run, here="runs")
    training, results, configuration, files = st.tabs(
        ["Training", "Test results", "Settings", "Files"]
    )
    with training:
        monitor.picture(run, runs, key="opened")
    with results:
        if summary:
            _results(run, summary)
        else:
            st.markdown("A run is tested when its training has ended; this one has no result.")
    with configuration:
        _settings(run)
    with files:
        _files(run)


def outcome(run: RunRecord) -> None:
    """Show what a run that has ended came to, and where to go with it."""
    if run.status is Status.FAILED:
        monitor.reason(run)
    if not run.status.has_model:
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
    return (
        f"AUROC {words.figure(summary.get('auc'))} (95 % interval {bounds}) on "
        f"{words.count(summary['n'], 'test film')}{of}; {', '.join(shares)} at the threshold of "
        f"{words.percent(summary['threshold'])}."
    )


def evaluation(run: RunRecord) -> dict[str, Any]:
    """Return the run's summaries by part ("val", "test"); empty before they are written."""
    if not run.status.has_model:
        return {}
    try:
        path = loaders.store().path(run.run_id, "evaluation.json")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (TrainingError, OSError, json.JSONDecodeError):
        return {}
    return found


def metrics_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return the headline metrics with their 95 % intervals as text, a row a metric."""
    rows = []
    for name, title in METRIC_TITLES.items():
        if summary.get(name) is None:
            continue
        bounds = summary.get("ci95", {}).get(name)
        if name in _SHARES:
            low_high = "–" if not bounds else " to ".join(words.percent(b) for b in bounds)
            rows.append((title, words.percent(summary[name]), low_high))
        else:
            rows.append((title, words.figure(summary[name]), words.interval(bounds)))
    return pd.DataFrame(rows, columns=["Metric", "Value", "95 % interval"])


def class_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return AUROC, sensitivity, specificity, precision and F1 as text, a row a class."""
    rows = [
        {
            "Class": label,
            "Films": found["n"],
            "AUROC": words.figure(found.get("auc")),
            "Sensitivity": words.percent(found.get("sensitivity")),
            "Specificity": words.percent(found.get("specificity")),
            "Precision": words.percent(found.get("precision")),
            "F1": words.figure(found.get("f1")),
        }
        for label, found in summary["per_class"].items()
    ]
    return pd.DataFrame(rows)


def _origin(run: RunRecord) -> str:
    recipe = run.tags.get(TAG_RECIPE)
    parts = [
        f"On {run.tags.get(TAG_DATA, 'unknown films')}",
        f"recipe {recipe}" if recipe else "",
        f"network {run.params.get('model.architecture', 'unknown')}",
        f"{int(run.params['parameters']):,} parameters" if "parameters" in run.params else "",
        run.tags.get(TAG_DEVICE, ""),
        f"{words.duration(run.duration)} in all, started {words.ago(run.created)}",
    ]
    return ", ".join(part for part in parts if part) + "."


def _results(run: RunRecord, summary: Mapping[str, Any]) -> None:
    try:
        info = bundle.read(loaders.store().path(run.run_id, "bundle"))
        predictions = pd.read_parquet(loaders.store().path(run.run_id, "predictions.parquet"))
    except (CxrError, OSError) as error:
        notices.wrong(error)
        return
    st.caption(
        f"Threshold {words.percent(summary['threshold'])} on the probability of any finding, "
        f"chosen on {info.threshold.chosen_on} films by "
        f"{words.threshold_method(info.threshold.method)}. Sensitivity, specificity, predictive "
        "values and F1 of all films ask: any finding or none. 95 % intervals by bootstrap over "
        "patients."
    )
    test = predictions[predictions["split"] == "test"]
    logits = test[[f"logit_{label}" for label in info.classes]].to_numpy(np.float64)
    probabilities = metrics.probabilities(logits, info.temperature)
    labels = np.array([info.classes.index(label) for label in test["label"]])
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Confusion matrix**")
        charts.show(
            figures.confusion(summary["confusion"], info.classes),
            key=f"confusion:{run.run_id}",
            alt="Confusion matrix of the test films, truth by decision",
        )
        st.markdown("**By class, each against the rest**")
        st.table(class_table(summary), border="horizontal", hide_index=True)
    with right:
        st.markdown("**ROC on the test films**")
        charts.show(
            figures.roc(
                labels, probabilities, info.classes, summary["threshold"], _class_intervals(summary)
            ),
            key=f"roc:{run.run_id}",
            alt="ROC curve of the test films with the operating point",
        )
    st.markdown("**All films**")
    table = metrics_table(summary)
    half = -(-len(table) // 2)
    for column, rows in zip(st.columns(2, gap="large"), (table[:half], table[half:]), strict=True):
        column.table(rows, border="horizontal", hide_index=True)


def _class_intervals(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        label: found.get("ci95", {}).get("auc") for label, found in summary["per_class"].items()
    }


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
    found = {}
    for name in ("config.yaml", "splits.csv", "predictions.parquet", "environment.txt"):
        try:
            found[name] = store.path(run.run_id, name)
        except TrainingError:
            continue
    with st.container(horizontal=True):
        if run.status.has_model:
            st.download_button(
                "Model bundle (zip)",
                data=lambda: zipped(store.path(run.run_id, "bundle")),
                file_name=f"{run.name}-{run.run_id[:8]}.zip",
                mime="application/zip",
                icon=":material/download:",
                type="primary",
                on_click="ignore",
                key=f"bundle:{run.run_id}",
            )
        for name, path in found.items():
            st.download_button(
                name,
                data=path.read_bytes,
                file_name=name,
                icon=":material/download:",
                on_click="ignore",
                key=f"file:{run.run_id}:{name}",
            )
    if run.status.has_model:
        with st.expander("Model card", icon=":material/article:"):
            card = store.path(run.run_id, "bundle") / bundle.CARD_FILE
            st.markdown(card.read_text(encoding="utf-8"))
    if "config.yaml" in found:
        with st.expander("Configuration", icon=":material/settings:"):
            st.code(found["config.yaml"].read_text(encoding="utf-8"), language="yaml")
    monitor.log(run)


def zipped(folder: Path) -> bytes:
    """Return a folder as a zip archive."""
    buffer = io.BytesIO()
    # A .keras file is a zip already: packing it again would cost time and save nothing.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder.parent))
    return buffer.getvalue()
