"""From a table of films to batches: the decoded-once cache, shuffling, and augmentation."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_core import images, workspace
from cxr_core.config import AugmentConfig, ImageConfig
from cxr_core.data import batches
from cxr_core.data.augment import affine_matrices, augment, exposure_tables
from cxr_core.errors import DatasetError, UnreadableImageError

SIZE = 32
IMAGE = ImageConfig(size=SIZE, fit="letterbox")
EVERYTHING = AugmentConfig(
    rotation=10,
    translation=0.1,
    zoom=0.1,
    shear=5,
    brightness=0.1,
    contrast=0.2,
    gamma=0.2,
    noise=5,
    flip=True,
)


def write_film(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (40, 48), dtype=np.uint8)
    cv2.imwrite(str(path), noise)


def table_of(folder: Path) -> pd.DataFrame:
    files = sorted(folder.glob("*.png"))
    return pd.DataFrame(
        {
            "path": [file.name for file in files],
            "md5": [hashlib.md5(file.read_bytes()).hexdigest() for file in files],
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "films"
    made.mkdir()
    for number in range(10):
        write_film(made / f"film{number}.png", number)
    return made


def caches() -> list[Path]:
    return sorted(workspace.cache_folder().glob("films-*.npy"))


# -- the cache ------------------------------------------------------------------------------------


def test_decoded_films_are_the_squares_that_diagnosis_sees(folder):
    table = table_of(folder)
    films = batches.decode(folder, table, IMAGE)
    assert films.pixels.dtype == np.uint8
    for path, row in zip(table["path"], films.rows(table["md5"]), strict=True):
        expected = images.to_square(images.read(folder / path).pixels, SIZE, IMAGE.fit)
        np.testing.assert_array_equal(films.pixels[row], expected)


def test_films_are_decoded_once_whatever_their_order_and_names(folder, monkeypatch):
    first = batches.decode(folder, table_of(folder), IMAGE)
    (folder / "film3.png").rename(folder / "renamed.png")
    monkeypatch.setattr(batches, "_decode", lambda *_: pytest.fail("decoded a second time"))
    table = table_of(folder).iloc[::-1]
    again = batches.decode(folder, table, IMAGE)
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert len(caches()) == 1


def test_changed_content_is_decoded_anew(folder):
    batches.decode(folder, table_of(folder), IMAGE)
    write_film(folder / "film3.png", seed=99)
    table = table_of(folder)
    films = batches.decode(folder, table, IMAGE)
    row = films.rows(table.loc[table["path"] == "film3.png", "md5"])[0]
    expected = images.to_square(images.read(folder / "film3.png").pixels, SIZE, IMAGE.fit)
    np.testing.assert_array_equal(films.pixels[row], expected)


@pytest.mark.parametrize(
    "other", [ImageConfig(size=48, fit="letterbox"), ImageConfig(size=SIZE, fit="squash")]
)
def test_other_image_settings_have_a_cache_of_their_own(folder, other):
    batches.decode(folder, table_of(folder), IMAGE)
    films = batches.decode(folder, table_of(folder), other)
    assert films.pixels.shape == (10, other.size, other.size)
    assert len(caches()) == 2


def test_byte_identical_films_share_a_row(folder):
    (folder / "twin.png").write_bytes((folder / "film0.png").read_bytes())
    table = table_of(folder)
    films = batches.decode(folder, table, IMAGE)
    assert len(table) == 11
    assert len(films.pixels) == 10


def test_a_crash_in_the_middle_leaves_no_cache_and_the_next_try_succeeds(folder, monkeypatch):
    decode_one = batches._decode

    def fail_in_the_middle(path: Path, *rest):
        if path.name == "film7.png":
            raise KeyboardInterrupt
        return decode_one(path, *rest)

    monkeypatch.setattr(batches, "_decode", fail_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        batches.decode(folder, table_of(folder), IMAGE)
    assert not caches()
    monkeypatch.setattr(batches, "_decode", decode_one)
    assert len(batches.decode(folder, table_of(folder), IMAGE).pixels) == 10


def test_what_a_killed_process_left_behind_is_not_taken_for_a_cache(folder):
    films = batches.decode(folder, table_of(folder), IMAGE)
    expected = np.array(films.pixels)
    (cache,) = caches()
    cache.with_suffix(".part").write_bytes(cache.read_bytes()[:500])
    cache.unlink()
    np.testing.assert_array_equal(batches.decode(folder, table_of(folder), IMAGE).pixels, expected)


def test_two_at_once_decode_once_and_both_get_whole_films(folder, monkeypatch):
    decoded = []
    decode_one = batches._decode
    monkeypatch.setattr(
        batches, "_decode", lambda path, *rest: decoded.append(path) or decode_one(path, *rest)
    )
    together = threading.Barrier(2)

    def decode(_: int) -> np.ndarray:
        together.wait()
        return batches.decode(folder, table_of(folder), IMAGE).pixels

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(decode, range(2))
    np.testing.assert_array_equal(one, other)
    assert len(decoded) == 10


def test_progress_ends_at_all_films(folder):
    seen = []
    batches.decode(folder, table_of(folder), IMAGE, progress=lambda *now: seen.append(now))
    assert seen[-1] == (10, 10)


def test_a_film_changed_since_the_scan_is_named(folder):
    table = table_of(folder)
    write_film(folder / "film4.png", seed=99)
    with pytest.raises(DatasetError, match=r"film4\.png has changed"):
        batches.decode(folder, table, IMAGE)
    assert not caches()


def test_a_film_that_vanished_is_named(folder):
    table = table_of(folder)
    (folder / "film4.png").unlink()
    with pytest.raises(DatasetError, match=r"film4\.png cannot be read any more"):
        batches.decode(folder, table, IMAGE)


def test_a_file_that_is_no_film_is_named(folder):
    (folder / "film4.png").write_text("not a picture")
    with pytest.raises(UnreadableImageError, match=r"film4\.png"):
        batches.decode(folder, table_of(folder), IMAGE)


def test_a_full_disk_is_a_sentence(folder, monkeypatch):
    real_open = Path.open

    def open_full(path: Path, *args, **kwargs):
        return real_open(Path("/dev/full") if path.suffix == ".part" else path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(DatasetError, match="disk is full"):
        batches.decode(folder, table_of(folder), ImageConfig(size=512))


# -- the batches ----------------------------------------------------------------------------------


def training_batches(seed: int = 0, settings: AugmentConfig | None = None, films: int = 23):
    pixels = np.random.default_rng(0).integers(0, 256, (films + 5, SIZE, SIZE), dtype=np.uint8)
    return batches.TrainingBatches(
        pixels=pixels,
        rows=np.arange(films) + 5,
        targets=np.arange(films, dtype=np.float32)[:, None],  # tells which film it is
        weights=np.ones(films, np.float32),
        batch_size=8,
        augment=settings or AugmentConfig(),
        seed=seed,
    )


def all_batches(made: batches.TrainingBatches, epochs: int = 2) -> list[tuple[np.ndarray, ...]]:
    return [tuple(part.numpy() for part in batch) for batch in made.dataset(epochs)]


def test_an_epoch_holds_every_film_once_in_batches_of_near_equal_size():
    made = training_batches()
    one_epoch = all_batches(made, epochs=1)
    assert [len(films) for films, _, _ in one_epoch] == [8, 8, 7]
    assert [made.size(step) for step in range(3)] == [8, 8, 7]
    seen = np.concatenate([targets.ravel() for _, targets, _ in one_epoch])
    assert sorted(seen) == list(range(23))


def test_films_keep_their_targets():
    made = training_batches()
    for films, targets, _ in all_batches(made):
        expected = made.pixels[targets.ravel().astype(int) + 5].astype(np.float32)
        np.testing.assert_array_equal(films[..., 0], expected)


def test_a_batch_is_gray_levels_as_the_network_takes_them():
    films, _, _ = all_batches(training_batches(settings=EVERYTHING))[0]
    assert films.dtype == np.float32
    assert films.shape == (8, SIZE, SIZE, 1)
    assert films.min() >= 0
    assert films.max() <= 255
    assert films.max() > 100


def test_the_same_seed_gives_the_same_batches():
    one = all_batches(training_batches(seed=3, settings=EVERYTHING))
    other = all_batches(training_batches(seed=3, settings=EVERYTHING))
    for first, second in zip(one, other, strict=True):
        for part, same in zip(first, second, strict=True):
            np.testing.assert_array_equal(part, same)


def test_another_seed_and_another_epoch_give_other_orders():
    def order(made: list[tuple[np.ndarray, ...]]) -> list[float]:
        return np.concatenate([targets.ravel() for _, targets, _ in made]).tolist()

    both = all_batches(training_batches(seed=3))
    assert order(both[:3]) != order(both[3:])
    assert order(both) != order(all_batches(training_batches(seed=4)))


# -- augmentation ---------------------------------------------------------------------------------


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
    ],
    ids=lambda settings: next(name for name, value in settings if value),
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
