"""A sweep opened: what it came to, its trials, how they got on, what they cost, what mattered."""

from collections.abc import Mapping
from typing import get_args

import pandas as pd
import streamlit as st
from streamlit.elements.arrow import DataframeStateInput

from cxr_core import figures
from cxr_core.config import Scalar, Setting, settings
from cxr_core.errors import CxrError
from cxr_core.training import folds, jobs, trials
from cxr_core.training.search import Cost, Search
from cxr_core.training.search_space import ARCHITECTURE
from cxr_core.training.tracking import TAG_NOTES, RunRecord
from cxr_core.training.trials import Outcome, Summary, Trial
from cxr_core.ui import (
    charts,
    downloads,
    forms,
    launch,
    loaders,
    monitor,
    notices,
    words,
)
from cxr_core.ui.sweep_form import COSTS, OBJECTIVES
from cxr_core.zoo import registry

EVERY = 5.0  # seconds between two looks at one that is at work

_OUTCOMES = {
    Outcome.OPEN: "waiting",
    Outcome.COMPLETE: "complete",
    Outcome.PRUNED: "ended early",
    Outcome.FAILED: "failed",
    Outcome.CANCELLED: "cancelled",
}
_IN_SIGHT = 20  # trials, above which the table scrolls
_FEW = 20  # trials, below which importance is no more than a hint


def show(sweep: RunRecord) -> None:
    """Draw a sweep, as far as it is; drawn anew now and then while it is at work.

    Args:
        sweep: its entry.
    """
    if sweep.status.active:
        st.fragment(_follow, run_every=EVERY)(sweep.run_id)
    else:
        _draw(sweep)


def _follow(run_id: str) -> None:
    store = loaders.store()
    sweep = jobs.bury_if_dead(store.get(run_id), store)
    if not sweep.status.active:
        st.rerun()
    _draw(sweep)


def _draw(sweep: RunRecord) -> None:
    store = loaders.store()
    try:
        search = trials.search(sweep.run_id, store)
        found = trials.summary(sweep.run_id, store)
        films = trials.validation_films(found, search, store)
    except CxrError as error:
        notices.wrong(error)
        return
    if sweep.status.active:
        phase = sweep.phase or "starting"
        asked = {"stop": "Asked to stop early. ", "cancel": "Asked to cancel. "}
        st.caption(f"{asked.get(sweep.request or '', '')}{phase[:1].upper()}{phase[1:]}.")
    else:
        st.markdown(words.plain(trials.conclusion(found, search, films)))
        for note in sweep.tags.get(TAG_NOTES, "").splitlines():
            st.caption(words.plain(note))
    if not found.trials:
        st.markdown(":gray[No trial has begun yet.]")
        return
    running = {run.run_id: run for run in folds.children(sweep.run_id, store) if run.status.active}
    chosen = _table(sweep, found, search, running)
    if chosen is not None:
        _of_trial(chosen, sweep)
    _figures(sweep, found, search)
    with st.container(horizontal=True):
        for name in (trials.SEARCH_FILE, trials.SUMMARY_FILE, "config.yaml"):
            downloads.artefact(sweep.run_id, name)


# -- the trials -----------------------------------------------------------------------------------


