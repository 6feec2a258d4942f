"""Films of many requests, asked about together: a network answers a batch faster than its films.

A film waits for others only while some are on their way, and no longer than a few milliseconds: who
comes alone is answered at once.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis, Predictor, Prepared

_log = logging.getLogger("cxr_core.service")


@dataclass(frozen=True)
class Ask:
    """How a film is asked about; films of one batch may differ in it."""

    force: bool = False  # answer where the gate refuses, too
    heatmap: bool = False
    target: str | None = None  # the class that the heat map is for; None: the likeliest finding


@dataclass(eq=False)
class _Waiting:
    film: "Prepared"
    ask: Ask
    answer: "asyncio.Future[Diagnosis]"


class Batcher:
    """Gathers films and asks a network about them; made and used in one event loop.

    Args:
        predictor: the model.
        most: films at once.
        gather_seconds: for how long a film waits for others on their way.
        told: is told the size of every batch.
    """

    def __init__(
        self,
        predictor: "Predictor",
        *,
        most: int,
        gather_seconds: float,
        told: Callable[[int], None] = lambda films: None,
    ) -> None:
        self._predictor = predictor
        self._most = most
        self._gather_seconds = gather_seconds
        self._told = told
        self._coming = 0
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()  # `limits.Room` bounds it
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._work = asyncio.create_task(self._run())

    @contextlib.contextmanager
    def coming(self) -> Iterator[None]:
        """Announce a film while it is made ready: a batch that is being gathered waits for it."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    async def answer(self, film: "Prepared", ask: Ask) -> "Diagnosis":
        """Return what the model says of a film, once its batch was asked.

        Whoever is cancelled meanwhile leaves the batch, and the others stay.

        Raises:
            Exception: what the network raised for this film.
        """
        answer: asyncio.Future[Diagnosis] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(film, ask, answer))
        return await answer

    async def close(self) -> None:
        """End; what is being asked is asked to the end, who still waits is told no more."""
        self._work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._work
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._gather_seconds):
                    while len(batch) < self._most and (self._coming or not self._queue.empty()):
                        batch.append(await self._queue.get())
            batch = [each for each in batch if not each.answer.done()]  # done: its client has gone
            if batch:
                await self._ask(batch)

    async def _ask(self, batch: Sequence[_Waiting]) -> None:
        """Ask about a batch, and give every film its own answer."""
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._thread, self._answers, batch)
        for each, answer in zip(batch, answers, strict=True):
            if each.answer.done():
                continue
            if isinstance(answer, Exception):
                each.answer.set_exception(answer)
            else:
                each.answer.set_result(answer)

    def _answers(self, batch: Sequence[_Waiting]) -> "list[Diagnosis | Exception]":
        """Ask the network, once for each way to ask; return the answers in the films' order."""
        found: dict[int, Diagnosis | Exception] = {}
        for ask in dict.fromkeys(each.ask for each in batch):
            places = [place for place, each in enumerate(batch) if each.ask == ask]
            answers = self._of([batch[place].film for place in places], ask)
            found |= dict(zip(places, answers, strict=True))
        return [found[place] for place in range(len(batch))]

    def _of(self, films: "list[Prepared]", ask: Ask) -> "list[Diagnosis | Exception]":
        self._told(len(films))
        try:
            return [
                *self._predictor.answer(
                    films, heatmap=ask.heatmap, target=ask.target, force=ask.force
                )
            ]
        except Exception as error:
            if len(films) == 1:
                return [error]
            # One by one, so that no film costs another its answer.
            _log.warning("A batch of %d films failed (%s).", len(films), type(error).__name__)
            return [answer for film in films for answer in self._of([film], ask)]
