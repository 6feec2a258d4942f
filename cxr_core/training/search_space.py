"""A search space: which settings a sweep tries, and what of each.

As YAML a mapping of a setting's dotted path to a list of values, or to a range::

    optimise.optimizer: [adam, adamw]
    optimise.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
    augment.rotation: {low: 0, high: 15, step: 5}

Every value is checked against the setting's own bounds.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cxr_core.config import RunConfig, Scalar, Setting, settings
from cxr_core.errors import ConfigError
from cxr_core.zoo import registry

ARCHITECTURE = "model.architecture"

_RANGE = ("low", "high", "log", "step")
_EXAMPLE = "'optimise.learning_rate: {low: 0.0001, high: 0.01, log: true}'"
# Settings of which every trial has the sweep's own, and why.
_FIXED = {
    "name": "It is what a run is called.",
    "seed": "It bears on which films validate, so trials could not be compared.",
    "data": "It decides which films are learned from or validate, so trials could not be compared.",
    "decide": "The threshold is chosen after the training and changes no figure a sweep goes by.",
}
# Ranges to begin with where bounds and value of a setting suggest none: low, high, logarithmic.
_RANGES: Mapping[str, tuple[float, float, bool]] = {
    "image.clahe": (0, 4, False),
    "augment.rotation": (0, 15, False),
    "augment.translation": (0, 0.1, False),
    "augment.zoom": (0, 0.2, False),
    "augment.shear": (0, 10, False),
    "augment.brightness": (0, 0.2, False),
    "augment.contrast": (0, 0.3, False),
    "augment.gamma": (0, 0.5, False),
    "augment.blur": (0, 2, False),
    "augment.noise": (0, 10, False),
    "augment.crop_area": (0.5, 1, False),
    "augment.mixup": (0, 0.4, False),
    "augment.cutmix": (0, 1, False),
    "model.dropout": (0, 1.5, False),
    "optimise.weight_decay": (1e-5, 0.1, True),
    "optimise.label_smoothing": (0, 0.2, False),
    "optimise.clip_norm": (0, 5, False),
    "optimise.ema": (0, 0.99, False),
    "optimise.head_epochs": (0, 3, False),
    "optimise.train_layers": (-1, 20, False),
    "optimise.small_size": (0, 128, False),
    "optimise.small_epochs": (0, 3, False),
    "distil.share": (0.25, 0.75, False),
    "stop.plateau_factor": (0.2, 0.7, False),
}


# Numbers to begin with where not every one in a range will do.
_NUMBERS: Mapping[str, tuple[Scalar, ...]] = {"distil.teachers": (0, 2, 4)}
_LOOKED_AT = 200  # values of a range of whole numbers that are checked one by one


@dataclass(frozen=True)
class Dimension:
    """What is tried of one setting: some values, or a range of numbers."""

    path: str
    choices: tuple[Scalar, ...] = ()  # two or more, or none where it is a range
    low: float = 0
    high: float = 0
    log: bool = False  # True where the orders of magnitude are equally likely
    step: float | None = None

    @property
    def whole(self) -> bool:
        """True for a range of whole numbers."""
        return not self.choices and _known()[self.path].type is int

    @property
    def values(self) -> Sequence[Scalar] | None:
        """All values there are, None where they cannot be counted."""
        if self.choices:
            return self.choices
        if self.whole:
            return range(int(self.low), int(self.high) + 1, int(self.step or 1))
        if self.step is None:
            return None
        number = math.floor((self.high - self.low) / self.step + 1e-9)
        return tuple(self.low + place * self.step for place in range(number + 1))

    def holds(self, value: Scalar) -> bool:
        """Tell if a value of the setting is among those that are tried."""
        if self.values is not None:
            return any(
                math.isclose(value, one) if isinstance(one, float) else value == one  # type: ignore[arg-type]
                for one in self.values
            )
        return isinstance(value, float) and self.low <= value <= self.high

    def readable(self, value: Scalar) -> Scalar:
        """Return a value of a range with four digits that count, within the range."""
        if self.values is not None or not isinstance(value, float):
            return value
        return min(max(float(f"{value:.4g}"), self.low), self.high)

    def as_yaml(self) -> Any:
        """Return it as :meth:`SearchSpace.from_mapping` takes it."""
        if self.choices:
            return list(self.choices)
        found: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.log:
            found["log"] = True
        if self.step is not None:
            found["step"] = self.step
        return found


@dataclass(frozen=True)
class SearchSpace:
    """The settings that a sweep varies, and what it tries of each."""

    dimensions: tuple[Dimension, ...]

    @classmethod
    def from_mapping(cls, values: object, source: str = "The search space") -> "SearchSpace":
        """Build a space from what YAML gives; ``source`` begins sentences about its form.

        Raises:
            ConfigError: no mapping, an unknown setting or key, or a value that is not allowed;
                names the setting's path and what is allowed.
        """
        if not isinstance(values, dict) or not values:
            raise ConfigError(
                f"{source} must be a mapping of settings to what is tried of them, such as "
                f"{_EXAMPLE}."
            )
        return cls(tuple(_dimension(str(path), what) for path, what in values.items()))

    @classmethod
    def from_yaml(cls, text: str, source: str = "The search space") -> "SearchSpace":
        """Read a space from YAML text.

        Raises:
            ConfigError: no YAML, or as :meth:`from_mapping`.
        """
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{source} is not valid YAML: {error}") from error
        return cls.from_mapping(values, source)

    @classmethod
    def from_file(cls, path: Path) -> "SearchSpace":
        """Read a space from a YAML file.

        Raises:
            ConfigError: the file cannot be read, or as :meth:`from_yaml`.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"The search space {path} cannot be read: {error}") from error
        return cls.from_yaml(text, f"The search space {path}")

    @property
    def paths(self) -> tuple[str, ...]:
        """The settings that are varied."""
        return tuple(dimension.path for dimension in self.dimensions)

    @property
    def size(self) -> int | None:
        """How many settings there are to try, None where they cannot be counted."""
        counts = [dimension.values for dimension in self.dimensions]
        return None if None in counts else math.prod(len(values or ()) for values in counts)

    def combinations(self) -> Iterator[dict[str, Scalar]]:
        """Yield all that there is to try; nothing where it cannot be counted."""
        if self.size is not None:
            values = [dimension.values or () for dimension in self.dimensions]
            for chosen in itertools.product(*values):
                yield dict(zip(self.paths, chosen, strict=True))

    def of(self, config: RunConfig) -> dict[str, Scalar]:
        """Return what a configuration has of the varied settings."""
        flat = config.flat()
        return {path: flat[path] for path in self.paths}

    def holds(self, values: Mapping[str, Scalar]) -> bool:
        """Tell if the space has these values of its settings."""
        return all(dimension.holds(values[dimension.path]) for dimension in self.dimensions)

    def as_mapping(self) -> dict[str, Any]:
        """Return it as :meth:`from_mapping` takes it."""
        return {dimension.path: dimension.as_yaml() for dimension in self.dimensions}

    def to_yaml(self) -> str:
        """Return it as YAML; :meth:`from_yaml` gives the same space back."""
        return as_text(self.as_mapping())


