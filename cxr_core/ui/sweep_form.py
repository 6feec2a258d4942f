"""What a sweep is to search: settings with their ranges, or the space as YAML, and for how long."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

import streamlit as st

from cxr_core.config import RunConfig, Setting
from cxr_core.errors import ConfigError
from cxr_core.training.search import (
    MOST_AT_ONCE,
    MOST_TRIALS,
    Cost,
    Objective,
    Pruner,
    Sampler,
    Search,
)
from cxr_core.training.search_space import (
    Dimension,
    SearchSpace,
    as_text,
    searchable,
    suggest,
)
from cxr_core.ui import forms, notices, words
from cxr_core.zoo import registry

OBJECTIVES = {
    "val_auroc": "Validation AUROC",
    "val_accuracy": "Validation accuracy",
    "val_loss": "Validation loss",
}
COSTS: dict[Cost, str] = {
    "seconds": "Training time (s)",
    "epoch_seconds": "Time an epoch (s)",
    "parameters": "Parameters",
}

_PATHS = "sweep:paths"  # session keys, and prefixes of them
_BY_YAML = "sweep:by_yaml"
_TEXT = "sweep:text"
_FILE = "sweep:file"
_TRIALS = "sweep:trials"
_AT_ONCE = "sweep:at_once"
_SIDE_BY_SIDE = 2  # trials at first
_HOW = "sweep:how:"
_FIRST = ("optimise.learning_rate", "model.dropout", "augment.rotation")
_FIRST_TRIALS = 12
_LARGEST = 1  # MB
_TITLES: Mapping[str, Mapping[Any, str]] = {
    "pruner": {
        "median": "Below the median",
        "hyperband": "Hyperband",
        "none": "No trial",
    },
    "sampler": {"tpe": "What did well so far (TPE)", "random": "Chance"},
    "objective": OBJECTIVES,
    "second": {"": "Nothing", **COSTS},
}


def panel(
    config: RunConfig,
    key: str,
    seconds: float | None,
    *,
    side_by_side: bool,
    enabled: bool,
    press: Callable[[], None],
) -> Search | None:
    """Draw what a sweep of these settings is to search, and the button that starts it.

    Args:
        config: the form's settings, which are the first trial.
        key: prefix of the form's keys; ranges begin anew with another one.
        seconds: how long one training is thought to take, None where nobody knows.
        side_by_side: whether several trials can train at once, as on a cluster.
        enabled: whether a run can start.
        press: called when the button is pressed, before the page is drawn.

    Returns:
        What is to be searched, None where it does not hold together.
    """
    with st.expander("Search for better settings", icon=":material/travel_explore:"):
        st.caption(
            "A sweep tries these settings and others near them, each in a run of its own, judged "
            "by the validation films. The best of them alone is tested at the end."
        )
        try:
            search = _search(_space(config, key), side_by_side=side_by_side)
        except ConfigError as error:
            notices.wrong(error)
            search = None
        if search is not None:
            _start(search, seconds, enabled=enabled, press=press)
    return search


def fill(search: Search) -> None:
    """Have the form show a search; before it is drawn, as in a callback."""
    st.session_state[_BY_YAML] = True
    st.session_state[_TEXT] = search.space.to_yaml()
    st.session_state[_TRIALS] = search.trials
    for field in _TITLES:
        st.session_state[f"{_HOW}{field}"] = getattr(search, field)


# -- the space ------------------------------------------------------------------------------------


def _space(config: RunConfig, key: str) -> SearchSpace:
    """Draw the space.

    Raises:
        ConfigError: it does not hold together.
    """
    by_yaml = st.toggle(
        "As YAML", key=_BY_YAML, persist_state="session", on_change=_to_text, args=(config, key)
    )
    if by_yaml:
        st.file_uploader(
            "Fill it from a file",
            type=["yaml", "yml"],
            key=_FILE,
            max_upload_size=_LARGEST,
            on_change=_read_file,
        )
        st.session_state.setdefault(_TEXT, "")
        text = st.text_area(
            "Search space",
            key=_TEXT,
            height=150,
            persist_state="session",
            help="A setting a line with a list of values, or a range with low, high, and log or "
            "step. `python -m cxr_core sweep … --space FILE` takes the same.",
        )
        return SearchSpace.from_yaml(text)
    known = {setting.path: setting for setting in searchable()}
    st.session_state.setdefault(_PATHS, list(_FIRST))
    paths = st.multiselect(
        "Settings to vary",
        list(known),
        format_func=lambda path: _named(known[path]),
        key=_PATHS,
        persist_state="session",
        placeholder="Choose one or more",
    )
    chosen: dict[str, Any] = {}
    for path in paths:
        found = _suggested(known[path], config)
        if found is None:
            st.caption(f"{forms.label(known[path])}: give its values as YAML.")
        else:
            chosen[path] = _dimension(known[path], found, f"{key}:sweep:{path}")
    if not chosen:
        raise ConfigError("Choose a setting to vary, or give the space as YAML.")
    return SearchSpace.from_mapping(chosen)


def _suggested(setting: Setting, config: RunConfig) -> Dimension | None:
    options: tuple[str, ...] = ()
    if setting.path == "model.architecture":
        options = tuple(registry.names())
    if setting.path == "model.weights":
        options = tuple(registry.get(config.model.architecture).weights)
    return suggest(setting, config.flat()[setting.path], options)


def _named(setting: Setting) -> str:
    """Return a setting's name with the section that it is in."""
    section = forms.SECTION_TITLES.get(setting.section, setting.section.capitalize())
    return f"{section}: {forms.label(setting)}"


