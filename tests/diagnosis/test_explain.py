"""Heat maps agree with an independent computation, keep their scale and sit on the right place."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny

from cxr_core import images
from cxr_core.diagnosis import explain
from cxr_core.diagnosis.explain import HeatMap
from cxr_core.diagnosis.predictor import Predictor


@pytest.fixture(scope="module")
def square(phantoms: Path) -> np.ndarray:
    path = min((phantoms / "images").iterdir())
    return images.to_square(images.read(path).pixels, tiny.SIZE, "letterbox")


@pytest.fixture
def float32_after() -> Iterator[None]:
    import keras

    yield
    keras.mixed_precision.set_dtype_policy("float32")


def _by_hand(model: object, square: np.ndarray, column: int, sign: float) -> np.ndarray:
    """Grad-CAM from the paper's formula, with a tape of its own."""
    import keras
    import tensorflow as tf

    layer = model.get_layer("block3_relu").output  # type: ignore[attr-defined]
    both = keras.Model(model.input, [layer, model.output])  # type: ignore[attr-defined]
    with tf.GradientTape() as tape:
        maps, logits = both(square[None, :, :, None].astype("float32"), training=False)
        score = sign * logits[0, column]
    gradient = tape.gradient(score, maps).numpy()[0].astype(np.float64)
    weights = gradient.mean(axis=(0, 1))
    return np.maximum((maps.numpy()[0] * weights).sum(axis=-1), 0)


@pytest.mark.parametrize(("target", "sign"), [(0, -1.0), (1, 1.0)])
def test_one_logit_speaks_for_both_classes(
    binary_bundle: Path, square: np.ndarray, target: int, sign: float
) -> None:
    model = Predictor(binary_bundle)._model
    cells, evidence = explain.grad_cam(
        model, square, layer="block3_relu", target=target, classes=tiny.BINARY
    )
    expected = _by_hand(model, square, 0, sign)
    np.testing.assert_allclose(cells, expected, atol=1e-4 * max(1, expected.max()))
    assert evidence == pytest.approx((expected - expected.min()).sum(), rel=1e-3)


def test_the_two_targets_of_one_logit_get_different_maps(
    binary_bundle: Path, square: np.ndarray
) -> None:
    model = Predictor(binary_bundle)._model
    maps = [
        explain.grad_cam(model, square, layer="block3_relu", target=t, classes=tiny.BINARY)[0]
        for t in (0, 1)
    ]
    assert np.minimum(*maps).max() == 0  # what speaks for one speaks against the other
    assert np.maximum(*maps).max() > 0


@pytest.mark.parametrize("target", [0, 1, 2])
def test_each_of_three_classes_has_its_own_logit(
    three_class_bundle: Path, square: np.ndarray, target: int
) -> None:
    model = Predictor(three_class_bundle)._model
    cells, _ = explain.grad_cam(
        model, square, layer="block3_relu", target=target, classes=tiny.THREE
    )
    expected = _by_hand(model, square, target, 1.0)
    np.testing.assert_allclose(cells, expected, atol=1e-4 * max(1, expected.max()))


def test_a_network_of_mixed_precision_has_heat_maps(
    square: np.ndarray, float32_after: None
) -> None:
    import keras

    from cxr_core import zoo  # noqa: F401  registers the networks
    from cxr_core.zoo import registry

    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    model = registry.build("plain_cnn", size=tiny.SIZE, outputs=3, seed=1)
    cells, _ = explain.grad_cam(model, square, layer="block3_relu", target=1, classes=tiny.THREE)
    assert cells.dtype == np.float32
    assert np.isfinite(cells).all()


def test_drawing_a_heat_map_warns_of_nothing(binary_bundle: Path, square: np.ndarray) -> None:
    import tf_keras_vis.gradcam  # noqa: F401  its import warns of SciPy's old names

    model = Predictor(binary_bundle)._model
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain.grad_cam(model, square, layer="block3_relu", target=1, classes=tiny.BINARY)


