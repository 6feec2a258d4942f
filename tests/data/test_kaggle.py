"""Kaggle through its real client, against a server on this machine that stands in for Kaggle."""

import base64
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from local_server import Server, content, cut_off, serving, silent, stalled, status

from cxr_core import workspace
from cxr_core.data import kaggle, library, sources
from cxr_core.data.kaggle import KaggleSet
from cxr_core.errors import FetchCancelledError, FetchError

HANDLE = "someone/some-films"
SET = KaggleSet(
    key=f"kaggle:{HANDLE}", title="Some films", summary="", licence="CC0", handle=HANDLE
)
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """Stand in for Kaggle as the proxy in front of it; no token lies in the home folder."""
    with serving() as running:
        for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "HOME": str(tmp_path),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": running.url,
            "no_proxy": "",
            "NO_PROXY": "",
        }.items():
            monkeypatch.setenv(name, value)
        yield running


def told(**changes: object) -> bytes:
    about = {
        "title": "Some films",
        "licenseName": "CC0: Public Domain",
        "totalBytes": 1234,
        "currentVersionNumber": 3,
    }
    return json.dumps(about | changes).encode()


def packed() -> bytes:
    """An archive of three films; kagglehub writes by the MiB, so it must be some."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        writer.writestr("notes.bin", np.random.default_rng(9).bytes(3 << 20))
        for seed, name in enumerate(["NORMAL/a.png", "NORMAL/b.png", "PNEUMONIA/c.png"]):
            noise = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
            writer.writestr(f"train/{name}", cv2.imencode(".png", noise)[1].tobytes())
    return file.getvalue()


def kaggle_with(archive: Answer, about: Answer | None = None) -> Answer:
    """Kaggle's two questions: what the set is, and its archive, which lies on another host."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.endswith("/GetDataset"):
            (about or content(told(), "application/json"))(handler)
        elif handler.path.endswith("/DownloadDataset"):
            handler.send_response(302)
            handler.send_header("Location", "http://storage.invalid/archive.zip")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            archive(handler)

    return answer


def checksum(body: bytes) -> dict[str, str]:
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    return {"x_goog_hash": f"md5={md5}", "Accept_Ranges": "bytes"}


def nothing_is_left() -> bool:
    return all(path.suffix == ".lock" for path in workspace.data_folder().iterdir())


def test_a_set_says_what_it_is_before_it_is_fetched(server: Server) -> None:
    server.answer = kaggle_with(silent)
    found = kaggle.describe(f"https://www.kaggle.com/datasets/{HANDLE}/")
    assert (found.handle, found.title, found.bytes) == (HANDLE, "Some films", 1234)
    assert found.licence == "CC0: Public Domain"
    assert f"kaggle.com/datasets/{HANDLE}" in found.citation
    assert len(server.asked) == 1


def test_a_licence_that_kaggle_does_not_know_is_not_reported(server: Server) -> None:
    other = told(licenseName="Other (specified in description)")
    server.answer = kaggle_with(silent, content(other, "application/json"))
    assert kaggle.describe(HANDLE).licence == "not reported"


def test_the_set_arrives_with_its_origin_and_nothing_stays_behind(server: Server) -> None:
    body = packed()
    server.answer = kaggle_with(content(body, **checksum(body)))
    folder = sources.fetch(replace(SET, bytes=len(body)))
    catalog = sources.open_catalog(str(folder))
    assert sorted(catalog.frame["label"]) == ["NORMAL", "NORMAL", "PNEUMONIA"]
    assert sources.provenance(catalog)["licence"] == "CC0"
    assert [local.root for local in sources.local_sets()] == [folder]
    assert not list((workspace.cache_folder() / "downloads").rglob("*.*"))
    asked = len(server.asked)
    assert sources.fetch(SET) == folder
    assert len(server.asked) == asked


