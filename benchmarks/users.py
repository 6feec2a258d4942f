"""Ten people at once on the Diagnose page: whose answers arrive where, and what memory is left.

    python benchmarks/users.py [--users 10] [--films 20] [--size 224] [--json]

Starts the app in a workspace of its own with one model (EfficientNet-Lite0; what it learned does
not matter here) and visits it over its own protocol, as browsers do: each user opens the page,
drops his films and one file that is none, asks for what is ready until all is there, opens two
films by a click on their rows, and closes the page. Every row is held against what the model says
of that file in this process: name, picture, probability. Memory is the server's resident set, after
one visitor with one film, at its highest, and after all have left and their sessions have expired
(Streamlit keeps one for two minutes, for a browser that comes back).
"""

import argparse
import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import requests
import websockets

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from streamlit.proto.BackMsg_pb2 import BackMsg  # noqa: E402
from streamlit.proto.ClientState_pb2 import ClientState  # noqa: E402
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg  # noqa: E402
from streamlit.proto.WidgetStates_pb2 import WidgetState  # noqa: E402

from benchmarks.diagnose import write_bundle  # noqa: E402  found by the line above
from cxr_core.config import RunConfig  # noqa: E402
from cxr_core.data import phantom  # noqa: E402

EXPIRY = 125.0
PATIENCE = 600.0  # seconds until a user is given up
SIDE = 1_200  # px, width of the films
MIB = 2**20


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


@dataclass(frozen=True)
class Drawn:
    """An element of the page and the run of the script that drew it."""

    element: Any
    fragment: str
    run: str


