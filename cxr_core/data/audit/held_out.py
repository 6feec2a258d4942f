"""Predictions for films by models that saw neither them nor their twins or patients."""

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd

from cxr_core.data.catalog import order_classes
from cxr_core.errors import DatasetError

FOLDS = 5
_STRENGTHS = (1e-4, 1e-3, 1e-2)  # inverse regularisation; which one, the given labels decide


def folds(labels: np.ndarray, groups: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Deal groups out to k folds in turn, class by class and large ones first.

    Args:
        labels: int (n,), the class of each film.
        groups: int (n,), what must stay together; a group counts for its first film's class.
        k: number of folds.
        seed: of the order.

    Returns:
        int (n,), the fold of each film.
    """
    table = pd.DataFrame({"group": groups, "label": labels})
    of_group = table.groupby("group")["label"].agg(["first", "size"])
    of_group = of_group.sample(frac=1, random_state=seed)
    of_group = of_group.sort_values(["first", "size"], ascending=[True, False], kind="stable")
    turn = of_group.groupby("first").cumcount() % k
    return turn.loc[groups].to_numpy()


def sides(fold: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, fold by fold, the rows to learn from and the rows held out."""
    for k in np.unique(fold):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def require_groups(labels: pd.Series, groups: np.ndarray) -> None:
    """Check that :func:`predict` can be asked, before features are computed for minutes.

    Raises:
        DatasetError: there are not two classes with two groups of films each.
    """
    classes = order_classes(labels)
    few = [name for name in classes if len(np.unique(groups[labels == name])) < 2]
    if few or len(classes) < 2:
        raise DatasetError(
            "Labels can be checked only where there are two classes, each with films of at least "
            f"two patients; {few[0] if few else 'one class'} has fewer."
        )


def predict(
    features: np.ndarray, labels: pd.Series, groups: np.ndarray, seed: int = 0
) -> pd.DataFrame:
    """Predict each film's class from its features by a model fitted to the other folds.

    Logistic regression on standardised features; its regularisation is the one whose held-out
    predictions fit the given labels best.

    Args:
        features: float (n, d).
        labels: text (n,).
        groups: int (n,), films that no fold may divide.
        seed: of the folds.

    Returns:
        A column a class with its probability, rows and index as ``labels``.

    Raises:
        DatasetError: a class has fewer than two groups of films.
    """
    require_groups(labels, groups)
    classes = order_classes(labels)
    from sklearn.metrics import log_loss

    truth = labels.map({name: k for k, name in enumerate(classes)}).to_numpy(np.int64)
    fold = folds(truth, groups, FOLDS, seed)
    tried = [_held_out(features, truth, fold, strength) for strength in _STRENGTHS]
    best = min(tried, key=lambda each: float(log_loss(truth, each)))
    return pd.DataFrame(best, index=labels.index, columns=list(classes))


def _held_out(
    features: np.ndarray, truth: np.ndarray, fold: np.ndarray, strength: float
) -> np.ndarray:
    """Return probabilities (n, classes), each row by the model that did not see it."""
    # Imported on need: an audit without predictions should not wait a second for scikit-learn.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probabilities = np.zeros((len(truth), int(truth.max()) + 1))
    for train, test in sides(fold):
        mean, spread = features[train].mean(axis=0), features[train].std(axis=0)
        scaled = (features - mean) / np.maximum(spread, 1e-6)
        model = LogisticRegression(C=strength, max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a ranking needs no last digit
            model.fit(scaled[train], truth[train])
        probabilities[np.ix_(test, model.classes_)] = model.predict_proba(scaled[test])
    return probabilities
