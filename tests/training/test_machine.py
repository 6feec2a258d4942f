"""What a machine is said to have, read from files as systems keep them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import cxr_core
from cxr_core import workspace
from cxr_core.config import RunConfig
from cxr_core.training import machine
from cxr_core.training.machine import MemoryKills

GB = 1 << 30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of our own, on a machine with 64 GB free."""
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(machine, "_VMSTAT", tmp_path / "vmstat")
    memory = SimpleNamespace(available=64 * GB)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: memory)
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 7\n")
    return tmp_path


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_without_control_groups_what_the_machine_has_free_counts(groups):
    assert machine.free_memory() == 64 * GB
    assert MemoryKills.so_far() == MemoryKills(7, groups / "vmstat")


@pytest.mark.parametrize(
    ("own", "place", "names"),
    [
        ("0::/app", "groups/app", ("memory__max", "memory__current")),
        ("0::/as/the/host/sees/it", "groups", ("memory__max", "memory__current")),
        (
            "3:cpu:/app\n4:memory:/app",
            "groups/memory/app",
            ("memory__limit_in_bytes", "memory__usage_in_bytes"),
        ),
    ],
)
def test_a_control_groups_limit_counts_less_what_is_used_and_not_only_cached(
    groups, own, place, names
):
    (groups / "own").write_text(f"{own}\n")
    limit, used = names
    cached = f"anon {3 * GB}\ninactive_file {GB}"
    write(groups / place, **{limit: str(8 * GB), used: str(5 * GB), "memory__stat": cached})
    assert machine.free_memory() == 4 * GB


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096)])
def test_a_group_without_a_limit_has_what_the_machine_has(groups, limit):
    (groups / "own").write_text("0::/app\n4:memory:/app\n")
    write(groups / "groups/app", memory__max=limit, memory__current=str(GB))
    write(groups / "groups/memory/app", memory__limit_in_bytes=limit)
    assert machine.free_memory() == 64 * GB


@pytest.mark.parametrize(
    ("own", "place", "file"),
    [
        ("0::/app", "groups/app", "memory.events"),
        ("4:memory:/app", "groups/memory/app", "memory.oom_control"),
    ],
)
def test_a_process_ended_for_want_of_memory_is_noticed(groups, own, place, file):
    (groups / "own").write_text(f"{own}\n")
    write(groups / place, **{file.replace(".", "__"): "under_oom 0\noom_kill 2"})
    before = MemoryKills.so_far()
    assert before == MemoryKills(2, groups / place / file)
    assert MemoryKills.from_text(str(before)) == before
    assert not before.more_since
    write(groups / place, **{file.replace(".", "__"): "under_oom 0\noom_kill 3"})
    assert before.more_since
    (groups / place / file).unlink()
    assert not before.more_since  # nobody knows


@pytest.mark.parametrize("text", ["", "many /proc/vmstat", "3"])
def test_what_is_no_count_is_none(text):
    assert MemoryKills.from_text(text) is None


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("processor : 0\nflags : fpu sse2 avx512_bf16\n", True),
        ("processor : 0\nflags : fpu amx_bf16 amx_tile\n", True),
        ("processor : 0\nFeatures : fp asimd bf16\n", True),
        ("processor : 0\nflags : fpu sse2 avx512f\n", False),
        (None, None),
    ],
)
def test_bfloat16_is_read_from_the_processors_flags(tmp_path, monkeypatch, cpuinfo, has):
    file = tmp_path / "cpuinfo"
    if cpuinfo:
        file.write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", file)
    assert machine.has_bfloat16() is has


@pytest.mark.parametrize(
    ("script", "memory"),
    [("echo 81559; echo 40000", 81559 << 20), ("echo no devices; exit 9", None), ("exit 0", None)],
)
def test_a_gpus_memory_is_what_nvidias_own_tool_says(tmp_path, monkeypatch, script, memory):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    machine.gpu_memory.cache_clear()
    try:
        assert machine.gpu_memory() == memory
    finally:
        machine.gpu_memory.cache_clear()


def test_the_code_is_known_by_its_commit_where_it_is_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "REPOSITORY", tmp_path)
    assert machine.code_version() == cxr_core.__version__
    (tmp_path / ".git").mkdir()
    answers = {"rev-parse": "0123456789ab", "status": ""}
    monkeypatch.setattr(machine, "_answer", lambda *command: answers[command[3]])
    assert machine.code_version() == f"{cxr_core.__version__}, commit 0123456789ab"
    answers["status"] = " M cxr_core/config.py"
    assert machine.code_version().endswith("commit 0123456789ab with uncommitted changes")
    answers["rev-parse"] = ""  # no git here, or it does not trust the folder
    assert machine.code_version() == cxr_core.__version__


def test_what_several_gpus_do_with_a_batch_is_said_with_its_numbers():
    optimise = RunConfig().with_values({"optimise.batch_size": 48}).optimise
    said = machine.shared_batch(optimise, 2)
    assert said.startswith("2 GPUs shared each batch: 48 films a step in all, about 24 a GPU")
    assert "learning rate of 0.001, as on one GPU" in said


def test_the_cores_that_a_run_was_given_are_those_it_counts(monkeypatch):
    monkeypatch.setenv(machine.THREADS, "3")
    assert machine.threads() == 3
    monkeypatch.delenv(machine.THREADS)
    assert machine.threads() >= 1
