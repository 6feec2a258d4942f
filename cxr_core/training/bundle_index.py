"""Which models there are to use: those published in ``models/`` and those of finished runs."""

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.diagnosis import bundle
from cxr_core.errors import BundleError, CxrError, TrainingError
from cxr_core.training import recipes
from cxr_core.training.tracking import TAG_RECIPE, Kind, RunStore

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


@dataclass(frozen=True)
class BundleRef:
    """A model one may use."""

    label: str  # for people: its name and, for a run, when it was trained
    spec: str  # what `resolve` and the command line take
    run_id: str  # "" for a published one
    info: bundle.BundleInfo
    of_fold: bool = False  # its run is a fold of a cross-validation


def available(store: RunStore | None = None) -> list[BundleRef]:
    """Return the usable models, the newest first.

    Those of folds come after all others, as they saw the fewer films; those that know only
    synthetic films come last. Damaged ones are left out and logged.
    """
    found = [*_published(), *_of_runs(store or RunStore())]
    return sorted(
        found,
        key=lambda ref: (not ref.info.data.synthetic, not ref.of_fold, ref.info.created),
        reverse=True,
    )


def offered(store: RunStore | None = None) -> list[Path]:
    """Return the folders of the models to offer where nobody names any, no two of one name.

    The first is the one that the app opens with, the others are those that are published.

    Raises:
        BundleError: there is none.
    """
    store = store or RunStore()
    found = available(store)
    if not found:
        raise BundleError(
            f"There is no model: none in {workspace.published_models()}, and no run has ended with "
            "one. Train one, or name a bundle's folder."
        )
    chosen: dict[str, BundleRef] = {}
    for ref in (found[0], *(ref for ref in found if not ref.run_id)):
        chosen.setdefault(ref.info.name, ref)
    return [resolve(ref.spec, store) for ref in chosen.values()]


def resolve(spec: str, store: RunStore | None = None) -> Path:
    """Return the folder of a bundle.

    Args:
        spec: a bundle's folder, a name in ``models/``, or a run's id or the start of it.
        store: where runs are kept.

    Raises:
        BundleError: nothing, or more than one thing, is called so.
    """
    for folder in (Path(spec).expanduser(), workspace.published_models() / spec):
        if (folder / bundle.INFO_FILE).is_file():
            return folder.resolve()
    store = store or RunStore()
    try:
        run = store.find(spec)
    except TrainingError as error:
        raise BundleError(
            f"There is no model '{spec}': no bundle folder of that path, no name in "
            f"{workspace.published_models()}, and among the runs: {error}"
        ) from error
    if run.kind is Kind.FOLDS:
        raise BundleError(
            f"Run {run.run_id} is a cross-validation and has no model of its own. Name one of its "
            "folds, or make an ensemble of them."
        )
    if run.kind is Kind.SWEEP:
        raise BundleError(
            f"Run {run.run_id} is a sweep and has no model of its own. Name its best trial, which "
            "has one, or train its settings."
        )
    if run.untested and run.status.has_model:
        raise BundleError(
            f"Run {run.run_id} is a trial of a sweep and has no model: only the best of them gets "
            "one. Train its settings as a run of their own."
        )
    if not run.has_model:
        raise BundleError(
            f"Run {run.run_id} has no model: it is {run.status}. Name a finished run."
        )
    return store.path(run.run_id, "bundle")


def publish(spec: str, name: str, store: RunStore | None = None) -> Path:
    """Copy a model into ``models/``, where the app offers it by name and it outlives its run.

    Its card has the comparison that its recipe was chosen from, also where that was made later.

    Args:
        spec: as for :func:`resolve`.
        name: what it will be called: letters, digits, hyphens and underscores.
        store: where runs are kept.

    Returns:
        The published bundle's folder.

    Raises:
        BundleError: there is no such model, the name will not do or is taken, or the bundle is
            damaged.
    """
    folder = place_for(name)
    store = store or RunStore()
    source = resolve(spec, store)
    bundle.copy(source, folder, name, _selection(source, store))
    return folder


def place_for(name: str) -> Path:
    """Return the folder that a model published under a name will have.

    Raises:
        BundleError: the name will not do or is taken.
    """
    if not _NAME.fullmatch(name):
        raise BundleError(
            f"'{name}' cannot be a model's name: take up to 60 letters, digits, hyphens and "
            "underscores, a letter or digit first."
        )
    folder = workspace.published_models() / name
    if folder.exists():
        raise BundleError(f"{folder} is there already. Choose another name, or remove it first.")
    return folder


def _selection(source: Path, store: RunStore) -> bundle.RecipeSelection | None:
    """Return how the recipe of a bundle's run was chosen; None where that is not known."""
    info = bundle.read(source)
    try:
        run = store.get(info.run_id)
        config = RunConfig.model_validate(info.config)
    except (TrainingError, ValidationError):  # another machine's run, or none
        return None
    return recipes.selection(run.tags.get(TAG_RECIPE, ""), config)


def _published() -> list[BundleRef]:
    found = []
    for file in sorted(workspace.published_models().glob(f"*/{bundle.INFO_FILE}")):
        try:
            info = _read(file)
        except CxrError as error:
            _log.warning("Left out: %s", error)
        else:
            found.append(BundleRef(info.name, file.parent.name, "", info))
    return found


def _of_runs(store: RunStore) -> list[BundleRef]:
    found = []
    for run in store.list():
        if not run.has_model:
            continue
        try:
            # The small file alone: from a server the model would come along with its folder.
            info = _read(store.path(run.run_id, f"bundle/{bundle.INFO_FILE}"))
        except CxrError as error:
            _log.warning("Left out: %s", error)
        else:
            found.append(BundleRef(_label(info), run.run_id, run.run_id, info, run.fold > 0))
    return found


def _read(file: Path) -> bundle.BundleInfo:
    """Return what a bundle's information file says, read anew only where it was written since."""
    try:
        state = file.stat()
    except OSError:
        return bundle.read(file.parent)  # tells what is wrong
    return _as_written(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _as_written(file: Path, written: int, size: int) -> bundle.BundleInfo:
    return bundle.read(file.parent)


def _label(info: bundle.BundleInfo) -> str:
    created = datetime.fromisoformat(info.created).astimezone(UTC)
    return f"{info.name}, {created:%d %b %Y %H:%M} UTC"
