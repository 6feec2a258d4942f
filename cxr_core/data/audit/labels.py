"""Checks for labels: films whose label the predictions of the others contradict.

Confident learning (Northcutt, Jiang, Chuang 2021, doi 10.1613/jair.1.12125) through cleanlab, on
predictions that each film's own label had no part in.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from cxr_core.data.audit.findings import Finding, are, check, films
from cxr_core.data.audit.subject import Subject
from cxr_core.data.catalog import order_classes
from cxr_core.errors import DatasetError

_ONE = 0.02  # probabilities may miss a sum of 1 by this, having been written to a table
_MANY = 0.03  # share of the films from which suspects are a severe matter


@check("Looking for wrong labels")
def label_suspects(subject: Subject) -> Iterator[Finding]:
    """Find films whose label is probably wrong; nothing without predictions."""
    if subject.predictions is None:
        return
    table = suspects(subject.films, subject.predictions)
    found = table[table["suspect"]]
    if found.empty:
        return
    share = len(found) / len(table)
    yield Finding(
        kind="label_suspects",
        title="Labels that may be wrong",
        severity="high" if share >= _MANY else "medium",
        count=len(found),
        paths=tuple(found["path"]),
        sentence=f"{films(len(found))} of {len(table):,} {are(len(found))} labelled unlike what a "
        "model that never saw them expects, by a margin that chance does not explain.",
        advice="Have a reader look at them, the first ones first; correct the label in "
        "metadata.csv or exclude the film.",
        details={
            "suspects": found.drop(columns="suspect").round({"quality": 4}).to_dict("records")
        },
    )


def suspects(labelled: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Rank films by how little their label fits predictions made without them.

    Args:
        labelled: ``path`` and ``label`` a film; films without a label are left out.
        predictions: ``path`` and a column of probabilities a class, named as the class; films
            without a prediction are left out.

    Returns:
        The least fitting first: ``path``, ``label``, ``expected`` (the most probable other class),
        ``quality`` (0 wrong, 1 right: cleanlab's normalised margin, with probabilities taken
        relative to what each class's own films get), ``suspect`` (one of as many films as
        confident learning estimates to be wrong).

    Raises:
        DatasetError: a class has no column, or a row is no set of probabilities.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    table = labelled.loc[labelled["label"] != "", ["path", "label"]]
    table = table.merge(predictions, on="path", validate="1:1").reset_index(drop=True)
    classes = order_classes(table["label"])
    if len(classes) < 2:
        raise DatasetError(
            "Labels can be checked only where films of at least two classes have predictions."
        )
    probabilities = _probabilities(table, classes)
    labels = table["label"].map({name: k for k, name in enumerate(classes)}).to_numpy(np.int64)
    quality = get_label_quality_scores(
        labels, probabilities, method="normalized_margin", adjust_pred_probs=True
    )
    suspect = find_label_issues(labels, probabilities, n_jobs=1)
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    ranked = table[["path", "label"]].assign(
        expected=np.array(classes)[others.argmax(axis=1)], quality=quality, suspect=suspect
    )
    return ranked.sort_values("quality", kind="stable").reset_index(drop=True)


def _probabilities(table: pd.DataFrame, classes: tuple[str, ...]) -> np.ndarray:
    missing = [name for name in classes if name not in table]
    if missing:
        raise DatasetError(
            f"The predictions have no column {missing[0]}. They need a column for each class, "
            "with its probability."
        )
    probabilities = table[list(classes)].to_numpy(np.float64)
    sums = probabilities.sum(axis=1)
    if not (np.isfinite(sums).all() and (probabilities >= 0).all()):
        raise DatasetError("The predictions hold numbers that are no probabilities (0 to 1).")
    if (np.abs(sums - 1) > _ONE).any():
        raise DatasetError(
            f"The predictions of {table['path'].iloc[int(np.abs(sums - 1).argmax())]} do not sum "
            "to 1. Give probabilities, not logits."
        )
    return probabilities / sums[:, None]
