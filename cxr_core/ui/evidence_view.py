"""The evidence for an answer: a film and its heat map, computed and shown as the reader likes.

The fragment redraws itself alone: a page may hold hundreds of films beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import streamlit as st

from cxr_core import images
from cxr_core.diagnosis import explain, faithfulness
from cxr_core.diagnosis.explain import METHODS, HeatMap
from cxr_core.diagnosis.faithfulness import Faithfulness
from cxr_core.diagnosis.report import Shown
from cxr_core.ui import background, loaders, viewer, words

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis, Predictor

_VIEW = 900  # px, longer side of the films shown
_STATE = "evidence"
_METHOD, _OPACITY, _COLOURS = "evidence_method", "overlay_opacity", "evidence_colours"
_CONTOURS, _ARRANGED, _SWIPE = "evidence_contours", "evidence_arranged", "evidence_swipe"
_FIRST = next(iter(METHODS))
_BESIDE, _OVER, _WIPE = "Side by side", "Overlay", "Swipe"
_CUT = (55, 131, 171)  # the theme's primary colour

_Wanted = tuple[str, str, str]  # method, target, layer ("" is the model's own)


class _Ended(Exception):  # noqa: N818 - an answer, no error
    """The reader asked for the work to end."""


@dataclass(eq=False)
class _Kept:
    """What was computed of the film that is looked at; another film takes its place."""

    key: str
    maps: dict[_Wanted, HeatMap] = field(default_factory=dict)
    tests: dict[_Wanted, Faithfulness] = field(default_factory=dict)
    work: tuple[_Wanted, background.Task[HeatMap]] | None = None
    view: Shown | None = None  # the map as it is drawn now; None while it is computed


def show(predictor: "Predictor", film: images.Radiograph, diagnosis: "Diagnosis", key: str) -> None:
    """Draw the film, the evidence for a class, and how far to trust it.

    Args:
        predictor: the model that gave the answer.
        film: the film.
        diagnosis: the answer; without a heat map the film stands alone.
        key: tells the film from others in this session.
    """
    if diagnosis.heatmap is None:
        _alone(film, key)
        return
    state = _kept(f"{predictor.info.model_sha256}:{key}", diagnosis.heatmap)
    if state.work is not None:
        wanted, task = state.work
        if task.ended():
            _take(state, wanted, task)
        else:  # a fragment of its own: it redraws itself, and the whole page at the end
            background.watch(task, _passes, "evidence", stop="Stop")
    _body(predictor, film, diagnosis.heatmap, key)


def in_view(predictor: "Predictor", key: str) -> Callable[[], Shown | None]:
    """Return what tells how the reader sees the heat map of a film; None where it is not in view.

    It may be asked from a thread of its own, long after the page was drawn.

    Args:
        predictor: as for :func:`show`.
        key: as for :func:`show`.
    """
    state: _Kept | None = st.session_state.get(_STATE)
    seen = state is not None and state.key == f"{predictor.info.model_sha256}:{key}"
    return lambda: state.view if state is not None and seen else None


def forget() -> None:
    """Forget what was computed of the visitor's film, and end what is being computed."""
    state: _Kept | None = st.session_state.pop(_STATE, None)
    if state is not None and state.work is not None:
        state.work[1].stop()


def _kept(key: str, first: HeatMap) -> _Kept:
    state: _Kept | None = st.session_state.get(_STATE)
    if state is None or state.key != key:
        forget()
        state = st.session_state[_STATE] = _Kept(key)
    state.maps.setdefault((first.method, first.target, ""), first)
    return state


def _alone(film: images.Radiograph, key: str) -> None:
    name = words.plain(film.name)
    st.image(loaders.jpeg(film.pixels, _VIEW), caption=name, alt=f"Film {film.name}")
    _closer(film, key)


@st.fragment
def _body(predictor: "Predictor", film: images.Radiograph, first: HeatMap, key: str) -> None:
    state = _kept(f"{predictor.info.model_sha256}:{key}", first)
    wanted = _choices(predictor, first, key)
    heatmap = state.maps.get(wanted)
    if heatmap is None:
        heatmap = _computed(predictor, film, state, wanted)
    state.view = _pictures(film, heatmap, wanted, key)
    if heatmap is None:
        return
    _scale(heatmap)
    _said(heatmap)
    _tested(predictor, film, state, wanted, heatmap)
    _sane(predictor)


