"""What the checks look at: one set, with what several checks need measured once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from cxr_core.data import catalog as catalogs
from cxr_core.data.audit import posture, shortcut_probe
from cxr_core.data.catalog import Catalog
from cxr_core.data.splits import Split
from cxr_core.data.twins import Twins, find_twins, together


@dataclass(frozen=True, eq=False)
class Subject:
    """A set under audit."""

    catalog: Catalog
    films: pd.DataFrame  # the readable rows; ``split`` is the cut's where one was given
    looks: catalogs.Looks  # in the order of ``films``
    predictions: pd.DataFrame | None  # path, and a probability a class

    @classmethod
    def of(
        cls, catalog: Catalog, split: Split | None = None, predictions: pd.DataFrame | None = None
    ) -> "Subject":
        """Gather what is known of a set; a film that a cut leaves out has no part.

        Raises:
            DatasetError: a film changed or vanished since the scan.
        """
        films = catalog.frame[catalog.frame["readable"]].reset_index(drop=True)
        if split is not None:
            part = split.table.set_index("path")["split"]
            films["split"] = films["path"].map(part).fillna("").astype("str")
        return cls(catalog, films, catalogs.looks(catalog), predictions)

    @cached_property
    def twins(self) -> Twins:
        """Which films are one picture, by the rule that divisions follow too."""
        return find_twins(self.catalog, self.looks)

    @cached_property
    def together(self) -> np.ndarray:
        """The group of each film: films of one patient, and twins, share one."""
        return together(self.films["patient_id"], self.twins.alike)

    @cached_property
    def postures(self) -> posture.Postures:
        """How each film lies, against the others of the set."""
        return posture.judge(self.looks.thumbnails)

    @cached_property
    def shortcuts(self) -> tuple[shortcut_probe.Shortcut, ...]:
        """How well what is no anatomy tells the classes apart, a feature each."""
        labelled = np.flatnonzero(self.films["label"] != "")
        return shortcut_probe.probe(
            self.films.iloc[labelled], self.looks.thumbnails[labelled], self.together[labelled]
        )
