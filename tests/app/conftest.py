"""Fixtures for the app: AppTest on a page, and one small finished run shared by all tests."""

import functools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from cxr_core import workspace
from cxr_core.training import jobs, recipes
from cxr_core.training.tracking import RunStore, Status
from cxr_core.ui import datasets, uploads

REPOSITORY = Path(__file__).resolve().parents[2]
Open = Callable[..., AppTest]
Made = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session", autouse=True)
def _components_are_looked_for_once() -> Iterator[None]:
    """Every AppTest would look through all installed packages for Streamlit's components."""
    with pytest.MonkeyPatch.context() as patch:
        found = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", found)
        yield


@pytest.fixture(autouse=True)
def _store_is_there(empty_store: Path, workspace_folder: Path) -> None:
    """Every test has a run store without a run; making one takes longer than a page."""
    workspace_folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_store, workspace_folder / "runs.db")


@pytest.fixture(autouse=True)
def _fresh_caches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What one test's workspace held must not be remembered in the next one's.

    And a page has all the time it needs to read the films, since no browser asks for it again.
    """
    monkeypatch.setattr(datasets, "_AT_ONCE", 120.0)
    monkeypatch.setattr(uploads, "_AT_ONCE", 120.0)
    st.cache_data.clear()
    st.cache_resource.clear()
    yield


@pytest.fixture
def open_page(phantoms: Path) -> Open:
    """Open a page as a visitor who has accepted the notice, with 60 phantoms as the data set."""

    def open_at(page: str, *, accepted: bool = True, **state: object) -> AppTest:
        app = AppTest.from_file(str(REPOSITORY / "streamlit_app.py"), default_timeout=300)
        if accepted:
            app.session_state["notice_accepted"] = True
        app.session_state["data_kind"] = "folder"
        app.session_state["data_folder"] = str(phantoms)
        app.session_state["data_root"] = str(phantoms)
        for key, value in state.items():
            app.session_state[key] = value
        app.switch_page(f"pages/{page}.py")
        return app.run()

    return open_at


@dataclass(frozen=True)
class Finished:
    """A workspace with one finished run in it."""

    workspace: Path
    run_id: str


@pytest.fixture(scope="session")
def _trained(
    made_once: Made, tmp_path_factory: pytest.TempPathFactory, phantoms: Path, empty_store: Path
) -> Finished:
    """Train the small CNN for one epoch at 32 px, in its own process, as the app does."""

    def train(home: Path) -> None:
        home.mkdir()
        shutil.copy(empty_store, home / "runs.db")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CXR_HOME", str(home))
            store = RunStore()
            config = recipes.load("plain_cnn").with_values(
                {
                    "data.root": str(phantoms),
                    "image.size": 32,
                    "optimise.epochs": 1,
                    "optimise.batch_size": 16,
                    "hardware.precision": "float32",  # no trial of formats
                }
            )
            ended = jobs.wait(jobs.start(config, recipe="plain_cnn", store=store), store)
            assert ended.status is Status.FINISHED, ended.reason

    # A copy, as a page writes into its workspace, and other processes test pages too.
    home = tmp_path_factory.mktemp("trained") / "workspace"
    shutil.copytree(made_once("trained", train), home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(home))
        (run,) = RunStore().list()
    return Finished(home, run.run_id)


@pytest.fixture
def finished(_trained: Finished, monkeypatch: pytest.MonkeyPatch) -> Finished:
    """The workspace of the finished run, as the workspace of this test; leave it as it is.

    Its model is the only one: none of those that come with the app stands beside it.
    """
    monkeypatch.setenv("CXR_HOME", str(_trained.workspace))
    monkeypatch.setattr(workspace, "published_models", lambda: _trained.workspace / "models")
    return _trained


def texts(app: AppTest) -> str:
    """Return all that a page says, in one text."""
    kinds = ("title", "header", "subheader", "markdown", "caption", "error", "warning", "metric")
    found = []
    for kind in kinds:
        for element in app.get(kind):
            found += [str(getattr(element, "label", "")), str(element.value)]
    return "\n".join(found)
