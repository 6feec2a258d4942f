"""A folder of films -> one table, a row a film: scanned in parallel, remembered between scans.

What a set says of itself (label, part, patient) is read anew each time; what must be measured from
a film (size, hashes, exposure) is kept in the workspace until the file changes.
"""

import csv
import hashlib
import os
import stat
import uuid
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

import cv2
import numpy as np
import pandas as pd

from cxr_core import images, workspace
from cxr_core.data import patients
from cxr_core.errors import DatasetError, UnreadableImageError

COLUMNS = [
    "path",  # relative to the root, with '/'
    "label",  # upper case, "" where there is none
    "split",  # train, val, test, or "" where the set publishes none
    "patient_id",  # "" where unknown
    "width",  # px, as stored; 0 where unreadable
    "height",
    "mode",  # as in Radiograph.mode
    "bytes",
    "modified",  # UTC; NaT where the file is not there
    "md5",  # of the file's bytes
    "phash",  # perceptual hash of the film, 16 hex digits
    "mean",  # gray level, 0-255; nan where unreadable
    "std",
    "readable",
    "error",  # why not, in a sentence
]
METADATA = "metadata.csv"
REFERENCES = ("NORMAL", "NEGATIVE", "NO_FINDING", "HEALTHY")  # labels that mean "nothing found"

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_TYPES = {
    "path": "str",
    "width": "int64",
    "height": "int64",
    "mode": "str",
    "bytes": "int64",
    "modified": "datetime64[ns, UTC]",
    "md5": "str",
    "phash": "str",
    "mean": "float64",
    "std": "float64",
    "readable": "bool",
    "error": "str",
}
# Kept beside them for :func:`looks`, and only read when somebody asks.
_LOOKS = {"path": "str", "md5": "str", "pixels": "str", "thumbnail": "object"}
_MEASURES = {**_TYPES, **_LOOKS}
_Row = tuple[object, ...]  # in the order of _MEASURES
_MEASURES_VERSION = 2  # raised when a measure changes its meaning: old caches are then not used
_BATCH = 8  # films a thread measures before it reports
_NEVER = np.iinfo(np.int64).min  # NaT as an integer
THUMBNAIL = 32  # px, the side of a thumbnail
_LATEST = np.iinfo(np.int64).max  # ns; some file systems hold times that no int64 does


@dataclass(frozen=True, eq=False)
class Catalog:
    """A scanned data set: where it is, how it was understood, and a row for every film.

    Nobody changes the frame; another frame makes another catalog (``dataclasses.replace``).
    """

    root: Path
    name: str
    layout: str  # in words
    patient_rule: str  # in words
    synthetic: bool
    frame: pd.DataFrame  # COLUMNS, then the extra columns of metadata.csv; sorted by path

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The labels of the readable films, the normal-like first, then by the alphabet."""
        usable = self.frame["readable"] & (self.frame["label"] != "")
        return order_classes(self.frame.loc[usable, "label"])

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The published parts that have films: train, val, test, and "" where some are in none."""
        present = set(self.frame["split"])
        return tuple(part for part in ("train", "val", "test", "") if part in present)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row number of each film by its path."""
        return {path: row for row, path in enumerate(self.frame["path"])}

    @cached_property
    def rows_of_patient(self) -> Mapping[str, np.ndarray]:
        """The row numbers of each patient's films."""
        known = np.flatnonzero(self.frame["patient_id"] != "")
        groups = self.frame["patient_id"].iloc[known].groupby(self.frame["patient_id"].iloc[known])
        return {str(patient): known[rows] for patient, rows in groups.indices.items()}

    @cached_property
    def recognised(self) -> patients.PatientRule | None:
        """The rule of the well-known set whose file names these are, if they are any's."""
        return patients.recognise(list(self.frame["path"]))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change when a readable film, its content or its label does."""
        return self._digest(self.frame["readable"], ["path", "md5", "label"])

    @cached_property
    def patient_fingerprint(self) -> str:
        """As ``fingerprint``, and it changes too when a film's patient does."""
        return self._digest(self.frame["readable"], ["path", "md5", "label", "patient_id"])

    @cached_property
    def identity(self) -> str:
        """16 hex digits that change with any film, and with its label, part or patient."""
        every = pd.Series(True, index=self.frame.index)
        return self._digest(every, ["path", "md5", "label", "split", "patient_id"])

    def _digest(self, rows: pd.Series, columns: list[str]) -> str:
        told = self.frame.loc[rows, columns].sort_values("path")
        digest = hashlib.sha256()
        for row in told.itertuples(index=False, name=None):
            digest.update("\0".join(row).encode() + b"\n")
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Looks:
    """What films look like, for comparing them: one entry a readable film, in the frame's order."""

    pixels: np.ndarray  # str (n,), a hash of the decoded film: equal films, equal hashes
    thumbnails: np.ndarray  # uint8 (n, THUMBNAIL, THUMBNAIL), the film squashed to a square


