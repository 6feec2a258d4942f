"""Where other frameworks and engines are: in an environment of their own; the app needs none.

See `requirements-peers.txt`. ``CXR_PEERS`` names its python where it is not in ``.peers``.
"""

import os
from pathlib import Path

from benchmarks import harness


def python() -> str:
    """Return the interpreter that has the peers.

    Raises:
        MissingError: there is none; the text says how to make it.
    """
    named = os.environ.get("CXR_PEERS")
    found = Path(named) if named else harness.REPOSITORY / ".peers" / "bin" / "python"
    if not found.is_file():
        raise harness.MissingError(
            f"there is no {found}: make it with 'python3 -m venv .peers && .peers/bin/pip install "
            "-r benchmarks/requirements-peers.txt', or name another python in CXR_PEERS"
        )
    return str(found)
