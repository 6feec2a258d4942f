"""The table of answers as CSV: safe in a spreadsheet, and gone on with after an interruption."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from cxr_core.errors import DatasetError

# What makes a spreadsheet take a cell for a formula; with a quote before it, it is text (OWASP,
# "CSV Injection").
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
_MEND = "Name another file, or leave --resume out to write this one anew."


def text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a table as CSV.

    Args:
        columns: their names, in order.
        rows: a value each.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return file.getvalue()


class AnswerTable:
    """A table of answers in a file; each row is there as soon as it is added.

    Args:
        path: the file; what it holds is replaced unless it is gone on with.
        columns: their names, in order; the first tells the films apart.
        model: what the rows of one model have in common, by column.
        resume: go on with the rows that are there; a last one that was cut off is dropped.

    Raises:
        DatasetError: the table that is there is damaged, or was not made with this model.
        OSError: the file cannot be read or written.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], model: Mapping[str, Any], *, resume: bool = False
    ) -> None:
        self._columns = list(columns)
        self._there: set[str] = set()
        begun = resume and path.exists() and self._take_over(path, model)
        mode = "a" if begun else "w"
        # Names of files may hold bytes that are no text; they are written as \udc80 and so on.
        self._file = path.open(mode, newline="", encoding="utf-8", errors="backslashreplace")
        self._writer = csv.writer(self._file)
        if not begun:
            self._writer.writerow(self._columns)
            self._file.flush()

    def __len__(self) -> int:
        """Return how many films were there when the table was opened."""
        return len(self._there)

    def has(self, film: str) -> bool:
        """Return whether a film's row was there when the table was opened."""
        return _cell(film) in self._there

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row, and see that it is there should the program end."""
        self._writer.writerow([_cell(row[name]) for name in self._columns])
        self._file.flush()

    def __enter__(self) -> "AnswerTable":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._file.close()

    def _take_over(self, path: Path, model: Mapping[str, Any]) -> bool:
        """Note the films that are there and cut off half a row; False where nothing is there."""
        rows = _whole_rows(path)
        header, end = next(rows, ([], 0))
        if not header and text(self._columns, []).encode().startswith(path.read_bytes()):
            return False  # interrupted before its first row
        if header != self._columns:
            raise DatasetError(
                f"{path} is no table of this model's answers: it has other columns. {_MEND}"
            )
        expected = {self._columns.index(name): str(_cell(value)) for name, value in model.items()}
        for row, row_end in rows:
            if any(row[place] not in ("", value) for place, value in expected.items()):
                raise DatasetError(
                    f"{path} holds answers of another model, or at another threshold. {_MEND}"
                )
            self._there.add(row[0])
            end = row_end
        os.truncate(path, end)
        return True


def _whole_rows(path: Path) -> Iterator[tuple[list[str], int]]:
    """Yield each row that ends, with the bytes up to its end; what was cut off last is none.

    Raises:
        DatasetError: a row before the last is damaged.
    """
    read, ended = 0, True

    def lines(file: io.BufferedReader) -> Iterator[str]:
        nonlocal read, ended
        for line in file:
            read += len(line)
            ended = line.endswith(b"\n")
            yield line.decode("utf-8", "replace")

    columns, halved = 0, False
    with path.open("rb") as file:
        reader = csv.reader(lines(file))
        try:
            for row in reader:
                if halved:
                    raise csv.Error  # only the last row may be half a row
                columns = columns or len(row)
                halved = len(row) != columns or not ended
                if not halved:
                    yield row, read
        except csv.Error as error:  # also where a quote never ends
            raise DatasetError(
                f"{path} is damaged before its line {reader.line_num}. {_MEND}"
            ) from error


def _cell(value: Any) -> Any:
    """Return a value as it is written; text as it can be read back and is no formula."""
    if not isinstance(value, str):
        return value
    shown = value.encode("utf-8", "backslashreplace").decode()
    return f"'{shown}" if shown.startswith(_FORMULAS) else shown
