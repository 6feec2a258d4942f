"""How time and memory grow with the films of a set, the runs of a store and the points of a run.

The same work at sizes ten times apart, each in a process of its own, so that its peak memory is its
own. The exponent is the slope of time over size on logarithmic axes between the two largest sizes:
1 is linear. What a page shows a part of, such as one page of films, must not depend on the size; of
that the ratio of the largest size to the smallest is held against a bar.

Films are small (64 px), which makes reading them cheap and what is done with all of them together
dear. Runs are a tenth as many, which is still more than anybody has; all but one are copies within
the store, as MLflow would take an hour to record them. The peak of a live run's refreshes includes
the recording of its points.
"""

import math
import re
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import browser, harness
from benchmarks.harness import Case, Figure, Setting, Size

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go
    from streamlit.testing.v1 import AppTest

_MOST_EXPONENT, _MOST_RATIO = 1.1, 2.0

_FILM = 64  # px, the side
_DRAWN = 60  # phantoms that all films are variants of
_SHADOWS = 36.0  # gray levels; see `write_films`
_TURNS = 10  # pages of films that are turned to
_EPOCHS = 30  # of each run
_MODEL = "phantom_v1"  # the published model that scores
_SECONDS = {"s": 1.0, "ms": 1e-3}
_TABLES = ("runs", "tags", "params", "latest_metrics", "metrics")  # of MLflow that tell of a run

# One page of films, as the Dataset page draws it.
_GALLERY = """
import time
import streamlit as st
from cxr_core.ui import films, loaders

catalog = loaders.catalog(st.session_state["root"])
began = time.perf_counter()
films.gallery(catalog, {}, {}, {}, set())
st.session_state["took"] = time.perf_counter() - began
"""
# All runs, as the Runs page lists them.
_TABLE = """
import time
import streamlit as st
from cxr_core.training import jobs
from cxr_core.ui import loaders, run_views

store = loaders.store()
began = time.perf_counter()
runs = jobs.runs(store)
run_views.table(runs, runs[:1], key="runs")
st.session_state["took"] = time.perf_counter() - began
"""


Line = list[tuple[float, float]]  # size and value


@dataclass(frozen=True)
class Work:
    """Something whose time and memory grow, or shall not."""

    name: str
    run: Callable[[int], dict[str, float]]  # given the size; finds "seconds"
    constant: bool = False  # whether it must not depend on the size


@dataclass(frozen=True)
class Group:
    """Works in one workspace; what one leaves there the next finds."""

    sizes: Mapping[Size, tuple[int, ...]]
    works: tuple[Work, ...]
    fill: Callable[[int], dict[str, float]] | None = None  # makes its content, given the size


@dataclass(frozen=True)
class Point:
    """What one size took."""

    size: int
    seconds: float
    mib: float  # peak of resident memory


# -- what the workspaces hold ----------------------------------------------------------------------


def films(number: int) -> Iterator["np.ndarray"]:
    """Yield many small films, uint8 (side, side), each of its own content.

    They are phantoms under broad shadows drawn by chance. With shadows of this strength as many
    pairs are near enough to be compared as twins, some 300 in a million, as among the films of
    Kermany, Zhang and Goldbaum.
    """
    import cv2
    import numpy as np

    from cxr_core.data import phantom

    rng = np.random.default_rng(0)
    side = (_FILM, _FILM)
    drawn = [
        cv2.resize(phantom.draw(_label(place), rng).pixels, side, interpolation=cv2.INTER_AREA)
        for place in range(_DRAWN)
    ]
    for film in range(number):
        coarse = rng.standard_normal((8, 8), np.float32)
        shadows = _SHADOWS * cv2.resize(coarse, side, interpolation=cv2.INTER_CUBIC)
        yield np.clip(drawn[film % _DRAWN] + shadows, 0, 255).astype(np.uint8)