def _table(
    sweep: RunRecord, found: Summary, search: Search, running: Mapping[str, RunRecord]
) -> Trial | None:
    """Draw the trials; return the one that is selected, at first the best."""
    winner = found.winner(search)
    known = _known()
    rows = []
    for trial in found.trials:
        run = running.get(trial.run_id)
        outcome = _OUTCOMES[trial.outcome] if run is None else monitor.STATUS_WORDS[run.status]
        if trial is winner:
            outcome = "the best"
        rows.append(
            {
                "Trial": f"{trial.number}{' (default)' if trial.default else ''}",
                **{
                    forms.label(known[path]): _title(path, value)
                    for path, value in trial.values.items()
                },
                OBJECTIVES[search.objective]: trial.figures.get(search.objective),
                "What became of it": outcome,
                "By epoch": [trial.course[epoch] for epoch in sorted(trial.course)],
                "Epochs": trial.epochs or None,
                "Training": words.duration(trial.seconds) if trial.seconds else None,
                "Parameters": trial.parameters,
            }
        )
    first = next((n for n, trial in enumerate(found.trials) if trial is winner), None)
    marked: DataframeStateInput = {"selection": {"rows": [] if first is None else [first]}}
    st.markdown("**Trials**, each judged by validation films alone, at the epoch kept")
    state = st.dataframe(
        pd.DataFrame(rows),
        key=f"trials:{sweep.run_id}:{len(rows)}:{first}",  # rows are selected by their place
        selection_default=marked,
        placeholder="–",
        hide_index=True,
        height="content" if len(rows) <= _IN_SIGHT else "auto",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            "Trial": st.column_config.TextColumn(pinned=True, width=90),
            OBJECTIVES[search.objective]: st.column_config.NumberColumn(format="%.4f"),
            "By epoch": st.column_config.LineChartColumn(width=110),
            "Parameters": st.column_config.NumberColumn(format="localized"),
        },
    )
    for trial in found.with_outcome(Outcome.FAILED):
        st.caption(f"Trial {trial.number} failed: {words.plain(trial.reason)}")
    chosen = state["selection"]["rows"]
    place = next((n for n in chosen if n < len(found.trials)), first)
    return None if place is None else found.trials[place]


