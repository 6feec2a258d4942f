"""What watching a run costs: the page that draws it, and the training that is watched.

    python benchmarks/monitor.py [--points 10000] [--windows 10] [--json]

Two figures. First, how long the page works on a refresh of a run with that many batch points, two
new ones at every refresh. Second, a training of the three-block CNN on phantoms while a watcher in
a process of its own refreshes that run every two seconds, as an open page does: the rate of steps
in windows of ten seconds with and without it, in turns, so that other work meets both.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from streamlit.testing.v1 import AppTest  # noqa: E402

from cxr_core.config import RunConfig  # noqa: E402  found by the line above
from cxr_core.data import phantom  # noqa: E402
from cxr_core.training import jobs  # noqa: E402
from cxr_core.training.tracking import TAG_WORKER, RunStore, Status  # noqa: E402

_EVERY = 2.0  # seconds between two refreshes of an open page
_WINDOW = 10.0  # seconds
_SETTLE = 3.0  # seconds after the watcher was stopped or went on that count for neither

# What the Train page draws of a run, and how long that took.
PAGE = """
import time
import streamlit as st
from cxr_core.ui import loaders, monitor

record = loaders.store().get(st.session_state["run"])
began = time.perf_counter()
monitor.picture(record, [], "bench")
st.session_state["took"] = time.perf_counter() - began
"""


def watch(run_id: str) -> None:
    """Refresh a run as an open page does, for ever."""
    test = AppTest.from_string(PAGE, default_timeout=60)
    test.session_state["run"] = run_id
    while True:
        began = time.monotonic()
        test.run()
        time.sleep(max(0.0, _EVERY - (time.monotonic() - began)))


def page_refresh(points: int) -> dict[str, float]:
    """Measure refreshes of a run with many points; return milliseconds."""
    store = RunStore()
    steps, epochs = 300, points // 2 // 300
    config = RunConfig().with_values({"optimise.epochs": epochs + 5})
    run_id = store.create(config, name="long")
    store.set_tags(run_id, {TAG_WORKER: jobs.worker_name(os.getpid())})
    store.set_status(run_id, Status.RUNNING)
    store.log_params(run_id, {"steps_per_epoch": steps, "train_films": steps * 32})
    begin = time.time() - points / 2
    store.log_points(
        run_id,
        [
            (name, step + 1, 0.1 + 1 / (step + 2), begin + step)
            for step in range(points // 2)
            for name in ("batch_loss", "batch_accuracy")
        ],
    )
    names = ("train_loss", "val_loss", "train_auroc", "val_auroc", "val_accuracy", "learning_rate")
    store.log_points(
        run_id,
        [
            (name, epoch, 0.5, begin + epoch * steps)
            for epoch in range(1, epochs + 1)
            for name in names
        ],
    )

    test = AppTest.from_string(PAGE, default_timeout=60)
    test.session_state["run"] = run_id
    took = []
    for number in range(22):
        at = points // 2 + number + 1
        store.log_points(
            run_id,
            [(name, at, 0.1, time.time()) for name in ("batch_loss", "batch_accuracy")],
        )
        test.run()
        if test.exception:
            raise SystemExit(test.exception[0].message)
        took.append(1000 * test.session_state["took"])
    store.set_status(run_id, Status.CANCELLED)
    return {"first_ms": took[0], "median_ms": statistics.median(took[2:])}


def watched_training(windows: int) -> dict[str, float]:
    """Train with and without a watcher in turns; return steps a second."""
    store = RunStore()
    films = Path(os.environ["CXR_HOME"]) / "films"
    phantom.write(films, 300, 0)
    config = RunConfig().with_values(
        {
            "data.root": str(films),
            "image.size": 96,
            "optimise.epochs": 1000,
            "stop.patience": 1000,
        }
    )
    run_id = jobs.start(config, store=store)

    def steps() -> tuple[float, int]:
        points = store.curves(run_id, ["batch_loss"])
        return (0.0, 0) if points.empty else (points["time"].iloc[-1], points["step"].iloc[-1])

    while steps()[1] < 20:
        if not store.get(run_id).status.active:
            raise SystemExit(store.get(run_id).reason)
        time.sleep(0.5)
    watcher = subprocess.Popen([sys.executable, __file__, "--watch", run_id])
    time.sleep(2 * _WINDOW)  # until it has imported what it needs
    rates: dict[bool, list[float]] = {True: [], False: []}
    for number in range(windows):
        watching = number % 2 == 0
        watcher.send_signal(signal.SIGCONT if watching else signal.SIGSTOP)
        time.sleep(_SETTLE)
        begin, first = steps()
        time.sleep(_WINDOW)
        end, last = steps()
        rates[watching].append((last - first) / (end - begin))
    watcher.kill()
    watcher.wait()
    jobs.cancel(run_id, store)
    jobs.wait(run_id, store)
    watched, alone = (statistics.median(rates[w]) for w in (True, False))
    return {"watched": watched, "alone": alone, "lost_percent": 100 * (1 - watched / alone)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000, help="batch points of the long run")
    parser.add_argument("--windows", type=int, default=10, help="windows, watched and alone")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--watch", help=argparse.SUPPRESS)  # a run, by the watcher's own process
    options = parser.parse_args()
    if options.watch:
        watch(options.watch)
    with tempfile.TemporaryDirectory() as home:
        os.environ["CXR_HOME"] = home
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.environ["PYTHONPATH"] = str(REPOSITORY)
        found = {
            "page": page_refresh(options.points),
            "training": watched_training(options.windows),
        }
    if options.json:
        print(json.dumps(found, indent=2))
        return
    page, training = found["page"], found["training"]
    print(
        f"a refresh at {options.points:,} points: {page['median_ms']:.0f} ms (bar 100), "
        f"the first one {page['first_ms']:.0f} ms"
    )
    print(
        f"training: {training['watched']:.2f} steps/s watched, {training['alone']:.2f} alone: "
        f"{training['lost_percent']:.1f} % lost (bar 2 %)"
    )


if __name__ == "__main__":
    main()
