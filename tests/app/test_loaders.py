"""Sets are read beside the pages, once for all of them, and an old reading answers nobody."""

import threading
from pathlib import Path

import pytest

from cxr_core.data import sources
from cxr_core.data.catalog import Catalog, scan
from cxr_core.errors import DatasetError
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
