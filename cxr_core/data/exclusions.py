"""The list of films to leave out: kept in the workspace, honoured by training; nothing is deleted.

An entry names a film by its path and its content. A file that was replaced is another film, and is
used again until somebody excludes that one too.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from filelock import FileLock

from cxr_core import workspace
from cxr_core.data.catalog import Catalog
from cxr_core.errors import DatasetError


@dataclass(frozen=True)
class Exclusion:
    """One film to leave out."""

    path: str  # relative to the set's root
    md5: str  # of the file when it was excluded
    reason: str  # in words, such as the title of the finding
    since: str  # ISO 8601, UTC


def listed(root: Path) -> tuple[Exclusion, ...]:
    """Return a set's list, sorted by path; empty where nothing was excluded.

    Raises:
        DatasetError: the list is damaged. It is never taken for empty: films that somebody excluded
            would slip back into training.
    """
    file = _file(root)
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))["films"]
        return tuple(sorted((Exclusion(**entry) for entry in entries), key=lambda e: e.path))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"The list of excluded films {file} cannot be read ({error}). Restore it, or delete it "
            "to use all films of the set again."
        ) from error


def exclude(catalog: Catalog, films: Mapping[str, str] | Iterable[str], reason: str = "") -> int:
    """Put films on the list of their set; return how many were not there yet.

    Args:
        catalog: the set.
        films: paths, or a mapping of paths to reasons.
        reason: why, for paths without one of their own.

    Raises:
        DatasetError: the set has no film of that path.
    """
    reasons = dict(films) if isinstance(films, Mapping) else dict.fromkeys(films, reason)
    md5 = dict(zip(catalog.frame["path"], catalog.frame["md5"], strict=True))
    unknown = [path for path in reasons if path not in md5]
    if unknown:
        raise DatasetError(
            f"{catalog.name} has no film '{unknown[0]}', so it cannot be excluded. Read the set "
            "again if its files changed."
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with _locked(catalog.root):
        known = {(entry.path, entry.md5): entry for entry in listed(catalog.root)}
        before = len(known)
        for path, why in reasons.items():
            known.setdefault((path, md5[path]), Exclusion(path, md5[path], why, now))
        _save(catalog.root, known.values())
    return len(known) - before


def include(catalog: Catalog, paths: Iterable[str]) -> int:
    """Take films off the list again; return how many were on it."""
    back = set(paths)
    with _locked(catalog.root):
        before = listed(catalog.root)
        kept = [entry for entry in before if entry.path not in back]
        _save(catalog.root, kept)
    return len(before) - len(kept)


def is_excluded(catalog: Catalog) -> pd.Series:
    """Return, for each row of a catalog's frame, whether the film is on the list."""
    entries = {(entry.path, entry.md5) for entry in listed(catalog.root)}
    films = zip(catalog.frame["path"], catalog.frame["md5"], strict=True)
    return pd.Series([film in entries for film in films], index=catalog.frame.index, dtype=bool)


def without(catalog: Catalog) -> tuple[Catalog, tuple[Exclusion, ...]]:
    """Return a catalog without the films on its list, and the entries that applied.

    What is left has a fingerprint of its own, so a run on it cannot be taken for one on the whole
    set.
    """
    entries = {(entry.path, entry.md5): entry for entry in listed(catalog.root)}
    if not entries:
        return catalog, ()
    out = is_excluded(catalog)
    films = catalog.frame.loc[out, ["path", "md5"]].itertuples(index=False, name=None)
    frame = catalog.frame[~out].reset_index(drop=True)
    return replace(catalog, frame=frame), tuple(entries[film] for film in films)


def taken_along(root: Path) -> bytes | None:
    """Return a set's list as it goes to another machine, None where nothing is excluded.

    Raises:
        DatasetError: as :func:`listed`.
    """
    return _file(root).read_bytes() if listed(root) else None


def put_down(root: Path, content: bytes) -> None:
    """Make what :func:`taken_along` gave the list of a set that lies elsewhere on this machine."""
    entries = [Exclusion(**entry) for entry in json.loads(content)["films"]]
    with _locked(root):
        _save(root, entries)


def as_table(entries: Sequence[Exclusion]) -> pd.DataFrame:
    """Return entries as a table: path, md5, reason, since."""
    names = list(Exclusion.__dataclass_fields__)
    return pd.DataFrame([asdict(entry) for entry in entries], columns=names).astype("str")


def _file(root: Path) -> Path:
    key = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return workspace.exclusion_folder() / f"{key}.json"


def _locked(root: Path) -> FileLock:
    return FileLock(_file(root).with_suffix(".lock"))


def _save(root: Path, entries: Iterable[Exclusion]) -> None:
    file = _file(root)
    partial = file.with_name(f"{file.stem}-{uuid.uuid4().hex}.partial")
    content = {"root": str(root), "films": [asdict(entry) for entry in entries]}
    try:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
