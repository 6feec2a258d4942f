"""A sweep: settings searched for the best validation figure, each tried in a run of its own.

The verbs that page and command line share; the sweep's worker (`sweep_driver`) does the rest.
Trials end before the test part is looked at. The best of them alone is tested, once all are done.
"""

from filelock import FileLock

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.data import exclusions
from cxr_core.data.catalog import Catalog
from cxr_core.errors import TrainingError
from cxr_core.training import folds, jobs, trials
from cxr_core.training.checks import independent_of_folder
from cxr_core.training.search import Search
from cxr_core.training.tracking import TAG_KIND, TAG_PHASE, TAG_RECIPE, Kind, RunStore
from cxr_core.training.trials import Outcome

_NAME = 60  # characters of a name that are kept where the number of trials is added


def start(
    config: RunConfig,
    search: Search,
    *,
    recipe: str = "",
    store: RunStore | None = None,
    launcher: jobs.Launcher | None = None,
    catalog: Catalog | None = None,
) -> str:
    """Enter a sweep, start the worker that drives it, and return its id.

    Args:
        config: what every trial has but the settings that are varied; its own settings are the
            first trial.
        search: what is varied, by which figure, how, and how often.
        recipe: the recipe it came from, for people.
        store: where runs are kept.
        launcher: who starts the worker; `cluster.launcher.for_sweep` knows one whose trials train
            on a cluster.
        catalog: the data set, where the caller has it open.

    Raises:
        ConfigError: the search does not hold together.
        TrainingError: a check found an error in the settings as they are, or the worker cannot be
            started.
        DatasetError: the folder is no usable data set.
    """
    store = store or RunStore()
    search = search.checked()
    config = independent_of_folder(config)
    jobs.require_sound(config, store, catalog or jobs.open_films(config), launcher)
    sweep_id = store.enter(
        config.flat(),
        name=f"{jobs.run_name(config, recipe)[:_NAME]}, sweep",
        tags={
            **jobs.about_films(config),
            TAG_RECIPE: recipe,
            TAG_KIND: Kind.SWEEP,
            TAG_PHASE: "starting",
        },
    )
    store.write_text(sweep_id, "config.yaml", config.to_yaml())
    store.write_text(sweep_id, trials.SEARCH_FILE, search.to_yaml())
    jobs.launch(sweep_id, store, launcher)
    return sweep_id


def resume(
    run_id: str,
    number: int | None = None,
    *,
    store: RunStore | None = None,
    launcher: jobs.Launcher | None = None,
) -> None:
    """Let a sweep that has ended in whatever way make the trials it lacks, and then more of them.

    Args:
        run_id: which.
        number: how many trials there shall be in all; as many as before by default.
        store: where it is kept.
        launcher: who starts the worker.

    Raises:
        ConfigError: the number is not allowed.
        TrainingError: it is no sweep, it is still at work, it lacks nothing, its films are not
            those of the trials that are done, a check found an error, or the worker cannot be
            started.
        DatasetError: its films are no usable data set any more.
    """
    store = store or RunStore()
    store.get(run_id)
    with FileLock(workspace.run_folder(run_id) / "resume.lock"):  # two may ask at once
        record = jobs.bury_if_dead(store.get(run_id), store)
        if record.kind is not Kind.SWEEP:
            raise TrainingError(f"Run {run_id} is no sweep.")
        search = trials.search(run_id, store).of(number)
        ended = trials.summary(run_id, store).trials
        counted = sum(trial.outcome is not Outcome.CANCELLED for trial in ended)
        reason = jobs.why_not_resumed(record)
        if reason and (record.status.active or search.trials <= counted):
            raise TrainingError(reason)
        config = store.config(run_id)
        catalog = jobs.open_films(config)
        jobs.require_sound(config, store, catalog, launcher)
        _require_films_of(run_id, catalog, store)
        if number is not None:
            store.write_text(run_id, trials.SEARCH_FILE, search.to_yaml())
        store.queue_again(run_id)
        store.set_tags(run_id, {TAG_PHASE: "starting"})
    jobs.launch(run_id, store, launcher)


def _require_films_of(run_id: str, catalog: Catalog | None, store: RunStore) -> None:
    """Refuse to try settings on other films than those that earlier trials were tried on."""
    if catalog is None:
        return
    used, _ = exclusions.without(catalog)
    for run in folds.children(run_id, store):
        if run.params.get("data_fingerprint", used.fingerprint) != used.fingerprint:
            raise TrainingError(
                f"The films of {catalog.name}, their labels or the list of excluded films have "
                f"changed since trial {run.trial}: what is tried now could not be compared with "
                "it. Put the films back as they were, or start another sweep."
            )
