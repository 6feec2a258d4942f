"""A table of films to batches: decoded once to a cache on disk, then shuffled, changed, prefetched.

Films stay uint8 and on disk until the batch they are in is made, so a set larger than memory trains
as well as a small one.
"""

import errno
import functools
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from filelock import FileLock

from cxr_core import images, workspace
from cxr_core.config import AugmentConfig, ImageConfig
from cxr_core.data.augment import augment, mix
from cxr_core.errors import DatasetError

Progress = Callable[[int, int], None]  # films done, films in all

_CACHE_VERSION = 2  # raise when decoding or resizing changes what a film looks like
_BLOCK = 64  # films decoded between two writes
_CACHE_LIMIT = 20 * 2**30  # bytes; beyond it the caches unused for longest are deleted
_MAKERS = 8  # most batches made at once: they feed any GPU, and each takes memory
_AHEAD = 2  # batches made that wait to be trained on


class StoredSquares:
    """The films of an ``.npy`` file, read when asked for; safe to share between threads.

    A memory-mapped array would do the same in a line, but every film once looked at would count as
    memory of the process, and could get it killed where memory is limited. The file stays open, so
    that it may be deleted while it is used.

    Args:
        path: array of uint8 ``(n, size, size)`` in C order.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        np.lib.format.read_magic(self._file)
        self.shape, _, _ = np.lib.format.read_array_header_1_0(self._file)
        self._begin = self._file.tell()

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return the films in these rows, uint8 ``(b, size, size)``.

        Raises:
            DatasetError: the file ends before them.
        """
        films = np.empty((len(rows), *self.shape[1:]), np.uint8)
        with self._lock:
            for film, row in zip(films, rows, strict=True):
                self._file.seek(self._begin + int(row) * film.size)
                if self._file.readinto(film.data) != film.size:
                    raise DatasetError(
                        f"The file of decoded films {self._file.name} is damaged. Delete it and "
                        "start again: it is made anew."
                    )
        return films


@dataclass(frozen=True, eq=False)
class Films:
    """Decoded films of a set."""

    pixels: images.Squares
    row_of: dict[str, int]  # md5 of a film's file -> its row in ``pixels``

    def rows(self, md5s: Iterable[str]) -> np.ndarray:
        """Return the rows of films given by their files' md5, int64 ``(n,)``."""
        return np.array([self.row_of[md5] for md5 in md5s], dtype=np.int64)


def decode(
    root: Path, table: pd.DataFrame, image: ImageConfig, *, progress: Progress | None = None
) -> Films:
    """Decode films to squares, or find them decoded already.

    The cache's name is made from the films' contents and the image settings, so renamed files and
    another division of the same films find it again, and a changed file never does.

    Args:
        root: the data set's folder.
        table: a row a film, with ``path`` relative to ``root`` and ``md5`` of the file.
        image: the side of the square, how a film becomes one, and its equalisation.
        progress: called now and then with films done and films in all.

    Raises:
        DatasetError: a file vanished or changed since the scan.
        UnreadableImageError: a file is no image.
    """
    path_of = dict(zip(table["md5"], table["path"], strict=True))
    md5s = sorted(path_of)  # byte-identical twins share a row
    row_of = {md5: row for row, md5 in enumerate(md5s)}
    cache = workspace.cache_folder() / f"films-{_key(md5s, image)}.npy"
    with FileLock(cache.with_suffix(".lock")):
        if not cache.exists():
            paths = [root / path_of[md5] for md5 in md5s]
            _write(cache, paths, md5s, image, progress)
        cache.touch()  # its age is that of its last use
        films = Films(StoredSquares(cache), row_of)
    _prune(cache)
    return films


