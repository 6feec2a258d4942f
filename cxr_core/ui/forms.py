"""A form made from RunConfig: every setting with its help, unit and bounds."""

import math
from collections.abc import Callable, Iterable, Mapping

import streamlit as st

from cxr_core.config import RunConfig, Scalar, Setting, settings

Choices = Mapping[str, Mapping[str, str]]  # path of a setting -> its options and their titles
Values = Mapping[str, Scalar]

# Where the names in a section of the file say less than a person wants to read.
SECTION_TITLES = {
    "": "Run",
    "data": "Division of the films",
    "image": "From film to square",
    "augment": "Augmentation",
    "model": "Network",
    "optimise": "Optimisation",
    "distil": "Distillation",
    "stop": "Stopping and falling rate",
    "decide": "Decision",
    "hardware": "Hardware",
}
_LABELS = {
    "data.split": "Division",
    "data.val_fraction": "Validation part (of patients)",
    "data.test_fraction": "Test part (of patients)",
    "data.fold": "Fold held out (0: none)",
    "data.folds": "Folds",
    "image.size": "Image size (px)",
    "image.fit": "How a film becomes a square",
    "image.clahe": "CLAHE, clip limit",
    "augment.flip": "Mirror half",
    "augment.crop_area": "Crop, least area kept",
    "augment.mixup": "Mixup, strength",
    "augment.cutmix": "CutMix, strength",
    "augment.blur": "Blur, sigma (px)",
    "augment.noise": "Noise (gray levels)",
    "model.weights": "Start from",
    "model.dropout": "Dropout (of its own rates)",
    "model.coordinates": "Coordinate channels",
    "optimise.epochs": "Epochs, at most",
    "optimise.batch_size": "Batch size (films)",
    "optimise.weight_decay": "Weight decay",
    "optimise.schedule": "Course of the learning rate",
    "optimise.warmup_epochs": "Warm-up (epochs)",
    "optimise.restart_steps": "First cosine (steps)",
    "optimise.restart_growth": "Growth of the cosines",
    "optimise.restart_decay": "Rate at a restart (share)",
    "optimise.head_epochs": "Head alone first (epochs)",
    "optimise.train_layers": "Body layers trained",
    "optimise.body_rate": "Rate with the body (share)",
    "optimise.small_size": "Small films first (px)",
    "optimise.small_epochs": "Small films for (epochs)",
    "optimise.focal_gamma": "Focal loss, gamma",
    "optimise.balance": "Rare classes",
    "optimise.clip_norm": "Longest gradient",
    "optimise.ema": "Averaged weights (share)",
    "distil.teachers": "Teachers (0: none)",
    "distil.share": "Their opinion weighs (share)",
    "stop.monitor": "Best epoch by",
    "stop.plateau_patience": "Epochs until the rate falls",
    "stop.plateau_factor": "Rate falls to (share)",
    "stop.min_learning_rate": "Lowest learning rate",
    "decide.rule": "Threshold by",
    "decide.target": "Target (share)",
    "decide.views": "Validation films altered (times)",
    "decide.miss_cost": "A miss costs (false alarms)",
}
_TITLES: Choices = {
    "data.split": {
        "auto": "Keep usable parts",
        "published": "As published",
        "recut": "Cut all anew",
    },
    "image.fit": {"squash": "Stretch", "letterbox": "Pad with black", "crop": "Cut the centre"},
    "model.head": {
        "own": "The network's own",
        "gap": "Mean, one layer more",
        "flatten_mlp": "MLP",
    },
    "optimise.optimizer": {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD, momentum 0.9"},
    "optimise.schedule": {
        "plateau": "Falls when stalled",
        "cosine": "Cosine",
        "cosine_restarts": "Cosine, restarts",
        "constant": "Constant",
    },
    "optimise.loss": {"cross_entropy": "Cross-entropy", "focal": "Focal"},
    "optimise.balance": {
        "none": "As they are",
        "weights": "Weigh them more",
        "oversample": "Show them more often",
    },
    "stop.monitor": {"val_loss": "Lowest validation loss", "val_auroc": "Highest validation AUROC"},
    "decide.rule": {
        "youden": "Youden's index",
        "sensitivity": "Target sensitivity",
        "specificity": "Target specificity",
        "cost": "Least cost",
    },
    "hardware.device": {
        "auto": "GPU if there is one",
        "cpu": "CPU",
        "gpu": "GPU",
        "all_gpus": "All GPUs",
    },
    "hardware.precision": {
        "auto": "The faster, by trial",
        "float32": "float32",
        "mixed_bfloat16": "Mixed bfloat16",
        "mixed_float16": "Mixed float16",
    },
}
# Settings that do nothing unless another one says so; they stay in their place, grayed.
_APPLIES: dict[str, Callable[[Values], bool]] = {
    "optimise.weight_decay": lambda v: v["optimise.optimizer"] == "adamw",
    "optimise.warmup_epochs": lambda v: v["optimise.schedule"] == "cosine",
    "optimise.restart_steps": lambda v: v["optimise.schedule"] == "cosine_restarts",
    "optimise.restart_growth": lambda v: v["optimise.schedule"] == "cosine_restarts",
    "optimise.restart_decay": lambda v: v["optimise.schedule"] == "cosine_restarts",
    "optimise.small_epochs": lambda v: v["optimise.small_size"] != 0,
    "optimise.focal_gamma": lambda v: v["optimise.loss"] == "focal",
    "stop.plateau_patience": lambda v: v["optimise.schedule"] == "plateau",
    "stop.plateau_factor": lambda v: v["optimise.schedule"] == "plateau",
    "stop.min_learning_rate": lambda v: v["optimise.schedule"] != "constant",
    "distil.share": lambda v: v["distil.teachers"] != 0,
    "decide.target": lambda v: v["decide.rule"] in ("sensitivity", "specificity"),
    "decide.miss_cost": lambda v: v["decide.rule"] == "cost",
}


MORE = "more_settings"  # session key: whether the settings beyond the main ones are open


def run_settings(
    base: RunConfig,
    key: str,
    *,
    choices: Choices,
    leave_out: Iterable[str] = (),
) -> dict[str, Scalar]:
    """Draw all settings: the main ones, and the others by section once somebody opens them.

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
    main = [s for s in shown if s.level == "main"]
    main.sort(key=lambda s: s.path not in choices)  # what the numbers depend on comes first
    values = _rows(main, start, key, choices, {})
    rest = [s for s in shown if s not in main]
    more = st.expander("More settings", icon=":material/tune:", key=MORE, on_change="rerun")
    if not more.open:  # some fifty widgets: the page is there much sooner without them
        return values | {s.path: _kept(s, start[s.path], key, choices) for s in rest}
    with more:
        for section in dict.fromkeys(s.section for s in rest):
            title = SECTION_TITLES.get(section, section.capitalize())
            members = [s for s in rest if s.section == section]
            with st.expander(title, type="compact", key=f"{key}:section:{section}"):
                values |= _rows(members, start, key, choices, values)
    return values


def label(setting: Setting) -> str:
    """Return what a setting is called on a page, with its unit."""
    return _LABELS.get(setting.path, setting.label)


def title(path: str, value: Scalar) -> str:
    """Write a setting's value as the form does: "AdamW", "on", "0.00125"."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.3g}"
    return _TITLES.get(path, {}).get(str(value), str(value))


def fill(key: str, values: Values) -> None:
    """Have the form of that key show these values; before it is drawn, as in a callback."""
    for path, value in values.items():
        st.session_state[f"{key}:{path}"] = value


def _kept(setting: Setting, value: Scalar, key: str, choices: Choices) -> Scalar:
    """Return what the widget of a setting would show, which is not drawn."""
    kept: Scalar = st.session_state.get(f"{key}:{setting.path}", value)
    options = choices.get(setting.path)
    return kept if options is None or kept in options else next(iter(options))


def _rows(
    members: list[Setting],
    start: Values,
    key: str,
    choices: Choices,
    before: Values,
) -> dict[str, Scalar]:
    """Draw settings two a row; words, which need the width, alone.

    ``before`` holds what was chosen further up, on which a setting may depend.
    """
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
        applies = _APPLIES.get(setting.path)
        with place:
            values[setting.path] = widget(
                setting,
                start[setting.path],
                f"{key}:{setting.path}",
                options,
                disabled=applies is not None and not applies({**start, **before, **values}),
            )
    return values


def widget(
    setting: Setting,
    value: Scalar,
    key: str,
    options: Mapping[str, str] | None = None,
    *,
    disabled: bool = False,
) -> Scalar:
    """Draw the widget that fits one setting and return its value.

    Args:
        setting: the field, with type, bounds, unit and help.
        value: what it shows first.
        key: the widget's key; its value outlives a change of page.
        options: for a text setting that is a choice here, each option with its title.
        disabled: whether the setting does nothing as things are.
    """
    name = label(setting)
    # Not the widget's own first value: Streamlit warns where that and a filled-in one meet.
    st.session_state.setdefault(key, value)
    if options is not None or setting.choices:
        titles = options if options is not None else _TITLES.get(setting.path, {})
        names = list(options) if options is not None else list(setting.choices)
        return st.selectbox(
            name,
            names,
            format_func=lambda option: titles.get(option, option),
            key=key,
            help=setting.help,
            persist_state="session",
            disabled=disabled,
        )
    if setting.type is bool:
        return st.toggle(
            name, key=key, help=setting.help, persist_state="session", disabled=disabled
        )
    help_text = f"{setting.help} Allowed: {setting.allowed}."
    if setting.type is int:
        return st.number_input(
            name,
            min_value=_whole(setting.minimum),
            max_value=_whole(setting.maximum),
            step=_whole_step(setting),
            key=key,
            help=help_text,
            persist_state="session",
            disabled=disabled,
        )
    if setting.type is float:
        # An open bound is left to RunConfig, whose sentence then stands beside the button.
        return st.number_input(
            name,
            min_value=None if setting.open_minimum else _real(setting.minimum),
            max_value=None if setting.open_maximum else _real(setting.maximum),
            step=fine_step(setting),
            format="%g",
            key=key,
            help=help_text,
            persist_state="session",
            disabled=disabled,
        )
    return st.text_input(
        name, key=key, help=setting.help, persist_state="session", disabled=disabled
    )


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def _real(bound: float | None) -> float | None:
    return None if bound is None else float(bound)


def _whole_step(setting: Setting) -> int:
    """Sizes move in 32s, which every network here divides by; the rest by one."""
    return 32 if setting.unit == "px" else 1


def fine_step(setting: Setting) -> float:
    """Return a step that suits the number: a tenth of the default's order of magnitude."""
    if setting.default:
        return float(10.0 ** (math.floor(math.log10(abs(float(setting.default)))) - 1))
    span = (setting.maximum or 1.0) - (setting.minimum or 0.0)
    return float(10.0 ** (math.floor(math.log10(span)) - 1))
