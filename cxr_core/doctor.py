"""The doctor: what is installed here, which device there is, what is missing and how to mend it."""

import importlib.metadata
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxr_core import cluster, workspace
from cxr_core.errors import CxrError

State = Literal["ok", "missing", "optional"]

PYTHON = (3, 11)
DISK_NEEDED = 2e9  # bytes: the built-in set, a few runs and their caches
MEMORY_NEEDED = 2e9  # bytes: TensorFlow and a small network
GPU_MONITOR = "nvidia-ml-py"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    state: State  # "missing" hinders the app, "optional" only what the mend names
    found: str  # what there is, in words
    mend: str = ""  # what to do, "" where all is well


def examine() -> Iterator[Finding]:
    """Look at everything, the quick things first; importing TensorFlow takes some seconds."""
    yield _python()
    yield from _packages()
    yield _workspace()
    yield _run_store()
    yield _weights()
    yield _chromium()
    yield from _machine()
    yield from _ray()
    yield _device()


def _python() -> Finding:
    version = platform.python_version()
    if sys.version_info >= PYTHON:
        return Finding("Python", "ok", version)
    needed = ".".join(map(str, PYTHON))
    return Finding("Python", "missing", version, f"Install Python {needed} or later.")


def _packages() -> Iterator[Finding]:
    """Compare what is installed with the versions that were tested together."""
    for name, tested in pins(workspace.REPOSITORY / "requirements.txt"):
        install = f"pip install {name}=={tested}"
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "missing", "not installed", f"Run '{install}'.")
            continue
        if version == tested:
            yield Finding(name, "ok", version)
        else:
            found = f"{version}; tested with {tested}"
            yield Finding(name, "optional", found, f"If something fails, run '{install}'.")


def pins(requirements: Path) -> list[tuple[str, str]]:
    """Return the (package, version) pairs that a requirements file pins; [] where it is absent."""
    if not requirements.is_file():
        return []
    lines = requirements.read_text(encoding="utf-8").splitlines()
    pinned = [line.partition("==") for line in lines if "==" in line and not line.startswith("#")]
    return [(name.partition("[")[0].strip(), version.strip()) for name, _, version in pinned]


def _workspace() -> Finding:
    try:
        home = workspace.home()
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        mend = "Set CXR_HOME to a folder that can be written."
        return Finding("Workspace", "missing", f"cannot be written: {error}", mend)
    free = shutil.disk_usage(home).free
    found = f"{home}, {free / 1e9:.1f} GB free"
    if free < DISK_NEEDED:
        mend = f"Free {DISK_NEEDED / 1e9:.0f} GB, or set CXR_HOME to a larger disk."
        return Finding("Workspace", "missing", found, mend)
    return Finding("Workspace", "ok", found)


def _run_store() -> Finding:
    try:
        from cxr_core.training.tracking import RunStore

        store = RunStore()
        return Finding("Run store", "ok", f"{store.uri}, {len(store.list())} runs")
    except (CxrError, ImportError) as error:
        mend = "Check MLFLOW_TRACKING_URI and the workspace, and install what is missing above."
        return Finding("Run store", "missing", str(error), mend)


def _weights() -> Finding:
    """Look for the pretrained weights that are installed, not fetched at their first use."""
    from cxr_core.zoo import registry

    networks = [registry.get(name) for name in registry.names()]
    carried = [each for each in networks if each.imagenet and not each.imagenet.fetched]
    for network in carried:
        assert network.imagenet is not None
        try:
            network.imagenet.find()
        except CxrError as error:
            return Finding("ImageNet weights", "missing", network.title, str(error))
    return Finding("ImageNet weights", "ok", ", ".join(network.title for network in carried))


def _chromium() -> Finding:
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found:
        return Finding("Chromium", "ok", found)
    return Finding(
        "Chromium",
        "optional",
        "not installed",
        "Only the browser tests and the screenshots need it: 'apt-get install chromium'.",
    )


def _machine() -> Iterator[Finding]:
    try:
        from cxr_core.training import machine
    except ImportError:  # what it needs is among the packages found missing
        return
    free = machine.free_memory()
    found = f"{free / 1e9:.1f} GB free"
    if free < MEMORY_NEEDED:
        mend = "Close other programs: with less than this even a small training may be ended."
        yield Finding("Memory", "optional", found, mend)
    else:
        yield Finding("Memory", "ok", found)
    if machine.has_nvidia_driver():
        yield _gpu_monitor()


def _gpu_monitor() -> Finding:
    """Look for what tells the load of an NVIDIA GPU while a run trains."""
    try:
        version = importlib.metadata.version(GPU_MONITOR)
    except importlib.metadata.PackageNotFoundError:
        mend = f"Run 'pip install {GPU_MONITOR}' to see the GPU's load and memory while training."
        return Finding("GPU monitor", "optional", "not installed", mend)
    return Finding("GPU monitor", "ok", f"{GPU_MONITOR} {version}")


def _ray() -> Iterator[Finding]:
    """Look for Ray, and at every node of the cluster that the environment names."""
    where = cluster.address()
    if not cluster.installed():
        mend = f"Only a cluster needs it: 'pip install -r {cluster.REQUIREMENTS}'."
        if where:
            mend = f"RAY_ADDRESS names a cluster: run 'pip install -r {cluster.REQUIREMENTS}'."
        yield Finding("Ray", "missing" if where else "optional", "not installed", mend)
        return
    yield Finding("Ray", "ok", importlib.metadata.version("ray"))
    if not where:
        return
    try:
        from cxr_core.cluster import survey
        from cxr_core.training.tracking import RunStore

        nodes = survey.look(where, RunStore())
    except (CxrError, ImportError) as error:
        mend = "Start the cluster, or take RAY_ADDRESS back."
        yield Finding("Ray cluster", "missing", str(error), mend)
        return
    yield Finding("Ray cluster", "ok", f"{where}, {len(nodes)} node{'s' * (len(nodes) != 1)}")
    for node in nodes:
        name = f"Node {node.host} ({node.node_id[:8]})"
        if node.error:
            yield Finding(name, "missing", node.error, survey.mend(node.error))
        elif node.store:
            mend = "Set MLFLOW_TRACKING_URI to a store that every node reaches."
            yield Finding(name, "missing", node.store, mend)
        elif node.differences:
            mend = "Install the same versions there: other ones may give other results."
            yield Finding(name, "optional", f"{node.words}; {node.differences}", mend)
        else:
            yield Finding(name, "ok", f"{node.words}; it reaches the run store")


def _device() -> Finding:
    try:
        from cxr_core.config import HardwareConfig
        from cxr_core.training import device, machine

        chosen = device.choose(HardwareConfig())
    except ImportError as error:
        mend = "Run 'pip install -r requirements.txt'."
        return Finding(
            "Device", "missing", f"TensorFlow or what it needs cannot be imported: {error}", mend
        )
    if machine.has_nvidia_driver() and not chosen.is_gpu:
        mend = "There is an NVIDIA GPU: run 'pip install -r requirements-gpu.txt' to use it."
        return Finding("Device", "optional", chosen.words, mend)
    return Finding("Device", "ok", chosen.words)
