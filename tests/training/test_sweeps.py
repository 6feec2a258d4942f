"""A sweep: what is tried, in what order, what becomes of a trial, and what all say together."""

import pytest
from fake_trials import SPACE, TEST, Killed, Trainer, drive, enter, numbers

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.diagnosis import bundle
from cxr_core.errors import BundleError, ConfigError, TrainingError
from cxr_core.training import bundle_index, folds, jobs, sweep_driver, sweeps, trials, worker
from cxr_core.training.search import Search
from cxr_core.training.search_space import SearchSpace
from cxr_core.training.study import Asked
from cxr_core.training.tracking import TAG_NOTES, Kind, RunStore, Status
from cxr_core.training.trials import Outcome


def by_trial(number: int, config: RunConfig) -> list[float]:
    """Each trial a little better than the one before."""
    return [0.5, 0.6, 0.7 + number / 100]


def flat(number: int, config: RunConfig) -> list[float]:
    return [0.8, 0.8, 0.8]


def read(sweep: str, store: RunStore) -> trials.Summary:
    return trials.summary(sweep, store)


def outcomes(sweep: str, store: RunStore) -> list[str]:
    return [str(trial.outcome) for trial in read(sweep, store).trials]


# -- what is tried --------------------------------------------------------------------------------


def test_the_settings_as_they_are_come_first_and_each_trial_is_a_run_of_its_own(store, monkeypatch):
    sweep = enter(store, 4)
    trainer = Trainer(store, by_trial)
    assert drive(sweep, store, trainer, monkeypatch) is Status.FINISHED
    runs = trials.by_number(folds.children(sweep, store))
    assert list(runs) == [1, 2, 3, 4]
    assert trainer.most_at_work == 1  # one after another
    assert store.config(runs[1].run_id) == store.config(sweep)
    assert runs[2].name == "quick, trial 2"
    for number, run in runs.items():
        rate = store.config(run.run_id).optimise.learning_rate
        assert 1e-4 <= rate <= 1e-2
        assert run.parent == sweep
        assert run.has_model is (number == 4)
    found = read(sweep, store)
    assert [trial.default for trial in found.trials] == [True, False, False, False]
    assert found.trials[1].values["optimise.learning_rate"] == pytest.approx(
        store.config(runs[2].run_id).optimise.learning_rate
    )


def test_the_best_alone_is_tested_and_its_model_says_that_it_was_chosen(store, monkeypatch):
    sweep = enter(store, 4)
    trainer = Trainer(store, by_trial)
    drive(sweep, store, trainer, monkeypatch)
    best = trials.by_number(folds.children(sweep, store))[4]
    assert trainer.tested == [best.run_id]
    assert "chosen among 4 trials of a sweep" in best.tags[TAG_NOTES]
    assert read(sweep, store).test == TEST
    assert store.get(sweep).metrics["test_auc"] == TEST["auc"]
    said = trials.conclusion(read(sweep, store), trials.search(sweep, store), films=45)
    assert said == (
        "Trial 4 beats the default settings: a validation AUROC of 0.7400 against 0.7100 (trial "
        "1). It was chosen among 4 trials by these 45 validation films, so its figure there is "
        "optimistic. On the 90 test films, by which nothing was chosen, its AUROC is 0.875 (95 % "
        "interval 0.800 to 0.930)."
    )


def test_of_equals_the_default_settings_are_the_best_and_that_is_said(store, monkeypatch):
    sweep = enter(store, 3)
    drive(sweep, store, Trainer(store, flat), monkeypatch)
    said = trials.conclusion(read(sweep, store), trials.search(sweep, store))
    assert said.startswith(
        "No trial beats the default settings, which have a validation AUROC of 0.8000 (trial 1); "
        "the best of the others is 0.8000 (trial 2)."
    )


def test_default_settings_outside_the_space_are_tried_all_the_same(store, monkeypatch):
    space = SearchSpace.from_mapping({"optimise.learning_rate": {"low": 0.01, "high": 0.1}})
    sweep = enter(store, 3, space)
    drive(sweep, store, Trainer(store, by_trial), monkeypatch)
    found = read(sweep, store)
    rates = [trial.values["optimise.learning_rate"] for trial in found.trials]
    assert rates[0] == RunConfig().optimise.learning_rate < 0.01
    assert all(rate >= 0.01 for rate in rates[1:])
    assert found.default.number == 1


