"""How soon the app is there, and how soon each of its pages, in a browser and a full workspace.

From the start of `streamlit run` to the first painted page, against an app of one line that is
started in the same way, each time in a fresh server and a fresh browser context, by turns. Then
clicks through one session: all pages and the tabs that take the most, with the built-in films in
use and with a set of many more. Painted means that what the page is for stands there, every picture
and chart is drawn, no placeholder is left and no script runs any more.

The first visit of each page, which imports, reads and begins what later visits find done, is told
apart from them.
"""

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks import harness
from benchmarks.browser import chromium
from benchmarks.harness import Case, Figure, Setting
from benchmarks.server import APP, Server, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from cxr_core.diagnosis.bundle import BundleInfo
    from cxr_core.training.tracking import RunStore

PEER = 'import streamlit as st; st.title("x")'
LARGE = "Many films"  # the title of the set that has them

_MOST_START, _MOST_CHANGE = 1.5, 1000  # times the peer's; ms
_PATIENCE = 300_000  # ms
_BUNDLE = "phantom_v1"  # the published model that every run gets a copy of
_EPOCHS, _STEPS = 30, 20  # of each run, and batches of an epoch

# Whether a page stands there as it shall: see the head of this file.
_PAINTED = """({selector, text}) => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const app = document.querySelector("[data-testid=stApp]");
  return app !== null
    && app.dataset.testScriptState === "notRunning"
    && all("[data-testid=stSkeleton]").length === 0
    && all(selector).some((element) => element.textContent.includes(text))
    && all("[data-testid=stPlotlyChart]").every((chart) => chart.querySelector(".main-svg"))
    && all("[data-testid=stDataFrame]").every((table) => table.querySelector("canvas"))
    && [...document.images].every((image) => image.complete);
}"""
# Clicked and timed within the browser: what drives it takes no part.
_CLICK = f"""async (element, {{selector, text, patience}}) => {{
  const painted = {_PAINTED};
  const app = document.querySelector("[data-testid=stApp]");
  let ran = false;  // until then what stands there is what stood there before the click
  const watcher = new MutationObserver(() => ran = true);
  watcher.observe(app, {{attributeFilter: ["data-test-script-state"]}});
  const began = performance.now();
  element.click();
  do {{
    await new Promise(requestAnimationFrame);
    if (performance.now() - began > patience) throw new Error(`no ${{selector}} ${{text}}`);
  }} while (!ran || !painted({{selector, text}}));
  watcher.disconnect();
  return performance.now() - began;
}}"""


@dataclass(frozen=True)
class View:
    """Something that a click brings, and by what it is known to stand there."""

    name: str
    role: Literal["link", "tab", "radio"]  # of what is clicked
    label: str  # of what is clicked; where several have it, the first on the page is meant
    selector: str  # CSS
    text: str  # which an element of that selector holds

    def control(self, page: "Page") -> "Locator":
        """Return what is clicked."""
        name = re.compile(f"{re.escape(self.label)}$")  # an icon's name may stand before it
        return page.get_by_role(self.role, name=name).first


HOME = View("Home", "link", "Home", "h3", "Films in use")
DATASET = View("Dataset", "link", "Dataset", "h3", "The mean film of each class")
TRAIN = View("Train", "link", "Train", ".st-key-start_run", "Train")
RUNS = View("Runs", "link", "Runs", "h1", "with a model")
DIAGNOSE = View("Diagnose", "link", "Diagnose", "button", "Try tuberculosis")
# Home is where a session begins, so it is the last to be come back to.
ROUND = (
    DATASET,
    View("Dataset: Films", "tab", "Films", "button", "Show "),
    View("Dataset: Patients and splits", "tab", "Patients and splits", "h3", "patients are known"),
    TRAIN,
    RUNS,
    View("Runs: Test results", "tab", "Test results", "h4, h3, p", "At your own prevalence"),
    View("Runs: Settings", "tab", "Settings", "[role=tabpanel] [data-testid=stDataFrame]", ""),
    DIAGNOSE,
    HOME,
)
ALL_PAGES = (DATASET, TRAIN, RUNS, DIAGNOSE, HOME)


# -- the workspace ---------------------------------------------------------------------------------


