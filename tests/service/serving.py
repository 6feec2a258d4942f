"""What tests of the service hold in their hands: a service, here or at an address, and films."""

import http.client
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.testclient import TestClient

from cxr_core.service import models, settings
from cxr_core.service.desk import Desk

LIMITS = {"rate": "1000000/second"}  # as many as a test likes


@dataclass
class Service:
    """A service that answers in this process."""

    client: TestClient
    desk: Desk

    def predict(self, *films: Path | tuple[str, bytes], **query: Any) -> Any:
        return self.client.post("/v1/predict", files=form(*films), params=query)


def form(*films: Path | tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """Return films as a client sends them: files, or names with their contents."""
    named = [(film.name, film.read_bytes()) if isinstance(film, Path) else film for film in films]
    return [("files", film) for film in named]


@dataclass
class Live:
    """A service at an address."""

    server: uvicorn.Server
    desk: Desk
    port: int
    thread: threading.Thread

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port)

    def get(self, path: str) -> http.client.HTTPResponse:
        connection = self.connect()
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response


def open_desk(folders: tuple[Path, Path], limits: dict[str, Any]) -> Desk:
    chosen = settings.Settings.model_validate(LIMITS | limits)
    return Desk(models.read(folders), chosen)
