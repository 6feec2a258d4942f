"""What is done around every request: counted, timed, logged, and told what the answers are not for.

The log has the route, the status and the time, and nothing that a client sent: neither the address
with its query nor the name of a file.
"""

import logging
import time
from http import HTTPMethod

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr_core import NOT_FOR_CLINICAL_USE
from cxr_core.service import problems
from cxr_core.service.metrics import Metrics

NOTICE = "CXR-Notice"
_HEADERS = {
    NOTICE: NOT_FOR_CLINICAL_USE,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_ASKED_ALL_THE_TIME = ("/healthz", "/metrics")  # by machines; not worth a line each

_log = logging.getLogger("cxr_core.service")


class Watch:
    """Middleware around an application.

    Args:
        app: what answers.
        metrics: what counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, told)
        except ClientDisconnect:
            status = status or problems.CLOSED
        except Exception as error:
            fault = problems.failed(error)
            if not status:
                await problems.response(fault)(scope, receive, told)
            status = 500
        finally:
            self._tell(scope, status or problems.CLOSED, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "") or "none"
        self._metrics.requests.labels(route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        level = logging.DEBUG if route in _ASKED_ALL_THE_TIME else logging.INFO
        # A method may be any word that a client thinks of.
        method = scope["method"] if scope["method"] in HTTPMethod.__members__ else "other"
        _log.log(level, "%s %s: %d, %.0f ms", method, route, status, 1000 * seconds)
