"""The doctor names what is there, and gives the mend for what is not."""

from pathlib import Path

import pytest

from cxr_core import cluster, doctor, workspace
from cxr_core.cluster import survey
from cxr_core.doctor import Finding
from cxr_core.errors import TrainingError
from cxr_core.training import machine


def _found(name: str) -> Finding:
    return next(finding for finding in doctor.examine() if finding.name == name)


def test_pins_are_read_from_a_requirements_file(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# tools\n-r other.txt\nnumpy==2.4.6\ntensorflow[and-cuda]==2.21.0\n")
    assert doctor.pins(file) == [("numpy", "2.4.6"), ("tensorflow", "2.21.0")]
    assert doctor.pins(tmp_path / "absent.txt") == []


def test_a_missing_package_comes_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements.txt").write_text("no-such-package==1.0\nnumpy==0.1\n")
    monkeypatch.setattr(workspace, "REPOSITORY", tmp_path)
    assert _found("no-such-package") == Finding(
        "no-such-package", "missing", "not installed", "Run 'pip install no-such-package==1.0'."
    )
    other = _found("numpy")
    assert other.state == "optional"
    assert "tested with 0.1" in other.found


def test_the_workspace_is_the_one_in_use(workspace_folder: Path) -> None:
    found = _found("Workspace")
    assert found.state == "ok"
    assert str(workspace_folder) in found.found


def test_a_store_that_cannot_be_opened_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/runs.db")
    found = _found("Run store")
    assert found.state == "missing"
    assert "MLFLOW_TRACKING_URI" in found.mend


def test_the_device_is_named_in_words() -> None:
    found = _found("Device")
    assert found.state in ("ok", "optional")
    assert len(found.found) > 3


def test_little_free_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: 500_000_000)
    found = next(doctor._machine())
    assert (found.name, found.state, found.found) == ("Memory", "optional", "0.5 GB free")
    assert "Close other programs" in found.mend


@pytest.mark.parametrize("driver", [False, True])
def test_what_shows_a_gpus_load_is_only_missed_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, driver: bool
) -> None:
    monkeypatch.setattr(doctor, "GPU_MONITOR", "no-such-package")
    monkeypatch.setattr(machine, "has_nvidia_driver", lambda: driver)
    mends = [found.mend for found in doctor._machine() if found.name == "GPU monitor"]
    assert bool(mends) is driver
    assert all("pip install no-such-package" in mend for mend in mends)


def test_ray_is_only_missed_where_the_environment_names_a_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "installed", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert [found.state for found in doctor._ray()] == ["optional"]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    (found,) = doctor._ray()
    assert found.state == "missing"
    assert "pip install -r requirements-ray.txt" in found.mend


def test_every_node_of_the_cluster_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    alike = {name: survey._version(name) for name in survey._DECISIVE}

    def node(host: str, **changes: object) -> survey.Node:
        fields = {"node_id": host, "cores": 4, "gpus": 1, "packages": alike}
        return survey.Node(host, **{**fields, "code": machine.code_version(), **changes})

    nodes = [
        node("good"),
        node("bare", error="No module named 'cxr_core'"),
        node("far", store="The run store is not here."),
        node("old", code="0.0.1"),
    ]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(survey, "look", lambda *_: nodes)
    _, all_of_it, good, bare, far, old = doctor._ray()
    assert all_of_it.found == "head:6379, 4 nodes"
    assert [each.state for each in (good, bare, far, old)] == [
        "ok",
        "missing",
        "missing",
        "optional",
    ]
    assert "4 cores, 1 GPU" in good.found
    assert "PYTHONPATH" in bare.mend
    assert "MLFLOW_TRACKING_URI" in far.mend
    assert "cxr_core 0.0.1" in old.found

    def away(*_: object) -> list[survey.Node]:
        raise TrainingError("The Ray cluster at head:6379 does not answer: refused.")

    monkeypatch.setattr(survey, "look", away)
    *_, found = doctor._ray()
    assert (found.state, found.found[:15]) == ("missing", "The Ray cluster")