def _of_trial(trial: Trial, sweep: RunRecord) -> None:
    """Offer what can be done with a trial."""
    known = _known()
    tried = " · ".join(
        f"{forms.label(known[path])} {_title(path, value)}" for path, value in trial.values.items()
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Trial {trial.number}:** {words.plain(tried)}", width="stretch")
        if st.button(
            "Use these settings",
            key=f"use:{trial.run_id}",
            icon=":material/tune:",
            type="primary",
            help="Fill the form on Train with the settings and the films of this trial.",
            on_click=_use,
            args=(trial, sweep),
        ):
            st.switch_page("pages/train.py")
        if st.button(
            "Open its run",
            key=f"trial:{trial.run_id}",
            icon=":material/open_in_full:",
            help="Curves and what the network looks at; of the best its test and its model.",
        ):
            st.switch_page("pages/runs.py", query_params={"run": trial.run_id})


def _use(trial: Trial, sweep: RunRecord) -> None:
    """Fill the form with a trial's settings: before the page is drawn."""
    store = loaders.store()
    config = store.config(sweep.run_id).with_values(dict(trial.values))
    source = f"trial {trial.number} of {sweep.name}"
    launch.use(
        config, sweep, source, f"{sweep.name.removesuffix(', sweep')} as trial {trial.number}"
    )


# -- figures --------------------------------------------------------------------------------------


def _figures(sweep: RunRecord, found: Summary, search: Search) -> None:
    shown = [trial for trial in found.trials if search.objective in trial.figures]
    if not shown:
        st.caption("Figures appear here once a trial has a figure.")
        return
    title = OBJECTIVES[search.objective]
    above = st.columns(2, gap="large", vertical_alignment="bottom")  # titles of one height
    left, right = st.columns(2, gap="large")
    above[0].markdown("**Trial by trial**")
    with above[1]:
        cost = _cost(sweep, search)
    with left:
        charts.show(
            figures.sweep_history(tried(found, search), f"{title}", maximised=search.maximised),
            key=f"history:{sweep.run_id}",
            alt=f"{title} of each trial, and the best so far",
        )
    with right:
        _front(sweep, found, search, cost)
    _parallel(sweep, found, search)
    _importance(sweep, found)


def tried(found: Summary, search: Search, cost: Cost | None = None) -> list[figures.Tried]:
    """Return the trials that have a figure, as figures take them."""
    winner = found.winner(search)
    return [
        figures.Tried(
            number=trial.number,
            value=trial.figures[search.objective],
            settings="<br>".join(
                f"{path}: {_title(path, value)}" for path, value in trial.values.items()
            ),
            pruned=trial.outcome is Outcome.PRUNED,
            default=trial.default,
            best=trial is winner,
            cost=None if cost is None else trial.cost(cost),
        )
        for trial in found.with_outcome(Outcome.COMPLETE, Outcome.PRUNED)
        if search.objective in trial.figures
    ]


def _cost(sweep: RunRecord, search: Search) -> Cost:
    """Draw the title of the front with the choice of what a trial costs; return that."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**The front**", width="stretch")
        cost: Cost = st.selectbox(
            "Cost",
            get_args(Cost),
            index=get_args(Cost).index(search.second or "seconds"),
            format_func=lambda name: COSTS[name],
            key=f"cost:{sweep.run_id}",
            label_visibility="collapsed",
            width=190,
        )
    return cost


def _front(sweep: RunRecord, found: Summary, search: Search, cost: Cost) -> None:
    """Draw figure against cost, with those that no other trial beats in both."""
    front = trials.front(found.trials, search, cost)
    prices = [price for trial in found.trials if (price := trial.cost(cost))]
    charts.show(
        figures.sweep_front(
            tried(found, search, cost),
            [trial.number for trial in front],
            OBJECTIVES[search.objective],
            COSTS[cost],
            log=bool(prices) and max(prices) > 10 * min(prices),
        ),
        key=f"front:{sweep.run_id}:{cost}",
        alt=f"{OBJECTIVES[search.objective]} against {COSTS[cost].lower()}",
    )


def _parallel(sweep: RunRecord, found: Summary, search: Search) -> None:
    complete = found.with_outcome(Outcome.COMPLETE)
    if len(complete) < 2:
        return
    known = _known()
    axes = [
        figures.Axis(
            forms.label(known[dimension.path]),
            [_on_axis(dimension.path, trial.values[dimension.path]) for trial in complete],
            dimension.log,
        )
        for dimension in search.space.dimensions
    ]
    outcome = figures.Axis(
        OBJECTIVES[search.objective], [trial.figures[search.objective] for trial in complete]
    )
    st.markdown("**Settings together**")
    charts.show(
        figures.sweep_parallel(axes, outcome, maximised=search.maximised),
        key=f"parallel:{sweep.run_id}:{len(complete)}",
        alt="A line a trial through its settings to its figure",
    )
    st.caption(
        "A line a complete trial, the better the warmer. Drag along an axis to keep only the "
        "trials in that range."
    )


def _on_axis(path: str, value: Scalar) -> float | str | bool:
    return _title(path, value) if isinstance(value, str) else value


def _title(path: str, value: Scalar) -> str:
    """Write a setting's value as the form does."""
    if path == ARCHITECTURE and value in registry.names():
        return registry.get(str(value)).title.partition(",")[0]
    return forms.title(path, value)


def _importance(sweep: RunRecord, found: Summary) -> None:
    st.markdown("**What mattered**")
    if not found.importance:
        st.caption("Known once four trials are complete and differ in their figure.")
        return
    known = _known()
    charts.show(
        figures.sweep_importance(
            {forms.label(known[path]): share for path, share in found.importance.items()}
        ),
        key=f"importance:{sweep.run_id}",
        alt="How much of the differences between trials each setting explains",
    )
    number = len(found.with_outcome(Outcome.COMPLETE))
    few = f" From {number} trials it is a hint, no more." if number < _FEW else ""
    st.caption(
        "How much of the differences between complete trials each setting explains by itself, as "
        f"shares of what all of them explain so (fANOVA, Hutter and others 2014).{few}"
    )


def _known() -> dict[str, Setting]:
    return {setting.path: setting for setting in settings()}
