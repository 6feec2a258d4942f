"""Sets are read and models loaded beside the pages, once for all of them."""

import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from cxr_core.config import ImageConfig
from cxr_core.data import sources
from cxr_core.data.catalog import Catalog, scan
from cxr_core.diagnosis import bundle
from cxr_core.diagnosis.bundle import BundleInfo, DataInfo, ThresholdInfo
from cxr_core.errors import BundleError, DatasetError
from cxr_core.ui import loaders


class Reader:
    """Stands for the reading of a set: counts, waits where told to, and fails where told to."""

    def __init__(self, films: Catalog) -> None:
        self.films = films
        self.times = 0
        self.error: DatasetError | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, root: str, **_: object) -> Catalog:
        self.times += 1
        assert self.gate.wait(60)
        if self.error:
            raise self.error
        return self.films


@pytest.fixture
def reader(phantoms: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    reader = Reader(scan(phantoms))
    monkeypatch.setattr(sources, "open_catalog", reader)
    return reader


def begin() -> "loaders.background.Task[Catalog]":
    work = loaders.reading("films")
    assert work is not None
    return work


def test_a_reading_that_no_page_waited_for_opens_the_set(reader: Reader) -> None:
    assert begin().ended(30)
    assert loaders.reading("films") is None
    assert loaders.catalog("films") is reader.films
    assert reader.times == 1
    assert loaders._shelf().readings == {}


def test_a_look_at_the_files_again_reads_them_again(reader: Reader) -> None:
    assert begin().ended(30)
    loaders.forget_catalog("films")
    assert loaders.catalog("films") is reader.films
    assert reader.times == 2


def test_a_reading_begun_before_a_look_at_the_files_again_opens_nothing(reader: Reader) -> None:
    reader.gate.clear()
    before = begin()
    loaders.forget_catalog("films")
    after = begin()
    assert after is not before
    reader.gate.set()
    assert before.ended(30)
    assert after.ended(30)
    assert reader.times == 2
    assert loaders._shelf().readings == {}


def test_a_failed_reading_waits_for_its_page_and_is_told_once(reader: Reader) -> None:
    reader.error = DatasetError("The folder has no films.")
    work = begin()
    assert work.ended(30)
    assert begin() is work
    with pytest.raises(DatasetError, match="no films"):
        loaders.catalog("films")
    assert reader.times == 1
    reader.error = None
    assert loaders.catalog("films") is reader.films


def test_an_old_failure_is_not_told_to_a_later_page(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.error = DatasetError("The folder has no films.")
    assert begin().ended(30)
    reader.error = None
    monkeypatch.setattr(loaders, "_FAILURE_KEPT", -1.0)
    assert loaders.catalog("films") is reader.films


class Network:
    """Stands for a loaded model: counts, waits where told to, and fails where told to."""

    made = 0
    warmed = 0
    error: BundleError | None = None
    gate = threading.Event()

    def __init__(self, folder: Path) -> None:
        type(self).made += 1
        assert self.gate.wait(60)
        if self.error:
            raise self.error

    def warm(self) -> None:
        type(self).warmed += 1


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> type[Network]:
    class Fresh(Network):
        gate = threading.Event()

    module = SimpleNamespace(Predictor=Fresh)
    monkeypatch.setitem(sys.modules, "cxr_core.diagnosis.predictor", module)  # type: ignore[arg-type]
    return Fresh


@pytest.fixture
def model(tmp_path: Path) -> Path:
    classes = ("NORMAL", "PNEUMONIA")
    counts = {split: dict.fromkeys(classes, 4) for split in ("train", "val", "test")}
    info = BundleInfo(
        name="tiny",
        classes=classes,
        image=ImageConfig(size=32),
        architecture="plain_cnn",
        cam_layer="block3_relu",
        threshold=ThresholdInfo(value=0.5, method="fixed for a test"),
        data=DataInfo(name="phantoms", synthetic=True, counts=counts),
    )
    bundle.write(tmp_path / "model", info, lambda path: path.touch(), pd.DataFrame())
    return tmp_path / "model"


def test_a_model_is_loaded_and_warmed_beside_the_page(network: type[Network], model: Path) -> None:
    loaders.prepare(model)
    loaders.prepare(model)  # another visitor
    assert network.warmed == 0  # the page did not wait
    network.gate.set()
    assert isinstance(loaders.predictor(model), network)
    assert (network.made, network.warmed) == (1, 1)


def test_a_model_that_could_not_be_loaded_is_tried_again(
    network: type[Network], model: Path
) -> None:
    network.gate.set()
    network.error = BundleError("Damaged.")
    loaders.prepare(model)
    with pytest.raises(BundleError, match="Damaged"):
        loaders.predictor(model)
    network.error = None
    assert isinstance(loaders.predictor(model), network)
    assert network.made == 2


def test_a_run_of_a_page_leaves_loaded_models_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[bool] = []
    keras = SimpleNamespace(backend=SimpleNamespace(clear_session=lambda: cleared.append(True)))
    monkeypatch.setitem(sys.modules, "keras", keras)  # type: ignore[arg-type]
    assert not AppTest.from_string("import streamlit as st").run().exception
    assert not cleared
