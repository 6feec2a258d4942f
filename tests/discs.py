"""A run without a store and films that are noise with discs, to fit on in this process."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tensorflow as tf

from cxr_core.data.catalog import Catalog
from cxr_core.diagnosis.bundle import DataInfo
from cxr_core.training.device import Device
from cxr_core.training.film_set import FilmSet, Part
from cxr_core.training.writer import RunCancelled, Unsent

CPU = Device("CPU", is_gpu=False, strategy=tf.distribute.get_strategy())
CLASSES = ("NORMAL", "PNEUMONIA")


class Run:
    """Stands in for the writer: remembers what it is told, and may be asked to end at a step."""

    def __init__(self, end_at: int = 10**9, request: str = "cancel") -> None:
        self.run_id, self.name = "discs", "discs"
        self.request: str | None = None
        self.told: list[tuple[int, int]] = []
        self.recorded: dict[str, str] = {}
        self.metrics: dict[str, dict[int, float]] = {}
        self.files: dict[str, bytes] = {}
        self.phases: list[str] = []
        self.notes: list[str] = []
        self._ends = (end_at, request)
        self._steps = 0

    def obey(self) -> None:
        if self._steps >= self._ends[0]:
            self.request = self._ends[1]
        if self.request == "cancel":
            raise RunCancelled

    def points(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.metrics.setdefault(name, {})[step] = value
        if "batch_loss" in metrics:
            self._steps = step

    def progress(self, done: int, total: int) -> None:
        self.told.append((done, total))

    def phase(self, words: str) -> None:
        self.phases.append(words)

    def note(self, *sentences: str) -> None:
        self.notes += sentences

    def params(self, params: dict[str, object]) -> None:
        self.recorded |= {key: str(value) for key, value in params.items()}

    @property
    def unsent(self) -> Unsent:
        return Unsent((("val_loss", 1, 0.5, 1e9),), (("attention/0001.jpg", b"\xff\xd8"),))

    def send_again(self, unsent: Unsent) -> None:
        assert unsent == self.unsent

    def later(self, name: str, content: bytes) -> None:
        self.files[name] = content


def film_set(sizes: tuple[int, ...] = (32,), count: int = 60) -> FilmSet:
    """Noise, with a bright disc in the films of the second class."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    decoded = {}
    for size in sizes:
        films = rng.integers(0, 120, (count, size, size), dtype=np.uint8)
        for film, label in zip(films, labels, strict=True):
            if label:
                cv2.circle(film, (size // 2, size // 3), size // 6, 200, -1)
        decoded[size] = films

    def part(name: str, rows: np.ndarray) -> Part:
        table = pd.DataFrame(
            {
                "path": [f"{row}.png" for row in rows],
                "label": [CLASSES[label] for label in labels[rows]],
                "split": name,
                "patient_id": "",
                "md5": [f"{row:032}" for row in rows],
            }
        )
        return Part(table, labels[rows], rows)

    rows = np.arange(count)
    parts = [part("train", rows[:36]), part("val", rows[36:48]), part("test", rows[48:])]
    data = DataInfo(name="discs", synthetic=True, counts={})
    split = pd.concat([p.table for p in parts])
    catalog = Catalog(Path(), "discs", "", "", True, split)
    return FilmSet(CLASSES, decoded, split, *parts, provenance=data, catalog=catalog)
