"""A Ray cluster of two nodes on this machine, each with a core for a run."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MEMORY = 100 << 20  # bytes of a node's store of objects


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """The workspace of these tests, which is also that of both nodes: they share a machine."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copy(empty_store, folder / "runs.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(folder))
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield folder


@pytest.fixture(scope="module")
def ray_cluster(home: Path) -> Iterator[Any]:
    """The cluster, as `ray.cluster_utils.Cluster`; nothing in this process is connected to it."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    from ray.cluster_utils import Cluster

    logs = tempfile.mkdtemp(prefix="ray-")  # short: a socket's path may have 107 bytes
    node = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": logs})
    try:
        cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(logs, ignore_errors=True)


@pytest.fixture
def in_the_cluster(home: Path, workspace_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """See the workspace of the cluster's runs in place of an empty one."""
    monkeypatch.setenv("CXR_HOME", str(home))
