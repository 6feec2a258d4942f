"""The films a visitor brought: held in memory, judged beside the page, never written to disk."""

import hashlib
import importlib.util
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import cv2
import numpy as np
import streamlit as st
from starlette.formparsers import MultiPartParser
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from cxr_core import images
from cxr_core.data import archive, phantom
from cxr_core.diagnosis import gate, scoring
from cxr_core.errors import DatasetError, UnreadableImageError
from cxr_core.ui import background, evidence_view, loaders, models, words

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis, Predictor, Prepared
    from cxr_core.training.bundle_index import BundleRef

_FILMS = "uploads"
_FOUND = "outcomes"
_OPEN = "upload_open"
_CHOSEN = "upload_chosen"
_WORK = "uploads_work"
_TOLD = "uploads_told"
_ROUND = "uploads_round"
_LIMIT = 500_000_000  # bytes of files a session may hold
_MOST = 2_000  # films a session may hold: more make no table that anybody reads
_ZIP = archive.Limits(files=_MOST, total_bytes=_LIMIT)
_AT_ONCE = 1.0  # seconds that the page waits for its films before it shows a progress bar
_BATCH = 8  # films the network is asked about at once; more would not make it faster on a CPU
_THUMBNAIL = 96  # px, longer side
_PUBLIC = "RG1_J2KI.dcm"  # the smallest chest film of pydicom-data, 0.7 MB

# Films are decoded for so many visitors at once: what bounds the memory that this takes.
_AT_WORK = threading.BoundedSemaphore(2)

# Starlette, which takes files for Streamlit, would put those over 1 MB into a temporary file.
MultiPartParser.spool_max_size = _LIMIT


@dataclass(frozen=True, eq=False)
class Upload:
    """One file as it came."""

    digest: str  # of name and contents: the same file twice is one
    name: str  # with its path inside the archive that brought it
    data: bytes
    synthetic: bool = False  # one of the app's own samples
    mends: tuple[str, ...] = ()  # what was put right on request, as `gate.mended` takes it
    insisted: bool = False  # whether an answer was asked for although the film is refused


@dataclass(frozen=True, eq=False)
class Reading:
    """What came of one file with one model: an answer, a refusal, or why there is neither."""

    upload: Upload
    film: images.Radiograph | None  # None where the file is no image
    diagnosis: "Diagnosis | None"  # with a heat map
    error: str = ""  # why the file could not be read


@dataclass(frozen=True, eq=False)
class Outcome:
    """What is kept of a reading for as long as its film is held, a few kilobytes each."""

    upload: Upload
    diagnosis: "Diagnosis | None"  # without heat map, features, square; None where not read
    thumbnail: bytes = b""  # JPEG; empty where not read
    burned_in: bool = False  # whether the header says that the pixels hold text
    error: str = ""  # why the file could not be read


def held() -> list[Upload]:
    """Return the films of this session, in the order they came."""
    return list(_films().values())


def add(name: str, data: bytes, *, synthetic: bool = False) -> None:
    """Take a film into the session, unless it is there already or there is no room."""
    films = _films()
    if not synthetic:
        models.take_back()
    # With its name: a file refused for a wrong suffix is another one under the right suffix.
    digest = hashlib.sha256(name.encode("utf-8", "replace") + b"\0" + data).hexdigest()
    if digest in films:
        return
    if sum(len(upload.data) for upload in films.values()) + len(data) > _LIMIT:
        _tell(f"Not taken, as {words.size(_LIMIT)} are held already (remove some first)", name)
    elif len(films) >= _MOST:
        _tell(f"Not taken, as {_MOST:,} films are held already (remove some first)", name)
    else:
        films[digest] = Upload(digest, name, data, synthetic)


def mend(digest: str, how: str) -> None:
    """Have a refused film put right, as its refusal names it, and judged again."""
    upload = _films()[digest]
    _change(digest, replace(upload, digest=f"{digest}:{how}", mends=(*upload.mends, how)))


def insist(digest: str) -> None:
    """Have a refused film answered for all the same."""
    _change(digest, replace(_films()[digest], digest=f"{digest}:insisted", insisted=True))


