"""What a model says about a film, as a card: the film and its heat map, the answer in words."""

from typing import TYPE_CHECKING

import streamlit as st

from cxr_core import NOT_FOR_CLINICAL_USE, figures
from cxr_core.diagnosis import gate, sentences
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.ui import charts, evidence_view, notices, standing_view, uploads, words
from cxr_core.ui.uploads import Reading

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis, Predictor


def card(reading: Reading, predictor: "Predictor") -> None:
    """Draw the result for one file: the evidence on the left, the answer on the right."""
    if reading.film is None:
        name = words.plain(reading.upload.name)
        st.error(words.plain(reading.error), title=f"{name} was not read", icon=":material/draft:")
        return
    diagnosis = reading.diagnosis
    assert diagnosis is not None  # a film that could be read has been asked about
    with st.container(border=True):
        viewer, answer = st.columns([1.5, 1], gap="large")
        with viewer:
            evidence_view.show(predictor, reading.film, diagnosis, reading.upload.digest)
            if diagnosis.accepted:
                standing_view.similar_films(predictor, diagnosis)
        with answer:
            _answer(reading, diagnosis, predictor)


def _answer(reading: Reading, diagnosis: "Diagnosis", predictor: "Predictor") -> None:
    film, info = reading.film, predictor.info
    assert film is not None
    st.caption(words.plain(film.name))
    if diagnosis.accepted:
        _judged(reading, diagnosis, info)
        standing_view.show(predictor, diagnosis, reading.upload.digest)
    else:
        _refused(reading, diagnosis, info)
    facts = [f"{film.format}, {film.mode}, {film.width} × {film.height} px", *film.notes]
    # How the film was taken; of the patient nothing, not even age and sex.
    taken = ((name, value) for name, value in film.tags.items() if not name.startswith("Patient"))
    facts += [f"{name}: {value}" for name, value in taken]
    with st.expander("About this file"):
        st.markdown("\n".join(f"- {fact}" for fact in facts))
    _signature(reading, info)


def _judged(reading: Reading, diagnosis: "Diagnosis", info: BundleInfo) -> None:
    if info.data.synthetic and not reading.upload.synthetic:
        st.warning(
            "This model has seen synthetic films only. About a film of a person its answer "
            "means nothing.",
            icon=":material/draw:",
        )
    for limit in diagnosis.unchecked:
        st.warning(limit, icon=":material/shield_question:")
    st.header(words.unbroken(sentences.answer(diagnosis)), anchor=False)
    charts.show(
        figures.probability_bars(diagnosis.probabilities, diagnosis.threshold, words.probability),
        key=f"bars:{reading.upload.digest}",
        alt="Probability of each class with the threshold",
    )
    st.caption(
        "Calibrated probability, for films like those the model learned from. The threshold "
        f"was chosen on {info.threshold.chosen_on} films by "
        f"{words.threshold_method(info.threshold.method)}."
    )


def _refused(reading: Reading, diagnosis: "Diagnosis", info: BundleInfo) -> None:
    """Say why there is no answer, and offer what would mend that."""
    digest = reading.upload.digest
    insisted = diagnosis.label is not None
    st.header("Refused, answered on request" if insisted else "Not judged", anchor=False)
    for reason in diagnosis.reasons:
        st.warning(reason, icon=":material/block:")
    for mend in sorted({refusal.mend for refusal in diagnosis.refusals if refusal.mend}):
        st.button(
            "Invert the film and judge it" if mend == gate.INVERT else "Turn it upright, judge it",
            icon=":material/invert_colors:" if mend == gate.INVERT else ":material/rotate_right:",
            key=f"mend:{mend}:{digest}",
            type="primary",
            on_click=uploads.mend,
            args=(digest, mend),
        )
    if insisted:
        st.markdown("**The numbers below are not to be relied on: the gate refused this image.**")
        _judged(reading, diagnosis, info)
        return
    st.markdown("A probability for such an image would mean nothing, so none is shown.")
    st.button(
        "Show the probability all the same",
        icon=":material/visibility:",
        key=f"insist:{digest}",
        on_click=uploads.insist,
        args=(digest,),
    )


def _signature(reading: Reading, info: BundleInfo) -> None:
    """Say whose answer it is and what it may not be used for: under every result."""
    with st.container(horizontal=True):
        if reading.upload.synthetic:
            notices.synthetic_badge(True, "Synthetic film")
        if info.data.synthetic:
            st.badge("Model learned from synthetic films", icon=":material/draw:", color="gray")
    st.caption(f"{words.plain(info.name)}. {NOT_FOR_CLINICAL_USE}")
