"""A run as it trains: figures, curves, validation, attention, machine. All from the run store."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from cxr_core import figures, workspace
from cxr_core.errors import TrainingError
from cxr_core.figures import NOTHING, Lines
from cxr_core.training import jobs
from cxr_core.training.tracking import (
    TAG_DEVICE,
    TAG_NODE,
    TAG_PROGRESS,
    TAG_SYNTHETIC,
    RunRecord,
    Status,
)
from cxr_core.ui import (
    attention_view,
    curves_view,
    loaders,
    machine_view,
    notices,
    run_verbs,
    validation_view,
    words,
)

EVERY = 2.0  # seconds between two looks at an active run
CURVES, VALIDATION = "Curves", "Validation"
ATTENTION, MACHINE = "What it looks at", "Machine"

_LOG_SHOWN = 20_000  # bytes from its end

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
    since_best: int | None  # epochs done since the one whose weights would be kept
    used: float | None  # seconds of training
    left: float | None  # seconds to the last epoch, if nothing stops it earlier


def progress(record: RunRecord, lines: Lines) -> Progress:
    """Work out how far a run is from its record and its metrics."""
    epochs = int(record.params.get("optimise.epochs", 0))
    steps = int(record.params.get("steps_per_epoch", 0))
    done = _last_step(lines, "val_loss")
    batches = _last_step(lines, "batch_loss")
    part = batches / steps if steps else 0.0  # epochs done, with the one at work in parts
    best_epoch = _highest(lines, "val_auroc")
    kept = figures.best_epoch(lines, record.params.get("stop.monitor", "val_loss"))
    pace = _pace(lines, steps)
    active = record.status is Status.RUNNING
    return Progress(
        epoch=min(done + 1, epochs) if active and batches else done or None,
        epochs=epochs,
        images_per_second=record.metrics.get("images_per_second") or _early_rate(record, pace),
        best=None if best_epoch is None else float(lines["val_auroc"].values.max()),
        best_epoch=best_epoch,
        since_best=None if kept is None else done - kept,
        used=_used(record, lines) if lines else None,
        left=pace * max(0.0, epochs - max(part, done)) if active and pace else None,
    )


def _highest(lines: Lines, metric: str) -> int | None:
    """Return the epoch with the highest value of a metric, None where it has no point yet."""
    line = lines.get(metric, NOTHING)
    return int(line.steps[line.values.argmax()]) if len(line) else None


def badge(record: RunRecord) -> None:
    """Show a run's status in words and colour."""
    icon, colour = _STATUS[record.status]
    st.badge(STATUS_WORDS[record.status], icon=icon, color=colour)  # type: ignore[arg-type]


def picture(record: RunRecord, others: Sequence[RunRecord], key: str) -> None:
    """Show a run's figures and tabs, drawn anew every two seconds while it is active.

    Args:
        record: the run.
        others: the runs that may be drawn beside it.
        key: prefix of the widgets' keys, the page's own.
    """
    every = EVERY if record.status.active else None
    st.fragment(_picture, run_every=every)(record.run_id, record.status, others, key)


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
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_SHOWN))
        text = file.read().decode("utf-8", errors="replace")
    with (
        st.expander("Log", icon=":material/terminal:"),
        st.container(height=320, border=False, autoscroll=True),  # what it said last is in sight
    ):
        st.code(text, language=None)


def heading(record: RunRecord, here: str) -> None:
    """Show a run's name, how it stands, and what can be asked of it.

    Args:
        record: the run.
        here: the page, "train" or "runs".
    """
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(words.plain(record.name), anchor=False, width="content")
        badge(record)
        if record.tags.get(TAG_SYNTHETIC) == "true":
            notices.synthetic_badge(True)
        st.space("stretch")
        run_verbs.offer(record, here)
    run_verbs.refusal()


def _picture(run_id: str, drawn: Status, others: Sequence[RunRecord], key: str) -> None:
    store = loaders.store()
    record = jobs.bury_if_dead(store.get(run_id), store)
    if drawn.active and record.status is not drawn:
        st.rerun()  # the whole page: title, buttons, queue and this fragment's clock depend on it
    lines = curves_view.of_run(run_id)
    if not lines and not record.status.active:
        st.markdown(":gray[The run ended before its first step.]")
        return
    _numbers(record, progress(record, lines))
    curves, validation, attention, machine = st.tabs(
        [CURVES, VALIDATION, ATTENTION, MACHINE],
        key=f"{key}:tabs",
        on_change="rerun",  # a tab that is not open costs nothing
    )
    if curves.open:
        with curves:
            curves_view.panel(record, lines, others, key)
    if validation.open:
        with validation:
            validation_view.panel(record, lines, key)
    if attention.open:
        with attention:
            attention_view.panel(record, key)
    if machine.open:
        with machine:
            machine_view.panel(record, key)


