"""What every benchmark is made of: cases, rounds by turns, processes with their peak, a report.

Machines are noisy and not equally free all the time. So a figure that is held against a bar is a
ratio, both sides of it are measured in turns, and its spread over the rounds stands beside it.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent

Size = Literal["smallest", "quick", "full"]  # that it runs at all; fewer rounds; what is kept

Found = TypeVar("Found")

_NAMED = ("streamlit", "tensorflow", "keras", "numpy", "opencv-python-headless", "mlflow-skinny")


@dataclass(frozen=True)
class Figure:
    """One number that a case found."""

    name: str
    value: float
    unit: str
    spread: tuple[float, float] | None = None  # the lowest and the highest of the rounds
    least: float | None = None  # the bar, where more is better
    most: float | None = None  # the bar, where less is better

    @property
    def held(self) -> bool | None:
        """Whether the bar was held; None where there is none."""
        if self.least is not None:
            return self.value >= self.least
        return None if self.most is None else self.value <= self.most

    @property
    def bar(self) -> str:
        """The bar in words, "" where there is none."""
        if self.least is not None:
            return f"at least {number(self.least)}"
        return "" if self.most is None else f"at most {number(self.most)}"


@dataclass(frozen=True)
class Case:
    """Something to measure.

    ``run`` raises `MissingError` where it cannot tell anything here.
    """

    name: str
    words: str  # what is measured, and against what
    run: Callable[["Setting"], list[Figure]]
    picture: Callable[[Sequence[Figure]], str] | None = None  # draws the figures as SVG


@dataclass(frozen=True)
class Setting:
    """What a run of the benchmarks is told."""

    size: Size = "full"
    data: Path = REPOSITORY.parent / "shared" / "data" / "kermany"  # a folder of labelled films

    def pick(self, smallest: int, quick: int, full: int) -> int:
        """Return the number that belongs to the size."""
        return {"smallest": smallest, "quick": quick, "full": full}[self.size]

    @property
    def films(self) -> Path:
        """The folder of labelled films; raises `MissingError` where there is none."""
        if not self.data.is_dir():
            raise MissingError(f"there is no folder {self.data}: name one with --data")
        return self.data


class MissingError(Exception):
    """What a case needs is not there: films, a peer, or time; the message says what."""


@dataclass
class Result:
    """What came of a case."""

    name: str
    words: str
    figures: list[Figure] = field(default_factory=list)
    seconds: float = 0.0
    missing: str = ""  # why it was left out
    fault: str = ""  # why it broke off
    machine: dict[str, Any] = field(default_factory=dict)  # as the case began


def run(cases: Iterable[Case], setting: Setting) -> Iterator[Result]:
    """Run cases one after another; yield what came of each as soon as it is known.

    A case that breaks off takes no other with it; the trace goes to stderr.
    """
    for case in cases:
        result = Result(case.name, case.words, machine=machine())
        began = time.perf_counter()
        try:
            result.figures = case.run(setting)
            if setting.size == "smallest":  # far from what the bars are for
                result.figures = [replace(each, least=None, most=None) for each in result.figures]
        except MissingError as reason:
            result.missing = str(reason)
        except Exception as error:
            traceback.print_exc()
            result.fault = traceback.format_exception_only(error)[-1].strip()
        result.seconds = time.perf_counter() - began
        yield result


# -- measuring -------------------------------------------------------------------------------------


def seconds(work: Callable[[], object], times: int, warm_up: int = 1) -> list[float]:
    """Return how long each of ``times`` calls took, after ``warm_up`` that are not counted."""
    for _ in range(warm_up):
        work()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


def by_turns(sides: Mapping[str, Callable[[], Found]], rounds: int) -> dict[str, list[Found]]:
    """Measure all sides in turns, every other round backwards; return what each found by round."""
    found: dict[str, list[Found]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(sides[name]())
    return found


def ratio(
    name: str,
    mine: Sequence[float],
    theirs: Sequence[float],
    *,
    least: float | None = None,
    most: float | None = None,
) -> Figure:
    """Return the median of the rounds' ratios with its spread."""
    rounds = [one / other for one, other in zip(mine, theirs, strict=True)]
    spread = (min(rounds), max(rounds)) if len(rounds) > 1 else None
    return Figure(name, statistics.median(rounds), "times", spread, least, most)