def filled(runs: int, films: int, rows: int) -> dict[str, Any]:
    """Fill this process's workspace as one that has been in use for long; nothing is found.

    Args:
        runs: finished ones, each with curves, a model and what it said of its test films.
        films: phantoms that the built-in set has.
        rows: films of a second set.
    """
    from benchmarks.growth import write_films
    from cxr_core import workspace
    from cxr_core.data import library, phantom, sources
    from cxr_core.training.tracking import RunStore

    phantom.write(workspace.data_folder() / sources.BUILT_IN, films)
    sources.open_catalog(sources.BUILT_IN)
    source = library.Source(key="many", title=LARGE, summary="Small films, drawn to be many.")
    kept = library.keep(source, "many", "1", lambda folder: write_films(folder, rows))
    sources.open_catalog(str(kept))
    store = RunStore()
    for number in range(runs):
        _finished(store, number)
    return {}


def _finished(store: "RunStore", number: int) -> None:
    """Record a run as its training would have left it."""
    from cxr_core import workspace
    from cxr_core.diagnosis import bundle
    from cxr_core.training import recipes
    from cxr_core.training.tracking import TAG_DATA, TAG_RECIPE, TAG_SYNTHETIC, Status

    model = workspace.published_models() / _BUNDLE
    info = bundle.read(model)
    tags = {TAG_RECIPE: _BUNDLE, TAG_DATA: info.data.name, TAG_SYNTHETIC: "true"}
    run_id = store.create(recipes.load(_BUNDLE), name=f"{_BUNDLE}_{number}", tags=tags)
    store.log_params(run_id, {"steps_per_epoch": _STEPS, "train_films": 16 * _STEPS})
    store.log_points(run_id, _history(number))
    test = info.metrics["test"]
    numbers = {f"test_{key}": test[key] for key in test if isinstance(test[key], int | float)}
    store.log_metrics(run_id, numbers)
    store.write_file(run_id, model, "bundle")
    with tempfile.TemporaryDirectory() as name:
        _write_results(Path(name), info, model)
        for file in Path(name).iterdir():
            store.write_file(run_id, file)
    store.set_status(run_id, Status.FINISHED)


def _history(number: int) -> Iterator[tuple[str, int, float, float]]:
    """Yield a run's points: metric, step, value, seconds since 1970."""
    falling = ("train_loss", "val_loss", "learning_rate")
    rising = ("train_accuracy", "val_accuracy", "train_auroc", "val_auroc")
    began = time.time() - 3600.0 * (number + 1)
    for epoch in range(1, _EPOCHS + 1):
        at = began + 10.0 * epoch
        yield from ((metric, epoch, 1 / epoch, at) for metric in falling)
        yield from ((metric, epoch, 1 - 0.5 / epoch, at) for metric in rising)
        yield from (("images_per_second", epoch, 32.0, at), ("epoch_seconds", epoch, 10.0, at))
    for step in range(1, _EPOCHS * _STEPS + 1):
        yield "batch_loss", step, 1 / step, began + 10.0 * step / _STEPS


def _write_results(folder: Path, info: "BundleInfo", model: Path) -> None:
    """Write what a run keeps of its validation and test films."""
    import numpy as np

    from cxr_core.diagnosis import bundle

    films = bundle.read_splits(model).query("split != 'train'")
    truth = films["label"].to_numpy()[:, None] == np.array(info.classes)
    logits = 3 * truth + np.random.default_rng(0).standard_normal(truth.shape)
    columns = [f"logit_{label}" for label in info.classes]
    table = films[["path", "label", "split", "patient_id"]].reset_index(drop=True)
    table[columns] = logits
    table.to_parquet(folder / "predictions.parquet", index=False)
    (folder / "evaluation.json").write_text(json.dumps(info.metrics), encoding="utf-8")


# -- the browser -----------------------------------------------------------------------------------


@contextmanager
def visitor(browser: "Browser", server: Server) -> Iterator["Page"]:
    """Give the page of a new visitor who has accepted the research notice before."""
    with browser.new_context(viewport={"width": 1440, "height": 1000}) as context:
        context.set_default_timeout(_PATIENCE)
        context.add_cookies([{"name": "cxr_notice", "value": "accepted", "url": server.address}])
        yield context.new_page()


