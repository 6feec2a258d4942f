"""What an answer is worth is told in words that follow from the bundle's numbers."""

from dataclasses import replace

import pytest
import tiny

from cxr_core.diagnosis import standing
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.diagnosis.similar import Neighbour

_BINS = (
    {"low": 0, "high": 0.1, "films": 200, "found": 1, "ci95": (0.0007, 0.0348)},
    {"low": 0.1, "high": 0.8, "films": 0, "found": 0},
    {"low": 0.8, "high": 0.9, "films": 50, "found": 43, "ci95": (0.734, 0.932)},
    {"low": 0.9, "high": 1, "films": 3, "found": 3, "ci95": (0.292, 1)},
)


def _info(classes: tuple[str, ...] = tiny.BINARY, **changes: object) -> BundleInfo:
    named = classes[1:] if len(classes) == 2 else ("", *classes[1:])
    records = [{"finding": name, "bins": _BINS} for name in named]
    return tiny.info(classes, **{"track_record": records, **changes})


def test_test_films_that_scored_alike_stand_beside_the_answer() -> None:
    told = standing.fared(_info(), tiny.diagnosis(0.15, 0.85))
    assert told == (
        "Of the 50 test films that scored 80 to 90 % for pneumonia, 86.0 % had it (43 of 50; 95 % "
        "interval 73.4 to 93.2 %)."
    )
    assert standing.fared(_info(), tiny.diagnosis(0.95, 0.05)).startswith(
        "Of the 200 test films that scored under 10 % for pneumonia, 0.5 % had it"
    )
    assert standing.fared(_info(), tiny.diagnosis(0.0, 1.0)).endswith("These are too few to tell.")
    assert "No test film scored 10 to 80 % for pneumonia" in standing.fared(
        _info(), tiny.diagnosis(0.3, 0.7)
    )


def test_of_several_findings_that_counts_which_the_answer_names() -> None:
    info = _info(tiny.THREE)
    assert "80 to 90 % for tuberculosis" in standing.fared(info, tiny.diagnosis(0.1, 0.05, 0.85))
    assert "under 10 % for any finding, 0.5 % had one" in standing.fared(
        info, tiny.diagnosis(0.95, 0.02, 0.03)
    )


def test_a_bundle_that_was_not_tested_says_so_and_a_film_without_answer_gets_none() -> None:
    assert "is not known" in standing.fared(_info(track_record=()), tiny.diagnosis(0.15, 0.85))
    refused = replace(tiny.diagnosis(0.5, 0.5), label=None, probability=None, abnormal=None)
    assert standing.fared(_info(), refused) == standing.distance(refused) == ""
    assert "is 0.62; 1 is the limit" in standing.distance(replace(refused, distance=0.62))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("PNEUMONIA",) * 3, "All 3 training films most like it are labelled pneumonia."),
        (
            ("PNEUMONIA", "NORMAL", "PNEUMONIA"),
            "The 3 training films most like it are labelled pneumonia (2) and normal (1).",
        ),
        ((), ""),
    ],
)
def test_the_classes_of_similar_films_are_counted(labels: tuple[str, ...], words: str) -> None:
    assert standing.alike([Neighbour(label, "0", 0.9, None) for label in labels]) == words


def test_a_film_that_the_model_learned_from_is_told() -> None:
    found = [Neighbour("NORMAL", "0", distance, None) for distance in (0.01, 0.9)]
    assert "learned from this very film" in standing.alike(found)


def test_among_other_people_a_probability_moves_and_the_decision_stays() -> None:
    info = _info(
        threshold={"value": 0.4, "method": "fixed for a test"},
        data={
            "name": "set",
            "synthetic": True,
            "counts": {"val": {"NORMAL": 20, "PNEUMONIA": 80}},
        },
        metrics={
            "test": {
                "sensitivity": 0.9,
                "specificity": 0.8,
                "ci95": {"sensitivity": (0.8, 1.0), "specificity": (0.7, 0.9)},
            }
        },
    )
    assert standing.prevalence(info) == pytest.approx(0.8)
    for probability in (0.3, 0.41, 0.9):
        answer = {"NORMAL": 1 - probability, "PNEUMONIA": probability}
        same = standing.elsewhere(info, answer, 0.8)
        assert same.probabilities == pytest.approx(answer)
        assert same.threshold == pytest.approx(0.4)
        rare = standing.elsewhere(info, answer, 0.1)
        odds = probability / (1 - probability) * (0.1 / 0.9) / (0.8 / 0.2)
        assert rare.abnormal == pytest.approx(odds / (1 + odds))
        assert (rare.abnormal >= rare.threshold) == (probability >= 0.4)
        assert rare.ppv is not None and rare.npv is not None
        assert rare.ppv.value == pytest.approx(0.09 / (0.09 + 0.18))
        assert rare.ppv.range == pytest.approx((0.08 / (0.08 + 0.27), 0.1 / (0.1 + 0.09)))
        assert rare.npv.value == pytest.approx(0.72 / (0.72 + 0.01))
        assert rare.npv.words == "98.6 % (96.9 to 100.0 %)"


@pytest.mark.parametrize("counts", [{}, {"val": {"NORMAL": 0, "PNEUMONIA": 5}}])
def test_where_the_share_of_findings_is_not_known_nothing_is_moved(
    counts: dict[str, dict[str, int]],
) -> None:
    info = _info(data={"name": "set", "synthetic": True, "counts": counts})
    assert standing.prevalence(info) is None
    with pytest.raises(ValueError, match="is not known"):
        standing.elsewhere(info, {"NORMAL": 0.5, "PNEUMONIA": 0.5}, 0.1)
