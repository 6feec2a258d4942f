"""PneumoniaMNIST from Zenodo: fetched by address and hash, written out as films and a table."""

import csv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import cv2
import numpy as np

from cxr_core import __version__, workspace
from cxr_core.data import library
from cxr_core.data.catalog import METADATA
from cxr_core.data.library import Cancelled, Progress, Source, in_words
from cxr_core.errors import FetchError

if TYPE_CHECKING:
    import requests

TIMEOUT = (10.0, 30.0)  # seconds to be connected, and between two pieces of the answer
LABELS = ("NORMAL", "PNEUMONIA")  # MedMNIST's labels 0 and 1
FILMS = {"train": 4708, "val": 524, "test": 624}

_CHUNK = 1 << 14  # bytes between two looks at whether to stop
_CITATION = (
    "Yang J, Shi R, Wei D, Liu Z, Zhao L, Ke B, Pfister H, Ni B. MedMNIST v2: a large-scale "
    "lightweight benchmark for 2D and 3D biomedical image classification. Scientific Data 2023. "
    "doi:10.1038/s41597-022-01721-8. Films: Kermany D, Zhang K, Goldbaum M. Mendeley Data v2, "
    "2018. doi:10.17632/rscbjbr9sj.2"
)


@dataclass(frozen=True, kw_only=True)
class PneumoniaMNIST(Source):
    """One of the four sizes of PneumoniaMNIST."""

    side: int  # px
    md5: str  # of the file behind ``url``


def _published(side: int, size: int, md5: str) -> PneumoniaMNIST:
    ending = "" if side == 28 else f"_{side}"
    return PneumoniaMNIST(
        key=f"pneumoniamnist-{side}",
        title=f"PneumoniaMNIST, {side} px",
        summary=(
            f"{sum(FILMS.values()):,} films of children aged 1 to 5 (Guangzhou), cut square and "
            f"shrunk to {side} x {side} px, with train, val and test as published. It names no "
            "patients: films of one child may stand in both train and val."
        ),
        licence="CC BY 4.0",
        citation=_CITATION,
        url=f"https://zenodo.org/records/10519652/files/pneumoniamnist{ending}.npz?download=1",
        bytes=size,
        needs=library.NETWORK,
        side=side,
        md5=md5,
    )


# Addresses and MD5 as in medmnist 3.0.2, medmnist/info.py; sizes as Zenodo's record 10519652 lists.
SIZES = (
    _published(28, 4_170_669, "28209eda62fecd6e6a2d98b1501bb15f"),
    _published(64, 20_606_998, "8f4eceb4ccffa70c672198ea285246c6"),
    _published(128, 75_506_212, "05b46931834c231683c68f40c47b2971"),
    _published(224, 214_384_716, "d6a3c71de1b945ea11211b03746c1fe1"),
)


def fetch(
    source: PneumoniaMNIST,
    *,
    progress: Progress = library.no_progress,
    cancelled: Cancelled = library.never,
    timeout: tuple[float, float] = TIMEOUT,
) -> Path:
    """Return the set's folder in the workspace, fetched now where it is not there yet.

    A file that arrived whole is kept until its films are written, so a stop in between costs no
    second download; of a part of a file nothing is kept.

    Args:
        source: which size.
        progress: called in the caller's thread with (bytes, bytes in all); they are equal while
            the films are written.
        cancelled: asked now and then; true ends the work.
        timeout: seconds to be connected, and between two pieces of the answer.

    Raises:
        FetchError: no network, a server that refuses, breaks off or falls silent, a file that is
            not the published one, or a full disk.
        FetchCancelledError: ``cancelled()`` was true.
    """

    def fill(folder: Path) -> None:
        library.require_space(
            3 * source.bytes, source.title
        )  # the file, a copy while it moves, films
        file = _download(source, progress, cancelled, timeout)
        _write(_films(file, source), folder, source, cancelled)
        file.unlink()

    return library.keep(source, source.key, f"md5:{source.md5}", fill)


