"""Random changes to films: exposure, geometry, noise; and blends of two films."""

import numpy as np
import pytest
from scipy import ndimage

from cxr_core.config import AugmentConfig
from cxr_core.data.augment import affine_matrices, augment, exposure_tables, mix

SIZE = 32


@pytest.fixture
def films() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (6, SIZE, SIZE), dtype=np.uint8)


def test_augmentation_of_nothing_changes_nothing(films):
    changed = augment(films, AugmentConfig(), np.random.default_rng(0))
    assert changed.dtype == np.float32
    np.testing.assert_array_equal(changed, films)


@pytest.mark.parametrize(
    "settings",
    [
        AugmentConfig(rotation=10),
        AugmentConfig(translation=0.2),
        AugmentConfig(zoom=0.2),
        AugmentConfig(shear=10),
        AugmentConfig(brightness=0.2),
        AugmentConfig(contrast=0.3),
        AugmentConfig(gamma=0.3),
        AugmentConfig(noise=10),
        AugmentConfig(crop_area=0.5),
    ],
    ids=lambda settings: next(iter(settings.model_fields_set)),
)
def test_every_setting_changes_every_film_and_stays_in_range(films, settings):
    changed = augment(films, settings, np.random.default_rng(0))
    assert (changed != films).any(axis=(1, 2)).all()
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_a_flip_mirrors_about_half_of_the_films():
    pixels = np.random.default_rng(1).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    changed = augment(pixels, AugmentConfig(flip=True), np.random.default_rng(0))
    mirrored = (np.abs(changed - pixels[:, :, ::-1]) < 1e-3).all(axis=(1, 2))
    kept = (np.abs(changed - pixels) < 1e-3).all(axis=(1, 2))
    assert (mirrored ^ kept).all()
    assert 70 < mirrored.sum() < 130


def test_geometry_keeps_the_centre_where_only_rotation_zoom_and_shear_are_on():
    settings = AugmentConfig(rotation=45, zoom=0.5, shear=20, flip=True)
    matrices = affine_matrices(50, SIZE, settings, np.random.default_rng(0))
    centre = np.array([(SIZE - 1) / 2, (SIZE - 1) / 2, 1])
    np.testing.assert_allclose(matrices @ centre, np.tile(centre, (50, 1)), atol=1e-9)


def test_a_translation_moves_a_point_by_at_most_its_share_of_the_side():
    film = np.zeros((1, 65, 65), np.uint8)
    film[0, 32, 32] = 255
    moved = augment(
        np.repeat(film, 100, axis=0), AugmentConfig(translation=0.2), np.random.default_rng(0)
    )
    rows, columns = np.unravel_index(moved.reshape(100, -1).argmax(axis=1), (65, 65))
    distance = np.maximum(abs(rows - 32), abs(columns - 32))
    assert distance.max() <= 0.2 * 65 + 1
    assert distance.max() > 0.1 * 65


def test_what_comes_in_from_outside_is_black():
    white = np.full((20, SIZE, SIZE), 255, np.uint8)
    moved = augment(white, AugmentConfig(translation=0.3), np.random.default_rng(0))
    corners = moved[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners.min(axis=1) == 0).all()


def test_exposure_keeps_the_order_of_gray_levels_and_the_mean_under_contrast():
    means = np.array([60.0, 120.0, 180.0])
    settings = AugmentConfig(brightness=0.2, contrast=0.5, gamma=0.5)
    tables = exposure_tables(means, settings, np.random.default_rng(0))
    assert (np.diff(tables, axis=1) >= 0).all()
    contrast_alone = exposure_tables(means, AugmentConfig(contrast=0.5), np.random.default_rng(0))
    np.testing.assert_allclose(contrast_alone[np.arange(3), means.astype(int)], means, atol=1e-3)


def test_all_changes_at_once_resample_a_film_once():
    # A second resampling, or rounding in between, would show as a difference from the one formula.
    pixels = np.random.default_rng(1).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    settings = AugmentConfig(rotation=15, zoom=0.2, shear=5, translation=0.1, crop_area=0.6)
    changed = augment(pixels, settings, np.random.default_rng(3))
    matrices = affine_matrices(4, 64, settings, np.random.default_rng(3))
    rows, columns = np.mgrid[:64, :64]
    for film, matrix, result in zip(pixels, matrices, changed, strict=True):
        x, y, _ = np.einsum("ij,jkl->ikl", matrix, np.stack([columns, rows, np.ones_like(rows)]))
        expected = ndimage.map_coordinates(film.astype(float), [y, x], order=1, cval=0)
        inside = (x > 0) & (x < 63) & (y > 0) & (y < 63)
        # OpenCV looks 1/32 of a pixel close between two.
        assert np.abs(result - expected)[inside].mean() < 2


def test_blur_takes_detail_from_films_by_different_amounts_and_leaves_their_mean_gray():
    grain = np.random.default_rng(1).integers(0, 256, (60, 64, 64), dtype=np.uint8)
    blurred = augment(grain, AugmentConfig(blur=2), np.random.default_rng(0))
    left = blurred.std(axis=(1, 2)) / grain.std(axis=(1, 2))
    assert left.min() < 0.25  # a sigma of 2 px leaves 1 / (2 sigma sqrt(pi)) of white noise, 0.14
    assert left.max() > 0.9
    np.testing.assert_allclose(blurred.mean(axis=(1, 2)), grain.mean(axis=(1, 2)), atol=2)


