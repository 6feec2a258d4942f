"""Logits become probabilities and decisions the same way for two classes and for more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import expit

from cxr_core.evaluation.metrics import abnormal, decide, expand_logits, probabilities

LOGITS = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 20), st.integers(2, 5)),
    elements=st.floats(-50, 50),
)


def test_one_output_is_the_logit_of_the_second_class():
    outputs = np.array([[-2.0], [0.0], [3.0]])
    table = probabilities(expand_logits(outputs), temperature=2.0)
    np.testing.assert_allclose(table[:, 1], expit(outputs[:, 0] / 2))
    np.testing.assert_allclose(abnormal(table), table[:, 1])


def test_several_outputs_pass_through():
    outputs = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(expand_logits(outputs), outputs)


@pytest.mark.parametrize("outputs", [np.zeros(3), np.zeros((2, 0)), np.zeros((1, 2, 3))])
def test_outputs_that_are_no_table_are_refused(outputs):
    with pytest.raises(ValueError, match="shape"):
        expand_logits(outputs)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="above 0"):
        probabilities(np.zeros((1, 2)), temperature)


@given(LOGITS, st.floats(0.05, 20))
def test_probabilities_sum_to_one_and_keep_the_order_of_logits(logits, temperature):
    table = probabilities(logits, temperature)
    np.testing.assert_allclose(table.sum(axis=1), 1)
    best = table[np.arange(len(logits)), logits.argmax(axis=1)]
    np.testing.assert_allclose(best, table.max(axis=1))


@given(LOGITS, st.floats(0, 1))
def test_the_reference_is_decided_exactly_below_the_threshold(logits, threshold):
    table = probabilities(logits)
    decisions = decide(table, threshold)
    np.testing.assert_array_equal(decisions == 0, abnormal(table) < threshold)


def test_above_the_threshold_the_most_probable_finding_is_decided():
    table = np.array([[0.5, 0.2, 0.3], [0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    np.testing.assert_array_equal(decide(table[:1], 0.5), [2])
    np.testing.assert_array_equal(decide(table, 0.3), [2, 1, 1])
    np.testing.assert_array_equal(decide(table, 0.4), [2, 0, 0])


def test_no_abnormal_probability_is_above_one():
    logits = np.random.default_rng(0).normal(scale=30, size=(100_000, 3))
    table = probabilities(logits)
    assert table[:, 1:].sum(axis=1).max() > 1  # what rounding makes of it
    assert abnormal(table).max() == 1


def test_a_tiny_abnormal_probability_keeps_its_digits():
    assert abnormal(probabilities(np.array([[50.0, 0.0]])))[0] == pytest.approx(np.exp(-50))
