"""Fifty clients at once against `python -m cxr_core serve`, and against the usual way to serve.

The model is EfficientNet-Lite0 at 224 px with a gate fitted on phantoms; every client sends
phantoms of 1,300 x 1,000 px as JPEG, one a request, the next as soon as the last is answered. Each
answer is held against what the predictor says of that film in another process, asked about it
alone. The peer has the same predictor behind FastAPI and takes one request after another, as
tutorials do; beside it stands our own service with batches of one film. All are processes of their
own and are asked by turns, while the others rest.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.diagnose import write_bundle
from benchmarks.harness import Case, Figure, Setting
from benchmarks.score import write_films

_LEAST_RATIO = 1.3  # times the films a second of the peer
_APART = 1e-5  # of two probabilities of one film, which depend on its batch in the last digits
_POLL = 0.05  # seconds between two looks at a server that starts
_BOUNDARY = "films-of-a-benchmark"
_OPEN = {"CXR_SERVE_RATE": "1000000/second"}
_PEER = "from benchmarks import service; service.one_at_a_time(*sys.argv[1:])"


@dataclass
class Round:
    """What all clients saw of a server in one round."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # seconds, of requests answered rightly
    wrong: int = 0  # answers that are not the film's
    errors: int = 0  # requests without an answer


def one_at_a_time(folder: str, port: str) -> None:
    """Serve a bundle as tutorials do: a request is read, answered and done with before the next."""
    import uvicorn
    from fastapi import FastAPI, UploadFile

    from cxr_core.diagnosis.predictor import Predictor
    from cxr_core.diagnosis.scoring import Scored

    app, predictor = FastAPI(), Predictor(Path(folder))
    predictor.warm()

    @app.get("/healthz")
    async def healthz() -> str:
        return "ready"

    @app.post("/v1/predict")
    async def predict(files: list[UploadFile]) -> list[dict[str, Any]]:
        answers = []
        for file in files:
            film = predictor.read(await file.read(), file.filename or "")
            answer = predictor.diagnose(film, heatmap=False)
            answers.append(Scored(Path(film.name), answer).as_json())
        return answers

    uvicorn.run(app, port=int(port), log_level="warning", access_log=False)


def expected(model: str, films: str) -> dict[str, Any]:
    """Return what the model says of each film, asked about them one by one."""
    from cxr_core.diagnosis import scoring
    from cxr_core.diagnosis.predictor import Predictor

    predictor = Predictor(Path(model))
    answers = (
        answer.as_json()
        for path in scoring.find([Path(films)])
        for answer in scoring.score(predictor, [path])
    )
    return {Path(answer["path"]).name: answer for answer in answers}


