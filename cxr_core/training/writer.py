"""One run as its trainer sees it: curves and files go out, requests come in, training never waits.

Metric points are put in a list and written by a thread of their own about once a second, together
with a look for requests, so the store's speed (a disk, a server far away) is not the trainer's.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from cxr_core.errors import CxrError, StoreAwayError
from cxr_core.training.tracking import (
    TAG_NOTES,
    TAG_PHASE,
    TAG_PROGRESS,
    TAG_RECIPE,
    TAG_SEEN_AT,
    TAG_WORKER,
    Request,
    RunRecord,
    RunStore,
)

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
_INTERVAL = 1.0  # seconds between two visits to the store
_SIGN_OF_LIFE = 30.0  # seconds between two signs of life
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0)  # seconds between tries at a store that does not answer


class RunCancelled(Exception):  # noqa: N818 - nothing went wrong
    """Somebody asked the run to end and keep nothing."""


class RunTaken(Exception):  # noqa: N818 - nothing went wrong with the run
    """The run was taken from this worker, which was held for dead: it is another's now."""


@dataclass(frozen=True)
class Unsent:
    """What a run recorded that may not have reached its store."""

    points: tuple[tuple[str, int, float, float], ...] = ()  # as `RunStore.log_points` takes them
    files: tuple[tuple[str, bytes], ...] = ()  # name and content


class RunWriter:
    """Writes to one run and listens for requests to it; use it as a context.

    Args:
        store: where the run is kept.
        run_id: which run.
    """

    def __init__(self, store: RunStore, run_id: str) -> None:
        self.run_id = run_id
        record = patiently(lambda: store.get(run_id))
        self.name = record.name
        self.recipe = record.tags.get(TAG_RECIPE, "")  # "" where it came from none
        self.untested = record.untested  # a trial of a sweep: the training alone is wanted
        self.recorded = record.params  # what an earlier worker recorded, where the run was resumed
        self._store = store
        self._worker, self._taken = _process(record), False
        self._request: Request | None = None
        self._points: list[tuple[str, int, float, float]] = []
        self._files: list[tuple[str, bytes]] = []
        self._phase = self._progress = self._written_progress = ""
        # What an earlier worker told of a run that was resumed is no less true now.
        self._notes = record.tags.get(TAG_NOTES, "").splitlines()
        self._lock = threading.Lock()  # for points and files
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._visit_store, name="run-writer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._thread.join()
        if kind is RunTaken:
            return
        try:
            patiently(self._flush)
        except Exception:
            # The model and its results are kept already, or the run failed for another reason.
            _log.exception("The last points could not be written.")

    @property
    def request(self) -> Request | None:
        """What somebody asked of the run, as of about a second ago."""
        return self._request

    def obey(self) -> None:
        """End here if the run is to be cancelled.

        Raises:
            RunCancelled: somebody asked for it.
            RunTaken: another worker has it: this one was silent for so long that it was held for
                dead. It leaves the run as it is.
        """
        if self._taken:
            raise RunTaken
        if self._request == "cancel":
            raise RunCancelled

    def phase(self, words: str) -> None:
        """Record what the trainer does now, if it is new; a cancelled run ends here."""
        self.obey()
        if words == self._phase:
            return
        _log.info("Now %s.", words)
        self._phase = words
        self._progress = self._written_progress = ""
        self.tags({TAG_PHASE: words, TAG_PROGRESS: ""})

    def progress(self, done: int, total: int) -> None:
        """Record how many films the phase is through with; costs nothing. Cancels as `phase`."""
        self.obey()
        self._progress = f"{done} of {total} films"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was told of the run's data and weights so far, a sentence each."""
        return tuple(self._notes)

    def note(self, *sentences: str) -> None:
        """Tell whoever reads the run what was done to its data or its weights, each thing once."""
        for sentence in sentences:
            _log.info(sentence)
            if sentence not in self._notes:
                self._notes.append(sentence)
        self.tags({TAG_NOTES: "\n".join(self._notes)})

    def points(self, metrics: Mapping[str, float], step: int) -> None:
        """Record several metrics of one step; they reach the store within about a second."""
        now = time.time()
        with self._lock:
            self._points += [(name, step, value, now) for name, value in metrics.items()]

    def params(self, params: Mapping[str, object]) -> None:
        """Record facts that never change during the run, however often it is resumed."""
        patiently(lambda: self._store.log_params(self.run_id, params))

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set several tags of the run."""
        patiently(lambda: self._store.set_tags(self.run_id, tags))

    def later(self, name: str, content: bytes) -> None:
        """Keep a small file as an artefact ("folder/file") within about a second, at no wait."""
        with self._lock:
            self._files.append((name, content))

    @property
    def unsent(self) -> Unsent:
        """What is still on its way to the store: lost if the process were killed now."""
        with self._lock:
            return Unsent(tuple(self._points), tuple(self._files))

    def send_again(self, unsent: Unsent) -> None:
        """Record what an earlier worker may not have come to; what did arrive is not doubled."""
        with self._lock:
            self._points += unsent.points
            self._files += unsent.files

    def file(self, local: Path) -> None:
        """Keep a local file or folder as an artefact, under its own name."""
        patiently(lambda: self._store.write_file(self.run_id, local))

    def text(self, name: str, text: str) -> None:
        """Keep a text as an artefact."""
        patiently(lambda: self._store.write_text(self.run_id, name, text))

    def _visit_store(self) -> None:
        seen_at = 0.0
        while not self._closed.wait(_INTERVAL):
            try:
                record = self._store.get(self.run_id)
                self._request = record.request
                self._taken = _process(record) != self._worker
                if self._taken:
                    return  # nothing more is written
                self._flush()
                if time.time() - seen_at >= _SIGN_OF_LIFE:
                    seen_at = time.time()
                    self._store.set_tags(self.run_id, {TAG_SEEN_AT: f"{seen_at:.0f}"})
            except Exception:
                # A store that is away for a moment must not end a training of hours.
                _log.exception("The run store did not answer; trying again.")

    def _flush(self) -> None:
        with self._lock:
            points = self._points.copy()
        if points:
            self._store.log_points(self.run_id, points)
            with self._lock:
                del self._points[: len(points)]
        while self._files:
            self._write(*self._files[0])
            with self._lock:
                del self._files[0]
        progress = self._progress
        if progress != self._written_progress:
            self._store.set_tags(self.run_id, {TAG_PROGRESS: progress})
            self._written_progress = progress

    def _write(self, name: str, content: bytes) -> None:
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / file
            local.write_bytes(content)
            self._store.write_file(self.run_id, local, folder or None)


def _process(record: RunRecord) -> list[str]:
    """Return host and number of a run's worker; its start time moves when the clock is set."""
    return record.tags.get(TAG_WORKER, "").split()[:2]


def patiently(call: Callable[[], Answer]) -> Answer:
    """Do something with the store, again if it fails, and return what comes of it: one that is away
    for half a minute, as while its server restarts, must not cost a training of hours.

    Raises:
        CxrError: at once; trying again would not change it.
        Exception: whatever the last try raised.
    """
    for pause in _PAUSES:
        try:
            return call()
        except Exception as error:
            if isinstance(error, CxrError) and not isinstance(error, StoreAwayError):
                raise
            _log.exception("The run store did not answer; trying again in %g s.", pause)
            time.sleep(pause)
    return call()
