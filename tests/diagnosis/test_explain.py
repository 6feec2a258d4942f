"""Heat maps agree with an independent computation, keep their scale and sit on the right place."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny

from cxr_core import images
from cxr_core.diagnosis import explain
from cxr_core.diagnosis.explain import METHODS, Explainer, HeatMap, scored
from cxr_core.diagnosis.predictor import Predictor

LAYER = "block3_relu"
BY_SLOPES = [name for name, method in METHODS.items() if not method.slow]


@pytest.fixture(scope="module")
def square(phantoms: Path) -> np.ndarray:
    path = min((phantoms / "images").iterdir())
    return images.to_square(images.read(path).pixels, tiny.SIZE, "letterbox")


@pytest.fixture(scope="module")
def model() -> Any:
    """An untrained network of three classes whose normalisation has seen something."""
    from cxr_core import zoo  # noqa: F401  registers the networks
    from cxr_core.zoo import registry

    model = registry.build("plain_cnn", size=tiny.SIZE, outputs=3, seed=1)
    model(np.random.default_rng(0).uniform(0, 255, (8, tiny.SIZE, tiny.SIZE, 1)), training=True)
    return model


@pytest.fixture(scope="module")
def one_logit() -> Any:
    """The same with one logit."""
    from cxr_core import zoo  # noqa: F401
    from cxr_core.zoo import registry

    model = registry.build("plain_cnn", size=tiny.SIZE, outputs=1, seed=2)
    model(np.random.default_rng(0).uniform(0, 255, (8, tiny.SIZE, tiny.SIZE, 1)), training=True)
    last = model.get_layer("logits")  # random weights hardly tell films apart: louder
    last.set_weights([100 * last.get_weights()[0], *last.get_weights()[1:]])
    return model


@pytest.fixture
def float32_after() -> Iterator[None]:
    import keras

    yield
    keras.mixed_precision.set_dtype_policy("float32")


def _as_film(square: np.ndarray) -> np.ndarray:
    return square[None, :, :, None].astype(np.float32)


def _map(
    model: Any, square: np.ndarray, target: int, classes: int, method: str = "grad_cam"
) -> np.ndarray:
    weights = explain.selector(target, classes)[None]
    return explain.traced(model, [LAYER], method)(_as_film(square), weights)[0][0]


def _slopes(model: Any, square: np.ndarray, column: int, sign: float) -> tuple[np.ndarray, ...]:
    """Feature maps, slopes and score from a tape of our own, float64."""
    import keras
    import tensorflow as tf

    both = keras.Model(model.input, [model.get_layer(LAYER).output, model.output])
    with tf.GradientTape() as tape:
        maps, logits = both(_as_film(square), training=False)
        score = sign * logits[0, column]
    gradient = tape.gradient(score, maps).numpy()[0].astype(np.float64)
    return maps.numpy()[0].astype(np.float64), gradient, float(score)


def _by_hand(model: Any, square: np.ndarray, column: int, sign: float) -> np.ndarray:
    """Grad-CAM from the paper's formula."""
    maps, gradient, _ = _slopes(model, square, column, sign)
    return np.maximum((maps * gradient.mean(axis=(0, 1))).sum(axis=-1), 0)


@pytest.mark.parametrize(("target", "sign"), [(0, -1.0), (1, 1.0)])
def test_one_logit_speaks_for_both_classes(
    one_logit: Any, square: np.ndarray, target: int, sign: float
) -> None:
    expected = _by_hand(one_logit, square, 0, sign)
    cells = _map(one_logit, square, target, 2)
    np.testing.assert_allclose(cells, expected, atol=1e-4 * max(1, expected.max()))
    found = Explainer(one_logit, [LAYER], tiny.BINARY, "squash").heat_map(
        square, tiny.BINARY[target]
    )
    assert found.evidence == pytest.approx((expected - expected.min()).sum(), rel=1e-3)


