"""Heads, dropout and coordinate channels fit every network, and change nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from cxr_core.errors import ConfigError
from cxr_core.zoo import registry
from cxr_core.zoo.registry import Options

SIZE = 64
ALL = Options("flatten_mlp", 0.5, True)


@dataclass(frozen=True)
class Built:
    name: str
    model: keras.Model

    @property
    def head(self) -> dict[str, keras.Layer]:
        body = registry.body(self.model, self.name)
        return {layer.name: layer for layer in self.model.layers if layer not in body}


# One of each kind: the applications are all made by one function.
@pytest.fixture(
    scope="module", params=["plain_cnn", "deep_cnn", "efficientnet_lite0", "mobilenet_v3"]
)
def changed(request: pytest.FixtureRequest) -> Iterator[Built]:
    """A network with all options changed."""
    yield Built(request.param, registry.build(request.param, size=SIZE, outputs=3, options=ALL))


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    gray = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 1))
    return gray.astype("float32")


def test_flatten_mlp_leads_every_cell_into_dense_layers(changed: Built, films: np.ndarray) -> None:
    head, model = changed.head, changed.model
    assert isinstance(head["flatten"], keras.layers.Flatten)
    assert head["flatten"].output.shape[1] == np.prod(head["flatten"].input.shape[1:])
    assert [head[dense].units for dense in ("dense1", "dense2")] == [256, 128]
    assert [head[drop].rate for drop in ("dense1_dropout", "dense2_dropout")] == [0.15, 0.1]
    assert head["dense1"].kernel_regularizer.l2 == pytest.approx(1e-4)
    assert head["features"].output.shape == (None, 128)
    logits = keras.Model(model.input, head["features"].output)(films) @ head["logits"].kernel
    np.testing.assert_allclose(model(films), logits + head["logits"].bias, atol=1e-4)


def test_coordinates_are_two_channels_from_minus_one_to_one(
    changed: Built, films: np.ndarray
) -> None:
    model = changed.model
    entry = keras.Model(model.input, model.get_layer("coordinates").output)(films).numpy()
    ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
    for film in entry:
        np.testing.assert_allclose(film[:, :, -2], np.tile(ramp, (SIZE, 1)), atol=1e-6)
        np.testing.assert_allclose(film[:, :, -1], np.tile(ramp, (SIZE, 1)).T, atol=1e-6)
    scaled = keras.Model(model.input, model.get_layer("scale").output)(films)
    np.testing.assert_array_equal(entry[..., :-2], scaled)


def test_a_saved_network_loads_in_safe_mode_and_says_the_same(
    films: np.ndarray, tmp_path: Path
) -> None:
    model = registry.build("plain_cnn", size=SIZE, outputs=3, options=ALL)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(films), model(films), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["plain_cnn", "deep_cnn"])
def test_gap_pools_and_has_one_dense_layer_with_dropout(name: str, films: np.ndarray) -> None:
    model = registry.build(name, size=SIZE, outputs=3, options=Options(head="gap"))
    head = Built(name, model).head
    assert list(head)[-5:] == ["features", "dense", "dense_relu", "dense_dropout", "logits"]
    assert isinstance(head["features"], keras.layers.GlobalAveragePooling2D)
    channels = model.get_layer(registry.get(name).cam_layer).output.shape[-1]
    assert head["features"].output.shape == (None, channels)
    assert head["dense"].units == 256
    assert head["dense_dropout"].rate == 0.3
    assert model(films).shape == (2, 3)


def test_the_penalty_of_flatten_mlp_is_part_of_what_is_minimised() -> None:
    model = registry.build("plain_cnn", size=32, outputs=1, options=Options(head="flatten_mlp"))
    kernel = model.get_layer("dense1").kernel.numpy()
    assert float(sum(model.losses)) == pytest.approx(1e-4 * float((kernel**2).sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "times", "expected"),
    [
        ("plain_cnn", 0.0, {0.0}),
        ("plain_cnn", 1.0, {0.25, 0.5}),
        ("plain_cnn", 1.8, {0.45, 0.9}),
        ("plain_cnn", 3.0, {0.75, 0.95}),  # with more, nothing would be left
        ("efficientnet_lite0", 0.5, {0.1}),
    ],
)
def test_dropout_multiplies_every_rate(name: str, times: float, expected: set[float]) -> None:
    model = registry.build(name, size=SIZE, outputs=1, options=Options(dropout=times))
    rates = {
        round(layer.rate, 6) for layer in model.layers if isinstance(layer, keras.layers.Dropout)
    }
    assert rates == expected


def test_the_deep_cnn_has_the_dropout_of_its_recipe() -> None:
    model = registry.build("deep_cnn", size=SIZE, outputs=1, options=Options(head="gap"))
    rates = [model.get_layer(f"block{block}_dropout").rate for block in range(1, 6)]
    assert rates == [0.25, 0.25, 0.3, 0.3, 0.3]


def test_coordinates_start_without_influence_on_a_pretrained_network(films: np.ndarray) -> None:
    plain, placed = (
        registry.build(
            "efficientnet_lite0",
            size=SIZE,
            outputs=1,
            weights="imagenet",
            options=Options(coordinates=coordinates),
        )
        for coordinates in (False, True)
    )
    assert placed.get_layer("stem_conv").kernel.shape == (3, 3, 3, 32)
    features = [
        keras.Model(model.input, model.get_layer("features").output)(films)
        for model in (plain, placed)
    ]
    np.testing.assert_allclose(features[1], features[0], atol=1e-5)


def test_an_unknown_head_is_refused_with_the_known_ones() -> None:
    unknown = Options(head="attention")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"model\.head.*'attention'.*own, gap, flatten_mlp"):
        registry.check("plain_cnn", size=64, options=unknown)
