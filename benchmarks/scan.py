"""How long it takes to scan and audit a folder of films, and against cleanvision on the same files.

Each measurement is a process of its own, timed from start to end, imports included; where a scan is
told without them, that is said. Cold is a workspace that has seen no film, warm one that has seen
all of them. cleanvision (github.com/cleanlab/cleanvision, default checks: dark, light, odd aspect
ratio, odd size, low information, blurry, gray, exact and near duplicates) runs in the peers'
environment; both sides use all processors.
"""

import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import harness, peers
from benchmarks.harness import Case, Figure, MissingError, Setting
from cxr_core.diagnosis import scoring

_SCAN = """
import sys, time
from pathlib import Path
from cxr_core.data.catalog import scan
began = time.perf_counter()
catalog = scan(Path(sys.argv[1]))
_found = {"films": len(catalog.frame), "scan_s": time.perf_counter() - began}
"""
_AUDIT = (
    _SCAN
    + """
from cxr_core.data.audit import audit
audit(catalog)
"""
)
_HAS_CLEANVISION = """
import importlib.util
_found = {"there": importlib.util.find_spec("cleanvision") is not None}
"""
_CLEANVISION = """
import sys
from cleanvision import Imagelab
lab = Imagelab(data_path=sys.argv[1], verbose=False)
lab.find_issues(verbose=False)
_found = {"films": len(lab.issues)}
"""

_MOST_WARM, _LEAST_RATIO = 0.5, 5  # seconds without imports; times as fast as cleanvision


@contextmanager
def copied(setting: Setting, most: int | None = None) -> Iterator[Path]:
    """Copy the films, or so many from all over; whoever is first then reads no disk."""
    films = list(scoring.find([setting.films]))
    step = math.ceil(len(films) / (most or len(films)))
    with tempfile.TemporaryDirectory() as name:
        for path, place in films[::step]:
            (Path(name) / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, Path(name) / place)
        yield Path(name)


def timed(code: str, folder: Path, python: str = sys.executable, **environment: str) -> Any:
    """Return what a process found of a folder, and the ``seconds`` from its start to its end."""
    began = time.perf_counter()
    found = harness.process(code, str(folder), python=python, **environment)
    return {**found, "seconds": time.perf_counter() - began}


def cold_audit(folder: Path) -> Any:
    """Scan and audit in an empty workspace."""
    with tempfile.TemporaryDirectory() as home:
        return timed(_AUDIT, folder, CXR_HOME=home)


def measure(setting: Setting) -> list[Figure]:
    """Return the times of cold and warm scans and audits."""
    few = 40 if setting.size == "smallest" else None
    with copied(setting, few) as folder, tempfile.TemporaryDirectory() as home:
        timed(_SCAN, folder, CXR_HOME=home)

        def warm(code: str) -> Callable[[], Any]:
            return lambda: timed(code, folder, CXR_HOME=home)

        sides = {
            "cold": lambda: cold_audit(folder),
            "scan": warm(_SCAN),
            "audit": warm(_AUDIT),
        }
        found = harness.by_turns(sides, setting.pick(1, 1, 3))

    def column(name: str, side: str, key: str, unit: str, most: float | None = None) -> Figure:
        return harness.median(name, [row[key] for row in found[side]], unit, most=most)

    return [
        column("films", "cold", "films", "films"),
        column("cold scan with audit", "cold", "seconds", "s"),
        column("its peak memory", "cold", "peak_mib", "MiB"),
        column("warm scan, without imports", "scan", "scan_s", "s", _MOST_WARM),
        column("warm scan", "scan", "seconds", "s"),
        column("warm scan with audit", "audit", "seconds", "s"),
    ]


def compare(setting: Setting) -> list[Figure]:
    """Return how fast a cold scan with audit is against cleanvision."""
    python = peers.python()
    if not harness.process(_HAS_CLEANVISION, python=python)["there"]:
        raise MissingError(f"cleanvision is not installed for {python}")
    few = {"smallest": 40, "quick": 1_750}.get(setting.size)  # cleanvision takes a minute for all
    with copied(setting, few) as folder:
        found = harness.by_turns(
            {
                "ours": lambda: cold_audit(folder),
                "cleanvision": lambda: timed(_CLEANVISION, folder, python),
            },
            setting.pick(1, 1, 3),
        )
    films = found["ours"][0]["films"]
    ours, theirs = ([row["seconds"] for row in rows] for rows in found.values())
    return [
        Figure("films", films, "films"),
        harness.median("cold scan with audit", ours, "s"),
        harness.median("cleanvision", theirs, "s"),
        harness.ratio("as fast as cleanvision", theirs, ours, least=_LEAST_RATIO),
    ]


CASES = (
    Case("scan", "a folder of films scanned and audited, cold and warm", measure),
    Case("audit", "a cold scan with audit against cleanvision's default checks", compare),
)
