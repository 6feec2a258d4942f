"""A film's slight changes are slight, and what a model says of them is counted."""

import numpy as np
import pytest

from cxr_core.diagnosis import stability

SIZE = 50  # px: 2 % of it are one pixel


@pytest.fixture(scope="module")
def square() -> np.ndarray:
    return np.random.default_rng(0).integers(30, 220, (SIZE, SIZE), np.uint8)


def test_a_film_is_moved_scaled_and_exposed(square: np.ndarray) -> None:
    films = stability.changed(square)
    assert films.shape == (8, SIZE, SIZE)
    right, left, down, up, larger, smaller, darker, brighter = films
    assert np.array_equal(right[:, 1:], square[:, :-1])
    assert np.array_equal(right[:, 0], square[:, 0])  # no black comes in
    assert np.array_equal(left[:, :-1], square[:, 1:])
    assert np.array_equal(down[1:], square[:-1])
    assert np.array_equal(up[:-1], square[1:])
    assert brighter.mean() > square.mean() > darker.mean()
    disc = np.zeros((SIZE, SIZE), np.uint8)
    disc[15:35, 15:35] = 255
    areas = [film.mean() for film in stability.changed(disc)[4:6]]
    assert areas[0] > disc.mean() > areas[1]
    for film in (larger, smaller):
        middle = slice(SIZE // 2 - 2, SIZE // 2 + 2)
        assert np.abs(film[middle, middle].mean() - square[middle, middle].mean()) < 30


def _predict(scores: list[float]) -> stability.Predict:
    def predict(squares: np.ndarray) -> np.ndarray:
        assert len(squares) == len(scores) == 9
        return np.column_stack([1 - np.array(scores), scores])

    return predict


def test_the_span_and_the_changed_decisions_are_told(square: np.ndarray) -> None:
    steady = stability.measure(_predict([0.85, *[0.82] * 4, *[0.903] * 4]), square, 0.5)
    assert steady.words == (
        "The probability lies between 82.0 and 90.3 % over 8 slight changes of the film. The "
        "decision stays the same."
    )
    shaky = stability.measure(_predict([0.55, *[0.45] * 3, *[0.6] * 5]), square, 0.5)
    assert (shaky.low, shaky.high, shaky.turned) == (0.45, 0.6, 3)
    assert "For 3 of them the decision is another" in shaky.words
    sure = stability.measure(_predict([0.9999] * 9), square, 0.5)
    assert "stays over 99.9 %" in sure.words
    nearly = stability.measure(_predict([0.9989, *[0.9999] * 8]), square, 0.5)
    assert "is 99.9 % or more over" in nearly.words
    hardly = stability.measure(_predict([0.0011, *[0.0001] * 8]), square, 0.5)
    assert "is 0.1 % or less over" in hardly.words


def test_of_several_findings_that_one_is_followed_which_is_called(square: np.ndarray) -> None:
    table = np.tile([0.1, 0.6, 0.3], (9, 1))
    table[3] = [0.1, 0.3, 0.6]  # another finding is a change of decision, too
    found = stability.measure(lambda _: table, square, 0.5)
    assert (found.low, found.high, found.turned) == (0.3, 0.6, 1)
    cleared = stability.measure(lambda _: np.tile([0.8, 0.05, 0.15], (9, 1)), square, 0.5)
    assert cleared.high == pytest.approx(0.2)