def order_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the different labels, a normal-like one first, the rest by the alphabet."""
    found = sorted(set(labels))
    reference = next((name for name in REFERENCES if name in found), None)
    return tuple(sorted(found, key=lambda label: (label != reference, label)))


def scan(
    root: Path,
    *,
    patient_pattern: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Catalog:
    """Read a folder of films into a catalog; files that did not change are not opened again.

    Three layouts are understood: ``train|val|test/CLASS/``, plain ``CLASS/`` (both in any letter
    case, with folders inside a class if need be), and a ``metadata.csv`` with the columns path and
    label, and where known split and patient_id. Where the folder holds nothing but one such set in
    a subfolder, that subfolder is scanned. Hidden files and links out of the folder are passed
    over. The user's files are only read.

    Args:
        root: the set's folder.
        patient_pattern: regular expression searched in each path; its first group is the patient.
        progress: called in the caller's thread with (films measured, films in all).

    Raises:
        DatasetError: no such folder, no films in it, or a metadata.csv that cannot be used.
    """
    root = _innermost(_folder(root))
    layout, films = _list(root)
    column = list(films["patient_id"]) if "patient_id" in films else None
    films["patient_id"], rule = patients.identify(list(films["path"]), column, patient_pattern)

    measures = _measure(root, list(films["path"]), progress or (lambda done, total: None))
    extras = [name for name in films.columns if name not in COLUMNS]
    frame = films.merge(measures, on="path", how="left", validate="1:1").sort_values("path")
    return Catalog(
        root=root,
        name=root.name or str(root),
        layout=layout,
        patient_rule=rule,
        synthetic="synthetic" in films and bool(films["synthetic"].map(_is_true).any()),
        frame=frame[COLUMNS + extras].reset_index(drop=True),
    )


def with_patients(catalog: Catalog, pattern: str) -> Catalog:
    """Return a catalog whose patients are named by a regular expression, as by a scan with it.

    Raises:
        DatasetError: the expression is malformed, has no group or matches no path.
    """
    ids, rule = patients.identify(list(catalog.frame["path"]), None, pattern)
    return replace(catalog, frame=catalog.frame.assign(patient_id=ids), patient_rule=rule)


def looks(catalog: Catalog) -> Looks:
    """Return the looks of a catalog's readable films; the scan kept them as it decoded each film.

    Raises:
        DatasetError: a film changed or vanished since the scan.
    """
    films = catalog.frame.loc[catalog.frame["readable"], ["path", "md5"]]
    found = _looks_of(catalog.root, films)
    if found["pixels"].isna().any():  # the cache was deleted: measure again
        _measure(catalog.root, list(catalog.frame["path"]), lambda done, total: None)
        found = _looks_of(catalog.root, films)
    lost = found.loc[found["pixels"].isna(), "path"]
    if len(lost):
        raise DatasetError(
            f"{len(lost):,} films of {catalog.name} changed since they were read, such as "
            f"'{lost.iloc[0]}'. Read the set again."
        )
    thumbnails = np.frombuffer(b"".join(found["thumbnail"]), np.uint8)
    return Looks(
        pixels=found["pixels"].to_numpy(dtype=str),
        thumbnails=thumbnails.reshape(-1, THUMBNAIL, THUMBNAIL),
    )


def _looks_of(root: Path, films: pd.DataFrame) -> pd.DataFrame:
    """Return path, md5, pixels and thumbnail of films, in their order; missing where not cached."""
    return films.merge(_load(_cache_file(root), _LOOKS), on=["path", "md5"], how="left")


def kept_file(root: Path, name: str) -> Path:
    """Return where something found out about a set's films may be kept; ``name`` says what."""
    cache = _cache_file(root)
    return cache.with_name(f"{cache.stem}-{name}")


