"""Every registered network keeps the model contract: one flat graph, gray levels in, logits out."""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from cxr_core.zoo import registry

SIZE = 64

every_network = pytest.mark.parametrize("name", registry.names())


@pytest.fixture
def films() -> np.ndarray:
    gray = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 1))
    return gray.astype("float32")


@pytest.fixture
def bfloat16() -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@every_network
def test_the_graph_is_flat_and_functional(name: str) -> None:
    model = registry.build(name, size=SIZE, outputs=1)
    assert isinstance(model, keras.Model)
    assert not isinstance(model, keras.Sequential)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)


@every_network
@pytest.mark.parametrize("outputs", [1, 3])
def test_gray_films_go_in_and_raw_logits_come_out(name: str, outputs: int) -> None:
    model = registry.build(name, size=SIZE, outputs=outputs)
    assert model.input_shape == (None, SIZE, SIZE, 1)
    assert model.input.dtype == "float32"
    assert model.output_shape == (None, outputs)
    last = model.get_layer("logits")
    assert model.output is last.output
    assert last.activation is keras.activations.linear


@every_network
def test_the_layers_that_others_rely_on_are_there(name: str) -> None:
    model = registry.build(name, size=SIZE, outputs=1)
    cam = model.get_layer(registry.get(name).cam_layer).output
    features = model.get_layer("features").output
    assert len(cam.shape) == 4
    assert min(cam.shape[1:3]) >= 2
    assert features.shape == (None, cam.shape[-1])


@every_network
def test_the_scaling_is_inside_the_graph(name: str, films: np.ndarray) -> None:
    model = registry.build(name, size=SIZE, outputs=1)
    scaled = keras.Model(model.input, model.get_layer("scale").output)(films)
    assert np.abs(scaled).max() <= 1.01


@every_network
def test_the_parameter_count_is_as_documented(name: str) -> None:
    entry = registry.get(name)
    model = registry.build(name, size=entry.default_size, outputs=1)
    assert model.count_params() == entry.parameters


@every_network
def test_outputs_are_float32_under_mixed_precision(
    name: str, films: np.ndarray, bfloat16: None
) -> None:
    model = registry.build(name, size=SIZE, outputs=1)
    cam = model.get_layer(registry.get(name).cam_layer)
    assert cam.compute_dtype == "bfloat16"
    assert model.get_layer("features").output.dtype == "float32"
    assert model(films).dtype == "float32"
    assert all(weight.dtype == "float32" for weight in model.weights)


@every_network
def test_a_saved_network_loads_in_safe_mode_and_predicts_the_same(
    name: str, films: np.ndarray, tmp_path: Path
) -> None:
    model = registry.build(name, size=SIZE, outputs=3, seed=5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(films), model(films), atol=1e-5)
    np.testing.assert_allclose(loaded.predict(films, verbose=0), model(films), atol=1e-5)


@every_network
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    first = registry.build(name, size=SIZE, outputs=1, seed=1).get_weights()
    keras.utils.set_random_seed(99)
    again = registry.build(name, size=SIZE, outputs=1, seed=1).get_weights()
    other = registry.build(name, size=SIZE, outputs=1, seed=2).get_weights()
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(first, other, strict=True))


@every_network
def test_layers_of_the_same_shape_start_out_different(name: str) -> None:
    model = registry.build(name, size=SIZE, outputs=1)
    kernels = [weight.numpy() for weight in model.trainable_weights if weight.numpy().ndim > 1]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


@every_network
def test_a_training_step_reaches_every_weight(name: str, films: np.ndarray) -> None:
    model = registry.build(name, size=SIZE, outputs=1)
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    before = [weight.numpy() for weight in model.trainable_weights]
    model.train_on_batch(films, np.array([[0.0], [1.0], [1.0]]))
    stuck = [
        weight.path
        for weight, old in zip(model.trainable_weights, before, strict=True)
        if np.array_equal(weight.numpy(), old)
    ]
    assert stuck == []