class _Meter:
    """What pooch takes for a progress bar: counts, tells, and ends the download on request."""

    def __init__(self, source: PneumoniaMNIST, progress: Progress, cancelled: Cancelled) -> None:
        self.received = 0
        self._source, self._progress, self._cancelled = source, progress, cancelled

    @property
    def total(self) -> int:
        return self._source.bytes

    @total.setter
    def total(self, announced: int) -> None:
        if announced not in (0, self._source.bytes):  # 0: not announced
            raise FetchError(
                f"{_host(self._source)} answers with {in_words(announced)} where "
                f"{self._source.title} has {in_words(self._source.bytes)}. Perhaps a sign-in page "
                "of your network stands in between: open a browser, sign in and try again."
            )
        self.update(0)

    def update(self, count: int) -> None:
        library.stop_if(self._cancelled, self._source.title)
        self.received = min(self.received + count, self.total)
        self._progress(self.received, self.total)

    def reset(self) -> None:
        self.received = 0

    def close(self) -> None:
        """Part of the interface; there is nothing to close."""


def _download(
    source: PneumoniaMNIST, progress: Progress, cancelled: Cancelled, timeout: tuple[float, float]
) -> Path:
    import pooch  # slow to load, and no page opens with it
    import requests

    meter = _Meter(source, progress, cancelled)
    downloader = pooch.HTTPDownloader(
        progressbar=meter,
        chunk_size=_CHUNK,
        timeout=timeout,
        headers={"User-Agent": f"cxr-studio/{__version__}", "Accept-Encoding": "identity"},
    )
    pooch.get_logger().setLevel("WARNING")  # it would report each download on the terminal
    try:
        file = pooch.retrieve(
            source.url,
            known_hash=f"md5:{source.md5}",
            fname=f"{source.key}.npz",
            path=workspace.cache_folder() / "downloads",
            downloader=downloader,
        )
    except requests.RequestException as error:
        raise FetchError(_network_sentence(error, source, meter.received, timeout)) from error
    except ValueError as error:  # pooch's word for a hash that differs
        raise FetchError(
            f"{source.title} arrived, but is not the file that was published (its MD5 differs), so "
            "it was thrown away. Try again; if it happens twice, something on the way changes it."
        ) from error
    return Path(file)


def _network_sentence(
    error: "requests.RequestException",
    source: PneumoniaMNIST,
    received: int,
    timeout: tuple[float, float],
) -> str:
    import requests  # slow to load, and no page opens with it

    host = _host(source)
    if error.response is not None:
        code = error.response.status_code
        if code in (404, 410):
            return f"{host} no longer has {source.title} at {source.url} (HTTP {code})."
        if code in (429, 503):
            return f"{host} is too busy to send {source.title} (HTTP {code}). Try again in a while."
        return f"{host} refuses to send {source.title} (HTTP {code}). Try again later."
    if received:
        return (
            f"The download of {source.title} broke off after {in_words(received)} of "
            f"{in_words(source.bytes)}. Try again."
        )
    if isinstance(error, requests.exceptions.SSLError):
        return (
            f"The connection to {host} is not secure: its certificate is not trusted here. A proxy "
            "may stand in between; have its certificate installed (REQUESTS_CA_BUNDLE)."
        )
    if isinstance(error, requests.exceptions.ReadTimeout):
        return f"{host} did not answer within {timeout[1]:g} seconds. Try again later."
    return (
        f"{source.title} cannot be fetched: {host} cannot be reached. Check the network (behind a "
        "proxy, set HTTPS_PROXY). The built-in phantoms need no network."
    )


def _host(source: PneumoniaMNIST) -> str:
    return urlsplit(source.url).hostname or source.url


def _films(file: Path, source: PneumoniaMNIST) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield (part, label, uint8 film), one part of the set in memory at a time."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for part in FILMS:
                films, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"].reshape(-1)
                if films.dtype != np.uint8 or films.shape != (
                    len(labels),
                    source.side,
                    source.side,
                ):
                    raise ValueError(f"{part} has films of {films.dtype}, {films.shape}")
                for film, label in zip(films, labels.tolist(), strict=True):
                    yield part, LABELS[label], film
    except (KeyError, IndexError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FetchError(
            f"The file of {source.title} is not laid out as MedMNIST's are: {error}. Please report "
            "this; the other sizes may still work."
        ) from error


def _write(
    films: Iterator[tuple[str, str, np.ndarray]],
    folder: Path,
    source: PneumoniaMNIST,
    cancelled: Cancelled,
) -> None:
    (folder / "images").mkdir()
    with (folder / METADATA).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "label", "split"])
        for number, (part, label, film) in enumerate(films):
            library.stop_if(cancelled, source.title)
            path = f"images/{part}_{number:04d}.png"
            (folder / path).write_bytes(cv2.imencode(".png", film)[1].tobytes())
            table.writerow([path, label, part])
