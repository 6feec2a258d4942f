"""Which films of a set are one picture: the rule that audit and division both follow."""

import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from cxr_core.data import catalog as catalogs
from cxr_core.data import likeness
from cxr_core.data.catalog import Catalog, Looks

_RULE = 1  # raised when likeness.pairs changes what it finds: old results are then not used


@dataclass(frozen=True, eq=False)
class Twins:
    """The twins among a catalog's readable films, in the frame's order."""

    exact: np.ndarray  # int (n,), the group of each film; films of equal pixels share one
    near: pd.DataFrame  # pairs that are one picture without being equal, as likeness.pairs
    alike: np.ndarray  # int (n,), the group of each film; exact and near twins share one


_FOUND: WeakKeyDictionary[Catalog, Twins] = WeakKeyDictionary()


def find_twins(catalog: Catalog, looks: Looks | None = None) -> Twins:
    """Find the twins of a set: equal to the pixel, or one picture in several versions.

    What was found stays in the workspace, as to compare 100,000 films takes seconds, and with the
    catalog for as long as there is one.

    Args:
        catalog: the set.
        looks: its films' looks where they are at hand; read anew where not.

    Raises:
        DatasetError: a film changed or vanished since the scan.
    """
    if catalog in _FOUND:
        return _FOUND[catalog]
    seen = catalogs.looks(catalog) if looks is None else looks
    exact = likeness.groups(len(seen.pixels), likeness.chain(seen.pixels))
    _, kept = np.unique(exact, return_index=True)
    near = _near(catalogs.kept_file(catalog.root, f"twins-{_RULE}.npz"), seen, kept)
    alike = likeness.groups(len(exact), likeness.chain(exact), near[["first", "second"]].to_numpy())
    found = _FOUND[catalog] = Twins(exact, near, alike)
    return found


def together(patients: Sequence[str] | pd.Series, alike: np.ndarray) -> np.ndarray:
    """Return the group, 0 upwards, of each film: what must never stand on two sides.

    Films of one patient share a group, and so do twins: two patients who share a film are one.

    Args:
        patients: each film's patient, "" where unknown.
        alike: int (n,), each film's group of twins.
    """
    ids = np.asarray(patients, dtype=object)
    known = np.flatnonzero(ids != "")
    of_patients = known[likeness.chain(pd.factorize(ids[known])[0])]
    return likeness.groups(len(ids), likeness.chain(alike), of_patients)


def members(groups: np.ndarray) -> list[np.ndarray]:
    """Return the rows of every group of two or more films."""
    several = np.flatnonzero(np.bincount(groups)[groups] > 1)
    order = several[np.argsort(groups[several], kind="stable")]
    runs = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [run for run in runs if len(run)]


def _near(file: Path, looks: Looks, kept: np.ndarray) -> pd.DataFrame:
    """Return the pairs among the rows ``kept``, of different pixels each; remembered in ``file``.

    Whether two films are one picture depends on these two alone, so what was found in a set holds
    in any part of it, such as the set without its excluded films.
    """
    pixels = looks.pixels[kept]
    known = _load(file)
    if known is None or not np.isin(pixels, known["films"]).all():
        pairs = likeness.pairs(looks.thumbnails[kept])
        known = {
            "films": pixels,
            "first": pixels[pairs["first"]],
            "second": pixels[pairs["second"]],
            "view": pairs["view"].to_numpy(dtype=str),
            "correlation": pairs["correlation"].to_numpy(np.float64),
        }
        _save(file, known)
    row = pd.Series(kept, index=pixels)
    ends = np.stack([row.reindex(known[end]).to_numpy(float) for end in ("first", "second")])
    here = np.isfinite(ends).all(axis=0)
    first, second = np.sort(ends[:, here].astype(np.int64), axis=0)
    found = pd.DataFrame({"first": first, "second": second, "view": known["view"][here]})
    found["correlation"] = known["correlation"][here]
    return found.sort_values(["first", "second"], ignore_index=True)


def _load(file: Path) -> dict[str, np.ndarray] | None:
    """Return what was found before, None where nothing was or the file is damaged."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {
                name: stored[name] for name in ("films", "first", "second", "view", "correlation")
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _save(file: Path, found: dict[str, np.ndarray]) -> None:
    partial = file.with_name(f"{file.stem}-{uuid.uuid4().hex}.partial.npz")
    try:
        np.savez(partial, allow_pickle=False, **found)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
