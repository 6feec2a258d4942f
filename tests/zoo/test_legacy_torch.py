"""The reader of old PyTorch files gives back tensors, and refuses whatever could run code."""

import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cxr_core.errors import TrainingError
from cxr_core.zoo import legacy_torch

MAGIC = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})


class FloatStorage(list):  # stands in for torch.FloatStorage, by name
    pass


def _rebuild_tensor_v2(*_: Any) -> None:  # stands in for torch._utils._rebuild_tensor_v2, by name
    raise AssertionError("only its name is ever pickled")


class View:
    """Pickles as PyTorch pickles a tensor: a window onto a storage."""

    def __init__(self, storage: FloatStorage, offset: int, shape: tuple, strides: tuple) -> None:
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> tuple:
        return _rebuild_tensor_v2, self.arguments


class Order:
    """Pickles as a call of a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, FloatStorage):
            return "storage", FloatStorage, str(id(obj)), "cpu", len(obj), None
        return None


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a writer of old PyTorch files: named tensors, then the storages they look at."""

    def to_file(tensors: dict[str, Any], *storages: FloatStorage) -> Path:
        file = tmp_path / "weights.pth"
        with monkeypatch.context() as patch, file.open("wb") as stream:
            for module, item in (("torch", FloatStorage), ("torch._utils", _rebuild_tensor_v2)):
                stand_in = ModuleType(module)
                setattr(stand_in, item.__name__, item)
                patch.setitem(sys.modules, module, stand_in)
                patch.setattr(item, "__module__", module)
            for header in MAGIC:
                pickle.dump(header, stream, protocol=2)
            Pickler(stream, protocol=2).dump(OrderedDict(tensors))
            pickle.dump([str(id(storage)) for storage in storages], stream, protocol=2)
            for storage in storages:
                stream.write(struct.pack(f"<q{len(storage)}f", len(storage), *storage))
        return file

    return to_file


def test_tensors_come_back_by_name_with_offset_and_strides(write: Write) -> None:
    one, two = FloatStorage(range(6)), FloatStorage([7.0, 8.0])
    file = write(
        {
            "rows": View(one, 0, (2, 3), (3, 1)),
            "columns": View(one, 0, (3, 2), (1, 3)),
            "last": View(two, 1, (1,), (1,)),
            "scalar": View(two, 0, (), ()),
        },
        one,
        two,
    )
    tensors = legacy_torch.read(file)
    np.testing.assert_array_equal(tensors["rows"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(tensors["columns"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(tensors["last"], [8])
    assert tensors["scalar"] == 7
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())


@pytest.mark.parametrize("place", ["magic number", "tensors"])
def test_a_pickle_that_asks_for_code_is_refused_and_nothing_runs(
    write: Write, tmp_path: Path, place: str
) -> None:
    marker = tmp_path / "ran"
    order = Order(f"touch {marker}")
    if place == "tensors":
        file = write({"weight": order})
    else:
        file = tmp_path / "weights.pth"
        file.write_bytes(pickle.dumps(order))
    with pytest.raises(TrainingError, match=r"weights\.pth.*system"):
        legacy_torch.read(file)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins eval", "builtins getattr", "collections OrderedDict.fromkeys", "torch._utils os"],
)
def test_only_the_listed_names_are_known(tmp_path: Path, name: str) -> None:
    file = tmp_path / "weights.pth"
    module, attribute = (part.encode() for part in name.split())
    # Protocol 4: a dotted name would reach into an allowed class, were it looked up.
    file.write_bytes(
        b"\x80\x04"
        + b"".join(b"\x8c" + bytes([len(text)]) + text for text in (module, attribute))
        + b"\x93."
    )
    with pytest.raises(TrainingError, match="no plain weights file needs"):
        legacy_torch.read(file)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (5,), (1,)), (3, (2,), (1,)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2,), (1 << 40,))],
)
def test_a_window_that_reaches_out_of_its_storage_is_refused(
    write: Write, offset: int, shape: tuple, strides: tuple
) -> None:
    storage = FloatStorage([1.0, 2.0, 3.0, 4.0])
    file = write({"weight": View(storage, offset, shape, strides)}, storage)
    with pytest.raises(TrainingError, match=r"weights\.pth"):
        legacy_torch.read(file)


def test_a_file_that_ends_early_is_refused(write: Write) -> None:
    storage = FloatStorage([1.0, 2.0])
    file = write({"weight": View(storage, 0, (2,), (1,))}, storage)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TrainingError, match="ends early"):
        legacy_torch.read(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    newer, missing = tmp_path / "newer.pth", tmp_path / "missing.pth"
    with zipfile.ZipFile(newer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    other = tmp_path / "other.pth"
    other.write_bytes(pickle.dumps(7))
    for file in (newer, missing, other):
        with pytest.raises(TrainingError, match=file.name):
            legacy_torch.read(file)
