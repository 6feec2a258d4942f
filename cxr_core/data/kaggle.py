"""Data sets from Kaggle by handle, through kagglehub in a child process that can be stopped."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxr_core import workspace
from cxr_core.data import library
from cxr_core.data.library import NOT_REPORTED, Cancelled, Progress, Source, in_words
from cxr_core.errors import FetchError

PATIENCE = 60.0  # seconds without a byte after which Kaggle is given up
NEEDS = "a network, and a Kaggle token where Kaggle asks for one"

_LOOK = 0.2  # seconds between two looks at the child
_HANDLE = re.compile(r"[A-Za-z0-9][\w-]*/[A-Za-z0-9][\w-]*(?:/versions/\d+)?", re.ASCII)
_PAGE = "https://www.kaggle.com/datasets/"


@dataclass(frozen=True, kw_only=True)
class KaggleSet(Source):
    """A data set on Kaggle."""

    handle: str  # owner/name, with /versions/N for another than the newest


# Sizes and licences: the first as its archive on Kaggle and Mendeley's page; the second's page
# gathers films of several origins and names none, so no licence is claimed for them.
KNOWN = (
    KaggleSet(
        key="kaggle:paultimothymooney/chest-xray-pneumonia",
        title="Chest X-Ray Images (Pneumonia), Kaggle",
        summary=(
            "5,856 films of children aged 1 to 5 (Guangzhou) at their original size, NORMAL and "
            "PNEUMONIA, with train, val and test; val has 16 films. Patients are in the file names."
        ),
        licence="CC BY 4.0",
        citation="Kermany D, Zhang K, Goldbaum M. Labeled Optical Coherence Tomography (OCT) and "
        "Chest X-Ray Images for Classification. Mendeley Data v2, 2018. "
        "doi:10.17632/rscbjbr9sj.2",
        url=f"{_PAGE}paultimothymooney/chest-xray-pneumonia",
        bytes=2_463_365_435,
        needs=NEEDS,
        handle="paultimothymooney/chest-xray-pneumonia",
    ),
    KaggleSet(
        key="kaggle:muhammadrehan00/chest-xray-dataset",
        title="Chest X-Ray Dataset (normal, pneumonia, tuberculosis), Kaggle",
        summary=(
            "About 25,500 films gathered from several public sets, with train, val and test. "
            "Known to hold twins under different labels, and hospital and age go with the class: "
            "read its audit before you train on it."
        ),
        citation=f"Chest X-Ray Dataset. Kaggle, {_PAGE}muhammadrehan00/chest-xray-dataset",
        url=f"{_PAGE}muhammadrehan00/chest-xray-dataset",
        needs=NEEDS,
        handle="muhammadrehan00/chest-xray-dataset",
    ),
)


def describe(
    handle: str, *, cancelled: Cancelled = library.never, patience: float = PATIENCE
) -> KaggleSet:
    """Ask Kaggle for a set's title, licence and size, as they should be seen before the download.

    Args:
        handle: owner/name, as in the address of the set's page; the whole address will do.
        cancelled: asked now and then; true ends the question.
        patience: seconds without an answer after which Kaggle is given up.

    Raises:
        FetchError: no such handle, no network, or a token is missing; the text says which.
        FetchCancelledError: ``cancelled()`` was true.
    """
    handle = _checked(handle)
    asked_at = time.monotonic()

    def watch() -> None:
        library.stop_if(cancelled, handle)
        if time.monotonic() - asked_at > patience:
            raise FetchError(_silent(handle, patience))

    told = _ask("describe", handle, watch)
    base = next((known for known in KNOWN if known.handle == handle), None)
    title = str(told["title"] or handle)
    return KaggleSet(
        key=f"kaggle:{handle}",
        title=base.title if base else title,
        summary=base.summary if base else f"The set {handle} on Kaggle.",
        licence=_licence(base, str(told["licence"] or "")),
        citation=base.citation if base else f"{title}. Kaggle, {_PAGE}{handle}",
        url=f"{_PAGE}{handle}",
        bytes=int(str(told["bytes"] or 0)) or (base.bytes if base else 0),
        needs=NEEDS,
        handle=handle,
    )


def fetch(
    source: KaggleSet,
    *,
    progress: Progress = library.no_progress,
    cancelled: Cancelled = library.never,
    patience: float = PATIENCE,
) -> Path:
    """Return the set's folder in the workspace, fetched now where it is not there yet.

    A download that was stopped or broke off goes on where it ended when it is started again:
    kagglehub compares the whole with Kaggle's checksum, and begins anew where they differ.

    Args:
        source: from ``KNOWN`` or :func:`describe`.
        progress: called in the caller's thread with (bytes, bytes in all); the latter is 0 where
            unknown, and they are equal while the archive is unpacked.
        cancelled: asked now and then; true ends the work.
        patience: seconds without a byte after which Kaggle is given up.

    Raises:
        FetchError: no such handle, no network, a token that is missing or refused, a download that
            breaks off or stands still, or a full disk.
        FetchCancelledError: ``cancelled()`` was true.
    """
    handle = _checked(source.handle)
    arriving = _cache().joinpath("datasets", *handle.split("/")[:2])

    def fill(folder: Path) -> None:
        library.require_space(round(2.2 * source.bytes), source.title)  # archive and films
        shutil.rmtree(arriving / "versions", ignore_errors=True)  # half unpacked, if anything
        watch = _Watch(source, arriving, progress, cancelled, patience)
        answer = _ask("download", handle, watch.look, watch.received)
        for entry in Path(str(answer["folder"])).iterdir():
            entry.rename(folder / entry.name)
        shutil.rmtree(arriving, ignore_errors=True)  # kagglehub's notes on what it holds

    name = "kaggle-" + re.sub(r"[^A-Za-z0-9_-]+", "-", handle)
    return library.keep(source, name, f"kaggle:{handle}", fill)


class _Watch:
    """Follows a download from outside, by the archive that grows on the disk."""

    def __init__(
        self,
        source: KaggleSet,
        arriving: Path,
        progress: Progress,
        cancelled: Cancelled,
        patience: float,
    ) -> None:
        self._source, self._arriving = source, arriving
        self._progress, self._cancelled, self._patience = progress, cancelled, patience
        self._size, self._grew_at = 0, time.monotonic()

    def look(self) -> None:
        """Tell how far it is; end it where nobody wants it or nothing comes."""
        library.stop_if(self._cancelled, self._source.title)
        size, now = self.received(), time.monotonic()
        if size != self._size:
            self._size, self._grew_at = size, now
        total = self._source.bytes
        if size and (self._arriving / "versions").exists():  # it is being unpacked
            self._grew_at = now
            size = total = max(size, total)
        self._progress(min(size, total) if total else size, total)
        if now - self._grew_at > self._patience:
            raise FetchError(_silent(self._source.handle, self._patience, self._size))

    def received(self) -> int:
        """Return how many bytes of the archive are on the disk."""
        try:
            return max(
                (file.stat().st_size for file in self._arriving.glob("*.archive")), default=0
            )
        except OSError:  # removed between the two looks
            return self._size


def _checked(handle: str) -> str:
    handle = handle.strip().removeprefix(_PAGE).strip("/")
    if not _HANDLE.fullmatch(handle):
        raise FetchError(
            f"'{handle}' is no Kaggle handle. It is owner/name, as in the address of the set's "
            f"page: {_PAGE}owner/name."
        )
    return handle


def _licence(base: KaggleSet | None, told: str) -> str:
    """Return what is known of the licence; Kaggle's 'Other' and 'Unknown' tell nothing."""
    if base and base.licence != NOT_REPORTED:
        return base.licence
    return told if told and not told.lower().startswith(("other", "unknown")) else NOT_REPORTED


