"""What a visitor takes away from Diagnose: a report a film, a table, heat maps; made when asked."""

import io
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import cv2
import numpy as np
import streamlit as st

from cxr_core.diagnosis import answer_table, report, scoring
from cxr_core.diagnosis.report import Shown
from cxr_core.ui import background, evidence_view, uploads
from cxr_core.ui.uploads import Outcome, Reading

if TYPE_CHECKING:
    from cxr_core.diagnosis.bundle import BundleInfo
    from cxr_core.diagnosis.predictor import Predictor

_STATE = "reports_packing"
# Films whose archive is made by the click that downloads it: seconds. A browser waits 3 minutes.
_AT_ONCE = 20
_ROOM = 250_000_000  # bytes of pictures in an archive, which is made in memory
_TABLE = "answers.csv"


@dataclass(frozen=True)
class _Kind:
    """An archive of something of every film."""

    title: str  # what it holds
    icon: str
    file: str
    # A film's part by the longer side that there is room for, px: suffix and contents, or None.
    part: "Callable[[Predictor, Reading, int], tuple[str, bytes] | None]"
    bytes_a_pixel: float  # of the part, about


class _Ended(Exception):  # noqa: N818 - an answer, no error
    """The visitor asked for the work to end."""


@dataclass(eq=False)
class _Packing:
    """An archive in the making, or made."""

    key: tuple[str, str, tuple[str, ...]]  # title, model, films
    task: background.Task[bytes]


def offer(predictor: "Predictor", reading: Reading, outcomes: Sequence[Outcome | None]) -> None:
    """Draw the buttons that give the open film's report and what there is of all films.

    Args:
        predictor: the model.
        reading: of the film that is open.
        outcomes: of all films, in their order; None where one was not read yet.
    """
    found = [outcome for outcome in outcomes if outcome is not None]
    with st.container(horizontal=True, key="reports"):
        if reading.film is not None:
            _of_one(predictor, reading)
        if len(outcomes) > 1:
            _of_all(predictor, found, complete=len(found) == len(outcomes))
        else:
            forget()
    _progress()


def forget() -> None:
    """Forget the archive that was made, and end the work on one."""
    packing: _Packing | None = st.session_state.pop(_STATE, None)
    if packing is not None:
        packing.task.stop()


def _of_one(predictor: "Predictor", reading: Reading) -> None:
    upload, film, diagnosis = reading.upload, reading.film, reading.diagnosis
    assert film is not None and diagnosis is not None  # it could be read
    view = evidence_view.in_view(predictor, upload.digest)
    st.download_button(
        "Report of this film (HTML)",
        data=lambda: report.page(
            predictor, film, diagnosis, view(), synthetic=upload.synthetic
        ).encode("utf-8", "replace"),
        file_name=f"{next(_names([upload.name]))}-report.html",
        mime="text/html",
        icon=":material/summarize:",
        on_click="ignore",
        help="One sheet of A4 to print, with the heat map as it is shown here. It opens without a "
        "network and holds nothing of the patient but what the film shows and its file's name.",
        key=f"report:{upload.digest}",
    )


def _of_all(predictor: "Predictor", found: Sequence[Outcome], *, complete: bool) -> None:
    wait = None if complete else "Once all films are read."
    st.download_button(
        "Table of all films (CSV)",
        data=lambda: table(predictor.info, found).encode("utf-8", "backslashreplace"),
        file_name=_TABLE,
        mime="text/csv",
        icon=":material/table:",
        on_click="ignore",
        disabled=not complete,
        help=wait or "A row a film with its answer, or why it has none.",
        key="report:table",
    )
    digests = tuple(outcome.upload.digest for outcome in found)
    packing: _Packing | None = st.session_state.get(_STATE)
    if packing is not None and packing.key[1:] != (predictor.info.model_sha256, digests):
        forget()
        packing = None
    for kind in _KINDS:
        _archive(predictor, found, kind, packing, wait)


def _archive(
    predictor: "Predictor",
    found: Sequence[Outcome],
    kind: _Kind,
    packing: _Packing | None,
    wait: str | None,
) -> None:
    """Draw an archive's button: it makes a large one first, and gives a small one at once."""
    digests = tuple(outcome.upload.digest for outcome in found)
    key = (kind.title, predictor.info.model_sha256, digests)
    work = partial(pack, predictor=predictor, found=found, kind=kind)
    made = packing is not None and packing.key == key and packing.task.ended()
    if made or len(found) <= _AT_ONCE:
        task = packing.task if made and packing is not None else None
        st.download_button(
            f"{kind.title} of all films (zip)",
            data=task.result if task is not None else lambda: work(None),
            file_name=kind.file,
            mime="application/zip",
            icon=kind.icon,
            on_click="ignore",
            disabled=wait is not None,
            help=wait or ("It is made." if made else "Made when you click, in a few seconds."),
            key=f"report:{kind.title}",
        )
        return
    running = packing is not None and not packing.task.ended()
    st.button(
        f"Make {kind.title.lower()} of all films",
        icon=kind.icon,
        disabled=wait is not None or running,
        help=wait or "It takes a while; the page can be used meanwhile. Then it can be downloaded.",
        key=f"report:make:{kind.title}",
        on_click=_begin,
        args=(key, work),
    )


