"""The table of answers as Parquet: a folder of parts, gone on with after an interruption."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from cxr_core.errors import DatasetError

_ROWS = 4096  # a part
_SECONDS = 30.0  # in which a row that was added is in a part
_NUMBERS = ("probability", "abnormal", "threshold", "distance")
_TRUTHS = ("accepted", "burned_in")
_MEND = "Name another folder, or leave --resume out to write this one anew."


def schema(columns: Sequence[str]) -> pa.Schema:
    """Return the types of the table with these columns, as `scoring.columns` names them."""
    return pa.schema([(name, _type(name)) for name in columns])


def _type(column: str) -> pa.DataType:
    if column in _NUMBERS or column.startswith("p_"):
        return pa.float64()
    return pa.bool_() if column in _TRUTHS else pa.string()


class AnswerParts:
    """A table of answers in a folder, as part-00000.parquet and so on.

    A part is there whole or not at all. What is added is in one within half a minute: an
    interruption costs no more, and `resume` goes on after it.

    Args:
        folder: where; parts that it holds are removed unless it is gone on with.
        columns: their names, in order; the first tells the films apart.
        model: what the rows of one model have in common, by column.
        resume: go on with the parts that are there.

    Raises:
        DatasetError: a part that is there is damaged, or was not made with this model.
        OSError: the folder cannot be read or written.
    """

    def __init__(
        self, folder: Path, columns: Sequence[str], model: Mapping[str, Any], *, resume: bool
    ) -> None:
        self._folder, self._schema = folder, schema(columns)
        self._there: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._written_at = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        parts = sorted(folder.glob("part-*.parquet"))
        for unfinished in folder.glob("part-*.partial"):
            unfinished.unlink()
        for part in parts:
            if resume:
                self._take_over(part, model)
            else:
                part.unlink()
        self._number = int(parts[-1].stem.removeprefix("part-")) + 1 if parts and resume else 0

    def __len__(self) -> int:
        """Return how many films were there when the table was opened."""
        return len(self._there)

    def has(self, film: str) -> bool:
        """Return whether a film's row was there when the table was opened."""
        return text(film) in self._there

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row; it is in a part soon."""
        values = {name: row[name] for name in self._schema.names}
        self._rows.append(
            {name: text(v) if isinstance(v, str) else v for name, v in values.items()}
        )
        late = time.monotonic() - self._written_at >= _SECONDS
        if len(self._rows) >= _ROWS or late:
            self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._write()

    def _write(self) -> None:
        if self._rows:
            part = self._folder / f"part-{self._number:05d}.parquet"
            partial = part.with_suffix(".partial")
            pq.write_table(pa.Table.from_pylist(self._rows, self._schema), partial)
            partial.replace(part)
            self._number += 1
            self._rows.clear()
        self._written_at = time.monotonic()

    def _take_over(self, part: Path, model: Mapping[str, Any]) -> None:
        """Note the films that a part has."""
        try:
            names = pq.read_schema(part).names
            if names != self._schema.names:
                raise DatasetError(
                    f"{part} is no table of this model's answers: it has other columns. {_MEND}"
                )
            table = pq.read_table(part, columns=[names[0], *model])
        except pa.ArrowInvalid as error:
            raise DatasetError(f"{part} is damaged ({error}). {_MEND}") from error
        for name, value in model.items():
            if set(table.column(name).unique().to_pylist()) - {None, "", value}:
                raise DatasetError(
                    f"{part} holds answers of another model, or at another threshold. {_MEND}"
                )
        self._there.update(table.column(names[0]).to_pylist())


def text(value: str) -> str:
    """Return text that Parquet can hold, as the table in CSV has it too.

    Names of files may hold bytes that are no text.
    """
    return value.encode("utf-8", "backslashreplace").decode()