def _choices(predictor: "Predictor", first: HeatMap, key: str) -> _Wanted:
    """Draw the choice of what is computed: method, class and layer."""
    classes = predictor.info.classes
    with st.container(horizontal=True, vertical_alignment="bottom"):
        method = st.selectbox(
            "Method",
            list(METHODS),
            format_func=lambda name: METHODS[name].title,
            key=_METHOD,
            persist_state="session",
            width=170,
            help="  \n".join(f"**{each.title}**: {each.words}" for each in METHODS.values()),
        )
        target = st.selectbox(
            "Evidence for",
            list(classes),
            index=classes.index(first.target),
            format_func=words.finding,
            key=f"evidence_target:{key}",
            width=170,
        )
        stages = predictor.explainer.stages if METHODS[method].at_layer else {}
        own = predictor.explainer.cam_layers
        if len(stages) > 1:
            layer = st.selectbox(
                "Cells",
                list(stages),
                index=list(stages).index(own[0]),
                format_func=lambda name: _grid(stages[name], name in own),
                key=f"evidence_layer:{predictor.info.model_sha256}",
                persist_state="session",
                width=190,
                help="The layer of the network that is looked at, by its grid. Early layers see "
                "edges and spots, late ones findings; the model's own is where its figures hold.",
            )
        else:
            layer = ""
    return method, target, "" if layer in own else layer


def _grid(grid: tuple[int, int], own: bool) -> str:
    return f"{grid[0]} × {grid[1]}{', the model’s own' if own else ''}"


def _computed(
    predictor: "Predictor", film: images.Radiograph, state: _Kept, wanted: _Wanted
) -> HeatMap | None:
    """Compute a map at once, or in the background where that takes many passes."""
    method, target, layer = wanted
    layers = (layer,) if layer else ()
    square = predictor.square(film)
    explainer = predictor.explainer
    if not METHODS[method].slow:
        with st.spinner(f"Computing {METHODS[method].title}"):
            found = explainer.heat_map(square, target, method=method, layers=layers)
        state.maps[wanted] = found
        return found
    if state.work is not None and state.work[0] != wanted:
        state.work[1].stop()
        state.work = None
    if state.work is None:

        def work(task: background.Task[HeatMap]) -> HeatMap:
            def tell(done: int, total: int) -> None:
                if task.stopped():
                    raise _Ended
                task.tell(METHODS[method].title, done, total)

            return explainer.heat_map(square, target, method=method, layers=layers, tell=tell)

        task = background.Task(work)
        state.work = (wanted, task)
        if not task.ended(background.EVERY):
            st.rerun()  # the whole page, which draws the progress
        _take(state, wanted, task)
        return state.maps.get(wanted)
    return None


def _passes(done: int, total: int) -> str:
    return f"{done} of {words.count(total, 'pass', 'passes')}"


def _take(state: _Kept, wanted: _Wanted, task: background.Task[HeatMap]) -> None:
    """Keep what came of the work; where it was stopped, go back to the first method."""
    state.work = None
    try:
        state.maps[wanted] = task.result()
    except _Ended:
        st.session_state[_METHOD] = _FIRST


def _pictures(
    film: images.Radiograph, heatmap: HeatMap | None, wanted: _Wanted, key: str
) -> Shown | None:
    """Draw the film and the map as the reader arranged them; return the map as it is drawn."""
    with st.container(horizontal=True, vertical_alignment="center"):
        arranged = st.segmented_control(
            "View",
            [_BESIDE, _OVER, _WIPE],
            default=_BESIDE,
            required=True,
            key=_ARRANGED,
            persist_state="session",
            label_visibility="collapsed",
        )
        with st.popover("Colours and window", icon=":material/tune:"):
            st.selectbox(
                "Colour map",
                list(explain.COLOURS),
                format_func=str.capitalize,
                key=_COLOURS,
                persist_state="session",
                help="Perceptually uniform: equal steps of the map look equal. Cividis looks the "
                "same to colour-blind eyes.",
            )
            st.toggle(
                "Contour lines",
                key=_CONTOURS,
                persist_state="session",
                help="Where the evidence is a quarter, half and three quarters of the strongest.",
            )
            level, window, invert = viewer.window_controls(f"evidence:{key}")
        _closer(film, key)
    shown = viewer.windowed(_at_view(film.pixels), level, window, invert)
    if heatmap is None:
        st.image(loaders.jpeg(shown, _VIEW), caption="Film", alt=f"Film {film.name}")
        return None
    view = Shown(
        heatmap,
        st.session_state.get(_OPACITY, 60) / 100,
        colours=st.session_state[_COLOURS],
        # Lines about single pixels would hide the film.
        contours=st.session_state[_CONTOURS] and METHODS[heatmap.method].at_layer,
    )
    over = view.over(shown)
    shows = "What spoke" if METHODS[heatmap.method].at_layer else "What could change the score"
    caption = f"{shows} for {words.finding(heatmap.target)}: {heatmap.title}"
    alt = f"Heat map over {film.name}"
    if arranged == _BESIDE:
        left, right = st.columns(2, gap="small")
        left.image(
            loaders.jpeg(shown, _VIEW), caption="Film", width="stretch", alt=f"Film {film.name}"
        )
        right.image(loaders.jpeg(over, _VIEW), caption=caption, width="stretch", alt=alt)
    elif arranged == _WIPE:
        share = st.session_state.get(_SWIPE, 50)
        st.image(
            loaders.jpeg(_wiped(shown, over, share / 100), _VIEW),
            caption=f"Left of the line the film, right of it: {caption[0].lower()}{caption[1:]}",
            width="stretch",
            alt=alt,
        )
        st.slider(
            "Where the film ends and the heat map begins",
            0,
            100,
            50,
            format="%d %%",
            key=_SWIPE,
            persist_state="session",
        )
    else:
        st.image(loaders.jpeg(over, _VIEW), caption=caption, width="stretch", alt=alt)
    st.slider(
        "Opacity of the heat map",
        0,
        100,
        60,
        step=5,
        format="%d %%",
        key=_OPACITY,
        persist_state="session",
    )
    return view