def as_text(values: Mapping[str, Any]) -> str:
    """Write what :meth:`SearchSpace.from_mapping` takes as YAML, a setting a line, unchecked."""
    lines = (
        yaml.safe_dump({path: what}, default_flow_style=None, sort_keys=False, width=1000)
        for path, what in values.items()
    )
    return "".join(lines)


def searchable() -> tuple[Setting, ...]:
    """Return the settings that a sweep may vary, in the order of `config.settings`."""
    return tuple(setting for setting in settings() if not _why_fixed(setting.path))


def suggest(setting: Setting, value: Scalar, options: tuple[str, ...] = ()) -> Dimension | None:
    """Return what one might try of a setting that has this value: a range around it, or its words.

    Args:
        setting: which.
        value: what it is now.
        options: what there is to choose from, for a setting of free text.

    Returns:
        None for a free text without options: nobody can guess what to try.
    """
    path = setting.path
    if setting.type is bool:
        return Dimension(path, choices=(False, True))
    words = setting.choices or options
    if words:
        return Dimension(path, choices=words) if len(words) > 1 else None
    if isinstance(value, str):
        return None
    if path in _NUMBERS:
        return Dimension(path, choices=_NUMBERS[path])
    low, high, log = _RANGES.get(path) or _around(setting, value)
    if setting.type is float:
        return Dimension(path, low=min(low, value), high=max(high, value), log=log and value > 0)
    step = 32 if setting.unit == "px" else 1  # every network here divides by 32
    bottom, top = (step * round(end / step) for end in (low, high))
    return Dimension(
        path, low=bottom, high=max(top, bottom + step), step=step if step > 1 else None
    )


