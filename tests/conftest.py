"""Shared fixtures: a workspace of its own for every test, small phantoms, and the real films."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from cxr_core.training.tracking import RunStore

settings.register_profile("unhurried", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("unhurried")

REPOSITORY = Path(__file__).resolve().parent.parent


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
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty phantom films with their metadata.csv."""
    from cxr_core.data import phantom

    folder = tmp_path_factory.mktemp("phantoms") / "set"
    phantom.write(folder, images=60, seed=0)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real films, or skip where this machine has none."""
    folder = Path(os.environ.get("CXR_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real films: {folder} is not there; set CXR_DATA to a folder that has them")
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh SQLite store, to be copied: MLflow takes seconds to make its tables."""
    from cxr_core.training.tracking import RunStore

    home = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        RunStore().prepare()
    return home / "runs.db"


@pytest.fixture
def store(empty_store: Path, workspace_folder: Path) -> "RunStore":
    """An empty store in this test's workspace."""
    from cxr_core.training.tracking import RunStore

    workspace_folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_store, workspace_folder / "runs.db")
    return RunStore()
