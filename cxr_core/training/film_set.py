"""The films of a run: scanned, divided, decoded, and recorded with the run."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_core import images
from cxr_core.config import RunConfig
from cxr_core.data import batches, exclusions, sources, splits
from cxr_core.data.catalog import Catalog
from cxr_core.diagnosis import bundle
from cxr_core.errors import TrainingError
from cxr_core.training import losses
from cxr_core.training.tracking import TAG_DATA, TAG_SYNTHETIC
from cxr_core.training.writer import RunWriter


@dataclass(frozen=True, eq=False)
class Part:
    """The films of one side of the split, a row each in all three."""

    table: pd.DataFrame  # path, label, split, patient_id, md5
    labels: np.ndarray  # int (n,), number in the classes
    rows: np.ndarray  # int (n,), row in the decoded films

    @property
    def patients(self) -> list[str] | None:
        """The films' patients, None where not one is known."""
        patients = self.table["patient_id"]
        return list(patients) if patients.ne("").any() else None


@dataclass(frozen=True, eq=False)
class FilmSet:
    """Everything a training needs to know of its data."""

    classes: tuple[str, ...]  # the reference class first
    decoded: Mapping[int, images.Squares]  # side in px -> uint8 (m, side, side)
    split: pd.DataFrame  # all three sides in one table
    train: Part
    val: Part
    test: Part
    provenance: bundle.DataInfo
    catalog: Catalog  # all that is known of every film, without those left out
    # What is learned of each training film, float32 (n, outputs); None where that is its label.
    targets: np.ndarray | None = None

    @property
    def outputs(self) -> int:
        """Logits of a network for these classes: one for two, else one a class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    def training(self, config: RunConfig, size: int) -> batches.TrainingBatches:
        """Return the training batches as configured, of films of ``size`` px."""
        labels, targets = self.train.labels, self.targets
        return batches.TrainingBatches(
            pixels=self.decoded[size],
            rows=self.train.rows,
            targets=losses.encode(labels, self.outputs) if targets is None else targets,
            weights=losses.film_weights(labels, config.optimise.balance),
            batch_size=config.optimise.batch_size,
            augment=config.augment,
            seed=config.seed,
            balanced=labels if config.optimise.balance == "oversample" else None,
        )


def read_films(config: RunConfig, run: RunWriter, sizes: Iterable[int]) -> FilmSet:
    """Scan, divide and decode the films to squares of each size, and record what they are.

    Raises:
        DatasetError: there is no usable data set.
        TrainingError: the run was resumed, and its films are not what they were.
    """

    def tell(step: str, done: int, total: int) -> None:
        run.phase(step[0].lower() + step[1:])
        run.progress(done, total)

    opened = sources.open_catalog(
        config.data.root, patient_pattern=config.data.patient_pattern, progress=tell
    )
    catalog, left_out = exclusions.without(opened)
    split = splits.cut(catalog, config.data, config.seed)
    fingerprint = _fingerprint(split.table)
    if run.recorded.get("split_fingerprint", fingerprint) != fingerprint:
        raise TrainingError(
            f"The films in {config.data.root}, their division or the list of excluded films have "
            "changed since the run began, so it cannot go on as the same run. Repeat it as a new "
            "one, or put the films back as they were."
        )
    run.note(*split.notes)
    if left_out:
        run.note(f"Films left out because somebody excluded them: {len(left_out):,}.")
        run.text("exclusions.csv", exclusions.as_table(left_out).to_csv(index=False))
    run.phase("decoding the films")
    films = {
        size: batches.decode(
            catalog.root,
            split.table,
            config.image.model_copy(update={"size": size}),
            progress=run.progress,
        )
        for size in sizes
    }
    row_of = films[config.image.size]  # rows are in the order of the films' md5 at every size
    classes = catalog.classes

    def part(name: str) -> Part:
        table = split.table[split.table["split"] == name].reset_index(drop=True)
        labels = table["label"].map({label: number for number, label in enumerate(classes)})
        return Part(table, labels.to_numpy(np.int64), row_of.rows(table["md5"]))

    found = FilmSet(
        classes=classes,
        decoded={size: squares.pixels for size, squares in films.items()},
        split=split.table,
        train=part("train"),
        val=part("val"),
        test=part("test"),
        provenance=_provenance(catalog, split.table, classes),
        catalog=catalog,
    )
    run.tags(
        {
            TAG_DATA: found.provenance.name,
            TAG_SYNTHETIC: str(found.provenance.synthetic).lower(),
        }
    )
    run.params(
        {
            "classes": ",".join(classes),
            "train_films": len(found.train.table),
            "val_films": len(found.val.table),
            "test_films": len(found.test.table),
            "excluded_films": len(left_out),
            "data_fingerprint": catalog.fingerprint,
            "split_fingerprint": fingerprint,
        }
    )
    return found


def _fingerprint(split: pd.DataFrame) -> str:
    """Return what two divisions share only if the same films stand on the same sides."""
    columns = split[["path", "label", "split", "md5"]].sort_values("path")
    return hashlib.sha256(columns.to_csv(index=False).encode()).hexdigest()[:16]


def _provenance(catalog: Catalog, split: pd.DataFrame, classes: tuple[str, ...]) -> bundle.DataInfo:
    counts = pd.crosstab(split["split"], split["label"])
    patients = split["patient_id"]
    known = bool(patients.ne("").all())
    return bundle.DataInfo.model_validate(
        {
            **sources.provenance(catalog),
            "fingerprint": catalog.fingerprint,
            "counts": {
                side: {label: int(row.get(label, 0)) for label in classes}
                for side, row in counts.iterrows()
            },
            "patients": int(patients.nunique()) if known else None,
        }
    )
