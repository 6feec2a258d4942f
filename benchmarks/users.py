"""Ten people at once on the Diagnose page: whose answers arrive where, and what memory is left.

The app runs in a workspace of its own with one model (EfficientNet-Lite0; what it learned does not
matter here) and is visited over its own protocol, as browsers do: each user opens the page, drops
his films and one file that is none, asks for what is ready until all is there, opens two films by a
click on their rows, and closes the page. Every row is held against what the model says of that file
in another process: name, picture, probability. Memory is the server's resident set against that
after one user came alone: at its highest, and after all have left and their sessions have expired.
Streamlit keeps a session for a browser that comes back; here for seconds in place of two minutes.
"""

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from benchmarks import harness
from benchmarks.diagnose import write_bundle
from benchmarks.harness import Case, Figure, Setting
from benchmarks.server import APP, Server, serve
from cxr_core.data import phantom

_MOST_LEFT = 200  # MiB
_EXPIRY = 5  # seconds that a session is kept
_SIDE = 1_200  # px, width of the films


@dataclass(frozen=True)
class Expected:
    """What must be told of a file."""

    picture: str | None  # a data URL; None where it is no film
    percent: float | None  # of any finding
    words: str  # the card's


@dataclass
class Told:
    """What one user saw."""

    faults: list[str] = field(default_factory=list)
    first_s: float = 0.0  # from the upload's end to the first answer
    last_s: float = 0.0  # and to the last
    clicks_s: list[float] = field(default_factory=list)  # from a click to the film's card
    partial: int = 0  # looks at a table that was filled in part


def files_of(user: int, films: int) -> dict[str, bytes]:
    """Return a user's files by name: films of 1,200 px, every other one as PNG, and one letter."""
    found: dict[str, bytes] = {}
    for number in range(films):
        label = phantom.CLASSES[(user + number) % len(phantom.CLASSES)]
        drawn = phantom.draw(label, np.random.default_rng([2027, user, number])).pixels
        height = round(_SIDE * drawn.shape[0] / drawn.shape[1])
        large = cv2.resize(drawn, (_SIDE, height), interpolation=cv2.INTER_CUBIC)
        suffix = ".jpg" if number % 2 else ".png"
        data = cv2.imencode(suffix, large)[1].tobytes()
        found[f"user{user}_film{number}{suffix}"] = data
    return {**found, f"user{user}_letter.png": b"Dear colleague, this is no film."}


def expected(folder: Path, everybody: list[dict[str, bytes]]) -> list[dict[str, Expected]]:
    """Return what the model says of each file, asked in this process one by one."""
    from cxr_core.diagnosis import sentences
    from cxr_core.diagnosis.predictor import Predictor
    from cxr_core.errors import UnreadableImageError
    from cxr_core.ui import loaders, words

    predictor = Predictor(folder)

    def of(name: str, data: bytes) -> Expected:
        try:
            film = predictor.read(data, name)
        except UnreadableImageError as error:
            return Expected(None, None, words.plain(str(error)))
        answer = predictor.diagnose(film, heatmap=False)
        return Expected(
            loaders.data_url(loaders.jpeg(film.pixels, 96)),
            None if answer.abnormal is None else 100 * answer.abnormal,
            words.unbroken(sentences.answer(answer)),
        )

    return [{name: of(name, data) for name, data in files.items()} for files in everybody]


def compared(table: pd.DataFrame, right: dict[str, Expected]) -> tuple[list[str], int]:
    """Return what is wrong in a table, and how many rows have their answer."""
    if list(table.index) != list(right):
        return [f"other files: {list(table.index)}"], 0
    wrong, answered = [], 0
    for name, row in table.iterrows():
        told = right[str(name)]
        if row["Answer"] == "…":
            continue
        answered += 1
        percent = None if pd.isna(row["Any finding"]) else float(row["Any finding"])
        near = percent == told.percent or abs((percent or 0) - (told.percent or 0)) < 1e-3
        picture = None if pd.isna(row["Film"]) else row["Film"]
        if not near or picture != told.picture:
            wrong.append(f"{name}: {percent} in place of {told.percent}")
    return wrong, answered


