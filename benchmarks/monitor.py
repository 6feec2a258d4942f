"""What watching a run costs: the page that draws it, and the training that is watched.

First, how long the page works on a refresh of a run with 10,000 batch points, two new ones at every
refresh. Second, a training of the three-block CNN on phantoms while a watcher in a process of its
own refreshes that run every two seconds, as an open page does: the rate of steps in windows of ten
seconds with and without it, in turns, so that other work meets both.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.harness import Case, Figure, MissingError, Setting

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

_MOST_REFRESH, _LEAST_RATE = 100, 0.98  # ms; times the rate of an unwatched training
_EVERY = 2.0  # seconds between two refreshes of an open page
_SETTLE = 3.0  # seconds after the watcher was stopped or went on that count for neither
_IMPORTS = 20.0  # seconds until a watcher surely has imported what it needs

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
_WATCH = "import sys; from benchmarks.monitor import watch; watch(sys.argv[1])"


def opened(run_id: str) -> "AppTest":
    """Return the page of a run, not drawn yet."""
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_string(PAGE, default_timeout=60)
    page.session_state["run"] = run_id
    return page


def watch(run_id: str) -> None:
    """Refresh a run as an open page does, for ever."""
    page = opened(run_id)
    while True:
        began = time.monotonic()
        page.run()
        time.sleep(max(0.0, _EVERY - (time.monotonic() - began)))


# -- the page --------------------------------------------------------------------------------------


def refreshed(points: int, refreshes: int) -> dict[str, Any]:
    """Refresh a run with many points in this process's workspace; return the milliseconds."""
    from cxr_core.training.tracking import RunStore, Status

    store = RunStore()
    run_id = _long_run(store, points // 2)
    page, took = opened(run_id), []
    for number in range(refreshes):
        step = points // 2 + number + 1
        names = ("batch_loss", "batch_accuracy")
        store.log_points(run_id, [(name, step, 0.1, time.time()) for name in names])
        page.run()
        if page.exception:
            raise RuntimeError(page.exception[0].message)
        took.append(1000 * page.session_state["took"])
    store.set_status(run_id, Status.CANCELLED)
    return {"took_ms": took}


def _long_run(store: Any, steps: int) -> str:
    """Record a run that has come as far as that; return its id."""
    from cxr_core.config import RunConfig
    from cxr_core.training import jobs
    from cxr_core.training.tracking import TAG_WORKER, Status

    in_epoch = 300
    epochs, began = steps // in_epoch, time.time() - steps
    config = RunConfig().with_values({"optimise.epochs": epochs + 5})
    run_id: str = store.create(config, name="long")
    store.set_tags(run_id, {TAG_WORKER: jobs.worker_name(os.getpid())})
    store.set_status(run_id, Status.RUNNING)
    store.log_params(run_id, {"steps_per_epoch": in_epoch, "train_films": in_epoch * 32})
    store.log_points(
        run_id,
        [
            (name, step + 1, 0.1 + 1 / (step + 2), began + step)
            for step in range(steps)
            for name in ("batch_loss", "batch_accuracy")
        ],
    )
    names = ("train_loss", "val_loss", "train_auroc", "val_auroc", "val_accuracy", "learning_rate")
    store.log_points(
        run_id,
        [
            (name, epoch, 0.5, began + epoch * in_epoch)
            for epoch in range(1, epochs + 1)
            for name in names
        ],
    )
    return run_id


def measure(setting: Setting) -> list[Figure]:
    """Return how long the page works on a refresh."""
    points, refreshes = setting.pick(1_000, 10_000, 10_000), setting.pick(4, 12, 22)
    with tempfile.TemporaryDirectory() as home:
        took = harness.call(refreshed, points, refreshes, CXR_HOME=home)["took_ms"]
    return [
        Figure("batch points", points, "points"),
        Figure("the first drawing", took[0], "ms"),
        harness.median("a refresh", took[2:], "ms", most=_MOST_REFRESH),
    ]


# -- the training ----------------------------------------------------------------------------------


def watched(rounds: int, window: float) -> dict[str, list[float]]:
    """Train in this process's workspace, watched and alone by turns; return steps a second."""
    from cxr_core import workspace
    from cxr_core.config import RunConfig
    from cxr_core.data import phantom
    from cxr_core.training import jobs
    from cxr_core.training.tracking import RunStore

    films = workspace.home() / "films"
    phantom.write(films, 300, 0)
    endless = {"optimise.epochs": 1000, "stop.patience": 1000}
    config = RunConfig().with_values({"data.root": str(films), "image.size": 96, **endless})
    store = RunStore()
    run_id = jobs.start(config, store=store)
    watcher = None

    def steps() -> tuple[float, int]:
        points = store.curves(run_id, ["batch_loss"])
        return (0.0, 0) if points.empty else (points["time"].iloc[-1], points["step"].iloc[-1])

    def rate() -> float:
        time.sleep(_SETTLE)
        begin, first = steps()
        time.sleep(window)
        end, last = steps()
        return float((last - first) / (end - begin))

    try:
        while steps()[1] < 20:
            if not store.get(run_id).status.active:
                raise RuntimeError(store.get(run_id).reason)
            time.sleep(0.5)
        watcher = subprocess.Popen(
            [sys.executable, "-c", _WATCH, run_id], stdout=subprocess.DEVNULL
        )
        time.sleep(_IMPORTS)

        def side(sign: signal.Signals) -> Callable[[], float]:
            def measured() -> float:
                watcher.send_signal(sign)
                return rate()

            return measured

        return harness.by_turns(
            {"watched": side(signal.SIGCONT), "alone": side(signal.SIGSTOP)}, rounds
        )
    finally:
        if watcher is not None:
            watcher.kill()
            watcher.wait()
        jobs.cancel(run_id, store)
        jobs.wait(run_id, store)


def measure_watched(setting: Setting) -> list[Figure]:
    """Return what a training loses while it is watched."""
    if setting.size == "quick":
        raise MissingError("windows of minutes tell a loss of 2 %")
    with tempfile.TemporaryDirectory() as home:
        found = harness.call(watched, setting.pick(1, 0, 5), setting.pick(5, 0, 10), CXR_HOME=home)
    return [
        harness.median("watched", found["watched"], "steps/s"),
        harness.median("alone", found["alone"], "steps/s"),
        harness.ratio("as fast as alone", found["watched"], found["alone"], least=_LEAST_RATE),
    ]


CASES = (
    Case("monitor", "a refresh of the page of a run with 10,000 batch points", measure),
    Case("watching", "a training that is watched against the same alone", measure_watched),
)
