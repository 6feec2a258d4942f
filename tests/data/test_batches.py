"""From a table of films to batches: the decoded-once cache, its limit, shuffling and balancing."""

import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from cxr_core import images, workspace
from cxr_core.config import AugmentConfig, ImageConfig
from cxr_core.data import batches
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
    crop_area=0.7,
    mixup=0.4,
    cutmix=1,
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


@pytest.mark.parametrize("image", [IMAGE, IMAGE.model_copy(update={"clahe": 3.0})])
def test_decoded_films_are_the_squares_that_diagnosis_sees(folder, image):
    table = table_of(folder)
    films = batches.decode(folder, table, image)
    squares = films.pixels[films.rows(table["md5"])]
    assert squares.dtype == np.uint8
    for path, square in zip(table["path"], squares, strict=True):
        film = images.read(folder / path).pixels
        expected = images.to_square(film, SIZE, image.fit, image.clahe)
        np.testing.assert_array_equal(square, expected)


def test_films_are_decoded_once_whatever_their_order_and_names(folder, monkeypatch):
    first = batches.decode(folder, table_of(folder), IMAGE)
    (folder / "film3.png").rename(folder / "renamed.png")
    monkeypatch.setattr(batches, "_decode", lambda *_: pytest.fail("decoded a second time"))
    table = table_of(folder).iloc[::-1]
    again = batches.decode(folder, table, IMAGE)
    np.testing.assert_array_equal(all_of(again.pixels), all_of(first.pixels))
    assert len(caches()) == 1


def test_changed_content_is_decoded_anew(folder):
    batches.decode(folder, table_of(folder), IMAGE)
    write_film(folder / "film3.png", seed=99)
    table = table_of(folder)
    films = batches.decode(folder, table, IMAGE)
    row = films.rows(table.loc[table["path"] == "film3.png", "md5"])
    expected = images.to_square(images.read(folder / "film3.png").pixels, SIZE, IMAGE.fit)
    np.testing.assert_array_equal(films.pixels[row][0], expected)


