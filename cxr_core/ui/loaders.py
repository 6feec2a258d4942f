"""What pages read, kept between reruns: catalogs, films, runs, models. Every cache is bounded."""

import base64
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import images, workspace
from cxr_core.data import sources
from cxr_core.data.catalog import Catalog
from cxr_core.diagnosis import bundle
from cxr_core.errors import UnreadableImageError
from cxr_core.training.tracking import RunStore

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Predictor

_DATA_ROOT = "data_root"
_CATALOGS_KEPT = 4


class _Shelf:
    """The catalogs open in this server, the last used at the end.

    Not ``st.cache_resource``: opening one reports its progress to the page, which a cached
    function cannot.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.catalogs: OrderedDict[tuple[Path, str], Catalog] = OrderedDict()


@st.cache_resource(show_spinner=False)
def _shelf() -> _Shelf:
    return _Shelf()


def data_root() -> str:
    """Return the data set in use in this browser session: a folder, or the built-in set's name."""
    return str(st.session_state.get(_DATA_ROOT, sources.BUILT_IN))


def use_data(root: str) -> None:
    """Make a data set the one in use."""
    st.session_state[_DATA_ROOT] = root


def catalog(root: str) -> Catalog:
    """Open a data set, with a progress bar where that takes time.

    Raises:
        DatasetError: the folder is no usable data set.
    """
    shelf, key = _shelf(), (workspace.home(), root)
    with shelf.lock:
        if key in shelf.catalogs:
            shelf.catalogs.move_to_end(key)
            return shelf.catalogs[key]
    place = st.empty()
    opened = sources.open_catalog(root, progress=_bar(place))
    place.empty()
    with shelf.lock:
        shelf.catalogs[key] = opened
        while len(shelf.catalogs) > _CATALOGS_KEPT:
            shelf.catalogs.popitem(last=False)
    return opened


def forget_catalog(root: str) -> None:
    """Have the next :func:`catalog` look at the files again."""
    shelf = _shelf()
    with shelf.lock:
        shelf.catalogs.pop((workspace.home(), root), None)


def key(catalog: Catalog) -> str:
    """Return what names a data set to a cache: changes with films, labels, parts and patients."""
    told = catalog.frame[["path", "md5", "label", "split", "patient_id"]]
    total = pd.util.hash_pandas_object(told, index=False).sum()
    return f"{catalog.root}:{len(told)}:{total:x}"


def _bar(place: st.delta_generator.DeltaGenerator) -> Callable[[str, int, int], None]:
    """Return a progress callback that draws a bar with a rate, a few times a second."""
    started = shown = time.monotonic()

    def show(stage: str, done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if done < total and now - shown < 0.1:
            return
        shown = now
        rate = done / max(now - started, 1e-3)
        place.progress(
            min(1.0, done / max(total, 1)),
            text=f"{stage}: {done:,} of {total:,}, {rate:,.0f} a second",
        )

    return show


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
    return _predictor(str(folder), bundle.read(folder).model_sha256)


@st.cache_resource(max_entries=2, show_spinner="Loading the model (the first takes some seconds)")
def _predictor(folder: str, sha256: str) -> "Predictor":
    """Load a model once for all visitors; ``sha256`` tells a replaced bundle from the old one."""
    from cxr_core.diagnosis.predictor import Predictor  # TensorFlow: not before it is needed

    return Predictor(Path(folder))


def store() -> RunStore:
    """Return the run store of this workspace.

    Raises:
        TrainingError: it cannot be opened.
    """
    return _store(str(workspace.home()), os.environ.get("MLFLOW_TRACKING_URI", ""))


@st.cache_resource(max_entries=4, show_spinner=False)
def _store(home: str, uri: str) -> RunStore:
    return RunStore(uri or None)
