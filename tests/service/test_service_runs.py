"""How the service starts, what it refuses to start with, what it logs and counts."""

import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pytest
import tiny
from serving import form
from typer.testing import CliRunner

from cxr_core import cli, workspace
from cxr_core.service import server

SECRETS = ("Doe^Jane", "19990101X", "MRN-4711", "jane_doe")


def refused(*arguments: object) -> str:
    """Run ``serve`` with what must not start; return its sentence."""
    result = CliRunner().invoke(cli.app, ["serve", *(str(each) for each in arguments)])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


def test_without_a_key_nobody_else_is_let_in_unless_that_is_said(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedError(Exception):
        pass

    def stop(*address: Any) -> None:
        raise StoppedError

    monkeypatch.delenv("CXR_API_KEY", raising=False)
    monkeypatch.setattr(server, "listening", stop)
    said = refused("--model", folders[0], "--host", "0.0.0.0")
    assert "Without a key everybody who reaches 0.0.0.0:8000" in said
    assert "CXR_API_KEY" in said and "--without-key" in said

    def starts(*arguments: str) -> bool:
        given = ["serve", "--model", str(folders[0]), *arguments]
        return isinstance(CliRunner().invoke(cli.app, given).exception, StoppedError)

    assert starts()
    assert starts("--host", "localhost")
    assert starts("--host", "::1")
    assert starts("--host", "0.0.0.0", "--without-key")
    assert not starts("--host", "192.168.1.1")
    monkeypatch.setenv("CXR_API_KEY", "a long random text")
    assert starts("--host", "0.0.0.0")


def test_what_cannot_be_served_is_a_sentence(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "There is no model 'nothing'" in refused("--model", "nothing")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("--model", folders[0], "--port", port)
        assert f"Nothing can listen at 127.0.0.1:{port}" in said
        assert "--port" in said
    monkeypatch.setenv("CXR_SERVE_FILES", "many")
    assert "CXR_SERVE_FILES is 'many'" in refused("--model", folders[0])


def test_a_damaged_model_ends_the_service_with_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # it is loaded indeed
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "home"))
    folder = tiny.write_bundle(tmp_path / "damaged")
    (folder / "model.keras").write_bytes(b"damaged")
    assert "is not the one that bundle.json describes" in refused("--model", folder, "--port", 0)