@pytest.mark.parametrize(
    "other",
    [
        ImageConfig(size=48, fit="letterbox"),
        ImageConfig(size=SIZE, fit="squash"),
        ImageConfig(size=SIZE, fit="letterbox", clahe=2),
    ],
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
    assert films.pixels.shape[0] == 10


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
    assert len(decode_at(folder, SIZE)) == 10


def test_what_a_killed_process_left_behind_is_not_taken_for_a_cache(folder):
    expected = decode_at(folder, SIZE)
    (cache,) = caches()
    cache.with_suffix(".part").write_bytes(cache.read_bytes()[:500])
    cache.unlink()
    np.testing.assert_array_equal(decode_at(folder, SIZE), expected)


def test_a_half_written_cache_is_left_to_who_writes_it_and_else_cleared_away(folder):
    batches.decode(folder, table_of(folder), IMAGE)
    place = workspace.cache_folder()
    being_written, forsaken = place / "films-0.part", place / "films-1.part"
    being_written.touch()
    forsaken.touch()
    with FileLock(being_written.with_suffix(".lock")):
        batches.decode(folder, table_of(folder), IMAGE)
    assert being_written.exists()
    assert not forsaken.exists()


def all_of(squares: images.Squares) -> np.ndarray:
    return squares[np.arange(squares.shape[0])]


def decode_at(folder: Path, size: int) -> np.ndarray:
    return all_of(batches.decode(folder, table_of(folder), ImageConfig(size=size)).pixels)


def cached_sizes() -> set[int]:
    return {np.load(cache, mmap_mode="r").shape[1] for cache in caches()}


def test_caches_unused_for_longest_are_deleted_beyond_the_limit(folder, monkeypatch):
    for last_used, size in enumerate((61, 62, 63)):
        seen = set(caches())
        decode_at(folder, size)
        (made,) = set(caches()) - seen
        os.utime(made, (last_used, last_used))
    decode_at(folder, 61)  # which makes it the last used
    monkeypatch.setattr(batches, "_CACHE_LIMIT", 3 * 10 * 65 * 65)
    decode_at(folder, 64)
    assert cached_sizes() == {61, 63, 64}


def test_the_limit_spares_the_newest_cache_and_one_that_is_being_opened(folder, monkeypatch):
    decode_at(folder, 61)
    (old,) = caches()
    monkeypatch.setattr(batches, "_CACHE_LIMIT", 0)
    with FileLock(old.with_suffix(".lock")):
        decode_at(folder, 62)
        assert cached_sizes() == {61, 62}
    decode_at(folder, 62)
    assert cached_sizes() == {62}


def test_films_that_are_open_stay_whole_when_their_cache_is_deleted(folder, monkeypatch):
    opened = batches.decode(folder, table_of(folder), ImageConfig(size=61)).pixels
    before = all_of(opened)
    monkeypatch.setattr(batches, "_CACHE_LIMIT", 0)
    decode_at(folder, 62)
    np.testing.assert_array_equal(all_of(opened), before)


def test_a_process_killed_while_it_decodes_neither_blocks_nor_spoils_the_next(folder):
    expected = decode_at(folder, SIZE)
    (cache,) = caches()
    half = cache.read_bytes()[: cache.stat().st_size // 2]
    cache.unlink()
    script = (
        "import sys; from pathlib import Path; from filelock import FileLock\n"
        f"with FileLock({str(cache.with_suffix('.lock'))!r}):\n"
        f"    Path({str(cache.with_suffix('.part'))!r}).write_bytes({half!r})\n"
        "    print(flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()  # it holds the lock and is in the middle of writing
        other.kill()
    np.testing.assert_array_equal(decode_at(folder, SIZE), expected)


def test_two_at_once_decode_once_and_both_get_whole_films(folder, monkeypatch):
    decoded = []
    decode_one = batches._decode
    monkeypatch.setattr(
        batches, "_decode", lambda path, *rest: decoded.append(path) or decode_one(path, *rest)
    )
    together = threading.Barrier(2)

    def decode(_: int) -> np.ndarray:
        together.wait()
        return decode_at(folder, SIZE)

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


def training_batches(
    seed: int = 0, settings: AugmentConfig | None = None, films: int = 23, size: int = SIZE
):
    pixels = np.random.default_rng(0).integers(0, 256, (films + 5, size, size), dtype=np.uint8)
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


def test_batches_of_a_later_epoch_are_those_that_a_whole_training_comes_to():
    made = training_batches(settings=EVERYTHING)
    later = [tuple(part.numpy() for part in batch) for batch in made.dataset(3, first=2)]
    assert len(later) == 3
    for batch, same in zip(later, all_batches(made, epochs=3)[6:], strict=True):
        for part, other in zip(batch, same, strict=True):
            np.testing.assert_array_equal(part, other)


def test_films_of_another_size_come_in_the_same_order():
    small, large = training_batches(size=48), training_batches(size=64)
    for step in range(3):
        films, targets, _ = small.batch(step)
        assert films.shape[1:] == (48, 48, 1)
        np.testing.assert_array_equal(targets, large.batch(step)[1])


def test_blended_films_are_blended_with_films_of_their_batch_and_so_are_targets_and_weights():
    made = training_batches(settings=AugmentConfig(mixup=1))
    made = replace(made, weights=np.arange(1, 24, dtype=np.float32))
    _, targets, weights = made.batch(0)
    _, own, own_weights = replace(made, augment=AugmentConfig()).batch(0)
    assert not np.isin(targets, own).all()
    assert (own.min() <= targets).all()
    assert (targets <= own.max()).all()
    assert (own_weights.min() <= weights).all()
    assert (weights <= own_weights.max()).all()


# -- rare classes ---------------------------------------------------------------------------------


def oversampled(labels: np.ndarray, targets: np.ndarray) -> batches.TrainingBatches:
    return batches.TrainingBatches(
        # The gray level tells which film it is.
        pixels=np.repeat(np.arange(len(labels), dtype=np.uint8), 64).reshape(-1, 8, 8),
        rows=np.arange(len(labels)),
        targets=targets,
        weights=np.ones(len(labels), np.float32),
        batch_size=8,
        augment=AugmentConfig(),
        seed=0,
        balanced=labels,
    )


def epoch_of(made: batches.TrainingBatches, epoch: int) -> list[int]:
    steps = range(epoch * made.steps_per_epoch, (epoch + 1) * made.steps_per_epoch)
    films = [made.batch(step)[0] for step in steps]
    assert [len(batch) for batch in films] == [made.size(step) for step in steps]
    return np.concatenate(films)[:, 0, 0, 0].astype(int).tolist()


@pytest.mark.parametrize("classes", [2, 3])
def test_oversampling_shows_every_class_equally_often_and_every_film_about_as_often(classes):
    labels = np.repeat(np.arange(3), [20, 7, 3])
    if classes == 2:
        labels = np.minimum(labels, 1)
        targets = labels[:, None].astype(np.float32)
    else:
        targets = np.eye(3, dtype=np.float32)[labels]
    made = oversampled(labels, targets)
    shown = np.bincount(epoch_of(made, 0), minlength=30)
    assert np.bincount(labels, shown).tolist() == [20] * classes
    for label in range(classes):
        times = shown[labels == label]
        assert times.max() - times.min() <= 1
    assert made.films_per_epoch == 20 * classes


def test_films_shown_once_more_change_from_epoch_to_epoch_and_not_from_run_to_run():
    labels = np.repeat([0, 1], [20, 7])
    targets = labels[:, None].astype(np.float32)
    first, other = oversampled(labels, targets), oversampled(labels, targets)
    assert epoch_of(first, 0) == epoch_of(other, 0)
    assert sorted(epoch_of(first, 0)) != sorted(epoch_of(first, 1))
    assert epoch_of(first, 0) == epoch_of(other, 0)  # whatever was asked for in between
