"""Mistakes of a run: galleries of its test films, the most telling ones first."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from cxr_core.evaluation import scores
from cxr_core.training.tested import RunResult
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import run_films, words


@dataclass(frozen=True)
class Gallery:
    """Test films of one kind."""

    title: str
    rows: np.ndarray  # in the order to show
    meaning: str


def galleries(tested: RunResult, threshold: float) -> list[Gallery]:
    """Sort test films into galleries.

    Certainty is the distance of the probability of any finding from the threshold, as a share of
    the way to 0 or 1.

    Args:
        tested: what a run's model said.
        threshold: on the abnormal probability, 0-1.
    """
    test = tested.test
    score = scores.abnormal(test.probabilities)
    right = scores.decide(test.probabilities, threshold) == test.labels
    room = np.where(score >= threshold, 1 - threshold, threshold)
    certainty = np.abs(score - threshold) / np.maximum(room, 1e-9)
    surest = np.argsort(-certainty, kind="stable")
    wrong = surest[~right[surest]]
    return [
        Gallery("Most certain and wrong", wrong, "Wrong, the furthest from the threshold first."),
        Gallery(
            "Missed findings",
            wrong[(test.labels[wrong] != 0) & (score[wrong] < threshold)],
            "Films with a finding that were called normal, the most certain first.",
        ),
        Gallery(
            "False alarms",
            wrong[test.labels[wrong] == 0],
            "Normal films that were called a finding, the most certain first.",
        ),
        Gallery("Least certain", surest[::-1], "Nearest to the threshold, right or wrong."),
        Gallery("Right", surest[right[surest]], "Right, the most certain first."),
    ]


@st.fragment
def show(run: RunRecord, tested: RunResult) -> None:
    """Draw the galleries at the threshold that the bundle ships with."""
    threshold = tested.info.threshold.value
    kinds = galleries(tested, threshold)
    wrong = len(kinds[0].rows)
    st.markdown(
        f"#### {words.count(wrong, 'test film')} of {len(tested.test):,} decided wrong, "
        f"{words.count(len(kinds[1].rows), 'finding')} called normal"
    )
    by_title = {kind.title: kind for kind in kinds}
    chosen = st.segmented_control(
        "Films",
        list(by_title),
        default=kinds[0].title,
        required=True,
        format_func=lambda title: f"{title} ({len(by_title[title].rows):,})",
        key=f"mistakes:{run.run_id}",
        label_visibility="collapsed",
    )
    kind = by_title[chosen]
    st.caption(
        f"{kind.meaning} Threshold {words.percent(threshold)}, the bundle's own. A label may be "
        "wrong, too: look before you blame the model."
    )
    if not len(kind.rows):
        st.markdown("No film is of this kind.")
        return
    run_films.grid(run, tested, kind.rows, threshold, f"mistakes:{run.run_id}:{kind.title}")
