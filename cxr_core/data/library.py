"""The data sets the app keeps itself: each whole or not there, with a record of its origin."""

import errno
import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cxr_core import workspace
from cxr_core.errors import FetchCancelledError, FetchError

NOT_REPORTED = "not reported"
NOTHING, NETWORK = "nothing", "a network"

Progress = Callable[[int, int], None]  # called with (bytes done, bytes in all)
Cancelled = Callable[[], bool]

_RECORD = ".source.json"  # hidden, so that no scan takes it for a part of the set
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set that can be had, and what one should know before it is fetched."""

    key: str  # no two sources share one
    title: str
    summary: str
    licence: str = NOT_REPORTED
    citation: str = NOT_REPORTED
    url: str = ""  # of the file that is fetched, or of the page that describes it
    bytes: int = 0  # of the download; 0 where unknown
    needs: str = NOTHING


@dataclass(frozen=True)
class LocalSet:
    """A set that lies in the workspace already; ``root`` opens it."""

    root: Path
    source: Source
    kept_since: str  # ISO 8601, UTC


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


def never() -> bool:
    """Say that nobody wants to stop."""
    return False


def stop_if(cancelled: Cancelled, title: str) -> None:
    """End a fetch that its user no longer wants.

    Raises:
        FetchCancelledError: ``cancelled()`` is true.
    """
    if cancelled():
        raise FetchCancelledError(
            f"You stopped before {title} was complete: no half-made set is left."
        )


def keep(source: Source, name: str, content: str, fill: Callable[[Path], None]) -> Path:
    """Return the folder of a set in the workspace, filled now where it is not there yet.

    A set of another content is never touched: the new one then gets a number after its name.

    Args:
        source: what the record will say.
        name: the folder's name, safe for any file system.
        content: what tells this set from another of the same name, such as a hash.
        fill: writes the set into the empty folder it is given; whatever it raises leaves nothing.

    Raises:
        FetchError: another process is at it, or the disk does not take the files.
    """
    shelf = workspace.data_folder()
    lock = FileLock(shelf / f"{name}.lock", timeout=0)
    try:
        with lock:
            folder = _place(shelf, name, content)
            if not folder.exists():
                _make(folder, source, content, fill)
            return folder
    except Timeout as error:
        raise FetchError(
            f"{source.title} is being fetched already, by another window or process. Wait for it "
            "to finish."
        ) from error


def origin(folder: Path) -> Source | None:
    """Return where a set in the workspace came from; None for any other folder."""
    record = _record(_top(folder))
    return record.source if record else None


def local_sets() -> list[LocalSet]:
    """Return the fetched and uploaded sets that lie in the workspace, the newest first."""
    records = [_record(folder) for folder in workspace.data_folder().iterdir() if folder.is_dir()]
    found = [record for record in records if record and not _unfinished(record.root)]
    return sorted(found, key=lambda local: local.kept_since, reverse=True)


def require_space(bytes_needed: int, title: str) -> None:
    """Check that the workspace's disk has room.

    Raises:
        FetchError: it has not.
    """
    folder = workspace.data_folder()
    free = shutil.disk_usage(folder).free
    if free < bytes_needed:
        raise FetchError(
            f"{title} needs {in_words(bytes_needed)} of disk space, and {folder} has "
            f"{in_words(free)} left. Make room, or move the workspace with CXR_HOME."
        )


def in_words(size: float) -> str:
    """Return a number of bytes as people read it: '4.2 MB'."""
    power = 0
    while size >= 999.5 and power < len(_UNITS) - 1:
        size /= 1000
        power += 1
    return (
        f"{size:.1f} {_UNITS[power]}" if power and size < 99.95 else f"{size:.0f} {_UNITS[power]}"
    )


def _place(shelf: Path, name: str, content: str) -> Path:
    """Return the folder that holds this content, else the first one that is free."""
    for number in itertools.count(1):
        folder = shelf / (name if number == 1 else f"{name}-{number}")
        if not folder.exists() or _read(folder).get("content") == content:
            return folder
    raise AssertionError("there are more numbers than folders")


def _make(folder: Path, source: Source, content: str, fill: Callable[[Path], None]) -> None:
    unfinished = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was ended
    try:
        unfinished.mkdir()
        fill(unfinished)
        about = {field.name: getattr(source, field.name) for field in fields(Source)}
        kept_since = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"content": content, "kept_since": kept_since, "source": about}
        (unfinished / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        unfinished.rename(folder)
    except OSError as error:
        mend = "Make room on the disk" if error.errno == errno.ENOSPC else "Check its permissions"
        raise FetchError(
            f"{source.title} cannot be written to {folder.parent}: {error.strerror or error}. "
            f"{mend}, or move the workspace with CXR_HOME."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unfinished(folder: Path) -> bool:
    return folder.name.endswith(".partial")


def _top(folder: Path) -> Path:
    """Return the set's own folder: a scan may have stepped into a folder inside it."""
    shelf, folder = workspace.data_folder(), folder.resolve()
    if folder == shelf or not folder.is_relative_to(shelf):
        return folder
    return shelf / folder.relative_to(shelf).parts[0]


def _record(folder: Path) -> LocalSet | None:
    """Return what the record in a folder of the workspace says, None where there is no sound one.

    A folder elsewhere is never believed: what lies in it is the user's, and so are its claims.
    """
    if folder.parent != workspace.data_folder():
        return None
    record = _read(folder)
    try:
        source = Source(**record["source"])
        kept_since = str(record["kept_since"])
    except (KeyError, TypeError):
        return None
    sound = all(type(value) is Source.__annotations__[k] for k, value in asdict(source).items())
    return LocalSet(folder, source, kept_since) if sound else None


def _read(folder: Path) -> dict:
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
