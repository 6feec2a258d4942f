"""An HTTP server on this machine whose answers a test chooses, good ones and bad ones."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Answers every request with ``answer(handler)``; remembers what was asked."""

    daemon_threads = True
    answer: Callable[[BaseHTTPRequestHandler], None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.over = threading.Event()  # set when the test ends: whoever stalls may leave

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(self.path)
        self.server.answer(self)

    do_POST = do_GET  # noqa: N815 (the base class names its methods so)

    def log_message(self, *words: object) -> None:
        """Stay silent."""


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def content(body: bytes, kind: str = "application/octet-stream", **headers: str):
    """The whole body, as it should be."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Content-Type", kind)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def cut_off(body: bytes, after: int, **headers: str):
    """Announce the whole body and hang up after some of it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body[:after])

    return answer


def stalled(body: bytes, after: int):
    """Send some of the body and then nothing more, without hanging up."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        cut_off(body, after)(handler)
        handler.wfile.flush()
        handler.server.over.wait(60)

    return answer


def silent(handler: BaseHTTPRequestHandler) -> None:
    """Take the question and never answer."""
    handler.server.over.wait(60)


def status(code: int):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer
