"""What the service can be asked."""

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from cxr_core.diagnosis import explain
from cxr_core.diagnosis.scoring import Scored
from cxr_core.service import examples, problems, schemas, uploads
from cxr_core.service.access import KeyCheck
from cxr_core.service.batching import Ask
from cxr_core.service.desk import Desk
from cxr_core.service.problems import ProblemError
from cxr_core.service.schemas import Answer, Health, ModelInfo, Unread

_PARAMETERS = (401, 404, 422, 429)
_FILMS = tuple(examples.PROBLEMS)
_KINDS = "image/png, image/jpeg, image/bmp, image/tiff, image/webp, application/dicom"


def _body(files: dict[str, Any]) -> dict[str, Any]:
    """Describe a form with films."""
    schema = {
        "type": "object",
        "properties": {uploads.FIELD: files},
        "required": [uploads.FIELD],
        "additionalProperties": False,
    }
    form = {"schema": schema, "encoding": {uploads.FIELD: {"contentType": _KINDS}}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": form}}}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe answers with a problem in place of what was asked for."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Problem"}
    described: dict[str, Any] = {
        "description": examples.PROBLEMS[status][0],
        "content": {
            problems.MEDIA_TYPE: {"schema": reference, "example": examples.problem(status)}
        },
    }
    if status in (429, 503):
        described["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait.",
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return described


def routes(desk: Desk, key: str) -> APIRouter:
    """Return all routes.

    Args:
        desk: answers.
        key: without which nobody is answered; "" where everybody is.
    """
    checked = [Depends(KeyCheck(key))] if key else []

    async def counted(request: Request) -> None:  # before the key: guessing is limited, too
        desk.rate.count(request.client.host if request.client else "")

    def known(request: Request) -> None:  # with a misspelt one another model might be asked
        names = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
        if request.query_params.keys() - set(names):
            there = f"There are: {', '.join(names)}" if names else "There is none"
            raise ProblemError(422, f"A parameter has a name that is not known here. {there}.")

    admitted = [Depends(counted), *checked, Depends(known)]
    films = APIRouter(prefix="/v1", dependencies=admitted, tags=["Films"])
    about_models = APIRouter(prefix="/v1/models", dependencies=admitted, tags=["Models"])
    guarded = APIRouter(dependencies=checked, tags=["Service"])
    open_to_all = APIRouter(tags=["Service"])
    models = {"enum": list(desk.models)}
    classes = list(
        dict.fromkeys(name for model in desk.models.values() for name in model.info.classes)
    )
    ChosenModel = Annotated[
        str,
        Query(
            description="The model to ask: a `name` of /v1/models.",
            json_schema_extra=models,
        ),
    ]
    NamedModel = Annotated[
        str, Path(description="A `name` of /v1/models.", json_schema_extra=models)
    ]
    Force = Annotated[
        bool,
        Query(
            description="Answer for a film that the gate refuses, too. The answer says that it is "
            "not to be relied on."
        ),
    ]

    @films.post(
        "/predict",
        summary="Answer for films",
        response_model=list[Answer | Unread],
        response_description="An entry a film, in their order: an answer, a refusal, or why the "
        "file could not be read.",
        openapi_extra=_body(
            {
                "type": "array",
                "minItems": 1,
                "maxItems": desk.settings.files,
                "items": {"type": "string", "format": "binary"},
                "description": "One film or several, each of at most "
                f"{desk.settings.file_bytes:,} bytes: PNG, JPEG, BMP, TIFF, WebP or DICOM.",
            }
        ),
        responses={
            200: {"content": {"application/json": {"example": examples.ANSWERS}}},
            **_problems(*_FILMS),
        },
    )
    async def predict(
        request: Request, model: ChosenModel = desk.default, force: Force = False
    ) -> Response:
        """Ask a model about one film or several.

        Each entry has the keys of `python -m cxr_core predict --json`. A film that the gate refuses
        has reasons and no probability; a file that cannot be read has an `error`, and the rest go
        on. Nothing is kept, and nothing is written to disk.
        """
        chosen = desk.ready_model(model)
        async with uploads.received(request, desk.settings, desk.room) as sent:
            found = await uploads.unless_gone(
                request,
                asyncio.gather(
                    *(desk.outcome(upload, chosen, Ask(force=force)) for upload in sent)
                ),
            )
        entries = zip(found, sent, strict=True)
        return JSONResponse([scored.as_json() | {"path": file.name} for scored, file in entries])

    @films.post(
        "/heatmap",
        summary="Draw what speaks for a finding",
        response_class=Response,
        response_description="The film at its own size with the heat map over it.",
        openapi_extra=_body(
            {
                "type": "string",
                "format": "binary",
                "description": f"One film of at most {desk.settings.file_bytes:,} bytes.",
            }
        ),
        responses={
            200: {
                "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
                "headers": {
                    "CXR-Target": {
                        "description": "The class that the map is for, percent-encoded.",
                        "schema": {"type": "string"},
                    },
                    "CXR-Accepted": {
                        "description": "Whether the gate accepted the film.",
                        "schema": {"type": "boolean"},
                    },
                    "CXR-Flat": {
                        "description": "Whether nothing stands out: then the film is drawn as it "
                        "is.",
                        "schema": {"type": "boolean"},
                    },
                },
            },
            **_problems(*_FILMS),
        },
    )
    async def heatmap(
        request: Request,
        model: ChosenModel = desk.default,
        target: Annotated[
            str | None,
            Query(
                description="The class to show the evidence for; by default the likeliest finding.",
                json_schema_extra={"enum": classes},
            ),
        ] = None,
        force: Force = False,
    ) -> Response:
        """Return a film with its heat map (Grad-CAM) as PNG.

        The map shows where a score came from, not where disease is. A film that cannot be read, or
        that the gate refuses, is answered with 422 and the reasons. The picture's text chunks say
        what it shows and what it is not for.
        """
        chosen = desk.ready_model(model)
        if target is not None and target not in chosen.info.classes:
            raise ProblemError(
                404,
                f"The model {chosen.name} knows no such class. It knows: "
                f"{', '.join(chosen.info.classes)}.",
            )
        ask = Ask(force=force, heatmap=True, target=target)
        async with uploads.received(request, desk.settings, desk.room) as sent:
            if len(sent) > 1:
                raise ProblemError(422, "A heat map is drawn of one film. Send one at a time.")

            async def work() -> tuple[Scored, bytes, explain.HeatMap]:
                found = await desk.outcome(sent[0], chosen, ask)
                answer = found.diagnosis
                if answer is None:
                    raise ProblemError(422, found.error)
                if answer.heatmap is None:
                    raise ProblemError(
                        422,
                        "The gate refused this film. What speaks for a finding in it would mean "
                        "nothing; force=true asks for it all the same.",
                        reasons=answer.reasons,
                    )
                return found, await desk.picture(sent[0], found), answer.heatmap

            found, picture, drawn = await uploads.unless_gone(request, work())
        accepted = found.diagnosis is not None and found.diagnosis.accepted
        headers = {
            "CXR-Target": quote(drawn.target),
            "CXR-Accepted": str(accepted).lower(),
            "CXR-Flat": str(drawn.flat).lower(),
        }
        return Response(picture, media_type="image/png", headers=headers)

    @about_models.get(
        "",
        summary="List the models",
        response_description="The model that is asked by default comes first.",
        responses=_problems(401, 422, 429),
    )
    async def list_models() -> list[ModelInfo]:
        """Return what each model knows, learned from, and is worth."""
        return [
            schemas.described(model.name, model.info, default=model.name == desk.default)
            for model in desk.models.values()
        ]

    @about_models.get("/{name}", summary="Describe a model", responses=_problems(*_PARAMETERS))
    async def describe_model(name: NamedModel) -> ModelInfo:
        """Return what one model knows, learned from, and is worth."""
        return schemas.described(name, desk.model(name).info, default=name == desk.default)

    @about_models.get(
        "/{name}/card",
        summary="Read a model's card",
        response_class=PlainTextResponse,
        response_description="The card as Markdown.",
        responses={
            200: {"content": {"text/markdown": {"schema": {"type": "string"}}}},
            **_problems(*_PARAMETERS),
        },
    )
    async def read_card(name: NamedModel) -> Response:
        """Return all that is known of a model, item by item (CLAIM 2024)."""
        return Response(desk.model(name).card, media_type="text/markdown")

    @open_to_all.get(
        "/healthz",
        summary="Ask whether films are answered",
        response_description="They are.",
        responses={503: {"model": Health, "description": "Not yet, or no longer."}},
    )
    async def healthz() -> JSONResponse:
        """Tell whether every model is loaded and has answered once."""
        status = 200 if desk.state == "ready" else 503
        return JSONResponse(Health(status=desk.state).model_dump(), status)

    @guarded.get(
        "/metrics",
        summary="Read the counters",
        response_class=PlainTextResponse,
        response_description="Counters as Prometheus reads them.",
        responses=_problems(401) if key else None,
    )
    async def metrics(request: Request) -> Response:
        """Return requests, times, films, batches, the queue, and what the limits refused."""
        text, media_type = desk.metrics.text(request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    everything = APIRouter()
    for part in (films, about_models, open_to_all, guarded):
        everything.include_router(part)
    return everything
