"""Intervals come from drawing patients, and cover the truth as often as they say."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm

from cxr_core.evaluation.intervals import (
    patient_groups,
    percentile_interval,
    resample_weights,
    share_interval,
)
from cxr_core.evaluation.metrics import summarise


def test_films_of_one_patient_share_a_group_and_unknown_patients_stand_alone():
    groups = patient_groups(7, ["a", "b", "a", "", None, np.nan, pd.NA])
    assert groups[0] == groups[2]
    assert len(set(groups)) == 6


def test_blank_patients_are_not_mistaken_for_a_patient_named_like_a_row():
    assert len(set(patient_groups(3, ["", "0", "2"]))) == 3


def test_patient_ids_must_match_the_films():
    with pytest.raises(ValueError, match="3 films but 2 patient ids"):
        patient_groups(3, ["a", "b"])


def test_a_patient_is_drawn_with_all_films():
    groups = patient_groups(6, ["a", "a", "b", "c", "c", "c"])
    weights = np.vstack(list(resample_weights(groups, 50, seed=1)))
    assert weights.shape == (50, 6)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    np.testing.assert_array_equal(weights[:, 3], weights[:, 5])
    np.testing.assert_array_equal(weights[:, [0, 2, 3]].sum(axis=1), 3)


def test_resampling_follows_its_seed_across_blocks():
    groups = np.arange(100_000)
    first, again, other = (np.vstack(list(resample_weights(groups, 6, seed))) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len(np.unique(first, axis=0)) == 6


def test_each_film_is_drawn_once_on_average():
    weights = np.vstack(list(resample_weights(np.arange(20), 4000, seed=0)))
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.08)
    np.testing.assert_allclose(weights.var(axis=0), 0.95, atol=0.1)


def test_undefined_resamples_are_left_out():
    values = np.r_[np.linspace(0, 1, 101), np.nan]
    assert percentile_interval(values) == pytest.approx([0.025, 0.975])
    assert percentile_interval(np.full(5, np.nan)) is None


def test_percentiles_of_one_value_are_no_interval():
    assert percentile_interval(np.full(100, 0.3), patients=1) is None
    assert percentile_interval(np.ones(100)) is None


def test_a_test_without_a_mistake_is_not_called_certain():
    low, high = share_interval(1.0, np.ones(100), 10)
    # Clopper and Pearson for 10 of 10: 69.15 % to 100 %.
    assert low == pytest.approx(0.6915, abs=1e-4)
    assert high == 1
    assert share_interval(0.0, np.zeros(100), 10) == pytest.approx([0, 0.3085], abs=1e-4)


def test_a_share_that_the_sample_cannot_judge_has_no_interval():
    assert share_interval(0.3, np.full(100, 0.3), 1) is None
    assert share_interval(np.nan, np.full(5, np.nan), 3) is None
    assert share_interval(0.5, np.full(5, np.nan), 3) is None


@pytest.mark.parametrize(("right", "films"), [(9, 10), (27, 30), (95, 100), (235, 240)])
def test_the_interval_of_a_rate_is_near_the_exact_one(right, films):
    values = np.random.default_rng(0).binomial(films, right / films, size=4000) / films
    low, high = share_interval(right / films, values, films)
    exact = binomtest(right, films).proportion_ci()
    assert low < right / films < high < 1
    assert low == pytest.approx(exact.low, abs=0.25 * (exact.high - exact.low))
    assert high == pytest.approx(exact.high, abs=0.1 * (exact.high - exact.low))


@pytest.mark.parametrize(("truth", "films_per_patient"), [(0.85, 3), (0.98, 2)])
def test_auroc_intervals_cover_the_truth_in_about_95_percent(truth, films_per_patient):
    # Two unit normals d apart have AUROC Phi(d / sqrt 2).
    distance = np.sqrt(2) * norm.ppf(truth)
    rng, covered, sets = np.random.default_rng(7), 0, 120
    patients = np.repeat(np.arange(100), films_per_patient)
    groups = patient_groups(len(patients), patients)
    for _ in range(sets):
        labels = rng.integers(2, size=100)[patients]
        # Most of the variance is the patient's, so the films of one patient are near copies.
        noise = np.sqrt(0.8) * rng.normal(size=100)[patients]
        noise += np.sqrt(0.2) * rng.normal(size=len(patients))
        finding = 1 / (1 + np.exp(-(distance * labels + noise)))
        table = np.column_stack([1 - finding, finding])
        summary = summarise(labels, table, ["A", "B"], 0.5, patients=groups, resamples=100)
        low, high = summary["ci95"]["auc"]
        covered += low <= truth <= high
    # 120 sets know the coverage to about 4 points. At 0.98 percentiles would hold it in 87 %.
    assert 0.91 <= covered / sets <= 0.99
