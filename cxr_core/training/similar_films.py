"""The training films that a model will compare films with: which, and what happens where it fails.

The model and its results are there already when this begins; nothing here may cost them.
"""

import logging
from typing import Any

import numpy as np

from cxr_core.config import RunConfig
from cxr_core.diagnosis import similar
from cxr_core.diagnosis.bundle import SimilarInfo
from cxr_core.diagnosis.probing import first_line
from cxr_core.diagnosis.similar import Similar
from cxr_core.evaluation.intervals import patient_groups
from cxr_core.training.film_set import FilmSet
from cxr_core.training.writer import RunCancelled, RunWriter
from cxr_core.zoo import registry

_log = logging.getLogger(__name__)

_FILMS = 2_000  # 32 half-precision numbers each: 0.1 MB
_AT_ONCE = 8  # films between two looks for a request to cancel; bounds the memory


def fit(
    model: Any, films: FilmSet, config: RunConfig, run: RunWriter
) -> tuple[Similar, SimilarInfo] | None:
    """Lay out a run's training films; None, and a note in the run, where that is not possible.

    Args:
        model: the keras.Model that is kept; it is not changed.
        films: the run's films.
        config: the run's settings.
        run: told how far it is; a request to cancel ends it.

    Raises:
        RunCancelled: somebody asked for it.
    """
    try:
        return _fit(model, films, config, run)
    except RunCancelled:
        raise
    except ValueError as error:
        run.note(f"No training films go with the model to compare films with: {error}.")
    except Exception as error:  # a training of hours must not be lost for this
        _log.exception("The training films could not be laid out.")
        run.note(f"No training films go with the model to compare films with: {first_line(error)}.")
    return None


def _fit(
    model: Any, films: FilmSet, config: RunConfig, run: RunWriter
) -> tuple[Similar, SimilarInfo]:
    from cxr_core.diagnosis import single_pass  # TensorFlow: for the worker alone

    train = films.train
    # In random order: where pictures leave no room for all, those that are kept are any.
    chosen = np.random.default_rng(config.seed).permutation(len(train.rows))[:_FILMS]
    squares = films.decoded[config.image.size]
    shown: list[bytes] = []
    if films.provenance.pictures:
        shown = similar.pictures(squares[rows][0] for rows in train.rows[chosen, None])
        chosen = chosen[: len(shown)]
    network = single_pass.SinglePass(model, (registry.get(config.model.architecture).cam_layer,))
    found = []
    for start in range(0, len(chosen), _AT_ONCE):
        part = squares[train.rows[chosen[start : start + _AT_ONCE]]]
        found.append(network.answers(part).features)
        run.progress(start + len(part), len(chosen))
    (layer,) = network.features
    laid_out = similar.fit(
        np.concatenate(found) if found else np.empty((0, 1), np.float32),
        train.labels[chosen],
        patient_groups(len(train.rows), train.patients)[chosen],
        list(train.table["md5"].iloc[chosen]),
        layer,
        shown,
    )
    return laid_out, SimilarInfo(films=len(chosen), pictures=bool(shown))