class Visitor:
    """A browser's side of Streamlit's protocol, as far as the page needs it."""

    def __init__(self, port: int) -> None:
        self._http = f"http://localhost:{port}"
        self._session_id, self._script, self._run_id = "", "", ""
        self._states: dict[str, WidgetState] = {}
        self._page: dict[tuple[int, ...], Drawn] = {}
        self._again: dict[str, float] = {}  # fragments to be run anew, and after how many seconds
        self.exceptions: list[str] = []

    async def __aenter__(self) -> "Visitor":
        answer = await asyncio.to_thread(requests.get, f"{self._http}/_stcore/health", timeout=60)
        self._cookies = {**answer.cookies.get_dict(), "cxr_notice": "accepted"}
        cookie = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        self._socket = await websockets.connect(
            f"{self._http.replace('http', 'ws')}/_stcore/stream",
            additional_headers={"Cookie": cookie},
            origin=websockets.Origin(self._http),
            subprotocols=[websockets.Subprotocol("streamlit")],
            max_size=None,
            open_timeout=60,
            ping_timeout=None,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._socket.close()

    async def run(self, fragment: str = "", *, auto: bool = False) -> None:
        """Have the page drawn, or one fragment of it, and take what comes until that is done."""
        state = ClientState(page_name="diagnose", page_script_hash=self._script)
        state.widget_states.widgets.extend(self._states.values())
        state.fragment_id, state.is_auto_rerun = fragment, auto
        await self._send(BackMsg(rerun_script=state))
        while True:
            message = await self._next()
            if message.WhichOneof("type") != "script_finished":
                continue
            # What ended early makes way for another run, which is the one to wait for.
            if message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                return

    async def upload(self, files: dict[str, bytes]) -> None:
        """Send files as the drop zone does and have the page drawn with them."""
        place = self.of_kind("file_uploader")[0].element.file_uploader.id
        request = BackMsg()
        request.file_urls_request.request_id = "films"
        request.file_urls_request.session_id = self._session_id
        request.file_urls_request.file_names.extend(files)
        await self._send(request)
        while (message := await self._next()).WhichOneof("type") != "file_urls_response":
            pass
        state = WidgetState(id=place)
        for (name, data), urls in zip(
            files.items(), message.file_urls_response.file_urls, strict=True
        ):
            answer = await asyncio.to_thread(
                requests.put,
                f"{self._http}{urls.upload_url}",
                files={"file": (name, data)},
                headers={"X-Xsrftoken": self._cookies["_streamlit_xsrf"]},
                cookies=self._cookies,
                timeout=PATIENCE,
            )
            answer.raise_for_status()
            info = state.file_uploader_state_value.uploaded_file_info.add()
            info.name, info.size, info.file_id = name, len(data), urls.file_id
            info.file_urls.CopyFrom(urls)
        self._states[place] = state
        await self.run()
        del self._states[place]

    @property
    def waits(self) -> bool:
        """Whether the page has something at work that it looks at."""
        return bool(self._again)

    async def look_again(self) -> None:
        """Wait as long as the page wants to, and have what is at work drawn anew."""
        await asyncio.sleep(min(self._again.values()))
        for fragment in list(self._again):
            if fragment in self._again:  # else the page was drawn anew meanwhile
                await self.run(fragment, auto=True)

    async def click(self, row: int) -> None:
        """Click on a row of the table of films."""
        table = self.of_kind("dataframe")[0]
        selection = {"selection": {"rows": [], "columns": [], "cells": [[row, "File"]]}}
        name = table.element.dataframe.id
        self._states[name] = WidgetState(id=name, string_value=json.dumps(selection))
        await self.run(table.fragment)

    def table(self) -> pd.DataFrame:
        """Return the table of films as it stands."""
        tables = self.of_kind("dataframe")
        if not tables:
            raise SystemExit(f"The page shows no table of films, but: {sorted(self.texts())}")
        data = tables[0].element.dataframe.arrow_data.data
        return pa.ipc.open_stream(io.BytesIO(data)).read_all().to_pandas().set_index("File")

    def texts(self) -> set[str]:
        """Return what the page says in captions, headings and messages."""
        said = {drawn.element.markdown.body for drawn in self.of_kind("markdown")}
        said |= {drawn.element.heading.body for drawn in self.of_kind("heading")}
        return said | {drawn.element.alert.body for drawn in self.of_kind("alert")}

    def of_kind(self, kind: str) -> list[Drawn]:
        """Return the elements of a kind, from the top of the page down."""
        found = sorted(self._page.items())
        return [drawn for _, drawn in found if drawn.element.WhichOneof("type") == kind]

    async def _send(self, message: BackMsg) -> None:
        await self._socket.send(message.SerializeToString())

    async def _next(self) -> ForwardMsg:
        message = ForwardMsg()
        message.ParseFromString(await asyncio.wait_for(self._socket.recv(), PATIENCE))
        kind, run = message.WhichOneof("type"), message.metadata.run
        if kind == "new_session":
            self._session_id = message.new_session.initialize.session_id or self._session_id
            self._run_id = run.script_run_id
            if not run.fragment_ids:
                self._again.clear()
        elif kind == "navigation":
            self._script = message.navigation.page_script_hash
        elif kind == "auto_rerun":
            self._again[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        elif kind == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                self._again.pop(fragment, None)
        elif kind == "delta":
            self._draw(tuple(message.metadata.delta_path), message.delta)
        elif kind == "script_finished":
            self._forget(message.script_finished, run)
        return message

    def _draw(self, place: tuple[int, ...], delta: Any) -> None:
        if delta.WhichOneof("type") != "new_element":
            return
        self._page[place] = Drawn(delta.new_element, delta.fragment_id, self._run_id)
        if delta.new_element.WhichOneof("type") == "exception":
            fault = delta.new_element.exception
            self.exceptions.append(f"{fault.type}: {fault.message}")

    def _forget(self, how: int, run: Any) -> None:
        """Take off the page what a run that came to its end did not draw."""
        if how == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            return
        fragments = set(run.fragment_ids)
        for place, drawn in list(self._page.items()):
            of_this_run = drawn.fragment in fragments if fragments else True
            if of_this_run and drawn.run != run.script_run_id:
                del self._page[place]


def files_of(user: int, films: int) -> dict[str, bytes]:
    """Return a user's files by name: films of 1,200 px, every other one as PNG, and one letter."""
    found: dict[str, bytes] = {}
    for number in range(films):
        label = phantom.CLASSES[(user + number) % len(phantom.CLASSES)]
        drawn = phantom.draw(label, np.random.default_rng([2027, user, number])).pixels
        height = round(SIDE * drawn.shape[0] / drawn.shape[1])
        large = cv2.resize(drawn, (SIDE, height), interpolation=cv2.INTER_CUBIC)
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
            sentences.answer(answer),
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


async def visit(port: int, files: dict[str, bytes], right: dict[str, Expected]) -> Told:
    """Be one user from the first look to the closed page."""
    told = Told()
    async with Visitor(port) as visitor:
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


async def visit_shortly(port: int, name: str, data: bytes) -> None:
    """Be a visitor with one film."""
    async with Visitor(port) as visitor:
        await visitor.run()
        await visitor.upload({name: data})


class Server:
    """The app with one model in a workspace of its own."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            self.port = int(probe.getsockname()[1])
        self._log = home / "server.log"
        command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--server.port={self.port}", "--server.headless=true"],
                cwd=REPOSITORY,
                env={**os.environ, "CXR_HOME": str(home)},
                stdout=log,
                stderr=log,
            )
        while True:
            try:
                requests.get(f"http://localhost:{self.port}/_stcore/health", timeout=30)
                return
            except requests.ConnectionError:
                if self._process.poll() is not None:
                    raise SystemExit(self._log.read_text()) from None
                time.sleep(0.2)

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait()

    @property
    def mib(self) -> float:
        """The server's memory: its resident set in MiB."""
        return psutil.Process(self._process.pid).memory_info().rss / MIB

    @property
    def traces(self) -> int:
        """How many faults its log holds."""
        return self._log.read_text(errors="replace").count("Traceback")


def publish(home: Path, size: int) -> Path:
    """Put a model into the workspace, as a run that has ended; return its bundle's folder."""
    from cxr_core.training.tracking import RunStore, Status

    folder = home / "made" / "bundle"
    write_bundle(folder, size, "imagenet")
    store = RunStore()
    run_id = store.create(RunConfig(name="benchmark"), name="benchmark")
    store.write_file(run_id, folder)
    store.set_status(run_id, Status.FINISHED)
    return folder


async def measure(server: Server, users: int, films: int, folder: Path) -> dict[str, Any]:
    """Let all come at once and return what they saw and what it took."""
    everybody = [files_of(user, films) for user in range(users)]
    right = await asyncio.to_thread(expected, folder, everybody)
    name, data = next(iter(files_of(users, 1).items()))
    await visit_shortly(server.port, name, data)  # loads the model
    before = peak = server.mib
    visits = asyncio.gather(
        *(visit(server.port, *each) for each in zip(everybody, right, strict=True))
    )
    began = time.monotonic()
    while not visits.done():
        peak = max(peak, server.mib)
        await asyncio.wait([visits], timeout=0.25)
    told = visits.result()
    took = time.monotonic() - began
    left = server.mib
    await asyncio.sleep(EXPIRY)
    await visit_shortly(server.port, name, data)  # Streamlit clears up when somebody leaves
    await asyncio.sleep(2)
    clicks = [seconds for each in told for seconds in each.clicks_s]
    return {
        "users": users,
        "files_each": films + 1,
        "megabytes": sum(len(data) for files in everybody for data in files.values()) / 1e6,
        "faults": [fault for each in told for fault in each.faults],
        "traces": server.traces,
        "took_s": took,
        "first_answer_s": float(np.median([each.first_s for each in told])),
        "last_answer_s": float(np.max([each.last_s for each in told])),
        "click_s": float(np.median(clicks)),
        "slowest_click_s": float(np.max(clicks)),
        "partial_looks": sum(each.partial for each in told),
        "before_mib": before,
        "peak_mib": peak,
        "left_mib": left,
        "after_mib": server.mib,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--films", type=int, default=20)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        os.environ["CXR_HOME"] = str(home)
        folder = publish(home, options.size)
        server = Server(home)
        try:
            found = asyncio.run(measure(server, options.users, options.films, folder))
        finally:
            server.stop()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(
        "{users} users at once, {files_each} files each ({megabytes:.0f} MB): {count} faults, "
        "{traces} traces in the log. {took_s:.0f} s; a user's first answer after "
        "{first_answer_s:.1f} s (median), the last of all after {last_answer_s:.1f} s; a click "
        "opens a film in {click_s:.2f} s (median; slowest {slowest_click_s:.2f}). {partial_looks} "
        "looks at a table filled in part.\nMemory: {before_mib:.0f} MiB before, {peak_mib:.0f} at "
        "its highest, {left_mib:.0f} when they left, {after_mib:.0f} once their sessions had "
        "expired: {more:+.0f} MiB (at most 200).".format(
            **found,
            count=len(found["faults"]),
            more=found["after_mib"] - found["before_mib"],
        )
    )
    for fault in found["faults"][:20]:
        print(f"  {fault}")


if __name__ == "__main__":
    main()