def remove(digest: str) -> None:
    """Forget one film and what was read from it."""
    _films().pop(digest, None)
    _drop(digest)
    st.session_state.pop(_OPEN, None)
    evidence_view.forget()


def remove_all() -> None:
    """Forget every film of the session and what was read from it."""
    running = st.session_state.pop(_WORK, None)
    if running is not None:
        running[1].stop()
    _films().clear()
    for key in (_FOUND, _OPEN, _CHOSEN, _TOLD):
        st.session_state.pop(key, None)
    evidence_view.forget()


def drop_zone() -> None:
    """Draw the field that takes files, and what became of those that were not taken.

    It empties itself: the page lists the films instead.
    """
    key = _field()
    st.file_uploader(
        "Drop chest X-rays here: PNG, JPEG, TIFF, BMP, WebP or DICOM, or a zip of them",
        accept_multiple_files=True,
        key=key,
        on_change=_take,
        args=(key,),
        help="The files stay in this computer's memory and are forgotten when you leave.",
    )
    st.caption(
        f"Up to {_MOST:,} films and {_LIMIT // 1_000_000:,} MB at a time; for folders of any size "
        "there is `python -m cxr_core predict`."
    )
    told = [
        words.plain(f"{reason}: {words.listing(names, 3)}." if names else reason)
        for reason, names in st.session_state.get(_TOLD, {}).items()
    ]
    with st.container():  # always there: what stands below keeps its place and its sorting
        if told:
            st.warning("  \n".join(told), icon=":material/info:")


def samples(judge: "BundleRef | None" = None) -> None:
    """Offer a film of each kind to a visitor without one.

    Args:
        judge: the model that is to be in use once a synthetic film is taken, until a film of
            another origin comes; None leaves the one that is, as do films of a visitor's own.
    """
    public = _public()
    also = ", or a public one that comes with pydicom-data" if public else ""
    told = f" Synthetic ones are judged by {words.plain(judge.label)}." if judge else ""
    st.caption(f"No film at hand? Try a synthetic one, drawn by this app{also}.{told}")
    with st.container(horizontal=True, gap="medium", key="samples"):
        for label in phantom.CLASSES:
            data = sample(label)
            _offer(
                data,
                f"Synthetic film, {words.finding(label)}",
                f"Try {words.finding(label)}",
                (f"synthetic_{label.lower()}.png", data),
                synthetic=True,
                judge=judge.spec if judge else "",
            )
        if public:
            film, thumbnail = public
            _offer(thumbnail, "Public DICOM film", "Try a DICOM film", (_PUBLIC, film))


@st.cache_data(show_spinner=False, max_entries=8)
def sample(label: str) -> bytes:
    """Return a phantom of a class as a PNG file; it is in no data set this app makes."""
    film = phantom.draw(label, np.random.default_rng([2026, phantom.CLASSES.index(label)]))
    encoded: bytes = cv2.imencode(".png", film.pixels)[1].tobytes()
    return encoded


def opened(upload: Upload, predictor: "Predictor") -> Reading:
    """Return the reading of the film to look at, with its heat map; the last one is kept."""
    key = (predictor.info.model_sha256, upload.digest)
    kept: tuple[tuple[str, str], Reading] | None = st.session_state.get(_OPEN)
    if kept is None or kept[0] != key:
        kept = key, read(upload, predictor)
        st.session_state[_OPEN] = kept
        reading = kept[1]
        _found()[key] = _outcome(upload, reading.film or reading.error, reading.diagnosis)
    return kept[1]


def read(upload: Upload, predictor: "Predictor") -> Reading:
    """Decode a file and return what the model says of it, with a heat map; keep nothing."""
    # The model reads a film as finely as it needs it: so its answer is that of the table.
    seen = _decoded(upload, predictor.read)
    whole = seen if isinstance(seen, str) or seen.scale == 1 else _decoded(upload, images.read)
    if isinstance(seen, str) or isinstance(whole, str):
        return Reading(upload, None, None, str(whole))
    return Reading(upload, whole, predictor.diagnose(seen, force=upload.insisted))