def test_no_settings_are_tried_twice_and_a_space_that_is_used_up_ends_the_sweep(store, monkeypatch):
    space = SearchSpace.from_mapping(
        {"optimise.optimizer": ["adam", "sgd"], "optimise.batch_size": [16, 32]}
    )
    sweep = enter(store, 10, space)
    assert drive(sweep, store, Trainer(store, flat), monkeypatch) is Status.FINISHED
    tried = [tuple(trial.values.values()) for trial in read(sweep, store).trials]
    assert sorted(tried) == [("adam", 16), ("adam", 32), ("sgd", 16), ("sgd", 32)]
    assert "All 4 settings of the space were tried." in store.get(sweep).tags[TAG_NOTES]


def test_as_many_trials_train_at_once_as_a_launcher_is_to_get(store, monkeypatch):
    sweep = enter(store, 5, at_once=3)
    trainer = Trainer(store, by_trial)
    assert drive(sweep, store, trainer, monkeypatch) is Status.FINISHED
    assert trainer.most_at_work == 3
    assert numbers(store, sweep) == [1, 2, 3, 4, 5]


# -- what becomes of a trial ----------------------------------------------------------------------


def test_a_failed_trial_has_its_reason_and_the_sweep_goes_on(store, monkeypatch):
    sweep = enter(store, 4)

    def course(number, config):
        return [0.6] if number == 2 else by_trial(number, config)

    assert drive(sweep, store, Trainer(store, course), monkeypatch) is Status.FINISHED
    assert outcomes(sweep, store) == ["complete", "failed", "complete", "complete"]
    assert read(sweep, store).trials[1].reason == "The loss was no longer a number."


def test_settings_that_a_check_refuses_are_a_failed_trial(store, monkeypatch):
    space = SearchSpace.from_mapping({"optimise.warmup_epochs": [0, 5]})
    sweep = enter(store, 2, space)  # as long as the warm-up is, of three epochs
    store.write_text(
        sweep,
        "config.yaml",
        store.config(sweep).with_values({"optimise.schedule": "cosine"}).to_yaml(),
    )
    assert drive(sweep, store, Trainer(store, flat), monkeypatch) is Status.FINISHED
    second = read(sweep, store).trials[1]
    assert second.outcome is Outcome.FAILED
    assert "The warm-up never ends" in second.reason
    assert store.get(second.run_id).status is Status.FAILED


def test_a_sweep_without_a_figure_fails_with_the_first_reason(store, monkeypatch):
    sweep = enter(store, 2)
    with pytest.raises(TrainingError, match=r"None of 2 trials gave a figure. Trial 1: The loss"):
        drive(sweep, store, Trainer(store, lambda *_: []), monkeypatch)


def test_a_trial_that_does_worse_than_others_ends_early_and_cannot_win(store, monkeypatch):
    sweep = enter(store, 5, pruner="median")

    def course(number, config):
        return [0.5, 0.5, 0.9] if number == 5 else [0.6, 0.7, 0.8]

    assert drive(sweep, store, Trainer(store, course), monkeypatch) is Status.FINISHED
    found = read(sweep, store)
    (pruned,) = found.with_outcome(Outcome.PRUNED)
    run = store.get(pruned.run_id)
    assert (pruned.number, run.status, run.tags["cxr.pruned"]) == (5, Status.STOPPED, "2")
    assert found.winner(trials.search(sweep, store)).number == 1


def test_the_default_settings_are_never_ended_early(store, monkeypatch):
    sweep = enter(store, 2)
    monkeypatch.setattr(Asked, "worse", lambda asked, course: len(course) > 1)
    drive(sweep, store, Trainer(store, by_trial), monkeypatch)
    assert outcomes(sweep, store) == ["complete", "pruned"]


def test_a_trial_that_a_person_cancels_does_not_count(store, monkeypatch):
    sweep = enter(store, 3)
    trainer = Trainer(store, by_trial)

    def cancel_the_second():
        for run in folds.children(sweep, store):
            if run.trial == 2 and run.status.active:
                jobs.cancel(run.run_id, store)

    trainer.before_tick = cancel_the_second
    assert drive(sweep, store, trainer, monkeypatch) is Status.FINISHED
    assert outcomes(sweep, store) == ["complete", "cancelled", "complete", "complete"]


def test_one_that_a_person_stops_counts_with_what_it_came_to(store, monkeypatch):
    sweep = enter(store, 2)
    trainer = Trainer(store, by_trial)
    trainer.before_tick = lambda: [
        jobs.stop_early(run.run_id, store)
        for run in folds.children(sweep, store)
        if run.trial == 2 and run.status.active
    ]
    drive(sweep, store, trainer, monkeypatch)
    second = read(sweep, store).trials[1]
    assert (second.outcome, second.epochs, second.figures["val_auroc"]) == ("complete", 1, 0.5)


