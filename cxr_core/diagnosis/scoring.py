"""Scoring: files and folders of any size to answers, a few films at a time."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cxr_core import NOT_FOR_CLINICAL_USE, images
from cxr_core.diagnosis import explain
from cxr_core.errors import UnreadableImageError

if TYPE_CHECKING:
    from cxr_core.diagnosis.bundle import BundleInfo
    from cxr_core.diagnosis.predictor import Diagnosis, Predictor, Prepared

# Films that the network is asked about at a time. On a CPU more take as long a film, and memory.
BATCH = 8
AHEAD = 3  # batches of films that are read while the network computes
# Films decoded at a time. OpenCV and zlib let other threads run meanwhile; more than the cores
# would only hold more films at their full size in memory.
READERS = min(8, os.cpu_count() or 1)
# Bytes of a file above which it is decoded alone: one may need a gigabyte meanwhile.
LARGE = 40_000_000
_ALONE = threading.Lock()
SYNTHETIC = "The model learned from synthetic films: what it says about a real film means nothing."
FORCED = "The gate refused this film, and an answer was asked for all the same: do not rely on it."


def version(info: "BundleInfo") -> str:
    """Return what tells a model from others of its name: the beginning of its file's SHA-256."""
    return info.model_sha256[:12]


def fault(name: str, error: Exception) -> str:
    """Return what is told of a film that the program failed to read; nothing of what it holds."""
    return (
        f"{name} could not be read: the program failed ({type(error).__name__}). Export it again "
        "as PNG or JPEG, and report the file's kind."
    )


@dataclass(frozen=True, eq=False)
class Scored:
    """One file's outcome: an answer or a refusal, or the reason why it could not be read."""

    path: Path
    diagnosis: "Diagnosis | None"  # None where the file could not be read
    error: str = ""
    overlay: Path | None = None  # where the heat map was drawn to
    model: str = ""  # as `version` gives it

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as plain values, in the form that other tools rely on."""
        answer = self.diagnosis
        if answer is None:
            nothing = dict.fromkeys(("label", "probability", "abnormal", "threshold", "distance"))
            return {
                "path": str(self.path),
                "error": self.error,
                "accepted": False,
                "reasons": [],
                "unchecked": [],
                "burned_in": None,
                "probabilities": {},
                **nothing,
                "model": self.model,
            }
        notes = [NOT_FOR_CLINICAL_USE]
        if answer.synthetic:
            notes.append(SYNTHETIC)
        if answer.label is not None and not answer.accepted:
            notes.append(FORCED)
        return {
            "path": str(self.path),
            "accepted": answer.accepted,
            "reasons": list(answer.reasons),
            "unchecked": list(answer.unchecked),
            "burned_in": answer.burned_in,
            "label": answer.label,
            "probability": answer.probability,
            "probabilities": answer.probabilities,
            "abnormal": answer.abnormal,
            "threshold": answer.threshold,
            "distance": answer.distance,
            "bundle": answer.bundle,
            "model": self.model,
            **({"heatmap": str(self.overlay)} if self.overlay else {}),
            "note": " ".join(notes),
        }

    def as_row(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the outcome as a row of the table with :func:`columns`."""
        values = self.as_json()
        row = {name: values.get(name) for name in columns(classes)}
        for name in ("reasons", "unchecked"):
            row[name] = " ".join(values[name])
        return row | {f"p_{label}": values["probabilities"].get(label) for label in classes}


def columns(classes: Sequence[str]) -> list[str]:
    """Return the columns of the table of outcomes, in order."""
    answer = ["path", "accepted", "reasons", "label", "probability", "abnormal", "threshold"]
    gate = ["distance", "unchecked", "burned_in"]
    whose = ["bundle", "model", "error", "note"]
    return [*answer, *(f"p_{label}" for label in classes), *gate, *whose]