def write_films(folder: Path, number: int) -> None:
    """Write such films as a data set."""
    import cv2

    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = ["path,label,split,patient_id"]
    for film, pixels in enumerate(films(number)):
        path, patient = f"images/{film:06}.png", film // 2
        (folder / path).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        part = ("train", "train", "train", "val", "test")[patient % 5]
        rows.append(f"{path},{_label(film % _DRAWN)},{part},P{patient}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _label(place: int) -> str:
    from cxr_core.data import phantom

    return phantom.CLASSES[place % len(phantom.CLASSES)]


def fill_films(number: int) -> dict[str, float]:
    """Write the films of this process's workspace; nothing is found."""
    write_films(_films(), number)
    return {}


def fill_runs(number: int) -> dict[str, float]:
    """Record finished runs in this process's workspace; nothing is found."""
    from cxr_core import workspace
    from cxr_core.training import recipes
    from cxr_core.training.tracking import RunStore, Status

    store = RunStore()
    run_id = store.create(recipes.load(_MODEL), name="run")
    metrics = ("val_auroc", "val_loss", "train_loss", "test_auc", "test_sensitivity")
    store.log_points(
        run_id,
        [(name, epoch, 0.9, time.time()) for name in metrics for epoch in range(1, _EPOCHS + 1)],
    )
    store.set_status(run_id, Status.FINISHED)
    with closing(sqlite3.connect(workspace.home() / "runs.db")) as database, database:
        _copy(database, run_id, number - 1)
    return {}


def _copy(database: sqlite3.Connection, run_id: str, times: int) -> None:
    """Put copies of a run into MLflow's tables, each under an id of its own."""
    database.execute("CREATE TEMP TABLE copies (id)")
    database.executemany("INSERT INTO copies VALUES (?)", ((f"{n:032x}",) for n in range(times)))
    for table in _TABLES:
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        values = ["copies.id" if name == "run_uuid" else f'"{name}"' for name in columns]
        database.execute(
            f"INSERT INTO {table} SELECT {', '.join(values)} FROM {table}, copies "
            "WHERE run_uuid = ?",
            (run_id,),
        )


def _films() -> Path:
    from cxr_core import workspace

    return workspace.data_folder() / "films"


# -- works; each is run in a process of its own ----------------------------------------------------


def scan(number: int) -> dict[str, float]:
    """Read a folder into a catalog: all of it where it was never read, else what has changed."""
    from cxr_core.data import catalog

    began = time.perf_counter()
    found = catalog.scan(_films())
    taken = time.perf_counter() - began
    assert len(found.frame) == number
    return {"seconds": taken}


def audit(number: int) -> dict[str, float]:
    """Look for what is wrong with the set."""
    from cxr_core.data import catalog
    from cxr_core.data.audit import audit as look

    scanned = catalog.scan(_films())
    began = time.perf_counter()
    found = look(scanned)
    taken = time.perf_counter() - began
    assert found.summary["images"] == number
    return {"seconds": taken}


def page_of_films(number: int) -> dict[str, float]:
    """Turn pages of the gallery; the median."""
    from streamlit.testing.v1 import AppTest

    from cxr_core.ui.films import PAGE

    test = AppTest.from_string(_GALLERY, default_timeout=600)
    test.session_state["root"] = str(_films())
    _drawn(test)  # opens the set and filters it, once
    taken = []
    for turn in range(min(_TURNS, number // PAGE)):
        test.pagination[0].set_value(2 + turn)
        taken.append(_drawn(test))
    return {"seconds": statistics.median(taken)}


def score(number: int) -> dict[str, float]:
    """Score a folder into a table, as `predict` does."""
    from cxr_core import workspace
    from cxr_core.diagnosis import scoring
    from cxr_core.diagnosis.answer_table import AnswerTable
    from cxr_core.diagnosis.predictor import Predictor

    predictor = Predictor(workspace.published_models() / _MODEL)
    predictor.warm()
    classes, rows = predictor.info.classes, 0
    began = time.perf_counter()
    with AnswerTable(workspace.home() / "answers.csv", scoring.columns(classes), {}) as table:
        for outcome in scoring.score(predictor, scoring.find([_films()])):
            table.add(outcome.as_row(classes))
            rows += 1
    taken = time.perf_counter() - began
    assert rows == number
    return {"seconds": taken}


def table_of_runs(number: int) -> dict[str, float]:
    """List all runs and draw their table."""
    from streamlit.testing.v1 import AppTest

    test = AppTest.from_string(_TABLE, default_timeout=3600)
    taken = _drawn(test)
    assert len(test.dataframe[0].value) == number
    return {"seconds": taken}


def refresh(number: int) -> dict[str, float]:
    """Record a run of that many batch points and draw it anew as two more come; the median."""
    from benchmarks import monitor

    took = monitor.refreshed(number, 2 + _TURNS)["took_ms"]
    return {"seconds": statistics.median(took[2:]) / 1000}


def _drawn(test: "AppTest") -> float:
    """Draw a page; return the seconds that it says it took."""
    test.run()
    if test.exception:
        raise RuntimeError(test.exception[0].message)
    taken: float = test.session_state["took"]
    return taken


# -- the case --------------------------------------------------------------------------------------

_FILMS: dict[Size, tuple[int, ...]] = {
    "smallest": (50, 100),
    "quick": (500, 2_500),
    "full": (1_000, 10_000, 100_000),
}
_RUNS: dict[Size, tuple[int, ...]] = {
    "smallest": (5, 10),
    "quick": (50, 250),
    "full": (100, 1_000, 10_000),
}
_POINTS: dict[Size, tuple[int, ...]] = {**_FILMS, "quick": (1_000, 10_000)}
GROUPS = (
    Group(
        _FILMS,
        (
            Work("scan of a folder", scan),
            Work("scan of the same folder", scan),
            Work("audit", audit),
            Work("page of films", page_of_films, constant=True),
            Work("scoring into a table", score),
        ),
        fill_films,
    ),
    Group(_RUNS, (Work("table of runs", table_of_runs),), fill_runs),
    Group(_POINTS, (Work("refresh of a live run", refresh, constant=True),)),
)


def measure(setting: Setting) -> list[Figure]:
    """Return time and memory of each work at each size, and how they grow."""
    figures = []
    for group in GROUPS:
        found: dict[Work, list[Point]] = {work: [] for work in group.works}
        for size in group.sizes[setting.size]:
            with tempfile.TemporaryDirectory() as home:
                if group.fill is not None:
                    harness.call(group.fill, size, CXR_HOME=home)
                for work in group.works:
                    told = harness.call(work.run, size, CXR_HOME=home)
                    found[work].append(Point(size, told["seconds"], told["peak_mib"]))
        for work, points in found.items():
            figures += _figures(work, points)
    return figures


def _figures(work: Work, points: Sequence[Point]) -> list[Figure]:
    """Return what a work took at each size, and how that grows."""
    figures = []
    unit = "ms" if work.constant else "s"
    for point in points:
        name = f"{work.name}, n = {point.size:,}"
        figures += [
            Figure(name, point.seconds / _SECONDS[unit], unit),
            Figure(f"{name}, peak memory", point.mib, "MiB"),
        ]
    before, last = points[-2:]
    if work.constant:
        times = last.seconds / points[0].seconds
        grown = Figure(f"{work.name}: largest to smallest", times, "times", most=_MOST_RATIO)
    else:
        slope = exponent(before, last)
        grown = Figure(f"{work.name}: exponent of time", slope, "", most=_MOST_EXPONENT)
    return [*figures, grown]


def exponent(small: Point, large: Point) -> float:
    """Return the power of the size that time grows with between two sizes."""
    return math.log(large.seconds / small.seconds) / math.log(large.size / small.size)


# -- the picture -----------------------------------------------------------------------------------

_SIZED = re.compile(r"(.+), n = ([\d,]+)(, peak memory)?")
_COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#CC79A7", "#009E73", "#E69F00", "#555555")


def picture(figures: Sequence[Figure]) -> str:
    """Draw what `measure` found as SVG: time and memory over the size, logarithmic both ways.

    Raises:
        MissingError: there is no browser to draw it.
    """
    return browser.svg(chart(figures))


def chart(figures: Sequence[Figure]) -> "go.Figure":
    """Return two charts, a line each work, and dotted what would be linear."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    lines = _lines(figures)
    both = make_subplots(1, 2, subplot_titles=("Time, s", "Peak memory, MiB"))
    for colour, (work, columns) in zip(_COLOURS, lines.items(), strict=False):
        for column, points in enumerate(columns, start=1):
            sizes, values = zip(*points, strict=True)
            line = {"mode": "lines+markers", "line": {"color": colour}, "showlegend": column == 1}
            both.add_trace(go.Scatter(x=sizes, y=values, name=work, **line), 1, column)
    sizes = [size for columns in lines.values() for size, _ in columns[0]]
    ends = min(sizes), max(sizes)
    lowest = min(value for columns in lines.values() for _, value in columns[0])
    guide = {"mode": "lines", "line": {"color": "#999999", "dash": "dot"}}
    rising = [lowest, lowest * ends[1] / ends[0]]
    both.add_trace(go.Scatter(x=ends, y=rising, name="linear", **guide), 1, 1)
    both.update_xaxes(type="log", dtick=1, tickformat=",", title_text="films, runs or points")
    for column in (1, 2):
        values = [value for columns in lines.values() for _, value in columns[column - 1]]
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        axis = {"type": "log", "dtick": 1, "tickformat": ",~g", "range": (low, high)}
        both.update_yaxes(**axis, col=column)
    both.update_layout(width=1000, height=420, template="plotly_white", margin={"t": 50, "r": 20})
    return both


def _lines(figures: Sequence[Figure]) -> dict[str, tuple[Line, Line]]:
    """Return seconds and MiB by work, as the figures' names tell them apart."""
    found: dict[str, tuple[Line, Line]] = {}
    for figure in figures:
        told = _SIZED.fullmatch(figure.name)
        if told is not None:
            of_memory = told[3] is not None
            value = figure.value if of_memory else figure.value * _SECONDS[figure.unit]
            times_and_memory = found.setdefault(told[1], ([], []))
            times_and_memory[of_memory].append((float(told[2].replace(",", "")), value))
    return found


CASES = (
    Case(
        "growth",
        "time and memory over the size: films, runs, points; 1 is linear",
        measure,
        picture,
    ),
)
