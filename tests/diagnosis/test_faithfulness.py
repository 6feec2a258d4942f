"""A heat map is faithful where the score follows it, and not by chance."""

import numpy as np
import pytest

from cxr_core.diagnosis import faithfulness

SIZE = 64
SPOT = (slice(16, 24), slice(40, 48))  # one of the 8 x 8 cells


def film() -> np.ndarray:
    square = np.full((SIZE, SIZE), 40, np.uint8)
    square[SPOT] = 250
    return square


def brightness_of_the_spot(squares: np.ndarray) -> np.ndarray:
    """A network of one logit that looks at the spot alone."""
    return (squares[(slice(None), *SPOT)].astype(float).mean(axis=(1, 2))[:, None] - 120) / 10


def marks(*places: tuple[slice, slice]) -> np.ndarray:
    cells = np.zeros((SIZE, SIZE), np.float32)
    for place in places:
        cells[place] = 1.0
    return cells


def test_a_map_of_what_the_score_rests_on_beats_random_orders() -> None:
    found = faithfulness.deletion_insertion(brightness_of_the_spot, film(), marks(SPOT), 1)
    assert found.deletion_beats >= 0.9
    assert found.insertion_beats >= 0.9
    assert "The score rests on what is marked." in found.words
    # The first of 64 cells is all there is to it: all points but the one before it are at the end.
    assert found.deletion_curve[0] == pytest.approx(13.0)
    assert np.ptp(found.deletion_curve[1:]) == 0
    assert np.ptp(found.insertion_curve[1:]) == 0
    lowest = found.deletion_curve[-1]
    assert found.deletion == pytest.approx(lowest + (13 - lowest) / 32)  # a triangle of width 1/16
    assert found.insertion == pytest.approx(13 - (13 - lowest) / 32)


def test_a_map_of_the_wrong_place_is_said_not_to_be_relied_on() -> None:
    last = np.ones((SIZE, SIZE), np.float32)
    last[SPOT] = 0.0
    found = faithfulness.deletion_insertion(brightness_of_the_spot, film(), last, 1)
    assert found.deletion_beats <= 0.1
    assert found.insertion_beats <= 0.1
    assert "do not rely on this map" in found.words


def test_what_speaks_for_one_class_speaks_against_the_other() -> None:
    found = [
        faithfulness.deletion_insertion(brightness_of_the_spot, film(), marks(SPOT), target)
        for target in (0, 1)
    ]
    assert found[0].deletion == pytest.approx(-found[1].deletion)
    assert found[0].deletion_beats <= 0.1


def test_a_map_that_marks_nothing_is_no_better_than_chance() -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(SIZE, SIZE))
    noise = rng.integers(0, 256, (SIZE, SIZE)).astype(np.uint8)

    def predict(squares: np.ndarray) -> np.ndarray:
        return (squares * weights).mean(axis=(1, 2))[:, None]

    beaten = [
        faithfulness.deletion_insertion(
            predict, noise, np.zeros((SIZE, SIZE)), 1, seed=seed
        ).deletion_beats
        for seed in range(20)
    ]
    assert 0.3 < np.mean(beaten) < 0.7


def test_of_three_classes_the_odds_against_all_others_count() -> None:
    def predict(squares: np.ndarray) -> np.ndarray:
        spot = brightness_of_the_spot(squares)[:, 0]
        return np.column_stack([np.zeros_like(spot), spot, spot + 1])

    found = faithfulness.deletion_insertion(predict, film(), marks(SPOT), 1)
    assert found.deletion_curve[0] == pytest.approx(13 - np.log(1 + np.exp(14)))


def test_the_random_orders_are_the_same_each_time() -> None:
    one, other = (
        faithfulness.deletion_insertion(brightness_of_the_spot, film(), marks(SPOT), 1)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.random_deletion, other.random_deletion)
    assert len(np.unique(one.random_deletion)) > 1


def test_about_as_many_films_are_asked_about_as_is_said() -> None:
    asked = []

    def predict(squares: np.ndarray) -> np.ndarray:
        asked.append(len(squares))
        return brightness_of_the_spot(squares)

    faithfulness.deletion_insertion(predict, film(), marks(SPOT), 1)
    assert sum(asked) <= 16 + 7 * (faithfulness.ORDERS + 1)
    assert max(asked) <= 32
