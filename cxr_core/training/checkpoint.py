"""All that a training is after an epoch, in one file: from here it goes on as if never interrupted.

Batches are pure functions of their number and every random state is a variable of the model, so
with the same seed on a CPU a run that was killed and resumed ends with the same weights, bit for
bit, as one that was left alone.
"""

import json
import math
import os
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cxr_core.errors import TrainingError
from cxr_core.training.writer import Unsent

FILE = "checkpoint.npz"

Arrays = list[np.ndarray]

_PACE = 20.0  # times as long as a save took, before the next: saving costs a twentieth at most


@dataclass(frozen=True, eq=False)
class Best:
    """The best epoch so far and its weights."""

    value: float = -math.inf  # of the monitored figure, signed so that higher is better
    epoch: int = 0  # counted from 1; 0 where there is none yet
    waited: int = 0  # epochs since
    weights: Arrays = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after ``epoch`` epochs."""

    epoch: int  # done
    rate: float  # the stage's factor on the learning rate
    model: Arrays  # every variable, those of random generators included
    optimizer: Mapping[str, np.ndarray]  # by name
    best: Best
    plateau: Mapping[str, Any]  # what the falling rate remembers; empty for other schedules
    precision: str  # the dtype policy
    stopped: bool = False  # True where training ended here by request
    # What of these epochs may not be in the run store.
    unsent: Unsent = field(default_factory=Unsent)

    @classmethod
    def of(
        cls,
        model: keras.Model,
        *,
        epoch: int,
        rate: float,
        best: Best,
        plateau: Mapping[str, Any],
        precision: str,
        stopped: bool,
        unsent: Unsent,
    ) -> "Checkpoint":
        """Copy the state of a compiled model and what goes with it."""
        return cls(
            epoch=epoch,
            rate=rate,
            model=[variable.numpy() for variable in model.variables],
            optimizer={v.name: v.numpy() for v in model.optimizer.variables},
            best=best,
            plateau=dict(plateau),
            precision=precision,
            stopped=stopped,
            unsent=unsent,
        )

    def restore(self, model: keras.Model, rate: float) -> None:
        """Put the state into a compiled model, of the same stage or of the next one.

        What the next stage trains for the first time starts with a fresh optimiser state; a rate
        that fell goes on from where it was, times the stages' ratio ``rate`` / ``self.rate``.

        Raises:
            TrainingError: the weights do not fit, as of a network that flattens films of one size.
        """
        shapes = [tuple(variable.shape) for variable in model.variables]
        if shapes != [array.shape for array in self.model]:
            raise TrainingError(
                "The network at the next size has weights of other shapes, so it cannot go on from "
                "the smaller films. Set optimise.small_size to 0, or model.head to 'gap'."
            )
        for variable, array in zip(model.variables, self.model, strict=True):
            variable.assign(array)
        optimizer = model.optimizer
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        trained = {v.path.replace("/", "_"): v for v in model.trainable_variables}
        for slot in optimizer.variables:
            if slot.name in self.optimizer:
                slot.assign(self.optimizer[slot.name])
            elif slot.name.endswith("_average"):  # a running mean of weights begins at the weights
                slot.assign(trained[slot.name.removesuffix("_average")])
        if "learning_rate" in self.optimizer and rate != self.rate:
            optimizer.learning_rate = self.optimizer["learning_rate"] * rate / self.rate

    def save(self, folder: Path) -> None:
        """Write the state as one file, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "epoch": self.epoch,
            "rate": self.rate,
            "best_value": self.best.value,
            "best_epoch": self.best.epoch,
            "waited": self.best.waited,
            "plateau": dict(self.plateau),
            "precision": self.precision,
            "stopped": self.stopped,
            "points": self.unsent.points,
            "files": [name for name, _ in self.unsent.files],
        }
        arrays: dict[str, Any] = {
            "facts": np.array(json.dumps(facts)),
            **{f"model/{i:05}": array for i, array in enumerate(self.model)},
            **{f"best/{i:05}": array for i, array in enumerate(self.best.weights)},
            **{f"optimizer/{name}": array for name, array in self.optimizer.items()},
            **{
                f"file/{i:05}": np.frombuffer(content, np.uint8)
                for i, (_, content) in enumerate(self.unsent.files)
            },
        }
        part = folder / f"{FILE}.part"
        with part.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint | None":
        """Read the state back; None where there is none.

        Raises:
            TrainingError: the file is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            facts = json.loads(str(arrays.pop("facts")))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise TrainingError(
                f"The checkpoint {path} cannot be read ({error}), so the run cannot go on from it. "
                "Start it anew with 'repeat'."
            ) from error

        def group(prefix: str) -> dict[str, np.ndarray]:
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        best = Best(
            facts["best_value"],
            facts["best_epoch"],
            facts["waited"],
            list(group("best/").values()),
        )
        return cls(
            epoch=facts["epoch"],
            rate=facts["rate"],
            model=list(group("model/").values()),
            optimizer=group("optimizer/"),
            best=best,
            plateau=facts["plateau"],
            precision=facts["precision"],
            stopped=facts["stopped"],
            unsent=Unsent(
                tuple((name, step, value, at) for name, step, value, at in facts["points"]),
                tuple(
                    (name, content.tobytes())
                    for name, content in zip(facts["files"], group("file/").values(), strict=True)
                ),
            ),
        )


class Saver:
    """Saves the states of a training, as often as that does not slow it down.

    A network of 100 million parameters fills two gigabytes at every save; going on from some epochs
    before the last gives the same weights in the end.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._saved_at, self._took = -math.inf, 0.0  # seconds

    def save(self, state: Checkpoint) -> None:
        """Save a state, unless the last save is too recent for the time that it took.

        One that a person's request ended is always saved.
        """
        now = time.monotonic()
        if state.stopped or now - self._saved_at >= _PACE * self._took:
            state.save(self._folder)
            self._saved_at = time.monotonic()
            self._took = self._saved_at - now
