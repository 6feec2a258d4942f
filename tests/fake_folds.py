"""Folds of a cross-validation as their workers would have left them, without a training."""

from pathlib import Path

import numpy as np
import pandas as pd
import tiny

from cxr_core.training.tracking import RunRecord, RunStore, Status

CLASSES = tiny.BINARY
COLUMNS = [f"logit_{label}" for label in CLASSES]


class Recorder:
    """A launcher that starts nothing and remembers what it was asked for."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def start(self, run_id: str) -> None:
        self.started.append(run_id)


def held_out(fold: int, films: int = 12) -> pd.DataFrame:
    """Draw what a fold's model said of its films: a patient each two, some of them wrong."""
    random = np.random.default_rng(fold)
    truth = np.arange(films) % 2
    return pd.DataFrame(
        {
            "path": [f"{fold}/{film:02}.png" for film in range(films)],
            "label": [CLASSES[label] for label in truth],
            "split": "test",
            "patient_id": [f"{fold}-{film // 2}" for film in range(films)],
            COLUMNS[0]: 0.0,
            COLUMNS[1]: (2 * truth - 1) + random.normal(0, 1.5, films),
        }
    )


def finish(store: RunStore, run: RunRecord, folder: Path, films: str = "f") -> None:
    """Leave with a fold's run what its training would have left."""
    place = folder / run.run_id
    others = held_out(run.fold + 100).assign(split="val")
    tiny_info = tiny.info(
        run_id=run.run_id,
        temperature=0.5 + run.fold,
        threshold={"value": 0.3 + run.fold / 10, "method": "youden"},
    )
    (place / "bundle").mkdir(parents=True)
    (place / "bundle" / "bundle.json").write_text(tiny_info.model_dump_json())
    pd.concat([others, held_out(run.fold)]).to_parquet(place / "predictions.parquet", index=False)
    for artefact in place.iterdir():
        store.write_file(run.run_id, artefact)
    store.log_params(run.run_id, {"data_fingerprint": films})
    store.set_status(run.run_id, Status.FINISHED)
