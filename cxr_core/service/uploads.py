"""A request's files: read as they arrive, counted as they are read, held in memory alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from cxr_core.service.limits import Place, Room
from cxr_core.service.problems import ProblemError
from cxr_core.service.settings import Settings

T = TypeVar("T")

FIELD = "files"
_CURL = f"curl -F {FIELD}=@film.png"


@dataclass(frozen=True, eq=False)
class Upload:
    """One file as it came."""

    name: str  # as the client gave it
    data: bytes


@asynccontextmanager
async def received(request: Request, settings: Settings, room: Room) -> AsyncIterator[list[Upload]]:
    """Read the files of a request, and hold room for them while the context lasts.

    Args:
        request: its body is not read yet.
        settings: what it may send.
        room: what there is room for.

    Raises:
        ProblemError: it sends too much, for too long, or something else.
        ClientDisconnect: it stops sending.
    """
    with room.take() as place:
        try:
            async with asyncio.timeout(settings.upload_seconds):
                uploads = await _read(request, settings, place)
        except TimeoutError:
            raise ProblemError(
                408,
                f"The films did not arrive within {settings.upload_seconds:g} seconds. Send fewer, "
                "or smaller ones, at a time.",
                limit="upload_seconds",
            ) from None
        place.add_films(len(uploads))
        yield uploads


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Return what comes of some work, which is given up once its client has gone.

    Args:
        request: its body is read.
        work: what the client waits for.

    Raises:
        ClientDisconnect: the client has gone.
    """
    doing = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((doing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        doing.cancel()
        leaving.cancel()
        await asyncio.gather(doing, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read(request: Request, settings: Settings, place: Place) -> list[Upload]:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ProblemError(
            415,
            f"Send the films as multipart/form-data with a boundary, as browsers and '{_CURL}' do.",
        )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > settings.request_bytes:
        raise _too_large(settings)
    form = _Form(settings)
    arrived = 0
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_headers_finished": form.headers_end,
                "on_part_data": form.data,
                "on_part_end": form.end,
                "on_end": form.close,
            },
        )
        async for chunk in request.stream():
            arrived += len(chunk)
            if arrived > settings.request_bytes:
                raise _too_large(settings)
            place.add_bytes(len(chunk))
            parser.write(chunk)
        parser.finalize()
    except FormParserError:  # its words may hold what the client sent
        raise _damaged() from None
    if not form.whole:
        raise _damaged()
    if not form.uploads:
        raise ProblemError(
            422, f"The request holds no film. Send one or several as '{FIELD}': {_CURL}."
        )
    return form.uploads


def _damaged() -> ProblemError:
    return ProblemError(400, f"The form is cut off or damaged. Send it as '{_CURL}' does.")


def _too_large(settings: Settings) -> ProblemError:
    return ProblemError(
        413,
        f"A request may hold {settings.request_bytes:,} bytes. Send fewer films at a time.",
        limit="request_bytes",
    )


@dataclass
class _Form:
    """Collects the files of a form; refuses the byte or the file that is one too many."""

    settings: Settings
    uploads: list[Upload] = field(default_factory=list)
    whole: bool = False  # whether its end has come
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _name: bytearray = field(default_factory=bytearray)  # of the header that is being read
    _value: bytearray = field(default_factory=bytearray)
    _file: str | None = None  # the name of the file that is being read
    _data: bytearray = field(default_factory=bytearray)

    def begin(self) -> None:
        self._headers, self._data, self._file = {}, bytearray(), None

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if options.get(b"name") != FIELD.encode():
            raise ProblemError(
                422, f"A field of the form is not called '{FIELD}'. Send all films as that."
            )
        if b"filename" not in options:
            raise ProblemError(
                422, f"A field '{FIELD}' has no file name, so it is no file. Try {_CURL}."
            )
        self._file = _text(options[b"filename"])
        if len(self.uploads) == self.settings.files:
            raise ProblemError(
                413,
                f"A request may hold {self.settings.files} films. Send the others in another one.",
                limit="files",
            )

    def data(self, data: bytes, start: int, end: int) -> None:
        if len(self._data) + end - start > self.settings.file_bytes:
            raise ProblemError(
                413,
                f"File {len(self.uploads) + 1} of the request has more than the "
                f"{self.settings.file_bytes:,} bytes that a file may have. Export it smaller.",
                limit="file_bytes",
            )
        self._data += data[start:end]

    def end(self) -> None:
        assert self._file is not None
        if self._file or self._data:  # a browser's form sends a field left empty as a nameless file
            self.uploads.append(Upload(self._file, bytes(self._data)))
        self._data = bytearray()

    def close(self) -> None:
        self.whole = True


def _text(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("latin-1")
