"""What bounds the service: requests a client, films and bytes at a time."""

import math
import time
from types import TracebackType
from typing import Self

from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from cxr_core.service.problems import ProblemError

_SOON = 1  # seconds after which a place in the queue may be free: it holds a few seconds' work


class Rate:
    """How many requests each client may send: a window that moves along with time.

    Args:
        limits: such as "600/minute", or several with semicolons, as the library of that name
            reads them.
    """

    def __init__(self, limits: str) -> None:
        self._limits = parse_many(limits)
        self._seen = MovingWindowRateLimiter(MemoryStorage())

    def count(self, client: str) -> None:
        """Count a request.

        Raises:
            ProblemError: the client has sent too many; it says when the next one may come.
        """
        for limit in self._limits:
            if self._seen.hit(limit, client):
                continue
            reset = self._seen.get_window_stats(limit, client).reset_time
            raise ProblemError(
                429,
                f"More than {limit} came from this address. Wait as long as Retry-After says.",
                limit="rate",
                retry_after=max(1, math.ceil(reset - time.time())),
            )


class Room:
    """The films and bytes that the service holds at a time; for the event loop's thread alone.

    Args:
        films: that are taken in and not answered yet.
        held_bytes: of their files, and of what is still arriving.
    """

    def __init__(self, films: int, held_bytes: int) -> None:
        self.most_films, self.most_bytes = films, held_bytes
        self.films = 0
        self.bytes = 0

    def take(self) -> "Place":
        """Return a request's share, empty as yet; a context that gives back what it took.

        Raises:
            ProblemError: there is no room for a film, so that none needs to be read.
        """
        if self.films >= self.most_films:
            raise _full("queue")
        return Place(self)


class Place:
    """What one request takes of a `Room`."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._films = 0
        self._bytes = 0

    def add_bytes(self, count: int) -> None:
        """Take room for bytes that arrived.

        Raises:
            ProblemError: there is none.
        """
        if self._room.bytes + count > self._room.most_bytes:
            raise _full("held_bytes")
        self._bytes += count
        self._room.bytes += count

    def add_films(self, count: int) -> None:
        """Take room for films to be answered.

        Raises:
            ProblemError: there is none.
        """
        if self._room.films + count > self._room.most_films:
            raise _full("queue")
        self._films += count
        self._room.films += count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._room.films -= self._films
        self._room.bytes -= self._bytes
        self._films = self._bytes = 0


def _full(limit: str) -> ProblemError:
    return ProblemError(
        503,
        "The service has as many films as it can hold. Send this request again a little later.",
        limit=limit,
        retry_after=_SOON,
    )