# -- stopped and gone on with ---------------------------------------------------------------------


def test_a_killed_sweep_goes_on_where_it_was_with_the_trial_that_was_at_work(store, monkeypatch):
    sweep = enter(store, 6)
    trainer = Trainer(store, by_trial)

    def kill_in_the_third():
        if len(trainer.started) == 3 and 2 in trainer.at_work.values():
            raise Killed

    trainer.before_tick = kill_in_the_third
    assert drive(sweep, store, trainer, monkeypatch) is Status.FAILED
    assert outcomes(sweep, store) == ["complete", "complete", "open"]
    before = read(sweep, store).trials

    trainer.before_tick = lambda: None
    asked: list[str] = []
    sweeps.resume(sweep, store=store, launcher=Asks(asked))
    assert asked == [sweep]
    assert drive(sweep, store, trainer, monkeypatch) is Status.FINISHED
    after = read(sweep, store).trials
    assert [trial.run_id for trial in after[:3]] == [trial.run_id for trial in before]
    assert len(trainer.started) == 7  # six trials and the test of the best
    undisturbed = enter(store, 6)
    drive(undisturbed, store, Trainer(store, by_trial), monkeypatch)
    tried = [trial.values for trial in read(undisturbed, store).trials]
    assert [trial.values for trial in after] == tried
    assert len({tuple(values.values()) for values in tried}) == 6
    study = sweep_driver.Study(
        workspace.run_folder(sweep) / sweep_driver.STUDY_FILE,
        sweep,
        trials.search(sweep, store),
        epochs=3,
        seed=0,
    )
    told = [trial for trial in study._study.trials if trial.state.name == "COMPLETE"]
    assert sorted(trial.user_attrs["trial"] for trial in told) == [1, 2, 3, 4, 5, 6]


def test_a_sweep_killed_while_the_best_is_tested_waits_for_that_test(store, monkeypatch):
    sweep = enter(store, 2)
    trainer = Trainer(store, by_trial)

    def kill_at_the_test():
        if any(not store.get(run_id).untested for run_id in trainer.at_work):
            raise Killed

    trainer.before_tick = kill_at_the_test
    assert drive(sweep, store, trainer, monkeypatch) is Status.FAILED
    trainer.before_tick = lambda: None
    sweeps.resume(sweep, store=store, launcher=Asks([]))
    assert drive(sweep, store, trainer, monkeypatch) is Status.FINISHED
    assert len(trainer.started) == 3
    assert read(sweep, store).test == TEST


def test_a_best_trial_that_cannot_be_tested_is_named_and_tried_again(store, monkeypatch):
    sweep = enter(store, 2)
    trainer = Trainer(store, by_trial)
    trainer.fault = "The disk is full."
    with pytest.raises(TrainingError, match=r"The best trial, 2, could not be tested: The disk"):
        drive(sweep, store, trainer, monkeypatch)
    said = trials.conclusion(read(sweep, store), trials.search(sweep, store))
    assert said.endswith("It could not be tested: The disk is full.")
    store.set_status(sweep, Status.FAILED)
    trainer.fault = ""
    sweeps.resume(sweep, store=store, launcher=Asks([]))
    assert drive(sweep, store, trainer, monkeypatch) is Status.FINISHED
    assert outcomes(sweep, store) == ["complete", "complete"]
    assert len(trainer.started) == 4


