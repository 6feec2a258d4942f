"""Films that a run was tested on, in a grid: each with truth, decision, probability and patient."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import streamlit as st

from cxr_core import images, workspace
from cxr_core.data import sources
from cxr_core.diagnosis import explain
from cxr_core.errors import BundleError, UnreadableImageError
from cxr_core.evaluation import scores
from cxr_core.training.tested import RunResult
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import loaders, notices, style, words

PAGE = 12  # films a page: each may want a heat map
_SIDE = 320  # px, longer side
_WITH_MAPS = "run_films_heat_maps"


def root(run: RunRecord) -> Path | None:
    """Return the folder of the films that a run was trained on; it may be gone by now.

    None for an ensemble whose members were trained on several.
    """
    named = run.params.get("data.root")
    if named is None:
        return None
    return workspace.data_folder() / named if named == sources.BUILT_IN else Path(named)


def grid(
    run: RunRecord,
    tested: RunResult,
    rows: Sequence[int] | np.ndarray,
    threshold: float,
    key: str,
    said: Mapping[int, str] | None = None,
) -> None:
    """Draw test films, a page at a time.

    Args:
        run: the run.
        tested: what its model said.
        rows: which test films, in the order to show.
        threshold: on the abnormal probability, 0-1, for the decision.
        key: prefix of the widgets' keys.
        said: Markdown to stand below films in place of the decision, by row.
    """
    folder = root(run)
    if folder is None:
        st.markdown("The members' films lie in several folders, so they are not shown here.")
        return
    if not folder.is_dir():
        st.markdown(
            f"The films lay in {words.plain(str(folder))}, which is not there now. Put the folder "
            "back to see them."
        )
        return
    pages = max(1, -(-len(rows) // PAGE))
    page_key = f"{key}:page:{pages}"
    first = (st.session_state.get(page_key, 1) - 1) * PAGE
    shown = [int(row) for row in rows[first : first + PAGE]]
    with_maps = st.session_state.get(_WITH_MAPS, False)
    decided = scores.decide(tested.test.probabilities, threshold)
    score = scores.abnormal(tested.test.probabilities)
    asked = words.plain(words.asked(tested.info.classes))
    with st.grid(min_column_width=150, gap="small"):
        for row in shown:
            film = tested.test.table.iloc[row]
            with st.container(gap=None, key=f"strip:{key}:{row}"):
                _film(run, folder / film["path"], tested, int(decided[row]), with_maps)
                decision = (
                    f"called {words.plain(words.finding(tested.info.classes[decided[row]]))}  \n"
                    f"{asked} {words.probability(float(score[row]))}"
                )
                patient = (
                    f", patient {words.plain(film['patient_id'])}" if film["patient_id"] else ""
                )
                st.caption(
                    f"{style.dot(film['label'], tested.info.classes)}  \n"
                    f"{(said or {}).get(row, decision)}  \n"
                    f":gray[{words.plain(Path(film['path']).name)}{patient}]"
                )
    with st.container(horizontal=True, vertical_alignment="center"):
        if pages > 1:
            st.pagination(pages, key=page_key)
        st.toggle(
            "Heat maps",
            key=_WITH_MAPS,
            persist_state="session",
            help="What raised the score of the decided finding, on films called normal that of the "
            "most probable finding. The first time the model is loaded, which takes some seconds.",
        )
        st.caption(words.count(len(rows), "film"), width="content")


def _film(run: RunRecord, path: Path, tested: RunResult, decided: int, with_map: bool) -> None:
    try:
        modified = str(path.stat().st_mtime_ns)
        data: bytes | None
        if with_map:
            data = _with_heat_map(run.run_id, str(path), modified, decided)
        else:
            data = loaders.thumbnail(str(path), modified, _SIDE)
    except (OSError, UnreadableImageError):
        data = None
    except BundleError as error:
        notices.wrong(error)
        return
    if data is None:
        st.caption(":material/broken_image: not readable now")
    else:
        st.image(data, width="stretch", alt=f"Film {path.name}")


@st.cache_data(max_entries=500, show_spinner=False)
def _with_heat_map(run_id: str, path: str, modified: str, decided: int) -> bytes:
    """Return a film with the evidence for a finding; ``modified`` tells a changed file."""
    predictor = loaders.predictor(loaders.store().path(run_id, "bundle"))
    film = images.read(Path(path))
    classes = predictor.info.classes
    if decided == 0 and len(classes) > 2:
        diagnosis = predictor.diagnose(film, heatmap=False, force=True)
        target = max(classes[1:], key=diagnosis.probabilities.__getitem__)
    else:
        target = classes[max(1, decided)]
    return loaders.jpeg(explain.overlay(film.pixels, predictor.heatmap(film, target)), _SIDE)
