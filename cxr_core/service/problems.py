"""What the service says where it does not answer: problem details (RFC 9457), a sentence each."""

import logging
import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
CLOSED = 499  # the client was gone before its answer; nobody sees it but the log and the metrics

_log = logging.getLogger("cxr_core.service")


class ProblemError(HTTPException):
    """A request that is not answered.

    Args:
        status: of HTTP.
        detail: a sentence for the client: what, why, what to do. Never logged.
        limit: the limit that refused it, as the metrics count it; "" where none did.
        retry_after: seconds after which another try may do; None where it will not.
        reasons: why a film was refused, in sentences.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        limit: str = "",
        retry_after: int | None = None,
        reasons: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        wait = {} if retry_after is None else {"Retry-After": str(retry_after)}
        super().__init__(status, detail, {**(headers or {}), **wait})
        self.limit = limit
        self.reasons = tuple(reasons)


def response(error: HTTPException) -> JSONResponse:
    """Return an error as the client sees it."""
    reasons = getattr(error, "reasons", ())
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": error.detail,
        **({"reasons": list(reasons)} if reasons else {}),
    }
    return JSONResponse(body, error.status_code, error.headers, MEDIA_TYPE)


def of_validation(error: RequestValidationError) -> ProblemError:
    """Return what is wrong with a request's parameters; what they held is not repeated."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc'][1:])}: {fault['msg'].lower()}"
        for fault in error.errors()
    ]
    return ProblemError(422, f"The request cannot be read ({'; '.join(faults)}).")


def failed(error: Exception) -> ProblemError:
    """Return what a client is told of a fault of the program, and log where it lies.

    The error's own words may hold what a client sent, so they go nowhere.
    """
    kind = type(error).__name__
    places = [
        f"{frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    _log.error("The program failed: %s\n  %s", kind, "\n  ".join(places))
    return ProblemError(500, f"The program failed ({kind}). The service's log says where.")