class Asks:
    """A launcher that starts nothing and remembers."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked

    def start(self, run_id: str) -> None:
        self.asked.append(run_id)


def test_a_sweep_whose_database_is_lost_learns_from_the_run_store(store, monkeypatch):
    sweep = enter(store, 2)
    drive(sweep, store, Trainer(store, by_trial), monkeypatch)
    file = workspace.run_folder(sweep) / sweep_driver.STUDY_FILE
    file.unlink()
    sweeps.resume(sweep, 4, store=store, launcher=Asks([]))
    drive(sweep, store, Trainer(store, by_trial), monkeypatch)
    study = sweep_driver.Study(file, sweep, trials.search(sweep, store), epochs=3, seed=0)
    states = [trial.state.name for trial in study._study.trials]
    assert states.count("COMPLETE") == 4
    assert dict(study._study.trials[0].intermediate_values) == {1: 0.5, 2: 0.6, 3: 0.71}


def test_a_sweep_that_is_stopped_tests_the_best_so_far_and_may_go_on(store, monkeypatch):
    sweep = enter(store, 8)
    trainer = Trainer(store, by_trial)
    trainer.before_tick = lambda: (
        jobs.stop_early(sweep, store) if len(trainer.started) == 3 else None
    )
    assert drive(sweep, store, trainer, monkeypatch) is Status.STOPPED
    assert outcomes(sweep, store) == ["complete"] * 3
    best = read(sweep, store).winner(trials.search(sweep, store))
    assert trainer.tested == [best.run_id]
    trainer.before_tick = lambda: None
    sweeps.resume(sweep, 5, store=store, launcher=Asks([]))
    assert drive(sweep, store, trainer, monkeypatch) is Status.FINISHED
    assert len(read(sweep, store).trials) == 5
    assert trainer.tested[1:] == [read(sweep, store).trials[4].run_id]


def test_a_sweep_that_is_cancelled_ends_its_trial_and_keeps_the_figures(store, monkeypatch):
    sweep = enter(store, 5)
    trainer = Trainer(store, by_trial)
    trainer.before_tick = lambda: jobs.cancel(sweep, store) if len(trainer.started) == 2 else None
    assert drive(sweep, store, trainer, monkeypatch) is Status.CANCELLED
    assert outcomes(sweep, store) == ["complete", "cancelled"]
    assert trainer.tested == []


def test_a_sweep_stopped_before_there_is_anything_to_keep_is_cancelled(store, monkeypatch):
    sweep = enter(store, 5)
    jobs.stop_early(sweep, store)
    assert drive(sweep, store, Trainer(store, by_trial), monkeypatch) is Status.CANCELLED


def test_what_lacks_nothing_is_not_gone_on_with(store, monkeypatch):
    sweep = enter(store, 2)
    with pytest.raises(TrainingError, match="is queued: there is nothing to resume"):
        sweeps.resume(sweep, 9, store=store, launcher=Asks([]))
    drive(sweep, store, Trainer(store, by_trial), monkeypatch)
    with pytest.raises(TrainingError, match=r"has all its trials. Ask for more"):
        sweeps.resume(sweep, store=store, launcher=Asks([]))
    with pytest.raises(ConfigError, match=r"trials cannot be 5000. Allowed: 1 to 1000"):
        sweeps.resume(sweep, 5000, store=store, launcher=Asks([]))
    other = store.create(RunConfig(), name="other")
    with pytest.raises(TrainingError, match="is no sweep"):
        sweeps.resume(other, store=store, launcher=Asks([]))


def test_films_that_changed_are_not_mixed_with_those_before(store, phantoms, monkeypatch):
    config = RunConfig().with_values({"data.root": str(phantoms), "optimise.epochs": 3})
    search = Search(SPACE, trials=2, pruner="none")
    sweep = sweeps.start(config, search, store=store, launcher=Asks([]))
    drive(sweep, store, Trainer(store, by_trial), monkeypatch)
    first = trials.by_number(folds.children(sweep, store))[1]
    store.log_params(first.run_id, {"data_fingerprint": "others"})
    with pytest.raises(TrainingError, match="changed since trial 1"):
        sweeps.resume(sweep, 3, store=store, launcher=Asks([]))


# -- as an entry among runs -----------------------------------------------------------------------


def test_it_is_no_training_and_its_trials_leave_with_it(store, monkeypatch):
    sweep = enter(store, 3)
    drive(sweep, store, Trainer(store, by_trial), monkeypatch)
    record = store.get(sweep)
    assert (record.kind, record.has_model) == (Kind.SWEEP, False)
    with pytest.raises(TrainingError, match="is a sweep, which is no training"):
        jobs.repeat(sweep, store=store, launcher=Asks([]))
    with pytest.raises(TrainingError, match="has all its trials"):
        jobs.resume(sweep, store=store, launcher=Asks([]))
    with pytest.raises(BundleError, match="is a sweep and has no model of its own"):
        bundle_index.resolve(sweep, store)
    first = trials.by_number(folds.children(sweep, store))[1]
    with pytest.raises(BundleError, match="is a trial of a sweep and has no model"):
        bundle_index.resolve(first.run_id, store)
    with pytest.raises(TrainingError, match="judged on validation films alone"):
        jobs.resume(first.run_id, store=store, launcher=Asks([]))
    alone = jobs.repeat(first.run_id, store=store, launcher=Asks([]))
    assert (store.get(alone).parent, store.get(alone).trial) == ("", 0)
    jobs.delete(sweep, store)
    assert [run.run_id for run in store.list()] == [alone]


def test_a_summary_that_is_damaged_is_a_sentence(store):
    sweep = enter(store, 2)
    assert read(sweep, store) == trials.Summary()
    store.write_text(sweep, trials.SUMMARY_FILE, "half a")
    with pytest.raises(TrainingError, match=r"'sweep.json' of sweep .* is damaged"):
        read(sweep, store)


def test_a_faulty_search_or_configuration_starts_nothing(store):
    config = RunConfig()
    with pytest.raises(ConfigError, match=r"sampler cannot be 'grid'. Allowed: tpe, random"):
        sweeps.start(config, Search(SPACE, sampler="grid"), store=store)  # type: ignore[arg-type]
    away = config.with_values({"data.root": "/no/such/folder"})
    with pytest.raises(TrainingError, match="no such folder"):
        sweeps.start(away, Search(SPACE), store=store)
    assert store.list() == []


# -- what trials say together ---------------------------------------------------------------------


def test_two_objectives_are_searched_together_and_the_front_is_what_none_beats(store, monkeypatch):
    sweep = enter(store, 6, second="parameters")  # each trial one more than the one before
    figures = {1: 0.7, 2: 0.6, 3: 0.8, 4: 0.75, 5: 0.8, 6: 0.9}
    drive(sweep, store, Trainer(store, lambda n, _: [figures[n]] * 3), monkeypatch)
    found = read(sweep, store)
    front = trials.front(found.trials, trials.search(sweep, store), "parameters")
    assert [trial.number for trial in front] == [1, 3, 6]
    assert found.winner(trials.search(sweep, store)).number == 6


def test_the_figure_of_a_trial_is_that_of_the_epoch_whose_weights_are_kept(store, monkeypatch):
    sweep = enter(store, 1)
    drive(sweep, store, Trainer(store, lambda *_: [0.6, 0.9, 0.7]), monkeypatch)
    (trial,) = read(sweep, store).trials
    assert (trial.epoch, trial.figures["val_auroc"], trial.epochs) == (2, 0.9, 3)
    assert (trial.seconds, trial.cost("epoch_seconds"), trial.parameters) == (6.0, 2.0, 1001)


# -- with real trainings --------------------------------------------------------------------------


@pytest.mark.slow
def test_tiny_nets_are_tried_and_the_best_goes_on_from_its_weights_to_its_test(
    store, phantoms, monkeypatch
):
    """Every worker is this process: a sweep's drives it, and a trial's trains it there and then."""
    from cxr_core.training import trainer

    # Deterministic ops would stay on for the tests that follow.
    monkeypatch.setattr(trainer.tf.config.experimental, "enable_op_determinism", lambda: None)
    worked: list[str] = []

    def work(launcher: object, run_id: str) -> None:
        worked.append(run_id)
        log = workspace.run_folder(run_id) / jobs.LOG_FILE
        log.touch()
        worker._run(run_id, RunStore(), log)

    monkeypatch.setattr(jobs.LocalLauncher, "start", work)
    config = RunConfig().with_values(
        {"data.root": str(phantoms), "image.size": 32, "optimise.epochs": 2}
    )
    space = SearchSpace.from_mapping({"optimise.learning_rate": {"low": 1e-5, "high": 1e-4}})
    sweep = sweeps.start(config, Search(space, trials=2), recipe="tiny", store=store)
    record, found = store.get(sweep), read(sweep, store)
    assert (record.status, record.reason) == (Status.FINISHED, "")
    ended = [(trial.outcome, trial.reason) for trial in found.trials]
    assert ended == [("complete", ""), ("complete", "")]
    winner = found.winner(trials.search(sweep, store))
    loser = next(trial for trial in found.trials if trial is not winner)
    assert worked == [sweep, found.trials[0].run_id, found.trials[1].run_id, winner.run_id]
    # Its curve is that of the trial: nothing was trained anew.
    assert list(store.curves(winner.run_id, ["val_loss"])["step"]) == [1, 2]
    info = bundle.read(store.path(winner.run_id, "bundle"))
    assert info.metrics["val"]["auc"] == pytest.approx(winner.figures["val_auroc"])
    assert "chosen among 2 trials" in " ".join(info.notes)
    assert found.test["auc"] == info.metrics["test"]["auc"]
    assert not any(name.startswith("test_") for name in store.get(loser.run_id).metrics)
    with pytest.raises(TrainingError, match="has no file 'bundle'"):
        store.path(loser.run_id, "bundle")
    assert not jobs.has_checkpoint(winner.run_id)
    assert not jobs.has_checkpoint(loser.run_id)
