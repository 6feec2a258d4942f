"""What can be asked of runs: stop, cancel, resume, repeat, delete, a place in the queue."""

from collections.abc import Callable, Sequence

import streamlit as st

from cxr_core.cluster import launcher
from cxr_core.errors import CxrError
from cxr_core.training import cross_validation, jobs, sweeps, trials
from cxr_core.training.search import MOST_TRIALS
from cxr_core.training.tracking import TAG_DATA, Kind, RunRecord, Status
from cxr_core.ui import launch, loaders, notices, words

_STOPS = {
    Kind.FOLDS: "End the fold in training early; those that wait are not trained.",
    Kind.SWEEP: "End the trial in training early, make no more, and test the best of those done.",
}
_CANCELS = {
    Kind.FOLDS: "End the folds that are not done? Those that are keep their models.",
    Kind.SWEEP: "End the trial in training and the sweep? Trials that are done keep their figures.",
}
_MORE = 8  # trials that are offered on top of those there are
_REFUSED = "verb_refused"  # session key: why the last wish was not granted


def offer(record: RunRecord, here: str) -> None:
    """Draw the buttons for what can be asked of a run as it stands.

    Args:
        record: the run.
        here: the page, "train" or "runs".
    """
    if record.status.active:
        _requests(record, here)
    else:
        _afterwards(record, here)


def refusal() -> None:
    """Show once why the last wish was not granted, if it was not."""
    error = st.session_state.pop(_REFUSED, None)
    if error is not None:
        notices.wrong(error)


def queue(waiting: Sequence[RunRecord]) -> None:
    """List the runs that wait for the device, the next one first, each movable and with a way out.

    Args:
        waiting: in the order of their turns.
    """
    if not waiting:
        return
    st.subheader("Waiting for the device", anchor=False)
    for place, record in enumerate(waiting, start=1):
        with st.container(
            horizontal=True, vertical_alignment="center", gap="xsmall", key=f"queue-{place}"
        ):
            st.markdown(
                f"{place}. **{record.name}** on {record.tags.get(TAG_DATA, 'unknown films')}, "
                f"asked for {words.ago(record.created)}{', on the cluster' * bool(record.place)}",
                width="stretch",
            )
            _move(record, "up", ":material/arrow_upward:", disabled=place == 1)
            _move(record, "down", ":material/arrow_downward:", disabled=place == len(waiting))
            _verb("Cancel", jobs.cancel, record, key="unqueue", icon=":material/close:")


def _requests(record: RunRecord, here: str) -> None:
    asked = record.request
    _verb(
        "Stop early",
        jobs.stop_early,
        record,
        key=f"{here}:stop",
        icon=":material/stop_circle:",
        type="secondary",
        help=_STOPS.get(
            record.kind, "End after this step, keep the best weights so far and test them."
        ),
        disabled=asked is not None or record.status is not Status.RUNNING,
    )
    with st.popover(
        "Cancel",
        icon=":material/cancel:",
        disabled=asked == "cancel",
        key=f"{here}:cancel:{record.run_id}",
    ):
        st.markdown(_CANCELS.get(record.kind, "End the run and keep nothing of it?"))
        _verb("Yes, cancel the run", jobs.cancel, record, key=f"{here}:cancelled", type="primary")


def _afterwards(record: RunRecord, here: str) -> None:
    if record.kind is Kind.SWEEP:
        _more_trials(record, here)
    elif record.status is Status.FAILED:
        why_not = jobs.why_not_resumed(record)
        folds = record.kind is Kind.FOLDS
        how = "Train what is missing." if folds else "Go on from the last checkpoint, same name."
        _verb(
            "Resume",
            lambda run_id, store: (cross_validation if folds else jobs).resume(
                run_id, store=store, launcher=launcher.of(record, store)
            ),
            record,
            key=f"{here}:resume",
            icon=":material/resume:",
            type="secondary",
            help=why_not or how,
            disabled=bool(why_not),
        )
    if record.kind is not Kind.ENSEMBLE and (
        st.button(
            "Repeat with changes",
            key=f"{here}:repeat:{record.run_id}",
            icon=":material/tune:",
            help="Fill the form with this run's settings and films.",
            on_click=_granted,
            args=(launch.repeat, record),
        )
        and here != "train"
    ):
        st.switch_page("pages/train.py")
    with st.popover("Delete", icon=":material/delete:", key=f"{here}:delete:{record.run_id}"):
        what = "run and its files, its model among them,"
        if record.kind is Kind.FOLDS:
            what = "cross-validation, all its folds and their models"
        elif record.kind is Kind.SWEEP:
            what = "sweep, all its trials and the model of the best"
        st.markdown(f"Take this {what} off this machine?")
        _verb("Yes, delete the run", jobs.delete, record, key=f"{here}:deleted", type="primary")


def _more_trials(record: RunRecord, here: str) -> None:
    """Offer to go on with a sweep that has ended, with as many trials as it lacks, or with more."""
    try:
        search = trials.search(record.run_id, loaders.store())
        found = trials.summary(record.run_id, loaders.store())
    except CxrError:  # its page says what is wrong
        return
    counted = sum(trial.outcome is not trials.Outcome.CANCELLED for trial in found.trials)
    whole = record.status is Status.FINISHED
    if whole and counted >= MOST_TRIALS:
        return
    label = "More trials" if whole else "Resume"
    with st.popover(label, icon=":material/resume:", key=f"{here}:more:{record.run_id}"):
        st.markdown(f"{words.count(counted, 'trial')} made. How many shall there be in all?")
        number = st.number_input(
            "Trials in all",
            max(1, counted + whole),
            MOST_TRIALS,
            min(MOST_TRIALS, counted + _MORE) if whole else max(search.trials, counted, 1),
            step=1,
            key=f"{here}:trials:{record.run_id}",
        )
        _verb(
            "Go on",
            lambda run_id, store: sweeps.resume(
                run_id, int(number), store=store, launcher=launcher.of(record, store)
            ),
            record,
            key=f"{here}:resume",
            type="primary",
        )


def _move(record: RunRecord, where: jobs.Direction, icon: str, *, disabled: bool) -> None:
    st.button(
        "",
        key=f"move:{where}:{record.run_id}",
        icon=icon,
        type="tertiary",
        help=f"Move {where} in the queue",
        disabled=disabled,
        on_click=_granted,
        args=(lambda run: jobs.move(run.run_id, where, loaders.store()), record),
    )


def _verb(
    label: str,
    verb: Callable[..., None],
    record: RunRecord,
    *,
    key: str,
    icon: str | None = None,
    type: str = "tertiary",
    help: str | None = None,
    disabled: bool = False,
) -> None:
    """Draw a button that does one of the verbs of `jobs` to a run."""
    st.button(
        label,
        key=f"{key}:{record.run_id}",
        icon=icon,
        type=type,  # type: ignore[arg-type]
        help=help,
        disabled=disabled,
        on_click=_granted,
        args=(lambda run: verb(run.run_id, loaders.store()), record),
    )


def _granted(wish: Callable[[RunRecord], None], record: RunRecord) -> None:
    """Do what was asked; a refusal is kept for the page, which is drawn next."""
    try:
        wish(record)
    except CxrError as error:
        st.session_state[_REFUSED] = error