@pytest.mark.parametrize("method", ["grad_cam", "hires_cam"])
def test_the_two_targets_of_one_logit_get_different_maps(
    one_logit: Any, square: np.ndarray, method: str
) -> None:
    maps = [_map(one_logit, square, target, 2, method) for target in (0, 1)]
    assert np.minimum(*maps).max() == 0  # what speaks for one speaks against the other
    assert np.maximum(*maps).max() > 0


@pytest.mark.parametrize("target", [0, 1, 2])
def test_each_of_three_classes_has_its_own_logit(
    model: Any, square: np.ndarray, target: int
) -> None:
    expected = _by_hand(model, square, target, 1.0)
    cells = _map(model, square, target, 3)
    np.testing.assert_allclose(cells, expected, atol=1e-4 * max(1, expected.max()))


def test_hires_cam_weighs_every_cell_by_its_own_slope(model: Any, square: np.ndarray) -> None:
    maps, gradient, _ = _slopes(model, square, 1, 1.0)
    expected = np.maximum((maps * gradient).sum(axis=-1), 0)
    assert expected.max() > 0
    np.testing.assert_allclose(
        _map(model, square, 1, 3, "hires_cam"), expected, atol=1e-4 * expected.max()
    )


def _by_the_library(kind: Any, model: Any, square: np.ndarray, target: int) -> np.ndarray:
    found = kind(model, clone=False)(
        lambda logits: logits[:, target],
        _as_film(square),
        penultimate_layer=LAYER,
        seek_penultimate_conv_layer=False,
        normalize_cam=False,
        expand_cam=False,
    )
    return np.asarray(found, np.float64)[0]


def test_maps_by_slopes_agree_with_tf_keras_vis(model: Any, square: np.ndarray) -> None:
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
    from tf_keras_vis.layercam import Layercam

    for method, kind in (
        ("grad_cam", Gradcam),
        ("layer_cam", Layercam),
        ("grad_cam_pp", GradcamPlusPlus),
    ):
        peaks = []
        for target in range(3):
            expected = _by_the_library(kind, model, square, target)
            if method == "grad_cam_pp":  # a factor of the paper's that is left out here
                expected = expected / np.exp(_slopes(model, square, target, 1.0)[2])
            peaks.append(expected.max())
            np.testing.assert_allclose(
                _map(model, square, target, 3, method),
                expected,
                atol=1e-4 * max(1e-2, expected.max()),
                err_msg=method,
            )
        assert max(peaks) > 0, "a random network may have nothing for a class, not for all"


@pytest.mark.parametrize("method", BY_SLOPES)
def test_films_together_have_the_maps_they_have_alone(
    model: Any, square: np.ndarray, method: str
) -> None:
    squares = np.stack([square, 255 - square, np.roll(square, 5)])
    weights = np.stack([explain.selector(target, 3) for target in (1, 2, 0)])
    compute = explain.traced(model, [LAYER], method)
    (together,) = compute(squares[..., None].astype(np.float32), weights)
    for each, cells, selector in zip(squares, together, weights, strict=True):
        alone = compute(_as_film(each), selector[None])[0][0]
        np.testing.assert_allclose(cells, alone, atol=1e-5 * max(1e-3, alone.max()))


def test_a_frozen_network_has_maps_too(one_logit: Any, square: np.ndarray) -> None:
    expected = _map(one_logit, square, 1, 2)
    one_logit.trainable = False
    try:
        np.testing.assert_array_equal(_map(one_logit, square, 1, 2), expected)
    finally:
        one_logit.trainable = True


