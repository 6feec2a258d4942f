"""Runs the benchmarks: ``python -m benchmarks [CASE ...] [--quick]``."""

import argparse
import os
import sys
from pathlib import Path

from benchmarks import (
    app,
    archive,
    batches,
    diagnose,
    engines,
    evaluation,
    gate,
    growth,
    harness,
    label_suspects,
    monitor,
    roofline,
    scan,
    score,
    service,
    torch_peer,
    train,
    twins,
    users,
)
from benchmarks.harness import Case, Setting
from benchmarks.kept import Kept, RefusedError

CASES: tuple[Case, ...] = (
    *app.CASES,
    *growth.CASES,
    *scan.CASES,
    *twins.CASES,
    *label_suspects.CASES,
    *train.CASES,
    *torch_peer.CASES,
    *roofline.CASES,
    *batches.CASES,
    *monitor.CASES,
    *evaluation.CASES,
    *diagnose.CASES,
    *engines.CASES,
    *score.CASES,
    *archive.CASES,
    *gate.CASES,
    *users.CASES,
    *service.CASES,
)
RESULTS = harness.REPOSITORY / "benchmarks" / "results"


def main() -> None:
    """Run cases, print every figure with its bar, and keep them where that is asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"all, or of: {', '.join(names)}")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    size.add_argument("--smallest", action="store_true", help="only to see that all of it runs")
    data = Path(os.environ["CXR_DATA"]) / "kermany" if "CXR_DATA" in os.environ else Setting.data
    parser.add_argument("--data", type=Path, default=data, help="a folder of labelled films")
    parser.add_argument(
        "--out",
        metavar="NAME",
        help=f"keep NAME.json and NAME.md in {RESULTS}, case by case; what is there of other cases "
        "stays",
    )
    given = parser.parse_args()
    unknown = sorted(set(given.cases) - set(names))
    if unknown:
        parser.error(f"there is no case {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [case for case in CASES if not given.cases or case.name in given.cases]
    setting = Setting(
        "quick" if given.quick else "smallest" if given.smallest else "full", given.data
    )
    kept = Kept(RESULTS, given.out, setting.size) if given.out else None
    try:
        if kept:
            kept.read()  # before hours are spent on what cannot be kept
    except RefusedError as reason:
        parser.error(str(reason))
    results = []
    for result in harness.run(chosen, setting):
        results.append(result)
        print(harness.told(result), flush=True)
        if kept:
            for words in kept.add(result, CASES):
                print(words, file=sys.stderr)
    print(harness.summed_up(results))
    if kept:
        print(f"Kept: {kept.page}", file=sys.stderr)
    if any(result.fault for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
