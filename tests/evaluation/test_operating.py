"""A threshold keeps its rule on the films it is chosen on; a prevalence moves what it is worth."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_curve

from cxr_core.evaluation.operating import (
    Rule,
    at_prevalence,
    choose_threshold,
    predictive_values,
)
from cxr_core.evaluation.scores import abnormal, decide


def two_classes(finding):
    finding = np.asarray(finding, dtype=float)
    return np.column_stack([1 - finding, finding])


FILMS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=2, max_size=40).filter(
    lambda films: 0 < sum(label == 0 for label, _ in films) < len(films)
)


def three_classes(films):
    """Labels and probabilities of films drawn as (label, eighths of any finding)."""
    finding = np.array([score / 8 for _, score in films])
    return np.array([label for label, _ in films]), np.column_stack(
        [1 - finding, finding / 2, finding / 2]
    )


def rates(labels, table, threshold):
    """Sensitivity and specificity by counting."""
    counts = confusion_matrix(labels > 0, decide(table, threshold) > 0, labels=[False, True])
    specificity, sensitivity = np.diag(counts / counts.sum(axis=1, keepdims=True))
    return sensitivity, specificity


def cuts(table):
    """Every threshold that leaves films on both sides."""
    return np.unique(abnormal(table))[1:]


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
    assert chosen.method.startswith("a fixed value")
    assert chosen.sensitivity is None


def test_neighbouring_floats_are_still_parted():
    low = 0.3
    high = float(np.nextafter(low, 1))
    chosen = choose_threshold([0, 1], two_classes([low, high]))
    assert decide(two_classes([low, high]), chosen.value).tolist() == [0, 1]


@settings(deadline=None)
@given(FILMS)
def test_no_other_cut_has_a_larger_youden_index(films):
    labels, table = three_classes(films)
    chosen = choose_threshold(labels, table)
    assume(chosen.sensitivity is not None)
    assert rates(labels, table, chosen.value) == pytest.approx(
        (chosen.sensitivity, chosen.specificity)
    )
    best = max(sum(rates(labels, table, cut)) for cut in cuts(table))
    assert chosen.sensitivity + chosen.specificity == pytest.approx(best)


@settings(deadline=None)
@given(FILMS, st.sampled_from([0.5, 0.75, 0.9, 1.0]), st.booleans())
def test_a_target_is_met_at_the_best_of_the_other_rate_or_said_to_be_missed(films, target, sought):
    """The rule on sensitivity (0) or specificity (1), against trying every cut."""
    labels, table = three_classes(films)
    aimed = int(sought)
    name = ("sensitivity", "specificity")[aimed]
    chosen = choose_threshold(labels, table, Rule(name, target=target))
    assume(chosen.sensitivity is not None)
    found = rates(labels, table, chosen.value)
    assert found == pytest.approx((chosen.sensitivity, chosen.specificity))
    tried = [rates(labels, table, cut) for cut in cuts(table)]
    met = [pair for pair in tried if pair[aimed] >= target]
    if met:
        other = 1 - aimed
        assert found[aimed] >= target
        assert found[other] == max(pair[other] for pair in met)
        assert chosen.method == f"a {name} of at least {100 * target:g} %"
    else:
        assert found[aimed] == max(pair[aimed] for pair in tried)
        assert f"short of the {100 * target:g} %" in chosen.method


@settings(deadline=None)
@given(FILMS, st.sampled_from([0.2, 1.0, 7.0]))
def test_no_other_cut_costs_less(films, miss_cost):
    labels, table = three_classes(films)
    chosen = choose_threshold(labels, table, Rule("cost", miss_cost=miss_cost))
    assume(chosen.sensitivity is not None)

    def cost(threshold):
        called = decide(table, threshold) > 0
        return miss_cost * ((labels > 0) & ~called).sum() + ((labels == 0) & called).sum()

    assert cost(chosen.value) == pytest.approx(min(cost(cut) for cut in cuts(table)))


def test_a_dearer_miss_lowers_the_threshold():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=400)
    table = two_classes(1 / (1 + np.exp(-(rng.normal(size=400) + 2 * labels - 1))))
    values = [choose_threshold(labels, table, Rule("cost", miss_cost=c)) for c in (0.1, 1, 10)]
    assert values[0].value > values[1].value > values[2].value
    assert "as 10 false alarms" in values[2].method
    assert values[1].method.endswith("as much as 1 false alarm")


def test_a_target_sensitivity_agrees_with_the_curve_of_scikit_learn():
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=500)
    finding = 1 / (1 + np.exp(-(rng.normal(size=500) + 1.5 * labels)))
    chosen = choose_threshold(labels, two_classes(finding), Rule("sensitivity", target=0.95))
    alarms, found, _ = roc_curve(labels, finding, drop_intermediate=False)
    assert chosen.specificity == pytest.approx(1 - alarms[found >= 0.95].min())


def test_a_target_out_of_reach_takes_the_nearest_and_says_so():
    # The lowest film is a finding: no cut finds all five.
    chosen = choose_threshold(
        [1, 0, 0, 1, 1, 0, 1, 1], two_classes(np.arange(1, 9) / 10), Rule("sensitivity", target=1)
    )
    assert (chosen.sensitivity, chosen.specificity) == pytest.approx((0.8, 2 / 3))
    assert chosen.method == (
        "the highest sensitivity within reach, 80.0 %, short of the 100 % asked for"
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"target": 0}, "above 0"),
        ({"target": 1.2}, "up to 1"),
        ({"miss_cost": 0}, "cost of a miss"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Rule("cost", **values)


def test_predictive_values_of_a_worked_example():
    # Of 1,000 people 10 are ill. 9 are found; of 990 healthy 90 % are cleared, 99 get an alarm.
    ppv, npv = predictive_values(0.9, 0.9, 0.01)
    assert ppv == pytest.approx(9 / 108)
    assert npv == pytest.approx(891 / 892)


def test_predictive_values_at_the_films_own_prevalence_are_those_counted():
    labels, called = np.array([0, 0, 0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 1, 0, 0])
    counts = confusion_matrix(labels, called)
    sensitivity, specificity = counts[1, 1] / 3, counts[0, 0] / 4
    assert predictive_values(sensitivity, specificity, 3 / 7) == pytest.approx((2 / 3, 3 / 4))


def test_predictive_values_without_anybody_called_or_cleared_are_none():
    assert predictive_values(0.0, 1.0, 0.3) == (None, pytest.approx(0.7))
    assert predictive_values(1.0, 0.0, 0.3) == (pytest.approx(0.3), None)
    with pytest.raises(ValueError, match="prevalence must be a share"):
        predictive_values(0.9, 0.9, 30)


def test_a_probability_moves_as_bayes_theorem_says():
    # Odds of 4 at even shares, by hand: at 1 in 10 they are 4 x (0.1 / 0.9) = 0.444, or 4 / 13.
    moved = at_prevalence([[0.2, 0.8]], 0.5, 0.1)
    np.testing.assert_allclose(moved, [[9 / 13, 4 / 13]])
    np.testing.assert_allclose(at_prevalence([[0.2, 0.8]], [0.5, 0.5], [0.9, 0.1]), moved)


def test_classes_move_by_their_own_shares():
    # Ratios of the shares: 2, 1/4, 1/2.
    moved = at_prevalence([[0.5, 0.3, 0.2]], [0.4, 0.4, 0.2], [0.8, 0.1, 0.1])
    by_hand = np.array([0.5 * 2, 0.3 * 0.25, 0.2 * 0.5])
    np.testing.assert_allclose(moved, [by_hand / by_hand.sum()])


@pytest.mark.parametrize("trained", [0.6, [0.4, 0.4, 0.2]])
def test_a_prevalence_keeps_the_proportions_of_the_findings(trained):
    table = np.random.default_rng(2).dirichlet([1, 1, 1], size=20)
    moved = at_prevalence(table, trained, 0.05)
    np.testing.assert_allclose(moved.sum(axis=1), 1)
    np.testing.assert_allclose(moved[:, 1] / moved[:, 2], table[:, 1] / table[:, 2])
    odds = abnormal(table) / table[:, 0] * (0.05 / 0.95) / (0.6 / 0.4)
    np.testing.assert_allclose(abnormal(moved), odds / (1 + odds))
    np.testing.assert_allclose(at_prevalence(moved, 0.05, 0.6), table)


def test_moved_probabilities_are_calibrated_among_the_other_people():
    rng = np.random.default_rng(3)
    labels = (rng.random(400_000) < 0.05).astype(int)
    score = rng.normal(size=len(labels)) + 2 * labels
    even_odds = np.exp(2 * score - 2)  # the ratio of the two densities: odds at even shares
    table = two_classes(even_odds / (1 + even_odds))
    moved = at_prevalence(table, 0.5, 0.05)[:, 1]
    assert moved.mean() == pytest.approx(0.05, abs=0.002)
    some = (moved > 0.2) & (moved < 0.4)
    assert labels[some].mean() == pytest.approx(moved[some].mean(), abs=0.02)


@pytest.mark.parametrize(
    ("trained", "wanted", "words"),
    [
        (0.5, 0.0, "between 0 and 1"),
        (1.0, 0.5, "between 0 and 1"),
        ([0.5, 0.4], 0.5, "sum to 1"),
        ([0.5, 0.3, 0.2], 0.5, "must be 2"),
    ],
)
def test_shares_that_are_none_are_refused(trained, wanted, words):
    with pytest.raises(ValueError, match=words):
        at_prevalence([[0.5, 0.5]], trained, wanted)


def test_class_shares_cannot_come_from_a_prevalence_alone():
    with pytest.raises(ValueError, match="give their class shares"):
        at_prevalence([[0.5, 0.3, 0.2]], 0.5, [0.5, 0.3, 0.2])
