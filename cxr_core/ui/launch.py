"""What to train: recipe, settings, checks, and the one button that starts it."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import streamlit as st

from cxr_core.config import RunConfig, Scalar
from cxr_core.data.catalog import Catalog
from cxr_core.errors import ConfigError, CxrError
from cxr_core.training import (
    bundle_index,
    cross_validation,
    folds,
    jobs,
    machine,
    recipes,
    sweeps,
    trials,
)
from cxr_core.training.search import Search
from cxr_core.training.tracking import TAG_RECIPE, TAG_RESUMED, Kind, RunRecord, Status
from cxr_core.ui import (
    datasets,
    forms,
    layers_view,
    loaders,
    notices,
    places_view,
    sweep_form,
    words,
    yaml_view,
)
from cxr_core.zoo import registry

FIRST_RECIPE = "quick"
RECIPE = "recipe"  # session key: the recipe chosen
_STARTS = {"none": "Random", "imagenet": "ImageNet"}
_WATCHED = "watched_run"
_STARTED = "started_at"
_PRESSED = "start_pressed"  # session key: which button was, in this very run of the page
_ONE, _FOLDS, _SWEEP = "one", "folds", "sweep"  # a run, one a fold, or one a trial
_NUMBER = "folds_wanted"  # session key: how many folds
_DOUBLE_CLICK = 3.0  # seconds in which a second press is the same wish, not another run
_LOOKED_AGAIN = 15  # seconds until the list of bundles is made anew
_ELSEWHERE = ("data.root", "data.patient_pattern")  # settings that are asked for with the films


@dataclass(frozen=True)
class Chosen:
    """What the form says."""

    recipe: str  # where the settings come from; "" for a file's
    title: str  # what to call that
    config: RunConfig


@dataclass(frozen=True)
class Filled:
    """Where the form's settings come from, if not from the recipe."""

    source: str  # in words, as it stands in a sentence
    title: str  # what to call a run of it
    recipe: str  # "" for a file's


def configure(catalog: Catalog) -> Chosen | None:
    """Draw recipe and settings; return what was chosen.

    Returns None where the settings do not go together; the sentence that says so is on the page.
    """
    recipe = _recipe()
    base = recipes.load(recipe)
    key = _key(recipe)
    differences = st.container()
    values = forms.run_settings(
        base,
        key,
        choices={
            "model.architecture": {name: registry.get(name).title for name in registry.names()},
            "model.weights": _starts(key, base),
        },
        leave_out=_ELSEWHERE,
    )
    filled: Filled | None = st.session_state.get(_filled(key))
    with differences:
        _differences(key, base, values, filled)
    title = filled.title if filled else recipe.replace("_", " ")
    config = None
    try:
        config = base.with_values({**values, **_of_films()})
    except ConfigError as error:
        notices.wrong(error)
    else:
        layers_view.panel(config, len(catalog.classes))
    yaml_view.panel(config, title.replace(" ", "_"), _fill_from_file)
    if config is None:
        return None
    return Chosen(filled.recipe if filled else recipe, config.name or title, config)


def checks(config: RunConfig, catalog: Catalog, cluster: str) -> bool:
    """List what speaks against the run; return whether it can start.

    Args:
        config: what the form says.
        catalog: the films.
        cluster: the address of the one that is to train, "" for this machine.
    """
    there = places_view.problems(config, cluster) if cluster else None
    problems = jobs.check(config, loaders.store(), catalog, there)
    if all(problem.severity == "note" for problem in problems):
        st.caption(":material/check: Checked: nothing speaks against this run.")
    for number, problem in enumerate(problems):
        text = words.plain(f"{problem.message} {problem.mend}".rstrip())
        if problem.severity == "note":
            st.caption(f":material/info: {problem.title}. {text}")
        elif problem.severity == "warning":
            st.warning(text, title=problem.title, icon=":material/warning:")
        else:
            st.error(text, title=problem.title, icon=":material/error:")
        if problem.changes:
            settings = " and ".join(f"{path} = {value}" for path, value in problem.changes.items())
            st.button(
                "Mend it",
                key=f"mend:{number}:{problem.title}",
                help=f"Sets {settings}.",
                icon=":material/build:",
                on_click=_mend,
                args=(dict(problem.changes),),
            )
    if config.hardware.device == "all_gpus":
        st.caption(machine.shared_batch(config.optimise))
    return all(problem.severity != "error" for problem in problems)


def _mend(changes: dict[str, Scalar]) -> None:
    forms.fill(_key(str(st.session_state[RECIPE])), changes)


