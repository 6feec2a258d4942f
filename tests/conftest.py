"""Shared fixtures: a workspace of its own for every test, small phantoms, and the real films."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
