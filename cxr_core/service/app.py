"""The service put together: routes, what is done around them, and its description (OpenAPI)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from cxr_core import NOT_FOR_CLINICAL_USE, __version__
from cxr_core.service import problems
from cxr_core.service.desk import Desk
from cxr_core.service.routes import routes
from cxr_core.service.schemas import Problem
from cxr_core.service.watch import NOTICE, Watch

_DESCRIPTION = f"""**{NOT_FOR_CLINICAL_USE}**

Send chest films, get calibrated probabilities, or the reasons why a film is not judged. The answers
are those of `python -m cxr_core predict` and of the page Diagnose: the same network, the same gate.

Every response has the header `{NOTICE}` with the sentence above. What is not answered is a problem
(RFC 9457) with a sentence that says what to do. Films stay in memory and are forgotten with the
answer; neither their names nor what their headers hold is logged.
"""
# Instrumentation would take along the words of errors, which may hold what clients sent.
_NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create(desk: Desk, key: str = "") -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        desk: answers; it is opened as the application starts, and closed as it ends.
        key: without which nobody is answered; "" where everybody is.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with desk:
            yield

    app = FastAPIOffline(
        redoc_url=None,
        title="CXR Studio",
        summary="Chest X-ray classification over HTTP.",
        description=_DESCRIPTION,
        version=__version__,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=life,
        generate_unique_id_function=lambda route: route.name,  # clients are generated from these
        telemetry=_NO_TELEMETRY,
    )
    app.include_router(routes(desk, key))
    app.add_middleware(Watch, metrics=desk.metrics)

    @app.get("/", include_in_schema=False)
    async def to_the_docs() -> RedirectResponse:
        return RedirectResponse("docs")

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        limit = getattr(error, "limit", "")
        if limit:
            desk.metrics.rejected.labels(limit).inc()
        return problems.response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problems.response(problems.of_validation(error))

    def description() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = description  # type: ignore[method-assign]
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """Return the description, with the form of problems and without FastAPI's own."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        license_info=app.license_info,
        routes=app.routes,
    )
    forms = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        forms.pop(name, None)
    forms["Problem"] = Problem.model_json_schema()
    return found