def median(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    least: float | None = None,
    most: float | None = None,
) -> Figure:
    """Return the median of several measurements with its spread."""
    spread = (min(values), max(values)) if len(values) > 1 else None
    return Figure(name, statistics.median(values), unit, spread, least, most)


# A process's own peak. The system's account of a child begins with its parent's memory.
_PEAK = """
import re as _re
with open("/proc/self/status") as _status:
    _found["peak_mib"] = int(_re.search(r"VmHWM:\\s*(\\d+) kB", _status.read())[1]) / 1024
import json as _json
print(_json.dumps(_found))
"""


def process(
    code: str, *arguments: str, python: str = sys.executable, **environment: str
) -> dict[str, Any]:
    """Run code in a process of its own.

    Args:
        code: leaves what it found in a dict ``_found``; finds ``arguments`` in ``sys.argv[1:]``.
        arguments: plain text.
        python: the interpreter.
        environment: variables beside those of this process; where runs are recorded is no
            business of a benchmark.

    Returns:
        What it found, with ``peak_mib``, the peak of its resident memory (Linux).

    Raises:
        RuntimeError: it failed; the message is what it wrote to stderr.
    """
    own = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [python, "-c", code + _PEAK, *arguments],
        env={
            **own,
            "PYTHONPATH": str(REPOSITORY),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


_CALL = """
import importlib, json, sys
_module, _name, _arguments = sys.argv[1:]
_found = getattr(importlib.import_module(_module), _name)(*json.loads(_arguments))
"""


def call(
    function: Callable[..., Mapping[str, Any]], *arguments: str | int | float, **environment: str
) -> dict[str, Any]:
    """Call a function of a benchmark's module as `process` runs code; return what that does."""
    given = json.dumps(arguments)
    return process(_CALL, function.__module__, function.__name__, given, **environment)


# -- the report ------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Return what figures are measured on, and how busy that is with other work."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "load": round(os.getloadavg()[0], 2),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _NAMED},
    }


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        found = re.search(r"model name\s*:\s*(.+)", described.read_text(encoding="utf-8"))
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def told(result: Result) -> str:
    """Return what came of a case, for a terminal."""
    lines = [f"{result.name}: {result.words} ({result.seconds:.0f} s)"]
    if result.missing:
        lines.append(f"  left out: {result.missing}")
    if result.fault:
        lines.append(f"  BROKE OFF: {result.fault}")
    for figure in result.figures:
        spread = f" ({' to '.join(map(number, figure.spread))})" if figure.spread else ""
        held = {True: ", held", False: ", MISSED", None: ""}[figure.held]
        bar = f"; bar {figure.bar}{held}" if figure.bar else ""
        lines.append(f"  {figure.name}: {number(figure.value)} {figure.unit}{spread}{bar}")
    return "\n".join(lines)


def summed_up(results: Sequence[Result]) -> str:
    """Return how many bars were held, which were not, what was left out, and the time of all."""
    held = [figure.held for result in results for figure in result.figures]
    lines = [
        f"{sum(result.seconds for result in results) / 60:.1f} minutes, {len(results)} cases; "
        f"of {len(held) - held.count(None)} bars {held.count(True)} held"
    ]
    for result in results:
        lines += [
            f"  missed: {result.name}: {figure.name}: {number(figure.value)} {figure.unit}, "
            f"bar {figure.bar}"
            for figure in result.figures
            if figure.held is False
        ]
        if result.missing:
            lines.append(f"  left out: {result.name}: {result.missing}")
        if result.fault:
            lines.append(f"  broke off: {result.name}: {result.fault}")
    return "\n".join(lines)


def number(value: float) -> str:
    """Return three figures that tell, with an exponent only where they would all be zeros."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if 0 < abs(value) < 0.01:
        return f"{value:.1e}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
