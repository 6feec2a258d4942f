"""Who may ask: the key of the service, where it has one."""

import hashlib
import hmac
from typing import Annotated

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from cxr_core.service.problems import ProblemError

KEY_VARIABLE = "CXR_API_KEY"

_header = APIKeyHeader(
    name="X-API-Key", scheme_name="Key", description="The service's key.", auto_error=False
)
_bearer = HTTPBearer(scheme_name="Bearer", description="The service's key.", auto_error=False)


class KeyCheck:
    """A dependency that lets nobody by without the key.

    Args:
        key: what clients must send, in the header X-API-Key or as a Bearer token.
    """

    def __init__(self, key: str) -> None:
        self._digest = _digest(key)

    def __call__(
        self,
        header: Annotated[str | None, Security(_header)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> None:
        """Compare what came with the key, in a time that tells nothing of either.

        Raises:
            ProblemError: it is another, or none came.
        """
        given = header if header is not None else bearer.credentials if bearer else ""
        if not hmac.compare_digest(_digest(given), self._digest):
            raise ProblemError(
                401,
                "This service asks for its key: send it in the header X-API-Key, or as "
                "'Authorization: Bearer KEY'.",
                limit="key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
