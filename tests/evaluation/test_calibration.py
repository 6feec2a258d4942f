"""Temperature, calibration error and threshold agree with independent ways to find them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn.metrics import confusion_matrix, log_loss

from cxr_core.evaluation.calibration import (
    TEMPERATURE_RANGE,
    choose_threshold,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from cxr_core.evaluation.metrics import decide, expand_logits, probabilities


def two_classes(finding):
    finding = np.asarray(finding, dtype=float)
    return np.column_stack([1 - finding, finding])


def overconfident(n, k, temperature, seed=0):
    """Labels drawn from logits, and the same logits blown up by a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(n, k))
    table = probabilities(logits)
    labels = (rng.random((n, 1)) > table.cumsum(axis=1)).sum(axis=1).clip(max=k - 1)
    return logits * temperature, labels


def temperature_by_root(logits, labels):
    """Solve d NLL / d beta = 0 for beta = 1 / T, a formula the code under test does not use."""

    def slope(beta):
        table = probabilities(logits, 1 / beta)
        return ((table * logits).sum(axis=1) - logits[np.arange(len(labels)), labels]).mean()

    return 1 / brentq(slope, 1 / TEMPERATURE_RANGE[1], 1 / TEMPERATURE_RANGE[0])


def calibration_error_by_loop(outcome, forecast, bins):
    """Sum the gaps over slices of the sorted films, for forecasts without ties."""
    order = np.argsort(forecast)
    gap = 0.0
    for part in np.array_split(order, bins):
        gap += abs(forecast[part].mean() - outcome[part].mean()) * len(part)
    return gap / len(order)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_temperature_is_the_root_of_the_likelihoods_slope(k, temperature):
    logits, labels = overconfident(1500, k, temperature)
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature_by_root(logits, labels), rel=1e-3)
    assert fitted == pytest.approx(temperature, rel=0.15)


def test_temperature_lowers_the_log_loss():
    logits, labels = overconfident(500, 2, 4.0)
    before = log_loss(labels, probabilities(logits))
    assert log_loss(labels, probabilities(logits, fit_temperature(logits, labels))) < before


def test_validation_without_a_mistake_does_not_sharpen_probabilities():
    logits = expand_logits([[-1.0], [-2.0], [1.0], [2.0]])
    assert fit_temperature(logits, [0, 0, 1, 1]) == 1.0


def test_logits_that_say_nothing_are_flattened_to_the_end_of_the_range():
    logits = expand_logits([[-5.0], [5.0]])
    assert fit_temperature(logits, [1, 0]) == pytest.approx(TEMPERATURE_RANGE[1], rel=0.01)


def test_huge_logits_do_not_overflow():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=200)
    logits = expand_logits((1e4 * (labels - 0.5 + rng.normal(size=200)))[:, None])
    assert fit_temperature(logits, labels) == pytest.approx(TEMPERATURE_RANGE[1], rel=0.01)


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [(np.zeros((0, 2)), [], "no validation films"), ([[0.0, np.nan]], [1], "not a finite number")],
)
def test_a_temperature_that_cannot_be_fitted_says_why(logits, labels, words):
    with pytest.raises(ValueError, match=words):
        fit_temperature(logits, labels)


@pytest.mark.parametrize("bins", [5, 10])
def test_calibration_error_of_two_classes_is_that_of_the_second(bins):
    rng = np.random.default_rng(3)
    finding = rng.random(400)
    labels = (rng.random(400) < finding**2).astype(int)
    assert expected_calibration_error(labels, two_classes(finding), bins) == pytest.approx(
        calibration_error_by_loop(labels, finding, bins)
    )


def test_calibration_error_of_more_classes_is_that_of_the_top_one():
    logits, labels = overconfident(600, 4, 2.0)
    table = probabilities(logits)
    correct = (table.argmax(axis=1) == labels).astype(float)
    assert expected_calibration_error(labels, table) == pytest.approx(
        calibration_error_by_loop(correct, table.max(axis=1), 10)
    )


