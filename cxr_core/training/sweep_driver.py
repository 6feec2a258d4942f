"""What the worker of a sweep does: asks what to try, starts trials, follows them, ends those that
do worse than others did, and has the best one tested.

All that it knows is in the run store and in the study's database, so another process goes on where
one was killed; trials are runs of their own and do not notice.
"""

import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cxr_core import workspace
from cxr_core.config import Scalar
from cxr_core.errors import CxrError, StoreAwayError, TrainingError
from cxr_core.evaluation import HEADLINES
from cxr_core.training import folds, jobs, trials
from cxr_core.training.study import Asked, Study
from cxr_core.training.tracking import (
    TAG_DATA,
    TAG_NESTED,
    TAG_NOTES,
    TAG_PARENT,
    TAG_PHASE,
    TAG_PRUNED,
    TAG_SYNTHETIC,
    TAG_TRIAL,
    TAG_UNTESTED,
    Request,
    RunRecord,
    RunStore,
    Status,
)
from cxr_core.training.trials import Outcome, Trial
from cxr_core.training.writer import RunCancelled, RunWriter, patiently

_log = logging.getLogger(__name__)

STUDY_FILE = "study.db"  # in the sweep's folder of the workspace

_POLL = 1.0  # seconds between two looks at the trials
_COUNTED = 10_000  # settings of a space, beyond which nobody counts what is left of it
_NAME = 60  # characters of a name that are kept where a trial's number is added


def drive(store: RunStore, run: RunWriter, launcher: jobs.Launcher | None = None) -> Status:
    """Make the trials of a sweep that it lacks, test the best, and return how the sweep ended.

    Args:
        store: where it and its trials are kept.
        run: the sweep's own entry.
        launcher: who starts the workers of the trials.

    Raises:
        TrainingError: no trial gave a figure, or the best one could not be tested.
        RunCancelled: somebody asked for it.
    """
    sweep = _Sweep(store, run, launcher)
    sweep.take_over()
    while True:
        request = sweep.pass_on_request()
        sweep.look()
        if request is None:
            sweep.begin()
        if not sweep.open:
            break
        time.sleep(_POLL)
    if sweep.pass_on_request() == "cancel":
        raise RunCancelled
    sweep.test_winner()
    return Status.FINISHED if sweep.whole else Status.STOPPED


@dataclass
class _Open:
    """A trial at work."""

    trial: Trial
    asked: Asked | None  # None where its settings are outside the space


