"""What pages read, kept between reruns: catalogs, films, runs, models. Every cache is bounded."""

import base64
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import streamlit as st
from streamlit.runtime.scriptrunner import script_runner

from cxr_core import images, workspace
from cxr_core.data import sources
from cxr_core.data.catalog import Catalog, with_patients
from cxr_core.diagnosis import bundle
from cxr_core.errors import DatasetError, UnreadableImageError
from cxr_core.training.tested import RunResult
from cxr_core.training.tested import load as load_tested
from cxr_core.training.tracking import RunStore
from cxr_core.ui import background

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Predictor

_DATA_ROOT = "data_root"
_PATTERNS = "patient_patterns"  # session key: a data set's rule for patients, by its root
_CATALOGS_KEPT = 6
_FAILURE_KEPT = 10.0  # seconds that a failed reading waits for the page that asked for it
_BETWEEN_LOOKS = 0.2  # seconds between two looks at what a page waits for

# After every run of a script Streamlit clears Keras's session, for apps that build a model in each
# run. Here models stay loaded, and with the session would go what TensorFlow has made ready for
# them: the next answer, of any visitor, would take ten times as long.
script_runner._clean_problem_modules = lambda: None


class _Shelf:
    """The catalogs open in this server, the last used at the end.

    Not ``st.cache_resource``: opening one reports its progress to the page, which a cached
    function cannot.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.catalogs: OrderedDict[tuple[Path, str, str], Catalog] = OrderedDict()
        # Those under way, and those that failed with an error that nobody has read yet.
        self.readings: dict[tuple[Path, str], background.Task[Catalog]] = {}
        self.failed_at: dict[tuple[Path, str], float] = {}  # by the clock of ``time.monotonic``

    def put(self, place: tuple[Path, str, str], catalog: Catalog) -> None:
        """Put a catalog on the shelf, where there is no end to room; the lock is held."""
        self.catalogs[place] = catalog
        self.catalogs.move_to_end(place)
        while len(self.catalogs) > _CATALOGS_KEPT:
            self.catalogs.popitem(last=False)

    def drop_reading(self, place: tuple[Path, str]) -> None:
        """Forget a reading, whatever becomes of it; the lock is held."""
        self.readings.pop(place, None)
        self.failed_at.pop(place, None)


@st.cache_resource(show_spinner=False)
def _shelf() -> _Shelf:
    return _Shelf()


def data_root() -> str:
    """Return the data set in use in this browser session: a folder, or the built-in set's name."""
    return str(st.session_state.get(_DATA_ROOT, sources.BUILT_IN))


def use_data(root: str) -> None:
    """Make a data set the one in use."""
    st.session_state[_DATA_ROOT] = root


def patient_pattern(root: str = "") -> str:
    """Return this session's regular expression for the patients of a data set, "" for none.

    What ``data.patient_pattern`` must be for training to know patients as the pages do.

    Args:
        root: as of :func:`data_root`, whose set is meant where nothing is given.
    """
    return str(st.session_state.get(_PATTERNS, {}).get(root or data_root(), ""))


def use_patient_pattern(root: str, pattern: str) -> None:
    """Have the patients of a data set named by a regular expression; "" for the set's own rule."""
    kept = st.session_state.get(_PATTERNS, {})
    st.session_state[_PATTERNS] = {**kept, root: pattern}


def catalog(root: str) -> Catalog:
    """Open a data set by this session's rule for its patients, with a bar where that takes time.

    Raises:
        DatasetError: the folder is no usable data set.
    """
    opened = _remembered(root, "", lambda: _scanned(root))
    pattern = patient_pattern(root)
    if not pattern:
        return opened
    try:
        return _remembered(root, pattern, lambda: with_patients(opened, pattern))
    except DatasetError as error:  # the files changed since somebody wrote the rule
        use_patient_pattern(root, "")
        st.toast(str(error))
        return opened


def forget_catalog(root: str) -> None:
    """Have the next :func:`catalog` look at the files again."""
    shelf = _shelf()
    with shelf.lock:
        for known in [k for k in shelf.catalogs if k[:2] == (workspace.home(), root)]:
            del shelf.catalogs[known]
        shelf.drop_reading((workspace.home(), root))  # begun before the files were to be looked at


def key(catalog: Catalog) -> str:
    """Return what names a data set to a cache: changes with films, labels, parts and patients."""
    return f"{catalog.root}:{catalog.identity}"


def _remembered(root: str, pattern: str, make: Callable[[], Catalog]) -> Catalog:
    """Return a catalog from the shelf, made now where it is not there."""
    shelf, place = _shelf(), (workspace.home(), root, pattern)
    with shelf.lock:
        if place in shelf.catalogs:
            shelf.catalogs.move_to_end(place)
            return shelf.catalogs[place]
    made = make()
    with shelf.lock:
        shelf.put(place, made)
    return made


