"""A browser's side of Streamlit's protocol: a visitor of the app's Diagnose page."""

import asyncio
import io
import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import requests
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

PATIENCE = 600.0  # seconds until a user is given up


@dataclass(frozen=True)
class Drawn:
    """An element of the page and the run of the script that drew it."""

    element: Any
    fragment: str
    run: str


class Visitor:
    """A browser's side of Streamlit's protocol, as far as the page needs it."""

    def __init__(self, address: str) -> None:
        self._http = address
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
            raise RuntimeError(f"The page shows no table of films, but: {sorted(self.texts())}")
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
