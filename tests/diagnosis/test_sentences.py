"""An answer in words names what it asks for, and never claims certainty."""

import pytest
import tiny

from cxr_core.diagnosis import sentences


def test_of_two_classes_the_abnormal_one_is_named_and_of_more_it_is_any_finding() -> None:
    assert sentences.asked(("NORMAL", "NO_SURGERY")) == "no surgery"
    assert sentences.asked(tiny.THREE) == "any finding"
    assert sentences.answer(tiny.diagnosis(0.8, 0.2)) == (
        "Normal likely: the probability of pneumonia is 20.0 %, below the threshold of 50.0 %"
    )
    assert sentences.answer(tiny.diagnosis(0.8, 0.1, 0.1)) == (
        "Normal likely: the probability of any finding is 20.0 %, below the threshold of 50.0 %"
    )


@pytest.mark.parametrize(
    ("share", "written"),
    [(0.9991, "over 99.9 %"), (1.0, "over 99.9 %"), (0.99, "99.0 %"), (0.0, "under 0.1 %")],
)
def test_a_probability_is_never_certainty(share: float, written: str) -> None:
    assert sentences.probability(share) == written
    assert written in sentences.answer(tiny.diagnosis(1 - share, share))
