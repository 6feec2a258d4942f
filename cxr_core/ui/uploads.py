"""The films a visitor brought: held in the browser session's memory, never written to disk."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import streamlit as st

from cxr_core import images
from cxr_core.data import phantom
from cxr_core.diagnosis import gate
from cxr_core.errors import UnreadableImageError
from cxr_core.ui import evidence_view, words

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis, Predictor

_FILMS = "uploads"
_READINGS = "readings"
_ROUND = "uploads_round"
_LIMIT = 500_000_000  # bytes of files a session may hold


@dataclass(frozen=True, eq=False)
class Upload:
    """One file as it came."""

    digest: str  # of name and contents: the same file twice is one
    name: str
    data: bytes
    synthetic: bool = False  # one of the app's own samples
    mends: tuple[str, ...] = ()  # what was put right on request, as `gate.mended` takes it
    insisted: bool = False  # whether an answer was asked for although the film is refused


@dataclass(frozen=True, eq=False)
class Reading:
    """What came of one file with one model: an answer, a refusal, or why there is neither."""

    upload: Upload
    film: images.Radiograph | None  # None where the file is no image
    diagnosis: "Diagnosis | None"
    error: str = ""  # why the file could not be read


def held() -> list[Upload]:
    """Return the films of this session, in the order they came."""
    return list(_films().values())


def add(name: str, data: bytes, *, synthetic: bool = False) -> None:
    """Take a film into the session, unless it is there already or memory is used up."""
    films = _films()
    # With its name: a file refused for a wrong suffix is another one under the right suffix.
    digest = hashlib.sha256(name.encode("utf-8", "replace") + b"\0" + data).hexdigest()
    if digest in films:
        return
    if sum(len(upload.data) for upload in films.values()) + len(data) > _LIMIT:
        st.toast(
            f"{name} was not taken: {words.size(_LIMIT)} are held already. Remove some films first."
        )
        return
    films[digest] = Upload(digest, name, data, synthetic)


def mend(digest: str, how: str) -> None:
    """Have a refused film put right, as its refusal names it, and judged again."""
    upload = _films()[digest]
    _change(digest, replace(upload, digest=f"{digest}:{how}", mends=(*upload.mends, how)))


def insist(digest: str) -> None:
    """Have a refused film answered for all the same."""
    _change(digest, replace(_films()[digest], digest=f"{digest}:insisted", insisted=True))


def remove_all() -> None:
    """Forget every film of the session and what was read from it."""
    _films().clear()
    st.session_state.pop(_READINGS, None)
    evidence_view.forget()


def drop_zone() -> None:
    """Draw the field that takes files. It empties itself: the page lists the films instead."""
    key = f"uploader:{st.session_state.setdefault(_ROUND, 0)}"
    st.file_uploader(
        "Drop chest X-rays here: PNG, JPEG, TIFF, BMP, WebP or DICOM, one or several",
        accept_multiple_files=True,
        key=key,
        on_change=_take,
        args=(key,),
        help="The files stay in this computer's memory and are forgotten when you leave.",
    )


def samples() -> None:
    """Offer one synthetic film of each kind to a visitor without one."""
    st.caption("No film at hand? Try a synthetic one, drawn by this app:")
    with st.container(horizontal=True, gap="medium", key="samples"):
        for label in phantom.CLASSES:
            data = sample(label)
            with st.container(width=230, gap="small"):
                st.image(data, width="stretch", alt=f"Synthetic film, {words.finding(label)}")
                st.button(
                    f"Try {words.finding(label)}",
                    key=f"sample:{label}",
                    width="stretch",
                    on_click=add,
                    args=(f"synthetic_{label.lower()}.png", data),
                    kwargs={"synthetic": True},
                )


@st.cache_data(show_spinner=False, max_entries=8)
def sample(label: str) -> bytes:
    """Return a phantom of a class as a PNG file; it is in no data set this app makes."""
    film = phantom.draw(label, np.random.default_rng([2026, phantom.CLASSES.index(label)]))
    encoded: bytes = cv2.imencode(".png", film.pixels)[1].tobytes()
    return encoded


def read_all(predictor: "Predictor") -> Iterator[Reading]:
    """Yield what the model says of each film, in order; what was said before is not asked again."""
    readings: dict[tuple[str, str], Reading] = st.session_state.setdefault(_READINGS, {})
    for upload in held():
        key = (predictor.info.model_sha256, upload.digest)
        if key not in readings:
            readings[key] = _read(upload, predictor)
        yield readings[key]


def _read(upload: Upload, predictor: "Predictor") -> Reading:
    try:
        film = images.read(upload.data, upload.name)
    except UnreadableImageError as error:
        return Reading(upload, None, None, str(error))
    for how in upload.mends:
        film = gate.mended(film, how)
    return Reading(upload, film, predictor.diagnose(film, force=upload.insisted))


def _films() -> dict[str, Upload]:
    films: dict[str, Upload] = st.session_state.setdefault(_FILMS, {})
    return films


def _change(digest: str, changed: Upload) -> None:
    """Put another state of a film in its place; what was read from the old one counts no more."""
    films = _films()
    kept = [changed if upload.digest == digest else upload for upload in films.values()]
    films.clear()
    films |= {upload.digest: upload for upload in kept}


def _take(key: str) -> None:
    for file in st.session_state[key] or []:
        add(file.name, file.getvalue())
    st.session_state[_ROUND] += 1  # another key, an empty field
