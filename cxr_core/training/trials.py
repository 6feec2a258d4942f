"""A sweep in the run store: its trials, and what they say together.

The process that drives a sweep writes its summary after every trial; whoever watches reads it here.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from cxr_core.config import Scalar
from cxr_core.errors import StoreAwayError, TrainingError
from cxr_core.training.search import Cost, Search
from cxr_core.training.tracking import TAG_PRUNED, RunRecord, RunStore, Status

SEARCH_FILE = "sweep.yaml"
SUMMARY_FILE = "sweep.json"

_FIGURES = ("val_auroc", "val_accuracy", "val_loss")
OBJECTIVE_WORDS = {
    "val_auroc": "validation AUROC",
    "val_accuracy": "validation accuracy",
    "val_loss": "validation loss",
}


class Outcome(StrEnum):
    """What became of a trial."""

    OPEN = "open"  # it waits, or trains
    COMPLETE = "complete"  # trained to its end, or ended early by a person
    PRUNED = "pruned"  # ended early by the sweep, as others did better
    FAILED = "failed"
    CANCELLED = "cancelled"  # by a person; does not count


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep, as it stood when it was read."""

    number: int  # from 1
    run_id: str
    values: Mapping[str, Scalar]  # what was tried, by the settings' paths
    outcome: Outcome = Outcome.OPEN
    default: bool = False  # True where the settings are those the sweep began from
    # At the epoch whose weights are kept: val_auroc, val_accuracy, val_loss; without those that are
    # no number.
    figures: Mapping[str, float] = field(default_factory=dict)
    course: Mapping[int, float] = field(default_factory=dict)  # epoch -> the objective then
    epoch: int = 0  # whose weights are kept, from 1; 0 before the first
    seconds: float = 0.0  # of training and validating, in all
    parameters: int | None = None  # numbers in the network
    reason: str = ""  # why it failed

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max(self.course, default=0)

    def cost(self, of: Cost) -> float | None:
        """Return what it cost, None where that is not known."""
        if of == "parameters":
            return self.parameters
        if of == "seconds":
            return self.seconds or None
        return self.seconds / self.epochs if self.seconds and self.epochs else None


@dataclass(frozen=True)
class Summary:
    """What the trials of a sweep say together, as far as they are."""

    trials: tuple[Trial, ...] = ()  # by number
    importance: Mapping[str, float] = field(default_factory=dict)  # shares of 1, by path
    # The winner's test: auc, ci95, n and more, as `metrics.summarise` gives it.
    test: Mapping[str, Any] | None = None
    untested: str = ""  # why the winner could not be tested

    def with_outcome(self, *outcomes: Outcome) -> list[Trial]:
        """Return the trials that ended so."""
        return [trial for trial in self.trials if trial.outcome in outcomes]

    @property
    def default(self) -> Trial | None:
        """The trial of the settings that the sweep began from, one with figures where there is."""
        tried = [trial for trial in self.trials if trial.default]
        complete = [trial for trial in tried if trial.outcome is Outcome.COMPLETE]
        return next(iter(complete or tried[::-1]), None)

    def winner(self, search: Search) -> Trial | None:
        """Return the best of the complete trials by the objective, the first of equals."""
        best: Trial | None = None
        for trial in self.with_outcome(Outcome.COMPLETE):
            value = trial.figures[search.objective]
            if best is None or search.better(value, best.figures[search.objective]):
                best = trial
        return best

    def beats_default(self, search: Search) -> bool | None:
        """Tell if the winner does better than the default settings, None where nobody knows."""
        winner, default = self.winner(search), self.default
        if winner is None or default is None or default.outcome is not Outcome.COMPLETE:
            return None
        return not winner.default

    def to_json(self) -> str:
        """Return it as JSON text."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Summary":
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is no such text.
        """
        values = json.loads(text)
        known = {each.name for each in fields(Trial)}
        trials = []
        for entry in values["trials"]:
            found = {name: value for name, value in entry.items() if name in known}
            found["outcome"] = Outcome(found["outcome"])
            found["course"] = {int(epoch): value for epoch, value in found["course"].items()}
            trials.append(Trial(**found))
        return cls(tuple(trials), values["importance"], values["test"], values["untested"])


def search(sweep_id: str, store: RunStore) -> Search:
    """Return what a sweep is to do.

    Raises:
        TrainingError: that is gone.
        ConfigError: it is damaged.
    """
    text = store.path(sweep_id, SEARCH_FILE).read_text(encoding="utf-8")
    return Search.from_yaml(text, f"The file '{SEARCH_FILE}' of sweep {sweep_id}")


def summary(sweep_id: str, store: RunStore) -> Summary:
    """Return what the trials of a sweep said so far.

    Raises:
        TrainingError: its file is damaged.
    """
    try:
        path = store.path(sweep_id, SUMMARY_FILE)
    except TrainingError:  # not written yet
        return Summary()
    try:
        return Summary.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise TrainingError(
            f"The file '{SUMMARY_FILE}' of sweep {sweep_id} is damaged: {error}. Resume the sweep "
            "with more trials, which writes it again, or repeat it."
        ) from error


def validation_films(found: Summary, search: Search, store: RunStore) -> int | None:
    """Return how many films the trials of a sweep are judged by, None where that is not known."""
    winner = found.winner(search)
    try:
        told = store.get(winner.run_id).params.get("val_films") if winner else None
    except StoreAwayError:
        raise
    except TrainingError:  # somebody deleted its run
        return None
    return int(told) if told else None


