"""The service is what its description says: schemathesis asks it all kinds of things."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
KEY = "a long random text"


@pytest.mark.slow
def test_no_fault_is_found_in_what_is_described(
    open_live: Callable[..., Any], tmp_path: Path
) -> None:
    with open_live(KEY, files=4, file_bytes=100_000) as live:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
                *("run", f"http://127.0.0.1:{live.port}/openapi.json"),
                *("--header", f"X-API-Key: {KEY}"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 7" in done.stdout