class _Sweep:
    def __init__(self, store: RunStore, run: RunWriter, launcher: jobs.Launcher | None) -> None:
        self.open: dict[int, _Open] = {}
        self._store, self._run, self._launcher = store, run, launcher
        self._base = store.config(run.run_id)
        self._search = trials.search(run.run_id, store)
        self._space = self._search.space
        found = trials.summary(run.run_id, store)
        self._done = {each.number: each for each in found.trials if each.outcome != Outcome.OPEN}
        self._found = replace(found, untested="")
        self._default_begun = False  # by this process
        self._exhausted = False  # True where the whole space was tried
        self._study = Study(
            workspace.run_folder(run.run_id) / STUDY_FILE,
            run.run_id,
            self._search,
            epochs=self._search.epochs(self._base),
            seed=self._base.seed,
        )
        self._study.learn(self._done.values())

    @property
    def whole(self) -> bool:
        """True where all trials were made that there are to be."""
        return self._exhausted or self._counted >= self._search.trials

    @property
    def _counted(self) -> int:
        ended = [trial for trial in self._done.values() if trial.outcome != Outcome.CANCELLED]
        return len(ended) + len(self.open)

    # -- trials ---------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Follow the trials that an earlier process began and saw no end of."""
        children = trials.by_number(folds.children(self._run.run_id, self._store))
        for number, run in children.items():
            if number in self._done:
                continue
            run = jobs.bury_if_dead(run, self._store)
            values = self._space.of(self._store.config(run.run_id))
            if run.status is Status.FAILED and not jobs.why_not_resumed(run):
                try:
                    jobs.resume(run.run_id, store=self._store, launcher=self._launcher)
                except StoreAwayError:
                    raise
                except CxrError:
                    _log.exception("Trial %d cannot go on.", number)
            inside = self._space.holds(values)
            asked = self._study.ask(number, values) if inside else None
            self._follow(run, values, asked)
        self._keep()

    def begin(self) -> None:
        """Start as many trials as there may be at once and are still wanted."""
        while len(self.open) < self._search.at_once and not self.whole:
            number = max([0, *self._done, *self.open]) + 1
            default = self._space.of(self._base)
            if not self._default_begun and not self._has_default():
                inside = self._space.holds(default)
                asked = self._study.ask(number, default) if inside else None
                self._start(number, default, asked)
                continue
            asked = self._ask(number)
            if asked is None:
                self._exhausted = True
            else:
                self._start(number, asked.values, asked)

    def _has_default(self) -> bool:
        complete = [t for t in self._done.values() if t.outcome is Outcome.COMPLETE]
        return any(t.default for t in [*complete, *(each.trial for each in self.open.values())])

    def _ask(self, number: int) -> Asked | None:
        """Return settings that were not tried yet, None where there are none left."""
        tried = {
            _key(trial.values)
            for trial in [*self._done.values(), *(each.trial for each in self.open.values())]
            if trial.outcome is not Outcome.CANCELLED
        }
        asked = self._study.ask(number)
        size = self._space.size
        if _key(asked.values) not in tried or size is None or size > _COUNTED:
            return asked
        # The same settings would give the same figure: what is left is as good as any.
        self._study.drop(asked)
        left = [values for values in self._space.combinations() if _key(values) not in tried]
        if not left:
            return None
        random = np.random.default_rng(self._base.seed + number)
        return self._study.ask(number, left[random.integers(len(left))])

    def _start(self, number: int, values: Mapping[str, Scalar], asked: Asked | None) -> None:
        """Start a trial; one that is refused is recorded as failed, with the reason."""
        config = self._base.with_values(dict(values))
        self._default_begun |= config == self._base
        name = f"{jobs.run_name(self._base, self._run.recipe)[:_NAME]}, trial {number}"
        sweep_id = self._run.run_id
        tags = {
            TAG_PARENT: sweep_id,
            TAG_NESTED: sweep_id,
            TAG_TRIAL: str(number),
            TAG_UNTESTED: "true",
        }
        store = self._store
        start = partial(
            jobs.start,
            config,
            recipe=self._run.recipe,
            name=name,
            tags=tags,
            store=store,
            launcher=self._launcher,
        )
        try:
            run_id = patiently(
                start
            )  # where a first try left a run of this number, the last counts
        except StoreAwayError:
            raise
        except CxrError as error:
            begun = trials.by_number(folds.children(sweep_id, store)).get(number)
            run_id = begun.run_id if begun else store.create(config, name=name, tags=tags)
            store.set_status(run_id, Status.FAILED, str(error))
        self._follow(store.get(run_id), values, asked)
        self._keep()

    def _follow(self, run: RunRecord, values: Mapping[str, Scalar], asked: Asked | None) -> None:
        default = dict(values) == self._space.of(self._base)
        trial = Trial(run.trial, run.run_id, dict(values), default=default)
        self.open[run.trial] = _Open(trial, asked)

    def look(self) -> None:
        """See how the trials stand: note those that have ended, end those that do worse."""
        for number, each in list(self.open.items()):
            try:
                run = patiently(partial(self._read, each.trial.run_id))
            except StoreAwayError:
                raise
            except TrainingError:  # somebody deleted it
                self._close(number, replace(each.trial, outcome=Outcome.CANCELLED))
                continue
            trial = patiently(partial(self._measure, run, each.trial))
            each.trial = trial
            if trial.outcome is not Outcome.OPEN:
                known = {tag: run.tags[tag] for tag in (TAG_DATA, TAG_SYNTHETIC) if tag in run.tags}
                self._run.tags(known)  # the films as the worker found them
                self._close(number, trial)
            elif (
                each.asked is not None
                and each.asked.worse(trial.course)
                and not trial.default  # what the others are compared with
                and run.request is None
            ):
                _log.info("Trial %d does worse than others after epoch %d.", number, trial.epochs)
                tags = {TAG_PRUNED: str(trial.epochs)}
                patiently(partial(self._store.set_tags, run.run_id, tags))
                patiently(partial(self._store.request, run.run_id, "stop"))

    def _read(self, run_id: str) -> RunRecord:
        return jobs.bury_if_dead(self._store.get(run_id), self._store)

    def _measure(self, run: RunRecord, trial: Trial) -> Trial:
        objective = self._search.objective
        return trials.read(run, trial.values, objective, self._store, default=trial.default)

    def _close(self, number: int, trial: Trial) -> None:
        """Note how a trial ended: first in the run store, which is the truth about it."""
        before = self._found.winner(self._search)
        each = self.open.pop(number)
        self._done[number] = trial
        self._keep()
        if each.asked is not None:
            self._study.tell(each.asked, trial)
        winner = self._found.winner(self._search)
        test = self._found.test if winner == before else None
        self._found = replace(self._found, importance=self._study.importance(), test=test)
        self._keep()
        for other in (before, trial):  # their weights are needed no more
            if other is not None and other != winner:
                with suppress(TrainingError):  # somebody deleted it
                    jobs.drop_checkpoint(self._read(other.run_id), self._store)
        area = trial.figures.get("val_auroc")
        if trial.outcome is Outcome.COMPLETE and area is not None:
            figures = {"val_auroc": area}
            patiently(lambda: self._store.log_metrics(self._run.run_id, figures, step=number))

    # -- the sweep ------------------------------------------------------------------------------

    def pass_on_request(self) -> Request | None:
        """Return what was asked of the sweep, after asking it of the trials at work."""
        request = patiently(lambda: self._store.get(self._run.run_id)).request
        if request is not None:
            for each in self.open.values():
                self._ask_of(each.trial.run_id, request)
        return request

    def _ask_of(self, run_id: str, request: Request) -> None:
        run = patiently(lambda: self._store.get(run_id))
        if run.status.active and run.request != request:
            patiently(lambda: self._store.request(run_id, request))

    def _keep(self) -> None:
        """Write down how the sweep stands."""
        now = {**self._done, **{number: each.trial for number, each in self.open.items()}}
        self._found = replace(self._found, trials=tuple(now[number] for number in sorted(now)))
        text = self._found.to_json()
        patiently(lambda: self._store.write_text(self._run.run_id, trials.SUMMARY_FILE, text))
        done = self._counted - len(self.open)
        self._run.tags(
            {TAG_PHASE: f"trying settings ({done} of {self._search.trials} trials done)"}
        )

    def test_winner(self) -> None:
        """Have the best trial tested, which alone is.

        Raises:
            TrainingError: there is none, or it could not be tested.
            RunCancelled: somebody asked for it.
        """
        if self._exhausted:
            self._run.note(f"All {self._space.size:,} settings of the space were tried.")
        winner = self._found.winner(self._search)
        if winner is None:
            failed = self._found.with_outcome(Outcome.FAILED)
            if not failed:  # it was to stop before there was anything to keep
                raise RunCancelled
            raise TrainingError(
                f"None of {len(self._found.trials)} trials gave a figure. Trial "
                f"{failed[0].number}: {failed[0].reason}"
            )
        self._run.tags({TAG_PHASE: f"testing the best, trial {winner.number}"})
        try:
            run = self._tested(winner)
            test = self._test_of(run)
        except StoreAwayError:
            raise
        except CxrError as error:
            self._found = replace(self._found, untested=str(error))
            self._keep()
            raise TrainingError(
                f"The best trial, {winner.number}, could not be tested: {error} Resume the sweep "
                "to try that again."
            ) from error
        self._found = replace(self._found, test=test)
        self._keep()
        figures = {f"test_{name}": test[name] for name in HEADLINES if test.get(name) is not None}
        patiently(lambda: self._store.log_metrics(self._run.run_id, figures))

    def _tested(self, winner: Trial) -> RunRecord:
        """Let the winner's run go on to its test, from the weights it kept, and wait for its end.

        Where they are gone it trains again, which on a CPU gives the same ones.
        """
        run = self._read(winner.run_id)
        if run.untested or not (run.status.active or run.has_model):
            words = trials.OBJECTIVE_WORDS[self._search.objective]
            counted = len(self._found.with_outcome(Outcome.COMPLETE, Outcome.PRUNED))
            note = (
                f"Its settings were chosen among {counted} trials of a sweep, by {words}: its "
                "validation figures are optimistic."
            )
            notes = [*run.tags.get(TAG_NOTES, "").splitlines(), note]
            about = {TAG_UNTESTED: "", TAG_NOTES: "\n".join(dict.fromkeys(notes))}
            # In this order: killed in between, it is not taken for one that has a model.
            patiently(partial(self._store.queue_again, run.run_id))
            patiently(partial(self._store.set_tags, run.run_id, about))
            jobs.launch(run.run_id, self._store, self._launcher)
        while True:
            run = patiently(lambda: self._read(winner.run_id))
            if not run.status.active:
                break
            if patiently(lambda: self._store.get(self._run.run_id)).request == "cancel":
                self._ask_of(winner.run_id, "cancel")
            time.sleep(_POLL)
        if patiently(lambda: self._store.get(self._run.run_id)).request == "cancel":
            raise RunCancelled
        if not run.has_model:
            raise TrainingError(run.reason or f"Its run is {run.status}.")
        return run

    def _test_of(self, run: RunRecord) -> dict[str, Any]:
        path = self._store.path(run.run_id, "evaluation.json")
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["test"]
        except (OSError, ValueError, KeyError) as error:
            raise TrainingError(f"Its file evaluation.json is damaged: {error}.") from error
        return found


def _key(values: Mapping[str, Scalar]) -> tuple[str, ...]:
    """Return what two trials share only if they tried the same."""
    return tuple(
        f"{value:.9g}" if isinstance(value, float) else str(value)
        for _, value in sorted(values.items())
    )
