"""What to train: recipe, settings, checks, and the one button that starts it."""

import math
import time
from collections.abc import Sequence

import streamlit as st

from cxr_core.config import RunConfig
from cxr_core.data.catalog import Catalog
from cxr_core.errors import ConfigError, CxrError
from cxr_core.training import jobs, recipes
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import forms, loaders, notices, words
from cxr_core.zoo import registry

FIRST_RECIPE = "quick"
RECIPE = "recipe"  # session key: the recipe chosen
_WEIGHTS = {"none": "Random weights", "imagenet": "ImageNet weights"}
_WATCHED = "watched_run"
_STARTED = "started_at"
_DOUBLE_CLICK = 3.0  # seconds in which a second press is the same wish, not another run


def configure(catalog: Catalog) -> tuple[str, RunConfig] | None:
    """Draw recipe and settings; return the recipe's name and the configuration.

    Returns None where the settings do not go together; the sentence that says so is on the page.
    """
    names = list(recipes.names())
    recipe = st.selectbox(
        "Recipe",
        names,
        index=names.index(FIRST_RECIPE) if FIRST_RECIPE in names else 0,
        format_func=lambda name: name.replace("_", " ").capitalize(),
        key=RECIPE,
        persist_state="session",
    )
    st.caption(recipes.describe(recipe))
    base = recipes.load(recipe)
    key = f"train:{recipe}"
    network = st.session_state.get(f"{key}:model.architecture", base.model.architecture)
    values = forms.run_settings(
        base,
        key,
        choices={
            "model.architecture": {name: registry.get(name).title for name in registry.names()},
            "model.weights": {w: _WEIGHTS.get(w, w) for w in registry.get(network).weights},
        },
        leave_out=("data.root",),
    )
    try:
        return recipe, base.with_values({**values, "data.root": loaders.data_root()})
    except ConfigError as error:
        notices.wrong(error)
        return None


def checks(config: RunConfig) -> bool:
    """List what speaks against the run; return whether it can start."""
    problems = jobs.check(config, loaders.store())
    for problem in problems:
        show, icon = (
            (st.error, ":material/error:")
            if problem.severity == "error"
            else (st.warning, ":material/warning:")
        )
        show(problem.message, title=problem.title, icon=icon)
    if not problems:
        st.caption(":material/check: Checked: nothing speaks against this run.")
    return all(problem.severity != "error" for problem in problems)


def button(
    recipe: str, config: RunConfig, catalog: Catalog, runs: Sequence[RunRecord], *, enabled: bool
) -> None:
    """Draw the button that says what it will do, and start the run when it is pressed."""
    before = sum(run.status.active for run in runs)
    verb = "Queue" if before else "Train"
    name = config.name or recipe.replace("_", " ")
    seconds = estimate(config, films=_training_films(config, catalog), runs=runs)
    about = f": {words.estimate(seconds)}" if seconds else ""
    if before:
        st.caption(f"It will wait for {words.count(before, 'run')} before it.")
    if st.button(
        f"{verb} {name} on {catalog.name}{about}",
        key="start_run",  # the label changes as runs go on: without a key a click would be lost
        type="primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=not enabled,
    ):
        if time.monotonic() - st.session_state.get(_STARTED, -math.inf) < _DOUBLE_CLICK:
            return
        st.session_state[_STARTED] = time.monotonic()
        try:
            started = jobs.start(config, recipe=recipe, store=loaders.store())
        except CxrError as error:
            notices.wrong(error)
            return
        watch(started)
        st.rerun()


def estimate(config: RunConfig, films: int, runs: Sequence[RunRecord]) -> float | None:
    """Estimate a run's seconds from the pace of the last run of that network at that size.

    Returns None where no such run is on record: a guess would be worth nothing.
    """
    for run in runs:
        same = (
            run.params.get("model.architecture") == config.model.architecture
            and run.params.get("image.size") == str(config.image.size)
            and run.metrics.get("images_per_second", 0) > 0
        )
        if same:
            return config.optimise.epochs * films / run.metrics["images_per_second"]
    return None


def _training_films(config: RunConfig, catalog: Catalog) -> int:
    """Return about how many films an epoch has."""
    published = int((catalog.frame["split"] == "train").sum())
    if published and config.data.split != "recut":
        return published
    return int(len(catalog.frame) * (1 - config.data.val_fraction - config.data.test_fraction))


def watch(run_id: str) -> None:
    """Make a run the one that this browser session's Train page shows."""
    st.session_state[_WATCHED] = run_id


def watched(runs: Sequence[RunRecord]) -> RunRecord | None:
    """Return the run to show: the one at work, else the one asked for, else the latest.

    The run store decides, so that a new tab or a new server shows the same.
    """
    asked = st.session_state.get(_WATCHED)
    by_id = {run.run_id: run for run in runs}
    active = [run for run in reversed(runs) if run.status.active]
    working = next((run for run in active if run.phase or run.status == "running"), None)
    return working or by_id.get(str(asked)) or next(iter(active), None) or next(iter(runs), None)