async def visit(address: str, files: dict[str, bytes], right: dict[str, Expected]) -> Told:
    """Be one user from the first look to the closed page."""
    from benchmarks.visitor import Visitor

    told = Told()
    async with Visitor(address) as visitor:
        await visitor.run()
        began = time.monotonic()
        await visitor.upload(files)
        while True:
            wrong, answered = compared(visitor.table(), right)
            told.faults += wrong
            if answered and not told.first_s:
                told.first_s = time.monotonic() - began
            if answered == len(right):
                told.last_s = told.last_s or time.monotonic() - began
                if not visitor.waits:
                    break
            elif not visitor.waits:
                told.faults.append(f"the page looks no more with {answered} of {len(right)} read")
                break
            told.partial += answered < len(right)
            await visitor.look_again()
        for row in (len(files) // 2, len(files) - 1):  # a film, and the letter
            began = time.monotonic()
            await visitor.click(row)
            told.clicks_s.append(time.monotonic() - began)
            words = right[list(right)[row]].words
            if words not in visitor.texts():
                told.faults.append(f"the card of row {row} does not say: {words}")
        told.faults += visitor.exceptions
    return told


async def visit_shortly(address: str, name: str, data: bytes) -> None:
    """Be a visitor with one film."""
    from benchmarks.visitor import Visitor

    async with Visitor(address) as visitor:
        await visitor.run()
        await visitor.upload({name: data})


def publish(size: int) -> Path:
    """Put a model into this process's workspace, as a run that has ended; return its bundle."""
    from cxr_core import workspace
    from cxr_core.config import RunConfig
    from cxr_core.training.tracking import RunStore, Status

    folder = workspace.home() / "made" / "bundle"
    write_bundle(folder, size, "imagenet")
    store = RunStore()
    run_id = store.create(RunConfig(name="benchmark"), name="benchmark")
    store.write_file(run_id, folder)
    store.set_status(run_id, Status.FINISHED)
    return folder


def met(users: int, films: int, size: int) -> dict[str, Any]:
    """Serve the app in this process's workspace and let all come; return what they saw."""
    from cxr_core import workspace

    folder = publish(size)
    with serve(APP, workspace.home(), f"--server.disconnectedSessionTTL={_EXPIRY}") as server:
        return asyncio.run(_met(server, folder, users, films))


async def _met(server: Server, folder: Path, users: int, films: int) -> dict[str, Any]:
    everybody = [files_of(user, films) for user in range(users + 1)]
    right = await asyncio.to_thread(expected, folder, everybody)
    first = everybody.pop(), right.pop()
    # The first visit loads the model, whose litter is collected in the course of the second.
    alone = [await visit(server.address, *first) for _ in range(2)]
    name, data = next(iter(first[0].items()))
    before = peak = await _at_rest(server, name, data)
    visits = asyncio.gather(
        *(visit(server.address, *each) for each in zip(everybody, right, strict=True))
    )
    began = time.monotonic()
    while not visits.done():
        peak = max(peak, server.mib)
        await asyncio.wait([visits], timeout=0.25)
    told, took = visits.result(), time.monotonic() - began
    after = await _at_rest(server, name, data)
    return {
        "faults": [fault for each in (*alone, *told) for fault in each.faults],
        "traces": server.traces,
        "took_s": took,
        "first_s": [each.first_s for each in told],
        "last_s": [each.last_s for each in told],
        "clicks_s": [seconds for each in told for seconds in each.clicks_s],
        "partial": sum(each.partial for each in told),
        "rise_mib": peak - before,
        "left_mib": after - before,
    }


async def _at_rest(server: Server, name: str, data: bytes) -> float:
    """Return the server's memory, MiB, once the sessions of those who left have expired."""
    await asyncio.sleep(_EXPIRY + 1)
    await visit_shortly(server.address, name, data)  # Streamlit clears up when somebody leaves
    await asyncio.sleep(2)
    return server.mib


def measure(setting: Setting) -> list[Figure]:
    """Return what went wrong, how long users waited, and the memory that they left behind."""
    users, films = setting.pick(2, 10, 10), setting.pick(2, 2, 20)
    size = setting.pick(64, 224, 224)
    with tempfile.TemporaryDirectory() as home:
        found = harness.call(met, users, films, size, CXR_HOME=home)
    for fault in found["faults"]:
        print(f"users: {fault}", file=sys.stderr)
    return [
        Figure("users at once", users, "users"),
        Figure("files each, one of them no film", films + 1, "files"),
        Figure("wrong or missing answers", len(found["faults"]), "faults", most=0),
        Figure("faults in the server's log", found["traces"], "faults", most=0),
        Figure("until all had their answers", found["took_s"], "s"),
        harness.median("to a user's first answer", found["first_s"], "s"),
        harness.median("to a user's last answer", found["last_s"], "s"),
        harness.median("from a click to the film's card", found["clicks_s"], "s"),
        Figure("looks at a table filled in part", found["partial"], "looks"),
        Figure("memory at its highest", found["rise_mib"], "MiB more"),
        Figure("memory when all had left", found["left_mib"], "MiB more", most=_MOST_LEFT),
    ]


CASES = (Case("users", "ten users at once on Diagnose: answers, waiting, memory left", measure),)