def button(
    chosen: Chosen, catalog: Catalog, runs: Sequence[RunRecord], cluster: str, *, enabled: bool
) -> None:
    """Draw the button that says what it will do, and does it.

    Args:
        chosen: what the form says.
        catalog: the films.
        runs: all there are.
        cluster: the address of the one that is to train, "" for this machine.
        enabled: whether a run can start.
    """
    before = sum(run.status.active for run in runs if not run.place)
    verb = "Queue" if before and not cluster else "Train"
    where = " on the cluster" if cluster else ""
    seconds = None  # how fast a cluster's nodes are, this machine's runs do not tell
    if not cluster:
        seconds = estimate(chosen.config, films=_training_films(chosen.config, catalog), runs=runs)
    about = f": {words.estimate(seconds)}" if seconds else ""
    if before and not cluster:
        st.caption(f"It will wait for {words.count(before, 'run')} before it.")
    st.button(
        f"{verb} {chosen.title} on {catalog.name}{where}{about}",
        key="start_run",  # the label changes as runs go on: without a key a click would be lost
        type="primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=not enabled,
        on_click=_press,
        args=(_ONE,),
    )
    _folds(chosen, seconds, enabled=enabled)
    search = sweep_form.panel(
        chosen.config,
        _key(str(st.session_state[RECIPE])),
        seconds,
        side_by_side=bool(cluster),
        enabled=enabled,
        press=partial(_press, _SWEEP),
    )
    pressed = st.session_state.pop(_PRESSED, "")
    if pressed == _SWEEP:
        if search is not None and enabled:
            _start_sweep(chosen, search, catalog, cluster)
    elif pressed and enabled:
        _start(chosen, catalog, pressed, cluster)


def _folds(chosen: Chosen, seconds: float | None, *, enabled: bool) -> None:
    """Offer to train the same once a fold.

    Args:
        chosen: what the form says.
        seconds: how long one training is thought to take, None where nobody knows.
        enabled: whether a run can start.
    """
    with st.popover("Cross-validate", icon=":material/splitscreen:", width="stretch"):
        st.markdown(
            "Cuts all films into folds by patient and trains these settings once a fold, each "
            "tested on the fold it never saw. Says how far the figures depend on the films."
        )
        st.session_state.setdefault(_NUMBER, chosen.config.data.folds)
        number = st.number_input(
            "Folds", 2, 10, step=1, key=_NUMBER, persist_state="session", disabled=not enabled
        )
        about = f": {words.estimate(number * seconds)}" if seconds else ""
        st.button(
            f"Train {number} folds{about}",
            key="start_folds",
            icon=":material/play_arrow:",
            disabled=not enabled,
            on_click=_press,
            args=(_FOLDS,),
        )


def estimate(config: RunConfig, films: int, runs: Sequence[RunRecord]) -> float | None:
    """Estimate a run's seconds from the runs of that network at that size.

    All epochs at the pace of the last of them, and what the last finished one took besides.

    Returns None where no such run is on record: a guess would be worth nothing.
    """
    alike = [
        run
        for run in runs
        if not run.place
        and run.params.get("model.architecture") == config.model.architecture
        and run.params.get("image.size") == str(config.image.size)
        and run.metrics.get("images_per_second", 0) > 0
    ]
    if not alike:
        return None
    besides = (_besides(run, runs) for run in alike)
    rest = next((seconds for seconds in besides if seconds is not None), 0.0)
    films *= max(1, config.distil.teachers)  # each of k teachers learns from k - 1 parts of k
    return config.optimise.epochs * films / alike[0].metrics["images_per_second"] + rest


def _besides(run: RunRecord, runs: Sequence[RunRecord]) -> float | None:
    """Return the seconds of a finished run in which no film was learned from: start, test, probes.

    Returns None where that cannot be told: it did not run to its end, or not in one go.
    """
    known = all(name in run.params for name in ("optimise.epochs", "train_films"))
    if (
        run.status is not Status.FINISHED
        or not run.has_model
        or run.ended is None
        or TAG_RESUMED in run.tags
        or not known
    ):
        return None
    # One run trains at a time: what trained and ended since this was asked for, it waited for.
    waited = [
        other.ended
        for other in runs
        if other.kind is Kind.TRAINING
        and "images_per_second" in other.metrics
        and other.ended is not None
        and run.created < other.ended < run.ended
    ]
    seconds = (run.ended - max([run.created, *waited])).total_seconds()
    epochs = int(run.params["optimise.epochs"])
    patience = int(run.params.get("stop.patience", 0))
    if patience and "best_epoch" in run.metrics:
        epochs = min(epochs, int(run.metrics["best_epoch"]) + patience)
    films = int(run.params["train_films"]) * max(1, int(run.params.get("distil.teachers", 0)))
    learned = epochs * films / run.metrics["images_per_second"]
    return max(0.0, seconds - learned)