def test_calibration_error_does_not_depend_on_the_order_of_tied_films():
    rng = np.random.default_rng(5)
    finding = rng.integers(5, size=200) / 4
    labels = rng.integers(2, size=200)
    error = expected_calibration_error(labels, two_classes(finding))
    for _ in range(5):
        order = rng.permutation(200)
        again = expected_calibration_error(labels[order], two_classes(finding[order]))
        assert again == pytest.approx(error)


def test_perfect_forecasts_have_no_calibration_error():
    assert expected_calibration_error([0, 1, 1], two_classes([0.0, 1.0, 1.0])) == 0
    assert np.isnan(expected_calibration_error([], np.zeros((0, 2))))


def test_reliability_holds_all_films_in_bins_of_about_equal_size():
    rng = np.random.default_rng(0)
    finding = rng.random(205)
    table = reliability((finding > 0.5).astype(int), two_classes(finding), bins=10)
    assert table["n"].sum() == 205
    assert table["n"].between(20, 21).all()
    assert (table["high"][:-1].to_numpy() < table["low"][1:].to_numpy()).all()
    assert table["forecast"].between(table["low"], table["high"]).all()
    assert table["observed"].iloc[0] == 0
    assert table["observed"].iloc[-1] == 1


def test_the_threshold_stands_midway_between_separated_classes():
    chosen = choose_threshold([0, 0, 1, 1], two_classes([0.1, 0.2, 0.6, 0.9]))
    assert chosen.value == pytest.approx(0.4)
    assert (chosen.sensitivity, chosen.specificity, chosen.method) == (1, 1, "youden")


def test_of_equally_good_cuts_the_balanced_one_wins_then_the_lowest():
    # Cuts at 0.25 and 0.55 both reach an index of 0.5, mirror images: the lower one is taken.
    labels = [0, 1, 0, 1]
    chosen = choose_threshold(labels, two_classes([0.2, 0.3, 0.5, 0.6]))
    assert chosen.value == pytest.approx(0.25)
    assert (chosen.sensitivity, chosen.specificity) == (1, 0.5)
    # Here a cut between those two has the same index and keeps both at 0.75.
    labels = [0, 0, 1, 0, 1, 0, 1, 1]
    chosen = choose_threshold(labels, two_classes(np.arange(1, 9) / 10))
    assert chosen.value == pytest.approx(0.45)
    assert chosen.sensitivity == chosen.specificity == 0.75


@pytest.mark.parametrize(
    ("labels", "finding"), [([0, 0], [0.1, 0.9]), ([1, 1], [0.1, 0.9]), ([0, 1], [0.7, 0.7])]
)
def test_films_that_cannot_set_a_threshold_leave_one_half_and_say_so(labels, finding):
    chosen = choose_threshold(labels, two_classes(finding))
    assert chosen.value == 0.5
    assert chosen.method.startswith("fixed")
    assert chosen.sensitivity is None


def test_neighbouring_floats_are_still_parted():
    low = 0.3
    high = float(np.nextafter(low, 1))
    chosen = choose_threshold([0, 1], two_classes([low, high]))
    assert decide(two_classes([low, high]), chosen.value).tolist() == [0, 1]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=2, max_size=40).filter(
        lambda films: 0 < sum(label == 0 for label, _ in films) < len(films)
    )
)
def test_no_other_cut_has_a_larger_youden_index(films):
    labels = np.array([label for label, _ in films])
    finding = np.array([score / 8 for _, score in films])
    table = np.column_stack([1 - finding, finding / 2, finding / 2])
    chosen = choose_threshold(labels, table)
    if chosen.sensitivity is None:
        return

    def youden(threshold):
        counts = confusion_matrix(labels > 0, decide(table, threshold) > 0, labels=[False, True])
        return np.diag(counts / counts.sum(axis=1, keepdims=True)).sum() - 1

    assert youden(chosen.value) == pytest.approx(chosen.sensitivity + chosen.specificity - 1)
    for level in np.unique(finding)[1:]:
        assert youden(chosen.value) >= youden(level) - 1e-9
