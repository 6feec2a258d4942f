"""How well what is no anatomy (size, file, exposure, border) predicts the class of a film."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_core.data.audit import held_out
from cxr_core.data.catalog import order_classes

FEATURES = (
    "width",
    "height",
    "aspect_ratio",
    "colour_mode",
    "file_size",
    "mean",
    "std",
    "border",
)
FOLDS = 5
BORDER = 2  # px of a thumbnail's 32
_MOST = 20_000  # films; more would not move an AUROC by 0.01
_SEED = 0
_RIDGE = 0.02  # of the inputs' variance: 240 border pixels must not learn 50 films by heart
_CERTAIN = 3.0  # standard errors above 0.5 that no set without the shortcut reaches


@dataclass(frozen=True)
class Shortcut:
    """What one feature alone achieves."""

    feature: str  # one of FEATURES
    auroc: float  # of the class it tells best from the rest; 0.5 is chance
    label: str  # that class
    by_class: dict[str, float]  # AUROC, one class against the rest
    certain: bool  # more than chance can explain


def probe(films: pd.DataFrame, thumbnails: np.ndarray, groups: np.ndarray) -> tuple[Shortcut, ...]:
    """Predict the label from each feature alone, 5-fold, no group on both sides.

    A single number is ranked among the training films and enters a ridge regression on the
    classes with its square, so that a class both smaller and larger than the rest is seen; the
    colour mode enters by category, the border as its pixels. The AUROC is the mean of the folds'.

    Args:
        films: labelled rows of a catalog's frame.
        thumbnails: uint8 (n, side, side).
        groups: int (n,), what must stay together.

    Returns:
        A result a feature, in the order of FEATURES; none where fewer than two classes have two
        groups each.
    """
    films, thumbnails, groups = _enough(films, thumbnails, groups)
    classes = order_classes(films["label"])
    labels = films["label"].map({name: k for k, name in enumerate(classes)}).to_numpy(np.int64)
    fold = held_out.folds(labels, groups, FOLDS, _SEED)
    if len(classes) < 2 or len(np.unique(fold)) < 2:
        return ()
    chance = {
        name: _standard_error(len(np.unique(groups[labels == k])), len(np.unique(groups)))
        for k, name in enumerate(classes)
    }
    found = []
    for feature in FEATURES:
        scores = _aurocs(feature, films, thumbnails, labels, fold)
        by_class = dict(zip(classes, scores, strict=True))
        label = max(by_class, key=lambda name: by_class[name])
        certain = by_class[label] - 0.5 > _CERTAIN * chance[label]
        found.append(Shortcut(feature, by_class[label], label, by_class, certain))
    return tuple(found)


def _enough(
    films: pd.DataFrame, thumbnails: np.ndarray, groups: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Leave out classes of a single group, and draw from a set larger than needed."""
    several = pd.Series(groups).groupby(films["label"].to_numpy()).nunique() > 1
    usable = np.flatnonzero(films["label"].map(several).to_numpy(bool))
    if len(usable) > _MOST:
        usable = np.sort(np.random.default_rng(_SEED).choice(usable, _MOST, replace=False))
    return films.iloc[usable], thumbnails[usable], groups[usable]


def _aurocs(
    feature: str,
    films: pd.DataFrame,
    thumbnails: np.ndarray,
    labels: np.ndarray,
    fold: np.ndarray,
) -> list[float]:
    """Return the AUROC of each class against the rest, mean of the folds; 0.5 where undefined."""
    values = _values(feature, films, thumbnails)
    truth = np.equal.outer(labels, np.arange(labels.max() + 1))
    scores: list[list[float]] = [[] for _ in truth.T]
    for train, test in held_out.sides(fold):
        inputs = _inputs(feature, values, train)
        predicted = _regress(inputs[train], truth[train], inputs[test])
        for of_class, is_class, score in zip(scores, truth[test].T, predicted.T, strict=True):
            if 0 < is_class.sum() < len(is_class):
                of_class.append(_auroc(is_class, score))
    return [float(np.mean(each)) if each else 0.5 for each in scores]


def _regress(inputs: np.ndarray, truth: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Return what a ridge regression on the class indicators says of unseen films (n, classes)."""
    mean, prior = inputs.mean(axis=0), truth.mean(axis=0)
    centred = inputs - mean
    square = centred.T @ centred + _RIDGE * len(inputs) * np.eye(inputs.shape[1])
    return (unseen - mean) @ np.linalg.solve(square, centred.T @ (truth - prior))


def _auroc(is_class: np.ndarray, score: np.ndarray) -> float:
    """Return the share of pairs that a score orders rightly (Mann-Whitney; ties count half)."""
    positive = int(is_class.sum())
    above = pd.Series(score).rank().to_numpy()[is_class].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (len(score) - positive)))


def _values(feature: str, films: pd.DataFrame, thumbnails: np.ndarray) -> np.ndarray:
    """Return a feature as stored: float (n,), text (n,), or the border's pixels (n, p)."""
    if feature == "border":
        ring = np.ones(thumbnails.shape[1:], bool)
        ring[BORDER:-BORDER, BORDER:-BORDER] = False
        return thumbnails[:, ring].astype(np.float32)
    if feature == "aspect_ratio":
        return (films["width"] / films["height"]).to_numpy()
    column = {"colour_mode": "mode", "file_size": "bytes"}.get(feature, feature)
    return films[column].to_numpy(dtype=None if column != "mode" else str)


def _inputs(feature: str, values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return what a linear model is given (n, d), scaled by the training films."""
    if feature == "border":
        mean, spread = values[train].mean(axis=0), values[train].std(axis=0)
        return (values - mean) / np.maximum(spread, 1.0)
    if feature == "colour_mode":
        return (values[:, None] == np.unique(values[train])).astype(float)
    ordered = np.sort(values[train])
    below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    rank = below / len(ordered) - 1  # -1 lowest, 1 highest
    return np.stack([rank, rank**2], axis=1)


def _standard_error(positive: int, whole: int) -> float:
    """Return the standard error of an AUROC where there is nothing to find (Mann-Whitney)."""
    negative = max(1, whole - positive)
    return float(np.sqrt((positive + negative + 1) / (12 * positive * negative)))
