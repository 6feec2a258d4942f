"""Reads tensors from a weights file in PyTorch's format of before 2020, without PyTorch.

Such a file is a row of pickles (a magic number, the protocol, facts about the machine, the named
tensors, the order of the storages), then the raw storages, each led by its length. A pickle can
run any code it likes, so this reader knows four harmless names and refuses every other.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cxr_core.errors import TrainingError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


@dataclass(frozen=True)
class _Storage:
    """A flat run of numbers, by the key under which it follows the pickles."""

    key: str
    dtype: np.dtype
    length: int


@dataclass(frozen=True)
class _View:
    """A tensor as pickled: a window, given in elements, onto a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _View:
    return _View(storage, offset, tuple(shape), tuple(strides))


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for '{module}.{name}', which no plain weights file needs"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, length, _ = pid
        return _Storage(key, dtype, length)


def read(file: Path) -> dict[str, np.ndarray]:
    """Return the file's tensors by name, float32 or int64, in PyTorch's own layout.

    Raises:
        TrainingError: the file is missing, damaged, in another format, or asks for code.
    """
    try:
        with file.open("rb") as stream:
            return _read(stream)
    except Exception as error:  # a bad pickle may raise anything, says the pickle module
        raise TrainingError(
            f"The weights file {file} cannot be used: {error}. Nothing in it was run. "
            "Install the package it came with again."
        ) from error


def _read(stream: BinaryIO) -> dict[str, np.ndarray]:
    load: Callable[[], Any] = lambda: _Unpickler(stream).load()  # noqa: E731
    if load() != MAGIC_NUMBER or load() != PROTOCOL or not load()["little_endian"]:
        raise ValueError("it is not in PyTorch's old little-endian format")
    views: dict[str, _View] = load()
    storages = {view.storage.key: view.storage for view in views.values()}
    numbers = {key: _read_storage(stream, storages[key]) for key in load()}
    return {name: _window(numbers[view.storage.key], view) for name, view in views.items()}


def _read_storage(stream: BinaryIO, storage: _Storage) -> np.ndarray:
    length = int.from_bytes(stream.read(8), "little")
    raw = stream.read(storage.length * storage.dtype.itemsize)
    if length != storage.length or len(raw) != length * storage.dtype.itemsize:
        raise ValueError("it ends early or its parts disagree on their lengths")
    return np.frombuffer(raw, storage.dtype)


def _window(numbers: np.ndarray, view: _View) -> np.ndarray:
    # The constructor refuses a window that reaches out of the buffer.
    size = numbers.itemsize
    strides = tuple(stride * size for stride in view.strides)
    return np.ndarray(view.shape, numbers.dtype, numbers.data, view.offset * size, strides).copy()
