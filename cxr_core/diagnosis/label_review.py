"""Predictions to check a set's labels with: made once, in this process or beside it, and kept."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from cxr_core import workspace
from cxr_core.config import ImageConfig
from cxr_core.data.audit import held_out
from cxr_core.data.audit.subject import Subject
from cxr_core.data.catalog import Catalog
from cxr_core.errors import DatasetError
from cxr_core.zoo import features

SECONDS_A_FILM = 0.02  # on two cores of a shared machine, starting TensorFlow aside

# What the child process is given and gives back, in a folder of its own.
CATALOG_FILE, ABOUT_FILE, PREDICTIONS_FILE = (
    "catalog.parquet",
    "catalog.json",
    "predictions.parquet",
)

Progress = Callable[[str, int, int], None]  # called with (what is going on, films done, in all)

_LOOK = 0.2  # seconds between two looks at the child


class ReviewCancelledError(DatasetError):
    """A review ended because its user stopped it; nothing of it is kept."""


def predict(catalog: Catalog, *, progress: Progress | None = None) -> pd.DataFrame:
    """Predict every labelled film by a probe that saw neither it nor its twins or patient.

    The probe is a logistic regression on the features of a network trained on photographs. Films
    are squashed to a square, which keeps their proportions, a common shortcut, out of sight.

    Args:
        catalog: the set.
        progress: called with (what is going on, films done, films in all).

    Returns:
        ``path`` and a column of probabilities a class: what ``audit(predictions=...)`` takes.

    Raises:
        DatasetError: a class has films of fewer than two patients, or a film vanished.
        TrainingError: the network's weights are not on this machine.
    """
    tell = progress or (lambda step, done, total: None)
    subject = Subject.of(catalog)
    rows = np.flatnonzero(subject.films["label"] != "")
    films = subject.films.iloc[rows].reset_index(drop=True)
    groups = subject.together[rows]
    held_out.require_groups(films["label"], groups)

    from cxr_core.data import batches  # imports TensorFlow

    decoded = batches.decode(
        catalog.root,
        films,
        ImageConfig(size=features.SIZE, fit="squash"),
        progress=lambda done, total: tell("Decoding films", done, total),
    )
    seen = features.extract(
        decoded.pixels, progress=lambda done, total: tell("Looking at films", done, total)
    )
    tell("Predicting each film from the others", 0, len(films))
    with threadpool_limits(1):  # short matrices only wait for each other's threads
        probabilities = held_out.predict(seen[decoded.rows(films["md5"])], films["label"], groups)
    tell("Predicting each film from the others", len(films), len(films))
    return pd.concat([films[["path"]], probabilities], axis=1)


def predict_beside(
    catalog: Catalog,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> pd.DataFrame:
    """Predict as :func:`predict` does, in a child process, and keep what it found.

    TensorFlow holds its memory for the life of its process, and a child can be ended at any moment.

    Args:
        catalog: the set.
        progress: called in the caller's thread, as for :func:`predict`; 0 films in all where
            nothing can be counted.
        cancelled: asked now and then, in the caller's thread; true ends the work.

    Raises:
        ReviewCancelledError: ``cancelled()`` was true.
        DatasetError: as for :func:`predict`; TensorFlow is not installed; or the child ended
            without a word.
    """
    tell = progress or (lambda step, done, total: None)
    tell("Starting TensorFlow", 0, 0)
    with tempfile.TemporaryDirectory(prefix="cxr-labels-") as place:
        folder = Path(place)
        _hand_over(catalog, folder)
        _run_child(folder, tell, cancelled)
        predictions = pd.read_parquet(folder / PREDICTIONS_FILE)
    keep(catalog, predictions)
    return predictions


def keep(catalog: Catalog, predictions: pd.DataFrame) -> None:
    """Keep the predictions for a set in the workspace, for :func:`kept`."""
    file = _file(catalog)
    file.parent.mkdir(exist_ok=True)
    partial = file.with_name(f"{file.stem}-{uuid.uuid4().hex}.partial")
    try:
        predictions.to_parquet(partial, index=False)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def kept(catalog: Catalog) -> pd.DataFrame | None:
    """Return the predictions kept for exactly these films, labels and patients; None without."""
    try:
        return pd.read_parquet(_file(catalog))
    except (OSError, ValueError):  # not there, or damaged
        return None


def has_kept(catalog: Catalog) -> bool:
    """Tell if there are predictions, whole ones, for exactly these films, labels and patients."""
    return kept(catalog) is not None


def received(folder: Path) -> Catalog:
    """Return the catalog that :func:`predict_beside` handed to its child process in a folder."""
    about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
    about["root"] = Path(about["root"])
    return Catalog(**about, frame=pd.read_parquet(folder / CATALOG_FILE))


def _hand_over(catalog: Catalog, folder: Path) -> None:
    about: dict[str, Any] = {
        "root": str(catalog.root),
        "name": catalog.name,
        "layout": catalog.layout,
        "patient_rule": catalog.patient_rule,
        "synthetic": catalog.synthetic,
    }
    (folder / ABOUT_FILE).write_text(json.dumps(about), encoding="utf-8")
    catalog.frame.to_parquet(folder / CATALOG_FILE, index=False)


def _run_child(folder: Path, tell: Progress, cancelled: Callable[[], bool]) -> None:
    """Have the child predict what lies in the folder, and pass on what it says."""
    with subprocess.Popen(
        # -P: a file called tensorflow.py in the user's folder is not what is meant.
        [sys.executable, "-P", "-m", "cxr_core.diagnosis.label_worker", str(folder)],
        stdin=subprocess.PIPE,  # never written to: its end tells the child that this process ended
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=_environment(),
    ) as child:
        assert child.stdout is not None
        said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        reader = threading.Thread(target=_listen, args=(child.stdout, said), daemon=True)
        reader.start()
        try:
            while True:
                if cancelled():
                    raise ReviewCancelledError("You stopped before all films had been looked at.")
                try:
                    word = said.get(timeout=_LOOK)
                except queue.Empty:
                    continue
                if "step" in word:
                    tell(word["step"], word["done"], word["total"])
                elif "error" in word:
                    raise DatasetError(word["error"])
                else:
                    break
        finally:
            child.kill()
            reader.join()
    if not (folder / PREDICTIONS_FILE).is_file():
        raise DatasetError(
            "The program that looks at the films ended without a word; the memory may have run "
            "out. Close other programs and try again, or see what it says in a terminal: "
            "python -m cxr_core data audit DIR --labels."
        )


def _listen(output: IO[str], said: "queue.SimpleQueue[dict[str, Any]]") -> None:
    """Put each JSON object that the child writes on the queue, an empty one once it has ended."""
    for line in output:
        try:
            word = json.loads(line)
        except ValueError:  # a library's own line
            continue
        if isinstance(word, dict) and word:
            said.put(word)
    said.put({})


def _environment() -> dict[str, str]:
    paths = [str(workspace.REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # a training may be at work on the same GPU
    }


def _file(catalog: Catalog) -> Path:
    return workspace.cache_folder() / "labels" / f"{catalog.patient_fingerprint}.parquet"
