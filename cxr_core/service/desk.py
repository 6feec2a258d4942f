"""Where films are answered: each is made ready by a thread, and asked about in a batch."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from cxr_core.diagnosis import scoring
from cxr_core.diagnosis.scoring import Scored
from cxr_core.errors import CxrError
from cxr_core.service import pictures
from cxr_core.service.batching import Ask, Batcher
from cxr_core.service.limits import Rate, Room
from cxr_core.service.metrics import Metrics
from cxr_core.service.models import Model
from cxr_core.service.problems import ProblemError, failed
from cxr_core.service.settings import Settings
from cxr_core.service.uploads import Upload

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Predictor

_log = logging.getLogger("cxr_core.service")

_LOADING = 5  # seconds after which it is worth asking again whether the models are loaded


class Desk:
    """All that a service is made of; a context in whose event loop films are answered.

    Args:
        models: those that are served; the first is asked where a client names none.
        settings: what clients may send.
    """

    def __init__(self, models: Sequence[Model], settings: Settings) -> None:
        self.models = {model.name: model for model in models}
        self.default = models[0].name
        self.settings = settings
        self.rate = Rate(settings.rate)
        self.room = Room(settings.queue, settings.held_bytes)
        self.metrics = Metrics(self.room)
        self.state: Literal["loading", "ready", "failed"] = "loading"
        self.failure: CxrError | None = None
        self.on_failure: Callable[[], None] = lambda: None  # where a model cannot be loaded
        self._batchers: dict[str, Batcher] = {}
        self._predictors: dict[str, Predictor] = {}

    async def __aenter__(self) -> Self:
        self._readers = ThreadPoolExecutor(scoring.READERS, thread_name_prefix="films")
        self._loading = asyncio.create_task(self._load())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        await self._loading
        for batcher in self._batchers.values():
            await batcher.close()
        await asyncio.to_thread(self._readers.shutdown, cancel_futures=True)

    async def loaded(self) -> None:
        """Wait until the models are loaded, or one of them failed to."""
        await self._loading

    def model(self, name: str) -> Model:
        """Return a model.

        Raises:
            ProblemError: there is none of that name.
        """
        if name not in self.models:
            raise ProblemError(
                404,
                "There is no model of that name here. There are: " + ", ".join(self.models) + ".",
            )
        return self.models[name]

    def ready_model(self, name: str) -> Model:
        """Return a model that can be asked about films.

        Raises:
            ProblemError: there is none of that name, or it is not loaded.
        """
        model = self.model(name)
        if self.state != "ready":
            raise ProblemError(
                503,
                "The models are being loaded. Send this request again a little later.",
                retry_after=_LOADING,
            )
        return model

    async def outcome(self, upload: Upload, model: Model, ask: Ask) -> Scored:
        """Return what a model says of a file, or why it cannot be read.

        Args:
            upload: the file.
            model: a loaded one.
            ask: how it is asked.

        Raises:
            Exception: the network failed.
        """
        predictor, batcher = self._predictors[model.name], self._batchers[model.name]
        with batcher.coming():
            film = await asyncio.get_running_loop().run_in_executor(
                self._readers, scoring.prepared, predictor, upload.data, upload.name
            )
        path, version = Path(upload.name), scoring.version(model.info)
        if isinstance(film, str):
            self.metrics.films.labels(model.name, "unreadable").inc()
            return Scored(path, None, film, model=version)
        answer = await batcher.answer(film, ask)
        what = "answered" if answer.accepted else "forced" if answer.label else "refused"
        self.metrics.films.labels(model.name, what).inc()
        return Scored(path, answer, model=version)

    async def picture(self, upload: Upload, found: Scored) -> bytes:
        """Return a film with its heat map, as `pictures.png`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, pictures.png, upload, found
        )

    async def _load(self) -> None:
        """Load every model, one after another, and ask each once."""
        try:
            for model in self.models.values():
                predictor = await asyncio.to_thread(load, model.folder)
                self._predictors[model.name] = predictor
                self._batchers[model.name] = Batcher(
                    predictor,
                    most=self.settings.batch,
                    gather_seconds=self.settings.gather_ms / 1000,
                    told=self.metrics.batches.labels(model.name).observe,
                )
                _log.info("%s is loaded.", model.name)
        except Exception as error:
            self.state = "failed"
            self.failure = (
                error if isinstance(error, CxrError) else CxrError(str(failed(error).detail))
            )
            self.on_failure()
        else:
            self.state = "ready"
            _log.info("Ready.")


def load(folder: Path) -> "Predictor":
    """Load a model and ask it once, so that the first film does not wait for it."""
    from cxr_core.diagnosis.predictor import Predictor  # TensorFlow: a few seconds

    predictor = Predictor(folder)
    predictor.warm()
    return predictor
