"""Which predictions a set's labels are checked with: a cross-validation's, or the linear probe's.

Both were made for each film by a model that saw neither it nor its patient or its twins.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_core.data import exclusions, splits
from cxr_core.data.catalog import Catalog, order_classes
from cxr_core.diagnosis import label_review
from cxr_core.errors import CxrError
from cxr_core.evaluation import metrics
from cxr_core.training import folds
from cxr_core.training.tracking import TAG_KIND, Kind, RunRecord, RunStore, Status

# AUROC below which a cross-validation is not asked: of 120 phantoms a network at 0.61 called 51
# wrongly labelled, and every one of those labels was right.
_LEAST = 0.8


@dataclass(frozen=True, eq=False)
class Source:
    """Predictions of a set's films, and where they come from."""

    predictions: pd.DataFrame  # path and a column of probabilities a class
    name: str  # in words, inside a sentence
    key: str  # another one where the predictions are others
    auroc: float  # on the labels as they are; NaN where it is undefined


def best(catalog: Catalog, store: RunStore | None) -> Source | None:
    """Return the predictions that fit a set's labels best, None where there are none yet.

    A model that tells the classes apart better finds wrong labels better.

    Args:
        catalog: the set.
        store: where runs are kept; None where it cannot be opened.
    """
    found = [source for source in (_of_folds(catalog, store), _of_probe(catalog)) if source]
    return max(found, key=lambda source: np.nan_to_num(source.auroc), default=None)


def _of_probe(catalog: Catalog) -> Source | None:
    kept = label_review.kept(catalog)
    if kept is None:
        return None
    name = "a linear model on the features of a network trained on photographs"
    return Source(kept, name, "probe", _auroc(catalog, kept))


def _of_folds(catalog: Catalog, store: RunStore | None) -> Source | None:
    """Return what the newest cross-validation of exactly these films said of them."""
    if store is None:
        return None
    try:
        left_out = exclusions.listed(catalog.root)
        parents = store.list(Status.FINISHED, tags={TAG_KIND: Kind.FOLDS})
    except CxrError:  # the store does not answer, or the list of films is damaged
        return None
    for parent in filter(folds.complete, parents):
        try:
            found = _of_parent(catalog, left_out, parent.run_id, store)
        except CxrError:  # what it kept is gone or damaged; an older one may have its own
            continue
        if found is not None:
            return found
    return None


@functools.lru_cache(maxsize=32)
def _of_parent(
    catalog: Catalog, left_out: Sequence[exclusions.Exclusion], run_id: str, store: RunStore
) -> Source | None:
    """Return a complete cross-validation's predictions; None where it is of other films, or where
    it hardly tells their classes apart.

    ``left_out`` is the set's list of excluded films: with another one the films are others.
    """
    del left_out
    parent = store.get(run_id)
    summary = folds.summary(parent, store) or {}
    used, _ = exclusions.without(catalog)
    if summary.get("data_fingerprint") != used.fingerprint:
        return None
    pooled = folds.predictions(parent, store)
    # Its patients may have been named by another rule than the page's.
    fold_of = pooled.set_index("path")["fold"]
    groups = splits.groups(used)
    sides = used.frame.loc[groups.index, "path"].map(fold_of).groupby(groups.to_numpy()).nunique()
    if (sides > 1).any():
        return None
    classes = summary["classes"]
    probabilities = pd.DataFrame(folds.probabilities(pooled, classes), columns=classes)
    predictions = pd.concat([pooled[["path"]], probabilities], axis=1)
    source = Source(predictions, _name(parent, summary), run_id, _auroc(catalog, predictions))
    return source if source.auroc >= _LEAST else None


def _name(parent: RunRecord, summary: dict[str, object]) -> str:
    network = parent.params.get("model.architecture", "a network")
    return f"the cross-validation '{parent.name}' ({network}, {summary['folds']} models)"


def _auroc(catalog: Catalog, predictions: pd.DataFrame) -> float:
    films = catalog.frame.loc[catalog.frame["label"] != "", ["path", "label"]]
    table = films.merge(predictions, on="path")
    classes = order_classes(table["label"])
    if len(classes) < 2 or not set(classes) <= set(table):
        return float("nan")
    labels = [classes.index(label) for label in table["label"]]
    return metrics.auroc(labels, table[list(classes)].to_numpy(np.float64))
