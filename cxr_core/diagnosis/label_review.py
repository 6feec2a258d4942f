"""Predictions to check a set's labels with, where no trained model's held-out ones are at hand."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from cxr_core.config import ImageConfig
from cxr_core.data.audit import held_out
from cxr_core.data.audit.subject import Subject
from cxr_core.data.catalog import Catalog
from cxr_core.zoo import features


def predict(
    catalog: Catalog, *, progress: Callable[[str, int, int], None] | None = None
) -> pd.DataFrame:
    """Predict every labelled film by a probe that saw neither it nor its twins or patient.

    The probe is a logistic regression on the features of a network trained on photographs. Films
    are squashed to a square, which keeps their proportions, a common shortcut, out of sight.

    Args:
        catalog: the set.
        progress: called with (what is going on, films done, films in all).

    Returns:
        ``path`` and a column of probabilities a class: what ``audit(predictions=...)`` takes.

    Raises:
        DatasetError: a class has films of fewer than two patients, or a film vanished.
        TrainingError: the network's weights are not on this machine.
    """
    from cxr_core.data import batches  # imports TensorFlow

    tell = progress or (lambda step, done, total: None)
    subject = Subject.of(catalog)
    rows = np.flatnonzero(subject.films["label"] != "")
    films = subject.films.iloc[rows].reset_index(drop=True)
    decoded = batches.decode(
        catalog.root,
        films,
        ImageConfig(size=features.SIZE, fit="squash"),
        progress=lambda done, total: tell("Decoding films", done, total),
    )
    seen = features.extract(
        decoded.pixels, progress=lambda done, total: tell("Looking at films", done, total)
    )
    tell("Predicting each film from the others", 0, len(films))
    with threadpool_limits(1):  # short matrices only wait for each other's threads
        probabilities = held_out.predict(
            seen[decoded.rows(films["md5"])], films["label"], subject.together[rows]
        )
    tell("Predicting each film from the others", len(films), len(films))
    return pd.concat([films[["path"]], probabilities], axis=1)
