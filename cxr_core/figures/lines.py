"""The metrics of a run as figures take them: one line a metric."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Line:
    """The finite points of one metric in the order of their steps."""

    steps: np.ndarray  # (n,): epochs from 1, or batches from 1
    values: np.ndarray  # float64 (n,)
    times: np.ndarray  # float64 (n,), seconds since 1970

    def __len__(self) -> int:
        return len(self.steps)

    def at(self, kept: np.ndarray) -> "Line":
        """Return the points of these indices, or of this mask."""
        return Line(self.steps[kept], self.values[kept], self.times[kept])


Lines = Mapping[str, Line]  # by metric; one without a point may be missing

NOTHING = Line(np.empty(0), np.empty(0), np.empty(0))


def by_metric(table: pd.DataFrame) -> dict[str, Line]:
    """Return the lines of a run, from the long table that the run store gives.

    Args:
        table: Columns ``metric``, ``step``, ``value`` and ``time``.
    """
    steps = table["step"].to_numpy()
    values = table["value"].to_numpy(dtype=np.float64)
    times = table["time"].to_numpy(dtype=np.float64)
    codes, names = pd.factorize(table["metric"])
    order = np.lexsort((steps, codes))
    order = order[np.isfinite(values[order])]
    ends = np.searchsorted(codes[order], np.arange(len(names) + 1))
    return {
        str(name): Line(steps[rows], values[rows], times[rows])
        for name, start, end in zip(names, ends[:-1], ends[1:], strict=True)
        if len(rows := order[start:end])
    }


def best_epoch(lines: Lines, monitor: str) -> int | None:
    """Return the epoch whose monitored figure is the best so far, the first of equals.

    What the trainer says of it comes first: figures of films of another size do not compare.

    Args:
        lines: Of the run.
        monitor: The metric: lowest for a loss, else highest. None where it has no point yet.
    """
    said = lines.get("best_epoch", NOTHING)
    if len(said):
        return int(said.values[-1])
    line = lines.get(monitor, NOTHING)
    if not len(line):
        return None
    place = line.values.argmin() if monitor.endswith("loss") else line.values.argmax()
    return int(line.steps[place])