def _begin(key: tuple[str, str, tuple[str, ...]], work: Callable[..., bytes]) -> None:
    forget()
    st.session_state[_STATE] = _Packing(key, background.Task(work))


def _progress() -> None:
    """Draw how far an archive is; let a stopped one be made again."""
    packing: _Packing | None = st.session_state.get(_STATE)
    if packing is None:
        return
    if not packing.task.ended():
        background.watch(packing.task, lambda done, total: f"{done} of {total}", _STATE, "Stop")
    elif packing.task.stopped():
        forget()
        st.rerun()


# -- what is taken away ----------------------------------------------------------------------------


def table(info: "BundleInfo", found: Sequence[Outcome]) -> str:
    """Return the answers for all films as CSV, with the columns of `predict`.

    Args:
        info: of the model.
        found: what it said of each film.
    """
    return answer_table.text(
        scoring.columns(info.classes), [_row(info, outcome) for outcome in found]
    )


def _row(info: "BundleInfo", outcome: Outcome) -> dict[str, object]:
    upload = outcome.upload
    scored = scoring.Scored(
        Path(upload.name), outcome.diagnosis, outcome.error, model=scoring.version(info)
    )
    row = scored.as_row(info.classes)
    mends = "".join(f"Put right on request: {how}. " for how in upload.mends)
    return {**row, "note": f"{mends}{row['note'] or ''}"} if mends else row


def pack(
    task: "background.Task[bytes] | None",
    predictor: "Predictor",
    found: Sequence[Outcome],
    kind: _Kind,
) -> bytes:
    """Return a zip of something of every film that has it, and the table of all.

    Args:
        task: is told how far it is, and ends it; None where nobody watches.
        predictor: the model.
        found: what it said of each film.
        kind: what of each film.
    """
    file = io.BytesIO()
    names = _names([outcome.upload.name for outcome in found])
    side = math.isqrt(int(_ROOM / kind.bytes_a_pixel / max(1, len(found))))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_TABLE, table(predictor.info, found), zipfile.ZIP_DEFLATED)
        for done, (name, outcome) in enumerate(zip(names, found, strict=True)):
            if task is not None:
                if task.stopped():
                    raise _Ended
                task.tell(kind.title, done, len(found))
            part = kind.part(predictor, uploads.read(outcome.upload, predictor), side)
            if part is not None:
                suffix, data = part
                archive.writestr(f"{name}{suffix}", data, zipfile.ZIP_DEFLATED, compresslevel=1)
    return file.getvalue()


def _heat_map(predictor: "Predictor", reading: Reading, side: int) -> tuple[str, bytes] | None:
    """Return the heat map over a film as PNG, its longer side at most ``side`` px."""
    film, diagnosis = reading.film, reading.diagnosis
    if film is None or diagnosis is None or diagnosis.heatmap is None:
        return None
    over = Shown(diagnosis.heatmap).over(report.fitted(film.pixels, side))
    return ".png", _png(over)


def _png(rgb: np.ndarray) -> bytes:
    encoded: bytes = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
    return encoded


def _report(predictor: "Predictor", reading: Reading, side: int) -> tuple[str, bytes] | None:
    """Return a film's report, its pictures' longer side at most ``side`` px."""
    if reading.film is None or reading.diagnosis is None:
        return None
    page = report.page(
        predictor,
        reading.film,
        reading.diagnosis,
        synthetic=reading.upload.synthetic,
        side=min(side, report.SIDE),
    )
    return "-report.html", page.encode("utf-8", "replace")


_KINDS = (
    _Kind("Heat maps", ":material/gradient:", "heatmaps.zip", _heat_map, 1.5),
    _Kind("Reports", ":material/summarize:", "reports.zip", _report, 0.5),
)


def _names(films: Sequence[str]) -> Iterator[str]:
    """Yield a name a film without its suffix, no two alike and none that leads out of a folder."""
    taken: set[str] = set()
    for film in films:
        parts = [part for part in re.split(r"[/\\]", film) if part.strip(".")]
        # Windows has no file of these names either.
        stem = re.sub(r'[<>:"|?*\x00-\x1f]', "_", PurePosixPath("_".join(parts) or "film").stem)
        name, number = stem, 2
        while name.lower() in taken:  # Windows and macOS tell no case
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        yield name
