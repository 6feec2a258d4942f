"""Evaluation: a bundle on a folder of labelled films, with the honest choice of which films."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from cxr_core.data import exclusions
from cxr_core.data.catalog import Catalog
from cxr_core.diagnosis import bundle
from cxr_core.errors import DatasetError
from cxr_core.evaluation import metrics

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Predictor

Part = Literal["test", "all"]

# From this share of its films on, a folder is the one that the model was trained on. A foreign set
# may share a few byte-identical films with it, as copies travel between published sets.
KNOWN_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Selection:
    """The films to evaluate on."""

    table: pd.DataFrame  # rows of the catalog; patients as the model's own division names them
    origin: str  # why these, in a sentence
    seen: int  # films among them that the model was trained or tuned on
    excluded: int  # films among them on the data set's list of excluded films
    external: bool  # whether the model was trained on another data set


def select(catalog: Catalog, splits: pd.DataFrame | None, part: Part) -> Selection:
    """Choose the films of a data set to evaluate a model on.

    The list of excluded films changes nothing here: it belongs to this machine, and a test that it
    could shorten unseen would be worth little. How many films are on it is counted.

    Args:
        catalog: the data set.
        splits: the bundle's own division, as `bundle.read_splits` gives it; None where unknown.
        part: 'all' takes every labelled film. 'test' takes, by the files' contents, wherever they
            lie now: the data set's published test part where it is not of the model's own
            division; the model's own test films where it was trained on this data set; else all of
            a set without parts.

    Raises:
        DatasetError: there are no such films, or the list of excluded films is damaged.
    """
    frame = catalog.frame
    films = frame[frame["readable"] & frame["label"].ne("")]
    excluded = exclusions.is_excluded(catalog)
    if splits is None:
        splits = pd.DataFrame({"md5": [], "split": []}, dtype=str)
    own_test = set(splits.loc[splits["split"] == "test", "md5"])
    learned_from = set(splits.loc[splits["split"] != "test", "md5"])
    published = films[films["split"] == "test"]
    known = films["md5"].isin(set(splits["md5"])).mean() if len(films) else 0.0
    if part == "all":
        chosen, origin = films, "every labelled film"
    elif len(published) and published["md5"].isin(set(splits["md5"])).mean() < KNOWN_SHARE:
        chosen, origin = published, "the data set's test part, which is not the model's own"
    elif known >= KNOWN_SHARE:
        chosen = films[films["md5"].isin(own_test - learned_from)]
        origin = "the model's own test films: it was trained on this data set"
    elif len(splits) and not films["split"].any():
        chosen = films
        origin = "every labelled film: the set has no parts, and the model was not trained on it"
    else:
        chosen = published
        origin = "the data set's test part; the model knows films of it from another set"
    if chosen.empty:
        raise DatasetError(
            f"{catalog.root} has no test films for this model: it has no test part, and none of "
            "its films are test films of the model's run. To take every labelled film, ask for "
            "--split all."
        )
    return Selection(
        _with_known_patients(chosen, splits) if known >= KNOWN_SHARE else chosen,
        origin,
        seen=int(chosen["md5"].isin(learned_from).sum()),
        excluded=int(excluded[chosen.index].sum()),
        external=bool(known < KNOWN_SHARE),
    )


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What a model said about labelled films, and what that is worth."""

    # Of `metrics.summarise`, with ``films`` (which they are, in a sentence), ``seen_in_training``
    # (how many of them the model learned from), ``excluded`` (how many are on the data set's list
    # of excluded films; they count all the same), ``external`` (whether it is another set than the
    # model's own), ``model``, ``data`` and ``synthetic``.
    summary: dict[str, Any]
    labels: np.ndarray  # int (n,): the class's number
    logits: np.ndarray  # float64 (n, classes), before temperature
    probabilities: np.ndarray  # float64 (n, classes), calibrated


def _with_known_patients(films: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Return films with the patients that the model's run knew, which may be by a rule of its own.

    The intervals of a test are drawn by patient, and must be those of the run.
    """
    if "patient_id" not in splits:
        return films
    known = splits[splits["patient_id"] != ""].drop_duplicates("md5").set_index("md5")["patient_id"]
    return films.assign(patient_id=films["md5"].map(known).fillna(films["patient_id"]).astype(str))


def evaluate(
    predictor: "Predictor",
    folder: Path,
    catalog: Catalog,
    part: Part,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Evaluate a model on a data set.

    Args:
        predictor: the model.
        folder: its bundle, which knows the films it was trained on.
        catalog: the data set.
        part: as for :func:`select`.
        progress: called now and then with films decoded and films in all.

    Raises:
        DatasetError: there are no films to evaluate on, or they have classes that the model does
            not know.
    """
    # Decoding shares the trainer's cache, in a module that imports TensorFlow.
    from cxr_core.data import batches

    info = predictor.info
    known = (folder / bundle.SPLITS_FILE).is_file()
    chosen = select(catalog, bundle.read_splits(folder) if known else None, part)
    table = chosen.table
    unknown = sorted(set(table["label"]) - set(info.classes))
    if unknown:
        raise DatasetError(
            f"{catalog.root} has films of {_words(unknown)}, which the model {info.name} does not "
            f"know; it knows {_words(list(info.classes))}. Evaluate it on a set with these classes "
            "only, or train a model on this one."
        )
    films = batches.decode(catalog.root, table, info.image, progress=progress)
    rows = films.rows(table["md5"])
    # In pieces from the file: a large set does not fit into memory at once.
    logits = np.concatenate(
        [
            predictor.logits(films.pixels[rows[start : start + 256]])
            for start in range(0, len(rows), 256)
        ]
    )
    probabilities = metrics.probabilities(logits, info.temperature)
    labels = np.array([info.classes.index(label) for label in table["label"]], np.intp)
    summary = metrics.summarise(
        labels,
        probabilities,
        info.classes,
        info.threshold.value,
        patients=list(table["patient_id"]) if table["patient_id"].ne("").any() else None,
        # The run's own test drew with this seed: on its films the intervals are the same too.
        seed=int(info.config.get("seed", 0)),
    )
    summary |= {
        "films": chosen.origin,
        "seen_in_training": chosen.seen,
        "excluded": chosen.excluded,
        "external": chosen.external,
        "model": info.name,
        "data": catalog.name,
        "synthetic": catalog.synthetic,
    }
    return Evaluated(summary, labels, logits, probabilities)


def _words(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