@pytest.mark.parametrize("absent", ["limits", "fastapi_offline"])
def test_what_is_not_installed_is_named_with_the_mend(
    folders: tuple[Path, Path], absent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("cxr_core.service")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(importlib.import_module("cxr_core"), "service", raising=False)
    monkeypatch.setitem(sys.modules, absent, None)
    said = refused("--model", folders[0])
    assert f"The service needs {absent}, which is not installed" in said
    assert "pip install -r requirements-serve.txt" in said


def test_without_names_the_published_models_are_served_and_the_first_of_the_page_leads(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cxr_core.training import bundle_index

    monkeypatch.setattr(workspace, "published_models", lambda: tmp_path / "models")
    with pytest.raises(bundle_index.BundleError, match="There is no model"):
        bundle_index.offered(store)
    for name in ("alpha", "beta"):
        tiny.write_bundle(tmp_path / "models" / name, name=name)
    found = [folder.name for folder in bundle_index.offered(store)]
    assert sorted(found) == ["alpha", "beta"]
    assert found[0] == bundle_index.available(store)[0].info.name


@pytest.mark.slow
def test_the_command_answers_until_it_is_told_to_stop(
    folders: tuple[Path, Path], phantoms: Path, tmp_path: Path
) -> None:
    import httpx2

    own = {name: value for name, value in os.environ.items() if name != "CXR_API_KEY"}
    process = subprocess.Popen(
        [sys.executable, "-m", "cxr_core", "serve", "--port", "0", "--model", str(folders[0])],
        cwd=workspace.REPOSITORY,
        env=own,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background is deaf to Ctrl-C, and so are its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    address = process.stderr.readline().split()[4].rstrip(",")
    with httpx2.Client(base_url=address) as client:
        while client.get("/healthz").status_code != 200:
            assert process.poll() is None
        film = min((phantoms / "images").iterdir())
        sent = client.post("/v1/predict", files=form(film))
        assert sent.json()[0]["accepted"] is True
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == cli.INTERRUPTED
    assert "Traceback" not in said


# -- what is left behind --------------------------------------------------------------------------


def test_neither_names_nor_headers_are_logged(
    open_service: Callable[..., Any],
    phantoms: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from test_service_answers import dicom

    caplog.set_level(logging.DEBUG)
    film = min((phantoms / "images").iterdir())
    pixels = cv2.imread(str(film), cv2.IMREAD_GRAYSCALE)
    name = tmp_path / "jane_doe_MRN-4711.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydicom says of the tags that are written here
        dicom(
            name,
            pixels,
            PatientName="Doe^Jane" * 20,
            PatientID="MRN-4711",
            BodyPartExamined="CHEST",
        )
    data = name.read_bytes().replace(b"CHEST ", b"19990101X")  # damaged, and full of identifiers
    films = [
        name,
        ("jane_doe.png", b"MRN-4711 Doe^Jane"),
        ("jane_doe.dcm", data),
        ("jane_doe.dcm", data[:-100]),
        ("jane_doe.png", film.read_bytes()[:2_000]),
    ]
    with warnings.catch_warnings(record=True) as warned, open_service(files=5) as service:
        warnings.simplefilter("always")
        found = service.predict(*films)
        assert found.json()[0]["accepted"] is True
        service.predict(*films, *films)  # refused
        service.client.get("/v1/models/jane_doe")
        service.client.get("/jane_doe", params={"patient": "MRN-4711"})
        service.client.request("JANE_DOE", "/v1/predict")
        for params in ({"model": "jane_doe"}, {"force": "jane_doe"}):
            service.client.post("/v1/predict", files=form(film), params=params)
        service.client.post(
            "/v1/predict",
            content=b'--x\r\njane_doe@: x"jane_doe\r\n\r\nMRN-4711',
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        counters = service.client.get("/metrics").text
    written = capfd.readouterr()
    left = [record.getMessage() for record in caplog.records if record.name != "httpx2"]
    left += [str(each.message) for each in warned]
    assert any("POST /v1/predict: 200" in line for line in left)
    for secret in SECRETS:
        for text in (*left, counters, written.out, written.err):
            assert secret not in text


def test_what_happened_is_counted(
    open_service: Callable[..., Any], phantoms: Path, photograph: bytes
) -> None:
    films = sorted((phantoms / "images").iterdir())[:3]
    cat = ("cat.png", photograph)
    with open_service() as service:
        service.predict(*films, cat, ("letter.png", b"text"))
        service.predict(cat, force=True)
        service.predict(films[0], model="none")
        service.client.get("/no/such/place")
        lines = dict(
            line.rsplit(" ", 1)
            for line in service.client.get("/metrics").text.splitlines()
            if line.startswith("cxr_")
        )
    outcomes = {"answered": 3, "refused": 1, "unreadable": 1, "forced": 1}
    for outcome, number in outcomes.items():
        assert float(lines[f'cxr_films_total{{model="tiny",outcome="{outcome}"}}']) == number
    for route, status, number in (
        ("/v1/predict", 200, 2),
        ("/v1/predict", 404, 1),
        ("none", 404, 1),
    ):
        counted = lines[f'cxr_requests_total{{route="{route}",status="{status}"}}']
        assert float(counted) == number
    assert float(lines['cxr_request_seconds_count{route="/v1/predict"}']) == 3
    # The letter never came to the network; the photograph did, and was told from films before it.
    assert float(lines['cxr_batch_films_sum{model="tiny"}']) == 5
    assert float(lines["cxr_queue_films"]) == float(lines["cxr_held_bytes"]) == 0