def _dimension(setting: Setting, found: Dimension, key: str) -> Any:
    """Draw what is tried of a setting; return it as `SearchSpace.from_mapping` takes it."""
    for name, value in _first(found).items():
        st.session_state.setdefault(f"{key}:{name}", value)
    if found.choices:
        st.multiselect(
            forms.label(setting),
            list(found.choices),
            format_func=lambda choice: forms.title(setting.path, choice),
            key=f"{key}:values",
            help=setting.help,
            persist_state="session",
        )
        return _asked(found, key)
    left, middle, right = st.columns([1, 1, 0.7], vertical_alignment="bottom")
    whole = found.whole
    for place, end, title in ((left, "low", forms.label(setting)), (middle, "high", "to")):
        place.number_input(
            title,
            step=1 if whole else forms.fine_step(setting),
            format=None if whole else "%g",
            key=f"{key}:{end}",
            help=f"{setting.help} Allowed: {setting.allowed}." if end == "low" else None,
            persist_state="session",
        )
    right.toggle(
        "log",
        key=f"{key}:log",
        help="Each order of magnitude is tried as often.",
        persist_state="session",
        disabled=found.step is not None,
    )
    return _asked(found, key)


def _first(found: Dimension) -> dict[str, Any]:
    """Return what the widgets of a dimension show at first, by the end of their keys."""
    if found.choices:
        return {"values": list(found.choices)}
    return {"low": found.low, "high": found.high, "log": found.log}


def _asked(found: Dimension, key: str) -> Any:
    """Return what the widgets of a dimension say, as `SearchSpace.from_mapping` takes it."""
    said = {
        name: st.session_state.get(f"{key}:{name}", value) for name, value in _first(found).items()
    }
    if found.choices:
        return said["values"]
    if found.step is not None:
        return {"low": said["low"], "high": said["high"], "step": found.step}
    return said if said["log"] else {"low": said["low"], "high": said["high"]}


def _to_text(config: RunConfig, key: str) -> None:
    """Begin the YAML with what was chosen, where there is none yet."""
    if not st.session_state.get(_BY_YAML) or st.session_state.get(_TEXT):
        return
    known = {setting.path: setting for setting in searchable()}
    chosen = {}
    for path in st.session_state.get(_PATHS, _FIRST):
        found = _suggested(known[path], config)
        if found is not None:
            chosen[path] = _asked(found, f"{key}:sweep:{path}")
    st.session_state[_TEXT] = as_text(chosen)


def _read_file() -> None:
    file = st.session_state[_FILE]
    if file is not None:
        st.session_state[_TEXT] = file.getvalue().decode("utf-8", errors="replace")


# -- how, and how often ---------------------------------------------------------------------------


def _search(space: SearchSpace, *, side_by_side: bool) -> Search:
    """Draw how a space is searched.

    Raises:
        ConfigError: it does not hold together.
    """
    st.session_state.setdefault(_TRIALS, _FIRST_TRIALS)
    left, right = st.columns(2)
    number = left.number_input(
        "Trials",
        1,
        MOST_TRIALS,
        step=1,
        key=_TRIALS,
        persist_state="session",
        help="Trainings in all. The first has the settings as they are.",
    )
    with right:
        pruner = _choice(
            "Ended early",
            "pruner",
            get_args(Pruner),
            "A trial that does worse than others did after as many epochs need not go on.",
        )
    with st.expander("How it is searched", type="compact"):
        objective = _choice(
            "Best by",
            "objective",
            get_args(Objective),
            "At the epoch whose weights are kept. Test films are never used to choose.",
        )
        second = _choice(
            "Kept low besides",
            "second",
            ("", *get_args(Cost)),
            "Two aims have a front of best settings. No trial can then be ended early.",
        )
        sampler = _choice(
            "Settings by",
            "sampler",
            get_args(Sampler),
            "TPE (Bergstra and others 2011) looks where others did well; chance looks everywhere.",
        )
    at_once = 1
    if side_by_side:
        st.session_state.setdefault(_AT_ONCE, _SIDE_BY_SIDE)
        at_once = st.number_input(
            "Trials side by side",
            1,
            MOST_AT_ONCE,
            step=1,
            key=_AT_ONCE,
            persist_state="session",
            help="As many as the cluster has room for. Each is chosen by those that have ended, so "
            "the fewer at once, the better each is chosen.",
        )
    return Search(
        space,
        trials=int(number),
        at_once=int(at_once),
        objective=objective,
        second=second,
        sampler=sampler,
        pruner="none" if second else pruner,
    ).checked()


def _choice(label: str, field: str, options: tuple[str, ...], help: str) -> Any:
    st.session_state.setdefault(f"{_HOW}{field}", options[0])
    return st.selectbox(
        label,
        options,
        format_func=lambda name: _TITLES[field].get(name, name),
        key=f"{_HOW}{field}",
        help=help,
        persist_state="session",
    )


def _start(
    search: Search, seconds: float | None, *, enabled: bool, press: Callable[[], None]
) -> None:
    """Draw the button that says what it will do."""
    size = search.space.size
    number = search.trials if size is None else min(search.trials, size + 1)
    if size is not None and size <= search.trials:
        st.caption(f"The space has {words.count(size, 'setting')} in all; each is tried once.")
    about = f": {words.estimate(number * seconds)} at most" if seconds else ""
    st.button(
        f"Try {words.count(number, 'setting')}{about}",
        key="start_sweep",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=not enabled,
        on_click=press,
    )
