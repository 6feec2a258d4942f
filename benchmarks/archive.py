"""Scoring an archive on a Ray cluster: two predictors against one, memory, and the same answers.

The archive: files of 200 phantoms as PNG of 512 px, each many times under names of its own, scored
with `phantom_v1`. The cluster: two nodes on this machine, each held to a core of its own, and so a
predictor on one of them or on both, by turns. A rate is that of the films after the first that came
back, with all predictors ready: their start is not in it. The answers are compared with those
of `scoring.score` in one process. Memory is what this process and the largest predictor hold, after
a tenth of the films and at most after that: an archive of any size needs no more.
"""

import math
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import psutil

from benchmarks import harness
from benchmarks.diagnose import drawn
from benchmarks.harness import REPOSITORY, Case, Figure, MissingError, Setting
from cxr_core import cluster
from cxr_core.diagnosis import answer_table, bundle, scoring

MODEL = REPOSITORY / "models" / "phantom_v1"
PICTURES, SIDE = 200, 512  # px

_NODE_MEMORY = 200 << 20  # bytes of a node's store of objects
_READY = 600  # seconds for all predictors to get ready
_LEAST_RATIO, _MOST_GROWTH = 1.6, 1.15  # times
_MOST_APART = 1e-5  # of probabilities; the films of a batch are not the same ones


