"""What the training tests share: waiting for a state."""

import time
from collections.abc import Callable

import pytest


def wait_until(state: Callable[[], bool], what: str, seconds: float = 180) -> None:
    """Wait until a state is reached, looking often; fail where it never is."""
    deadline = time.monotonic() + seconds
    while not state():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """The function that waits for a state."""
    return wait_until
