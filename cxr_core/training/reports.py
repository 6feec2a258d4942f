"""Reports: the model card with its figures, of a run's own test or of an evaluation."""

import json
from pathlib import Path
from typing import Any

from cxr_core import figures
from cxr_core.diagnosis import bundle, card
from cxr_core.diagnosis.card import printed
from cxr_core.diagnosis.evaluate import Evaluated
from cxr_core.errors import CxrError, DatasetError
from cxr_core.figures import Lines
from cxr_core.training import tested
from cxr_core.training.tested import RunResult
from cxr_core.training.tracking import RunStore

PAGE_FILE = "model_card.html"
RESULTS_FILE = "evaluation.json"

_CURVES = ("train_loss", "val_loss", "train_auroc", "val_auroc", "best_epoch")


def text(said: RunResult) -> str:
    """Return a run's card as Markdown, with what its predictions tell beyond the bundle."""
    return card.render(said.info, ece_before=printed.ece_before(said.info, said.val))


def page(said: RunResult, store: RunStore) -> str:
    """Return a run's card as a page of HTML for print, with its figures."""
    return printed.html(
        said.info,
        films=said.test,
        validation=said.val,
        curves=_curves(said.info.run_id, store),
    )


def own_test(info: bundle.BundleInfo, store: RunStore) -> Evaluated:
    """Return what a model's run found on its own test films, without reading a film.

    Raises:
        DatasetError: the run is not in the store, or it had no test films.
        TrainingError: its predictions cannot be read.
    """
    known = info.run_id in {run.run_id for run in store.list()}
    said = tested.load(info.run_id, store) if known else None
    if said is None or not len(said.test) or "test" not in info.metrics:
        raise DatasetError(
            f"The model {info.name} comes without test films of its own: name a folder with "
            "labelled films to test it on."
        )
    summary: dict[str, Any] = {
        **info.metrics["test"],
        "films": "the model's own test films, as its run predicted them",
        "seen_in_training": 0,
        "excluded": 0,
        "external": False,
        "model": info.name,
        "data": info.data.name,
        "synthetic": info.data.synthetic,
    }
    return Evaluated(summary, said.test.labels, said.test.logits, said.test.probabilities)


def write(
    folder: Path, info: bundle.BundleInfo, evaluated: Evaluated, store: RunStore
) -> list[Path]:
    """Write card, page and results of an evaluation into a folder; return the files.

    Training curves and validation films come along where the model's run is in the store.

    Args:
        folder: where to; it is there already, and files of these names are replaced.
        info: what the model's bundle says.
        evaluated: what it said about the films.
        store: where runs are kept.
    """
    said = _said(info, store)
    validation = said.val if said else None
    pieces = {
        bundle.CARD_FILE: card.render(
            info, evaluation=evaluated.summary, ece_before=printed.ece_before(info, validation)
        ),
        PAGE_FILE: printed.html(
            info,
            films=evaluated,
            validation=validation,
            curves=_curves(info.run_id, store) if said else None,
            evaluation=evaluated.summary,
        ),
        RESULTS_FILE: json.dumps(evaluated.summary, indent=2, ensure_ascii=False, allow_nan=False)
        + "\n",
    }
    for name, content in pieces.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in pieces]


def _said(info: bundle.BundleInfo, store: RunStore) -> RunResult | None:
    """Return what the model's run left in the store; None where it is not, or no longer, there."""
    if not info.run_id:
        return None
    try:
        return tested.load(info.run_id, store)
    except CxrError:  # the results at hand do without
        return None


def _curves(run_id: str, store: RunStore) -> Lines:
    return figures.by_metric(store.curves(run_id, _CURVES))