def _around(setting: Setting, value: float) -> tuple[float, float, bool]:
    """Return a range about a value within a setting's bounds: low, high, logarithmic."""
    least = -math.inf if setting.minimum is None else setting.minimum
    most = math.inf if setting.maximum is None else setting.maximum
    if value <= 0 or not math.isfinite(most):
        return max(0.0, least), min(most, 1.0 if setting.type is float else 4.0), False
    wide = setting.type is float and value < most / 100  # of several orders of magnitude
    factor = 10 if wide else 2
    return max(value / factor, least), min(value * factor, most), wide


def _dimension(path: str, what: object) -> Dimension:
    """Read what is tried of one setting."""
    if path not in _known():
        RunConfig().with_values({path: None})  # a ConfigError that lists those there are
    why = _why_fixed(path)
    if why:
        raise ConfigError(f"A sweep cannot vary {path}. {why} Give all trials one value of it.")
    if isinstance(what, list):
        return _list(path, what)
    if isinstance(what, dict):
        return _range(path, what)
    raise ConfigError(
        f"What is tried of {path} must be a list of values, or a range such as {_EXAMPLE}; it is "
        f"{what!r}. A single value is no search: set it for all trials."
    )


def _list(path: str, values: list[Any]) -> Dimension:
    choices = tuple(dict.fromkeys(_checked(path, value) for value in values))
    if len(choices) < 2:
        raise ConfigError(
            f"The list for {path} needs two different values or more. Allowed: "
            f"{_known()[path].allowed}."
        )
    if path == ARCHITECTURE:
        for name in choices:
            registry.get(str(name))  # else a ConfigError that lists those there are
    return Dimension(path, choices=choices)


def _range(path: str, values: dict[Any, Any]) -> Dimension:
    setting = _known()[path]
    if setting.type not in (int, float):
        raise ConfigError(
            f"{path} is no number: give a list of values. Allowed: {setting.allowed}."
        )
    unknown = [str(key) for key in values if key not in _RANGE]
    missing = [key for key in ("low", "high") if key not in values]
    if unknown or missing:
        fault = f"has no '{missing[0]}'" if missing else f"has no key '{unknown[0]}' to set"
        raise ConfigError(
            f"The range of {path} {fault}. It takes low and high, and log (true or false) or step."
        )
    low, high = (float(_checked(path, values[key])) for key in ("low", "high"))
    log, step = values.get("log", False), values.get("step")
    if not isinstance(log, bool):
        raise ConfigError(f"The range of {path} has log = {log!r}; it must be true or false.")
    if low >= high:
        raise ConfigError(
            f"The range of {path} goes from {low:g} to {high:g}: low must be below high."
        )
    if log and low <= 0:
        raise ConfigError(
            f"The range of {path} begins at {low:g}: a logarithmic one must begin above 0."
        )
    if log and step is not None:
        raise ConfigError(f"The range of {path} has both log and step: take one of them.")
    if step is None:
        found = Dimension(path, low=_of_type(setting, low), high=_of_type(setting, high), log=log)
    else:
        found = _stepped(setting, low, high, step)
    if found.whole:
        for value in (found.values or ())[:_LOOKED_AT]:
            _checked(path, value)  # one in between may not be allowed
    return found


def _stepped(setting: Setting, low: float, high: float, step: Any) -> Dimension:
    try:
        width = float(step)
    except (TypeError, ValueError):
        width = math.nan
    whole = setting.type is float or width == int(width or 0) if math.isfinite(width) else False
    if isinstance(step, bool) or not 0 < width <= high - low or not whole:
        kind = "a whole number" if setting.type is int else "a number"
        raise ConfigError(
            f"The range of {setting.path} has step = {step!r}; it must be {kind} above 0 and at "
            f"most {high - low:g}."
        )
    last = low + width * math.floor((high - low) / width + 1e-9)  # the highest that is reached
    if last >= high or math.isclose(last, high):
        last = high
    return Dimension(
        setting.path,
        low=_of_type(setting, low),
        high=_of_type(setting, last),
        step=_of_type(setting, width),
    )


def _checked(path: str, value: Any) -> Scalar:
    """Return a value as the setting's own type.

    Raises:
        ConfigError: it is not allowed; names the path and what is.
    """
    if value is None or isinstance(value, list | dict):
        raise ConfigError(f"{path} cannot be {value!r}. Allowed: {_known()[path].allowed}.")
    return RunConfig().with_values({path: value}).flat()[path]


def _of_type(setting: Setting, number: float) -> float:
    return int(number) if setting.type is int else number


def _why_fixed(path: str) -> str:
    """Return why a sweep cannot vary a setting, "" where it can."""
    return _FIXED.get(path.partition(".")[0], "")


def _known() -> dict[str, Setting]:
    return {setting.path: setting for setting in settings()}
