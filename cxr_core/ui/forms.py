"""A form made from RunConfig: every setting with its help, unit and bounds."""

import math
from collections.abc import Iterable, Mapping

import streamlit as st

from cxr_core.config import RunConfig, Scalar, Setting, settings

# Where the names in a section of the file say less than a person wants to read.
SECTION_TITLES = {
    "": "Run",
    "data": "Data",
    "image": "Film to square",
    "augment": "Augmentation",
    "model": "Network",
    "optimise": "Optimisation",
    "stop": "Stopping",
    "hardware": "Hardware",
}
_LABELS = {
    "image.size": "Image size (px)",
    "optimise.batch_size": "Batch size (films)",
    "optimise.epochs": "Epochs, at most",
    "model.weights": "Start from",
    "data.split": "Division",
}


def run_settings(
    base: RunConfig,
    key: str,
    *,
    choices: Mapping[str, Mapping[str, str]],
    leave_out: Iterable[str] = (),
) -> dict[str, Scalar]:
    """Draw all settings, the main ones in sight and the others under "More".

    Args:
        base: where the form starts, usually a recipe.
        key: prefix of the widgets' keys; another key starts afresh from ``base``.
        choices: paths of free-text settings that are a choice here, each with its options and
            their titles.
        leave_out: paths that the page asks for elsewhere.

    Returns:
        The chosen values by dotted path.
    """
    start = base.flat()
    shown = [s for s in settings() if s.path not in set(leave_out)]
    main = [s for s in shown if s.level == "main" or s.path in choices]
    main.sort(key=lambda s: s.path not in choices)  # what the numbers depend on comes first
    values = _rows(main, start, key, choices)
    rest = [s for s in shown if s not in main]
    with st.expander("More settings", icon=":material/tune:"):
        for section in dict.fromkeys(s.section for s in rest):
            st.markdown(f"**{SECTION_TITLES.get(section, section.capitalize())}**")
            values |= _rows([s for s in rest if s.section == section], start, key, choices)
    return values


def _rows(
    members: list[Setting],
    start: Mapping[str, Scalar],
    key: str,
    choices: Mapping[str, Mapping[str, str]],
) -> dict[str, Scalar]:
    """Draw settings two a row; words, which need the width, alone."""
    values: dict[str, Scalar] = {}
    free = None
    for setting in members:
        options = choices.get(setting.path)
        wide = setting.type is str and not setting.choices and options is None
        if wide or free is None:
            left, right = (st.container(), None) if wide else st.columns(2)
            place, free = left, right
        else:
            place, free = free, None
        with place:
            values[setting.path] = widget(
                setting, start[setting.path], f"{key}:{setting.path}", options
            )
    return values


def widget(
    setting: Setting, value: Scalar, key: str, options: Mapping[str, str] | None = None
) -> Scalar:
    """Draw the widget that fits one setting and return its value.

    Args:
        setting: the field, with type, bounds, unit and help.
        value: what it shows first.
        key: the widget's key; its value outlives a change of page.
        options: for a text setting that is a choice here, each option with its title.
    """
    label = _LABELS.get(setting.path, setting.label)
    if options is not None or setting.choices:
        titles = options if options is not None else {word: word for word in setting.choices}
        names = list(titles)
        return st.selectbox(
            label,
            names,
            index=names.index(str(value)) if value in names else 0,
            format_func=lambda name: titles.get(name, name),
            key=key,
            help=setting.help,
            persist_state="session",
        )
    if setting.type is bool:
        return st.toggle(
            label, value=bool(value), key=key, help=setting.help, persist_state="session"
        )
    help_text = f"{setting.help} Allowed: {setting.allowed}."
    if setting.type is int:
        return st.number_input(
            label,
            value=int(value),
            min_value=_whole(setting.minimum),
            max_value=_whole(setting.maximum),
            step=_whole_step(setting),
            key=key,
            help=help_text,
            persist_state="session",
        )
    if setting.type is float:
        # An open bound is left to RunConfig, whose sentence then stands beside the button.
        return st.number_input(
            label,
            value=float(value),
            min_value=None if setting.open_minimum else _real(setting.minimum),
            max_value=None if setting.open_maximum else _real(setting.maximum),
            step=_fine_step(setting),
            format="%g",
            key=key,
            help=help_text,
            persist_state="session",
        )
    return st.text_input(
        label, value=str(value), key=key, help=setting.help, persist_state="session"
    )


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def _real(bound: float | None) -> float | None:
    return None if bound is None else float(bound)


def _whole_step(setting: Setting) -> int:
    """Sizes move in 32s, which every network here divides by; the rest by one."""
    return 32 if setting.unit == "px" else 1


def _fine_step(setting: Setting) -> float:
    """Return a step that suits the number: a tenth of the default's order of magnitude."""
    if setting.default:
        return float(10.0 ** (math.floor(math.log10(abs(float(setting.default)))) - 1))
    span = (setting.maximum or 1.0) - (setting.minimum or 0.0)
    return float(10.0 ** (math.floor(math.log10(span)) - 1))