def by_number(children: Iterable[RunRecord]) -> dict[int, RunRecord]:
    """Return the run of each trial by its number; of several of one number the newest."""
    ranked = sorted(children, key=lambda run: (run.created, run.queued_at))
    found = {run.trial: run for run in ranked if run.trial}
    return dict(sorted(found.items()))


def read(
    run: RunRecord, values: Mapping[str, Scalar], objective: str, store: RunStore, *, default: bool
) -> Trial:
    """Return a trial as its run stands.

    Args:
        run: its run.
        values: what is tried in it.
        objective: the figure that the sweep goes by.
        store: where the run is kept.
        default: whether the settings are those the sweep began from.
    """
    table = store.curves(run.run_id, [*_FIGURES, "best_epoch", "epoch_seconds"])
    lines = {
        str(metric): dict(zip(rows["step"].astype(int), rows["value"].astype(float), strict=True))
        for metric, rows in table.groupby("metric")
    }
    kept = lines.get("best_epoch", {})
    epoch = int(kept[max(kept)]) if kept else 0
    figures = {
        name: lines[name][epoch]
        for name in _FIGURES
        if epoch in lines.get(name, {}) and math.isfinite(lines[name][epoch])
    }
    outcome = _outcome(run)
    reason = run.reason
    if outcome is Outcome.COMPLETE and objective not in figures:
        outcome = Outcome.FAILED
        reason = f"It ended without a figure of {OBJECTIVE_WORDS[objective]} that is a number."
    return Trial(
        number=run.trial,
        run_id=run.run_id,
        values=dict(values),
        outcome=outcome,
        default=default,
        figures=figures,
        course={
            step: value for step, value in lines.get(objective, {}).items() if math.isfinite(value)
        },
        epoch=epoch,
        seconds=sum(lines.get("epoch_seconds", {}).values()),
        parameters=int(run.params["parameters"]) if "parameters" in run.params else None,
        reason=reason,
    )


def _outcome(run: RunRecord) -> Outcome:
    if run.status.active:
        return Outcome.OPEN
    if run.status is Status.STOPPED and run.tags.get(TAG_PRUNED):
        return Outcome.PRUNED
    if run.status.has_model:
        return Outcome.COMPLETE
    return Outcome.CANCELLED if run.status is Status.CANCELLED else Outcome.FAILED


def front(trials: Sequence[Trial], search: Search, cost: Cost) -> list[Trial]:
    """Return the complete trials that no other beats in both figure and cost, the cheapest first.

    Args:
        trials: any of a sweep.
        search: what it is to do, with its objective.
        cost: what is to be low.
    """
    priced = [
        (price, trial)
        for trial in trials
        if trial.outcome is Outcome.COMPLETE and (price := trial.cost(cost)) is not None
    ]
    sign = -1 if search.maximised else 1
    priced.sort(key=lambda pair: (pair[0], sign * pair[1].figures[search.objective]))
    found: list[Trial] = []
    for _, trial in priced:
        value = trial.figures[search.objective]
        if not found or search.better(value, found[-1].figures[search.objective]):
            found.append(trial)
    return found


def conclusion(found: Summary, search: Search, films: int | None = None) -> str:
    """Say in sentences what a sweep came to, and what that is worth.

    Args:
        found: what its trials said.
        search: what it was to do.
        films: how many films validated, None where that is not known.

    Returns:
        "" where no trial is complete.
    """
    winner = found.winner(search)
    if winner is None:
        return ""
    words = OBJECTIVE_WORDS[search.objective]
    value = _figure(winner, search.objective)
    default = found.default
    if default is None or default.outcome is not Outcome.COMPLETE:
        why = f": {default.reason}" if default is not None and default.reason else "."
        said = (
            f"Trial {winner.number} has the best {words}, {value}. The default settings gave no "
            f"figure to compare with{why}"
        )
    elif winner.default:
        others = [t for t in found.with_outcome(Outcome.COMPLETE) if not t.default]
        next_best = Summary(tuple(others)).winner(search)
        rest = (
            f"; the best of the others is {_figure(next_best, search.objective)} (trial "
            f"{next_best.number})."
            if next_best
            else "."
        )
        said = (
            f"No trial beats the default settings, which have a {words} of {value} (trial "
            f"{winner.number}){rest}"
        )
    else:
        said = (
            f"Trial {winner.number} beats the default settings: a {words} of {value} against "
            f"{_figure(default, search.objective)} (trial {default.number})."
        )
        if search.objective != "val_auroc" and "val_auroc" in winner.figures:
            areas = [_figure(trial, "val_auroc") for trial in (winner, default)]
            said += f" Their validation AUROCs are {areas[0]} and {areas[1]}."
    counted = len(found.with_outcome(Outcome.COMPLETE, Outcome.PRUNED))
    of = f"{films:,} validation films" if films else "validation films"
    said += (
        f" It was chosen among {counted} trials by these {of}, so its figure there is optimistic."
    )
    return f"{said} {_of_test(found)}".strip()


def _figure(trial: Trial, name: str) -> str:
    value = trial.figures.get(name)
    return "–" if value is None else f"{value:.4f}"


def _of_test(found: Summary) -> str:
    """Say what the winner's test says, which bore on no choice."""
    if found.untested:
        return f"It could not be tested: {found.untested}"
    test = found.test
    if test is None or test.get("auc") is None:
        return ""
    bounds = (test.get("ci95") or {}).get("auc")
    interval = f" (95 % interval {bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""
    return (
        f"On the {test['n']:,} test films, by which nothing was chosen, its AUROC is "
        f"{test['auc']:.3f}{interval}."
    )
