"""Films of many requests are asked about together, and each gets its own answer."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving import Live, Service, form

from cxr_core.service.batching import Ask, Batcher


class Network:
    """Answers for a film with the film and how it was asked about; notes its batches."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.held = threading.Event()  # while it is not set, the network computes
        self.held.set()
        self.busy = threading.Event()

    def answer(
        self, films: Sequence[Any], *, heatmap: bool, target: str | None, force: bool
    ) -> list[Any]:
        self.batches.append(list(films))
        self.busy.set()
        self.held.wait()
        if "bad" in films:
            raise ValueError("a bad film")
        return [(film, force, heatmap, target) for film in films]


HOURS = 1e4  # seconds; no test waits that long for a film to come


def gathered(
    work: Callable[[Network, Batcher], Any], *, most: int = 4, gather_seconds: float = HOURS
) -> tuple[Network, Any]:
    """Do something with a batcher; return its network and what came of it."""

    async def run() -> tuple[Network, Any]:
        network = Network()
        batcher = Batcher(network, most=most, gather_seconds=gather_seconds)
        found = await work(network, batcher)
        network.held.set()
        await batcher.close()
        return network, found

    return asyncio.run(run())


def test_films_that_come_together_are_asked_about_together() -> None:
    async def work(network: Network, batcher: Batcher) -> list[Any]:
        return await asyncio.gather(*(batcher.answer(film, Ask()) for film in range(10)))

    network, found = gathered(work)
    assert [len(batch) for batch in network.batches] == [4, 4, 2]
    assert [film for film, *_ in found] == list(range(10))


def test_a_film_that_comes_alone_waits_for_nobody() -> None:
    async def work(network: Network, batcher: Batcher) -> Any:
        return await batcher.answer("film", Ask())

    network, _ = gathered(work)  # it would wait for hours
    assert network.batches == [["film"]]


def test_a_film_waits_for_those_that_are_being_made_ready() -> None:
    async def work(network: Network, batcher: Batcher) -> Any:
        ready = asyncio.Event()

        async def slowly() -> Any:
            with batcher.coming():
                await ready.wait()
            return await batcher.answer("second", Ask())

        second = asyncio.create_task(slowly())
        first = asyncio.create_task(batcher.answer("first", Ask()))
        for _ in range(100):  # rounds of the loop: it could have asked long ago
            await asyncio.sleep(0)
        assert network.batches == []
        ready.set()
        return await asyncio.gather(first, second)

    network, _ = gathered(work)
    assert network.batches == [["first", "second"]]


def test_a_film_waits_no_longer_than_it_should() -> None:
    async def work(network: Network, batcher: Batcher) -> Any:
        with batcher.coming():  # and never comes
            return await batcher.answer("film", Ask())

    network, _ = gathered(work, gather_seconds=0.001)
    assert network.batches == [["film"]]


def test_each_film_of_a_batch_is_asked_about_in_its_own_way() -> None:
    asks = [Ask(), Ask(force=True), Ask(heatmap=True, target="PNEUMONIA"), Ask()]

    async def work(network: Network, batcher: Batcher) -> Any:
        return await asyncio.gather(*(batcher.answer(i, ask) for i, ask in enumerate(asks)))

    network, found = gathered(work)
    assert found == [(i, ask.force, ask.heatmap, ask.target) for i, ask in enumerate(asks)]
    assert network.batches == [[0, 3], [1], [2]]


def test_a_film_that_fails_costs_the_others_nothing() -> None:
    async def work(network: Network, batcher: Batcher) -> Any:
        films = ("a", "bad", "b")
        return await asyncio.gather(
            *(batcher.answer(film, Ask()) for film in films), return_exceptions=True
        )

    _, (a, bad, b) = gathered(work)
    assert (a[0], b[0]) == ("a", "b")
    assert isinstance(bad, ValueError)


