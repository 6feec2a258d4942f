"""What a run's model keeps of its films: what they look like (the gate), and some to compare with.

Both come from one pass of films through the network. The model and its results are there already
when this begins; nothing here may cost them.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cxr_core.config import RunConfig
from cxr_core.diagnosis import familiar, similar
from cxr_core.diagnosis.bundle import GateInfo, SimilarInfo
from cxr_core.diagnosis.familiar import Familiar, Shown
from cxr_core.diagnosis.probing import first_line
from cxr_core.diagnosis.similar import Similar
from cxr_core.evaluation.intervals import patient_groups
from cxr_core.training.film_set import FilmSet
from cxr_core.training.writer import RunCancelled, RunWriter
from cxr_core.zoo import registry

_log = logging.getLogger(__name__)

T = TypeVar("T")

_COMPARED = 2_000  # training films to compare with; 32 half-precision numbers each: 0.1 MB
# More films move the gate's limit by less than another choice of them does: with 500, 1,000 and
# 2,000 the same pictures were refused. The limit needs enough for its 99th percentile.
_FITTED, _HELD_BACK = 1_000, 500
_AT_ONCE = 8  # films between two looks for a request to cancel; bounds the memory


@dataclass(frozen=True, eq=False)
class KnownFilms:
    """What goes with a model, each with what its bundle says of it; None where it was not possible.

    The run's notes then say why.
    """

    gate: tuple[Familiar, GateInfo] | None = None
    similar: tuple[Similar, SimilarInfo] | None = None


def learn(model: Any, films: FilmSet, config: RunConfig, run: RunWriter) -> KnownFilms:
    """Learn what a run's films look like, and lay out its training films.

    Args:
        model: the keras.Model that is kept; it is not changed.
        films: the run's films.
        config: the run's settings.
        run: told how far it is; a request to cancel ends it.

    Raises:
        RunCancelled: somebody asked for it.
    """
    seen = _attempt(
        "The model's films could not be shown to it", run, lambda: _look(model, films, config, run)
    )
    if seen is None:
        return KnownFilms()
    return KnownFilms(
        gate=_attempt(
            "The model cannot refuse pictures unlike its films", run, lambda: _gate(seen)
        ),
        similar=_attempt(
            "No training films go with the model to compare films with",
            run,
            lambda: _lay_out(seen, films, config),
        ),
    )


def _attempt(failing: str, run: RunWriter, work: Callable[[], T]) -> T | None:
    """Do a part of it; where it fails, tell so in the run: hours of training must not be lost."""
    try:
        return work()
    except RunCancelled:
        raise
    except Exception as error:  # too few films, or whatever a network or a machine thinks of
        _log.warning("%s.", failing, exc_info=True)
        run.note(f"{failing}: {first_line(error)}.")
        return None


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a network makes of films."""

    order: np.ndarray  # int (n,), which of the training films, at random
    features: np.ndarray  # float32 (n, d), what their logits are computed from
    layer: str  # whose the features are
    train: Shown  # the first of them
    held_back: Shown  # validation films, at random
    looks: tuple[str, ...]  # the layers that the gate looks at


def _look(model: Any, films: FilmSet, config: RunConfig, run: RunWriter) -> _Seen:
    """Show a network its training and validation films, each once."""
    from cxr_core.diagnosis import single_pass  # TensorFlow: for the worker alone

    cam_layer = registry.get(config.model.architecture).cam_layer
    looks = single_pass.look_layers(model, cam_layer)
    network = single_pass.SinglePass(model, (cam_layer,), looks)
    (layer,) = network.features
    rng = np.random.default_rng(config.seed)
    order = rng.permutation(len(films.train.rows))[:_COMPARED]
    val = rng.permutation(len(films.val.rows))[:_HELD_BACK]
    squares, bars = films.decoded[config.image.size], config.image.fit == "letterbox"
    done, total = 0, len(order) + len(val)

    def show(rows: np.ndarray, fitted: int) -> tuple[Shown, np.ndarray]:
        nonlocal done
        shown, features = [], []
        for start in range(0, len(rows), _AT_ONCE):
            part = squares[rows[start : start + _AT_ONCE]]
            answers = network.answers(part)
            features.append(answers.features)
            if start < fitted:
                shown.append(Shown.of(part, answers.look, bars=bars))
            done += len(part)
            run.progress(done, total)
        return Shown.joined(shown), np.concatenate(features)

    train, features = show(films.train.rows[order], _FITTED)
    held_back, _ = show(films.val.rows[val], _HELD_BACK)
    return _Seen(order, features, layer, train, held_back, looks)


def _gate(seen: _Seen) -> tuple[Familiar, GateInfo]:
    known = familiar.fit(seen.train, seen.held_back, seen.looks)
    return known, GateInfo(
        train_films=len(seen.train),
        val_films=len(seen.held_back),
        val_refused=int(known.refused(seen.held_back).sum()),
    )


def _lay_out(seen: _Seen, films: FilmSet, config: RunConfig) -> tuple[Similar, SimilarInfo]:
    train, squares = films.train, films.decoded[config.image.size]
    chosen, shown = seen.order, list[bytes]()
    if films.provenance.pictures:
        # In random order: where pictures leave no room for all, those that are kept are any.
        shown = similar.pictures(squares[rows][0] for rows in train.rows[chosen, None])
        chosen = chosen[: len(shown)]
    laid_out = similar.fit(
        seen.features[: len(chosen)],
        train.labels[chosen],
        patient_groups(len(train.rows), train.patients)[chosen],
        list(train.table["md5"].iloc[chosen]),
        seen.layer,
        shown,
    )
    return laid_out, SimilarInfo(films=len(chosen), pictures=bool(shown))