def choose(digest: str) -> None:
    """Make a film the one to look at."""
    st.session_state[_CHOSEN] = digest


def chosen(predictor: "Predictor") -> Upload:
    """Return the film to look at: the one chosen, by default the first that can be read."""
    films = _films()
    asked = films.get(st.session_state.get(_CHOSEN, ""))
    if asked is None:
        readable = (film for film in held() if opened(film, predictor).film is not None)
        asked = next(readable, held()[0])
        choose(asked.digest)
    return asked


def outcomes(predictor: "Predictor") -> list[Outcome | None]:
    """Return what the model says of each film, in their order; None where it was not asked yet."""
    found, model = _found(), predictor.info.model_sha256
    return [found.get((model, upload.digest)) for upload in held()]


def judge(predictor: "Predictor") -> "background.Task[None] | None":
    """Have the model asked about every film beside the page.

    Returns:
        The work, where it takes more than a moment; None where every film has its outcome. It goes
        on whatever becomes of the page, and takes films that come meanwhile.
    """
    model = predictor.info.model_sha256
    while True:
        running: tuple[str, background.Task[None]] | None = st.session_state.get(_WORK)
        if running is not None and running[0] != model:
            running[1].stop()
            running = None
        if running is None:
            if all(outcomes(predictor)):
                return None
            work = partial(_judge, predictor=predictor, films=_films(), found=_found())
            running = st.session_state[_WORK] = model, background.Task(work)
        task = running[1]
        if not task.ended(max(0.0, _AT_ONCE - task.seconds)):
            return task
        del st.session_state[_WORK]
        task.result()  # raises what the work raised


def _judge(
    task: "background.Task[None]",
    predictor: "Predictor",
    films: dict[str, Upload],
    found: dict[tuple[str, str], Outcome],
) -> None:
    """Ask the model about films until none waits; the page may add and remove some meanwhile."""
    model, done = predictor.info.model_sha256, 0
    while not task.stopped():
        waiting = [u for u in list(films.values()) if (model, u.digest) not in found]
        if not waiting:
            return
        task.tell("Reading the films", done, done + len(waiting))
        with _AT_WORK:
            batch = waiting[:_BATCH]
            for insisted in (False, True):
                asked = [upload for upload in batch if upload.insisted == insisted]
                for outcome in _outcomes(asked, predictor, insisted):
                    key = model, outcome.upload.digest
                    found[key] = outcome
                    if key[1] not in films:  # removed meanwhile: an outcome holds its file
                        found.pop(key, None)
        done += len(batch)


def _outcomes(
    uploads: Sequence[Upload], predictor: "Predictor", insisted: bool
) -> Iterator[Outcome]:
    """Ask the model about a few films at once; only one of them is in memory at its full size."""
    asked: list[tuple[Outcome, Prepared]] = []
    for upload in uploads:
        film = _decoded(upload, predictor.read)
        outcome = _outcome(upload, film, None)
        if isinstance(film, str):
            yield outcome
        else:
            asked.append((outcome, predictor.prepare(film)))
    answers = predictor.answer([prepared for _, prepared in asked], force=insisted)
    for (outcome, _), answer in zip(asked, answers, strict=True):
        yield replace(outcome, diagnosis=_compact(answer))


def _decoded(
    upload: Upload, reader: Callable[[bytes, str], images.Radiograph]
) -> images.Radiograph | str:
    """Return the film of a file with what was put right, or why the file cannot be read."""
    try:
        film = reader(upload.data, upload.name)
        for how in upload.mends:
            film = gate.mended(film, how)
    except UnreadableImageError as error:
        return str(error)
    except Exception as error:  # a fault of the program, which must not cost the other films
        return scoring.fault(upload.name, error)
    return film


def _outcome(
    upload: Upload, film: images.Radiograph | str, diagnosis: "Diagnosis | None"
) -> Outcome:
    if isinstance(film, str):
        return Outcome(upload, None, error=film)
    thumbnail = loaders.jpeg(film.pixels, _THUMBNAIL)
    return Outcome(upload, diagnosis and _compact(diagnosis), thumbnail, film.burned_in)