def test_drawing_a_heat_map_does_not_change_the_model(
    binary_bundle: Path, square: np.ndarray
) -> None:
    predictor = Predictor(binary_bundle)
    before = predictor.logits(square[None])
    film = images.Radiograph(square, "f.png", "PNG", "gray 8 bit")
    predictor.heatmap(film, "NORMAL")
    predictor.heatmap(film, "PNEUMONIA")
    np.testing.assert_array_equal(predictor.logits(square[None]), before)


def _point(fit: str, row: int, column: int, size: int = 64) -> HeatMap:
    values = np.zeros((size, size), np.float32)
    values[row - 2 : row + 3, column - 2 : column + 3] = 5.0
    return HeatMap(values, "PNEUMONIA", fit, evidence=5.0)


def test_no_evidence_is_transparent_and_evidence_is_coloured() -> None:
    film = np.full((64, 64), 90, np.uint8)
    shown = explain.overlay(film, _point("squash", 20, 40), 0.6)
    assert shown.shape == (64, 64, 3)
    assert (shown[50, 10] == 90).all()
    red, green, blue = shown[20, 40].astype(int)
    assert min(red, green) > blue > 90  # the bright end of inferno, a pale yellow


def test_opacity_runs_from_the_film_to_the_plain_colour() -> None:
    film = np.full((64, 64), 90, np.uint8)
    heat = _point("squash", 20, 40)
    assert (explain.overlay(film, heat, 0.0) == 90).all()
    half = explain.overlay(film, heat, 0.5)[20, 40].astype(int)
    full = explain.overlay(film, heat, 1.0)[20, 40].astype(int)
    assert np.abs(half - (full + 90) / 2).max() <= 1


def test_opacity_grows_with_the_evidence() -> None:
    values = np.tile(np.linspace(0, 3, 64, dtype=np.float32), (64, 1))
    heat = HeatMap(values, "PNEUMONIA", "squash", evidence=9.0)
    shown = explain.overlay(np.zeros((64, 64), np.uint8), heat, 1.0)
    brightness = shown[30].astype(int).sum(axis=1)
    assert (np.diff(brightness) >= 0).all()
    assert brightness[-1] > 600


def test_a_common_scale_makes_weak_maps_look_weak() -> None:
    film = np.full((64, 64), 90, np.uint8)
    heat = _point("squash", 20, 40)
    own = explain.overlay(film, heat)[20, 40].astype(int)
    common = explain.overlay(film, heat, peak=50.0)[20, 40].astype(int)
    assert np.abs(common - 90).sum() < np.abs(own - 90).sum() / 3


def test_a_flat_map_leaves_the_film_as_it_is() -> None:
    film = np.random.default_rng(0).integers(0, 256, (50, 70)).astype(np.uint8)
    heat = HeatMap(np.full((64, 64), 1e-4, np.float32), "PNEUMONIA", "crop", evidence=0.0)
    assert heat.flat
    assert (explain.overlay(film, heat, 1.0) == film[:, :, None]).all()


def test_the_raw_scale_is_kept(binary_bundle: Path, square: np.ndarray) -> None:
    predictor = Predictor(binary_bundle)
    film = images.Radiograph(square, "f.png", "PNG", "gray 8 bit")
    maps = [predictor.heatmap(film, target) for target in tiny.BINARY]
    assert {heat.values.shape for heat in maps} == {(tiny.SIZE, tiny.SIZE)}
    assert all(heat.peak != pytest.approx(1.0) for heat in maps)
    assert any(heat.peak > 0 for heat in maps)


@pytest.mark.parametrize("fit", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("shape", [(300, 200), (180, 420)])
def test_evidence_lies_on_the_spot_that_caused_it(fit: str, shape: tuple[int, int]) -> None:
    film = np.zeros(shape, np.uint8)
    row, column = round(shape[0] * 0.55), round(shape[1] * 0.45)
    film[row - 8 : row + 9, column - 8 : column + 9] = 255
    seen = images.to_square(film, 64, fit).astype(np.float32)
    heat = HeatMap(seen, "PNEUMONIA", fit, evidence=1.0)
    shown = explain.overlay(np.zeros(shape, np.uint8), heat, 1.0).astype(int).sum(axis=2)
    rows, columns = np.nonzero(shown > shown.max() * 0.9)
    assert rows.mean() == pytest.approx(row, abs=3)
    assert columns.mean() == pytest.approx(column, abs=3)
