"""Whether a run's probabilities come true: the reliability diagram and what it sums up to."""

import streamlit as st

from cxr_core import figures
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.evaluation import calibration
from cxr_core.training.tested import Films, RunResult
from cxr_core.ui import charts, words


def show(run_id: str, tested: RunResult) -> None:
    """Draw forecast against outcome on the test films, before and after calibration."""
    info, films = tested.info, tested.test
    st.markdown("#### Calibration")
    raw = info.uncalibrated(films.logits)
    before = calibration.expected_calibration_error(films.labels, raw)
    summary = info.metrics.get("test", {})
    left, right = st.columns([1.25, 1], gap="large")
    with left:
        tables = {
            f"As the network said it (ECE {words.figure(before)})": calibration.reliability(
                films.labels, raw
            ),
            f"Calibrated (ECE {words.figure(summary.get('ece'))})": calibration.reliability(
                films.labels, films.probabilities
            ),
        }
        charts.show(
            figures.reliability(tables),
            key=f"reliability:{run_id}",
            alt="Observed frequency over forecast probability of the test films",
        )
    with right:
        one, other = (place.container(gap=None) for place in st.columns(2))
        one.metric(
            "Calibration error",
            words.figure(summary.get("ece")),
            help="Expected calibration error: the mean gap between forecast and observed share, "
            f"over {calibration.BINS} bins of about as many films each. 0 is perfect.",
        )
        one.caption(words.interval(summary.get("ci95", {}).get("ece")))
        other.metric(
            "Temperature",
            words.figure(info.temperature, 2),
            help="Logits are divided by it. Above 1 the network was too sure of itself, below 1 "
            "not sure enough. Fitted on the validation films, kept in the bundle.",
        )
        if info.offset:
            other.caption(f"after an offset of {_offset(info)}")
        other.caption(_validation(info, tested.val))
        what = (
            f"the probability of {words.finding(info.classes[1])}"
            if len(info.classes) == 2
            else "the probability of the most probable class"
        )
        st.caption(
            f"Each point is about a tenth of the {words.count(len(films), 'test film')}: across, "
            f"{what} on average; upwards, the share of them where it came true. On the dotted "
            "line a probability means what it says. Calibration holds for films like these and "
            "this share of findings; elsewhere see the prevalence under Test results."
        )


def _offset(info: BundleInfo) -> str:
    """Return what calibration added to each logit but the first, in words."""
    return words.listing(
        [
            f"{value:+.2f} for {words.finding(label)}"
            for label, value in zip(info.classes[1:], info.offset[1:], strict=True)
        ]
    )


def _validation(info: BundleInfo, val: Films) -> str:
    if not len(val):
        return ""
    raw = info.uncalibrated(val.logits)
    before = calibration.expected_calibration_error(val.labels, raw)
    after = calibration.expected_calibration_error(val.labels, val.probabilities)
    return f"Validation ECE {words.figure(before)} before, {words.figure(after)} after"