def _numbers(record: RunRecord, now: Progress) -> None:
    """Draw the row of figures; each has a second line from the start, so that nothing moves."""
    active = record.status.active
    rate = now.images_per_second
    if now.left is not None:
        left = f"{words.estimate(now.left)} left"
    else:
        left = "time left not known yet" if active else "in all"
    patience = record.params.get("stop.patience", "?")
    cells = (
        (
            "Epoch",
            f"{now.epoch or '–'} of {now.epochs}",
            _since(now.since_best, active),
            f"Since the epoch whose weights are kept, the best by "
            f"{monitored(record)}. After {patience} without a better one training ends.",
        ),
        (
            "Best validation AUROC",
            words.figure(now.best),
            f"at epoch {now.best_epoch}" if now.best_epoch else "after the first epoch",
            "Area under the ROC curve on the validation films.",
        ),
        (
            "Training time",
            "–" if now.used is None else words.duration(now.used),
            left,
            "To the last epoch; less where training ends before it.",
        ),
        (
            "Films a second",
            "–" if rate is None else f"{rate:.0f}",
            "in the last epoch" if "images_per_second" in record.metrics else "so far",
            "Training films, without validation and start-up.",
        ),
    )
    for place, (title, value, line, told) in zip(st.columns(4, gap="medium"), cells, strict=True):
        place.metric(title, value, line, delta_color="off", delta_arrow="off", help=told)
    st.caption(_state(record))


def _state(record: RunRecord) -> str:
    """Return what the run does now, or where it was trained, in a sentence."""
    device = record.tags.get(TAG_DEVICE)
    if device and record.tags.get(TAG_NODE):
        device = f"{record.tags[TAG_NODE]}, {device}"
    if not record.status.active:
        return f"Trained on {device}." if device else ""
    asked = {"stop": "Asked to stop early. ", "cancel": "Asked to cancel. "}
    phase = record.phase or "starting"
    phase = phase[:1].upper() + phase[1:]
    done = record.tags.get(TAG_PROGRESS)
    return (
        f"{asked.get(record.request or '', '')}{phase}{f' ({done})' if done else ''}"
        f"{f' on {device}' if device else ''}."
    )


def monitored(record: RunRecord) -> str:
    """Return the figure that decides the best epoch, in words."""
    return {"val_loss": "validation loss", "val_auroc": "validation AUROC"}.get(
        record.params.get("stop.monitor", "val_loss"), "validation loss"
    )


def _since(epochs: int | None, active: bool) -> str:
    if epochs is None:
        return "none done yet"
    if epochs == 0:
        return "the best so far" if active else "the last is the best"
    return f"{epochs} since the best"


def _last_step(lines: Lines, metric: str) -> int:
    return int(lines[metric].steps[-1]) if metric in lines else 0


def _used(record: RunRecord, lines: Lines) -> float:
    """Return seconds of training: the epochs done, and what was begun since.

    Not the time since the first point: a run may have been resumed a day after it was killed.
    """
    epochs = lines.get("epoch_seconds", NOTHING)
    begun = lines.get("batch_loss", NOTHING).times
    if len(epochs):
        begun = begun[begun > epochs.times.max()]
    done = float(epochs.values.sum())
    if not len(begun):
        return done
    end = time.time() if record.status is Status.RUNNING else float(begun.max())
    return done + max(0.0, end - float(begun.min()))


def _early_rate(record: RunRecord, pace: float | None) -> float | None:
    """Return films a second from the first batches, before an epoch is done."""
    films = int(record.params.get("train_films", 0))
    return films / pace if pace and films else None


def _pace(lines: Lines, steps: int) -> float | None:
    """Return seconds an epoch: the mean of those done, else by the batches so far."""
    if "epoch_seconds" in lines:
        return float(lines["epoch_seconds"].values.mean())
    batches = lines.get("batch_loss", NOTHING)
    if len(batches) < 2 or not steps:
        return None
    passed = batches.steps[-1] - batches.steps[0]
    return float((batches.times[-1] - batches.times[0]) / passed * steps) if passed > 0 else None
