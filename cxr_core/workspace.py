"""Where the app keeps what it makes: runs, caches, the built-in data set.

One folder, ``workspace/`` beside the package; the environment variable ``CXR_HOME`` moves it.
Nothing outside this folder is ever written, except where the user names an output.
"""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def home() -> Path:
    """Return the workspace folder (absolute), making it where it is not there yet."""
    folder = Path(os.environ.get("CXR_HOME") or REPOSITORY / "workspace").expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def data_folder() -> Path:
    """Return the folder for data sets that the app itself made or fetched."""
    return _inside("data")


def catalog_folder() -> Path:
    """Return the folder for cached catalogs, one Parquet file a scanned data set."""
    return _inside("catalogs")


def exclusion_folder() -> Path:
    """Return the folder of the lists of excluded films: a person's work, not to be deleted."""
    return _inside("exclusions")


def cache_folder() -> Path:
    """Return the folder for decoded-image caches; safe to delete at any time."""
    return _inside("cache")


def run_folder(run_id: str) -> Path:
    """Return the scratch folder of one run: its log, its checkpoint, what was fetched of it."""
    return _inside("runs", run_id)


def checkpoint_folder(run_id: str) -> Path:
    """Return where a run keeps its state between epochs; it may not exist yet."""
    return run_folder(run_id) / "checkpoint"


def published_models() -> Path:
    """Return the repository's ``models/`` folder, where published bundles live."""
    return REPOSITORY / "models"


def _inside(*parts: str) -> Path:
    folder = home().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
