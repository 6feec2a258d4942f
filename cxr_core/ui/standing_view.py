"""What an answer is worth, beside it: how others fared, how steady it is, what it is elsewhere."""

from typing import TYPE_CHECKING

import streamlit as st

from cxr_core.diagnosis import similar, stability, standing
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.diagnosis.stability import Stability
from cxr_core.ui import results_view, words

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis, Predictor

_STEADY = "stability"  # of the film that is looked at; another film takes its place
_PREVALENCE = "prevalence_elsewhere"


def show(predictor: "Predictor", diagnosis: "Diagnosis", key: str) -> None:
    """Draw what an accepted film's answer is worth.

    Args:
        predictor: the model that gave the answer.
        diagnosis: the answer.
        key: tells the film from others in this session.
    """
    info = predictor.info
    st.markdown("**How far to trust it**")
    told = [
        (":material/history:", standing.fared(info, diagnosis)),
        (":material/straighten:", standing.distance(diagnosis)),
        (":material/vibration:", steadiness(predictor, diagnosis, key).words),
    ]
    with st.container(gap="small"):
        for icon, sentence in told:
            if sentence:
                st.markdown(f"{icon} {words.unbroken(words.plain(sentence))}")
    _elsewhere(info, diagnosis)


def steadiness(predictor: "Predictor", diagnosis: "Diagnosis", key: str) -> Stability:
    """Return what a model says of a film's slight changes; asked once for the film in view."""
    wanted = (predictor.info.model_sha256, key)
    kept: tuple[tuple[str, str], Stability] | None = st.session_state.get(_STEADY)
    if kept is None or kept[0] != wanted:
        assert diagnosis.square is not None  # it has an answer
        found = stability.measure(
            predictor.probabilities, diagnosis.square, predictor.info.threshold.value
        )
        kept = st.session_state[_STEADY] = (wanted, found)
    return kept[1]


@st.fragment
def _elsewhere(info: BundleInfo, diagnosis: "Diagnosis") -> None:
    """Draw what the answer is where findings are rarer or more common."""
    here = standing.prevalence(info)
    if here is None:
        return
    asked = words.asked(info.classes)
    st.markdown("**At your own prevalence**")
    begin = min(max(round(100 * here, 1), 0.1), 99.9)
    wanted = st.slider(
        f"Share of people with {words.plain(asked)}",
        0.1,
        99.9,
        begin,
        step=0.1,
        format="%.1f %%",
        key=f"{_PREVALENCE}:{info.model_sha256}",
        persist_state="session",
        help="Among the people whose films you have.",
    )
    st.caption(
        words.unbroken(
            f"It begins at {words.percent(here)}, the share among the films that the model was "
            "calibrated on: there the answer is the one above."
        )
    )
    share = here if wanted == begin else wanted / 100
    found = standing.elsewhere(info, diagnosis.probabilities, share)
    left, right = st.columns(2)
    left.metric(words.plain(asked.capitalize()), words.probability(found.abnormal))
    right.metric("Threshold", words.probability(found.threshold))
    worth = ""
    if found.ppv is not None and found.npv is not None:
        films = words.count(info.metrics["test"]["n"], "test film")
        called, have = (asked, "have it") if len(info.classes) == 2 else ("a finding", "have one")
        worth = (
            f" Of films called {words.plain(called)} there, {found.ppv.words} {have}; of those "
            f"called normal, {found.npv.words} are: by {films}, in brackets at both ends of the "
            "95 % intervals of sensitivity and specificity."
        )
    st.caption(
        words.unbroken(
            f"The decision is the same: the threshold moves along.{worth} This assumes that "
            "findings and normal films look there as they do here (Saerens 2002)."
        )
        + results_view.caution(info)
    )


def similar_films(predictor: "Predictor", diagnosis: "Diagnosis") -> None:
    """Draw the training films most like an accepted film."""
    found = predictor.similar(diagnosis)
    st.markdown(
        "**The training films most like it**",
        help="By the features that the network's last layer sees, each of another patient. 1 × is "
        "the usual distance between a training film and the nearest of another patient. A film is "
        "named by the first figures of its contents' MD5, as in splits.csv of the model's bundle.",
    )
    if not found:
        st.caption("Which they are is not known: no training films go with this model.")
        return
    for place, each in zip(st.columns(len(found), gap="small"), found, strict=True):
        with place.container(gap="xsmall"):
            label = words.finding(each.label)
            if each.picture:
                st.image(each.picture, width="stretch", alt=f"Training film, {label}")
            st.markdown(f"**{words.plain(label.capitalize())}**")
            st.caption(f"{each.distance:.1f} × the usual distance, film {each.film}")
    if not any(each.picture for each in found):
        st.caption("Their pictures do not come with this model.")
    if found[0].distance < similar.SAME:
        st.warning(standing.alike(found), icon=":material/content_copy:")
    else:
        st.caption(standing.alike(found))
