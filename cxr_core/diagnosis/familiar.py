"""What the films look like that a model knows, and whether a film is one of them.

Two questions, both fitted on a model's own training films and held to its validation films. How
does a film lie: a linear model on a tiny picture of the film tells it from itself turned and
inverted. How far is it from the training films: the Mahalanobis distance of its pooled feature maps
(Lee and others 2018, arXiv 1807.03888). The answers travel with the model as ``gate.npz``.

No TensorFlow: the maps are computed in `single_pass`, whoever asks brings them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, Self

import cv2
import numpy as np

from cxr_core.diagnosis import bundle

# What each view is, and what would mend it, as `gate.mended` takes it.
VIEWS: tuple[tuple[str, str], ...] = (
    ("upright", ""),
    ("is turned by 90° to the left", "rotate 90"),
    ("stands on its head", "rotate 180"),
    ("is turned by 90° to the right", "rotate 270"),
    ("inverted", "invert"),
)
FEWEST, FEWEST_HELD_BACK = 50, 20  # films to fit on, and to choose the threshold on
REFUSED = 0.01  # share of films like the training films that are refused for their distance

_SIDE = 16  # px; how a film lies shows at any size
_FLATTEST = 1.0  # gray levels of deviation; noise of flatter pictures is not blown up
_PENALTY = 0.01  # of the linear model, as scikit-learn's C
_ASTRAY = 0.002  # share of upright validation films that may be taken for turned ones
# Directions kept of the features. On films of 224 px and an EfficientNet-Lite0, 32 to 128 refuse
# the same pictures; without the variance of all the others, 64 refused a third fewer photographs.
_AXES = 64
_FINEST = (
    0.1  # of a channel's mean: differences well below this are taken as they are, not by ratio
)
_LEAST_SPREAD = 0.02  # of a channel, on its scale; a dead one must not decide by rounding
_KEYS = ("views", "margin", "layers", "scale", "mean", "spread", "axes", "variances", "limit")


@dataclass(frozen=True, eq=False)
class Familiar:
    """The statistics of a model's training films."""

    views: np.ndarray  # float32 (len(VIEWS), _SIDE * _SIDE + 1): weights, and a constant at the end
    margin: float  # by how much another view must score higher than upright
    layers: tuple[str, ...]  # whose averaged maps, side by side, are the features
    scale: np.ndarray  # float32 (d,), of a feature: where its scale turns from linear to log
    mean: np.ndarray  # float32 (d,), on that scale
    spread: np.ndarray  # float32 (d,), standard deviation on that scale
    axes: np.ndarray  # float16 (k, d), principal directions of the standardised features
    variances: np.ndarray  # float32 (k + 1,), along them, and last along each of all the others
    limit: float  # the distance from which on a film is refused

    def view(self, square: np.ndarray) -> int:
        """Return how a film lies: its place in `VIEWS`, 0 for upright.

        Args:
            square: uint8 (size, size), as `images.to_square` gives it.
        """
        return int(self._views(_pictures(square[None]))[0])

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Return how far films are from the training films: float64 (n,), 1 at the limit.

        Args:
            features: float32 (n, d), the averaged maps of ``layers`` side by side.
        """
        return _distances(self, features) / self.limit

    def refused(self, films: "Shown") -> np.ndarray:
        """Return which films are taken for turned or inverted, or are too far away: bool (n,)."""
        lies = self._views(films.pictures[:, 0]) > 0
        return lies | (self.distances(films.features) > 1)

    def save(self, path: Path) -> None:
        """Write the statistics as an ``.npz`` file of plain arrays."""
        arrays: dict[str, Any] = {key: np.asarray(getattr(self, key)) for key in _KEYS}
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def _views(self, pictures: np.ndarray) -> np.ndarray:
        scores = _scores(self.views, pictures)
        scores[:, 0] += self.margin
        found: np.ndarray = scores.argmax(axis=1)
        return found


def load(data: bytes, source: str) -> Familiar:
    """Read what `Familiar.save` wrote.

    Args:
        data: the file's contents.
        source: names the file in errors.

    Raises:
        BundleError: it is damaged.
    """
    with bundle.stored_arrays(data, source) as stored:
        values: dict[str, Any] = {key: stored[key] for key in _KEYS}
        d, k = len(values["mean"]), len(values["axes"])
        shapes = {
            "views": (len(VIEWS), _SIDE * _SIDE + 1),
            "scale": (d,),
            "spread": (d,),
            "axes": (k, d),
            "variances": (k + 1,),
        }
        if any(values[key].shape != shape for key, shape in shapes.items()):
            raise ValueError("its arrays do not fit together")
        return Familiar(
            **{
                **values,
                "layers": tuple(str(name) for name in values["layers"]),
                "margin": float(values["margin"]),
                "limit": float(values["limit"]),
            }
        )


@dataclass(frozen=True, eq=False)
class Shown:
    """Films with what a network makes of them, as little of each as is needed."""

    pictures: np.ndarray  # float32 (n, len(VIEWS), _SIDE * _SIDE): tiny, in every view
    features: np.ndarray  # float32 (n, d): the averaged maps of the layers side by side

    @classmethod
    def of(cls, squares: np.ndarray, features: np.ndarray, *, bars: bool) -> Self:
        """Return what is needed of films.

        Args:
            squares: uint8 (n, size, size).
            features: float32 (n, d).
            bars: whether squares may have black bars at two sides, which inverting a film leaves
                alone.
        """
        inverted = 255 - squares
        if bars:
            inverted[_bars(squares)] = 0
        views = [np.rot90(squares, turns, (1, 2)) for turns in range(4)]
        pictures = [_pictures(view) for view in (*views, inverted)]
        return cls(np.stack(pictures, axis=1), features)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the films of several parts, in their order."""
        return cls(
            np.concatenate([part.pictures for part in parts]),
            np.concatenate([part.features for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.features)


def fit(train: Shown, held_back: Shown, layers: tuple[str, ...]) -> Familiar:
    """Learn what a model's films look like.

    The features are put on a scale that is linear near zero and logarithmic above, and
    standardised; their covariance keeps the variance along the principal directions and gives all
    the others their mean (probabilistic principal components, Tipping and Bishop 1999), which
    shrinks it as Ledoit and Wolf's does and takes a tenth of the space. One distribution for all
    classes: one a class refuses the same pictures.

    Args:
        train: films that the model was trained on.
        held_back: validation films; all thresholds are chosen on them.
        layers: whose maps the features are.

    Raises:
        ValueError: fewer than `FEWEST` or `FEWEST_HELD_BACK` films.
    """
    if len(train) < FEWEST or len(held_back) < FEWEST_HELD_BACK:
        raise ValueError(
            f"{len(train)} training and {len(held_back)} validation films are too few: {FEWEST} "
            f"and {FEWEST_HELD_BACK} are needed"
        )
    views = _fit_views(train.pictures)
    scores = _scores(views, held_back.pictures[:, 0])
    astray = np.quantile(scores[:, 1:].max(axis=1) - scores[:, 0], 1 - _ASTRAY)

    features = train.features.astype(np.float64)
    scale = np.maximum(_FINEST * np.abs(features).mean(axis=0), 1e-6)
    scaled = np.arcsinh(features / scale)
    mean, spread = scaled.mean(axis=0), np.maximum(scaled.std(axis=0), _LEAST_SPREAD)
    _, lengths, axes = np.linalg.svd((scaled - mean) / spread, full_matrices=False)
    variances = lengths**2 / len(features)
    kept = min(_AXES, len(features) // 4, features.shape[1] // 2)
    others = variances[kept:].sum() / (features.shape[1] - kept)
    found = Familiar(
        views=views,
        margin=float(max(astray, 0.0)),
        layers=layers,
        scale=scale.astype(np.float32),
        mean=mean.astype(np.float32),
        spread=spread.astype(np.float32),
        axes=axes[:kept].astype(np.float16),
        variances=np.maximum([*variances[:kept], others], 1e-6).astype(np.float32),
        limit=1.0,
    )
    logs = np.log(_distances(found, held_back.features))
    # Of few films the highest quantile is luck: a log-normal distribution's counts too.
    limit = max(np.quantile(logs, 1 - REFUSED), logs.mean() + _deviations(len(logs)) * logs.std())
    return replace(found, limit=float(np.exp(limit)))


def _deviations(films: int) -> float:
    """Return how far above the mean a limit must be to hold 1 - `REFUSED` of a normal distribution.

    With a confidence of 90 %, where mean and deviation are those of so many films (a one-sided
    tolerance limit; Natrella 1963, Experimental Statistics, NBS Handbook 91).
    """
    quantile = NormalDist().inv_cdf
    share, confidence = quantile(1 - REFUSED), quantile(0.9)
    a = 1 - confidence**2 / (2 * (films - 1))
    b = share**2 - confidence**2 / films
    return float((share + np.sqrt(share**2 - a * b)) / a)


def _distances(known: Familiar, features: np.ndarray) -> np.ndarray:
    """Return the root of the mean squared deviation over all directions, each by its own."""
    scaled = np.arcsinh(features.astype(np.float64) / known.scale)
    off = (scaled - known.mean) / known.spread
    along = off @ known.axes.T.astype(np.float64)
    rest = np.maximum((off**2).sum(axis=1) - (along**2).sum(axis=1), 0)
    squared = (along**2 / known.variances[:-1]).sum(axis=1) + rest / known.variances[-1]
    distances: np.ndarray = np.sqrt(squared / off.shape[1])
    return distances


def _fit_views(pictures: np.ndarray) -> np.ndarray:
    """Fit a multinomial logistic regression that tells upright films from their other views."""
    from sklearn.linear_model import LogisticRegression

    labels = np.tile(np.arange(len(VIEWS)), len(pictures))
    model = LogisticRegression(C=_PENALTY, max_iter=200).fit(
        pictures.reshape(-1, pictures.shape[2]), labels
    )
    return np.column_stack([model.coef_, model.intercept_]).astype(np.float32)


def _bars(squares: np.ndarray) -> np.ndarray:
    """Return where rows and columns at the edges are black from end to end: bool, as squares."""
    where = np.zeros(squares.shape, bool)
    for axis in (1, 2):
        lines = np.asarray(
            squares.any(axis=3 - axis)
        )  # (n, size): whether a row or a column holds anything
        before = np.maximum.accumulate(lines, axis=1)
        after = np.maximum.accumulate(lines[:, ::-1], axis=1)[:, ::-1]
        where |= np.expand_dims(~(before & after), 3 - axis)
    return where


def _scores(views: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Return float32 (n, len(VIEWS)): log-odds up to a constant a film."""
    scores: np.ndarray = pictures @ views[:, :-1].T + views[:, -1]
    return scores


def _pictures(squares: np.ndarray) -> np.ndarray:
    """Return float32 (n, _SIDE * _SIDE): films at a few pixels, each of mean 0 and deviation 1."""
    small = [
        cv2.resize(np.ascontiguousarray(film), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        for film in squares
    ]
    rows = np.stack(small).reshape(len(small), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(rows.std(axis=1, keepdims=True), _FLATTEST)