@dataclass(frozen=True, eq=False)
class TrainingBatches:
    """Training batches, each a pure function of its number: any epoch can be made again.

    Every film comes once an epoch, in an order drawn from the seed and the epoch; where rare
    classes are oversampled, their films come several times, until each class has as many as the
    largest. Batches are of near-equal size, at most ``batch_size``: a left-over batch of one film
    would upset batch normalisation.
    """

    pixels: images.Squares  # uint8 (m, size, size)
    rows: np.ndarray  # int (n,): which rows of ``pixels`` are trained on
    targets: np.ndarray  # float32 (n, outputs)
    weights: np.ndarray  # float32 (n,): each film's weight in the loss, above 0
    batch_size: int
    augment: AugmentConfig
    seed: int
    # Each film's class, int (n,), where rare ones are oversampled; None takes films as they are.
    balanced: np.ndarray | None = None

    @functools.cached_property
    def films_per_epoch(self) -> int:
        """Films in one pass, those that come several times counted as often."""
        return len(self._classes) * self._largest

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the films."""
        return -(-self.films_per_epoch // self.batch_size)

    def size(self, step: int) -> int:
        """Films in batch ``step``, counted from 0 over all epochs."""
        quotient, rest = divmod(self.films_per_epoch, self.steps_per_epoch)
        return quotient + (step % self.steps_per_epoch < rest)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return films float32 ``(b, size, size, 1)`` in 0-255, targets and weights."""
        epoch, place = divmod(step, self.steps_per_epoch)
        quotient, rest = divmod(self.films_per_epoch, self.steps_per_epoch)
        begin = place * quotient + min(place, rest)
        chosen = self._order(epoch)[begin : begin + self.size(step)]
        rng = np.random.default_rng([self.seed, epoch, place])
        films = augment(self.pixels[self.rows[chosen]], self.augment, rng)
        films, targets, weights = mix(
            films, self.targets[chosen], self.weights[chosen], self.augment, rng
        )
        return films[..., None], targets, weights

    def dataset(self, epochs: int, first: int = 0) -> tf.data.Dataset:
        """Return the batches from epoch ``first`` to before epoch ``epochs``, made ahead."""
        size, outputs = self.pixels.shape[1], self.targets.shape[1]

        def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            # Declared stateless: under deterministic ops tf.data would else run it serially.
            films, targets, weights = tf.numpy_function(
                self.batch, [step], (tf.float32, tf.float32, tf.float32), stateful=False
            )
            films.set_shape((None, size, size, 1))
            targets.set_shape((None, outputs))
            weights.set_shape((None,))
            return films, targets, weights

        steps = tf.data.Dataset.range(first * self.steps_per_epoch, epochs * self.steps_per_epoch)
        batches = steps.map(load, num_parallel_calls=min(_threads(), _MAKERS), deterministic=True)
        options = tf.data.Options()
        # Nothing is left to tune here, and the tuner's thread may take a minute to end.
        options.autotune.enabled = False
        return batches.prefetch(_AHEAD).with_options(options)

    @functools.cached_property
    def _classes(self) -> list[np.ndarray]:
        """Which films belong to one class each; all together where nothing is balanced."""
        if self.balanced is None:
            return [np.arange(len(self.rows))]
        return [np.flatnonzero(self.balanced == label) for label in np.unique(self.balanced)]

    @functools.cached_property
    def _largest(self) -> int:
        """Films of the largest class."""
        return max(len(members) for members in self._classes)

    @functools.cached_property
    def _order(self) -> Callable[[int], np.ndarray]:
        """Epoch -> which films it shows, in order; kept, since every batch of it asks."""
        return functools.lru_cache(maxsize=2)(self._draw_order)

    def _draw_order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        shown = []
        for members in self._classes:
            times, rest = divmod(self._largest, len(members))
            shown += [members] * times + [rng.choice(members, rest, replace=False)]
        return rng.permutation(np.concatenate(shown))


def in_order(pixels: images.Squares, rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield unchanged films, float32 ``(b, size, size, 1)`` in 0-255, in the order of ``rows``."""
    for start in range(0, len(rows), batch_size):
        yield pixels[rows[start : start + batch_size]].astype(np.float32)[..., None]


def _key(md5s: list[str], image: ImageConfig) -> str:
    settings = f"{_CACHE_VERSION} {image.size} {image.fit} {image.clahe}"
    return hashlib.sha256("\n".join([settings, *md5s]).encode()).hexdigest()[:24]


def _write(
    cache: Path, paths: list[Path], md5s: list[str], image: ImageConfig, progress: Progress | None
) -> None:
    """Write a cache under a temporary name, then rename: it is whole or it is not there."""
    part = cache.with_suffix(".part")  # one writer at a time: the caller holds the lock
    shape = (len(paths), image.size, image.size)
    try:
        with part.open("wb") as file, ThreadPoolExecutor(_threads()) as pool:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(paths), _BLOCK):
                done = min(start + _BLOCK, len(paths))
                block = slice(start, done)
                squares = pool.map(_decode, paths[block], md5s[block], repeat(image))
                for square in squares:
                    file.write(np.ascontiguousarray(square).data)
                if progress is not None:
                    progress(done, len(paths))
            file.flush()
            os.fsync(file.fileno())
        part.replace(cache)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DatasetError(
            f"The disk is full: the decoded films do not fit in {cache.parent}. Free some space, "
            "or set CXR_HOME to a larger disk."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _prune(newest: Path) -> None:
    """Delete what killed processes left half written, and the oldest caches beyond the limit.

    A cache whose lock is held is being written or opened. One that is open already stays whole for
    who has it where the system lets it be deleted, as POSIX does, and remains where it does not.
    """
    room = _CACHE_LIMIT
    with suppress(OSError):  # another process prunes at the same time
        caches = sorted(newest.parent.glob("films-*.npy"), key=_last_use, reverse=True)
        old = list(newest.parent.glob("films-*.part"))
        for cache in caches:
            room -= cache.stat().st_size
            if room < 0 and cache != newest:
                old.append(cache)
        for file in old:
            with suppress(OSError), FileLock(file.with_suffix(".lock"), timeout=0):
                file.unlink()


def _last_use(cache: Path) -> float:
    return cache.stat().st_mtime


def _decode(path: Path, md5: str, image: ImageConfig) -> np.ndarray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"The film {path} cannot be read any more: {error.strerror}. Scan the folder again."
        ) from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DatasetError(
            f"The film {path} has changed since the folder was scanned. Scan the folder again."
        )
    return images.read_square(content, path.name, size=image.size, fit=image.fit, clahe=image.clahe)


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
