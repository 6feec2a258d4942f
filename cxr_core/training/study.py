"""What to try next, and which trial to end early: Optuna, in a database of the sweep's own.

Alone in importing it. The run store is the truth about trials; where the database lacks one that is
done, or is gone, it is told again.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState

from cxr_core.config import Scalar
from cxr_core.training.search import Search
from cxr_core.training.search_space import Dimension
from cxr_core.training.trials import Outcome, Trial

_log = logging.getLogger(__name__)

# Trials drawn at random before the sampler learns from what there is, or the pruner ends any. Both
# are fewer than Optuna's own, which suit hundreds of trials.
_RANDOM_FIRST = 5
_WHOLE_FIRST = 4
_SPARED_EPOCHS = 2  # before which no trial is ended: the first figures are much luck
_ENOUGH = 4  # complete trials, below which nothing is said of importance
_NUMBER = "trial"  # attribute of Optuna's trial: the number of ours

Values = dict[str, Scalar]


class Asked:
    """Settings that were asked for and are being tried."""

    def __init__(self, trial: optuna.Trial, values: Values, *, reports: bool) -> None:
        self.values = values
        self.trial = trial
        self._reports = reports  # with two objectives Optuna takes none
        self._told = 0  # the last epoch that was reported

    def worse(self, course: Mapping[int, float]) -> bool:
        """Tell if a trial does so badly that it should end.

        Args:
            course: the objective by epoch, from 1.
        """
        if not self._reports:
            return False
        for epoch in sorted(course):
            if epoch > self._told:
                self.trial.report(course[epoch], epoch)
                self._told = epoch
        return self._told > 0 and self.trial.should_prune()


class Study:
    """A sweep as Optuna sees it.

    Args:
        file: the SQLite database; made where it is not there.
        name: the sweep's id.
        search: what is searched, and how.
        epochs: the most that a trial may have.
        seed: of the sampler.
    """

    def __init__(self, file: Path, name: str, search: Search, *, epochs: int, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._search = search
        self._distributions = {each.path: _distribution(each) for each in search.space.dimensions}
        low, high = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
        directions = [high if search.maximised else low, *([low] if search.second else [])]
        self._study = optuna.create_study(
            storage=f"sqlite:///{file}",
            study_name=name,
            directions=directions,
            pruner=_pruner(search, epochs),
            load_if_exists=True,
        )
        self._seed = seed
        self._asked_before = self._forget_open()

    def _forget_open(self) -> dict[int, Values]:
        """Close what an earlier process asked for and did not end; return it by number."""
        while self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.ask()
        found = {}
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if set(trial.params) == set(self._distributions) and _NUMBER in trial.user_attrs:
                found[trial.user_attrs[_NUMBER]] = dict(trial.params)
            self._study.tell(trial.number, state=TrialState.FAIL)
        return found

    def learn(self, trials: Iterable[Trial]) -> None:
        """Take over the trials that are done and not in the database."""
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        known = {
            trial.user_attrs.get(_NUMBER)
            for trial in self._study.get_trials(deepcopy=False, states=states)
        }
        for trial in trials:
            done = trial.outcome in (Outcome.COMPLETE, Outcome.PRUNED)
            if trial.number in known or not done or not self._search.space.holds(trial.values):
                continue
            figures = self._figures(trial)
            if trial.outcome is Outcome.COMPLETE and figures is None:
                continue
            complete = trial.outcome is Outcome.COMPLETE
            self._study.add_trial(
                optuna.create_trial(
                    state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                    values=figures if complete else None,
                    params=self._of_space(trial.values),
                    distributions=self._distributions,
                    user_attrs={_NUMBER: trial.number},
                    intermediate_values={} if self._search.second else dict(trial.course),
                )
            )

    def ask(self, number: int, fixed: Mapping[str, Scalar] | None = None) -> Asked:
        """Return settings for a trial of this number: these, or those that the sampler thinks best.

        What is drawn depends on the number and on what was told so far, not on whether the sweep
        was interrupted.
        """
        self._study.sampler = _sampler(self._search, self._seed + number)
        if fixed is not None:  # as it was drawn, to the last digit, where that is known
            drawn = self._asked_before.get(number, {})
            same = drawn and self._readable(drawn) == self._of_space(fixed)
            self._study.enqueue_trial(drawn if same else self._of_space(fixed))
        trial = self._study.ask(self._distributions)
        trial.set_user_attr(_NUMBER, number)
        return Asked(trial, self._readable(trial.params), reports=not self._search.second)

    def tell(self, asked: Asked, trial: Trial) -> None:
        """Note how a trial ended."""
        figures = self._figures(trial)
        if trial.outcome is Outcome.COMPLETE and figures is not None:
            asked.worse(trial.course)  # for those after it to be compared with
            self._study.tell(asked.trial, figures)
        elif trial.outcome is Outcome.PRUNED:
            self._study.tell(asked.trial, state=TrialState.PRUNED)
        else:
            self.drop(asked)

    def drop(self, asked: Asked) -> None:
        """Note that settings were not tried, or in vain."""
        self._study.tell(asked.trial, state=TrialState.FAIL)

    def importance(self) -> dict[str, float]:
        """Return how much of the differences between trials each setting explains, as shares of 1.

        fANOVA (Hutter, Hoos and Leyton-Brown 2014), the most important first. Nothing where there
        are too few trials, or all have the same figure.
        """
        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(done) < _ENOUGH or np.ptp([trial.values[0] for trial in done]) == 0:
            return {}
        try:
            found = optuna.importance.get_param_importances(
                self._study,
                evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
                params=list(self._distributions),
                target=lambda trial: trial.values[0],
            )
        except (RuntimeError, ValueError):  # a forest that sees no difference
            _log.info("The settings' importance cannot be told.", exc_info=True)
            return {}
        return {path: float(share) for path, share in found.items()}

    def _figures(self, trial: Trial) -> list[float] | None:
        """Return what Optuna is told of a trial, None where something is not known."""
        found = [trial.figures.get(self._search.objective)]
        if self._search.second:
            found.append(trial.cost(self._search.second))
        known = [float(value) for value in found if value is not None]
        return known if len(known) == len(found) else None

    def _readable(self, values: Mapping[str, Scalar]) -> Values:
        """Return values as people would write them."""
        return {
            each.path: each.readable(values[each.path]) for each in self._search.space.dimensions
        }

    def _of_space(self, values: Mapping[str, Scalar]) -> Values:
        """Return the varied settings among these values."""
        return {path: values[path] for path in self._distributions}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        step = int(dimension.step or 1)
        return IntDistribution(int(dimension.low), int(dimension.high), dimension.log, step)
    return FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)


def _sampler(search: Search, seed: int) -> optuna.samplers.BaseSampler:
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(n_startup_trials=_RANDOM_FIRST, seed=seed)


def _pruner(search: Search, epochs: int) -> optuna.pruners.BasePruner:
    if search.pruner == "median":
        return optuna.pruners.MedianPruner(
            n_startup_trials=_WHOLE_FIRST, n_warmup_steps=_SPARED_EPOCHS
        )
    if search.pruner == "hyperband":
        least = min(_SPARED_EPOCHS, epochs)
        return optuna.pruners.HyperbandPruner(min_resource=least, max_resource=epochs)
    return optuna.pruners.NopPruner()
