"""Examples for the service's description: what `phantom_v1` says of synthetic films."""

from http import HTTPStatus
from typing import Any

_NOTE = (
    "For research and teaching. Not a medical device, not for clinical use. The model learned from "
    "synthetic films: what it says about a real film means nothing."
)
ANSWERS: list[dict[str, Any]] = [
    {
        "path": "film.png",
        "accepted": True,
        "reasons": [],
        "unchecked": [],
        "burned_in": False,
        "label": "NORMAL",
        "probability": 0.9931525257157497,
        "probabilities": {
            "NORMAL": 0.9931525257157497,
            "PNEUMONIA": 0.006419343023685459,
            "TUBERCULOSIS": 0.0004281312605646917,
        },
        "abnormal": 0.00684747428425015,
        "threshold": 0.37102380456040773,
        "distance": 0.7141010887967071,
        "bundle": "phantom_v1",
        "model": "c9ed6d669da5",
        "note": _NOTE,
    },
    {
        "path": "inverted.png",
        "accepted": False,
        "reasons": [
            "The film is inverted: air is white and bone is black. Invert it to have it judged."
        ],
        "unchecked": [],
        "burned_in": False,
        "label": None,
        "probability": None,
        "probabilities": {},
        "abnormal": None,
        "threshold": 0.37102380456040773,
        "distance": None,
        "bundle": "phantom_v1",
        "model": "c9ed6d669da5",
        "note": _NOTE,
    },
    {
        "path": "letter.png",
        "error": "letter.png holds text. Films are read from PNG, JPEG, BMP, TIFF, WebP and DICOM "
        "files.",
        "accepted": False,
        "reasons": [],
        "unchecked": [],
        "burned_in": None,
        "probabilities": {},
        "label": None,
        "probability": None,
        "abnormal": None,
        "threshold": None,
        "distance": None,
        "model": "c9ed6d669da5",
    },
]

# What a status means here, and what a client is told then.
PROBLEMS: dict[int, tuple[str, str]] = {
    400: (
        "The form is cut off or damaged.",
        "The form is cut off or damaged. Send it as 'curl -F files=@film.png' does.",
    ),
    401: (
        "The key is missing or wrong.",
        "This service asks for its key: send it in the header X-API-Key, or as 'Authorization: "
        "Bearer KEY'.",
    ),
    404: (
        "There is no such model, or it knows no such class.",
        "There is no model of that name here. There are: pneumonia_v1, phantom_v1.",
    ),
    408: (
        "The films did not arrive in time.",
        "The films did not arrive within 60 seconds. Send fewer, or smaller ones, at a time.",
    ),
    413: (
        "A file, the request, or the number of its files is above a limit.",
        "A request may hold 32 films. Send the others in another one.",
    ),
    415: (
        "The body is no multipart form.",
        "Send the films as multipart/form-data with a boundary, as browsers and 'curl -F "
        "files=@film.png' do.",
    ),
    422: (
        "A field or a parameter will not do; or, of a heat map, the film will not.",
        "The request holds no film. Send one or several as 'files': curl -F files=@film.png.",
    ),
    429: (
        "The client has sent too many requests.",
        "More than 600 per 1 minute came from this address. Wait as long as Retry-After says.",
    ),
    500: (
        "The program failed.",
        "The program failed (ResourceExhaustedError). The service's log says where.",
    ),
    503: (
        "The service is full, or not ready.",
        "The service has as many films as it can hold. Send this request again a little later.",
    ),
}


def problem(status: int) -> dict[str, Any]:
    """Return what a client is told with a status."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": PROBLEMS[status][1],
    }
