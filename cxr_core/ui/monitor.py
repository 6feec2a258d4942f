"""A run as it trains: figures, curves, requests. All of it read from the run store."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from cxr_core import figures, workspace
from cxr_core.errors import TrainingError
from cxr_core.training import jobs
from cxr_core.training.tracking import (
    TAG_DATA,
    TAG_DEVICE,
    TAG_PROGRESS,
    TAG_SYNTHETIC,
    RunRecord,
    Status,
)
from cxr_core.ui import charts, loaders, notices, words

_LOG_SHOWN = 20_000  # characters from its end
EVERY = 2.0  # seconds between two looks at an active run
EPOCH_METRICS = (
    "train_loss",
    "val_loss",
    "train_accuracy",
    "val_accuracy",
    "train_auroc",
    "val_auroc",
    "learning_rate",
    "images_per_second",
    "epoch_seconds",
)
BATCH_METRICS = ("batch_loss", "batch_accuracy")

_STATUS = {
    Status.QUEUED: (":material/hourglass_empty:", "gray"),
    Status.RUNNING: (":material/play_circle:", "blue"),
    Status.FINISHED: (":material/check_circle:", "green"),
    Status.STOPPED: (":material/stop_circle:", "green"),
    Status.CANCELLED: (":material/cancel:", "gray"),
    Status.FAILED: (":material/error:", "red"),
}
STATUS_WORDS = {
    Status.QUEUED: "waiting",
    Status.RUNNING: "training",
    Status.FINISHED: "finished",
    Status.STOPPED: "stopped early",
    Status.CANCELLED: "cancelled",
    Status.FAILED: "failed",
}


@dataclass(frozen=True)
class Progress:
    """How far a run is; None where it cannot be said yet."""

    epoch: int | None  # the epoch at work, from 1; the last one done where the run has ended
    epochs: int  # at most
    images_per_second: float | None
    best: float | None  # highest validation AUROC
    best_epoch: int | None  # from 1
    used: float | None  # seconds since the first step
    left: float | None  # seconds to the last epoch, if nothing stops it earlier


def progress(record: RunRecord, curves: pd.DataFrame) -> Progress:
    """Work out how far a run is from its record and its metric history.

    Args:
        record: the run.
        curves: metric, step, value, time; as :meth:`RunStore.curves` gives them.
    """
    epochs = int(record.params.get("optimise.epochs", 0))
    steps = int(record.params.get("steps_per_epoch", 0))
    done = _last_step(curves, "val_loss")
    batches = _last_step(curves, "batch_loss")
    part = batches / steps if steps else 0.0  # epochs done, with the one at work in parts
    scores = curves[(curves["metric"] == "val_auroc") & curves["value"].notna()]
    best = None if scores.empty else scores.iloc[int(scores["value"].argmax())]
    pace = _pace(curves, steps)
    active = record.status is Status.RUNNING
    return Progress(
        epoch=min(done + 1, epochs) if active and batches else done or None,
        epochs=epochs,
        images_per_second=record.metrics.get("images_per_second") or _early_rate(record, pace),
        best=None if best is None else float(best["value"]),
        best_epoch=None if best is None else int(best["step"]),
        used=None if curves.empty else _used(record, curves),
        left=pace * max(0.0, epochs - max(part, done)) if active and pace else None,
    )


def badge(record: RunRecord) -> None:
    """Show a run's status in words and colour."""
    icon, colour = _STATUS[record.status]
    st.badge(STATUS_WORDS[record.status], icon=icon, color=colour)  # type: ignore[arg-type]


def picture(record: RunRecord) -> None:
    """Show a run's figures and curves, drawn anew every two seconds while it is active."""
    every = EVERY if record.status.active else None
    st.fragment(_picture, run_every=every)(record.run_id, record.status)


def curves_of(record: RunRecord, table: pd.DataFrame, key: str) -> None:
    """Draw the training curves: loss, AUROC, accuracy and learning rate."""
    steps = int(record.params.get("steps_per_epoch", 1))
    monitored = record.params.get("stop.monitor", "val_loss")
    drawn = set(table["metric"])
    for row in (("loss", "auroc"), ("accuracy", "learning_rate")):
        for column, metric in zip(st.columns(2, gap="medium"), row, strict=True):
            with column:
                figure = (
                    figures.learning_rate(table)
                    if metric == "learning_rate"
                    else figures.curves(table, steps, metric, monitored)
                )
                if record.status.active:  # the whole run's axis from the start: nothing moves
                    figure.update_xaxes(range=[0, int(record.params["optimise.epochs"]) + 0.2])
                if not drawn & {metric, f"val_{metric}", f"batch_{metric}"}:
                    figure.update_yaxes(showticklabels=False, showgrid=False)
                charts.show(
                    figure,
                    key=f"{key}:{record.run_id}:{metric}",
                    alt=f"{metric.replace('_', ' ')} by epoch",
                )


def queue(waiting: Sequence[RunRecord]) -> None:
    """List the runs that wait for the device, each with a way out."""
    if not waiting:
        return
    st.subheader("Waiting for the device", anchor=False)
    for place, record in enumerate(waiting, start=1):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"{place}. **{record.name}** on {record.tags.get(TAG_DATA, 'unknown films')}, "
                f"asked for {words.ago(record.created)}"
            )
            st.button(
                "Cancel",
                key=f"unqueue:{record.run_id}",
                icon=":material/close:",
                type="tertiary",
                on_click=jobs.cancel,
                args=(record.run_id, loaders.store()),
            )


