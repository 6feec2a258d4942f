"""Scoring: files and folders of any size to answers, a few films at a time."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from cxr_core import NOT_FOR_CLINICAL_USE, images
from cxr_core.diagnosis import explain
from cxr_core.errors import UnreadableImageError

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis, Predictor

# Films held at once at their full size; more would not make a network faster on a CPU.
BATCH = 8
SYNTHETIC = "The model learned from synthetic films: what it says about a real film means nothing."


@dataclass(frozen=True, eq=False)
class Scored:
    """One file's outcome: an answer or a refusal, or the reason why it could not be read."""

    path: Path
    diagnosis: "Diagnosis | None"  # None where the file could not be read
    error: str = ""
    overlay: Path | None = None  # where the heat map was drawn to

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as plain values, in the form that other tools rely on."""
        answer = self.diagnosis
        if answer is None:
            nothing = dict.fromkeys(("label", "probability", "abnormal", "threshold"))
            return {
                "path": str(self.path),
                "error": self.error,
                "accepted": False,
                "reasons": [],
                "probabilities": {},
                **nothing,
            }
        synthetic = f" {SYNTHETIC}" if answer.synthetic else ""
        return {
            "path": str(self.path),
            "accepted": answer.accepted,
            "reasons": list(answer.reasons),
            "label": answer.label,
            "probability": answer.probability,
            "probabilities": answer.probabilities,
            "abnormal": answer.abnormal,
            "threshold": answer.threshold,
            "bundle": answer.bundle,
            **({"heatmap": str(self.overlay)} if self.overlay else {}),
            "note": f"{NOT_FOR_CLINICAL_USE}{synthetic}",
        }

    def as_row(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the outcome as a row of the table with :func:`columns`."""
        values = self.as_json()
        row = {name: values.get(name) for name in columns(classes)}
        row["reasons"] = " ".join(values["reasons"])
        return row | {f"p_{label}": values["probabilities"].get(label) for label in classes}


def columns(classes: Sequence[str]) -> list[str]:
    """Return the columns of the table of outcomes, in order."""
    answer = ["path", "accepted", "reasons", "label", "probability", "abnormal", "threshold"]
    return [*answer, *(f"p_{label}" for label in classes), "bundle", "error", "note"]


def find(places: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each film with the name it has below the place where it was found.

    A file is taken whatever it is called; below a folder only what could be a film is, in the order
    of the names. Hidden files are passed over.
    """
    for place in places:
        if not place.is_dir():
            yield place, Path(place.name)
            continue
        for folder, folders, files in os.walk(place):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder) / name
                if not name.startswith(".") and images.could_be_film(path):
                    yield path, path.relative_to(place)


def score(
    predictor: "Predictor", films: Iterable[tuple[Path, Path]], overlays: Path | None = None
) -> Iterator[Scored]:
    """Yield the outcome of each film, in order, at constant memory.

    Args:
        predictor: the model.
        films: as :func:`find` yields them.
        overlays: a folder to draw heat maps to, as PNG under the films' names; None draws none.
    """
    taken: set[Path] = set()
    remaining = iter(films)
    while batch := list(islice(remaining, BATCH)):
        read = [_read(path) for path, _ in batch]
        readable = [film for film in read if isinstance(film, images.Radiograph)]
        answers = iter(predictor.diagnose_all(readable, heatmap=overlays is not None))
        for (path, name), film in zip(batch, read, strict=True):
            if isinstance(film, str):
                yield Scored(path, None, film)
                continue
            answer = next(answers)
            place = None
            if overlays is not None and answer.heatmap is not None:
                place = _free_name(overlays / name, taken)
                _draw(film, answer.heatmap, place)
            yield Scored(path, answer, overlay=place)


def _read(path: Path) -> images.Radiograph | str:
    """Return the film, or why it cannot be read."""
    try:
        return images.read(path)
    except UnreadableImageError as error:
        if isinstance(error.__cause__, FileNotFoundError):  # of many paths, say which in full
            return f"There is no file {path}. Check its path."
        return str(error)


def _free_name(film: Path, taken: set[Path]) -> Path:
    """Return a PNG's path for a film, no two alike: a.png, then a.jpeg.png, then a.jpeg-2.png."""
    choices = [film.with_suffix(".png"), film.with_name(f"{film.name}.png")]
    number = 2
    while choices[0] in taken:
        choices.pop(0)
        choices.append(film.with_name(f"{film.name}-{number}.png"))
        number += 1
    taken.add(choices[0])
    return choices[0]


def _draw(film: images.Radiograph, heatmap: explain.HeatMap, place: Path) -> None:
    shown = cv2.cvtColor(explain.overlay(film.pixels, heatmap), cv2.COLOR_RGB2BGR)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(cv2.imencode(".png", shown)[1].tobytes())
