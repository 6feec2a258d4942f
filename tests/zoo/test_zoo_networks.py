"""Every registered network keeps the model contract: one flat graph, gray levels in, logits out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr_core.diagnosis import explain
from cxr_core.zoo import registry

SIZE = 64  # px: the smallest that all of them take
CLASSES = ("NORMAL", "PNEUMONIA", "TUBERCULOSIS")
SEED = 5


@dataclass(frozen=True)
class Built:
    entry: registry.Architecture
    model: keras.Model

    def layer(self, name: str) -> keras.Layer:
        return self.model.get_layer(name)

    def up_to(self, name: str) -> keras.Model:
        return keras.Model(self.model.input, self.layer(name).output)


@pytest.fixture(scope="module", params=registry.names())
def built(request: pytest.FixtureRequest) -> Iterator[Built]:
    """Each network in turn, built once for all tests: the largest takes half a gigabyte."""
    model = registry.build(request.param, size=SIZE, outputs=len(CLASSES), seed=SEED)
    yield Built(registry.get(request.param), model)


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


def test_the_graph_is_flat_and_of_keras_own_layers(built: Built) -> None:
    assert isinstance(built.model, keras.Model)
    assert not isinstance(built.model, keras.Sequential)
    for layer in built.model.layers:
        assert not isinstance(layer, keras.Model | keras.layers.Lambda), layer.name
        assert type(layer).__module__.startswith("keras."), layer.name


def test_gray_films_go_in_and_raw_logits_come_out(built: Built) -> None:
    model = built.model
    assert model.input_shape == (None, SIZE, SIZE, 1)
    assert model.input.dtype == "float32"
    assert model.output_shape == (None, len(CLASSES))
    last = model.get_layer("logits")
    assert model.output is last.output
    assert last.activation is keras.activations.linear


def test_the_layers_that_others_rely_on_are_there(built: Built) -> None:
    cam = built.layer(built.entry.cam_layer).output
    features = built.layer("features").output
    assert len(cam.shape) == 4
    assert min(cam.shape[1:3]) >= 2
    assert len(features.shape) == 2
    assert features.dtype == "float32"
    if isinstance(built.layer("features"), keras.layers.GlobalAveragePooling2D):
        assert features.shape[1] == cam.shape[-1]


def test_black_and_white_become_the_ends_of_the_documented_range(built: Built) -> None:
    ends = np.array([0, 255], np.float32)[:, None, None, None] * np.ones((2, SIZE, SIZE, 1))
    scaled = built.up_to("scale")(ends).numpy()
    assert scaled.min() == pytest.approx(built.entry.input_range[0], abs=1e-4)
    assert scaled.max() == pytest.approx(built.entry.input_range[1], abs=1e-4)


def test_the_parameter_count_is_as_documented(built: Built) -> None:
    at_home = built.entry.parameters
    features_and_bias = built.layer("logits").kernel.shape[0] + 1
    assert built.model.count_params() == at_home + (len(CLASSES) - 1) * features_and_bias


def test_an_own_head_has_as_many_parameters_at_the_default_size() -> None:
    entry = registry.get("plain_cnn")
    model = registry.build("plain_cnn", size=entry.default_size, outputs=1)
    assert model.count_params() == entry.parameters


def test_a_saved_network_loads_in_safe_mode_and_predicts_the_same(
    built: Built, films: np.ndarray, tmp_path: Path
) -> None:
    model = built.model
    if built.entry.name == "deep_cnn":  # half a gigabyte: its dense layers by description alone
        again = keras.models.model_from_json(model.to_json())
        again.set_weights(model.get_weights())
        np.testing.assert_allclose(again(films), model(films), atol=1e-5, rtol=1e-5)
        gap = registry.Options(head="gap")
        model = registry.build("deep_cnn", size=SIZE, outputs=3, seed=SEED, options=gap)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    loaded.run_eagerly = True  # to trace it would take most of the time
    predicted = loaded.predict(films, verbose=0)
    np.testing.assert_allclose(predicted, model(films), atol=1e-5, rtol=1e-5)


def test_grad_cam_at_the_registered_layer_is_that_of_the_formula(
    built: Built, films: np.ndarray
) -> None:
    maps = built.layer(built.entry.cam_layer)
    # All that the logits know must have come through the layer: else there is no such rest.
    rest = keras.Model(maps.output, built.model.output)
    cells = built.up_to(maps.name)(films[:1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(cells)
        logits = rest(cells, training=False)
    gradients = tape.jacobian(logits, cells, experimental_use_pfor=False).numpy()[0, :, 0]
    weights = gradients.astype(np.float64).mean(axis=(1, 2), keepdims=True)
    expected = np.maximum((cells.numpy() * weights).sum(axis=-1), 0)

    target = int(
        expected.max(axis=(1, 2)).argmax()
    )  # a random network may have nothing for a class
    assert expected[target].max() > 0
    film = films[:1, :, :, :1].astype(np.uint8).astype(np.float32)
    weights = explain.selector(target, len(CLASSES))[None]
    drawn = explain.traced(built.model, [maps.name])(film, weights)[0][0]
    np.testing.assert_allclose(drawn, expected[target], atol=1e-4 * expected[target].max())


def test_the_body_is_all_that_the_maps_are_made_of_and_the_head_is_the_rest(built: Built) -> None:
    body = [layer.name for layer in registry.body(built.model, built.entry.name)]
    head = [layer for layer in built.model.layers if layer.name not in body]
    assert body == [layer.name for layer in built.model.layers if layer.name in set(body)]
    assert body[0] == "film"
    assert built.entry.cam_layer in body
    dense = {
        "plain_cnn": ["dense", "dense_bn"],
        "deep_cnn": ["dense1", "dense2"],
        "mobilenet_v3": ["dense"],
    }.get(built.entry.name, [])
    assert [layer.name for layer in head if layer.weights] == [*dense, "logits"]


def test_a_film_and_its_labels_reach_every_weight(built: Built, films: np.ndarray) -> None:
    kept = built.model.get_weights()
    with tf.GradientTape() as tape:
        logits = built.model(films, training=True)
        truth = np.arange(len(films))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(truth, logits)
    gradients = tape.gradient(loss, built.model.trainable_variables)
    built.model.set_weights(kept)  # the normalisation's statistics have moved
    untouched = [
        weight.path
        for weight, gradient in zip(built.model.trainable_variables, gradients, strict=True)
        if gradient is None or not np.any(gradient.numpy())
    ]
    assert untouched == []


def test_layers_of_the_same_shape_start_out_different(built: Built) -> None:
    kernels = [weight.numpy() for weight in built.model.trainable_weights if len(weight.shape) > 1]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


def test_normalisation_follows_a_small_set(built: Built) -> None:
    momenta = {
        layer.momentum
        for layer in built.model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert momenta == {0.9}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("plain_cnn", "own"),
        ("deep_cnn", "own"),
        ("efficientnet_lite0", "flatten_mlp"),
        ("mobilenet_v3", "own"),
    ],
)
def test_outputs_are_float32_under_mixed_precision(
    name: str, head: registry.HeadName, films: np.ndarray, bfloat16: None
) -> None:
    options = registry.Options(head=head, coordinates=True)
    model = registry.build(name, size=SIZE, outputs=1, options=options)
    assert model.get_layer(registry.get(name).cam_layer).compute_dtype == "bfloat16"
    assert model.get_layer("features").output.dtype == "float32"
    assert model(films).dtype == "float32"
    assert all(weight.dtype == "float32" for weight in model.weights)


@pytest.mark.parametrize("name", ["plain_cnn", "mobilenet_v3"])
def test_seed_and_nothing_else_decides_the_weights(name: str, bfloat16: None) -> None:
    mixed = registry.build(name, size=SIZE, outputs=1, seed=1)
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(99)
    again = registry.build(name, size=SIZE, outputs=1, seed=1)
    assert [layer.name for layer in again.layers] == [layer.name for layer in mixed.layers]
    for one, two in zip(mixed.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_another_seed_gives_other_weights() -> None:
    first, other = (registry.build("plain_cnn", size=SIZE, outputs=1, seed=seed) for seed in (1, 2))
    for one, two in zip(first.trainable_weights, other.trainable_weights, strict=True):
        if len(one.shape) > 1:
            assert not np.array_equal(one, two), one.path
