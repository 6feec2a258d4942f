"""A run's checkpoint in the run store: what it goes on from on another machine.

A thread of its own copies there what the run keeps in its workspace, the newest of each file, as
often as that costs little. Of each file two versions take turns, and a tag of the run says which is
whole: a machine that is lost in the midst of a copy leaves the one before. A run thus fills twice
its checkpoint in the store while it trains, and nothing once it has ended well.
"""

import hashlib
import json
import logging
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cxr_core import workspace
from cxr_core.errors import TrainingError
from cxr_core.training.tracking import TAG_CHECKPOINT, RunRecord, RunStore
from cxr_core.training.writer import RunCancelled, RunTaken

_log = logging.getLogger(__name__)

FOLDER = "checkpoint"  # among the run's artefacts
_LOOK = 1.0  # seconds between two looks at the workspace
_PACE = 20.0  # times as long as a copy took, before the next: it takes a twentieth of the network
_LOG_EVERY = 30.0  # seconds between two copies of the log
_TURNS = ("a", "b")  # folders of the two versions


@dataclass(frozen=True)
class _Entry:
    """The version of a file that is whole in the store."""

    turn: str
    size: int  # bytes
    sha256: str


class Keeper:
    """Copies a run's checkpoint and log to the run store while the context lasts.

    Args:
        store: where the run is kept.
        record: the run as it is now.
        log: the worker's log.
    """

    def __init__(self, store: RunStore, record: RunRecord, log: Path) -> None:
        self._store, self._run_id, self._log = store, record.run_id, log
        self._entries = dict(_entries(record))
        self._seen: dict[str, tuple[int, int]] = {}  # of each file as it was copied
        self._copied_at, self._took = -math.inf, 0.0  # seconds
        self._logged_at, self._log_size = time.monotonic(), -1
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="checkpoint-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Copy the last state where the run failed: it may be resumed elsewhere."""
        self._closed.set()
        self._thread.join()
        if kind is None or issubclass(kind, RunCancelled | RunTaken):
            return
        try:
            self.copy_new()
        except Exception:
            _log.exception("The last checkpoint could not be kept in the run store.")

    def copy_new(self) -> None:
        """Copy what is new in the run's workspace."""
        for name, file in _files(workspace.checkpoint_folder(self._run_id)):
            with tempfile.TemporaryDirectory(dir=workspace.run_folder(self._run_id)) as scratch:
                still = Path(scratch) / file.name
                # The next state takes the file's name while this one is on its way.
                still.hardlink_to(file)
                mark = (still.stat().st_mtime_ns, still.stat().st_size)
                if self._seen.get(name) == mark:
                    continue
                began = time.monotonic()
                self._copy(name, still)
                self._seen[name] = mark
                self._copied_at = time.monotonic()
                self._took = self._copied_at - began

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK):
            try:
                if time.monotonic() - self._copied_at >= _PACE * self._took:
                    self.copy_new()
                self._copy_log()
            except Exception:
                # Training goes on; what a lost machine would cost is some epochs more.
                _log.exception("The checkpoint could not be kept in the run store; trying again.")

    def _copy(self, name: str, file: Path) -> None:
        size, sha256 = file.stat().st_size, _sha256(file)
        before = self._entries.get(name)
        if before is not None and (before.size, before.sha256) == (size, sha256):
            return
        turn = _TURNS[0] if before is None or before.turn == _TURNS[1] else _TURNS[1]
        entry = _Entry(turn, size, sha256)
        self._store.write_file(self._run_id, file, str(Path(FOLDER, turn, name).parent))
        self._entries[name] = entry
        told = {name: [e.turn, e.size, e.sha256] for name, e in self._entries.items()}
        self._store.set_tags(self._run_id, {TAG_CHECKPOINT: json.dumps(told)})

    def _copy_log(self) -> None:
        now = time.monotonic()
        if now - self._logged_at < _LOG_EVERY or not self._log.is_file():
            return
        size = self._log.stat().st_size
        if size != self._log_size:
            self._store.write_file(self._run_id, self._log)
        self._logged_at, self._log_size = now, size


def fetch(record: RunRecord, store: RunStore) -> None:
    """Bring a run's checkpoint from the store to this workspace, where it has none of its own.

    Raises:
        TrainingError: what the store has is damaged.
        StoreAwayError: the store does not answer.
    """
    folder = workspace.checkpoint_folder(record.run_id)
    if any(True for _ in _files(folder)):
        return
    for name, entry in _entries(record).items():
        if Path(name).is_absolute() or ".." in Path(name).parts:  # a server's word
            raise TrainingError(f"Run {record.run_id} names a file that is not its own: {name}.")
        kept = store.path(record.run_id, f"{FOLDER}/{entry.turn}/{name}")
        part = folder / f"{name}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, part)
        if part.stat().st_size != entry.size or _sha256(part) != entry.sha256:
            part.unlink()
            raise TrainingError(
                f"The checkpoint that run {record.run_id} kept in the run store is damaged "
                f"({FOLDER}/{entry.turn}/{name}), so it cannot go on from it. Start it anew with "
                "'repeat'."
            )
        part.replace(folder / name)


def drop(record: RunRecord, store: RunStore) -> None:
    """Free what a run kept in the store to go on from; what cannot be removed is only logged."""
    if not record.tags.get(TAG_CHECKPOINT):
        return
    try:
        store.set_tags(record.run_id, {TAG_CHECKPOINT: ""})
        store.remove(record.run_id, FOLDER)
    except Exception:
        _log.exception("The checkpoint of run %s stays in the run store.", record.run_id)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the whole files in a folder with their names below it, in order."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix != ".part":
            yield file.relative_to(folder).as_posix(), file


def _entries(record: RunRecord) -> Mapping[str, _Entry]:
    told = json.loads(record.tags.get(TAG_CHECKPOINT) or "{}")
    return {name: _Entry(*entry) for name, entry in told.items()}


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
