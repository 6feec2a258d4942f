"""Who sends too much, too fast, or without the key is told so, and others are answered."""

import http.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import Live, Service, form

from cxr_core import workspace
from cxr_core.errors import ConfigError
from cxr_core.service import settings
from cxr_core.service.limits import Rate
from cxr_core.service.problems import ProblemError

KEY = "a long random text"


@pytest.fixture
def film(phantoms: Path) -> Path:
    return min((phantoms / "images").iterdir())


def refused(response: Any, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    for word in words:
        assert word in response.json()["detail"]


def rejections(service: Service) -> dict[str, float]:
    """How many requests each limit refused, by the metrics."""
    lines = service.client.get("/metrics").text.splitlines()
    return {
        line.split('"')[1]: float(line.split()[-1])
        for line in lines
        if line.startswith("cxr_rejected_total{")
    }


# What a browser sends of a form whose field was left empty.
LEFT_EMPTY = (
    b'--x\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n\r\n--x--\r\n'
)


class Stream:
    """A form that goes on as long as it is read."""

    headers = {"Content-Type": "multipart/form-data; boundary=x"}  # noqa: RUF012

    def __init__(self, chunks: int, size: int) -> None:
        self._left, self._size = chunks, size
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for _ in range(self._left):
            self.sent += self._size
            yield bytes(self._size)


def test_a_file_that_is_too_large_is_refused(open_service: Callable[..., Any], film: Path) -> None:
    with open_service(file_bytes=film.stat().st_size) as service:
        assert service.predict(film).status_code == 200
        too_large = ("b.png", film.read_bytes() + b"x")
        refused(service.predict(film, too_large), 413, "File 2", "bytes that a file may have")
        assert rejections(service) == {"file_bytes": 1}


def test_a_file_is_refused_in_the_middle_and_not_read_to_its_end(
    open_live: Callable[..., Any],
) -> None:
    """The client here gives no length: only counting what arrives can tell."""
    stream = Stream(chunks=100_000, size=65_536)  # 6.5 GB
    with open_live(file_bytes=1_000_000) as live:
        connection = live.connect()
        connection.putrequest("POST", "/v1/predict")
        connection.putheader("Content-Type", stream.headers["Content-Type"])
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        parts = iter(stream)
        while stream.sent < 2_000_000:
            data = next(parts)
            connection.send(b"%x\r\n%b\r\n" % (len(data), data))
        response = connection.getresponse()  # while most of the file was never sent
        assert response.status == 413
        connection.close()


def test_a_request_that_is_too_large_is_refused(
    open_service: Callable[..., Any], film: Path
) -> None:
    size = film.stat().st_size
    with open_service(file_bytes=size, request_bytes=3 * size) as service:
        assert service.predict(film, film).status_code == 200
        refused(service.predict(film, film, film), 413, "A request may hold")  # by what it says

        def chunks() -> Iterator[bytes]:
            yield from Stream(chunks=1, size=0)
            yield bytes(size) + b"\r\n"
            yield from Stream(chunks=1, size=size)
            yield b"\r\n"
            yield from Stream(chunks=1, size=size)

        found = service.client.post("/v1/predict", content=chunks(), headers=Stream.headers)
        refused(found, 413, "A request may hold")  # by what arrived
        assert rejections(service) == {"request_bytes": 2}


def test_too_many_files_are_refused(open_service: Callable[..., Any], film: Path) -> None:
    with open_service(files=2) as service:
        assert service.predict(film, film).status_code == 200
        refused(service.predict(film, film, film), 413, "may hold 2 films")
        assert rejections(service) == {"files": 1}


def test_a_full_queue_is_said_and_has_room_again_once_it_is_answered(
    open_service: Callable[..., Any], film: Path
) -> None:
    with open_service(files=2, queue=2) as service:
        place = service.desk.room.take()
        place.add_films(1)
        full = service.predict(film, film)
        refused(full, 503, "a little later")
        assert int(full.headers["Retry-After"]) > 0
        assert service.predict(film).status_code == 200
        place.add_films(1)
        refused(service.predict(film), 503)
        place.__exit__(None, None, None)
        assert service.predict(film, film).status_code == 200
        assert service.desk.room.films == service.desk.room.bytes == 0
        assert rejections(service) == {"queue": 2}


def test_no_more_bytes_are_held_than_there_is_room_for(
    open_service: Callable[..., Any], film: Path
) -> None:
    size = film.stat().st_size
    limits = {"file_bytes": size, "request_bytes": 2 * size, "held_bytes": 2 * size}
    with open_service(**limits) as service:
        with service.desk.room.take() as place:
            place.add_bytes(size)
            refused(service.predict(film), 503)
        assert service.predict(film).status_code == 200
        assert service.desk.room.bytes == 0
        assert rejections(service) == {"held_bytes": 1}


def test_who_sends_too_fast_is_told_when_to_go_on(
    open_service: Callable[..., Any], film: Path
) -> None:
    with open_service(rate="3/hour") as service:
        for _ in range(2):
            assert service.client.get("/v1/models").status_code == 200
        assert service.predict(film).status_code == 200
        fast = service.predict(film)
        refused(fast, 429, "3 per 1 hour")
        assert 3_500 < int(fast.headers["Retry-After"]) <= 3_600
        assert service.client.get("/healthz").status_code == 200
        assert rejections(service) == {"rate": 1}


def test_a_client_that_is_too_fast_slows_no_other() -> None:
    rate = Rate("2/hour;1000/day")
    for _ in range(2):
        rate.count("10.0.0.1")
    with pytest.raises(ProblemError):
        rate.count("10.0.0.1")
    rate.count("10.0.0.2")


def announced(live: Live, query: str = "", length: int = 1_000) -> http.client.HTTPResponse:
    """Announce a film and do not send it; return what the service says to that."""
    connection = live.connect()
    connection.putrequest("POST", f"/v1/predict{query}")
    connection.putheader("Content-Type", Stream.headers["Content-Type"])
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_films_that_do_not_arrive_are_not_waited_for(open_live: Callable[..., Any]) -> None:
    with open_live(upload_seconds=0.05) as live:
        assert announced(live).status == 408
        assert live.desk.room.bytes == 0


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data", 415),
        (b"no form", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nContent-Disposition: form-", "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422),
    ],
)
def test_a_form_that_is_none_is_refused(
    service: Service, body: bytes, kind: str, status: int
) -> None:
    sent = service.client.post("/v1/predict", content=body, headers={"Content-Type": kind})
    refused(sent, status, "curl -F files=@film.png")


