"""Runs the service until it is told to stop."""

import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from cxr_core.errors import ServiceError
from cxr_core.service import app, models, settings
from cxr_core.service.access import KEY_VARIABLE
from cxr_core.service.desk import Desk

_GRACE = 30  # seconds that requests have to end once the service is told to stop


def serve(
    folders: Sequence[Path],
    host: str,
    port: int,
    *,
    without_key: bool,
    say: Callable[[str], None],
) -> None:
    """Answer until SIGTERM or Ctrl-C; requests that are being answered are answered to the end.

    Args:
        folders: the bundles to serve; the first is asked where a client names none.
        host: the address to listen at.
        port: 0 takes any that is free.
        without_key: let everybody in who reaches the address.
        say: tells the address once the service listens.

    Raises:
        ServiceError: the address is not free, or open to others without a key.
        ConfigError: a setting of the environment will not do.
        BundleError: a model cannot be loaded.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    if not (key or without_key or is_own(host)):
        raise ServiceError(
            f"Without a key everybody who reaches {host}:{port} could send films. Set "
            f"{KEY_VARIABLE} to a long random text, or listen at 127.0.0.1; --without-key leaves "
            "it open."
        )
    limits = settings.from_environment(os.environ)
    served = models.read(folders)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # What these say of a damaged form may hold a piece of it.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)

    desk = Desk(served, limits)
    server = runner(desk, key)
    with listening(host, port) as listener:
        found = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{found}")
        server.run(sockets=[listener])
    if desk.failure is not None:
        raise desk.failure


def runner(desk: Desk, key: str) -> uvicorn.Server:
    """Return what runs a service; it stops where a model cannot be loaded.

    Args:
        desk: answers.
        key: as for `app.create`.
    """
    server = uvicorn.Server(
        uvicorn.Config(
            app.create(desk, key),
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,  # it would hold addresses with their query
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
        )
    )

    def stop() -> None:
        server.should_exit = True

    desk.on_failure = stop
    return server


def is_own(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ServiceError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise ServiceError(
            f"Nothing can listen at {host}:{port} ({error}). Choose another --host or --port."
        ) from error
