"""Reads runs from the tables of a local MLflow store, without MLflow.

MLflow and its database layer take longer to load than the whole first page to draw, and build
objects for each of thousands of values. Whoever only looks at runs needs neither: where the store
is an SQLite file of the layout that the pinned MLflow makes, its tables are read as they are. They
are never written here. Any other store, and any other layout, is left to MLflow.
"""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

LAYOUT = "dc11669786a5"  # of the tables read here: the revision that MLflow 3.17 notes in the file

_PATIENCE = 20.0  # seconds that a writer is waited for, as MLflow does
_ACTIVE = "active"  # a run that was not deleted


class Point(NamedTuple):
    """One value of a metric."""

    step: int
    value: float
    at: int  # milliseconds since 1970


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it."""

    run_id: str
    name: str
    began: int  # milliseconds since 1970
    ended: int | None  # milliseconds since 1970
    deleted: bool
    files: str  # the address of its artefacts
    params: Mapping[str, str]
    tags: Mapping[str, str]
    latest: Mapping[str, Point]  # of each metric, the point of its highest step


class LocalRuns:
    """The runs in an SQLite file that MLflow made.

    Every call opens the file anew and for reading alone, so that any thread may ask.

    Args:
        file: the database, which may not be there yet: then it holds no runs.

    All methods raise ``sqlite3.Error`` where the file cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found_known = False

    @property
    def known(self) -> bool:
        """True where the file is not there yet, or has the layout that is read here.

        Not so while its tables are being made.
        """
        if self._found_known or not self._file.is_file():
            return True
        with self._open() as tables:
            noted = tables.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
            if noted.fetchone() is None:
                return False
            layout = tables.execute("SELECT version_num FROM alembic_version").fetchall()
        self._found_known = layout == [(LAYOUT,)]
        return self._found_known

    def experiment(self, name: str) -> tuple[str, str] | None:
        """Return id and artefact address of an experiment, None where there is none."""
        if not self._file.is_file():
            return None
        with self._open() as tables:
            found: tuple[int, str] | None = tables.execute(
                "SELECT experiment_id, artifact_location FROM experiments WHERE name = ?", (name,)
            ).fetchone()
        return found and (str(found[0]), found[1])

    def get(self, run_id: str) -> StoredRun | None:
        """Return a run, deleted or not; None where there is none."""
        if not self._file.is_file():
            return None
        with self._open() as tables:
            return next(iter(_runs(tables, "run_uuid = ?", (run_id,))), None)

    def search(self, experiment: str, tags: Mapping[str, str]) -> list[StoredRun]:
        """Return the runs of an experiment that have these tags and were not deleted.

        The newest come first.
        """
        if not self._file.is_file():
            return []
        has_tag = (
            " AND EXISTS (SELECT 1 FROM tags"
            " WHERE tags.run_uuid = runs.run_uuid AND tags.key = ? AND tags.value = ?)"
        )
        where = "experiment_id = ? AND lifecycle_stage = ?" + has_tag * len(tags)
        values = (experiment, _ACTIVE, *(text for pair in tags.items() for text in pair))
        with self._open() as tables:
            return _runs(tables, where, values)

    def history(self, run_id: str, metric: str, skip: int = 0) -> list[Point]:
        """Return a metric's points in the order of their time, but for the first ``skip``."""
        with self._open() as tables:
            return [
                _point(*row)
                for row in tables.execute(
                    "SELECT step, value, is_nan, timestamp FROM metrics"
                    " WHERE run_uuid = ? AND key = ?"
                    " ORDER BY timestamp, step, value LIMIT -1 OFFSET ?",
                    (run_id, metric, skip),
                )
            ]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        address = f"{self._file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, timeout=_PATIENCE, uri=True)) as tables:
            tables.execute("BEGIN")  # one picture of all tables, whoever writes between two looks
            yield tables


def _runs(tables: sqlite3.Connection, where: str, values: tuple[str, ...]) -> list[StoredRun]:
    """Return the runs that a condition on their table holds for, the newest first."""
    ids = f"SELECT run_uuid FROM runs WHERE {where}"
    params: defaultdict[str, dict[str, str]] = defaultdict(dict)
    tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
    latest: defaultdict[str, dict[str, Point]] = defaultdict(dict)
    for table, texts in (("params", params), ("tags", tags)):
        for run_id, key, text in tables.execute(
            f"SELECT run_uuid, key, value FROM {table} WHERE run_uuid IN ({ids})", values
        ):
            texts[run_id][key] = text
    for run_id, key, *point in tables.execute(
        "SELECT run_uuid, key, step, value, is_nan, timestamp FROM latest_metrics"
        f" WHERE run_uuid IN ({ids})",
        values,
    ):
        latest[run_id][key] = _point(*point)
    return [
        StoredRun(
            run_id=run_id,
            name=name,
            began=began,
            ended=ended,
            deleted=stage != _ACTIVE,
            files=files,
            params=params[run_id],
            tags=tags[run_id],
            latest=latest[run_id],
        )
        for run_id, name, began, ended, stage, files in tables.execute(
            "SELECT run_uuid, name, start_time, end_time, lifecycle_stage, artifact_uri"
            f" FROM runs WHERE {where} ORDER BY start_time DESC, run_uuid",
            values,
        )
    ]


def _point(step: int, value: float, is_nan: int, at: int) -> Point:
    return Point(step, math.nan if is_nan else value, at)
