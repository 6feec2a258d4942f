"""Long work beside the page: a thread with progress and a way to stop it, watched by a fragment."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import streamlit as st

from cxr_core import workspace
from cxr_core.errors import CxrError
from cxr_core.ui import words

Result = TypeVar("Result")
EVERY = 0.5  # seconds between two looks at the work
_CHILD_POLL = 0.2  # seconds between two looks at a child process
_TOLD_AFTER = 3.0  # seconds before the pace says anything about the time left


class Task(Generic[Result]):
    """Work that goes on while the page is redrawn; it makes no call to Streamlit.

    ``work`` is given the task: it calls :meth:`tell` as it goes and asks :meth:`stopped`.
    """

    def __init__(self, work: Callable[["Task[Result]"], Result]) -> None:
        self._work = work
        self._stop, self._ended = threading.Event(), threading.Event()
        self._started = time.monotonic()
        self._now = ("Starting", 0, 0)
        self._result: list[Result] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def tell(self, step: str, done: int, total: int) -> None:
        """Say how far the work is; ``total`` is 0 where that is not known."""
        self._now = (step, done, total)

    def stop(self) -> None:
        """Ask the work to end."""
        self._stop.set()

    def stopped(self) -> bool:
        """Return whether somebody asked the work to end."""
        return self._stop.is_set()

    def ended(self, patience: float = 0.0) -> bool:
        """Return whether the work has ended, having waited for that up to ``patience`` seconds."""
        return self._ended.wait(patience)

    def result(self) -> Result:
        """Return what came of the work, once it has ended; raises what the work raised."""
        if self._error is not None:
            raise self._error
        return self._result[0]

    @property
    def seconds(self) -> float:
        """Return how long the work has been going on."""
        return time.monotonic() - self._started

    def progress(self) -> tuple[float | None, str, int, int, float | None]:
        """Return the share done, the step in words, done, total, and the seconds left."""
        step, done, total = self._now
        if not total:
            return None, step, done, total, None
        share = min(1.0, done / total)
        spent = self.seconds
        left = spent / share - spent if share and spent > _TOLD_AFTER else None
        return share, step, done, total, left

    def _run(self) -> None:
        try:
            self._result.append(self._work(self))
        except BaseException as error:  # the watcher decides what it is
            self._error = error
        finally:
            self._ended.set()


def in_a_process(task: Task[Any], *command: str) -> str:
    """Run a module of this package in a process of its own, without a GPU; return what it says.

    For what needs TensorFlow and is done once: it never leaves the process that imported it.

    Args:
        task: ends the process where it is asked to stop.
        command: the module and its arguments.

    Raises:
        CxrError: it failed; the text is its last line, which says why.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(workspace.REPOSITORY),
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "10000",  # no sentence is broken over lines
    }
    with subprocess.Popen(
        [sys.executable, "-P", "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        while True:
            try:
                said, complained = child.communicate(timeout=_CHILD_POLL)
                break
            except subprocess.TimeoutExpired:
                if task.stopped():
                    child.kill()
    if child.returncode:
        lines = complained.strip().splitlines()
        raise CxrError(lines[-1] if lines else "The process ended and nothing was said of why.")
    return said


@st.fragment(run_every=EVERY)
def watch(task: Task[Result], amount: Callable[[int, int], str], key: str, stop: str = "") -> None:
    """Draw how far a task is, and redraw the whole page once it has ended.

    Args:
        task: the work.
        amount: writes (done, total) in the unit of the work.
        key: tells this task's button from another's.
        stop: the label of the button that ends the work; none where empty.
    """
    if task.ended():
        st.rerun()
    share, step, done, total, left = task.progress()
    counted = f": {amount(done, total)}" if done or total else ""
    rest = f", {words.estimate(left)} left" if left is not None else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(share or 0.0, text=f"{step}{counted}{rest}")
        if stop:
            st.button(stop, key=f"stop:{key}", on_click=task.stop, disabled=task.stopped())
