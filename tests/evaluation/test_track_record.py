"""The tables of how probabilities fared count films, not hopes."""

import numpy as np
import pytest

from cxr_core.evaluation import track_record

CLASSES = ("NORMAL", "PNEUMONIA")


def bins(scores, labels, patients=None):
    table = np.column_stack([1 - np.asarray(scores), scores])
    (found,) = track_record.tables(labels, table, CLASSES, patients)
    assert found["finding"] == "PNEUMONIA"
    return found["bins"]


def test_every_film_is_counted_once_with_what_it_had():
    rng = np.random.default_rng(0)
    scores = np.r_[rng.random(500), 0.0, 1.0]
    labels = rng.random(502) < scores
    found = bins(scores, labels)
    assert [each["low"] for each in found] == [0, *(each["high"] for each in found[:-1])]
    assert found[-1]["high"] == 1
    for number, each in enumerate(found):
        last = number == len(found) - 1
        inside = (scores >= each["low"]) & ((scores < each["high"]) | last)
        assert (each["films"], each["found"]) == (inside.sum(), labels[inside].sum())
        low, high = each["ci95"]
        assert 0 <= low <= each["found"] / each["films"] <= high <= 1


def test_ranges_without_films_do_not_lend_the_name_to_their_neighbours():
    scores = np.r_[np.full(300, 0.001), np.full(3, 0.4), np.full(200, 0.999)]
    found = bins(scores, scores > 0.5)
    assert [(each["low"], each["high"], each["films"]) for each in found] == [
        (0, 0.01, 300),
        (0.01, 0.99, 3),
        (0.99, 1, 200),
    ]
    assert found[0]["ci95"][1] == pytest.approx(1 - 0.025 ** (1 / 300))  # Clopper and Pearson
    empty = bins(np.full(40, 0.001), np.zeros(40, bool))[-1]
    assert (empty["films"], empty["found"], empty["ci95"]) == (0, 0, None)


def test_films_of_few_patients_tell_less():
    rng = np.random.default_rng(1)
    ill = np.repeat(rng.random(40) < 0.8, 10)
    scores = np.full(400, 0.85)
    widths = []
    for patients in (None, np.repeat(np.arange(40), 10)):
        (low, high) = next(each["ci95"] for each in bins(scores, ill, patients) if each["films"])
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_of_several_findings_each_has_a_table_and_so_has_any():
    table = np.tile([[0.45, 0.3, 0.25], [0.07, 0.2, 0.73]], (30, 1))
    labels = np.tile([0, 2], 30)
    found = track_record.tables(labels, table, ("NORMAL", "A", "B"))
    assert [each["finding"] for each in found] == ["", "A", "B"]
    any_bins = {each["low"]: each for each in found[0]["bins"] if each["films"]}
    assert (any_bins[0.5]["found"], any_bins[0.9]["found"]) == (0, 30)
    assert sum(each["found"] for each in found[1]["bins"]) == 0
    assert track_record.tables([], np.empty((0, 3)), ("NORMAL", "A", "B")) == []
