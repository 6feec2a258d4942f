"""The gate of a run: on which films it is fitted, and what happens where that fails.

The model and its results are there already when this begins; nothing here may cost them.
"""

import logging
from typing import Any

import numpy as np

from cxr_core.config import RunConfig
from cxr_core.diagnosis import familiar
from cxr_core.diagnosis.bundle import GateInfo
from cxr_core.diagnosis.familiar import Familiar, Shown
from cxr_core.diagnosis.probing import first_line
from cxr_core.training.film_set import FilmSet, Part
from cxr_core.training.writer import RunCancelled, RunWriter
from cxr_core.zoo import registry

_log = logging.getLogger(__name__)

# More films move the limit by less than another choice of them does: with 500, 1,000 and 2,000 the
# same pictures were refused. The limit needs enough for its 99th percentile.
_TRAIN_FILMS, _VAL_FILMS = 1_000, 500
_AT_ONCE = 8  # films between two looks for a request to cancel


def fit(
    model: Any, films: FilmSet, config: RunConfig, run: RunWriter
) -> tuple[Familiar, GateInfo] | None:
    """Learn what a run's films look like; None, and a note in the run, where that is not possible.

    Args:
        model: the keras.Model that is kept; it is not changed.
        films: the run's films.
        config: the run's settings.
        run: told how far it is; a request to cancel ends it.

    Raises:
        RunCancelled: somebody asked for it.
    """
    train, val = len(films.train.rows), len(films.val.rows)
    if train < familiar.FEWEST or val < familiar.FEWEST_HELD_BACK:
        run.note(
            f"The {train:,} training and {val:,} validation films are too few to learn what the "
            f"model's films look like ({familiar.FEWEST} and {familiar.FEWEST_HELD_BACK} are "
            "needed): it cannot refuse pictures that are unlike them."
        )
        return None
    try:
        return _fit(model, films, config, run)
    except RunCancelled:
        raise
    except Exception as error:  # a training of hours must not be lost for this
        _log.exception("The gate could not be fitted.")
        run.note(f"What the model's films look like was not learned: {first_line(error)}.")
        return None


def _fit(
    model: Any, films: FilmSet, config: RunConfig, run: RunWriter
) -> tuple[Familiar, GateInfo]:
    from cxr_core.diagnosis import single_pass  # TensorFlow: for the worker alone

    cam_layer = registry.get(config.model.architecture).cam_layer
    layers = single_pass.look_layers(model, cam_layer)
    network = single_pass.SinglePass(model, (cam_layer,), layers)
    rows = {
        "train": _some(films.train, _TRAIN_FILMS, config.seed),
        "val": _some(films.val, _VAL_FILMS, config.seed),
    }
    done, total = 0, sum(len(part) for part in rows.values())

    def shown(part: np.ndarray) -> Shown:
        nonlocal done
        parts = []
        for start in range(0, len(part), _AT_ONCE):
            run.obey()
            squares = films.decoded[config.image.size][part[start : start + _AT_ONCE]]
            bars = config.image.fit == "letterbox"
            parts.append(Shown.of(squares, network.answers(squares).look, bars=bars))
            done += len(squares)
            run.progress(done, total)
        return Shown.joined(parts)

    train, val = shown(rows["train"]), shown(rows["val"])
    known = familiar.fit(train, val, layers)
    return known, GateInfo(
        train_films=len(train),
        val_films=len(val),
        val_refused=int(known.refused(val).sum()),
    )


def _some(part: Part, most: int, seed: int) -> np.ndarray:
    """Return rows of the decoded films: all of a part, or as many at random."""
    if len(part.rows) <= most:
        return part.rows
    chosen: np.ndarray = np.random.default_rng(seed).choice(part.rows, most, replace=False)
    return np.sort(chosen)
