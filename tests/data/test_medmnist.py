"""PneumoniaMNIST arrives whole or not at all, whatever the server does."""

import hashlib
import io
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from local_server import Server, content, cut_off, serving, silent, stalled, status

from cxr_core import images, workspace
from cxr_core.data import library, medmnist, sources
from cxr_core.data.medmnist import PneumoniaMNIST
from cxr_core.errors import FetchCancelledError, FetchError

QUICK = (2.0, 0.3)  # seconds


def npz(**replaced: np.ndarray) -> bytes:
    """A file laid out as MedMNIST's, with 6 + 2 + 2 films of 28 px."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, films in {"train": 6, "val": 2, "test": 2}.items():
        arrays[f"{part}_images"] = rng.integers(0, 256, (films, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(films) % 2).astype(np.uint8)[:, None]
    file = io.BytesIO()
    np.savez(file, **(arrays | replaced))
    return file.getvalue()


def source_of(body: bytes, url: str) -> PneumoniaMNIST:
    md5 = hashlib.md5(body).hexdigest()
    return replace(medmnist.SIZES[0], url=f"{url}/set.npz", bytes=len(body), md5=md5)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        yield running


def nothing_is_left() -> bool:
    sets = [path for path in workspace.data_folder().iterdir() if path.suffix != ".lock"]
    return not sets and not list((workspace.cache_folder() / "downloads").glob("*"))


def test_the_set_arrives_with_its_parts_labels_and_pixels(server: Server) -> None:
    body = npz()
    server.answer = content(body)
    source = source_of(body, server.url)
    steps: list[tuple[int, int]] = []
    folder = sources.fetch(source, progress=lambda *step: steps.append(step))

    frame = sources.open_catalog(str(folder)).frame
    assert frame["readable"].all()
    assert frame.groupby("split").size().to_dict() == {"train": 6, "val": 2, "test": 2}
    assert frame.groupby("label").size().to_dict() == {"NORMAL": 5, "PNEUMONIA": 5}
    wanted = np.load(io.BytesIO(body))["val_images"][0]
    first = frame.loc[frame["split"] == "val", "path"].iloc[0]
    np.testing.assert_array_equal(images.read(folder / first).pixels, wanted)
    assert steps[0] == (0, len(body))
    assert steps[-1] == (len(body), len(body))
    assert steps == sorted(steps)


def test_its_licence_and_citation_go_with_it(server: Server) -> None:
    body = npz()
    server.answer = content(body)
    catalog = sources.open_catalog(str(sources.fetch(source_of(body, server.url))))
    assert catalog.name == "PneumoniaMNIST, 28 px"
    told = sources.provenance(catalog)
    assert told["name"] == catalog.name
    assert told["licence"] == "CC BY 4.0"
    assert "Kermany" in str(told["citation"])
    (local,) = sources.local_sets()
    assert (local.root, local.source.key) == (catalog.root, "pneumoniamnist-28")


def test_a_set_that_is_there_needs_no_network(server: Server) -> None:
    body = npz()
    server.answer = content(body)
    source = source_of(body, server.url)
    assert sources.fetch(source) == sources.fetch(source)
    assert server.asked == ["/set.npz"]


def test_another_content_under_the_same_name_leaves_the_first_alone(server: Server) -> None:
    bodies = [npz(), npz(val_labels=np.zeros((2, 1), np.uint8))]
    folders = []
    for body in bodies:
        server.answer = content(body)
        folders.append(sources.fetch(source_of(body, server.url)))
    assert [folder.name for folder in folders] == ["pneumoniamnist-28", "pneumoniamnist-28-2"]
    labels = [sources.open_catalog(str(folder)).frame["label"] for folder in folders]
    assert [(label == "PNEUMONIA").sum() for label in labels] == [5, 4]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda body: cut_off(body, len(body) // 2), "broke off after .* of .*Try again"),
        (lambda body: cut_off(body, 0), "cannot be reached|broke off"),
        (lambda body: content(body[:-1] + b"\1"), "not the file that was published"),
        (lambda body: content(b"<html>Sign in</html>"), "sign-in page"),
        (lambda body: stalled(body, len(body) // 2 + 20_000), "broke off after"),
        (lambda body: silent, "did not answer within 0.3 seconds"),
        (lambda body: status(404), r"no longer has .* \(HTTP 404\)"),
        (lambda body: status(503), r"too busy .* \(HTTP 503\)"),
        (lambda body: status(403), r"refuses .* \(HTTP 403\)"),
    ],
    ids=["cut off", "hangs up", "corrupt", "portal", "stalls", "silent", "404", "503", "403"],
)
def test_a_bad_answer_is_told_and_leaves_nothing(server: Server, answer, sentence: str) -> None:
    body = npz(train_images=np.zeros((6, 28, 28), np.uint8)) + bytes(60_000)
    server.answer = answer(body)
    with pytest.raises(FetchError, match=sentence):
        medmnist.fetch(source_of(body, server.url), timeout=QUICK)
    assert nothing_is_left()


def test_without_a_network_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(FetchError, match=r"127\.0\.0\.1 cannot be reached\. Check the network"):
        sources.fetch(source_of(b"", f"http://127.0.0.1:{port}"))
    assert nothing_is_left()


def test_a_stop_during_the_download_leaves_nothing(server: Server) -> None:
    body = npz() + bytes(200_000)
    server.answer = content(body)
    seen: list[int] = []
    with pytest.raises(FetchCancelledError, match="You stopped before"):
        sources.fetch(
            source_of(body, server.url),
            progress=lambda done, total: seen.append(done),
            cancelled=lambda: bool(seen) and seen[-1] > 50_000,
        )
    assert 50_000 < seen[-1] < len(body)
    assert nothing_is_left()


def test_a_stop_while_films_are_written_costs_no_second_download(server: Server) -> None:
    body = npz()
    server.answer = content(body)
    source = source_of(body, server.url)
    films = workspace.data_folder() / f"{source.key}.partial" / "images"
    with pytest.raises(FetchCancelledError):
        sources.fetch(source, cancelled=lambda: films.is_dir() and len(list(films.iterdir())) == 3)
    assert not sources.local_sets()
    assert not films.exists()
    assert len(sources.open_catalog(str(sources.fetch(source))).frame) == 10
    assert server.asked == ["/set.npz"]
    assert not list((workspace.cache_folder() / "downloads").iterdir())


def test_a_page_that_ends_in_the_middle_leaves_nothing(server: Server) -> None:
    body = npz()
    server.answer = content(body)

    def end(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sources.fetch(source_of(body, server.url), progress=end)
    assert nothing_is_left()


@pytest.mark.parametrize(
    "body",
    [
        b"PK\x03\x04 not really",
        npz(train_images=np.zeros((6, 30, 30), np.uint8)),
        npz(train_labels=np.full((6, 1), 7, np.uint8)),
        npz(test_images=np.array([{"a": 1}] * 2, dtype=object)),
    ],
    ids=["no npz", "other size", "unknown label", "pickled objects"],
)
def test_a_file_of_another_layout_is_refused_and_nothing_in_it_is_run(
    server: Server, body: bytes
) -> None:
    server.answer = content(body)
    with pytest.raises(FetchError, match="not laid out as MedMNIST's"):
        sources.fetch(source_of(body, server.url))
    assert not sources.local_sets()


def test_a_full_disk_is_told_before_the_download(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library.shutil, "disk_usage", lambda path: SimpleNamespace(free=2000))
    with pytest.raises(FetchError, match=r"needs .* of disk space.*2.0 kB left"):
        sources.fetch(source_of(npz(), server.url))
    assert not server.asked


def test_two_who_fetch_it_at_once_do_not_fetch_it_twice(server: Server) -> None:
    body = npz()
    server.answer = content(body)
    source = source_of(body, server.url)
    second: list[str] = []

    def also(done: int, total: int) -> None:
        if not second:
            with pytest.raises(FetchError) as refused:
                sources.fetch(source)
            second.append(str(refused.value))

    sources.fetch(source, progress=also)
    assert "is being fetched already" in second[0]
    assert server.asked == ["/set.npz"]


def test_each_size_says_what_it_is_before_it_is_fetched() -> None:
    assert [source.side for source in medmnist.SIZES] == [28, 64, 128, 224]
    assert len({source.md5 for source in medmnist.SIZES}) == 4
    for source in medmnist.SIZES:
        assert source.licence == "CC BY 4.0"
        assert source.citation
        assert source.needs == "a network"
        assert source.bytes > 4_000_000
        assert len(source.md5) == 32
        assert source.url.startswith("https://zenodo.org/records/10519652/files/pneumoniamnist")


def test_the_folder_of_an_unfinished_set_is_no_set() -> None:
    (workspace.data_folder() / "pneumoniamnist-28.partial").mkdir()
    (workspace.data_folder() / "stray").mkdir()
    assert sources.local_sets() == []


def test_a_users_folder_is_not_believed_about_its_licence(server: Server, tmp_path: Path) -> None:
    body = npz()
    server.answer = content(body)
    fetched = sources.fetch(source_of(body, server.url))
    copy = tmp_path / "mine"
    fetched.rename(copy)
    assert sources.provenance(sources.open_catalog(str(copy)))["licence"] == "not reported"
