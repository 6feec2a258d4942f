"""Every subgroup is shown, however small, with what its films can and cannot tell."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_core.evaluation.metrics import probabilities, summarise
from cxr_core.evaluation.subgroups import bands, by_group


def films(k=2, n=120, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += 1.2
    return labels, probabilities(logits)


@pytest.mark.parametrize("k", [2, 3])
def test_a_group_has_the_metrics_of_its_films_alone(k):
    labels, table = films(k)
    names = ["N", "P", "T"][:k]
    groups = np.where(np.arange(120) < 80, "PA", "AP")
    patients = [f"p{row // 2}" for row in range(120)]
    rows = by_group(labels, table, list(groups), names, 0.5, patients=patients, resamples=100)
    assert [(row["group"], row["n"], row["patients"]) for row in rows] == [
        ("PA", 80, 40),
        ("AP", 40, 20),
    ]
    for row in rows:
        chosen = groups == row["group"]
        alone = summarise(
            labels[chosen],
            table[chosen],
            names,
            0.5,
            patients=[p for p, here in zip(patients, chosen, strict=True) if here],
            resamples=100,
        )
        assert row["findings"] == (labels[chosen] > 0).sum()
        assert row["ci95"] == alone["ci95"]
        for key in set(row) - {"group", "findings"}:
            assert row[key] == alone[key], key
    json.dumps(rows, allow_nan=False)


def test_small_groups_are_shown_with_wide_intervals():
    labels, table = films(n=123)
    groups = ["large"] * 120 + ["small"] * 3
    large, small = by_group(labels, table, groups, ["N", "P"], 0.5, resamples=200)
    assert small["n"] == 3
    width = {row["group"]: np.ptp(row["ci95"]["accuracy"]) for row in (large, small)}
    assert width["small"] > 3 * width["large"]


def test_a_group_of_one_class_has_no_auroc_but_keeps_its_rates():
    labels, table = films()
    groups = np.where(labels == 1, "ward", "clinic")
    ward = next(
        row
        for row in by_group(labels, table, list(groups), ["N", "P"], 0.5, resamples=50)
        if row["group"] == "ward"
    )
    assert ward["auc"] is None
    assert ward["ci95"]["auc"] is None
    assert ward["specificity"] is None
    assert ward["sensitivity"] == pytest.approx((table[labels == 1, 1] >= 0.5).mean())


def test_films_without_a_group_are_unknown_and_none_is_lost():
    labels, table = films(n=6)
    groups = pd.Series(["a", None, " ", "a ", np.nan, 7], index=range(6, 12), dtype=object)
    rows = by_group(
        labels, table, groups, ["N", "P"], 0.5, patients=pd.Series(list("uvwxyz")), resamples=10
    )
    assert [(row["group"], row["n"]) for row in rows] == [("unknown", 3), ("a", 2), ("7", 1)]


def test_every_film_may_have_its_own_threshold():
    labels, table = films(n=40)
    groups, cuts = ["a", "b"] * 20, [0.3, 0.7] * 20
    rows = by_group(labels, table, groups, ["N", "P"], cuts, resamples=0)
    for row, cut in zip(rows, (0.3, 0.7), strict=True):
        mine = np.array(groups) == row["group"]
        assert row["accuracy"] == pytest.approx(((table[mine, 1] >= cut) == labels[mine]).mean())


def test_groups_must_match_the_films():
    labels, table = films(n=4)
    with pytest.raises(ValueError, match="4 films but 3 groups"):
        by_group(labels, table, ["a"] * 3, ["N", "P"], 0.5)


def test_numbers_are_banded_by_quartiles_and_named_by_their_range():
    ages = [*range(1, 101), None, float("nan")]
    found = bands(ages)
    assert found[0] == "1 to 25"
    assert found[99] == "76 to 100"
    assert found[100:] == ["unknown", "unknown"]
    assert {name: found.count(name) for name in set(found[:100])} == dict.fromkeys(
        ["1 to 25", "26 to 50", "51 to 75", "76 to 100"], 25
    )


def test_few_different_numbers_are_groups_of_their_own():
    assert bands([1024, 512, 1024, None]) == ["1,024", "512", "1,024", "unknown"]


@pytest.mark.parametrize("parts", [1, 4])
def test_infinity_is_no_number_to_band_films_by(parts):
    found = bands([float("inf"), 1, 2, 3, float("-inf")], parts)
    assert (found[0], found[-1]) == ("unknown", "unknown")
    assert "unknown" not in found[1:-1]


@given(st.lists(st.none() | st.integers(0, 12), max_size=40), st.integers(1, 5))
def test_a_greater_number_is_never_in_a_lower_band(values, parts):
    found = bands(values, parts)
    assert len(found) == len(values)
    assert len(set(found) - {"unknown"}) <= parts
    for value, name in zip(values, found, strict=True):
        if value is None:
            assert name == "unknown"
        else:
            low, _, high = name.partition(" to ")
            assert int(low) <= value <= int(high or low)