def write_films(folder: Path, films: int) -> None:
    """Write an archive of phantoms: a file a film, of which many are links to the same picture."""
    folder.mkdir()
    pictures = folder.with_name("pictures")
    pictures.mkdir()
    for number, film in enumerate(drawn(min(films, PICTURES))):
        picture = cv2.resize(film, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        (pictures / f"{number:03d}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    kept = sorted(pictures.iterdir())
    for number in range(films):
        (folder / f"{number:06d}.png").hardlink_to(kept[number % len(kept)])


def here(folder: str, table: str) -> dict[str, Any]:
    """Score on this machine alone, as `predict --csv` does; return the films a second."""
    from cxr_core.diagnosis.predictor import Predictor

    predictor = Predictor(MODEL)
    predictor.warm()
    with _table(Path(table)) as answers:
        began, count = time.perf_counter(), 0
        for outcome in scoring.score(predictor, scoring.find([Path(folder)])):
            answers.add(outcome.as_row(predictor.info.classes))
            count += 1
        return {"rate": count / (time.perf_counter() - began)}


def there(folder: str, table: str, predictors: int, films: int) -> dict[str, Any]:
    """Score on a cluster of two nodes; return the films a second and the memory held, in MiB."""
    import ray.data
    from ray.cluster_utils import Cluster

    from cxr_core.cluster import scoring as on_cluster

    logs = tempfile.mkdtemp(prefix="ray-")
    node = {"num_cpus": 1, "object_store_memory": _NODE_MEMORY, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": logs})
    try:
        second = nodes.add_node(**node)
        for each, core in zip(
            (nodes.head_node, second), sorted(os.sched_getaffinity(0)), strict=False
        ):
            _hold(each, core)
        ray.data.DataContext.get_current().wait_for_min_actors_s = _READY
        place = Path(folder)
        found: list[tuple[int, float, float, float]] = []  # films, seconds, MiB here and there
        with (
            on_cluster.predictors(MODEL, [place], nodes.address, predictors) as score,
            _table(Path(table)) as answers,
        ):
            rows = score(path for path, _ in scoring.find([place]))
            for number, row in enumerate(rows, start=1):
                answers.add(row)
                if number == 1 or number == films or number % max(1, films // 20) == 0:
                    found.append((number, time.perf_counter(), _mib(), _largest_predictor()))
    finally:
        nodes.shutdown()
        shutil.rmtree(logs, ignore_errors=True)
    (first, began, *_), (last, ended, *_) = found[0], found[-1]
    tenth = next(entry for entry in found if entry[0] >= films / 10)
    return {
        "rate": (last - first) / (ended - began),
        "driver_mib": max(entry[2] for entry in found),
        "predictor_mib": max(entry[3] for entry in found),
        "driver_growth": max(entry[2] for entry in found) / tenth[2],
        "predictor_growth": max(entry[3] for entry in found) / tenth[3],
    }


def _table(path: Path) -> answer_table.AnswerTable:
    return answer_table.AnswerTable(path, scoring.columns(bundle.read(MODEL).classes), {})


def _hold(node: Any, core: int) -> None:
    """Hold the processes of a node, and those that they will start, to a core."""
    for _, process in node.live_processes():
        for thread in psutil.Process(process.pid).threads():
            os.sched_setaffinity(thread.id, {core})


def _mib() -> float:
    return psutil.Process().memory_info().rss / 2**20


def _largest_predictor() -> float:
    """Return what the largest process of the pool holds, MiB."""
    held = [0.0]
    for process in psutil.Process().children(recursive=True):
        try:
            if any("MapWorker" in part for part in process.cmdline()):
                held.append(process.memory_info().rss / 2**20)
        except psutil.Error:
            continue
    return max(held)


def apart(one: Path, other: Path) -> float:
    """Return how far two tables' probabilities are apart at most; infinite where else they differ.

    Args:
        one: a table of answers.
        other: another of the same films, in any order.
    """
    tables = [pd.read_csv(path).sort_values("path", ignore_index=True) for path in (one, other)]
    numbers = [name for name in tables[0] if tables[0][name].dtype == np.float64]
    if not tables[0].drop(columns=numbers).equals(tables[1].drop(columns=numbers)):
        return math.inf
    shares = [table[[name for name in numbers if name != "distance"]] for table in tables]
    return float(np.nanmax(np.abs(shares[0].to_numpy() - shares[1].to_numpy())))


def measure(setting: Setting) -> list[Figure]:
    """Return rates by number of predictors, memory, and how far the answers are from ours here."""
    if not cluster.installed():
        raise MissingError(f"Ray is not installed: pip install -r {cluster.REQUIREMENTS}")
    if len(os.sched_getaffinity(0)) < 2:
        raise MissingError("two nodes need two cores")
    films = setting.pick(200, 2_000, 20_000)
    with tempfile.TemporaryDirectory() as name:
        folder, tables = Path(name) / "films", [Path(name) / f"{n}.csv" for n in range(3)]
        write_films(folder, films)

        def of(predictors: int) -> dict[str, Any]:
            table = str(tables[predictors])
            return harness.call(there, str(folder), table, predictors, films, CXR_HOME=name)

        alone = harness.call(here, str(folder), str(tables[0]), CXR_HOME=name)
        found = harness.by_turns(
            {"one": lambda: of(1), "two": lambda: of(2)}, setting.pick(1, 1, 2)
        )
        furthest = max(apart(tables[0], table) for table in tables[1:])
    one, two = ([each["rate"] for each in found[side]] for side in ("one", "two"))
    held = [each for side in found.values() for each in side]

    def most(what: str) -> float:
        return max(each[what] for each in held)

    return [
        Figure("films", films, "files"),
        Figure("on this machine alone, all cores", alone["rate"], "films/s"),
        harness.median("one predictor, on one node", one, "films/s"),
        harness.median("two of them, on two nodes", two, "films/s"),
        harness.ratio("two against one", two, one, least=_LEAST_RATIO),
        Figure("furthest from the answers made here", furthest, "", most=_MOST_APART),
        Figure("memory of the one who asks, at most", most("driver_mib"), "MiB"),
        Figure(
            "that, against a tenth of the films", most("driver_growth"), "times", most=_MOST_GROWTH
        ),
        Figure("memory of a predictor, at most", most("predictor_mib"), "MiB"),
        Figure(
            "that, against a tenth of the films",
            most("predictor_growth"),
            "times",
            most=_MOST_GROWTH,
        ),
    ]


CASES = (
    Case("archive", "an archive scored on a Ray cluster, two predictors against one", measure),
)
