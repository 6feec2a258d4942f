"""What is seen of an epoch: which classes are confused, and what the network looks at."""

import json
from typing import Protocol

import cv2
import keras
import numpy as np

from cxr_core.diagnosis import explain
from cxr_core.evaluation.scores import abnormal
from cxr_core.training.film_set import FilmSet
from cxr_core.training.writer import RunWriter

VALIDATION, ATTENTION = "validation", "attention"  # the artefacts' folders
_FILMS = 6  # whose heat maps are kept
_SIDE = 200  # px, of a film in the strip
_BINS = 20  # of the histogram of probabilities


class HasProbabilities(Protocol):
    """What computes probabilities and keeps the last."""

    probabilities: np.ndarray


class EpochPictures(keras.callbacks.Callback):
    """Keeps, for every epoch, figures of the validation films and the heat maps of a few of them.

    Artefacts: ``validation/0007.json`` (confusion at the most probable class, rows truth, columns
    answer; histogram of the abnormal probability by true class, not calibrated),
    ``attention/0007.jpg`` (the same films side by side under their heat maps; 0000 before the first
    epoch), ``attention/films.json`` (which films they are).

    Args:
        run: where the artefacts go.
        films: the run's films.
        size: side of the squares in this stage, px.
        cam_layer: layer whose maps are weighed.
        validate: holds the validation films' probabilities as last computed, ``(n, classes)``.
    """

    def __init__(
        self,
        run: RunWriter,
        films: FilmSet,
        size: int,
        cam_layer: str,
        validate: HasProbabilities,
    ) -> None:
        super().__init__()
        self._run = run
        self._films = films
        self._cam_layer = cam_layer
        self._validate = validate
        self._shown = shown(films.val.labels)
        self._squares = films.decoded[size][films.val.rows[self._shown]]
        self._maps: explain.Maps

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Say which films are shown, and show them as the network sees them now."""
        self._maps = explain.traced(self.model, [self._cam_layer])
        table = self._films.val.table.iloc[self._shown][["path", "label"]]
        self._run.later(f"{ATTENTION}/films.json", table.to_json(orient="records").encode())

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show what an untrained network looks at."""
        if epoch == 0:
            self._show(0)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep what the validation gave, and the heat maps."""
        summary = epoch_summary(
            epoch + 1, self._films.val.labels, self._validate.probabilities, self._films.classes
        )
        self._run.later(f"{VALIDATION}/{epoch + 1:04}.json", json.dumps(summary).encode())
        self._show(epoch + 1)

    def _show(self, epoch: int) -> None:
        classes = len(self._films.classes)
        # Evidence for the film's own finding; on normal films for the first finding there is.
        targets = [max(1, int(label)) for label in self._films.val.labels[self._shown]]
        selectors = np.stack([explain.selector(target, classes) for target in targets])
        (maps,) = self._maps(self._squares.astype(np.float32)[..., None], selectors)
        strip = np.hstack(
            [
                overlaid(square, cells, self._films.classes[target])
                for square, cells, target in zip(self._squares, maps, targets, strict=True)
            ]
        )
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(strip, cv2.COLOR_RGB2BGR))
        self._run.later(f"{ATTENTION}/{epoch:04}.jpg", jpeg.tobytes())


def shown(labels: np.ndarray) -> np.ndarray:
    """Return the places of up to six films, taking turns among the classes in their order."""
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    chosen = np.lexsort((labels, turn))[:_FILMS]
    return chosen[np.argsort(labels[chosen], kind="stable")]


def epoch_summary(
    epoch: int, labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]
) -> dict[str, object]:
    """Return confusion and histogram of an epoch, as plain values.

    Args:
        epoch: counted from 1.
        labels: true classes (n,).
        probabilities: (n, classes), not calibrated.
        classes: their names, the reference class first.
    """
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    edges = np.linspace(0, 1, _BINS + 1)
    scores = abnormal(probabilities)
    return {
        "epoch": epoch,
        "classes": list(classes),
        "confusion": confusion.tolist(),
        "edges": edges.round(4).tolist(),
        "histogram": {
            name: np.histogram(scores[labels == number], edges)[0].tolist()
            for number, name in enumerate(classes)
        },
    }


def overlaid(square: np.ndarray, cells: np.ndarray, target: str) -> np.ndarray:
    """Return a film under its heat map, uint8 (side, side, 3), RGB, at the strip's size."""
    # The square is all there is.
    heatmap = explain.assemble([cells], target=target, fit="squash", size=_SIDE)
    film = cv2.resize(square, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return explain.overlay(film, heatmap)
