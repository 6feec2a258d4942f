"""What is looked at before a run starts."""

import pandas as pd
import pytest

from cxr_core.config import RunConfig
from cxr_core.diagnosis import bundle
from cxr_core.training import checks


def problems(changes: dict) -> dict[str, str]:
    """Title and severity of what stands against the default configuration with changes."""
    return {p.title: p.severity for p in checks.check(RunConfig().with_values(changes))}


@pytest.fixture(autouse=True)
def machine_without_gpu(monkeypatch, store):
    monkeypatch.setattr(checks, "has_nvidia_driver", lambda: False)


def test_the_default_configuration_may_start():
    assert problems({}) == {}


@pytest.mark.parametrize(
    ("changes", "title", "severity"),
    [
        ({"model.architecture": "alexnet"}, "This network cannot be built", "error"),
        ({"model.weights": "imagenet"}, "This network cannot be built", "error"),
        ({"model.weights": "bundle:none-such"}, "The bundle to start from is missing", "error"),
        ({"data.root": "/no/such/folder"}, "The data set is not there", "error"),
        (
            {"model.architecture": "efficientnet_lite0", "image.size": 32},
            "This network cannot be built",
            "error",
        ),
        (
            {"optimise.schedule": "cosine", "optimise.warmup_epochs": 20},
            "The warm-up never ends",
            "error",
        ),
        ({"stop.min_learning_rate": 0.1}, "The lowest rate is above the rate", "error"),
        ({"hardware.device": "gpu"}, "No GPU here", "error"),
        ({"hardware.precision": "mixed_float16"}, "Half precision is slow on a CPU", "warning"),
        ({"optimise.weight_decay": 0.1}, "Weight decay has no effect", "warning"),
        ({"optimise.warmup_epochs": 1}, "The warm-up has no effect", "warning"),
        ({"augment.flip": True}, "Films are mirrored", "warning"),
    ],
)
def test_a_fault_is_found_alone(changes, title, severity):
    assert problems(changes) == {title: severity}


def test_errors_come_before_warnings():
    found = checks.check(
        RunConfig().with_values({"augment.flip": True, "data.root": "/no/such/folder"})
    )
    assert [problem.severity for problem in found] == ["error", "warning"]


def test_an_almost_full_disk_is_told(monkeypatch):
    monkeypatch.setattr(checks, "_DISK_NEEDED", 1 << 80)
    assert problems({}) == {"The disk is almost full": "warning"}


def test_a_bundle_of_another_network_is_refused_by_name(tmp_path):
    folder = tmp_path / "other"
    info = bundle.BundleInfo(
        name="other",
        classes=("NORMAL", "PNEUMONIA"),
        image=RunConfig().image,
        architecture="efficientnet_lite0",
        cam_layer="",
        threshold=bundle.ThresholdInfo(value=0.5, method="fixed"),
        data=bundle.DataInfo(name="phantoms", synthetic=True, counts={}),
    )
    bundle.write(folder, info, lambda path: path.write_bytes(b"net"), pd.DataFrame())
    (problem,) = checks.check(RunConfig().with_values({"model.weights": f"bundle:{folder}"}))
    assert problem.severity == "error"
    assert "'other' is a efficientnet_lite0" in problem.message
