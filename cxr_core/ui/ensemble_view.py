"""Making an ensemble of chosen runs: a name, a button, and how far it is."""

from collections.abc import Sequence

import streamlit as st

from cxr_core.errors import CxrError
from cxr_core.training import ensembles, jobs
from cxr_core.training.tracking import TAG_NOTES, RunRecord, RunStore
from cxr_core.ui import background, loaders, models, notices, words

Making = background.Task[RunRecord]

_TASK, _NAME = "ensemble_in_the_making", "ensemble_name"  # session keys


def offer(runs: Sequence[RunRecord]) -> None:
    """Offer to join the models of runs to one, show how that goes, or what came of it.

    Args:
        runs: those chosen; a cross-validation stands for its folds.
    """
    task: Making | None = st.session_state.get(_TASK)
    if task is not None and not task.ended():
        background.watch(task, lambda done, total: "", key="ensemble")
        return
    if task is not None:
        _outcome(task)
    store = loaders.store()
    why_not = ""
    try:
        members, _ = ensembles.joinable(runs, store)
    except CxrError as error:
        why_not = str(error)
    else:
        st.caption(
            f"One model that averages the calibrated logits of {words.count(len(members), 'run')}, "
            "calibrated and tested on films that none of them learned from."
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Name of the ensemble",
            key=_NAME,
            placeholder=f"ensemble of {len(runs)}",
            max_chars=80,
            disabled=bool(why_not),
        )
        st.button(
            "Make an ensemble",
            key="make_ensemble",
            icon=":material/merge:",
            disabled=bool(why_not),
            on_click=_begin,
            args=([run.run_id for run in runs], store),
        )
    if why_not:
        st.caption(words.plain(why_not))


def _begin(run_ids: list[str], store: RunStore) -> None:
    # Read here: what was typed just before, and left by this very press, came together with it.
    name = str(st.session_state[_NAME]).strip()

    def make(task: Making) -> RunRecord:
        task.tell("Starting", 0, 0)
        run_id = ensembles.start(run_ids, name=name, store=store)
        return jobs.wait(
            run_id,
            store,
            lambda record: task.tell((record.phase or "starting").capitalize(), 0, 0),
        )

    st.session_state[_TASK] = background.Task(make)


def _outcome(task: Making) -> None:
    """Say what came of an ensemble, until another one is made."""
    try:
        record = task.result()
    except CxrError as error:
        notices.wrong(error)
        return
    if not record.has_model:
        st.error(words.plain(record.reason), title="The ensemble failed", icon=":material/error:")
        return
    with st.container(border=True, key="ensemble-made"):
        area = record.metrics.get("test_auc")
        tested = f" Test AUROC {words.figure(area)}." if area is not None else ""
        st.markdown(f"**{words.plain(record.name)}** is made.{tested}")
        for note in record.tags.get(TAG_NOTES, "").splitlines():
            st.caption(words.plain(note))
        with st.container(horizontal=True):
            if st.button(
                "Open it",
                key=f"ensemble:open:{record.run_id}",
                icon=":material/monitoring:",
                type="primary",
            ):
                del st.session_state[_TASK]
                st.switch_page("pages/runs.py", query_params={"run": record.run_id})
            if st.button(
                "Diagnose with it",
                key=f"ensemble:diagnose:{record.run_id}",
                icon=":material/radiology:",
            ):
                del st.session_state[_TASK]
                models.use(record.run_id)
                st.switch_page("pages/diagnose.py")
