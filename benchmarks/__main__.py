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
    torch_peer,
    train,
    users,
)
from benchmarks.harness import Case, Setting

CASES: tuple[Case, ...] = (
    *app.CASES,
    *growth.CASES,
    *scan.CASES,
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
    parser.add_argument("--out", metavar="NAME", help=f"keep NAME.json and NAME.md in {RESULTS}")
    given = parser.parse_args()
    unknown = sorted(set(given.cases) - set(names))
    if unknown:
        parser.error(f"there is no case {', '.join(unknown)}; there are {', '.join(names)}")
    chosen = [case for case in CASES if not given.cases or case.name in given.cases]
    setting = Setting(
        "quick" if given.quick else "smallest" if given.smallest else "full", given.data
    )
    described = harness.machine()
    results = harness.run(chosen, setting, lambda words: print(words, flush=True))
    if given.out:
        RESULTS.mkdir(exist_ok=True)
        for suffix, render in ((".json", harness.as_json), (".md", harness.as_markdown)):
            path = RESULTS / f"{given.out}{suffix}"
            path.write_text(render(results, described, setting.size), encoding="utf-8")
            print(f"Written: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
