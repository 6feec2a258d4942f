"""What the training tests share: a run store made in no time, and waiting for a state."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_core.training.tracking import RunStore


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh SQLite store, to be copied: MLflow takes seconds to make its tables."""
    home = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        RunStore()
    return home / "runs.db"


@pytest.fixture
def store(empty_store: Path, workspace_folder: Path) -> RunStore:
    """An empty store in this test's workspace."""
    workspace_folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_store, workspace_folder / "runs.db")
    return RunStore()


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
