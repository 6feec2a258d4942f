"""Shared fixtures: a workspace of its own for every test, small phantoms, and the real films."""

import gc
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings

if TYPE_CHECKING:
    from cxr_core.training.tracking import RunStore

settings.register_profile("unhurried", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("unhurried")

REPOSITORY = Path(__file__).resolve().parent.parent
Made = Callable[[str, Callable[[Path], object]], Path]

# The files that take longest, the longest first: so two processes end at about the same time.
LONG = (
    "training/test_recipes.py",
    "browser/test_journey.py",
    "training/test_training_runs.py",
    "zoo/test_zoo_networks.py",
    "app/test_shipped_pages.py",
    "test_benchmarks.py",
    "training/test_fitting.py",
    "browser/test_diagnose.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; xdist keeps the order (--no-loadscope-reorder)."""
    places = {REPOSITORY / "tests" / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def _imports_are_no_garbage() -> None:
    """Spare the collector what was imported: going through TensorFlow takes it a third of a second.

    It does so whenever a graph was traced, and a training asks for it between its stages.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Made:
    """A function that returns a folder by its name, made by the process that first asks for it."""
    mine = tmp_path_factory.getbasetemp()
    shared = mine if worker_id == "master" else mine.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / "made" / name
        folder.parent.mkdir(exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            done = folder.with_suffix(".done")
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(autouse=True)
def workspace_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the app at an empty workspace, so that no test sees another's runs."""
    folder = tmp_path / "workspace"
    monkeypatch.setenv("CXR_HOME", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def wait_until(state: Callable[[], bool], what: str, seconds: float = 180) -> None:
    """Wait until a state is reached, looking often; fail where it never is."""
    deadline = time.monotonic() + seconds
    while not state():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """The function that waits for a state."""
    return wait_until


@pytest.fixture(scope="session")
def phantoms(made_once: Made) -> Path:
    """Sixty phantom films with their metadata.csv."""
    from cxr_core.data import phantom

    return made_once("phantoms", lambda folder: phantom.write(folder, images=60, seed=0))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real films, or skip where this machine has none."""
    folder = Path(os.environ.get("CXR_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real films: {folder} is not there; set CXR_DATA to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def empty_store(made_once: Made) -> Path:
    """A fresh SQLite store, to be copied: MLflow takes seconds to make its tables."""
    from cxr_core.training.tracking import RunStore

    def make(home: Path) -> None:
        home.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CXR_HOME", str(home))
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            RunStore().prepare()

    return made_once("store", make) / "runs.db"


@pytest.fixture
def store(empty_store: Path, workspace_folder: Path) -> "RunStore":
    """An empty store in this test's workspace."""
    from cxr_core.training.tracking import RunStore

    workspace_folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_store, workspace_folder / "runs.db")
    return RunStore()
