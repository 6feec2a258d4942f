"""Temperature and calibration error agree with independent ways to find them."""

import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from cxr_core.evaluation.calibration import (
    TEMPERATURE_RANGE,
    expected_calibration_error,
    fit,
    fit_temperature,
    reliability,
)
from cxr_core.evaluation.metrics import expand_logits, probabilities


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


@pytest.mark.parametrize("k", [2, 3, 5])
def test_logits_that_lean_to_a_class_are_set_upright(k):
    logits, labels = overconfident(4000, k, 2.0)
    lean = np.linspace(0, 3, k)
    fitted = fit(logits - lean, labels)
    assert fitted.offset[0] == 0
    assert fitted.offset == pytest.approx(lean, abs=0.4)
    assert fitted.temperature == pytest.approx(2.0, rel=0.1)
    upright = probabilities(logits - lean + fitted.offset, fitted.temperature)
    leaning = probabilities(logits - lean, fit_temperature(logits - lean, labels))
    assert log_loss(labels, upright) < log_loss(labels, leaning)
    assert expected_calibration_error(labels, upright) < 0.03


def test_a_network_that_ranks_without_a_mistake_but_leans_is_set_upright():
    labels = np.repeat([0, 1], 200)
    margin = np.random.default_rng(0).uniform(0.5, 2, 400) * (2 * labels - 1) + 4
    fitted = fit(expand_logits(margin[:, None]), labels)
    upright = margin + fitted.offset[1]
    assert ((upright > 0) == labels).all()


def test_a_class_without_films_has_no_offset():
    logits, labels = overconfident(500, 3, 2.0)
    fitted = fit(logits[labels < 2], labels[labels < 2])
    assert fitted.offset[2] == 0
    assert fitted.offset[1] != 0


def test_the_offset_is_that_of_an_independent_logistic_regression():
    logits, labels = overconfident(3000, 2, 1.5)
    margin = (logits[:, 1] - logits[:, 0] - 1.0)[:, None]
    known = LogisticRegression(C=np.inf).fit(margin, labels)
    fitted = fit(expand_logits(margin), labels)
    assert 1 / fitted.temperature == pytest.approx(known.coef_[0, 0], rel=0.01)
    assert fitted.offset[1] / fitted.temperature == pytest.approx(known.intercept_[0], abs=0.01)


def test_a_few_films_or_none_wrong_move_no_offset_far():
    without = fit(expand_logits([[-1.0], [-2.0], [1.0], [2.0]]), [0, 0, 1, 1])
    assert (without.temperature, *without.offset) == (1.0, 0.0, 0.0)
    apart = fit(expand_logits([[-2.0], [-3.0], [-1.0], [-0.5]]), [0, 0, 1, 1])
    assert 0 < apart.offset[1] / apart.temperature < 1
    few = fit(expand_logits([[-1.0], [0.5], [-0.4], [1.0], [2.0]]), [0, 0, 1, 1, 1])
    assert abs(few.offset[1] / few.temperature) < 1.5


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