def perceptual_hash(pixels: np.ndarray) -> str:
    """Return 64 bits, as 16 hex digits, that survive resizing, re-encoding and exposure changes.

    The signs of the 8 x 8 lowest frequencies (DCT of the film at 32 x 32) against their median;
    Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions".

    Args:
        pixels: uint8 (height, width).
    """
    small = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    lowest = cv2.dct(small)[:8, :8].ravel()
    median = np.sort(lowest)[31:33].mean()  # np.median takes longer than all the rest
    return np.packbits(lowest > median).tobytes().hex()


# ---- what the set says of itself ----


def _folder(root: Path) -> Path:
    root = root.expanduser()
    if not root.exists():
        raise DatasetError(f"There is no folder {root}. Check the spelling of the path.")
    if not root.is_dir():
        raise DatasetError(f"{root} is a file. Name the folder that holds the films.")
    return root.resolve()


def _innermost(root: Path) -> Path:
    """Step into the one subfolder that an unpacked archive often wraps its set in."""
    entries = _entries(root)
    folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    if len(folders) != 1 or _as_split(folders[0].name) or _table(entries):
        return root
    if any(entry.is_file() and images.could_be_film(Path(entry.path)) for entry in entries):
        return root
    inside = _entries(root / folders[0].name)
    wraps = _table(inside) or any(_as_split(entry.name) for entry in inside if entry.is_dir())
    return _innermost(root / folders[0].name) if wraps else root


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if _visible(entry.name)]
    except OSError as error:
        raise DatasetError(
            f"The folder {folder} cannot be opened: {error.strerror}. Check its permissions."
        ) from error


def _visible(name: str) -> bool:
    return not name.startswith(".") and name.upper() != "__MACOSX"


def _table(entries: Iterable[os.DirEntry[str]]) -> str:
    """Return the name of the metadata.csv among a folder's entries, "" where there is none."""
    names = (entry.name for entry in entries if entry.is_file())
    return next((name for name in names if name.lower() == METADATA), "")


def _list(root: Path) -> tuple[str, pd.DataFrame]:
    """Return the layout in words and the films: path, label, split, and what else a table says."""
    table = _table(_entries(root))
    if table:
        return METADATA, _from_table(root, root / table)
    return _from_folders(root)


def _from_folders(root: Path) -> tuple[str, pd.DataFrame]:
    paths, links = _walk(root)
    parts = [path.split("/") for path in paths]
    if any(len(names) > 1 and _as_split(names[0]) == "train" for names in parts):
        # Beside a train folder only val and test are meant; archives carry stray copies.
        parts = [names for names in parts if len(names) > 1 and _as_split(names[0])]
    beside = len(paths) - len(parts)
    if not parts:
        raise DatasetError(
            f"There are no films in {root}. A set is a folder a class (NORMAL, PNEUMONIA), the "
            "same inside train, val and test, or a metadata.csv; files of "
            f"{', '.join(sorted(images.SUFFIXES - {''}))} are read."
            + (f" {links:,} links lead out of the folder and are not followed." if links else "")
        )
    split = [_as_split(names[0]) if len(names) > 1 else "" for names in parts]
    folders = [names[bool(part) : -1] for names, part in zip(parts, split, strict=True)]
    label = [_as_label(names[0]) if names else "" for names in folders]
    films = pd.DataFrame(
        {"path": ["/".join(names) for names in parts], "label": label, "split": split}
    )
    if any(split):
        present = [part for part in ("train", "val", "test") if part in split]
        layout = f"{_words(present)} folder{'s' * (len(present) > 1)}, a folder a class"
        return layout + (f"; films beside them, left out: {beside:,}" if beside else ""), films
    return ("a folder a class" if any(label) else "films without labels"), films