def test_noise_has_the_spread_asked_for_at_most_and_differs_between_films():
    gray = np.full((60, 64, 64), 128, np.uint8)
    noise = augment(gray, AugmentConfig(noise=10), np.random.default_rng(0)) - 128.0
    spreads = noise.std(axis=(1, 2))
    assert spreads.max() <= 10.3
    assert spreads.max() > 9
    assert spreads.min() < 1
    assert np.abs(noise.mean(axis=(1, 2)) / spreads).max() < 5 / 64
    alike = np.corrcoef(noise.reshape(60, -1)) - np.eye(60)
    assert np.abs(alike).max() < 0.1


# -- random resized crop --------------------------------------------------------------------------


def seen_parts(matrices: np.ndarray) -> np.ndarray:
    """Edges of the part of the film that each square shows: left, top, right, bottom."""
    corners = [[-0.5, -0.5, 1], [SIZE - 0.5, SIZE - 0.5, 1]]
    return (matrices[:, :2] @ np.transpose(corners)).transpose(0, 2, 1).reshape(-1, 4) + 0.5


def test_a_crop_stays_inside_the_film_and_keeps_its_share_and_proportions():
    settings = AugmentConfig(crop_area=0.4)
    parts = seen_parts(affine_matrices(2000, SIZE, settings, np.random.default_rng(0)))
    assert parts.min() > -1e-9
    assert parts.max() < SIZE + 1e-9
    width, height = parts[:, 2] - parts[:, 0], parts[:, 3] - parts[:, 1]
    area = width * height / SIZE**2
    assert 0.4 <= area.min() < 0.41
    assert 0.99 < area.max() <= 1
    assert (width / height).min() >= 3 / 4 - 1e-9
    assert (width / height).max() <= 4 / 3 + 1e-9
    assert (width / height).max() > 1.3
    assert parts[:, 0].max() > 0.3 * SIZE  # they lie anywhere


def test_a_crop_is_the_film_enlarged():
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (SIZE, 1))[None]
    settings = AugmentConfig(crop_area=0.4)
    cropped = augment(ramp, settings, np.random.default_rng(5))[0]
    left, _, right, _ = seen_parts(affine_matrices(1, SIZE, settings, np.random.default_rng(5)))[0]
    columns = left + (np.arange(SIZE) + 0.5) * (right - left) / SIZE - 0.5
    inner = (columns > 0) & (columns < SIZE - 1)
    np.testing.assert_allclose(cropped[SIZE // 2, inner], 8 * columns[inner], atol=0.3)


# -- blends of two films --------------------------------------------------------------------------


def blended(settings: AugmentConfig, count: int = 50, seed: int = 0):
    """Blend films whose gray levels, targets and weights tell one from the other."""
    rng = np.random.default_rng(99)
    gray = rng.permutation(count).astype(np.float32)
    films = np.tile(gray[:, None, None], (1, SIZE, SIZE))
    targets = np.eye(count, dtype=np.float32)
    weights = rng.uniform(0.5, 2, count).astype(np.float32)
    kept = (films.copy(), targets.copy(), weights.copy())
    result = mix(films, targets, weights, settings, np.random.default_rng(seed))
    for given, before in zip((films, targets, weights), kept, strict=True):
        np.testing.assert_array_equal(given, before)
    return kept, result


@pytest.mark.parametrize(
    "settings", [AugmentConfig(mixup=1), AugmentConfig(cutmix=1), AugmentConfig(mixup=1, cutmix=1)]
)
def test_a_blend_has_the_loss_of_both_films_by_their_shares_and_weights(settings):
    (films, targets, weights), (mixed, blend, weight) = blended(settings)
    following = np.roll(np.arange(50), -1)
    own, other = films[:, 0, 0], films[following, 0, 0]
    shares = (mixed.mean(axis=(1, 2)) - other) / (own - other)  # as the pixels have it
    assert shares.min() >= -1e-4
    assert shares.max() <= 1 + 1e-4
    assert np.ptp(shares) > 0.5  # drawn for each film
    anything = np.random.default_rng(1).uniform(0, 5, 50)  # the loss of each class for a logit
    expected = shares * weights * (targets @ anything)
    expected += (1 - shares) * weights[following] * (targets[following] @ anything)
    np.testing.assert_allclose(weight * (blend @ anything), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(blend.sum(axis=1), 1, rtol=1e-5)
    assert (mixed.dtype, blend.dtype, weight.dtype) == (np.float32,) * 3


def test_mixup_fades_and_cutmix_pastes():
    (films, *_), (faded, *_) = blended(AugmentConfig(mixup=1))
    assert (np.ptp(faded, axis=(1, 2)) < 1e-4).all()
    assert not np.isin(faded, films).all()
    _, (pasted, *_) = blended(AugmentConfig(cutmix=1))
    assert np.isin(pasted, films).all()
    following = np.roll(films[:, :1, :1], -1, axis=0)
    for film, other in zip(pasted, following, strict=True):
        rows, columns = np.nonzero(film == other)
        if len(rows):  # one rectangle, whole
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_with_both_on_a_batch_has_one_of_them():
    kinds = set()
    for seed in range(20):
        _, (mixed, *_) = blended(AugmentConfig(mixup=1, cutmix=1), seed=seed)
        flat = np.ptp(mixed, axis=(1, 2)) < 1e-4
        kinds.add("mixup" if flat.all() else "cutmix")
    assert kinds == {"mixup", "cutmix"}


def test_a_batch_of_one_film_is_left_as_it_is():
    (films, targets, weights), result = blended(AugmentConfig(mixup=1, cutmix=1), count=1)
    for given, same in zip((films, targets, weights), result, strict=True):
        np.testing.assert_array_equal(given, same)
