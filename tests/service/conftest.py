"""A service of two tiny models, in this process or at an address; its networks are loaded once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tiny
from fastapi.testclient import TestClient
from serving import Live, Service, open_desk

from cxr_core.service import app, desk, server


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of two classes, which is asked by default, and one of three."""
    home = tmp_path_factory.mktemp("served")
    return (
        tiny.write_bundle(home / "two"),
        tiny.write_bundle(home / "three", tiny.THREE, name="three"),
    )


@pytest.fixture(scope="session")
def predictors(folders: tuple[Path, Path]) -> dict[Path, Any]:
    return {folder: desk.load(folder) for folder in folders}


@pytest.fixture(autouse=True)
def loaded_once(predictors: dict[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "load", predictors.__getitem__)


@pytest.fixture
def open_service(folders: tuple[Path, Path]) -> Callable[..., Any]:
    """Return what opens a service with limits of its own, and with a key or without."""

    @contextmanager
    def opened(key: str = "", **limits: Any) -> Iterator[Service]:
        made = open_desk(folders, limits)
        with TestClient(app.create(made, key)) as client:
            assert client.portal is not None
            client.portal.call(made.loaded)
            yield Service(client, made)

    return opened


@pytest.fixture
def service(open_service: Callable[..., Any]) -> Iterator[Service]:
    with open_service() as opened:
        yield opened


@pytest.fixture
def open_live(folders: tuple[Path, Path]) -> Callable[..., Any]:
    """Return what runs a service in a thread, as `server.serve` does in a process."""

    @contextmanager
    def opened(key: str = "", **limits: Any) -> Iterator[Live]:
        made = open_desk(folders, limits)
        runner = server.runner(made, key)
        with server.listening("127.0.0.1", 0) as listener:
            thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]})
            thread.start()
            live = Live(runner, made, listener.getsockname()[1], thread)
            try:
                while live.get("/healthz").status != 200:
                    pass
                yield live
            finally:
                runner.should_exit = True
                thread.join()

    return opened


@pytest.fixture(scope="session")
def photograph() -> bytes:
    """A picture in colour, which every gate refuses, as PNG."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()
