"""Every metric agrees with scikit-learn, stays JSON, and says None where films cannot tell."""

import json

import numpy as np
import pytest
import ranks
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from cxr_core.evaluation import HEADLINES, metrics
from cxr_core.evaluation.calibration import expected_calibration_error
from cxr_core.evaluation.metrics import abnormal, auroc, decide, probabilities, summarise

NAMES = ("NORMAL", "PNEUMONIA", "TUBERCULOSIS", "EFFUSION")


def films(k, n=300, seed=0, decimals=2):
    """Labels and probabilities of a middling model; rounded, so that scores tie."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += 1.2
    return labels, probabilities(logits.round(decimals - 1))


@pytest.fixture(params=[2, 3, 4])
def tested(request):
    k = request.param
    labels, table = films(k)
    return labels, table, summarise(labels, table, NAMES[:k], 0.55, resamples=0)


def test_headline_agrees_with_scikit_learn(tested):
    labels, table, summary = tested
    decisions, finding, called = decide(table, 0.55), labels > 0, abnormal(table) >= 0.55
    several = {"multi_class": "ovr", "average": "macro"}
    binary = table.shape[1] == 2
    one_hot = np.eye(table.shape[1])[labels]
    scores = table[:, 1] if binary else table
    expected = {
        "accuracy": reference.accuracy_score(labels, decisions),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, decisions),
        "auc": reference.roc_auc_score(labels, scores, **({} if binary else several)),
        "average_precision": reference.average_precision_score(
            labels if binary else one_hot, scores
        ),
        "sensitivity": reference.recall_score(finding, called),
        "specificity": reference.recall_score(finding, called, pos_label=False),
        "ppv": reference.precision_score(finding, called),
        "npv": reference.precision_score(finding, called, pos_label=False),
        "f1": reference.f1_score(finding, called),
        "mcc": reference.matthews_corrcoef(labels, decisions),
        "log_loss": reference.log_loss(labels, table),
        "brier": reference.brier_score_loss(labels, scores),
        "ece": expected_calibration_error(labels, table),
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    assert summary["confusion"] == reference.confusion_matrix(labels, decisions).tolist()
    assert summary["n"] == 300
    assert auroc(labels, table) == pytest.approx(expected["auc"])


def test_class_metrics_and_their_means_agree_with_scikit_learn(tested):
    labels, table, summary = tested
    decisions = decide(table, 0.55)
    for column, label in enumerate(NAMES[: table.shape[1]]):
        truth, called = labels == column, decisions == column
        assert summary["per_class"][label] == pytest.approx(
            {
                "n": truth.sum(),
                "auc": reference.roc_auc_score(truth, table[:, column]),
                "average_precision": reference.average_precision_score(truth, table[:, column]),
                "sensitivity": reference.recall_score(truth, called),
                "specificity": reference.recall_score(~truth, ~called),
                "precision": reference.precision_score(truth, called),
                "npv": reference.precision_score(~truth, ~called),
                "f1": reference.f1_score(truth, called),
            }
        )
    for average in ("macro", "weighted"):
        for name, score in (
            ("sensitivity", reference.recall_score),
            ("precision", reference.precision_score),
            ("f1", reference.f1_score),
        ):
            expected = score(labels, decisions, average=average)
            assert summary[average][name] == pytest.approx(expected)


@pytest.mark.parametrize("k", [2, 3])
def test_weights_over_films_agree_with_repeating_the_films(k):
    """The bootstrap's weighted formulas: a film of weight 3 counts like three films."""
    labels, table = films(k, n=60)
    patients = np.arange(60) // 2
    repeated = np.repeat(np.arange(60), np.random.default_rng(1).integers(0, 4, size=30)[patients])
    once = summarise(labels[repeated], table[repeated], NAMES[:k], 0.5, resamples=0)
    weights = np.bincount(repeated, minlength=60)[None].astype(float)
    scores = metrics.score(metrics.prepare(labels, table, NAMES[:k], 0.5), weights)
    for name, values in scores.headline.items():
        if name != "ece":  # resamples keep the bins of the films
            assert values[0] == pytest.approx(once[name]), name


