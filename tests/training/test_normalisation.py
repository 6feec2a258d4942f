"""Batch normalisation as one operation, against Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cxr_core.training.normalisation import FusedNormalisation, fuse

RNG = np.random.default_rng(0)
MAPS = RNG.normal(3.0, 2.0, (4, 6, 5, 3)).astype(np.float32)


def net(**settings: object) -> keras.Model:
    maps = keras.Input((6, 5, 3))
    layer = keras.layers.BatchNormalization(momentum=0.9, name="norm", **settings)
    model = keras.Model(maps, layer(maps))
    draw = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(draw.uniform(0.5, 2.0, weight.shape))
    return model


def pair(**settings: object) -> tuple[keras.Model, keras.Model]:
    fused = net(**settings)
    fuse(fused)
    assert type(fused.get_layer("norm")) is FusedNormalisation
    return net(**settings), fused


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False}])
def test_outputs_gradients_and_statistics_are_those_of_keras(training, settings):
    found = []
    for model in pair(**settings):
        films = tf.constant(MAPS)
        with tf.GradientTape() as tape:
            tape.watch(films)
            outputs = model(films, training=training)
            loss = tf.reduce_sum(outputs**2 * films)
        slopes = tape.gradient(loss, [films, *(w.value for w in model.trainable_weights)])
        found.append([outputs, *slopes, *model.get_weights()])
    for keras_own, fused in zip(*found, strict=True):
        np.testing.assert_allclose(fused, keras_own, rtol=2e-4, atol=2e-4)


def test_a_frozen_layer_keeps_its_statistics():
    _, fused = pair()
    fused.get_layer("norm").trainable = False
    before = fused.get_weights()
    fused(MAPS, training=True)
    for was, now in zip(before, fused.get_weights(), strict=True):
        np.testing.assert_array_equal(now, was)


def test_what_the_operation_does_not_know_is_left_to_keras():
    vectors = keras.Input((3,))
    model = keras.Model(vectors, keras.layers.BatchNormalization(name="norm")(vectors))
    fuse(model)
    outputs = np.asarray(model(MAPS[:, 0, 0], training=True))
    assert abs(outputs.mean()) < 1e-5
    _, fused = pair()
    fused.get_layer("norm").synchronized = True
    reference, _ = pair()
    np.testing.assert_allclose(
        fused(MAPS, training=True), reference(MAPS, training=True), rtol=1e-4, atol=1e-5
    )


def test_in_mixed_precision_maps_stay_in_the_policys_format_and_statistics_in_float32():
    model = net(dtype="mixed_bfloat16")
    fuse(model)
    layer = model.get_layer("norm")
    assert model(MAPS, training=True).dtype == tf.bfloat16
    assert layer.moving_variance.dtype == "float32"
    expected = net()
    expected(MAPS, training=True)
    np.testing.assert_allclose(layer.moving_mean, expected.get_layer("norm").moving_mean, rtol=1e-2)