def repeat(record: RunRecord) -> None:
    """Fill the form with the settings and the films of a run; before the page is drawn.

    Raises:
        TrainingError: the run's configuration is gone.
        ConfigError: it is of another version of the app, and this one does not know its settings.
    """
    config = loaders.store().config(record.run_id)
    when = f"{record.created:%d %b %H:%M} UTC"
    use(config, record, f"run {record.name} of {when}", record.name)
    if record.kind is Kind.SWEEP:
        sweep_form.fill(trials.search(record.run_id, loaders.store()))


def use(config: RunConfig, record: RunRecord, source: str, title: str) -> None:
    """Fill the form with settings, and choose their films; before the page is drawn.

    Args:
        config: the settings.
        record: the entry they come from.
        source: what that is, as it stands in a sentence.
        title: what to call a run of them that has no name.
    """
    recipe = record.tags.get(TAG_RECIPE, "")
    if recipe in recipes.names():
        st.session_state[RECIPE] = recipe
    fill(config, Filled(source, config.name or title.replace("_", " "), recipe))
    _take_films(config)


def fill(config: RunConfig, filled: Filled) -> None:
    """Have the form show a configuration; before it is drawn, as in a callback."""
    key = _key(st.session_state.get(RECIPE, _first()))
    forms.fill(key, _of_form(config))
    st.session_state[_filled(key)] = filled


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


def recipe_title(name: str) -> str:
    """Return a recipe's name for people: the network's as its authors write it."""
    entry = registry.get(recipes.load(name).model.architecture)
    text = name.replace(entry.name, entry.title.partition(",")[0]).replace("_", " ")
    return text[:1].upper() + text[1:]


def recipe_tables() -> dict[str, pd.DataFrame]:
    """Return what tells the recipes apart: by what they start from, a row a recipe."""
    rows: dict[str, list[dict[str, object]]] = {}
    for name in recipes.names():
        config = recipes.load(name)
        start = f"From {_STARTS.get(config.model.weights, config.model.weights).lower()} weights"
        rows.setdefault(start.replace("imagenet", "ImageNet"), []).append(
            {
                "Recipe": recipe_title(name),
                "What it is for": recipes.describe(name),
                "Size": f"{config.image.size} px",
                "Batch": words.count(config.optimise.batch_size, "film"),
                "Epochs": f"{config.optimise.epochs} at most",
            }
        )
    return {start: pd.DataFrame(rows[start]) for start in sorted(rows)}


def _press(what: str) -> None:
    """Note which button was pressed.

    What is started is read off the form afterwards: a number typed just before, and left by this
    very press, reaches the page together with it.
    """
    st.session_state[_PRESSED] = what


def _start(chosen: Chosen, catalog: Catalog, what: str, cluster: str) -> None:
    """Start the run, or one a fold, and watch it, or say why it cannot be started."""
    if time.monotonic() - st.session_state.get(_STARTED, -math.inf) < _DOUBLE_CLICK:
        return
    st.session_state[_STARTED] = time.monotonic()
    try:
        store, there = loaders.store(), places_view.launcher(cluster)
        if what == _FOLDS:
            number = int(st.session_state[_NUMBER])
            parent = cross_validation.start(
                chosen.config,
                number,
                recipe=chosen.recipe,
                store=store,
                launcher=there,
                catalog=catalog,
            )
            first = folds.by_number(folds.children(parent, store)).get(1)
            started = first.run_id if first else parent  # cancelled before it began
        else:
            started = jobs.start(
                chosen.config, recipe=chosen.recipe, store=store, launcher=there, catalog=catalog
            )
    except CxrError as error:
        notices.wrong(error)
        return
    watch(started)
    st.rerun()


def _start_sweep(chosen: Chosen, search: Search, catalog: Catalog, cluster: str) -> None:
    """Start a sweep and show it, or say why it cannot be started."""
    if time.monotonic() - st.session_state.get(_STARTED, -math.inf) < _DOUBLE_CLICK:
        return
    st.session_state[_STARTED] = time.monotonic()
    try:
        sweep = sweeps.start(
            chosen.config,
            search,
            recipe=chosen.recipe,
            store=loaders.store(),
            launcher=places_view.sweep_launcher(cluster),
            catalog=catalog,
        )
    except CxrError as error:
        notices.wrong(error)
        return
    st.switch_page("pages/runs.py", query_params={"run": sweep})


