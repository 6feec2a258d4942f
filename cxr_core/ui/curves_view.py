"""The curves of a run, alone or with other runs over them, as charts that follow it live."""

import html
import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import streamlit as st

from cxr_core import figures
from cxr_core.figures import Lines
from cxr_core.training.tracking import TAG_DATA, RunRecord, Status
from cxr_core.ui import charts, loaders

BATCH_METRICS = ("batch_loss", "batch_accuracy")
EPOCH_METRICS = (
    "train_loss",
    "val_loss",
    "train_accuracy",
    "val_accuracy",
    "train_auroc",
    "val_auroc",
    "val_sensitivity",
    "val_specificity",
    "learning_rate",
    "images_per_second",
    "epoch_seconds",
    "best_epoch",
)
_MOST_OTHERS = len(figures.RUN_COLOURS) - 1
_CHARTS = {  # in the order of the page, each with what it is to who cannot see it
    "loss": "Loss by epoch",
    "auroc": "AUROC by epoch",
    "accuracy": "Accuracy by epoch",
    "detection": "Sensitivity and specificity by epoch",
    "learning_rate": "Learning rate by epoch",
    "pace": "Films a second by epoch",
}
_COUNTED = ("val_loss", "train_loss")  # metrics that have a point an epoch
_ENDS = (5, 10, 20, 50, 100, 200, 500, 1000)  # epochs
_GLYPHS = {  # the legend's likenesses of `figures.RUN_MARKERS`
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "triangle-up": "▲",
    "x": "✖",
}


def panel(record: RunRecord, lines: Lines, others: Sequence[RunRecord], key: str) -> None:
    """Draw the curves with their switches.

    Args:
        record: the run.
        lines: its metrics.
        others: the runs that may be drawn with it.
        key: prefix of the widgets' keys.
    """
    if record.status is Status.QUEUED:
        with st.container(height=320, border=True, vertical_alignment="center"):
            st.markdown(":gray[The curves begin with the first step.]", text_alignment="center")
        return
    smooth, log, hold, beside = _switches(record, others, key)
    held = f"{key}:{record.run_id}:held"
    if hold:
        lines = st.session_state.setdefault(held, lines)
    else:
        st.session_state.pop(held, None)
    planned = int(record.params.get("optimise.epochs", 1))
    begun = (
        math.ceil(lines["batch_loss"].steps[-1] / _steps(record)) if "batch_loss" in lines else 0
    )
    end = end_of_axis(record.status, planned, begun, [lines, *beside.values()])
    if beside:
        st.html(legend([record.name, *beside]))
    with st.grid(2, min_column_width=340, gap="medium"):
        for name, alt in _CHARTS.items():
            figure = _figure(name, record, lines, beside, smooth=smooth, log=log, end=end)
            charts.show(figure, key=f"{key}:{record.run_id}:{name}", alt=alt)


def of_run(run_id: str) -> Lines:
    """Return all that is drawn of a run as it stands."""
    table = loaders.store().curves(run_id, EPOCH_METRICS + BATCH_METRICS)
    return figures.by_metric(table)


def title(run: RunRecord) -> str:
    """Return what tells a run from others of its name."""
    data = run.tags.get(TAG_DATA)
    return f"{run.name}{f' on {data}' if data else ''}, {run.created:%d %b %H:%M} UTC"


def legend(names: Sequence[str]) -> str:
    """Return HTML of the legend that all charts share: a colour and a marker a run."""
    entries = [
        f'<span style="white-space:nowrap"><span style="color:{colour}">{_GLYPHS[marker]}</span>'
        f"&ensp;{html.escape(name)}</span>"
        for name, colour, marker in zip(
            names, figures.RUN_COLOURS, figures.RUN_MARKERS, strict=False
        )
    ]
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:0.2rem 1.4rem;font-size:0.9rem">'
        + "".join(entries)
        + '<span style="opacity:0.7">Train solid, validation dashed, specificity dotted</span>'
        + "</div>"
    )


def _switches(
    record: RunRecord, others: Sequence[RunRecord], key: str
) -> tuple[bool, bool, bool, Mapping[str, Lines]]:
    """Draw the switches; return smooth, log, hold, and the lines of the runs to draw beside."""
    drawn = [run for run in others if "val_loss" in run.metrics]  # the others have no curve yet
    by_id = {run.run_id: run for run in drawn if run.run_id != record.run_id}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        chosen: list[str] = []
        if by_id:
            chosen = st.multiselect(
                "Beside other runs",
                list(by_id),
                format_func=lambda run_id: title(by_id[run_id]),
                key=f"{key}:{record.run_id}:others",
                placeholder="None",
                max_selections=_MOST_OTHERS,
                width=340,
                persist_state="session",
            )
        smooth = st.toggle(
            "Smooth",
            key=f"{key}:smooth",
            help="A running mean over the batch points; nine tenths of it stay at each point.",
            persist_state="session",
        )
        log = st.toggle(
            "Log loss axis",
            key=f"{key}:log",
            help="A logarithmic axis for the loss.",
            persist_state="session",
        )
        # The browser draws a chart with a new point anew and forgets what was zoomed into.
        hold = record.status.active and st.toggle(
            "Hold still",
            key=f"{key}:hold",
            help="The curves stay as they are while the run goes on, to be zoomed into.",
        )
    store = loaders.store()
    return (
        smooth,
        log,
        hold,
        {
            title(by_id[run_id]): figures.by_metric(store.curves(run_id, EPOCH_METRICS))
            for run_id in chosen
            if run_id in by_id
        },
    )


def _figure(
    name: str,
    record: RunRecord,
    lines: Lines,
    others: Mapping[str, Lines],
    *,
    smooth: bool,
    log: bool,
    end: int,
) -> go.Figure:
    monitored = record.params.get("stop.monitor", "val_loss")
    if name == "detection":
        return figures.detection(lines, monitored, others=others, end=end)
    if name == "learning_rate":
        return figures.learning_rate(lines, others=others, end=end)
    if name == "pace":
        return figures.pace(lines, others=others, end=end)
    return figures.curves(
        lines,
        _steps(record),
        name,
        monitored,
        smooth=smooth,
        log=log and name == "loss",
        others=others,
        end=end,
    )


def _steps(record: RunRecord) -> int:
    return max(1, int(record.params.get("steps_per_epoch", 1)))


def end_of_axis(status: Status, planned: int, begun: int, runs: Sequence[Lines]) -> int:
    """Return where the axis of epochs ends.

    At the last epoch there is; while the run goes on, in wide steps, so that little ever moves.

    Args:
        status: how the run stands.
        planned: its epochs at most.
        begun: its epochs with a batch.
        runs: what is drawn, the run and others beside it.
    """
    lasts = [int(run[m].steps[-1]) for run in runs for m in _COUNTED if m in run]
    if not status.active:
        return max([1, begun, *lasts])
    done = max([0, *lasts])
    ahead = next((end for end in _ENDS if end > done), done + 1)
    return max(done, min(planned, ahead))