def reason(record: RunRecord) -> None:
    """Say why a run failed, with its log one click away."""
    st.error(
        record.reason or "The run ended without saying why.",
        icon=":material/error:",
        title="Failed",
    )
    log(record)


def log(record: RunRecord) -> None:
    """Offer the end of the run's log: the worker's own file, else the one kept with the run."""
    path = workspace.run_folder(record.run_id) / jobs.LOG_FILE
    if not path.is_file():
        try:
            path = loaders.store().path(record.run_id, jobs.LOG_FILE)
        except TrainingError:
            return
    with st.expander("Log", icon=":material/terminal:"):
        st.code(path.read_text(encoding="utf-8", errors="replace")[-_LOG_SHOWN:], language=None)


def heading(record: RunRecord) -> None:
    """Show a run's name, how it stands, and what can be asked of it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(record.name, anchor=False, width="content")
        badge(record)
        if record.tags.get(TAG_SYNTHETIC) == "true":
            notices.synthetic_badge(True)
        st.space("stretch")
        if record.status.active:
            _requests(record)


def _requests(record: RunRecord) -> None:
    asked = record.request
    st.button(
        "Stop early",
        icon=":material/stop_circle:",
        help="End after this step, keep the best weights so far and test them.",
        disabled=asked is not None or record.status is not Status.RUNNING,
        on_click=jobs.stop_early,
        args=(record.run_id, loaders.store()),
    )
    with st.popover("Cancel", icon=":material/cancel:", disabled=asked == "cancel"):
        st.markdown("End the run and keep nothing of it?")
        st.button(
            "Yes, cancel the run",
            type="primary",
            on_click=jobs.cancel,
            args=(record.run_id, loaders.store()),
        )


def _picture(run_id: str, drawn: Status) -> None:
    store = loaders.store()
    record = jobs.bury_if_dead(store.get(run_id), store)
    if drawn.active and record.status is not drawn:
        st.rerun()  # the whole page: title, buttons, queue and this fragment's clock depend on it
    table = store.curves(run_id, EPOCH_METRICS + BATCH_METRICS)
    if table.empty and not record.status.active:
        st.markdown(":gray[The run ended before its first step.]")
        return
    _numbers(record, progress(record, table))
    if table.empty:
        with st.container(height=320, border=True, vertical_alignment="center"):
            st.markdown(":gray[The curves begin with the first step.]", text_alignment="center")
        return
    curves_of(record, table, key="monitor")


def _numbers(record: RunRecord, now: Progress) -> None:
    at = f"at epoch {now.best_epoch}" if now.best_epoch else None
    left = None if now.left is None else f"{words.estimate(now.left)} left"
    rate = now.images_per_second
    cells = st.columns(4, gap="medium")
    cells[0].metric("Epoch", f"{now.epoch or '–'} of {now.epochs}")
    cells[1].metric(
        "Best validation AUROC",
        words.figure(now.best),
        at,
        delta_color="off",
        delta_arrow="off",
        help="Area under the ROC curve on the validation films.",
    )
    cells[2].metric(
        "Training time",
        "–" if now.used is None else words.duration(now.used),
        left,
        delta_color="off",
        delta_arrow="off",
    )
    cells[3].metric("Films a second", "–" if rate is None else f"{rate:.0f}")
    device = record.tags.get(TAG_DEVICE)
    asked = {"stop": "Asked to stop early. ", "cancel": "Asked to cancel. "}.get(
        record.request or "", ""
    )
    if record.status.active:
        phase = (record.phase or "starting").capitalize()
        done = record.tags.get(TAG_PROGRESS)
        st.caption(
            f"{asked}{phase}{f' ({done})' if done else ''}{f' on {device}' if device else ''}."
        )
    elif device:
        st.caption(f"Trained on {device}.")


def _last_step(curves: pd.DataFrame, metric: str) -> int:
    steps = curves.loc[curves["metric"] == metric, "step"]
    return 0 if steps.empty else int(steps.max())


def _used(record: RunRecord, curves: pd.DataFrame) -> float:
    end = time.time() if record.status is Status.RUNNING else float(curves["time"].max())
    return max(0.0, end - float(curves["time"].min()))


def _early_rate(record: RunRecord, pace: float | None) -> float | None:
    """Return films a second from the first batches, before an epoch is done."""
    films = int(record.params.get("train_films", 0))
    return films / pace if pace and films else None


def _pace(curves: pd.DataFrame, steps: int) -> float | None:
    """Return seconds an epoch: the mean of those done, else by the batches so far."""
    seconds = curves.loc[curves["metric"] == "epoch_seconds", "value"]
    if not seconds.empty:
        return float(seconds.mean())
    batches = curves[curves["metric"] == "batch_loss"]
    if len(batches) < 2 or not steps:
        return None
    first, last = batches.iloc[0], batches.iloc[-1]
    passed = last["step"] - first["step"]
    return float((last["time"] - first["time"]) / passed * steps) if passed > 0 else None
