"""Cross-validation: one configuration trained once a fold, each tested on films it never saw.

The folds are ordinary runs in the ordinary queue; `folds` keeps account of them.
"""

from collections.abc import Mapping
from typing import Any

from filelock import FileLock

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.data import exclusions
from cxr_core.data.catalog import Catalog
from cxr_core.errors import TrainingError
from cxr_core.training import folds, jobs
from cxr_core.training.checks import independent_of_folder
from cxr_core.training.tracking import TAG_KIND, TAG_RECIPE, Kind, RunRecord, RunStore

_NAME = 60  # characters of a name that are kept where a fold's number is added


def start(
    config: RunConfig,
    number: int | None = None,
    *,
    recipe: str = "",
    store: RunStore | None = None,
    launcher: jobs.Launcher | None = None,
    catalog: Catalog | None = None,
) -> str:
    """Queue a run a fold, and return the id of the entry that sums them up.

    Args:
        config: what to train; its own ``data.fold`` does not count.
        number: how many folds, 2-10; those of ``data.folds`` by default.
        recipe: the recipe it came from, for people.
        store: where runs are kept.
        launcher: who starts the workers.
        catalog: the data set, where the caller has it open.

    Raises:
        ConfigError: a number of folds that is not allowed.
        TrainingError: a check found an error in one of the folds, or a worker cannot be started.
        DatasetError: the folder is no usable data set.
    """
    store = store or RunStore()
    config = independent_of_folder(of_all(config, number))
    catalog = catalog or jobs.open_films(config)
    for fold in range(1, config.data.folds + 1):  # before any of them is in the store
        jobs.require_sound(of_fold(config, fold), store, catalog, launcher)
    parent = store.enter(
        config.flat(),
        name=f"{jobs.run_name(config, recipe)[:_NAME]}, {config.data.folds} folds",
        tags={**jobs.about_films(config), TAG_RECIPE: recipe, TAG_KIND: Kind.FOLDS},
    )
    store.write_text(parent, "config.yaml", config.to_yaml())
    for fold in range(1, config.data.folds + 1):
        _train_fold(parent, config, fold, None, store, launcher, catalog)
    return parent


def resume(
    run_id: str, *, store: RunStore | None = None, launcher: jobs.Launcher | None = None
) -> None:
    """Train the folds that a cross-validation lacks: resumed where they can be, else anew.

    It also lacks a fold that has a model and could not be summed up with the others.

    Raises:
        TrainingError: it lacks none, it is still at work, it is no cross-validation, its films are
            not those of the folds that are done, a check found an error, or a worker cannot be
            started.
        DatasetError: its films are no usable data set any more.
    """
    store = store or RunStore()
    with FileLock(workspace.run_folder(run_id) / "resume.lock"):  # two may ask at once
        record = jobs.bury_if_dead(store.get(run_id), store)
        reason = jobs.why_not_resumed(record)
        if record.kind is not Kind.FOLDS:
            reason = f"Run {run_id} is no cross-validation."
        if reason:
            raise TrainingError(reason)
        config = store.config(run_id)
        catalog = jobs.open_films(config)
        runs = folds.by_number(folds.children(run_id, store))
        summary = folds.summary(record, store)
        assert summary is not None  # it has ended
        _require_films_of(summary, catalog)
        lacking = [int(entry["fold"]) for entry in summary["missing"]]
        for fold in lacking:
            jobs.require_sound(of_fold(config, fold), store, catalog, launcher)
        store.queue_again(run_id)
        for fold in lacking:
            _train_fold(run_id, config, fold, runs.get(fold), store, launcher, catalog)


def repeat(
    run_id: str,
    changes: Mapping[str, Any] | None = None,
    *,
    store: RunStore | None = None,
    launcher: jobs.Launcher | None = None,
) -> str:
    """Start a new cross-validation with the settings of another and these changes; return its id.

    Raises:
        ConfigError: an unknown path or a bad value.
        TrainingError: as :func:`start`.
        DatasetError: as :func:`start`.
    """
    store = store or RunStore()
    config = store.config(run_id).with_values(dict(changes or {}))
    recipe = store.get(run_id).tags.get(TAG_RECIPE, "")
    return start(config, recipe=recipe, store=store, launcher=launcher)


def of_all(config: RunConfig, number: int | None = None) -> RunConfig:
    """Return the configuration of a whole cross-validation: no fold is held out.

    Raises:
        ConfigError: ``number`` is not allowed.
    """
    values = {"data.fold": 0} if number is None else {"data.fold": 0, "data.folds": number}
    return config.with_values(values)


def of_fold(config: RunConfig, fold: int) -> RunConfig:
    """Return the configuration of one fold's run."""
    return config.with_values({"data.fold": fold})


def _require_films_of(summary: Mapping[str, Any], catalog: Catalog | None) -> None:
    """Refuse to train on other films than those that the folds in a summary were trained on."""
    if catalog is None or not summary["done"]:
        return
    used, _ = exclusions.without(catalog)
    if used.fingerprint != summary["data_fingerprint"]:
        raise TrainingError(
            f"The films of {catalog.name}, their labels or the list of excluded films have changed "
            f"since {len(summary['done'])} of {summary['folds']} folds were trained: what is "
            "missing could not be summed up with them. Put the films back as they were, or repeat "
            "the cross-validation."
        )


def _train_fold(
    parent_id: str,
    config: RunConfig,
    fold: int,
    before: RunRecord | None,
    store: RunStore,
    launcher: jobs.Launcher | None,
    catalog: Catalog | None,
) -> None:
    """Queue a fold's run, unless somebody has asked the cross-validation to end meanwhile.

    Args:
        parent_id: the cross-validation.
        config: that of all folds.
        fold: which one, from 1.
        before: the run that counted for it, which goes on if it can.
        store: where runs are kept.
        launcher: who starts the worker.
        catalog: the data set, where the caller has it open.
    """
    parent = store.get(parent_id)
    if parent.request:
        return
    if before is not None and not jobs.why_not_resumed(before):
        run_id = before.run_id
        jobs.resume(run_id, store=store, launcher=launcher)
    else:
        recipe = parent.tags.get(TAG_RECIPE, "")
        name = f"{jobs.run_name(config, recipe)[:_NAME]}, fold {fold} of {config.data.folds}"
        run_id = jobs.start(
            of_fold(config, fold).with_values({"name": name}),
            recipe=recipe,
            tags=jobs.fold_tags(parent_id, fold),
            store=store,
            launcher=launcher,
            catalog=catalog,
        )
    asked = store.get(parent_id).request
    if asked:  # before this run was there to be asked too
        store.request(run_id, asked)