def _closer(film: images.Radiograph, key: str) -> None:
    if st.button(
        "Look closer",
        key=f"closer:{key}",
        icon=":material/zoom_in:",
        type="tertiary",
        help="Zoom and move at full resolution, with window, level and histogram.",
    ):
        viewer.open_radiograph(film, key)


def _at_view(pixels: np.ndarray) -> np.ndarray:
    """Return a film at the size that is shown, so that lines over it are as fine on any film."""
    scale = _VIEW / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, (width, height), interpolation=kind)


def _wiped(film: np.ndarray, over: np.ndarray, share: float) -> np.ndarray:
    """Return the film up to a share of the width, the overlay from there on, a line between."""
    wiped = over.copy()
    cut = round(share * film.shape[1])
    wiped[:, :cut] = film[:, :cut, None]
    if 0 < cut < film.shape[1]:
        wiped[:, max(0, cut - 1) : cut + 1] = _CUT
    return wiped


def _scale(heatmap: HeatMap) -> None:
    """Draw the raw scale: a bar from nothing to the strongest value, with its unit."""
    if heatmap.flat:
        return
    stops = explain.colour_bar(st.session_state[_COLOURS], 9, 1)[0]
    colours = ", ".join(f"rgb({red}, {green}, {blue})" for red, green, blue in stops)
    strongest = f"{heatmap.peak:.2g} {heatmap.unit}"
    st.html(
        f'<div role="img" aria-label="Scale of the heat map: 0 to {strongest}">'
        f'<div style="height: 0.6rem; border-radius: 0.3rem; '
        f'background: linear-gradient(to right, {colours})"></div>'
        '<div style="display: flex; justify-content: space-between; font-size: 0.85rem; '
        f'opacity: 0.75"><span>0</span><span>{strongest}</span></div></div>'
    )


def _said(heatmap: HeatMap) -> None:
    """Say what the map shows, and whether it shows anything."""
    about = METHODS[heatmap.method]
    if heatmap.flat:
        measured = (
            "nothing stands out in this map"
            if heatmap.evidence is None
            else f"what stands out adds up to {heatmap.evidence:.2f} logits, less than the "
            f"{explain.MIN_EVIDENCE} that tells"
        )
        st.caption(f":material/blur_off: No clear evidence: {measured}.")
        return
    amount = (
        f"What stands out adds up to {heatmap.evidence:.1f} logits."
        if heatmap.evidence is not None
        else "The scale is its own: how much of it would be clear evidence is not known."
    )
    st.caption(
        f"{about.words} {amount} {heatmap.note} It shows what the model used, which may not be "
        "the disease."
    )


def _tested(
    predictor: "Predictor",
    film: images.Radiograph,
    state: _Kept,
    wanted: _Wanted,
    heatmap: HeatMap,
) -> None:
    """Hold the map against random orders, once asked to."""
    if heatmap.flat:
        return
    found = state.tests.get(wanted)
    place = st.empty()
    if found is None:
        asked = place.button(
            "Test this map",
            key="evidence_test",
            icon=":material/experiment:",
            help="Blurs what the map marks, piece by piece, and watches the score; then the same "
            "in random orders (deletion and insertion, Petsiuk and others 2018).",
        )
        if not asked:
            return
        with place, st.spinner("Blurring the film piece by piece"):
            found = faithfulness.deletion_insertion(
                predictor.logits,
                predictor.square(film),
                heatmap.values,
                predictor.info.classes.index(heatmap.target),
            )
        state.tests[wanted] = found
    place.caption(f":material/experiment: {found.words}")


def _sane(predictor: "Predictor") -> None:
    """Say what the model's own probes found of its heat maps."""
    probes: dict[str, Any] = predictor.info.probes or {}
    found = next((each for each in probes.get("findings", []) if each["name"] == "sanity"), None)
    if found is None or found.get("value") is None:
        st.caption(":material/help: This model's heat maps were never tested for sanity.")
        return
    icon = ":material/warning:" if found["level"] == "warning" else ":material/verified:"
    st.caption(f"{icon} {found['words']}")
