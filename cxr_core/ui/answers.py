"""What a model says about a film, as a card: the film and its heat map, the answer in words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from cxr_core import NOT_FOR_CLINICAL_USE, figures
from cxr_core.diagnosis import explain
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.ui import charts, loaders, notices, words
from cxr_core.ui.uploads import Reading

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis

_VIEW = 900  # px, longer side of the films shown
_OPACITY = "overlay_opacity"


def sentence(diagnosis: "Diagnosis") -> str:
    """Return the answer in words, with the number and the threshold it was held against."""
    if diagnosis.label is None:
        return "No answer: this is not a film the model can judge."
    threshold = words.percent(diagnosis.threshold)
    name = words.finding(diagnosis.label).capitalize()
    if diagnosis.label == diagnosis.classes[0]:
        called = f"{name} likely" if (diagnosis.abnormal or 0) < 0.5 else "No finding called"
        return (
            f"{called}: the probability of a finding is "
            f"{words.probability(diagnosis.abnormal)}, below the threshold of {threshold}"
        )
    # A low threshold calls a finding that is less likely than not: the words must not outrun it.
    certainty = "likely" if (diagnosis.probability or 0) >= 0.5 else "possible"
    found = f"{name} {certainty}: {words.probability(diagnosis.probability)}"
    if len(diagnosis.classes) == 2:
        return f"{found}, above the threshold of {threshold}"
    return (
        f"{found}; any finding {words.probability(diagnosis.abnormal)}, above the threshold of "
        f"{threshold}"
    )


def overview(readings: Sequence[Reading], key: str) -> Reading:
    """Draw the table of several films; return the one selected, by default the first readable."""
    rows = [_row(reading) for reading in readings]
    first = next((place for place, reading in enumerate(readings) if reading.film is not None), 0)
    st.caption("Tick a row to open its film below.")
    state = st.dataframe(
        pd.DataFrame(rows),
        key=key,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [first]}},
        row_height=56,
        placeholder="–",
        column_config={
            "Film": st.column_config.ImageColumn(width="small"),
            "Any finding": st.column_config.ProgressColumn(
                min_value=0,
                max_value=100,
                format="%.1f %%",
                help="Calibrated probability that the film shows any finding.",
            ),
        },
    )
    chosen = state["selection"]["rows"]
    return readings[chosen[0] if chosen and chosen[0] < len(readings) else first]


def card(reading: Reading, info: BundleInfo) -> None:
    """Draw the result for one file: the viewer on the left, the answer on the right."""
    if reading.film is None:
        st.error(
            reading.error, title=f"{reading.upload.name} was not read", icon=":material/draft:"
        )
        return
    diagnosis = reading.diagnosis
    assert diagnosis is not None  # a film that could be read has been asked about
    with st.container(border=True):
        viewer, answer = st.columns([1.5, 1], gap="large")
        with viewer:
            _viewer(reading, diagnosis)
        with answer:
            _answer(reading, diagnosis, info)


def _viewer(reading: Reading, diagnosis: "Diagnosis") -> None:
    film = reading.film
    assert film is not None
    heatmap = diagnosis.heatmap
    if heatmap is None:
        st.image(loaders.jpeg(film.pixels, _VIEW), caption=film.name, alt=f"Film {film.name}")
        return
    opacity = st.session_state.get(_OPACITY, 60) / 100
    left, right = st.columns(2, gap="small")
    left.image(
        loaders.jpeg(film.pixels, _VIEW), caption="Film", width="stretch", alt=f"Film {film.name}"
    )
    target = words.finding(heatmap.target)
    right.image(
        loaders.jpeg(explain.overlay(film.pixels, heatmap, opacity), _VIEW),
        caption=f"What spoke for {target}",
        width="stretch",
        alt=f"Heat map over {film.name}",
    )
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
    if heatmap.flat:
        st.caption(":material/blur_off: No clear evidence: nothing stands out in this map.")
    else:
        st.caption(
            f"{heatmap.method}: bright where the film raised the score for {target}. It shows what "
            "the model used, which may not be the disease."
        )


def _answer(reading: Reading, diagnosis: "Diagnosis", info: BundleInfo) -> None:
    film = reading.film
    assert film is not None
    st.caption(film.name)
    if not diagnosis.accepted:
        st.header("Not judged", anchor=False)
        for reason in diagnosis.reasons:
            st.warning(reason, icon=":material/block:")
        st.markdown("A probability for such an image would mean nothing, so none is shown.")
    else:
        if info.data.synthetic and not reading.upload.synthetic:
            st.warning(
                "This model has seen synthetic films only. About a film of a person its answer "
                "means nothing.",
                icon=":material/draw:",
            )
        st.header(sentence(diagnosis), anchor=False)
        charts.show(
            figures.probability_bars(diagnosis.probabilities, diagnosis.threshold),
            key=f"bars:{reading.upload.digest}",
            alt="Probability of each class with the threshold",
        )
        st.caption(
            "Calibrated probability, for films like those the model learned from. The threshold "
            f"was chosen on {info.threshold.chosen_on} films by "
            f"{words.threshold_method(info.threshold.method)}."
        )
    facts = [f"{film.format}, {film.mode}, {film.width} × {film.height} px", *film.notes]
    facts += [f"{name}: {value}" for name, value in film.tags.items()]
    with st.expander("About this file"):
        st.markdown("\n".join(f"- {fact}" for fact in facts))
    _signature(reading, info)


def _signature(reading: Reading, info: BundleInfo) -> None:
    """Say whose answer it is and what it may not be used for: under every result."""
    with st.container(horizontal=True):
        if reading.upload.synthetic:
            notices.synthetic_badge(True, "Synthetic film")
        if info.data.synthetic:
            st.badge("Model learned from synthetic films", icon=":material/draw:", color="gray")
    st.caption(f"{info.name}. {NOT_FOR_CLINICAL_USE}")


def _row(reading: Reading) -> dict[str, Any]:
    diagnosis, film = reading.diagnosis, reading.film
    if film is None or diagnosis is None:
        return {
            "Film": None,
            "File": reading.upload.name,
            "Answer": "not read",
            "Any finding": None,
            "Why": reading.error,
        }
    answer = words.finding(diagnosis.label) if diagnosis.accepted and diagnosis.label else "refused"
    return {
        "Film": loaders.data_url(loaders.jpeg(film.pixels, 112)),
        "File": film.name,
        "Answer": answer,
        "Any finding": None if diagnosis.abnormal is None else 100 * diagnosis.abnormal,
        "Why": " ".join(diagnosis.reasons),
    }
