"""Runs as a trainer would have left them in the store, without a training."""

import json
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from cxr_core.config import RunConfig
from cxr_core.training import jobs
from cxr_core.training.tracking import (
    TAG_DATA,
    TAG_DEVICE,
    TAG_PHASE,
    TAG_RECIPE,
    TAG_WORKER,
    RunStore,
    Status,
)

STEPS = 4  # batches an epoch
CLASSES = ("NORMAL", "PNEUMONIA")
LOSSES = (0.9, 0.5, 0.6, 0.55, 0.56)  # on validation, by epoch; the second is the best


def make(
    status: Status,
    *,
    name: str = "plain_cnn",
    epochs: int = 3,
    reason: str = "",
    recipe: str = "plain_cnn",
    **values: object,
) -> str:
    """Record a run of that many epochs done; return its id.

    Args:
        status: how it stands; an active one has this process for its worker.
        name: the run's.
        epochs: epochs done, at most five; 0 where it has not begun.
        reason: why it failed.
        recipe: where its settings came from.
        values: settings by path, "__" for the dot.
    """
    store = RunStore()
    settings = {path.replace("__", "."): value for path, value in values.items()}
    config = RunConfig().with_values({"optimise.epochs": 8, **settings})
    run_id = store.create(
        config,
        name=name,
        tags={
            TAG_RECIPE: recipe,
            TAG_DATA: Path(config.data.root).name,
            TAG_PHASE: "training" if status is not Status.QUEUED else "",
            TAG_DEVICE: "CPU",
            TAG_WORKER: jobs.worker_name(os.getpid()),
        },
    )
    if status is Status.QUEUED:
        return run_id
    store.log_params(run_id, {"steps_per_epoch": STEPS, "train_films": 64})
    for epoch in range(1, epochs + 1):
        add_epoch(run_id, epoch)
    store.set_status(run_id, status, reason)
    return run_id


def add_epoch(run_id: str, epoch: int) -> None:
    """Record one epoch: its figures, its batches, its pictures, the machine."""
    store, now = RunStore(), time.time() - 100 + 10 * epoch
    figures = {
        "train_loss": 1 / epoch,
        "val_loss": LOSSES[epoch - 1],
        "train_accuracy": 0.7,
        "val_accuracy": 0.6,
        "train_auroc": 0.8,
        "val_auroc": 0.7 + 0.02 * epoch,
        "val_sensitivity": 0.75,
        "val_specificity": 0.5,
        "learning_rate": 1e-3,
        "epoch_seconds": 10.0,
        "images_per_second": 31.0,
    }
    machine = {
        "system/cpu_utilization_percentage": 87.0,
        "system/system_memory_usage_percentage": 20.0,
        "system/system_memory_usage_megabytes": 3100.0,
    }
    points = [(metric, epoch, value, now) for metric, value in {**figures, **machine}.items()]
    steps = range((epoch - 1) * STEPS + 1, epoch * STEPS + 1)
    points += [("batch_loss", step, 1 / step, now + step / 100) for step in steps]
    store.log_points(run_id, points)
    with tempfile.TemporaryDirectory() as folder:
        for place, content in _pictures(epoch).items():
            file = Path(folder) / place
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        for kind in ("validation", "attention"):
            store.write_file(run_id, Path(folder) / kind)


def _pictures(epoch: int) -> dict[str, bytes]:
    validation = {
        "epoch": epoch,
        "classes": CLASSES,
        "confusion": [[10 - epoch, epoch], [2, 6]],
        "edges": [0, 0.5, 1],
        "histogram": {"NORMAL": [8, 2], "PNEUMONIA": [1, 7]},
    }
    films = [{"path": f"images/{label}.png", "label": label} for label in CLASSES]
    strip = np.full((20, 40, 3), 40 * epoch, np.uint8)
    return {
        f"validation/{epoch:04}.json": json.dumps(validation).encode(),
        "attention/films.json": json.dumps(films).encode(),
        f"attention/{epoch:04}.jpg": cv2.imencode(".jpg", strip)[1].tobytes(),
    }
