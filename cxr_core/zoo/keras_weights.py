"""ImageNet weights that Keras publishes: found on this machine, else fetched once by its loader."""

import functools
import hashlib
import http.client
import os
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cxr_core.errors import TrainingError

_PATIENCE = 3.0  # seconds: a page waits for the answer
_REMEMBERED = 60.0  # seconds an answer holds: a page asks at every change of a form
_answers: dict[str, tuple[float, str]] = {}  # by address: when asked, what was in the way


@dataclass(frozen=True)
class WeightsFile:
    """A file that `keras.applications` starts a network from, without the ImageNet classes."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The file's name, at its source and in Keras's cache."""
        return self.url.rpartition("/")[2]

    @property
    def place(self) -> Path:
        """Where Keras keeps it, there or not."""
        return _keras_home() / "models" / self.name

    def find(self) -> Path:
        """Return its place if it is there whole, or can be fetched; needs no TensorFlow.

        Raises:
            TrainingError: it is not there, and its source cannot be reached from here.
        """
        place = self.place
        there = place.is_file()
        if there and self._is_whole():
            return place
        if trouble := _in_the_way(self.url):
            state = "is damaged" if there else "is not on this machine"
            raise TrainingError(
                f"The file of ImageNet weights {place} {state}, and its source cannot be reached: "
                f"{trouble}. It is fetched once, over a network: train once where there is one, or "
                f"fetch {self.url} elsewhere and put it there. Without it, set model.weights to "
                "'none', or model.architecture to efficientnet_lite0, whose weights are installed "
                "with the app."
            )
        return place

    def fetch(self) -> Path:
        """Return its place, after fetching it by Keras's own loader if it is not there whole.

        Raises:
            TrainingError: it could not be fetched; the text says why.
        """
        import keras

        try:
            # Keras goes elsewhere where there is no such folder yet.
            self.place.parent.mkdir(parents=True, exist_ok=True)
            file = keras.utils.get_file(
                self.name,
                self.url,
                file_hash=self.md5,
                cache_dir=str(_keras_home()),
                cache_subdir="models",
            )
        except Exception as error:  # Keras raises just that where a network fails
            raise TrainingError(
                f"The ImageNet weights {self.url} could not be fetched into {self.place.parent}: "
                f"{error} Try again, or set model.weights to 'none'."
            ) from error
        return Path(file)

    def _is_whole(self) -> bool:
        stat = self.place.stat()
        return _md5(self.place, stat.st_size, stat.st_mtime_ns) == self.md5


@functools.lru_cache
def _md5(file: Path, _size: int, _modified: int) -> str:
    """Return the file's MD5, as Keras lists it; its size and age tell a changed file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _keras_home() -> Path:
    """Return Keras's folder, by the rule of `keras.config`."""
    if "KERAS_HOME" in os.environ:
        return Path(os.environ["KERAS_HOME"]).expanduser()
    home = Path.home()
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"


def _in_the_way(url: str) -> str:
    """Say what keeps this machine from an address, "" if nothing does."""
    now = time.monotonic()
    asked, answer = _answers.get(url, (-_REMEMBERED, ""))
    if now - asked >= _REMEMBERED:
        answer = _ask(url)
        _answers[url] = (now, answer)
    return answer


def _ask(url: str) -> str:
    found = [f"no answer within {_PATIENCE:g} seconds"]

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=_PATIENCE).close()
            found.append("")
        except (OSError, http.client.HTTPException) as error:
            found.append(str(getattr(error, "reason", error)))  # without urllib's brackets

    # In a thread of its own, because no timeout holds while a name is looked up.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return found[-1]
