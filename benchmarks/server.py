"""A Streamlit app in a process of its own, as `streamlit run` starts it."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import harness

APP = harness.REPOSITORY / "streamlit_app.py"

_POLL = 0.01  # seconds between two looks at a server that starts
_IDLE = 10.0  # percent of a core; a server that uses less has nothing left to do


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    port: int
    process: psutil.Process
    log: Path
    began: float  # by the clock of ``time.perf_counter``
    answered: float  # seconds from its start to its first word

    @property
    def address(self) -> str:
        """Where its pages are."""
        return f"http://localhost:{self.port}"

    @property
    def mib(self) -> float:
        """Its resident memory."""
        return self.process.memory_info().rss / 2**20

    @property
    def peak_mib(self) -> float:
        """The peak of its resident memory so far (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmHWM:\s*(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    @property
    def traces(self) -> int:
        """How many faults its log holds."""
        return self.log.read_text(errors="replace").count("Traceback")

    def settle(self) -> None:
        """Wait until what the pages have begun beside them is done."""
        while self.process.cpu_percent(interval=1.0) > _IDLE:
            pass


@contextmanager
def serve(script: Path, home: Path, *flags: str) -> Iterator[Server]:
    """Run an app in a workspace, with the settings of this repository, until it is done with."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    own = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    began = time.perf_counter()
    with log.open("wb") as said:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "streamlit",
                "run",
                str(script),
                f"--server.port={port}",
                *flags,
            ],
            cwd=harness.REPOSITORY,
            env={**own, "CXR_HOME": str(home)},
            stdout=said,
            stderr=said,
        )
    try:
        while not _answers(port):
            if process.poll() is not None:
                raise RuntimeError(log.read_text(errors="replace"))
            time.sleep(_POLL)
        answered = time.perf_counter() - began
        yield Server(port, psutil.Process(process.pid), log, began, answered)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=30).close()
    except OSError:
        return False
    return True