def _cache() -> Path:
    return workspace.cache_folder() / "downloads" / "kaggle"


def _ask(
    task: str, handle: str, watch: Callable[[], None], received: Callable[[], int] = lambda: 0
) -> dict[str, object]:
    """Have the child do a task, calling ``watch`` meanwhile; what it raises ends the child."""
    with subprocess.Popen(
        # -P: a file called requests.py in the user's folder is not what is meant.
        [sys.executable, "-P", "-m", "cxr_core.data.kaggle_client", task, handle],
        stdin=subprocess.PIPE,  # never written to: its end tells the child that this process ended
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_environment(),
    ) as child:
        try:
            while not _ended(child):
                watch()
        finally:
            child.kill()
        output = child.stdout.read() if child.stdout else ""
    try:
        answer: dict[str, object] = json.loads(output.strip().rpartition("\n")[2])
    except ValueError as error:
        raise FetchError(
            f"{handle} cannot be fetched: the program that talks to Kaggle ended without an "
            "answer. Check that kagglehub is installed: pip install -r requirements.txt."
        ) from error
    if "error" in answer:
        raise FetchError(_sentence(handle, answer, received()))
    return answer


def _ended(child: subprocess.Popen[str]) -> bool:
    try:
        child.wait(_LOOK)
    except subprocess.TimeoutExpired:
        return False
    return True


def _environment() -> dict[str, str]:
    paths = [str(workspace.REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "KAGGLEHUB_CACHE": str(_cache()),
        "KAGGLEHUB_VERBOSITY": "error",
    }


def _sentence(handle: str, answer: dict[str, object], received: int) -> str:
    detail = answer.get("detail")
    match answer["error"], answer.get("status"):
        case "http", 401 | 403:
            return _refused(handle, bool(answer.get("token")))
        case "http", 404:
            return (
                f"Kaggle has no data set {handle}. Compare it with the address of the set's page."
            )
        case "http", 429:
            return f"Kaggle has had too many questions from here (HTTP 429). Fetch {handle} later."
        case "http", status:
            return f"Kaggle cannot send {handle} now (HTTP {status}). Try again later."
        case "certificate", _:
            return (
                "The connection to Kaggle is not secure: its certificate is not trusted here. A "
                "proxy may stand in between; have its certificate installed (REQUESTS_CA_BUNDLE)."
            )
        case "network", _ if received:
            return (
                f"The download of {handle} broke off after {in_words(received)}. Fetch it again: "
                "it goes on from there."
            )
        case "network", _:
            return (
                f"{handle} cannot be fetched: Kaggle cannot be reached. Check the network (behind "
                "a proxy, set HTTPS_PROXY)."
            )
        case "damaged", _:
            return f"{handle} arrived damaged and was thrown away. Fetch it again."
        case "disk", _:
            return f"{handle} cannot be written to {_cache()}: {detail}. Make room and try again."
    return f"{handle} cannot be fetched through kagglehub: {detail}."


def _refused(handle: str, token: bool) -> str:
    if token:
        return (
            f"Kaggle refuses {handle} to the token found on this machine. Open {_PAGE}{handle}, "
            "accept its terms if it has any, and check that the name is right and the token valid."
        )
    return (
        f"Kaggle does not give {handle} to the unnamed: check the name, or create a token at "
        "kaggle.com > Settings > API, save it as ~/.kaggle/access_token (or set KAGGLE_API_TOKEN) "
        "and try again."
    )


def _silent(handle: str, patience: float, received: int = 0) -> str:
    after = f" after {in_words(received)}" if received else ""
    kept = " What has arrived is kept." if received else ""
    return (
        f"Kaggle fell silent{after}: nothing of {handle} in {patience:g} seconds. Try again.{kept}"
    )