# -- measuring -------------------------------------------------------------------------------------


def opened(page: "Page", server: Server, selector: str, text: str) -> float:
    """Open an app's address; return the seconds from its server's start until it is painted."""
    page.goto(server.address, wait_until="commit")
    shall = {"selector": selector, "text": text}
    page.wait_for_function(_PAINTED, arg=shall, polling="raf")
    return time.perf_counter() - server.began


def change(page: "Page", view: View) -> float:
    """Click; return the milliseconds until what it brings is painted."""
    shall = {"selector": view.selector, "text": view.text, "patience": _PATIENCE}
    taken: float = view.control(page).evaluate(_CLICK, shall)
    return taken


def starts(browser: "Browser", home: Path, peer: Path, rounds: int) -> list[Figure]:
    """Return the seconds from a server's start to the first painted page, ours and the peer's."""

    def side(script: Path, selector: str, text: str) -> Callable[[], tuple[float, float]]:
        def measured() -> tuple[float, float]:
            with serve(script, home) as server, visitor(browser, server) as page:
                return server.answered, opened(page, server, selector, text)

        return measured

    ours, theirs = "the app", "an app of one line"
    found = harness.by_turns(
        {ours: side(APP, HOME.selector, HOME.text), theirs: side(peer, "h1", "x")}, rounds
    )
    painted = {name: [last for _, last in sides] for name, sides in found.items()}
    figures = []
    for name, sides in found.items():
        answered = [first for first, _ in sides]
        figures += [
            harness.median(f"{name}: start to the server's answer", answered, "s"),
            harness.median(f"{name}: start to first paint", painted[name], "s"),
        ]
    times = harness.ratio(
        "first paint, of the peer's", painted[ours], painted[theirs], most=_MOST_START
    )
    return [*figures, times]


def changes(browser: "Browser", home: Path, films: int, rows: int, rounds: int) -> list[Figure]:
    """Return how long pages and tabs take from the click, and the server's peak memory."""
    figures = []
    with serve(APP, home) as server, visitor(browser, server) as page:
        opened(page, server, HOME.selector, HOME.text)
        figures += _first_visits(page, f"{films:,} films", ROUND)
        server.settle()
        figures += _later_visits(page, f"{films:,} films", ROUND, rounds)
        change(page, DATASET)
        figures += _first_visits(page, f"{rows:,} films", (_large(rows), TRAIN, HOME))
        server.settle()
        figures += _later_visits(page, f"{rows:,} films", ALL_PAGES, rounds)
        figures.append(Figure("peak memory of the server after all pages", server.peak_mib, "MiB"))
    return figures


def _large(rows: int) -> View:
    """Return the choice of the set of many films on the Dataset page."""
    return View("Dataset: set opened", "radio", "Fetched sets", "h1", f"{rows:,} films")


def _first_visits(page: "Page", films: str, views: Sequence[View]) -> list[Figure]:
    return [
        Figure(f"{view.name}, {films}, first visit", change(page, view), "ms") for view in views
    ]


def _later_visits(page: "Page", films: str, views: Sequence[View], rounds: int) -> list[Figure]:
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for view in views:
            taken[view.name].append(change(page, view))
    return [
        harness.median(f"{name}, {films}", values, "ms", most=_MOST_CHANGE)
        for name, values in taken.items()
    ]


def measure(setting: Setting) -> list[Figure]:
    """Return the times of the first page and of all changes, and the server's peak memory."""
    runs, films = setting.pick(2, 20, 50), setting.pick(60, 300, 5_000)
    rows, rounds = setting.pick(100, 3_000, 100_000), setting.pick(1, 2, 5)
    with chromium() as browser, tempfile.TemporaryDirectory() as name:
        home, peer = Path(name) / "workspace", Path(name) / "peer.py"
        peer.write_text(PEER, encoding="utf-8")
        harness.call(filled, runs, films, rows, CXR_HOME=str(home))
        return [
            Figure("runs in the workspace", runs, "runs"),
            *starts(browser, home, peer, rounds),
            *changes(browser, home, films, rows, rounds),
        ]


CASES = (
    Case(
        "app",
        "first paint against an app of one line, and pages and tabs from the click, in a "
        "workspace that has been in use for long",
        measure,
    ),
)
