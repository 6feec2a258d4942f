"""Comparisons agree with published figures and with slower ways to the same numbers."""

import json

import numpy as np
import pytest
import ranks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chi2, norm
from sklearn.metrics import roc_auc_score

from cxr_core.evaluation.comparison import (
    delong,
    delong_by_class,
    delong_interval,
    mcnemar,
    paired,
)
from cxr_core.evaluation.metrics import decide, probabilities, summarise

# Hanley and McNeil 1982, table I: ratings 1 to 5 of 58 normal and 51 abnormal CT images.
NORMAL_RATINGS, ABNORMAL_RATINGS = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)

# DeLong, DeLong and Clarke-Pearson 1988: the 43 of 49 patients with ovarian cancer and a blocked
# bowel who have all tests. Albumin and total protein are ten times as in the paper; the K-G score
# falls and the others rise with the outcome 1.
ALBUMIN = [
    *(30, 32, 39, 28, 32, 9, 25, 16, 38, 37, 32, 38, 41, 36, 43, 36, 23, 42, 40, 35, 38, 30),
    *(45, 37, 31, 41, 43, 43, 32, 26, 33, 17, 37, 33, 42, 35, 29, 21, 28, 40, 33, 37, 36),
]
PROTEIN = [
    *(58, 63, 68, 48, 58, 40, 57, 56, 57, 67, 54, 66, 66, 57, 70, 67, 44, 76, 66, 58, 68, 47),
    *(74, 74, 66, 82, 70, 65, 51, 47, 68, 40, 61, 63, 77, 62, 57, 48, 62, 70, 57, 69, 66),
]
KG_SCORE = [
    *(10, 5, 3, 6, 3, 5, 8, 5, 5, 6, 4, 6, 5, 5, 4, 4, 6, 4, 6, 6, 7, 8),
    *(5, 5, 6, 6, 5, 4, 5, 6, 6, 7, 5, 7, 6, 5, 9, 7, 8, 7, 6, 5, 5),
]
OUTCOME = [
    *(0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 0),
    *(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1),
]


def components(labels, scores):
    """DeLong's structural components by comparing every pair, and their covariance."""
    positive = np.asarray(labels) == 1
    by_positive, by_negative = [], []
    for row in np.asarray(scores, dtype=float):
        ahead = row[positive][:, None] - row[~positive]
        won = (ahead > 0) + 0.5 * (ahead == 0)
        by_positive.append(won.mean(axis=1))
        by_negative.append(won.mean(axis=0))
    covariance = np.cov(by_positive) / positive.sum() + np.cov(by_negative) / (~positive).sum()
    return np.mean(by_positive, axis=1), covariance