def reading(root: str) -> "background.Task[Catalog] | None":
    """Return the reading of a data set that is not open yet, begun now; None where it is open.

    It goes on whatever becomes of the page that asked for it, and all sessions share it. Once done
    it is the open set; one that failed is kept for a moment, for the page to say why.
    """
    shelf = _shelf()
    with shelf.lock:
        if (workspace.home(), root, "") in shelf.catalogs:
            return None
        place = (workspace.home(), root)
        if time.monotonic() - shelf.failed_at.get(place, math.inf) > _FAILURE_KEPT:
            shelf.drop_reading(place)
        if place not in shelf.readings:
            shelf.readings[place] = background.Task(lambda task: _read(root, place, task, shelf))
        return shelf.readings[place]


def _read(
    root: str, place: tuple[Path, str], task: "background.Task[Catalog]", shelf: _Shelf
) -> Catalog:
    """Open a data set beside the pages, and leave it on the shelf."""
    try:
        opened = sources.open_catalog(root, progress=task.tell)
    except BaseException:
        with shelf.lock:
            if shelf.readings.get(place) is task:
                shelf.failed_at[place] = time.monotonic()
        raise
    with shelf.lock:
        if shelf.readings.get(place) is task:  # else it was to be read anew meanwhile
            shelf.drop_reading(place)
            shelf.put((*place, ""), opened)
    return opened


def pace(done: int, total: int, seconds: float) -> str:
    """Return how far the reading of a set is, with its rate."""
    return f"{done:,} of {total:,}, {done / max(seconds, 1e-3):,.0f} a second"


def _scanned(root: str) -> Catalog:
    work = reading(root)
    if work is None:  # another session opened it between two looks
        return _remembered(root, "", lambda: sources.open_catalog(root))
    place = st.empty()
    while not work.ended(_BETWEEN_LOOKS):
        share, step, done, total, _ = work.progress()
        place.progress(share or 0.0, text=f"{step}: {pace(done, total, work.seconds)}")
    place.empty()
    shelf, asked = _shelf(), (workspace.home(), root)
    with shelf.lock:
        if shelf.readings.get(asked) is work:
            shelf.drop_reading(asked)
    return work.result()


@st.cache_data(max_entries=3000, show_spinner=False)
def thumbnail(path: str, modified: str, side: int) -> bytes | None:
    """Return a film as a JPEG of at most ``side`` px, None where it cannot be read.

    ``modified`` only tells a changed file from the one that was drawn before.
    """
    try:
        return jpeg(images.read(Path(path)).pixels, side)
    except UnreadableImageError:
        return None


def jpeg(pixels: np.ndarray, side: int) -> bytes:
    """Encode a film (uint8, gray or RGB) as a JPEG whose longer side is at most ``side`` px."""
    scale = min(1.0, side / max(pixels.shape[:2]))
    if scale < 1:
        height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    encoded: bytes = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return encoded


def data_url(jpeg: bytes) -> str:
    """Return a JPEG as a URL that carries it whole, for the cells of a table."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def predictor(folder: Path) -> "Predictor":
    """Return the loaded model of a bundle; the first call of all imports TensorFlow.

    Raises:
        BundleError: the bundle is damaged.
    """
    place = str(folder), bundle.read(folder).model_sha256
    loading = _loading(*place)
    try:
        if not loading.ended():
            with st.spinner("Loading the model (the first takes some seconds)"):
                while not loading.ended(_BETWEEN_LOOKS):
                    pass
        return loading.result()
    except BaseException:
        _loading.clear(*place)  # the next visit tries again
        raise


def prepare(folder: Path) -> None:
    """Begin to load a bundle's model beside the pages, so that the first film need not wait.

    Not at the server's start: most pages do without TensorFlow, and its import would make them wait
    and take half a gigabyte for a visitor who came for the data. Whoever opens the page where films
    are judged takes longer to choose a film than this takes.

    Raises:
        BundleError: the bundle is damaged.
    """
    _loading(str(folder), bundle.read(folder).model_sha256)


@st.cache_resource(max_entries=2, show_spinner=False)
def _loading(folder: str, sha256: str) -> "background.Task[Predictor]":
    """Begin to load a model, once for all visitors; ``sha256`` tells a replaced bundle from it."""

    def load(task: "background.Task[Predictor]") -> "Predictor":
        from cxr_core.diagnosis.predictor import Predictor  # TensorFlow: not before it is needed

        loaded = Predictor(Path(folder))
        loaded.warm()
        return loaded

    return background.Task(load)


def store() -> RunStore:
    """Return the run store of this workspace.

    Raises:
        TrainingError: it cannot be opened.
    """
    return _store(str(workspace.home()), os.environ.get("MLFLOW_TRACKING_URI", ""))


@st.cache_resource(max_entries=4, show_spinner=False)
def _store(home: str, uri: str) -> RunStore:
    return RunStore(uri or None)


def tested(run_id: str) -> RunResult:
    """Return what a finished run's model said about its films.

    Raises:
        BundleError, TrainingError: its bundle or its predictions are missing or damaged.
    """
    return _tested(str(workspace.home()), run_id)


@st.cache_resource(max_entries=16, show_spinner=False)
def _tested(home: str, run_id: str) -> RunResult:
    return load_tested(run_id, store())
