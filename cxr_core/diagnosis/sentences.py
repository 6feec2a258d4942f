"""An answer and its numbers in words, the same on the page, in a report and in a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxr_core.diagnosis.predictor import Diagnosis


def answer(diagnosis: "Diagnosis") -> str:
    """Return the answer in words, with the number and the threshold it was held against."""
    if diagnosis.label is None:
        return "No answer: this is not a film the model can judge."
    threshold = percent(diagnosis.threshold)
    name = finding(diagnosis.label).capitalize()
    if diagnosis.label == diagnosis.classes[0]:
        called = f"{name} likely" if (diagnosis.abnormal or 0) < 0.5 else "No finding called"
        return (
            f"{called}: the probability of {asked(diagnosis.classes)} is "
            f"{probability(diagnosis.abnormal)}, below the threshold of {threshold}"
        )
    # A low threshold calls a finding that is less likely than not: the words must not outrun it.
    certainty = "likely" if (diagnosis.probability or 0) >= 0.5 else "possible"
    found = f"{name} {certainty}: {probability(diagnosis.probability)}"
    if len(diagnosis.classes) == 2:
        return f"{found}, above the threshold of {threshold}"
    return (
        f"{found}; any finding {probability(diagnosis.abnormal)}, above the threshold of "
        f"{threshold}"
    )


def asked(classes: Sequence[str]) -> str:
    """Write what the abnormal probability is of: "pneumonia", or "any finding" of several.

    Args:
        classes: the model's classes, the reference class first.
    """
    return finding(classes[1]) if len(classes) == 2 else "any finding"


def percent(share: float | None) -> str:
    """Write a share in 0-1 as a percentage with one decimal, "74.1 %"; a dash if undefined."""
    return "–" if share is None or share != share else f"{100 * share:.1f} %"


def probability(value: float | None) -> str:
    """Write a probability as :func:`percent`, but never as certainty: "over 99.9 %"."""
    if value is not None and value > 0.999:
        return "over 99.9 %"
    return "under 0.1 %" if value is not None and value < 0.001 else percent(value)


def threshold_method(method: str) -> str:
    """Write how a threshold was chosen, inside a sentence."""
    return {"youden": "the largest sum of sensitivity and specificity (Youden)"}.get(method, method)


def finding(label: str) -> str:
    """Write a class name inside a sentence: ``NO_FINDING`` becomes "no finding"."""
    return label.replace("_", " ").lower()
