"""Which of its training films a model takes to be most like a film, by its own features.

A few hundred training films travel with a model as ``similar.npz``: where each lies among the
others, its class, and, where the licence of the films allows it, a small picture. Films are named
by the first figures of their contents' MD5, under which whoever has them finds them in
``splits.csv``; patients are numbered.

No TensorFlow: the features are computed in `single_pass`, whoever asks brings them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cxr_core.diagnosis import bundle

FEWEST = 10  # films, and patients; among fewer the nearest says nothing
SHOWN = 3  # films that are named as most alike
SAME = 0.05  # times the usual distance: nearer than this lies only the film itself

_AXES = 32  # principal directions kept of the features
_SIDE = 96  # px, of a picture
_QUALITY = 70  # of a picture's JPEG
_PICTURES = 1_500_000  # bytes of pictures in all
_ID = 8  # figures of an MD5 that name a film
_ARRAYS = ("mean", "axes", "places", "labels", "patients", "films", "pictures", "ends")


@dataclass(frozen=True)
class Neighbour:
    """A training film that lies near another film."""

    label: str  # its class
    film: str  # the first figures of its contents' MD5
    distance: float  # 1 is what lies between a training film and the nearest of another patient
    picture: bytes | None  # a small JPEG; None where the licence allows none


@dataclass(frozen=True, eq=False)
class Similar:
    """Training films by their place among a network's features."""

    layer: str  # whose vector the features are
    usual: float  # median distance between a film and the nearest of another patient
    scale: float  # root mean square distance of the features from their mean
    mean: np.ndarray  # float32 (d,), of the features
    axes: np.ndarray  # float16 (k, d), principal directions of the features
    places: np.ndarray  # float16 (n, k): where the films lie, in units of the scale
    labels: np.ndarray  # int16 (n,): the class's number
    patients: np.ndarray  # int32 (n,): films of one patient share a number
    films: np.ndarray  # str (n,)
    pictures: np.ndarray  # uint8 (bytes,): the JPEGs one after the other; empty without
    ends: np.ndarray  # int64 (n,): where each JPEG ends; all 0 without

    def nearest(self, features: np.ndarray, classes: Sequence[str]) -> tuple[Neighbour, ...]:
        """Return the training films most like a film, the nearest first, each of another patient.

        Args:
            features: float32 (d,), the film's.
            classes: the model's class names.
        """
        place = (features - self.mean) @ self.axes.T.astype(np.float32) / self.scale
        distances = np.linalg.norm(self.places.astype(np.float32) - place, axis=1) / self.usual
        order = np.argsort(distances, kind="stable")
        _, first = np.unique(self.patients[order], return_index=True)
        return tuple(
            Neighbour(
                classes[self.labels[row]],
                str(self.films[row]),
                float(distances[row]),
                self._picture(row),
            )
            for row in order[np.sort(first)[:SHOWN]]
        )

    def save(self, path: Path) -> None:
        """Write the films as an ``.npz`` file of plain arrays."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                layer=np.array(self.layer),
                numbers=np.array([self.usual, self.scale]),
                **arrays,
            )

    def _picture(self, row: int) -> bytes | None:
        begin = int(self.ends[row - 1]) if row else 0
        return self.pictures[begin : int(self.ends[row])].tobytes() or None


def load(data: bytes, source: str) -> Similar:
    """Read what `Similar.save` wrote.

    Args:
        data: the file's contents.
        source: names the file in errors.

    Raises:
        BundleError: it is damaged.
    """
    with bundle.stored_arrays(data, source) as stored:
        arrays = {name: stored[name] for name in _ARRAYS}
        layer = str(stored["layer"])
        usual, scale = (float(number) for number in stored["numbers"])
        n, k, d = len(arrays["places"]), len(arrays["axes"]), len(arrays["mean"])
        shapes = {
            "axes": (k, d),
            "places": (n, k),
            **dict.fromkeys(("labels", "patients", "films", "ends"), (n,)),
        }
        if any(arrays[name].shape != shape for name, shape in shapes.items()):
            raise ValueError("its arrays do not fit together")
        return Similar(layer=layer, usual=usual, scale=scale, **arrays)


def pictures(squares: Iterable[np.ndarray]) -> list[bytes]:
    """Return small JPEGs of films, of as many of the first as there is room for in a bundle.

    Args:
        squares: films, uint8 (size, size).
    """
    made: list[bytes] = []
    room = _PICTURES
    for square in squares:
        small = cv2.resize(
            np.ascontiguousarray(square), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA
        )
        jpeg = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))[1].tobytes()
        room -= len(jpeg)
        if room < 0:
            break
        made.append(jpeg)
    return made


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    patients: np.ndarray,
    md5: Sequence[str],
    layer: str,
    shown: Sequence[bytes] = (),
) -> Similar:
    """Lay out training films by their features.

    The features lose what lies outside their principal directions, and are weighed as the network
    made them: a channel that varies more among its training films counts for more.

    Args:
        features: float32 (n, d), the films'.
        labels: int (n,), the class's number.
        patients: int (n,), films of one patient share a number.
        md5: of each film's contents.
        layer: whose vector the features are.
        shown: a small JPEG a film, or none at all.

    Raises:
        ValueError: fewer than `FEWEST` films or patients, or features that are all alike.
    """
    several = len(np.unique(patients))
    if several < FEWEST:
        raise ValueError(f"{len(features)} films of {several} patients are too few")
    mean = features.mean(axis=0, dtype=np.float64)
    off = features - mean
    scale = float(np.sqrt((off**2).sum(axis=1).mean()))
    if not scale > 0:
        raise ValueError("the network gives all films the same features")
    axes = _principal(off).astype(np.float16)
    places = (off @ axes.T.astype(np.float64) / scale).astype(np.float16)
    return Similar(
        layer=layer,
        usual=_usual(places.astype(np.float32), patients),
        scale=scale,
        mean=mean.astype(np.float32),
        axes=axes,
        places=places,
        labels=labels.astype(np.int16),
        patients=patients.astype(np.int32),
        films=np.array([each[:_ID] for each in md5]),
        pictures=np.frombuffer(b"".join(shown), np.uint8),
        ends=np.cumsum([len(each) for each in shown] or np.zeros(len(places)), dtype=np.int64),
    )


def _principal(off: np.ndarray) -> np.ndarray:
    """Return the principal directions of centred features (n, d), a row each, at most `_AXES`.

    By the covariance of whichever are fewer, the channels or the films: of 1,280 channels and 50
    films the other takes seconds.
    """
    from scipy.linalg import eigh  # slow to load, and no page opens with it

    films, channels = off.shape
    fewer = min(films, channels)
    wanted = (fewer - min(_AXES, fewer), fewer - 1)
    if channels <= films:
        directions: np.ndarray = eigh(off.T @ off, subset_by_index=wanted)[1].T
        return directions
    variances, weights = eigh(off @ off.T, subset_by_index=wanted)
    some = variances > 1e-9 * variances[-1]
    along: np.ndarray = (weights[:, some] / np.sqrt(variances[some])).T @ off
    return along


def _usual(places: np.ndarray, patients: np.ndarray) -> float:
    """Return the median distance between a film and the nearest of another patient."""
    squares = (places**2).sum(axis=1)
    apart = squares[:, None] + squares - 2 * places @ places.T
    apart[patients[:, None] == patients] = np.inf
    nearest = np.sqrt(np.maximum(apart.min(axis=1), 0))
    return max(float(np.median(nearest)), 1e-3)