def _walk(root: Path) -> tuple[list[str], int]:
    """Return the paths of what could be films below the root, and the number of links out of it."""
    paths: list[str] = []
    links = 0
    folders = [""]
    while folders:
        folder = folders.pop()
        for entry in _entries(root / folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink() and _leads_out(entry.path, root):
                links += 1
            elif entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif images.could_be_film(Path(entry.path)):
                paths.append(_text(path, root))
    return sorted(paths), links


def _leads_out(path: str, root: Path) -> bool:
    return not Path(os.path.realpath(path)).is_relative_to(root)


def _text(path: str, root: Path) -> str:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        raise DatasetError(
            f"The file name '{shown}' in {root} is not valid UTF-8. Rename the file."
        ) from error
    return path


def _from_table(root: Path, table: Path) -> pd.DataFrame:
    text = _read_table(table)
    missing = [name for name in ("path", "label") if name not in text.columns]
    if missing:
        raise DatasetError(
            f"{table} has no column {_words(missing)}; it has {', '.join(text.columns)}. It "
            "needs path and label, and may have split and patient_id, separated by commas."
        )
    films = text.copy()
    films["path"] = _checked_paths(root, table, text["path"])
    films["label"] = [_as_label(value) for value in text["label"]]
    films["split"] = _checked_splits(table, text["split"]) if "split" in text else ""
    if "patient_id" in text:
        films["patient_id"] = text["patient_id"].str.strip()
    if not any((root / path).exists() for path in films["path"]):
        raise DatasetError(
            f"None of the {len(films):,} files that {table} names is there, such as "
            f"'{films['path'].iloc[0]}'. Paths are relative to the folder of the table."
        )
    return films


def _read_table(table: Path) -> pd.DataFrame:
    """Return the texts of a CSV file, indexed by the line each row ends on."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            numbered = [(lines.line_num, row) for row in lines if any(map(str.strip, row))]
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{table} is not written in UTF-8. Save it again as 'CSV UTF-8'."
        ) from error
    except (csv.Error, OSError) as error:
        raise DatasetError(f"{table} cannot be read as a table: {error}.") from error
    if len(numbered) < 2:
        raise DatasetError(f"{table} names no films: it needs a header and a row a film.")

    (_, header), *films = numbered
    for line, row in films:
        if len(row) != len(header):
            raise DatasetError(
                f"Line {line} of {table} has {len(row)} fields, its header {len(header)}. Put a "
                "text that holds a comma into quotes."
            )
    columns = [_column(name) for name in header]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise DatasetError(f"{table} has the column {_words(doubled)} more than once.")
    return pd.DataFrame(
        [row for _, row in films], [line for line, _ in films], columns, dtype="str"
    )


def _column(name: str) -> str:
    """Name a table's column; one that this app measures itself stays, under another name."""
    plain = name.strip()
    if plain.lower() in {"path", "label", "split", "patient_id"}:
        return plain.lower()
    return f"metadata_{plain}" if plain in COLUMNS else plain


def _checked_paths(root: Path, table: Path, column: pd.Series) -> list[str]:
    """Return the paths with '/', each inside the root and named once."""
    rows: dict[str, Hashable] = {}
    folders: dict[str, bool] = {}
    for row, value in column.items():
        given = value.strip().replace("\\", "/")
        if not given:
            raise DatasetError(f"Line {row} of {table} has no path.")
        if not _lies_inside(root, given, folders):
            raise DatasetError(
                f"Line {row} of {table} names '{value}', which lies outside {root}. Paths must be "
                "relative to that folder and stay inside it."
            )
        name = str(PurePosixPath(given))
        if name in rows:
            raise DatasetError(
                f"{table} names '{name}' twice, in lines {rows[name]} and {row}. Give each film "
                "one row."
            )
        rows[name] = row
    return list(rows)


def _lies_inside(root: Path, given: str, folders: dict[str, bool]) -> bool:
    """Whether a path stays below the root, links followed; ``folders`` remembers each folder."""
    path = PurePosixPath(given)
    if path.is_absolute() or PureWindowsPath(given).drive or ".." in path.parts or "\0" in given:
        return False
    file = root / path
    folder = str(file.parent)
    if folder not in folders:
        folders[folder] = not _leads_out(folder, root)
    return folders[folder] and not (file.is_symlink() and _leads_out(str(file), root))


def _checked_splits(table: Path, column: pd.Series) -> list[str]:
    splits = []
    for row, value in column.items():
        split = _as_split(value.strip())
        if value.strip() and not split:
            raise DatasetError(
                f"Line {row} of {table} has the split '{value}'. Allowed: train, val, test, or "
                "nothing."
            )
        splits.append(split)
    return splits


def _as_split(name: str) -> str:
    return _SPLITS.get(name.lower(), "")


def _as_label(name: str) -> str:
    return "_".join(name.upper().split())


def _is_true(value: str) -> bool:
    return value.strip().lower() in {"true", "1", "yes"}


def _words(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


# ---- what is measured from each film ----


def _measure(root: Path, paths: list[str], progress: Callable[[int, int], None]) -> pd.DataFrame:
    """Return the measured columns (_TYPES) for every path, from the cache where nothing changed."""
    cache = _cache_file(root)
    cached = _load(cache, _TYPES)
    current = _files(root, paths)
    # Unreadable films are tried again each time: a permission or a decoder may have come since.
    known = current.merge(cached, on=["path", "bytes", "modified"], how="left", validate="1:1")
    unchanged = known["readable"].notna().to_numpy()
    kept = known.loc[unchanged, list(_TYPES)].astype(_TYPES)
    changed = current[~unchanged]

    done = len(kept)
    rows: list[_Row] = []
    try:
        with closing(_measured(root, changed)) as batches:
            for batch in batches:
                progress(done, len(paths))
                rows += batch
                done += len(batch)
    finally:  # an interrupted scan of a large set goes on from here the next time
        fresh = pd.DataFrame(rows, columns=list(_MEASURES)).astype(_MEASURES)
        readable = fresh[fresh["readable"]]
        if len(kept) != len(cached) or len(readable):
            known = kept.merge(_load(cache, _LOOKS), on=["path", "md5"])
            _save(pd.concat([known, readable], ignore_index=True), cache)
    progress(done, len(paths))
    return pd.concat([kept, fresh[list(_TYPES)]], ignore_index=True)


def _files(root: Path, paths: list[str]) -> pd.DataFrame:
    """Return path, bytes and modified of each file; 0 and NaT where it is not a plain file."""
    sizes, times = [], []
    for path in paths:
        try:
            status = os.stat(f"{root}/{path}")  # noqa: PTH116 (100,000 Path objects take a second)
        except OSError:
            status = None
        plain = status is not None and stat.S_ISREG(status.st_mode)
        sizes.append(status.st_size if status and plain else 0)
        times.append(min(status.st_mtime_ns, _LATEST) if status and plain else _NEVER)
    modified = pd.to_datetime(np.array(times, np.int64), unit="ns", utc=True)
    files = pd.DataFrame({"path": paths, "bytes": sizes, "modified": modified})
    return files.astype({name: _TYPES[name] for name in files.columns})


def _measured(root: Path, files: pd.DataFrame) -> Generator[list[_Row], None, None]:
    """Yield the rows of changed films, batch by batch, measured in a pool of threads.

    Threads are enough: reading, hashing, decoding and resizing all run outside Python's lock.
    """
    rows = list(files.itertuples(index=False, name=None))
    batches = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    with ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 2)) as pool:
        yield from pool.map(lambda batch: [_measure_film(root, *row) for row in batch], batches)