@contextmanager
def _serving(
    arguments: Sequence[str], port: int, log: Path, more: Mapping[str, str]
) -> Iterator[int]:
    """Run a server until it is done with; give its port once it answers."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CXR_")}
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=harness.REPOSITORY,
            env={**own, "TF_CPP_MIN_LOG_LEVEL": "2", "CXR_HOME": str(log.parent), **more},
            stdout=said,
            stderr=said,
        )
    try:
        while not _ready(port):
            if process.poll() is not None:
                raise RuntimeError(log.read_text(errors="replace"))
            time.sleep(_POLL)
        yield port
    finally:
        process.terminate()
        process.wait()


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _form(name: str, data: bytes) -> bytes:
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    )
    return head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()


def visited(port: int, forms: Mapping[str, bytes], right: Mapping[str, Any], clients: int) -> Round:
    """Let all clients come at once, each with its share of the films; return what they saw."""
    names, found, lock = list(forms), Round(), threading.Lock()
    start = threading.Barrier(clients + 1)

    def be_client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.connect()
        start.wait()
        for name in names[number::clients]:
            began = time.perf_counter()
            try:
                connection.request(
                    "POST",
                    "/v1/predict",
                    forms[name],
                    {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"},
                )
                response = connection.getresponse()
                said = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
                with lock:
                    found.errors += 1
                continue
            taken = time.perf_counter() - began
            with lock:
                if response.status != 200:
                    found.errors += 1
                elif _same(said, right[name]):
                    found.latencies.append(taken)
                else:
                    found.wrong += 1
        connection.close()

    threads = [threading.Thread(target=be_client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    found.seconds = time.perf_counter() - began
    return found


def _same(said: Any, right: Mapping[str, Any]) -> bool:
    """Tell if an answer is that of its film: the same verdict, the same numbers."""
    if not isinstance(said, list) or len(said) != 1 or "probabilities" not in said[0]:
        return False
    mine, theirs = said[0]["probabilities"], right["probabilities"]
    exact = ("accepted", "reasons", "label", "threshold")
    return (
        all(said[0][key] == right[key] for key in exact)
        and mine.keys() == theirs.keys()
        and all(abs(mine[name] - theirs[name]) <= _APART for name in theirs)
    )


def measure(setting: Setting) -> list[Figure]:
    """Return what went wrong, the films a second, and how long clients waited."""
    clients, each = setting.pick(4, 50, 50), setting.pick(2, 6, 10)
    size, rounds = setting.pick(64, 224, 224), setting.pick(1, 2, 5)
    with tempfile.TemporaryDirectory() as place, ExitStack() as servers:
        home = Path(place)
        model, folder = home / "bundle", home / "films"
        write_bundle(model, size, "imagenet", gate=True)
        folder.mkdir()
        write_films(folder, clients * each)
        right = harness.call(expected, str(model), str(folder))
        forms = {path.name: _form(path.name, path.read_bytes()) for path in folder.iterdir()}

        def served(name: str, more: Mapping[str, str]) -> int:
            port = _free_port()
            verb = ["-m", "cxr_core", "serve", "--port", str(port), "--model", str(model)]
            return servers.enter_context(_serving(verb, port, home / f"{name}.log", more))

        port = _free_port()
        usual = ["-c", f"import sys; {_PEER}", str(model), str(port)]
        ports = {
            "service": served("service", _OPEN),
            "single": served("single", {**_OPEN, "CXR_SERVE_BATCH": "1"}),
            "peer": servers.enter_context(_serving(usual, port, home / "peer.log", {})),
        }
        sides = {
            name: partial(visited, port, forms, right, clients) for name, port in ports.items()
        }
        harness.by_turns(sides, 1)
        found = harness.by_turns(sides, rounds)
    return _figures(found, clients, each)


def _figures(found: Mapping[str, Sequence[Round]], clients: int, each: int) -> list[Figure]:
    rates = {
        name: [len(one.latencies) / one.seconds for one in rounds] for name, rounds in found.items()
    }
    mine = found["service"]
    figures = [
        Figure("clients at once", clients, "clients"),
        Figure("films of each client", each, "films"),
        Figure("wrong answers", sum(one.wrong for one in mine), "faults", most=0),
        Figure("requests without an answer", sum(one.errors for one in mine), "faults", most=0),
        Figure(
            "the same of both others",
            sum(one.wrong + one.errors for name in ("single", "peer") for one in found[name]),
            "faults",
        ),
    ]
    for name, words in (
        ("service", "the service"),
        ("single", "the service with batches of one"),
        ("peer", "one request after another"),
    ):
        figures.append(harness.median(f"{words}: films", rates[name], "films/s"))
        for share in (50, 99):
            waits = [1000 * float(np.percentile(one.latencies, share)) for one in found[name]]
            figures.append(harness.median(f"{words}: p{share}", waits, "ms"))
    return [
        *figures,
        harness.ratio(
            "films a second, of one after another",
            rates["service"],
            rates["peer"],
            least=_LEAST_RATIO,
        ),
        harness.ratio("films a second, of batches of one", rates["service"], rates["single"]),
    ]


CASES = (Case("service", "fifty clients at once against one request after another", measure),)