def test_a_download_that_broke_off_goes_on_where_it_ended(server: Server) -> None:
    body = packed()
    half = len(body) // 2
    server.answer = kaggle_with(cut_off(body, half, **checksum(body)))
    with pytest.raises(FetchError, match=r"broke off after .* goes on from there"):
        sources.fetch(SET)
    assert nothing_is_left()

    ranges: list[str | None] = []

    def rest(handler: BaseHTTPRequestHandler) -> None:
        ranges.append(handler.headers["Range"])
        if handler.headers["Range"]:
            start = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))
            content(body[start:])(handler)
        else:
            content(body, **checksum(body))(handler)

    server.answer = kaggle_with(rest)
    assert len(sources.open_catalog(str(sources.fetch(SET))).frame) == 3
    assert ranges[-1] is not None
    assert 0 < int(ranges[-1].removeprefix("bytes=").rstrip("-")) <= half


def test_a_stop_ends_the_child_and_leaves_no_set(server: Server) -> None:
    body = packed()
    server.answer = kaggle_with(stalled(body, len(body) // 2))
    seen: list[tuple[int, int]] = []
    with pytest.raises(FetchCancelledError, match="You stopped before"):
        sources.fetch(
            replace(SET, bytes=len(body)),
            progress=lambda *step: seen.append(step),
            cancelled=lambda: bool(seen) and seen[-1][0] > 0,
        )
    assert 0 < seen[-1][0] < seen[-1][1] == len(body)
    assert nothing_is_left()


@pytest.mark.parametrize(
    ("archive", "sentence"),
    [
        (lambda body: content(body, x_goog_hash="md5=AAAAAAAAAAAAAAAAAAAAAA=="), "arrived damaged"),
        (lambda body: status(503), r"cannot send .* now \(HTTP 503\)"),
        (lambda body: content(b"no archive"), "through kagglehub: Unsupported archive type"),
    ],
    ids=["corrupt", "503", "no archive"],
)
def test_a_bad_answer_is_told_and_leaves_no_set(server: Server, archive, sentence: str) -> None:
    server.answer = kaggle_with(archive(packed()))
    with pytest.raises(FetchError, match=sentence):
        sources.fetch(SET)
    assert nothing_is_left()


def test_a_download_that_stands_still_is_given_up(server: Server) -> None:
    body = packed()
    server.answer = kaggle_with(stalled(body, len(body) // 2))
    with pytest.raises(FetchError, match=r"fell silent.* in 1 seconds\. Try again"):
        kaggle.fetch(SET, patience=1)
    assert nothing_is_left()


@pytest.mark.parametrize(
    ("code", "token", "sentence"),
    [
        (403, "", "create a token at kaggle.com"),
        (401, "made-up", "refuses someone/some-films to the token found on this machine"),
        (404, "", "has no data set someone/some-films"),
        (429, "", "too many questions"),
    ],
)
def test_a_refusal_says_what_to_do(
    server: Server, monkeypatch: pytest.MonkeyPatch, code: int, token: str, sentence: str
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    server.answer = status(code)
    with pytest.raises(FetchError, match=sentence):
        kaggle.describe(HANDLE)


def test_without_a_network_one_sentence_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # discard: nobody listens
    with pytest.raises(FetchError, match=r"Kaggle cannot be reached\. Check the network"):
        sources.fetch(SET)
    assert nothing_is_left()


def test_a_question_nobody_answers_ends(server: Server) -> None:
    server.answer = silent
    with pytest.raises(FetchError, match="fell silent"):
        kaggle.describe(HANDLE, patience=1)


@pytest.mark.parametrize("handle", ["", "name", "a/b/c", "../etc", "a/../b", "a b/c", "-x/y"])
def test_what_is_no_handle_is_refused_without_asking_anyone(handle: str) -> None:
    with pytest.raises(FetchError, match=r"is no Kaggle handle\. It is owner/name"):
        kaggle.describe(handle)


def test_a_full_disk_is_told_before_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.shutil, "disk_usage", lambda path: SimpleNamespace(free=2000))
    with pytest.raises(FetchError, match=r"needs 5\.4 GB of disk space"):
        sources.fetch(kaggle.KNOWN[0])


def test_known_sets_say_what_they_are(server: Server) -> None:
    for known in kaggle.KNOWN:
        assert known.url == f"https://www.kaggle.com/datasets/{known.handle}"
        assert known.summary
        assert known.citation
        assert known.licence


def test_opening_the_app_does_not_load_kagglehub() -> None:
    code = "import sys, cxr_core.data.sources; print('kagglehub' in sys.modules)"
    root = workspace.REPOSITORY
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert ran.stdout.strip() == "False"
