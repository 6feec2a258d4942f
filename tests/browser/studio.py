"""The app's server and a visitor's first steps, for tests that drive a real browser."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

REPOSITORY = Path(__file__).resolve().parents[2]
CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
PATIENCE = 60_000  # ms a page may take on a busy machine, the first imports included

NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on this machine: apt install chromium"
    ),
]


class App:
    """The app's server as a user starts it, in a workspace of its own."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            self.port = probe.getsockname()[1]
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
        self._server = subprocess.Popen(
            [*command, f"--server.port={self.port}", "--server.headless=true"],
            cwd=REPOSITORY,
            env={**os.environ, "CXR_HOME": str(self._workspace)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while self._server.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=30).close()
                return
            except OSError:  # not listening yet, or too busy to answer in time
                time.sleep(0.2)
        raise AssertionError(f"the server ended with code {self._server.returncode}")

    def stop(self) -> None:
        """End the server at once, as a crash would: nothing may depend on a farewell."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()


def accept_the_notice(page: Page) -> None:
    page.get_by_role("button", name="I understand, open the studio").click()
    expect(page.get_by_role("link", name="Dataset", exact=True)).to_be_visible()


def go_to(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page).to_have_url(re.compile(f"/{name.lower()}"))