@pytest.mark.parametrize("when", ["waiting", "computing"])
def test_who_leaves_takes_no_other_along(when: str) -> None:
    async def work(network: Network, batcher: Batcher) -> Any:
        network.held.clear()
        before = asyncio.create_task(batcher.answer("before", Ask()))
        await asyncio.to_thread(network.busy.wait)
        tasks = [asyncio.create_task(batcher.answer(film, Ask())) for film in ("gone", "stays")]
        await asyncio.sleep(0)
        if when == "computing":
            network.busy.clear()
            network.held.set()
            await before
            network.held.clear()
            await asyncio.to_thread(network.busy.wait)
        tasks[0].cancel()
        network.held.set()
        return await tasks[1]

    network, found = gathered(work)
    assert found[0] == "stays"
    expected = [["before"], ["stays"]] if when == "waiting" else [["before"], ["gone", "stays"]]
    assert network.batches == expected


# -- clients --------------------------------------------------------------------------------------


def answers(films: list[Path], service: Service) -> dict[str, Any]:
    found = service.predict(*films, model="three").json()
    return {entry["path"]: entry["probabilities"] for entry in found}


def test_clients_at_once_get_each_its_own_answers(service: Service, phantoms: Path) -> None:
    films = sorted((phantoms / "images").iterdir())[:24]
    expected = {name: value for film in films for name, value in answers([film], service).items()}
    assert len({tuple(each.values()) for each in expected.values()}) == len(films)

    def ask(number: int) -> dict[str, Any]:
        own = films[number % len(films) :: 7]  # a film or several
        return answers(own, service)

    with ThreadPoolExecutor(24) as pool:
        for found in pool.map(ask, range(48)):
            for name, probabilities in found.items():
                assert probabilities == pytest.approx(expected[name], abs=1e-6)
    text = service.client.get("/metrics").text
    batches = float(text.split('cxr_batch_films_count{model="three"} ')[1].split()[0])
    asked = float(text.split('cxr_batch_films_sum{model="three"} ')[1].split()[0])
    assert asked > batches  # some were asked about together


@pytest.fixture
def film(phantoms: Path) -> Path:
    return min((phantoms / "images").iterdir())


class Held:
    """A network of a live service that computes for as long as a test likes."""

    def __init__(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        predictor = live.desk._predictors["tiny"]
        answer = predictor.answer
        self.busy, self.held = threading.Event(), threading.Event()

        def slow(*films: Any, **how: Any) -> Any:
            self.busy.set()
            self.held.wait()
            return answer(*films, **how)

        monkeypatch.setattr(predictor, "answer", slow)


def send(live: Live, film: Path) -> Any:
    """Send a film, and do not wait for its answer."""
    import httpx2

    request = httpx2.Request("POST", f"http://127.0.0.1:{live.port}/v1/predict", files=form(film))
    connection = live.connect()
    connection.request("POST", "/v1/predict", request.read(), dict(request.headers))
    return connection


def test_a_client_that_leaves_frees_its_place_and_the_others_are_answered(
    open_live: Callable[..., Any], film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_live() as live:
        network = Held(live, monkeypatch)
        first = send(live, film)
        network.busy.wait()
        leaving, staying = send(live, film), send(live, film)
        while live.desk.room.films < 3:
            pass
        leaving.close()
        while live.desk.room.films > 2:  # though the network still computes
            pass
        network.held.set()
        assert first.getresponse().status == staying.getresponse().status == 200
        first.close()
        staying.close()
        while 'status="499"' not in live.desk.metrics.text("")[0].decode():
            pass


def test_a_service_that_is_stopped_answers_what_it_has_taken_in(
    open_live: Callable[..., Any], film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_live() as live:
        network = Held(live, monkeypatch)
        sent = send(live, film)
        network.busy.wait()
        live.server.should_exit = True
        with pytest.raises(OSError):
            while True:  # until it takes no more
                live.connect().connect()
        network.held.set()
        assert sent.getresponse().status == 200
        sent.close()
        live.thread.join()
        assert live.desk.failure is None
