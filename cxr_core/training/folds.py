"""A cross-validation in the run store: how its folds stand, and what they say together.

Its entry trains nothing and has no worker. How it stands follows from its folds and is worked out
whenever somebody reads it, also by the worker of each fold at its end; so neither a killed worker
nor a closed app leaves it behind. Once all folds are in, it needs them no more.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from cxr_core import workspace
from cxr_core.diagnosis import bundle
from cxr_core.errors import BundleError, StoreAwayError, TrainingError
from cxr_core.evaluation import HEADLINES
from cxr_core.training.tracking import (
    TAG_DATA,
    TAG_PARENT,
    TAG_PHASE,
    TAG_REASON,
    TAG_SUMMED,
    TAG_SYNTHETIC,
    RunRecord,
    RunStore,
    Status,
)

SUMMARY_FILE = "cross_validation.json"
PREDICTIONS_FILE = "predictions.parquet"

_COMPLETE = "all "  # what `TAG_SUMMED` begins with where every fold is in the summary
_STARTING = 60.0  # seconds in which folds without a run may still be on their way to the queue


# -- what the folds say together ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fold:
    """What one fold's training said of the films that it never saw."""

    number: int  # from 1
    predictions: pd.DataFrame  # path, label, patient_id, logit_<CLASS>; a row a film held out
    temperature: float  # fitted on the fold's own validation films
    threshold: float  # chosen on them


def pool(folds: Iterable[Fold], classes: Sequence[str]) -> pd.DataFrame:
    """Return the folds' predictions as one table, a row a film.

    Logits are divided by their fold's temperature, so that their softmax is the probability that
    the fold's model gives; only so may scores of several models stand in one ranking (Forman and
    Scholz 2010, doi 10.1145/1882471.1882479).

    Args:
        folds: each fold at most once.
        classes: the class names, the reference class first.

    Returns:
        path, label, patient_id, fold (from 1), threshold (that of the fold's model, on the
        abnormal probability) and logit_<CLASS>, sorted by path.
    """
    logits = [f"logit_{label}" for label in classes]
    parts = []
    for fold in folds:
        table = fold.predictions[["path", "label", "patient_id", *logits]].copy()
        table[logits] /= fold.temperature
        table.insert(3, "fold", fold.number)
        table.insert(4, "threshold", fold.threshold)
        parts.append(table)
    return pd.concat(parts).sort_values("path", ignore_index=True)