def models(k=2, n=240, seed=0, gain=0.6):
    """Labels, and the probabilities of two models of which the second is the better."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    shared = rng.normal(size=(n, k))
    tables = []
    for strength in (1.0, 1.0 + gain):
        logits = shared + 0.7 * rng.normal(size=(n, k))
        logits[np.arange(n), labels] += strength
        tables.append(probabilities(logits))
    return labels, *tables


def test_the_interval_is_that_published_for_the_ratings_of_hanley_and_mcneil():
    labels = np.repeat([0, 1], [58, 51])
    ratings = np.r_[np.repeat(range(5), NORMAL_RATINGS), np.repeat(range(5), ABNORMAL_RATINGS)]
    area, (low, high) = delong_interval(labels, ratings)
    # Stata's manual of roctab prints 0.8932, 0.83295 and 0.95339 for these data.
    assert area == pytest.approx(0.8932, abs=5e-5)
    assert (low, high) == pytest.approx((0.83295, 0.95339), abs=5e-6)


@pytest.mark.parametrize(
    ("test", "area", "interval", "difference", "error", "bounds", "chi_square", "p"),
    [
        (ALBUMIN, 0.7366, (0.5549, 0.9182), 0.0108, 0.0953, (-0.1761, 0.1976), 0.0127, 0.9102),
        (PROTEIN, 0.6478, (0.4518, 0.8439), -0.0780, 0.1046, (-0.2830, 0.1271), 0.5554, 0.4561),
    ],
)
def test_the_comparison_is_that_published_for_the_patients_of_delong(
    test, area, interval, difference, error, bounds, chi_square, p
):
    # The figures are those of the SAS/STAT user's guide, LOGISTIC, "Comparing ROC curves".
    assert delong_interval(OUTCOME, test) == (
        pytest.approx(area, abs=5e-5),
        pytest.approx(interval, abs=5e-5),
    )
    found = delong(OUTCOME, [10 - score for score in KG_SCORE], test)
    assert found.a == pytest.approx(0.7258, abs=5e-5)
    assert found.b == pytest.approx(area, abs=5e-5)
    assert found.difference == pytest.approx(difference, abs=5e-5)
    assert found.standard_error == pytest.approx(error, abs=5e-5)
    assert found.ci95 == pytest.approx(bounds, abs=5e-5)
    assert found.z**2 == pytest.approx(chi_square, abs=5e-5)
    assert found.p == pytest.approx(p, abs=5e-5)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=50
    ).filter(lambda films: 2 <= sum(label for label, _, _ in films) <= len(films) - 2)
)
def test_delong_by_ranks_agrees_with_comparing_every_pair(films):
    labels, a, b = (np.array(column) for column in zip(*films, strict=True))
    areas, covariance = components(labels, [a, b])
    found = delong(labels, a, b)
    assert (found.a, found.b) == pytest.approx(tuple(areas))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert found.standard_error**2 == pytest.approx(variance, abs=1e-12)
    if found.z is not None:
        assert found.p == pytest.approx(chi2.sf(found.z**2, 1))
        assert found.difference / np.sqrt(variance) == pytest.approx(found.z)


def test_the_same_scores_are_nothing_to_test():
    labels, table, _ = models()
    found = delong(labels, table[:, 1], table[:, 1] ** 3)
    assert (found.difference, found.ci95, found.z, found.p) == (0, None, None, None)
    assert "nothing to test" in found.words


def test_a_better_model_is_found_and_put_in_words():
    labels, worse, better = models(n=2000)
    found = delong(labels, worse[:, 1], better[:, 1])
    assert found.difference > 0
    assert found.p < 0.001
    assert found.words == (
        f"AUROC {found.a:.3f} against {found.b:.3f}: a difference of {found.difference:+.3f} (95 % "
        f"interval {found.ci95[0]:+.3f} to {found.ci95[1]:+.3f}), p < 0.001 by DeLong's test."
    )
    back = delong(labels, better[:, 1], worse[:, 1])
    assert (back.difference, back.p) == pytest.approx((-found.difference, found.p))


def test_films_of_one_patient_are_a_caution_in_words():
    labels, a, b = models()
    several = delong(labels, a[:, 1], b[:, 1], patients=np.arange(240) // 3)
    assert "240 films for a person of its own, but they are of 80 patients" in several.words
    assert several.p == delong(labels, a[:, 1], b[:, 1]).p
    alone = delong(labels, a[:, 1], b[:, 1], patients=list(range(240)))
    assert "patients" not in alone.words
    decided = mcnemar([True] * 4, [True, False, True, True], patients=["p", "p", "q", ""])
    assert "4 films for a person of its own, but they are of 3 patients" in decided.words


def test_false_alarms_of_delongs_test_are_as_many_as_promised():
    """Two models of equal worth on films of as many patients."""
    rng = np.random.default_rng(5)
    small = []
    for _ in range(400):
        labels = np.repeat([0, 1], 60)
        shared = rng.normal(size=120) + 1.2 * labels
        small.append(delong(labels, *(shared + rng.normal(size=(2, 120)))).p < 0.05)
    assert 0.025 <= np.mean(small) <= 0.08  # 400 sets know a share of 5 % to about 2 points


def test_classes_are_compared_each_with_the_rest():
    labels, a, b = models(3)
    found = delong_by_class(labels, a, b, ["N", "P", "T"])
    assert list(found) == ["N", "P", "T"]
    for column, comparison in enumerate(found.values()):
        truth = labels == column
        assert comparison.a == pytest.approx(roc_auc_score(truth, a[:, column]))
        assert comparison == delong(truth, a[:, column], b[:, column])
    assert list(delong_by_class(labels % 2, a[:, :2], b[:, :2], ["N", "P"])) == ["P"]
    assert list(delong_by_class(np.minimum(labels, 1), a, b, ["N", "P", "T"])) == ["N", "P"]


@pytest.mark.parametrize(
    ("labels", "a", "b", "words"),
    [
        ([0, 1, 1, 0], [1, 2, 3], [1, 2, 3, 4], "one score a film"),
        ([0, 1, 1, 1], [1, 2, 3, 4], [1, 2, 3, 4], "not 3 and 1"),
        ([0, 1, 1, 0], [1, 2, np.nan, 4], [1, 2, 3, 4], "diverged"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused_in_words(labels, a, b, words):
    with pytest.raises(ValueError, match=words):
        delong(labels, a, b)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5), st.integers(0, 5))
def test_mcnemar_agrees_with_scipys_binomial_test(only_a, only_b, both, neither):
    counts = [only_a, only_b, both, neither]
    found = mcnemar(
        np.repeat([True, False, True, False], counts), np.repeat([False, True, True, False], counts)
    )
    assert (found.only_a, found.only_b) == (only_a, only_b)
    if only_a + only_b == 0:
        assert found.p == found.p_exact == 1
        return
    assert found.p_exact == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
    # Mid-p: only half of the table that was seen counts as extreme, on its own side.
    tail = binomtest(min(only_a, only_b), only_a + only_b, alternative="less").pvalue
    seen = tail - (
        binomtest(min(only_a, only_b) - 1, only_a + only_b, alternative="less").pvalue
        if min(only_a, only_b)
        else 0
    )
    assert found.p == pytest.approx(min(1, 2 * (tail - seen / 2)))
    assert found.p <= found.p_exact + 1e-12


def test_decisions_without_an_answer_a_film_are_refused():
    with pytest.raises(ValueError, match="one answer a film"):
        mcnemar([True, False], [True])


@pytest.mark.parametrize("k", [2, 3])
def test_paired_metrics_are_those_of_the_summaries(k):
    labels, a, b = models(k)
    names, patients = ["N", "P", "T"][:k], np.arange(240) // 3
    tables, thresholds = {"first": a, "second": b}, {"first": 0.4, "second": 0.6}
    found = paired(labels, tables, thresholds, names, patients=patients, resamples=200, seed=4)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["n"], found["patients"], found["reference"]) == (240, 80, "first")
    for name, table in tables.items():
        summary = summarise(
            labels, table, names, thresholds[name], patients=patients, resamples=200, seed=4
        )
        model = dict(found["models"][name])
        assert model.pop("ci95") == summary["ci95"]
        assert model == {key: summary[key] for key in model}
        assert "auc" in model and "npv" in model and "ece" in model
    difference = found["differences"]["second"]["accuracy"]["value"]
    assert difference == pytest.approx(
        (decide(b, 0.6) == labels).mean() - (decide(a, 0.4) == labels).mean()
    )


def test_paired_intervals_agree_with_drawing_patients_by_index():
    labels, a, b = models()
    assert ranks.auroc(labels, a[:, 1]) == pytest.approx(roc_auc_score(labels, a[:, 1]))
    patients = np.arange(240) // 3
    rng, differences = np.random.default_rng(8), []
    for _ in range(1500):
        rows = (rng.integers(80, size=80)[:, None] * 3 + np.arange(3)).ravel()
        areas = [ranks.auroc(labels[rows], table[rows, 1]) for table in (a, b)]
        differences.append(areas[1] - areas[0])
    found = paired(
        labels,
        {"a": a, "b": b},
        {"a": 0.5, "b": 0.5},
        ["N", "P"],
        patients=patients,
        resamples=1500,
    )
    expected = np.quantile(differences, [0.025, 0.975])
    np.testing.assert_allclose(found["differences"]["b"]["auc"]["ci95"], expected, atol=0.008)


def test_pairing_agrees_with_delong_where_every_film_is_a_patient():
    labels, a, b = models(n=800)
    found = paired(
        labels, {"a": a, "b": b}, {"a": 0.5, "b": 0.5}, ["N", "P"], resamples=1500, seed=2
    )
    low, high = found["differences"]["b"]["auc"]["ci95"]
    error = delong(labels, a[:, 1], b[:, 1]).standard_error
    assert (high - low) / (2 * norm.ppf(0.975)) == pytest.approx(error, rel=0.08)


def test_a_difference_that_never_varies_has_no_interval():
    labels, a, _ = models(n=60)
    found = paired(labels, {"a": a, "again": a}, {"a": 0.5, "again": 0.5}, ["N", "P"], resamples=50)
    assert found["differences"]["again"]["auc"] == {"value": 0.0, "ci95": None}


def test_films_of_one_class_leave_a_difference_undefined():
    _, a, b = models(n=30)
    found = paired(
        np.ones(30, int), {"a": a, "b": b}, {"a": 0.5, "b": 0.5}, ["N", "P"], resamples=50
    )
    assert found["differences"]["b"]["auc"] == {"value": None, "ci95": None}
    json.dumps(found, allow_nan=False)


def test_no_model_cannot_be_compared():
    with pytest.raises(ValueError, match="no model"):
        paired([0, 1], {}, {}, ["N", "P"])