@pytest.mark.parametrize(("target", "sign"), [(0, -1.0), (1, 1.0)])
def test_score_cam_of_one_logit_is_that_of_the_formula(
    one_logit: Any, square: np.ndarray, target: int, sign: float
) -> None:
    found = Explainer(one_logit, [LAYER], tiny.BINARY, "squash").heat_map(
        square, tiny.BINARY[target], method="score_cam"
    )
    maps = _slopes(one_logit, square, 0, 1.0)[0].astype(np.float32)

    def score(film: np.ndarray) -> float:
        return sign * float(one_logit(film[None, :, :, None], training=False)[0, 0])

    energy = ((maps - maps.mean(axis=(0, 1))) ** 2).sum(axis=(0, 1))
    best = np.argsort(energy)[::-1][: scored.CHANNELS]
    gains = []
    for channel in best:
        mask = cv2.resize(maps[:, :, channel], square.shape)
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        gains.append(score(square * mask) - score(np.zeros(square.shape, np.float32)))
    assert np.ptp(gains) > 0.05, "masks that all weigh the same would prove nothing"
    weights = np.exp(gains) / np.exp(gains).sum()
    expected = explain.spread(
        np.maximum((maps[:, :, best] * weights).sum(axis=-1), 0).astype(np.float32), tiny.SIZE
    )
    np.testing.assert_allclose(found.values, expected, atol=1e-3 * expected.max())
    assert found.note.startswith(f"Of {(energy > 0).sum()} feature maps the {scored.CHANNELS} with")


def test_score_cam_says_how_far_it_is_and_can_be_ended(one_logit: Any, square: np.ndarray) -> None:
    explainer = Explainer(one_logit, [LAYER], tiny.BINARY, "squash")
    told: list[tuple[int, int]] = []
    explainer.heat_map(
        square, "NORMAL", method="score_cam", tell=lambda done, of: told.append((done, of))
    )
    assert told[-1] == (scored.CHANNELS, scored.CHANNELS)
    assert [done for done, _ in told] == sorted({done for done, _ in told})

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        explainer.heat_map(square, "NORMAL", method="score_cam", tell=stop)


def test_smooth_grad_is_the_mean_slope_of_noisy_films(model: Any, square: np.ndarray) -> None:
    import tensorflow as tf

    found = Explainer(model, [LAYER], tiny.THREE, "squash").heat_map(
        square, tiny.THREE[2], method="smooth_grad"
    )
    film = square.astype(np.float32)
    rng = np.random.default_rng(0)
    spread = scored.NOISE * float(np.ptp(film))
    noise = rng.normal(0, spread, (scored.SAMPLES, *film.shape)).astype(np.float32)
    films = tf.constant((film + noise)[..., None])
    with tf.GradientTape() as tape:
        tape.watch(films)
        score = tf.reduce_sum(model(films, training=False)[:, 2])
    expected = np.abs(tape.gradient(score, films).numpy()[..., 0]).mean(axis=0)
    assert expected.max() > 0
    np.testing.assert_allclose(found.values, expected, atol=1e-4 * expected.max())


@pytest.mark.parametrize("method", METHODS)
def test_only_a_scale_in_logits_says_how_much_evidence_there_is(
    model: Any, square: np.ndarray, method: str
) -> None:
    explainer = Explainer(model, [LAYER], tiny.THREE, "squash")
    # A random network may have nothing for a class, not for all.
    maps = [explainer.heat_map(square, target, method=method) for target in tiny.THREE]
    found = max(maps, key=lambda each: each.peak)
    assert found.values.shape == (tiny.SIZE, tiny.SIZE)
    assert found.values.dtype == np.float32
    assert found.values.min() >= 0
    assert (found.evidence is not None) == METHODS[method].in_logits
    if METHODS[method].at_layer:
        other = explainer.heat_map(square, found.target, method=method, layers=["block2_relu"])
        assert other.evidence is None, "what is clear is known for the network's own layer only"
        assert np.abs(other.values - found.values).max() > 0


def test_the_stages_of_a_network_go_from_fine_to_coarse(model: Any) -> None:
    stages = Explainer(model, [LAYER], tiny.THREE, "squash").stages
    assert stages["block1_relu"] == (32, 32)
    assert stages["block2_relu"] == (16, 16)
    assert stages[LAYER] == (8, 8)
    assert [rows for rows, _ in stages.values()] == [32, 16, 8, 4]
    assert Explainer(model, [LAYER, "block2_relu"], tiny.THREE, "squash").stages == {}


