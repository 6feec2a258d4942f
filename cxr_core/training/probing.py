"""The probes of a run: on which films, with what knowledge, and what happens where one fails.

The model and its results are there already when this begins; nothing here may cost them.
"""

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_core import images
from cxr_core.config import RunConfig
from cxr_core.data.audit.shortcut_probe import Shortcut
from cxr_core.data.audit.subject import Subject
from cxr_core.data.catalog import Catalog
from cxr_core.diagnosis import probing
from cxr_core.errors import CxrError
from cxr_core.training.film_set import FilmSet
from cxr_core.training.writer import RunCancelled, RunWriter
from cxr_core.zoo import registry

if TYPE_CHECKING:
    from cxr_core.training.network import Inference

_log = logging.getLogger(__name__)


def probe(
    model: Any,
    infer: "Inference",
    films: FilmSet,
    config: RunConfig,
    run: RunWriter,
    *,
    temperature: float,
    threshold: float,
) -> dict[str, Any] | None:
    """Probe a trained network on test films; None, and a note in the run, where that failed.

    Args:
        model: the keras.Model that is kept; it is not changed.
        infer: its logits for (films, rows).
        films: the run's films.
        config: the run's settings.
        run: told how far it is; a request to cancel ends it.
        temperature: what the bundle's logits are divided by.
        threshold: the bundle's, on the abnormal probability.

    Raises:
        RunCancelled: somebody asked for it.
    """
    test, size = films.test, config.image.size
    chosen = probing.choose(test.labels, size, config.seed)
    patients = test.patients
    sample = probing.Sample(
        squares=films.decoded[size][test.rows[chosen]],
        labels=test.labels[chosen],
        classes=films.classes,
        patients=None if patients is None else [patients[row] for row in chosen],
        temperature=temperature,
        threshold=threshold,
        seed=config.seed,
    )
    asked, total = 0, probing.passes(sample)

    def predict(squares: np.ndarray) -> np.ndarray:
        nonlocal asked
        logits = infer(squares, np.arange(len(squares)))
        asked += len(squares)
        run.progress(asked, total)
        return logits

    try:
        return probing.probe(
            sample,
            predict,
            explained=probing.Explained(
                model,
                registry.get(config.model.architecture).cam_layer,
                lesions(films.catalog, [test.table["path"].iloc[row] for row in chosen], config),
            ),
            shortcuts=shortcuts(films.catalog),
            ends=(RunCancelled,),
        )
    except RunCancelled:
        raise
    except Exception as error:  # whatever a network or a machine thinks of
        _log.exception("The network could not be probed.")
        run.note(f"What the network uses is not known: {probing.first_line(error)}")
        return None


def shortcuts(catalog: Catalog) -> tuple[Shortcut, ...]:
    """Return what size, exposure and border alone achieve on a set; nothing where unknown."""
    try:
        return Subject.of(catalog).shortcuts
    except CxrError:
        _log.exception("The set's shortcuts could not be measured.")
        return ()


def lesions(catalog: Catalog, paths: list[str], config: RunConfig) -> np.ndarray | None:
    """Return where the disease is on films that were drawn with their masks.

    Args:
        catalog: the set.
        paths: its films.
        config: the run's settings, which say how a film becomes a square.

    Returns:
        bool (n, size, size), nowhere on normal films; None for a set without masks.
    """
    if not catalog.synthetic or "mask" not in catalog.frame:
        return None
    image, root = config.image, catalog.root.resolve()
    mask_of = dict(zip(catalog.frame["path"], catalog.frame["mask"], strict=True))
    where = np.zeros((len(paths), image.size, image.size), bool)
    for place, path in enumerate(paths):
        mask = (root / (mask_of.get(path) or "")).resolve()
        if mask == root or not mask.is_relative_to(root):
            continue
        try:
            pixels = images.read(mask).pixels
        except CxrError:
            _log.exception("The lesion mask of '%s' cannot be read.", path)
            return None
        where[place] = images.to_square(pixels, image.size, image.fit) > 127
    return where if where.any() else None