def find(places: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each film with the name it has below the place where it was found.

    A file is taken whatever it is called; below a folder only what could be a film is, in the order
    of the names. Hidden files are passed over. A folder that cannot be opened is yielded itself, so
    that scoring it says so.
    """
    for place in places:
        if not place.is_dir():
            yield place, Path(place.name)
            continue
        closed: list[OSError] = []
        for folder, folders, files in os.walk(place, onerror=closed.append):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder) / name
                if not name.startswith(".") and images.could_be_film(path):
                    yield path, path.relative_to(place)
        for error in closed:
            yield Path(error.filename), Path(error.filename).relative_to(place)


def score(
    predictor: "Predictor",
    films: Iterable[tuple[Path, Path]],
    overlays: Path | None = None,
    *,
    skip: Callable[[Path], bool] = lambda _: False,
) -> Iterator[Scored]:
    """Yield the outcome of each film, in order, at constant memory.

    Films are read by threads, a few batches ahead of the network. No file ends it: what cannot be
    read, for whatever reason, has that as its outcome.

    Args:
        predictor: the model.
        films: as :func:`find` yields them.
        overlays: a folder to draw heat maps to, as PNG under the films' names; None draws none.
        skip: tells which films to pass over; a heat map's name is kept free for them all the same.

    Raises:
        OSError: a heat map cannot be written.
    """
    model = version(predictor.info)
    names = _Names(overlays)
    wanted = ((path, place) for path, place in names.give(films) if not skip(path))
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="films")
    try:
        ahead: deque[tuple[Path, Path | None, Future[Prepared | str]]] = deque()

        def read_on() -> None:
            for path, place in islice(wanted, (1 + AHEAD) * BATCH - len(ahead)):
                ahead.append((path, place, pool.submit(prepared, predictor, path)))

        read_on()
        while ahead:
            batch = [ahead.popleft() for _ in range(min(BATCH, len(ahead)))]
            read = [film.result() for _, _, film in batch]
            read_on()
            readable = [film for film in read if not isinstance(film, str)]
            answers = iter(predictor.answer(readable, heatmap=overlays is not None))
            said = [None if isinstance(film, str) else next(answers) for film in read]
            drawn = [
                pool.submit(_draw, path, answer.heatmap, place)
                if place is not None and answer is not None and answer.heatmap is not None
                else None
                for (path, place, _), answer in zip(batch, said, strict=True)
            ]
            for (path, _, _), film, answer, drawing in zip(batch, read, said, drawn, strict=True):
                if isinstance(film, str):
                    yield Scored(path, None, film, model=model)
                else:
                    place = drawing.result() if drawing else None
                    yield Scored(path, answer, overlay=place, model=model)
    finally:
        pool.shutdown(cancel_futures=True)


def prepared(predictor: "Predictor", source: Path | bytes, name: str = "") -> "Prepared | str":
    """Return a film made ready for the network, or why it cannot be read; for threads.

    Args:
        predictor: the model.
        source: the file, or its bytes.
        name: the file's name as people know it; taken from the path where it is empty.
    """
    try:
        with _room(source):
            return predictor.prepare(predictor.read(source, name))
    except UnreadableImageError as error:
        if isinstance(source, Path) and source.is_dir():
            return f"The folder {source} cannot be opened. Check its permissions."
        if isinstance(error.__cause__, FileNotFoundError):  # of many paths, say which in full
            return f"There is no file {source!s}. Check its path."
        return str(error)
    except Exception as error:  # a fault of the program, which must not cost the other films
        shown = name if isinstance(source, bytes) else source.name
        return fault(PurePath(shown).name or "The file", error)


def drawn(source: Path | bytes, heatmap: explain.HeatMap, name: str = "") -> np.ndarray:
    """Return a film, at its full size, with its heat map: uint8 (height, width, 3), RGB.

    Args:
        source: as for :func:`prepared`, like ``name``.
        heatmap: computed from this film.
        name: the file's name as people know it.

    Raises:
        UnreadableImageError: as for `images.read`.
    """
    with _room(source):
        return explain.overlay(images.read(source, name).pixels, heatmap)


def _draw(path: Path, heatmap: explain.HeatMap, place: Path) -> Path | None:
    """Draw a film with its heat map into a file; return where, None if the film is gone."""
    try:
        shown = cv2.cvtColor(drawn(path, heatmap), cv2.COLOR_RGB2BGR)
    except UnreadableImageError:
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(cv2.imencode(".png", shown)[1].tobytes())
    return place


def _room(source: Path | bytes) -> AbstractContextManager[Any]:
    """Return what is held while a file is decoded: a lock for a large one."""
    try:
        large = (len(source) if isinstance(source, bytes) else source.stat().st_size) > LARGE
    except OSError:  # reading it says what is wrong
        large = False
    return _ALONE if large else nullcontext()


class _Names:
    """Gives each film a place for its heat map, no two alike: a.png, a.jpeg.png, a.jpeg-2.png.

    By the order of the films alone, so that a film has the same place whatever came of the others.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._taken: set[Path] = set()

    def give(self, films: Iterable[tuple[Path, Path]]) -> Iterator[tuple[Path, Path | None]]:
        """Yield each film's path with its place; None where nothing is drawn."""
        for path, name in films:
            yield path, None if self._folder is None else self._free(self._folder / name)

    def _free(self, film: Path) -> Path:
        choices = [film.with_suffix(".png"), film.with_name(f"{film.name}.png")]
        number = 2
        while choices[0] in self._taken:
            choices.pop(0)
            choices.append(film.with_name(f"{film.name}-{number}.png"))
            number += 1
        self._taken.add(choices[0])
        return choices[0]