def _compact(diagnosis: "Diagnosis") -> "Diagnosis":
    return replace(diagnosis, heatmap=None, features=None, square=None)


def _films() -> dict[str, Upload]:
    films: dict[str, Upload] = st.session_state.setdefault(_FILMS, {})
    return films


def _found() -> dict[tuple[str, str], Outcome]:
    """Return the outcomes by model and film: another model's stay for when it is chosen again."""
    found: dict[tuple[str, str], Outcome] = st.session_state.setdefault(_FOUND, {})
    return found


def _change(digest: str, changed: Upload) -> None:
    """Put another state of a film in its place; what was read from the old one counts no more."""
    films = _films()
    kept = [changed if upload.digest == digest else upload for upload in films.values()]
    films.clear()
    films |= {upload.digest: upload for upload in kept}
    _drop(digest)
    if st.session_state.get(_CHOSEN) == digest:
        choose(changed.digest)


def _drop(digest: str) -> None:
    """Forget what was read of a film that is no longer held; others may be added meanwhile."""
    found = _found()
    for key in [key for key in list(found) if key[1] == digest]:
        found.pop(key, None)


def _tell(reason: str, name: str = "") -> None:
    """Have the page say what was not taken: files for one reason together, or a whole sentence."""
    names = st.session_state.setdefault(_TOLD, {}).setdefault(reason, [])
    if name:
        names.append(name)


def _field() -> str:
    """Return the key of the field that takes files now."""
    return f"uploader:{st.session_state.setdefault(_ROUND, 0)}"


def _take(key: str) -> None:
    if key != _field():
        return  # a browser may send a field again that was emptied meanwhile
    st.session_state[_TOLD] = {}
    for file in st.session_state[key] or []:
        data = file.getvalue()
        _let_go(file)
        for name, content in _unpacked(file.name, data):
            add(name, content)
    st.session_state[_ROUND] += 1  # another key, an empty field


def _let_go(file: UploadedFile) -> None:
    """Have Streamlit forget a file, which it would keep until the visitor leaves."""
    context = get_script_run_ctx()
    manager = context.uploaded_file_mgr if context else None
    if context and isinstance(manager, MemoryUploadedFileManager):
        manager.remove_file(context.session_id, file.file_id)


def _unpacked(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a file itself, or what an archive holds; what is passed over is told."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix != ".zip":
        yield name, data
        return
    try:
        for member in archive.members(io.BytesIO(data), name, limits=_ZIP):
            if member.data is not None:
                yield member.path, member.data
            elif member.why.endswith("."):
                _tell(member.why)
            else:
                _tell(f"Passed over in {name}, {member.why}", member.path)
    except DatasetError as error:
        _tell(str(error))


@st.cache_data(show_spinner=False, max_entries=1)
def _public() -> tuple[bytes, bytes] | None:
    """Return the public DICOM film and a picture of it; None where this machine has none."""
    package = importlib.util.find_spec("data_store")  # what pydicom-data installs
    if package is None or not package.submodule_search_locations:
        return None
    path = Path(next(iter(package.submodule_search_locations))) / "data" / _PUBLIC
    try:
        data = path.read_bytes()
        return data, loaders.jpeg(images.read(data, _PUBLIC).pixels, 460)
    except (OSError, UnreadableImageError):
        return None


def _offer(
    picture: bytes,
    alt: str,
    action: str,
    film: tuple[str, bytes],
    *,
    synthetic: bool = False,
    judge: str = "",
) -> None:
    """Draw one sample with the button that takes it."""
    with st.container(width=230, gap="small"):
        st.image(picture, width="stretch", alt=alt)
        st.button(
            action,
            key=f"sample:{film[0]}",
            width="stretch",
            on_click=_try,
            args=film,
            kwargs={"synthetic": synthetic, "judge": judge},
        )


def _try(name: str, data: bytes, *, synthetic: bool, judge: str) -> None:
    add(name, data, synthetic=synthetic)
    if judge and all(upload.synthetic for upload in held()):
        models.lend(judge)
