"""What happens on a node of the cluster: a run trains there, or is asked what the node has.

A run has a workspace of its own on the node, inside the node's: no two runs, and no two attempts at
one run, ever meet in a lock or a folder, also where two nodes stand on one machine. What is made
from films alone (decoded films, catalogs, the built-in set) is the node's, and serves all its runs.
"""

import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from cxr_core import workspace
from cxr_core.data import exclusions, sources
from cxr_core.errors import CxrError, TrainingError
from cxr_core.training import jobs, kept
from cxr_core.training.machine import THREADS, code_version
from cxr_core.training.tracking import TAG_NODE, TAG_SEEN_AT, RunStore, Status

LEFT_OUT = "asked/exclusions.json"  # the run's artefact with the list of the one who asked for it

_SHARED = ("data", "catalogs", "cache")  # folders of a node's workspace that serve all its runs


def train(run_id: str, uri: str, cores: int) -> None:
    """Train a run to its end in a process that ends with this one.

    Args:
        run_id: which run.
        uri: the run store.
        cores: how many the run may use.

    Raises:
        TrainingError: the run store cannot be reached from here.
    """
    import ray

    with _own_workspace():
        os.environ[THREADS] = str(cores)
        store = open_store(uri)
        here = f"{socket.gethostname()} (node {ray.get_runtime_context().get_node_id()[:8]})"
        store.set_tags(run_id, {TAG_NODE: here, TAG_SEEN_AT: f"{time.time():.0f}"})
        _honour_exclusions(run_id, store)
        _Tethered(store).see_through(run_id)
        run = store.get(run_id)
        if run.status is Status.FAILED:  # as one whose worker was killed: it may be resumed
            kept.Keeper(store, run, workspace.run_folder(run_id) / jobs.LOG_FILE).copy_new()


def open_store(uri: str) -> RunStore:
    """Open the run store; unlike `RunStore` never make one, which would be another of that name.

    Raises:
        TrainingError: it is not here, or cannot be opened.
    """
    file = _file_of(uri)
    if file is not None and not file.is_file():
        raise TrainingError(
            f"The run store {uri} is a file, and it is not on this machine. Machines that share no "
            "disk need an MLflow server: set MLFLOW_TRACKING_URI to it where the runs are started."
        )
    return RunStore(uri)


def describe(uri: str, files_at: str, run_id: str, roots: Iterable[str]) -> dict[str, Any]:
    """Return what there is on this node, and what it does not reach, as plain values.

    Args:
        uri: the run store, "" where none is needed.
        files_at: where it keeps its files.
        run_id: a run that must be in it; "" where there is none yet.
        roots: folders that must be there.

    Returns:
        ``host``, ``python``, ``code`` (version of this package), ``store`` (why it is not
        reached, "" where it is) and ``missing``, those of the folders that are not here.
    """
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "code": code_version(),
        "store": _store_fault(uri, files_at, run_id) if uri else "",
        "missing": [root for root in roots if not Path(root).exists()],
    }


def _store_fault(uri: str, files_at: str, run_id: str) -> str:
    try:
        store = open_store(uri)
        if run_id:
            store.get(run_id)
    except CxrError as error:
        return str(error)
    folder = _file_of(files_at)
    if folder is None:
        return ""
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    if folder not in (there, there / folder.name) or not os.access(there, os.W_OK):
        return f"The run store keeps its files in {folder}, which cannot be written here."
    return ""


def _file_of(address: str) -> Path | None:
    """Return the file or folder that an address means, None where it is that of a server."""
    parts = urlsplit(address)
    if parts.scheme.startswith("sqlite"):
        return Path(address.partition(":///")[2])
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


class _Tethered(jobs.LocalLauncher):
    """Starts a worker that ends when this process does, however that ends."""

    _stdin = subprocess.PIPE

    def see_through(self, run_id: str) -> None:
        """Start the worker of a run and wait for its end."""
        worker, name = self._begin(run_id)
        try:
            self._reap(run_id, name, worker)
        finally:
            worker.kill()
            worker.wait()

    def _command(self, run_id: str) -> list[str]:
        return [sys.executable, "-P", "-m", "cxr_core.cluster.tethered", run_id]


def _honour_exclusions(run_id: str, store: RunStore) -> None:
    """Make the list of excluded films that of the person who asked for the run."""
    try:
        content = store.path(run_id, LEFT_OUT).read_bytes()
    except TrainingError:  # nothing is excluded
        return
    exclusions.put_down(sources.folder(store.config(run_id).data.root).resolve(), content)


@contextmanager
def _own_workspace() -> Iterator[None]:
    """Make an empty workspace the one of this process, and take it away at the end."""
    shared = workspace.home()
    shelf = shared / "cluster"
    shelf.mkdir(exist_ok=True)
    _clear(shelf)
    home = shelf / uuid.uuid4().hex
    before = os.environ.get("CXR_HOME", "")
    with FileLock(f"{home}.lock"):
        home.mkdir()
        for name in _SHARED:
            (shared / name).mkdir(exist_ok=True)
            (home / name).symlink_to(shared / name, target_is_directory=True)
        os.environ["CXR_HOME"] = str(home)
        try:
            yield
        finally:
            os.environ["CXR_HOME"] = before
            shutil.rmtree(home, ignore_errors=True)
            Path(f"{home}.lock").unlink(missing_ok=True)


def _clear(shelf: Path) -> None:
    """Remove what was left by processes that were killed: nobody holds the lock of theirs."""
    for lock in shelf.glob("*.lock"):
        try:
            with FileLock(lock, timeout=0):
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)
        except Timeout:
            continue
