"""EfficientNet-Lite0 is the published network: its size, its weights, and what they recognise."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from cxr_core.errors import TrainingError
from cxr_core.zoo import efficientnet_lite, legacy_torch, registry

DAISY, BELL_COTE, PALACE = 985, 442, 698  # ImageNet classes


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    return legacy_torch.read(efficientnet_lite.find_imagenet())


def test_its_trainable_parameters_are_those_published() -> None:
    model = registry.build("efficientnet_lite0", size=64, outputs=1000)
    ours = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    colour_stem = 2 * 3 * 3 * 32  # two more input channels than our gray stem
    assert ours + colour_stem == 4_652_008


def test_every_stored_tensor_but_the_classifier_is_used(stored: dict[str, np.ndarray]) -> None:
    used = set()
    for _, convolution, normalisation in efficientnet_lite.stored_names():
        used.add(f"{convolution}.weight")
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            used.add(f"{normalisation}.{part}")
    assert set(stored) - used == {"_fc.weight", "_fc.bias"}
    assert used <= set(stored)


def test_the_imagenet_weights_replace_all_but_the_logits() -> None:
    random = registry.build("efficientnet_lite0", size=64, outputs=1, seed=4)
    trained = registry.build("efficientnet_lite0", size=64, outputs=1, seed=4, weights="imagenet")
    same = {
        layer.name
        for layer in trained.layers
        if layer.get_weights()
        and any(
            np.array_equal(one, two)
            for one, two in zip(
                layer.get_weights(), random.get_layer(layer.name).get_weights(), strict=True
            )
        )
    }
    assert same == {"logits"}


def test_with_the_stored_classifier_it_recognises_photographs(
    stored: dict[str, np.ndarray],
) -> None:
    model = registry.build("efficientnet_lite0", size=224, outputs=1000, weights="imagenet")
    model.get_layer("logits").set_weights([stored["_fc.weight"].T, stored["_fc.bias"]])
    flower, temple = model(
        np.stack([_centre(load_sample_image(name)) for name in ("flower.jpg", "china.jpg")])
    ).numpy()
    assert flower.argmax() == DAISY
    assert set(temple.argsort()[-2:]) == {BELL_COTE, PALACE}


def test_a_weights_file_of_another_network_is_refused(
    monkeypatch: pytest.MonkeyPatch, stored: dict[str, np.ndarray]
) -> None:
    model = registry.build("efficientnet_lite0", size=64, outputs=1)
    for change in ({"_conv_head.weight": stored["_conv_stem.weight"]}, {"_bn0.weight": None}):
        tensors = {name: tensor for name, tensor in (stored | change).items() if tensor is not None}
        monkeypatch.setattr(legacy_torch, "read", lambda file, tensors=tensors: tensors)
        with pytest.raises(TrainingError, match=r"other\.pth does not fit EfficientNet-Lite0"):
            efficientnet_lite.load_imagenet(model, Path("other.pth"))


def _centre(photograph: np.ndarray) -> np.ndarray:
    """Return the middle of a colour photograph as (224, 224, 1) gray levels, float32."""
    height, width = photograph.shape[:2]
    side = int(0.875 * min(height, width))
    top, left = (height - side) // 2, (width - side) // 2
    square = photograph[top : top + side, left : left + side]
    small = cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype("float32")[..., None]
