"""Cold scan with audit, and warm scan, of a folder of films, against cleanvision on the same files.

    python benchmarks/scan.py [FOLDER] [--cleanvision PYTHON] [--json]

Each measurement is a process of its own, timed from start to end, imports included, so that its
peak memory is its own; both sides use all processors. cleanvision (github.com/cleanlab/cleanvision,
default checks: dark, light, odd aspect ratio, odd size, low information, blurry, gray, exact and
near duplicates) runs in the interpreter given by --cleanvision or CLEANVISION_PYTHON, else in this
one; where it is not installed there the comparison is left out, and that is said.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# A child's own peak and time; the peak includes that of the processes it started itself.
MEASURE = """
import json, resource, time
start = time.perf_counter()
{task}
peak = sum(resource.getrusage(who).ru_maxrss
           for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps(dict(result, peak_mib=round(peak / 1024), inside_s=time.perf_counter() - start)))
"""
SCAN = """
from pathlib import Path
from cxr_core.data.catalog import scan
begin = time.perf_counter()
catalog = scan(Path({folder!r}))
result = dict(films=len(catalog.frame), scan_s=time.perf_counter() - begin)
"""
AUDIT = (
    SCAN
    + """
from cxr_core.data.audit import audit
begin = time.perf_counter()
found = audit(catalog)
result |= dict(audit_s=time.perf_counter() - begin, findings=len(found.findings),
               twins=found.summary["duplicates"]["groups"])
"""
)
CLEANVISION = """
from cleanvision import Imagelab
begin = time.perf_counter()
lab = Imagelab(data_path={folder!r}, verbose=False)
lab.find_issues(verbose=False)
result = dict(films=len(lab.issues), audit_s=time.perf_counter() - begin)
"""


def measure(task: str, folder: Path, python: str, home: str) -> dict[str, float]:
    """Run a task in a process of its own; return what it said and the seconds it took."""
    environment = {**os.environ, "CXR_HOME": home, "PYTHONPATH": str(REPOSITORY)}
    code = MEASURE.format(task=task.format(folder=str(folder)))
    begin = time.perf_counter()
    done = subprocess.run(
        [python, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return {"seconds": time.perf_counter() - begin, **json.loads(done.stdout.splitlines()[-1])}


def has_cleanvision(python: str) -> bool:
    """Say whether an interpreter can import cleanvision."""
    finds = "import importlib.util as u; raise SystemExit(u.find_spec('cleanvision') is None)"
    return subprocess.run([python, "-c", finds], check=False).returncode == 0


def read_ahead(folder: Path) -> None:
    """Read every file once, so that neither side waits for the disk for the other."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.read_bytes()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(os.environ.get("CXR_DATA") or REPOSITORY.parent / "shared" / "data") / "kermany"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument(
        "--cleanvision", default=os.environ.get("CLEANVISION_PYTHON", sys.executable)
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.folder.is_dir():
        raise SystemExit(f"There is no folder {options.folder}: name one with films.")

    read_ahead(options.folder)
    with tempfile.TemporaryDirectory() as home:
        rows = {
            "cold scan with audit": measure(AUDIT, options.folder, sys.executable, home),
            "warm scan": measure(SCAN, options.folder, sys.executable, home),
            "warm scan with audit": measure(AUDIT, options.folder, sys.executable, home),
        }
        if has_cleanvision(options.cleanvision):
            rows["cleanvision"] = measure(CLEANVISION, options.folder, options.cleanvision, home)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{rows['warm scan']['films']:,} films in {options.folder}, {os.cpu_count()} processors")
    for name, row in rows.items():
        parts = [f"{key[:-2]} {row[key]:.2f} s" for key in ("scan_s", "audit_s") if key in row]
        print(
            f"{name:<22} {row['seconds']:7.2f} s with imports; {', '.join(parts)}; "
            f"peak {row['peak_mib']} MiB"
        )
    if "cleanvision" in rows:
        ratio = rows["cleanvision"]["seconds"] / rows["cold scan with audit"]["seconds"]
        print(f"cold scan with audit is {ratio:.1f} times as fast as cleanvision")
    else:
        print(
            f"cleanvision is not installed in {options.cleanvision}: no comparison. Name an "
            "interpreter that has it with --cleanvision or CLEANVISION_PYTHON."
        )


if __name__ == "__main__":
    main()