def _recipe() -> str:
    """Draw the choice of a recipe and what it is for; return its name."""
    st.session_state.setdefault(RECIPE, _first())
    names = sorted(recipes.names(), key=lambda name: (name != FIRST_RECIPE, name))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        recipe = st.selectbox(
            "Recipe", names, format_func=recipe_title, key=RECIPE, persist_state="session"
        )
        if st.button("Compare", key="compare_recipes", icon=":material/table:"):
            _compare()
    st.caption(recipes.describe(recipe))
    return recipe


@st.dialog("Recipes", width="large")
def _compare() -> None:
    for start, table in recipe_tables().items():
        st.markdown(f"**{start}**")
        st.table(table, border="horizontal", hide_index=True)


def _differences(
    key: str, base: RunConfig, values: Mapping[str, Scalar], filled: Filled | None
) -> None:
    """Say how far the form is from the recipe, with the way back."""
    start = base.flat()
    number = sum(start[path] != value for path, value in values.items())
    if filled:
        text = f"Filled from {filled.source}."
    elif number:
        text = f"{words.count(number, 'setting')} changed."
    else:
        text = "As the recipe has it."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(text, width="stretch")
        st.button(
            "Back to the recipe",
            key=f"{key}:back",
            icon=":material/undo:",
            type="tertiary",
            disabled=not (number or filled),
            on_click=_back,
            args=(key, base),
        )


def _back(key: str, base: RunConfig) -> None:
    forms.fill(key, _of_form(base))
    st.session_state[_filled(key)] = None


def _fill_from_file(name: str, config: RunConfig) -> None:
    fill(config, Filled(f"the file {name}" if name != "text" else "text", config.name or name, ""))
    if "root" in config.data.model_fields_set:
        _take_films(config)
    elif config.data.patient_pattern:
        loaders.use_patient_pattern(loaders.data_root(), config.data.patient_pattern)


def _of_films() -> dict[str, Scalar]:
    """Return the settings that are asked for with the films."""
    return {"data.root": loaders.data_root(), "data.patient_pattern": loaders.patient_pattern()}


def _take_films(config: RunConfig) -> None:
    """Choose a configuration's films, and its rule for patients; before the page is drawn."""
    datasets.take(config.data.root)
    loaders.use_patient_pattern(config.data.root, config.data.patient_pattern)


def _of_form(config: RunConfig) -> dict[str, Scalar]:
    return {path: value for path, value in config.flat().items() if path not in _ELSEWHERE}


def _starts(key: str, base: RunConfig) -> dict[str, str]:
    """Return what the network chosen may start from, with titles: weights, and its own bundles."""
    network = st.session_state.get(f"{key}:model.architecture", base.model.architecture)
    weights = registry.get(network).weights
    found = {name: f"{_STARTS.get(name, name)} weights" for name in weights}
    for spec, label in _bundles(loaders.store().uri, network).items():
        found[f"bundle:{spec}"] = f"Bundle {label}"
    asked = st.session_state.get(f"{key}:model.weights", base.model.weights)
    if asked not in found and asked.startswith("bundle:"):  # the checks say what is wrong with it
        found[asked] = f"Bundle {asked.removeprefix('bundle:')}"
    return found


@st.cache_data(ttl=_LOOKED_AGAIN, max_entries=16, show_spinner=False)
def _bundles(uri: str, network: str) -> dict[str, str]:
    """Return the bundles of a network, each with its label; ``uri`` tells one store from another.

    Every run's bundle is a file to read, and the form is drawn at every change of a setting.
    """
    found = bundle_index.available(loaders.store())
    return {ref.spec: ref.label for ref in found if ref.info.architecture == network}


def _training_films(config: RunConfig, catalog: Catalog) -> int:
    """Return about how many films an epoch has."""
    if config.data.fold:
        rest = len(catalog.frame) * (1 - 1 / config.data.folds)
        return int(rest * (1 - config.data.val_fraction))
    published = int((catalog.frame["split"] == "train").sum())
    if published and config.data.split != "recut":
        return published
    return int(len(catalog.frame) * (1 - config.data.val_fraction - config.data.test_fraction))


def _first() -> str:
    names = recipes.names()
    return FIRST_RECIPE if FIRST_RECIPE in names else names[0]


def _key(recipe: str) -> str:
    """Return the prefix of a recipe's form; the Dataset page draws some of its widgets too."""
    return f"train:{recipe}"


def _filled(key: str) -> str:
    return f"{key}:filled"