def test_a_network_of_mixed_precision_has_heat_maps(
    square: np.ndarray, float32_after: None
) -> None:
    import keras

    from cxr_core import zoo  # noqa: F401  registers the networks
    from cxr_core.zoo import registry

    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    model = registry.build("plain_cnn", size=tiny.SIZE, outputs=3, seed=1)
    for method in METHODS:
        found = Explainer(model, [LAYER], tiny.THREE, "squash").heat_map(
            square, "PNEUMONIA", method=method
        )
        assert found.values.dtype == np.float32
        assert np.isfinite(found.values).all()


@pytest.mark.parametrize("method", ["grad_cam", "smooth_grad"])
def test_drawing_a_heat_map_warns_of_nothing(model: Any, square: np.ndarray, method: str) -> None:
    import tf_keras_vis.saliency  # noqa: F401  its import warns of SciPy's old names

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Explainer(model, [LAYER], tiny.THREE, "squash").heat_map(square, "PNEUMONIA", method=method)


def test_drawing_a_heat_map_does_not_change_the_model(model: Any, square: np.ndarray) -> None:
    before = np.asarray(model(_as_film(square), training=False))
    explainer = Explainer(model, [LAYER], tiny.THREE, "squash")
    for method in METHODS:
        explainer.heat_map(square, "NORMAL", method=method)
    np.testing.assert_array_equal(model(_as_film(square), training=False), before)


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


def test_contour_lines_run_round_the_evidence_and_not_elsewhere() -> None:
    film = np.full((64, 64), 90, np.uint8)
    heat = _point("squash", 20, 40)
    plain = explain.overlay(film, heat, 0.0)
    lined = explain.overlay(film, heat, 0.0, contours=True)
    rows, columns = np.nonzero((plain != lined).any(axis=2))
    assert len(rows) > 8
    assert rows.min() >= 14 and rows.max() <= 26
    assert columns.min() >= 34 and columns.max() <= 46


@pytest.mark.parametrize("colours", explain.COLOURS)
def test_brightness_grows_along_every_colour_bar(colours: str) -> None:
    bar = explain.colour_bar(colours, 64, 2)
    assert bar.shape == (2, 64, 3)
    brightness = bar[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(brightness) > -1).all()
    assert brightness[-1] - brightness[0] > 120


SHAPES = [(300, 200), (180, 420), (211, 97), (150, 150)]


@pytest.mark.parametrize("fit", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("shape", SHAPES)
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


@pytest.fixture(scope="module")
def spots() -> Any:
    """A network whose only evidence is brightness: its maps must peak where a film is bright."""
    import keras
    from keras import layers

    film = keras.Input((64, 64, 1))
    x = layers.AveragePooling2D(4, name="cells")(film)  # cells of 4 px
    x = layers.GlobalAveragePooling2D()(x)
    logit = layers.Dense(1, kernel_initializer="ones", name="logits")(x)
    return keras.Model(film, logit)


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].at_layer])
@pytest.mark.parametrize("fit", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_point_lesion_is_where_the_map_of_the_whole_way_peaks(
    spots: Any, method: str, fit: str, shape: tuple[int, int]
) -> None:
    film = np.full(shape, 10, np.uint8)
    row, column = round(shape[0] * 0.56), round(shape[1] * 0.41)
    reach = max(3, round(min(shape) / 24))
    film[row - reach : row + reach + 1, column - reach : column + reach + 1] = 250
    square = images.to_square(film, 64, fit)
    found = Explainer(spots, ["cells"], tiny.BINARY, fit).heat_map(
        square, "PNEUMONIA", method=method
    )
    on_film = images.from_square(found.values, shape, fit)
    peak = np.unravel_index(on_film.argmax(), shape)
    cell = 4 * max(shape) / 64  # of the film's px, at the most
    assert peak[0] == pytest.approx(row, abs=reach + cell)
    assert peak[1] == pytest.approx(column, abs=reach + cell)
