"""What a sweep is to do: the space it searches, by which figure, how, and for how long."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import yaml

from cxr_core.config import RunConfig
from cxr_core.errors import ConfigError
from cxr_core.training.search_space import SearchSpace

Sampler = Literal["tpe", "random"]
Pruner = Literal["median", "hyperband", "none"]
# Figures of the validation films, at the epoch whose weights are kept. Never one of test films:
# what was chosen by them could not be judged by them any more.
Objective = Literal["val_auroc", "val_accuracy", "val_loss"]
# What a trial costs: seconds of training in all, seconds an epoch, numbers in the network.
Cost = Literal["seconds", "epoch_seconds", "parameters"]

MOST_TRIALS, MOST_AT_ONCE = 1000, 64

_COUNTS = {
    "trials": MOST_TRIALS,
    "at_once": MOST_AT_ONCE,
}  # the most that is allowed of each; the least is 1
# Settings that change what the loss is: between their values it cannot be compared.
_OF_THE_LOSS = ("optimise.loss", "optimise.focal_gamma", "optimise.label_smoothing")


@dataclass(frozen=True)
class Search:
    """What a sweep is to do; :meth:`checked` before it is used."""

    space: SearchSpace
    trials: int = 20  # how many in all, the default settings the first of them
    objective: Objective = "val_auroc"
    second: Cost | Literal[""] = ""  # what is kept low besides; "" for nothing
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    at_once: int = 1  # trials in the queue together; those of one machine still take turns

    @classmethod
    def from_yaml(cls, text: str, source: str) -> "Search":
        """Read what :meth:`to_yaml` wrote.

        Raises:
            ConfigError: it is no such text.
        """
        try:
            values = yaml.safe_load(text)
            known = {field.name for field in fields(cls)}
            if not isinstance(values, dict) or set(values) != known:
                raise ConfigError(f"{source} must have these keys: {', '.join(sorted(known))}.")
        except yaml.YAMLError as error:
            raise ConfigError(f"{source} is not valid YAML: {error}") from error
        return cls(**{**values, "space": SearchSpace.from_mapping(values["space"])}).checked()

    def to_yaml(self) -> str:
        """Return it as YAML."""
        return yaml.safe_dump(
            {**asdict(self), "space": self.space.as_mapping()}, sort_keys=False, width=1000
        )

    @property
    def maximised(self) -> bool:
        """True where a higher figure is the better."""
        return self.objective != "val_loss"

    def better(self, one: float, other: float) -> bool:
        """Tell if one figure is better than another."""
        return one > other if self.maximised else one < other

    def epochs(self, config: RunConfig) -> int:
        """Return the most epochs that a trial may have."""
        for dimension in self.space.dimensions:
            if dimension.path == "optimise.epochs":
                return max(int(value) for value in dimension.values or ())
        return config.optimise.epochs

    def of(self, trials: int | None) -> "Search":
        """Return the same with another number of trials, checked; None leaves it.

        Raises:
            ConfigError: the number is not allowed.
        """
        return self if trials is None else replace(self, trials=trials).checked()

    def checked(self) -> "Search":
        """Return it, if it holds together.

        Raises:
            ConfigError: it does not; names the field and what is allowed.
        """
        words: Mapping[str, tuple[Any, ...]] = {
            "sampler": get_args(Sampler),
            "pruner": get_args(Pruner),
            "second": ("", *get_args(Cost)),
        }
        for field, allowed in words.items():
            if getattr(self, field) not in allowed:
                names = ", ".join(word or "nothing" for word in allowed)
                raise ConfigError(f"{field} cannot be {getattr(self, field)!r}. Allowed: {names}.")
        if self.objective not in get_args(Objective):
            raise ConfigError(
                f"objective cannot be {self.objective!r}. Allowed: "
                f"{', '.join(get_args(Objective))}. Nothing may be chosen by test films."
            )
        for field, most in _COUNTS.items():
            number = getattr(self, field)
            if not isinstance(number, int) or not 1 <= number <= most:
                raise ConfigError(f"{field} cannot be {number!r}. Allowed: 1 to {most}.")
        if self.second and self.pruner != "none":
            raise ConfigError(
                f"With a second objective ({self.second}) no trial can be pruned: which of two "
                "unfinished ones is worse cannot be told. Set pruner to none."
            )
        varied = [path for path in _OF_THE_LOSS if path in self.space.paths]
        if self.objective == "val_loss" and varied:
            raise ConfigError(
                f"The space varies {varied[0]}, and with it what the loss means: trials cannot be "
                "compared by val_loss. Take val_auroc as the objective."
            )
        return self