def test_other_fields_and_files_without_names_are_refused(service: Service, film: Path) -> None:
    other = service.client.post("/v1/predict", files={"image": ("a.png", film.read_bytes())})
    refused(other, 422, "'files'")
    text = service.client.post("/v1/predict", files={"files": (None, "text")})
    refused(text, 422, "no file name")
    left_empty = service.client.post("/v1/predict", content=LEFT_EMPTY, headers=Stream.headers)
    refused(left_empty, 422, "holds no film")
    refused(service.predict(film, force="perhaps"), 422, "force")


def test_a_misspelt_parameter_asks_no_other_model(service: Service, film: Path) -> None:
    refused(service.predict(film, modle="three"), 422, "model, force")
    refused(service.client.get("/v1/models", params={"of": "x"}), 422, "There is none")


# -- the key --------------------------------------------------------------------------------------


def test_nobody_is_answered_without_the_key(open_service: Callable[..., Any], film: Path) -> None:
    with open_service(KEY) as service:
        client = service.client
        for headers in ({}, {"X-API-Key": "other"}, {"Authorization": f"Bearer {KEY}x"}):
            for path in ("/v1/models", "/metrics"):
                found = client.get(path, headers=headers)
                refused(found, 401, "X-API-Key")
                assert found.headers["WWW-Authenticate"] == "Bearer"
                assert KEY not in found.text
            sent = client.post("/v1/predict", files=form(film), headers=headers)
            refused(sent, 401)
        for headers in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}):
            assert client.get("/metrics", headers=headers).status_code == 200
            sent = client.post("/v1/predict", files=form(film), headers=headers)
            assert sent.status_code == 200
        assert client.get("/healthz").status_code == 200


def test_who_is_not_answered_is_told_before_a_film_is_read(open_live: Callable[..., Any]) -> None:
    with open_live(KEY) as live:
        assert announced(live).status == 401
    with open_live(request_bytes=60_000_000) as live:
        assert announced(live, "?model=none").status == 404
        assert announced(live, "?modle=three").status == 422
        assert announced(live, length=60_000_001).status == 413


def test_guessing_the_key_is_limited(open_service: Callable[..., Any]) -> None:
    with open_service(KEY, rate="2/hour") as service:
        guesses = [
            service.client.get("/v1/models", headers={"X-API-Key": str(guess)}).status_code
            for guess in range(3)
        ]
        assert guesses == [401, 401, 429]


# -- settings -------------------------------------------------------------------------------------


def test_limits_are_set_by_the_environment() -> None:
    found = settings.from_environment(
        {
            "CXR_SERVE_FILE_BYTES": "20MB",
            "CXR_SERVE_FILES": "4",
            "CXR_SERVE_RATE": "10/second;100/minute",
            "CXR_HOME": "elsewhere",
        }
    )
    assert (found.file_bytes, found.files, found.rate) == (20_000_000, 4, "10/second;100/minute")
    assert settings.from_environment({}) == settings.Settings()


def test_every_setting_stands_in_the_readme() -> None:
    page = (workspace.REPOSITORY / "README.md").read_text(encoding="utf-8")
    for name in settings.Settings.model_fields:
        assert f"`{settings.PREFIX}{name.upper()}`" in page


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CXR_SERVE_FILE", "1", "CXR_SERVE_FILE is no setting of the service. There are: CXR_SER"),
        ("CXR_SERVE_FILES", "many", "CXR_SERVE_FILES is 'many'"),
        ("CXR_SERVE_FILES", "0", "Without it 32 is taken"),
        ("CXR_SERVE_RATE", "often", "CXR_SERVE_RATE is 'often'"),
        ("CXR_SERVE_FILE_BYTES", "300MB", "CXR_SERVE_FILE_BYTES (300000000) must not be above"),
        ("CXR_SERVE_QUEUE", "8", "CXR_SERVE_FILES (32) must not be above CXR_SERVE_QUEUE (8)"),
    ],
)
def test_a_setting_that_will_not_do_is_named(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        settings.from_environment({name: value})
    assert words in str(refusal.value)
