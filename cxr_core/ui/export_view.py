"""Exports: a run's model as other systems load it, made beside the page and compared with it."""

import json
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from cxr_core import workspace
from cxr_core.diagnosis import exports
from cxr_core.errors import CxrError
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import background, downloads, loaders, notices, words

_WORKS = "export_works"  # session key: (run id, format) -> the work on it
_KEPT = 6  # exports and works that a session remembers

_FOR = {  # what each format is taken for
    "onnx": "for ONNX Runtime and most other engines",
    "saved_model": "for TensorFlow and TensorFlow Serving",
    "litert": "for phones and small machines",
}


@dataclass(frozen=True)
class Made:
    """An export that lies in the workspace."""

    folder: Path
    told: dict[str, float]  # what the command line tells of it


def offer(record: RunRecord) -> None:
    """Offer a run's model in the formats of other systems; a choice is made at a press."""
    with st.popover("Export", icon=":material/output:", key=f"export:{record.run_id}"):
        st.markdown(
            "Write the model as other systems load it, with its labels, threshold and temperature "
            "and a script that answers for a film without this app."
        )
        chosen = st.selectbox(
            "Format",
            list(exports.FORMATS),
            format_func=lambda key: f"{exports.FORMATS[key].title}: {_FOR[key]}",
            key=f"export_format:{record.run_id}",
        )
        missing = exports.missing(exports.FORMATS[chosen])
        if missing:
            st.caption(
                f"{exports.FORMATS[chosen].title} needs {words.listing(missing)}, which are not "
                f"installed here: `pip install -r {exports.REQUIREMENTS}`, then start the app anew."
            )
            return
        _export(record, chosen)


def _works() -> OrderedDict[tuple[str, str], background.Task[Made]]:
    works: OrderedDict[tuple[str, str], background.Task[Made]] = st.session_state.setdefault(
        _WORKS, OrderedDict()
    )
    return works


def _export(record: RunRecord, chosen: str) -> None:
    work = _works().get((record.run_id, chosen))
    if work is not None and not work.ended():
        background.watch(work, lambda done, total: "", key="export", stop="Stop")
        return
    if work is not None and not work.stopped():
        try:
            _result(record, chosen, work.result())
        except CxrError as error:
            notices.wrong(error)
        else:
            return
    st.button(
        "Export the model",
        key=f"export_now:{record.run_id}:{chosen}",
        type="primary",
        on_click=_begin,
        args=(record.run_id, chosen),
    )


def _begin(run_id: str, chosen: str) -> None:
    works = _works()
    works[run_id, chosen] = background.Task(lambda task: _made(run_id, chosen, task))
    while len(works) > _KEPT:
        works.popitem(last=False)[1].stop()


def _made(run_id: str, chosen: str, task: background.Task[Made]) -> Made:
    """Export in a process of its own: converters are large, and each is used once."""
    task.tell(f"Writing, and asking it about {exports.CHECKED} synthetic films", 0, 0)
    folder = workspace.run_folder(run_id) / "exports" / chosen
    shutil.rmtree(folder, ignore_errors=True)
    source = loaders.store().path(run_id, "bundle")
    said = background.in_a_process(
        task,
        *("cxr_core", "export", str(source)),
        *("--format", chosen, "--out", str(folder), "--json"),
    )
    return Made(folder, json.loads(said))


def _result(record: RunRecord, chosen: str, made: Made) -> None:
    told = made.told
    st.success(
        f"{exports.FORMATS[chosen].title}, {told['bytes'] / 1e6:.1f} MB. On {told['films']} "
        f"synthetic films its probabilities differ from the model's by at most "
        f"{told['furthest']:.0e}. A film takes {told['milliseconds']:.1f} ms on this machine's "
        f"CPU, in the app {told['milliseconds_before']:.1f} ms.",
        icon=":material/check_circle:",
    )
    st.download_button(
        "Download (zip)",
        data=lambda: downloads.zipped(made.folder),
        file_name=f"{record.name}-{record.run_id[:8]}-{chosen}.zip",
        mime="application/zip",
        icon=":material/download:",
        type="primary",
        on_click="ignore",
        key=f"exported:{record.run_id}:{chosen}",
    )