def _measure_film(root: Path, path: str, size: int, modified: pd.Timestamp) -> _Row:
    """Return one row in the order of _MEASURES."""
    file = root / path
    try:
        # The reader itself refuses, by the path, what is no file or too large to load.
        loads = not pd.isna(modified) and size <= images.MAX_BYTES
        content = file.read_bytes() if loads else b""
        film = images.read(content if loads else file, file.name)
    except UnreadableImageError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{file.name} cannot be opened: {error.strerror}. Check its permissions."
    else:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        mean, std = (float(value[0, 0]) for value in cv2.meanStdDev(film.pixels))
        stored = np.ascontiguousarray(film.pixels)
        content_hash = hashlib.sha1(b"%d x %d:" % stored.shape, usedforsecurity=False)
        content_hash.update(stored.data)
        square = (THUMBNAIL, THUMBNAIL)
        thumbnail = cv2.resize(stored, square, interpolation=cv2.INTER_AREA)
        return (
            path,
            film.width,
            film.height,
            film.mode,
            size,
            modified,
            md5,
            perceptual_hash(thumbnail),
            mean,
            std,
            True,
            "",
            content_hash.hexdigest(),
            thumbnail.tobytes(),
        )
    return (path, 0, 0, "", size, modified, "", "", np.nan, np.nan, False, reason, "", b"")


def _cache_file(root: Path) -> Path:
    place = os.fsencode(root) + b"\0%d" % _MEASURES_VERSION
    key = hashlib.sha256(place).hexdigest()[:16]
    return workspace.catalog_folder() / f"{key}.parquet"


def _load(cache: Path, types: Mapping[str, str]) -> pd.DataFrame:
    """Return some columns of a cache file; no rows where it is not there yet, or damaged."""
    try:
        return pd.read_parquet(cache, columns=list(types)).astype(dict(types))
    except (OSError, ValueError, KeyError):
        return pd.DataFrame(columns=list(types)).astype(dict(types))


def _save(measures: pd.DataFrame, cache: Path) -> None:
    partial = cache.with_name(f"{cache.stem}-{uuid.uuid4().hex}.partial")
    try:
        measures.to_parquet(partial, index=False)
        partial.replace(cache)
    finally:
        partial.unlink(missing_ok=True)