def test_intervals_hold_the_estimate_and_follow_the_seed():
    labels, table = films(3)
    first, again, other = (
        summarise(labels, table, NAMES[:3], 0.5, resamples=300, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first["ci95"] != other["ci95"]
    for name in ("accuracy", "auc", "sensitivity", "specificity", "ece", "brier", "f1", "mcc"):
        low, high = first["ci95"][name]
        assert low < first[name] < high, name
    for per_class in first["per_class"].values():
        for name, (low, high) in per_class["ci95"].items():
            assert low < per_class[name] < high, name
    for mean in ("macro", "weighted"):
        assert set(first[mean]["ci95"]) == set(first[mean]) - {"ci95"}
        for name, (low, high) in first[mean]["ci95"].items():
            assert low < first[mean][name] < high, name


def test_intervals_agree_with_resampling_patients_by_index():
    labels, table = films(2, n=200)
    assert ranks.auroc(labels, table[:, 1]) == pytest.approx(
        reference.roc_auc_score(labels, table[:, 1])
    )
    patients = np.arange(200) // 4
    rng, areas = np.random.default_rng(9), []
    for _ in range(1500):
        drawn = rng.integers(50, size=50)
        rows = (drawn[:, None] * 4 + np.arange(4)).ravel()
        areas.append(ranks.auroc(labels[rows], table[rows, 1]))
    summary = summarise(labels, table, NAMES[:2], 0.5, patients=patients, resamples=1500)
    expected = np.quantile(areas, [0.025, 0.975])
    np.testing.assert_allclose(summary["ci95"]["auc"], expected, atol=0.006)


def test_copies_of_a_patients_film_do_not_narrow_the_interval():
    labels, table = films(2, n=80)
    width = {}
    for copies in (1, 9):
        rows = np.repeat(np.arange(80), copies)
        low, high = summarise(labels[rows], table[rows], NAMES[:2], 0.5, patients=rows)["ci95"][
            "auc"
        ]
        width[copies] = high - low
    assert width[9] == pytest.approx(width[1], rel=0.15)


def test_patients_are_counted_where_known():
    labels, table = films(2, n=6)
    ids = ["a", "a", "b", "", None, "b"]
    summary = summarise(labels, table, NAMES[:2], 0.5, patients=ids, resamples=10)
    assert summary["patients"] == 4
    assert summarise(labels, table, NAMES[:2], 0.5, resamples=10)["patients"] is None


@pytest.mark.parametrize("k", [2, 3])
def test_a_summary_survives_strict_json(k):
    labels, table = films(k, n=40)
    summary = summarise(labels, table, NAMES[:k], 0.5, patients=["p"] * 40, resamples=20)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert sorted(summary["ci95"]) == sorted(HEADLINES)


def test_films_of_one_class_leave_the_rest_undefined():
    table = films(2, n=20)[1]
    summary = summarise(np.ones(20, int), table, NAMES[:2], 0.0, resamples=50)
    assert summary["auc"] is None
    assert summary["ci95"]["auc"] is None
    assert summary["specificity"] is None
    assert summary["npv"] is None
    assert summary["mcc"] is None
    assert summary["sensitivity"] == 1
    assert summary["per_class"]["NORMAL"]["sensitivity"] is None
    assert summary["macro"]["auc"] is None
    json.dumps(summary, allow_nan=False)


def test_an_absent_class_is_left_out_of_means():
    labels, table = films(3)
    present = labels < 2
    summary = summarise(labels[present], table[present], NAMES[:3], 0.5, resamples=0)
    expected = np.mean(
        [reference.roc_auc_score(labels[present] == c, table[present, c]) for c in (0, 1)]
    )
    assert summary["auc"] == pytest.approx(expected)
    assert summary["per_class"]["TUBERCULOSIS"]["auc"] is None
    assert summary["per_class"]["TUBERCULOSIS"]["n"] == 0


def test_a_perfect_test_keeps_an_honest_lower_bound():
    labels = np.repeat([0, 1], [10, 30])
    table = np.column_stack([1 - labels, labels]).astype(float)
    bounds = summarise(labels, table, NAMES[:2], 0.5, resamples=100)["ci95"]
    assert bounds["specificity"] == pytest.approx([0.025 ** (1 / 10), 1])
    assert bounds["sensitivity"] == pytest.approx([0.025 ** (1 / 30), 1])
    assert bounds["auc"] == pytest.approx([0.025 ** (1 / 10), 1])
    assert bounds["accuracy"] == pytest.approx([0.025 ** (1 / 40), 1])


def test_one_film_has_values_but_no_made_up_interval():
    summary = summarise([1], [[0.2, 0.8]], NAMES[:2], 0.5, resamples=20)
    assert summary["accuracy"] == 1
    assert summary["ci95"]["accuracy"] == pytest.approx([0.025, 1])
    assert summary["ci95"]["brier"] is None


def test_certain_and_wrong_has_a_finite_log_loss():
    assert np.isfinite(summarise([0], [[0.0, 1.0]], NAMES[:2], 0.5, resamples=0)["log_loss"])


@pytest.mark.parametrize(
    ("labels", "table", "words"),
    [
        ([], np.zeros((0, 2)), "no films"),
        ([0, 1], [[0.5, 0.5]], "need probabilities of the shape"),
        ([0], [[1.0, 0.0, 0.0]], "need probabilities of the shape"),
        ([2], [[0.5, 0.5]], "outside 0 to 1"),
        ([-1], [[0.5, 0.5]], "outside 0 to 1"),
        ([0], [[np.nan, 0.5]], "diverged"),
        ([0], [[0.4, 0.4]], "sum to 1"),
        ([0], [[1.4, -0.4]], "at least 0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_words(labels, table, words):
    with pytest.raises(ValueError, match=words):
        summarise(labels, table, NAMES[:2], 0.5)


def test_auroc_without_both_classes_is_nan():
    assert np.isnan(auroc([], np.zeros((0, 2))))
    assert np.isnan(auroc([1, 1], [[0.5, 0.5], [0.1, 0.9]]))


def test_auroc_of_a_diverged_model_is_nan():
    assert np.isnan(auroc([0, 1, 1], [[0.5, 0.5], [np.nan, np.nan], [0.1, 0.9]]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=60))
def test_auroc_is_the_share_of_pairs_ranked_right(pairs):
    labels = np.array([label for label, _ in pairs], dtype=int)
    finding = np.array([score / 10 for _, score in pairs])
    area = auroc(labels, np.column_stack([1 - finding, finding]))
    positive, negative = finding[labels == 1][:, None], finding[labels == 0]
    if not positive.size or not negative.size:
        assert np.isnan(area)
        return
    won = (positive > negative).mean() + (positive == negative).mean() / 2
    assert area == pytest.approx(won)
    assert auroc(1 - labels, np.column_stack([1 - finding, finding])) == pytest.approx(1 - area)
