"""What this machine has for a run: memory, GPUs, number formats; asked without TensorFlow."""

import ctypes
import functools
import gc
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

import cxr_core
from cxr_core import workspace
from cxr_core.config import OptimiseConfig

THREADS = "TF_NUM_INTRAOP_THREADS"  # by this variable TensorFlow is told how many it may use

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_VMSTAT = Path("/proc/vmstat")
_CPUINFO = Path("/proc/cpuinfo")
_NO_LIMIT = 1 << 60  # bytes; a larger limit is how a control group says that it has none
_PATIENCE = 10.0  # seconds for a small tool such as git to answer


def has_nvidia_driver() -> bool:
    """Tell if an NVIDIA driver is there."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


@functools.cache
def gpu_memory() -> int | None:
    """Return the bytes of memory of the first GPU, None where nobody knows."""
    answer = _answer("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
    try:
        return int(answer.splitlines()[0]) << 20  # it counts in MiB
    except (IndexError, ValueError):
        return None


def give_back_memory() -> None:
    """Hand memory that is free inside this process back to the system; glibc else keeps it.

    Worth its milliseconds where much was freed and something large comes next.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def shared_batch(optimise: OptimiseConfig, gpus: int | None = None) -> str:
    """Say what it means for batch and learning rate that several GPUs train a network.

    Args:
        optimise: the run's settings.
        gpus: how many there are, None where that is not known yet.
    """
    films, rate = optimise.batch_size, optimise.learning_rate
    if gpus is None:
        who, each = "All GPUs of the machine share each batch", ""
    else:
        who, each = f"{gpus} GPUs shared each batch", f", about {films / gpus:g} a GPU"
    return (
        f"{who}: {films} films a step in all{each}, at the learning rate of {rate:g}, as on one "
        "GPU. A larger optimise.batch_size may fill them better; the rate is then yours to raise."
    )


def free_memory() -> int:
    """Return the bytes of memory that a new process can have, within its control group's limit."""
    free: int = psutil.virtual_memory().available
    for folder in _own_groups():
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            most = _number(folder / limit)
            if most is not None and most < _NO_LIMIT:
                # What files are cached counts as used, and is given up as soon as it is needed.
                cached = _field(folder / "memory.stat", "inactive_file") or 0
                free = min(free, most - (_number(folder / used) or 0) + cached)
    return max(free, 0)


def threads() -> int:
    """Return how many cores this process may compute with."""
    told = os.environ.get(THREADS, "")
    if told.isdigit() and int(told):
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_bfloat16() -> bool | None:
    """Tell if the processor computes with bfloat16, None where it does not say (not Linux)."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.split()))


@dataclass(frozen=True)
class MemoryKills:
    """How many processes the system has ended for want of memory, and the file that says so."""

    count: int
    file: Path

    @classmethod
    def so_far(cls) -> Self | None:
        """Count for this process's control group, else for the machine; None where none says."""
        places = [folder / name for folder in _own_groups() for name in _KILL_FILES]
        return next((found for file in [*places, _VMSTAT] if (found := cls._of(file))), None)

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """Read what `str` gave, None where it is no such text."""
        count, _, file = text.partition(" ")
        return cls(int(count), Path(file)) if count.isdigit() and file else None

    @property
    def more_since(self) -> bool:
        """True where the system has ended a process since these were counted."""
        now = self._of(self.file)
        return now is not None and now.count > self.count

    @classmethod
    def _of(cls, file: Path) -> Self | None:
        count = _field(file, "oom_kill")
        return None if count is None else cls(count, file)

    def __str__(self) -> str:
        return f"{self.count} {self.file}"


_KILL_FILES = ("memory.events", "memory.oom_control")  # of control groups version 2 and 1


def code_version() -> str:
    """Return the code's version, with its commit where it runs from a git checkout."""
    if not (workspace.REPOSITORY / ".git").exists():  # else git would look in the folders above
        return cxr_core.__version__
    git = ("git", "-C", str(workspace.REPOSITORY))
    commit = _answer(*git, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return cxr_core.__version__
    changed = _answer(*git, "status", "--porcelain", "--untracked-files=no", "--", "cxr_core")
    return (
        f"{cxr_core.__version__}, commit {commit}{' with uncommitted changes' if changed else ''}"
    )


def _answer(*command: str) -> str:
    """Return what a small tool prints, "" where it is missing or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _own_groups() -> list[Path]:
    """Return the folders that may speak of this process's memory group, the nearest first."""
    try:
        lines = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, kind, path = line.split(":", 2)
        if kind in ("", "memory"):
            top = _CGROUPS / kind
            # In a container the path may be that of the host, and its own group the top.
            folders += [top / path.lstrip("/"), top]
    return folders


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" is no limit
        return None


def _field(file: Path, name: str) -> int | None:
    """Return the number after a name in a file of lines "name number"."""
    try:
        for line in file.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return None