def summarise(pooled: pd.DataFrame, classes: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Sum up a cross-validation from its pooled predictions.

    Every film is decided at the threshold of the model that did not know it. The deviation is that
    of the folds' figures (divided by their number less one). It says how far the figure depends on
    the films, not how well the mean is known: the folds share most of their training films
    (Bengio and Grandvalet 2004). The interval of the pooled figure, drawn over patients, is for
    that.

    Args:
        pooled: as :func:`pool` gives it.
        classes: the class names, the reference class first.
        seed: of the intervals' resamples.

    Returns:
        ``classes``; ``metrics``, for each headline metric ``mean``, ``sd`` and ``values`` by fold,
        None where it is undefined; and ``pooled``, the summary of `metrics.summarise` of all films.
    """
    by_fold = {
        number: _results(pooled[pooled["fold"] == number], classes, resamples=0, seed=seed)
        for number in sorted(set(pooled["fold"].astype(int)))
    }
    figures = {}
    for name in HEADLINES:
        values = {number: result[name] for number, result in by_fold.items()}
        known = [value for value in values.values() if value is not None]
        figures[name] = {
            "mean": float(np.mean(known)) if known else None,
            "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
            "values": {str(number): value for number, value in values.items()},
        }
    return {
        "classes": list(classes),
        "metrics": figures,
        "pooled": _results(pooled, classes, resamples=1000, seed=seed),
    }


def probabilities(pooled: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return the calibrated probabilities of pooled predictions, float64 (n, classes)."""
    from cxr_core.evaluation import scores  # scipy: a list of runs should not wait for it

    return scores.probabilities(pooled[[f"logit_{label}" for label in classes]].to_numpy(float))


def _results(
    table: pd.DataFrame, classes: Sequence[str], *, resamples: int, seed: int
) -> dict[str, Any]:
    from cxr_core.evaluation import metrics  # scipy: a list of runs should not wait for it

    return metrics.summarise(
        [classes.index(label) for label in table["label"]],
        probabilities(table, classes),
        classes,
        table["threshold"].to_numpy(float),
        patients=list(table["patient_id"]) if table["patient_id"].ne("").any() else None,
        resamples=resamples,
        seed=seed,
    )


# -- how a cross-validation stands ----------------------------------------------------------------


def children(parent_id: str, store: RunStore) -> list[RunRecord]:
    """Return the runs of a cross-validation's folds, or of a sweep's trials, the newest first."""
    return store.list(tags={TAG_PARENT: parent_id})


def complete(parent: RunRecord) -> bool:
    """Tell if every fold is in a cross-validation's summary, which no longer needs their runs.

    One whose summary was written and its end was not (the writer was killed in between) is not
    complete: the next reader closes it again.
    """
    return parent.tags.get(TAG_SUMMED, "").startswith(_COMPLETE) and not parent.status.active


def by_number(children: Iterable[RunRecord]) -> dict[int, RunRecord]:
    """Return the run that counts for each fold: of several one at work, else one with a model.

    A fold has several runs where one failed, or cannot be summed up with the others, and was
    repeated; of equals the newest counts.
    """
    ranked = sorted(
        children,
        key=lambda run: (run.status.active, run.has_model, run.created, run.queued_at),
    )
    found = {run.fold: run for run in ranked}
    return dict(sorted(found.items()))


def summary(parent: RunRecord, store: RunStore) -> dict[str, Any] | None:
    """Return what the folds of a cross-validation say together, None before all have ended.

    What :func:`summarise` gives (nothing where no fold has a model), with ``folds`` (how many
    there are to be), ``done`` (the numbers of those in the figures), ``missing`` (fold, run_id,
    status and reason of the others) and ``data_fingerprint`` of the films.

    Raises:
        TrainingError: the summary is gone or damaged.
    """
    if not parent.tags.get(TAG_SUMMED):
        return None
    path = store.path(parent.run_id, SUMMARY_FILE)
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(parent.run_id, SUMMARY_FILE, error) from error
    return found


def predictions(parent: RunRecord, store: RunStore) -> pd.DataFrame:
    """Return the pooled predictions of a cross-validation, as :func:`pool` gives them.

    Raises:
        TrainingError: it has none, or they are damaged.
    """
    return _table(parent.run_id, ("path", "label", "patient_id", "fold", "threshold"), store)


def _table(run_id: str, columns: Iterable[str], store: RunStore) -> pd.DataFrame:
    """Read a run's predictions, which must have these columns."""
    path = store.path(run_id, PREDICTIONS_FILE)
    try:
        table = pd.read_parquet(path)
        table[list(columns)]  # a KeyError where one is missing
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(run_id, PREDICTIONS_FILE, error) from error
    return table


def _damaged(run_id: str, file: str, error: Exception) -> TrainingError:
    why = str(error).strip().rstrip(".")
    return TrainingError(f"The file '{file}' of run {run_id} is damaged: {why}. Repeat the run.")


def settle(parent: RunRecord, children: Iterable[RunRecord], store: RunStore) -> RunRecord:
    """Bring a cross-validation's entry up to date with its folds; return it as it is then.

    Args:
        parent: the entry.
        children: the runs of its folds, those whose workers died marked as failed.
        store: where all of them are kept.
    """
    if complete(parent):
        return parent
    runs = by_number(children)
    number = int(parent.params["data.folds"])
    lately = time.time() - parent.queued_at < _STARTING and parent.request is None
    starting = lately and len(runs) < number
    if starting or any(run.status.active for run in runs.values()):
        return _at_work(parent, list(runs.values()), number, store)
    made_of = _made_of(runs)
    if _up_to_date(parent, made_of):
        return parent
    with _alone(parent):
        parent = store.get(parent.run_id)
        if not _up_to_date(parent, made_of):  # else somebody was faster
            _close(parent, runs, number, made_of, store)
    return store.get(parent.run_id)


def _at_work(
    parent: RunRecord, runs: Sequence[RunRecord], number: int, store: RunStore
) -> RunRecord:
    done = sum(run.has_model for run in runs)
    begun = done or any(run.status is Status.RUNNING for run in runs)
    status = Status.RUNNING if begun else Status.QUEUED
    phase = f"{done} of {number} folds done"
    if (parent.status, parent.phase, parent.reason) == (status, phase, ""):
        return parent
    with _alone(parent):
        now = store.get(parent.run_id)
        # Where somebody was faster, these runs may be older than what he wrote of newer ones.
        if (now.status, now.tags.get(TAG_SUMMED)) == (parent.status, parent.tags.get(TAG_SUMMED)):
            store.set_tags(parent.run_id, {TAG_REASON: "", TAG_PHASE: phase})
            store.set_status(parent.run_id, status)
    return store.get(parent.run_id)


def _alone(parent: RunRecord) -> FileLock:
    """Return what whoever writes how a cross-validation stands must hold."""
    return FileLock(workspace.run_folder(parent.run_id) / "summary.lock")


def _made_of(runs: Mapping[int, RunRecord]) -> str:
    """Return what changes when a summary of these runs would be another one."""
    parts = [f"{fold} {run.run_id} {run.status} {run.ended}" for fold, run in runs.items()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _up_to_date(parent: RunRecord, made_of: str) -> bool:
    known = parent.tags.get(TAG_SUMMED, "").removeprefix(_COMPLETE)
    return known == made_of and not parent.status.active


def _close(
    parent: RunRecord, runs: Mapping[int, RunRecord], number: int, made_of: str, store: RunStore
) -> None:
    """Sum up the folds that there are, and record how the cross-validation ended."""
    found: list[Fold] = []
    missing: list[dict[str, Any]] = []
    classes: tuple[str, ...] = ()
    films = ""  # the fingerprint of the films, which must be the same for all folds
    for fold in range(1, number + 1):
        run = runs.get(fold)
        try:
            if run is None:
                raise TrainingError("It was never started, or its run was deleted.")
            if not run.has_model:
                raise TrainingError(run.reason or f"It is {run.status}.")
            if films and run.params["data_fingerprint"] != films:
                raise TrainingError("The films had changed when it was trained. Repeat it.")
            info = bundle.read(store.path(run.run_id, f"bundle/{bundle.INFO_FILE}").parent)
            logits = [f"logit_{label}" for label in info.classes]
            table = _table(run.run_id, ("path", "label", "split", "patient_id", *logits), store)
        except StoreAwayError:  # says nothing of the fold: somebody else sums up
            raise
        except (TrainingError, BundleError) as error:
            status = str(run.status) if run else ""
            run_id = run.run_id if run else ""
            missing.append({"fold": fold, "run_id": run_id, "status": status, "reason": str(error)})
            continue
        films, classes = run.params["data_fingerprint"], info.classes
        held_out = table[table["split"] == "test"]
        found.append(Fold(fold, held_out, info.temperature, info.threshold.value))
    known = next((runs[fold.number].tags for fold in found), {})
    about = {
        "folds": number,
        "done": [fold.number for fold in found],
        "missing": missing,
        "data_fingerprint": films,
    }
    _write(parent, about, found, classes, store)
    tags = {
        **{tag: known[tag] for tag in (TAG_DATA, TAG_SYNTHETIC) if tag in known},
        TAG_SUMMED: made_of if missing else f"{_COMPLETE}{made_of}",
        TAG_REASON: _in_words(missing, number) if missing else "",
        TAG_PHASE: "" if missing else "done",
    }
    store.set_tags(parent.run_id, tags)
    unwanted = {str(Status.CANCELLED)} | ({""} if parent.request else set())  # "": never started
    given_up = all(entry["status"] in unwanted for entry in missing)
    failed = Status.CANCELLED if given_up else Status.FAILED
    store.set_status(parent.run_id, failed if missing else Status.FINISHED)


def _write(
    parent: RunRecord,
    about: Mapping[str, Any],
    found: Sequence[Fold],
    classes: Sequence[str],
    store: RunStore,
) -> None:
    """Keep summary, pooled predictions and mean figures with a cross-validation."""
    run_id = parent.run_id
    figures: dict[str, Any] = {"classes": [], "metrics": {}, "pooled": None}
    if found:
        pooled = pool(found, classes)
        figures = summarise(pooled, classes, seed=int(parent.params["seed"]))
        with tempfile.TemporaryDirectory(dir=workspace.run_folder(run_id)) as folder:
            file = Path(folder) / PREDICTIONS_FILE
            pooled.to_parquet(file, index=False)
            store.write_file(run_id, file)
    text = json.dumps({**about, **figures}, indent=2, allow_nan=False)
    store.write_text(run_id, SUMMARY_FILE, text)
    plain = {}
    for name, values in figures["metrics"].items():
        for suffix, value in (("", values["mean"]), ("_sd", values["sd"])):
            if value is not None:
                plain[f"test_{name}{suffix}"] = value
    store.log_metrics(run_id, plain)


def _in_words(missing: Sequence[Mapping[str, Any]], number: int) -> str:
    numbers = [str(entry["fold"]) for entry in missing]
    listed = " and ".join(filter(None, [", ".join(numbers[:-1]), numbers[-1]]))
    first, several = missing[0], len(missing) > 1
    which = f"Fold{'s' * several} {listed} of {number} {'are' if several else 'is'} missing"
    why = f". Fold {first['fold']}: {first['reason']}" if several else f": {first['reason']}"
    return f"{which}{why} Resume the cross-validation to train what is missing."
