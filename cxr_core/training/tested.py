"""What a run's model said about its validation and test films, read back from the store."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_core.diagnosis import bundle
from cxr_core.errors import TrainingError
from cxr_core.evaluation import scores
from cxr_core.training.tracking import RunStore


@dataclass(frozen=True, eq=False)
class Films:
    """The films of one part, in the order of the run's predictions."""

    table: pd.DataFrame  # path, label, patient_id and md5 ("" where unknown)
    labels: np.ndarray  # int (n,): the class's number
    logits: np.ndarray  # float64 (n, classes), before temperature
    probabilities: np.ndarray  # float64 (n, classes), calibrated

    @property
    def patients(self) -> list[str] | None:
        """A patient id a film, None where no patient is known."""
        known = self.table["patient_id"].ne("").any()
        return list(self.table["patient_id"]) if known else None

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True, eq=False)
class RunResult:
    """A run's model with what it said."""

    info: bundle.BundleInfo
    val: Films
    test: Films


def load(run_id: str, store: RunStore) -> RunResult:
    """Read a finished run's bundle and predictions.

    Raises:
        BundleError: the run's bundle is missing or damaged.
        TrainingError: its predictions are.
    """
    info = bundle.read(store.path(run_id, f"bundle/{bundle.INFO_FILE}").parent)
    known = bundle.read_splits(store.path(run_id, f"bundle/{bundle.SPLITS_FILE}").parent)
    md5_of = known.drop_duplicates("path").set_index("path")["md5"]
    path = store.path(run_id, "predictions.parquet")
    columns = [f"logit_{label}" for label in info.classes]
    try:
        table = pd.read_parquet(path)
        table["md5"] = table["path"].map(md5_of)
        parts = [_films(table[table["split"] == part], columns, info) for part in ("val", "test")]
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"The predictions of run {run_id} cannot be read from {path}: {error}. Repeat the run."
        ) from error
    return RunResult(info, *parts)


def _films(table: pd.DataFrame, columns: list[str], info: bundle.BundleInfo) -> Films:
    logits = table[columns].to_numpy(np.float64)
    return Films(
        table[["path", "label", "patient_id", "md5"]].fillna("").reset_index(drop=True),
        np.array([info.classes.index(label) for label in table["label"]], dtype=np.intp),
        logits,
        scores.probabilities(logits, info.temperature) if len(logits) else logits,
    )
