"""The built-in set is made once, and every set's origin is told."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxr_core import workspace
from cxr_core.data import library, phantom, sources
from cxr_core.errors import DatasetError, FetchCancelledError


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Draw 12 phantoms in place of 600; return (images, seed) of every drawing asked for."""
    asked: list[tuple[int, int]] = []
    write = phantom.write

    def few(folder: Path, images: int = 600, seed: int = 0, **others: object) -> None:
        asked.append((images, seed))
        write(folder, 12, seed, **others)

    monkeypatch.setattr(phantom, "write", few)
    return asked


def folder_of(films: list[str], root: Path) -> str:
    for seed, name in enumerate(films):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
        cv2.imwrite(str(root / name), noise)
    return str(root)


def test_the_built_in_set_is_drawn_once_with_progress(drawn: list[tuple[int, int]]) -> None:
    steps: list[tuple[str, int, int]] = []
    first = sources.open_catalog("phantom", progress=lambda *step: steps.append(step))
    second = sources.open_catalog("phantom")
    assert drawn == [(600, 0)]
    assert first.fingerprint == second.fingerprint
    assert first.synthetic
    assert first.root == (workspace.data_folder() / "phantom").resolve()
    assert ("Drawing the built-in set", 12, 12) in steps
    assert steps[-1] == ("Reading the films", 12, 12)


def test_a_drawing_that_was_cut_off_is_not_taken_for_the_set(drawn: list[tuple[int, int]]) -> None:
    def stop(step: str, done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sources.open_catalog("phantom", progress=stop)
    assert not (workspace.data_folder() / "phantom").exists()
    assert len(sources.open_catalog("phantom").frame) == 12
    assert not list(workspace.data_folder().glob("*.partial"))


def test_two_who_open_it_at_once_draw_it_once(drawn: list[tuple[int, int]]) -> None:
    found: list[str] = []

    def open_it() -> None:
        found.append(sources.open_catalog("phantom").fingerprint)

    threads = [threading.Thread(target=open_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 1
    assert len(found) == 3
    assert len(set(found)) == 1


def test_the_built_in_set_says_that_it_is_synthetic(drawn: list[tuple[int, int]]) -> None:
    assert sources.provenance(sources.open_catalog("phantom")) == {
        "name": "Built-in phantoms",
        "licence": phantom.LICENCE,
        "citation": phantom.CITATION,
        "synthetic": True,
        "pictures": True,
    }


def test_guangzhou_films_are_known_by_their_names(tmp_path: Path) -> None:
    films = ["PNEUMONIA/person1_bacteria_1.jpeg", "NORMAL/IM-0115-0001.jpeg"]
    told = sources.provenance(sources.open_catalog(folder_of(films, tmp_path / "films")))
    assert told["licence"] == "CC BY 4.0"
    assert "Kermany" in str(told["citation"])
    assert told["synthetic"] is False
    assert told["pictures"] is False  # a name is no licence of the copy at hand


def test_of_an_unknown_set_nothing_is_claimed(tmp_path: Path) -> None:
    catalog = sources.open_catalog(folder_of(["NORMAL/a.png"], tmp_path / "my films"))
    assert sources.provenance(catalog) == {
        "name": "my films",
        "licence": "not reported",
        "citation": "not reported",
        "synthetic": False,
        "pictures": False,
    }


@pytest.mark.parametrize(
    ("licence", "allows"),
    [
        ("CC0: Public Domain", True),
        ("CC BY 4.0", True),
        ("Attribution 4.0 International (CC BY 4.0)", True),
        ("CC BY-NC-SA 4.0", False),
        ("Attribution-NoDerivatives 4.0 International (CC BY-ND 4.0)", False),
        ("not reported", False),
    ],
)
def test_pictures_go_with_a_model_where_the_fetched_sets_licence_allows(
    licence: str, allows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = library.Source(key="set", title="Set", summary="", licence=licence)
    monkeypatch.setattr(library, "origin", lambda _: source)
    catalog = sources.open_catalog(folder_of(["NORMAL/a.png"], tmp_path / "films"))
    assert sources.provenance(catalog)["pictures"] is allows


def test_a_users_patient_pattern_reaches_the_catalog(tmp_path: Path) -> None:
    root = folder_of(["NORMAL/p1-a.png", "NORMAL/p1-b.png"], tmp_path / "films")
    catalog = sources.open_catalog(root, patient_pattern=r"/(p\d+)-")
    assert list(catalog.frame["patient_id"]) == ["p1", "p1"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="There is no folder"):
        sources.open_catalog(str(tmp_path / "nowhere"))


def test_every_source_says_what_one_should_know_first() -> None:
    keys = [source.key for source in sources.SOURCES]
    assert keys[0] == sources.BUILT_IN
    assert len(set(keys)) == len(keys) == 7
    for source in sources.SOURCES:
        assert source.title
        assert source.summary
        assert source.licence
        assert source.citation
        assert source.needs


def test_the_built_in_set_can_be_fetched_and_stopped(drawn: list[tuple[int, int]]) -> None:
    built_in = sources.SOURCES[0]
    with pytest.raises(FetchCancelledError, match="You stopped before Built-in phantoms"):
        sources.fetch(built_in, cancelled=lambda: True)
    assert not list(workspace.data_folder().glob("*.partial"))
    assert sources.fetch(built_in) == workspace.data_folder() / sources.BUILT_IN
    assert sources.local_sets() == []


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (4_170_669, "4.2 MB"), (214_384_716, "214 MB")],
)
def test_sizes_are_told_in_words(size: int, words: str) -> None:
    assert library.in_words(size) == words
