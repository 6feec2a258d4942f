"""Probing finds what a network uses: networks made by hand, and one trained on a planted mark."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tiny

from cxr_core import images
from cxr_core.data import phantom
from cxr_core.data.audit.shortcut_probe import Shortcut
from cxr_core.diagnosis import explain, probing, sanity
from cxr_core.diagnosis.probing import Explained, Sample

SIZE = 40  # px
EDGE_MARK = (slice(18, 22), slice(0, 4))  # halfway down the left edge
CORNER_MARK = (slice(34, 38), slice(2, 6))  # lower left
LUNGS = (slice(14, 26), slice(14, 26))


class Stop(Exception):  # noqa: N818 - nothing went wrong
    """Asks the probing to end."""


def level(film: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
    return film[:, place[0], place[1]].mean(axis=(1, 2)) / 255.0


def films(mark: tuple[slice, slice] | None = None, count: int = 80) -> Sample:
    """Noise; films of the second class have bright lungs, and a mark where one is planted."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    squares = rng.integers(60, 140, (count, SIZE, SIZE), dtype=np.uint8)
    squares[labels == 1, LUNGS[0], LUNGS[1]] += rng.integers(30, 60, (count // 2, 1, 1)).astype("B")
    if mark:
        squares[labels == 1, mark[0], mark[1]] = 250
    return Sample(squares, labels, tiny.BINARY, None, 1.0, 0.5, seed=0)


def reads(mark: tuple[slice, slice] | None, weight: float = 0.5) -> probing.Predict:
    """A network of two cues: how bright the lungs are, and whether there is a mark."""

    def predict(squares: np.ndarray) -> np.ndarray:
        lungs = 40 * (level(squares, LUNGS) - 0.48)
        if mark is None:
            return lungs[:, None]
        seen = 12 * (level(squares, mark) - 0.7)
        return ((1 - weight) * lungs + weight * seen)[:, None]

    return predict


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in result["findings"]}


def doubtful(result: dict[str, Any]) -> set[str]:
    return {finding["name"] for finding in result["findings"] if finding["level"] == "warning"}


def test_a_mark_in_a_corner_is_found_where_the_network_reads_it() -> None:
    result = probing.probe(films(CORNER_MARK), reads(CORNER_MARK))
    assert {"corners", "lungs_out"} <= doubtful(result)
    assert "edges" not in doubtful(result)
    words = by_name(result)["corners"]["words"]
    assert words.startswith("The lower left corner speaks for PNEUMONIA")
    assert "With this corner masked AUROC goes from 1.00 to" in words


def test_a_mark_that_is_there_but_not_read_is_no_accusation() -> None:
    result = probing.probe(films(CORNER_MARK), reads(None))
    assert not doubtful(result) & {"corners", "edges", "lungs_out", "border_out"}


def test_a_mark_at_an_edge_is_found_too() -> None:
    result = probing.probe(films(EDGE_MARK), reads(EDGE_MARK))
    assert "edges" in doubtful(result)
    assert "corners" not in doubtful(result)
    assert by_name(result)["edges"]["words"].startswith("The left edge speaks for PNEUMONIA")


def test_a_network_that_reads_the_border_alone_falls_without_it() -> None:
    result = probing.probe(films(CORNER_MARK), reads(CORNER_MARK, weight=1.0))
    assert {"border_out", "lungs_out", "corners"} <= doubtful(result)
    assert by_name(result)["corners"]["value"] == pytest.approx(1, abs=0.1)


def test_what_is_known_of_the_set_is_held_against_the_network() -> None:
    width = Shortcut("width", 0.9, "PNEUMONIA", {"PNEUMONIA": 0.9}, certain=True)
    mean = Shortcut("mean", 0.6, "PNEUMONIA", {"PNEUMONIA": 0.6}, certain=True)
    found = by_name(probing.probe(films(), reads(None), shortcuts=[mean, width]))["baseline"]
    assert found["level"] == "warning"
    assert "image width alone tells PNEUMONIA" in found["words"]
    assert found["words"].endswith("Others alone: mean brightness 0.60.")
    assert by_name(probing.probe(films(), reads(None)))["baseline"]["level"] == "unknown"


def test_the_result_is_plain_values_and_the_same_every_time() -> None:
    result = probing.probe(films(CORNER_MARK), reads(CORNER_MARK))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result == probing.probe(films(CORNER_MARK), reads(CORNER_MARK))
    assert result["films"] == 80
    assert set(result["curves"]) == {"brightness", "rotation", "blur"}
    for curve in result["curves"].values():
        for figure in ("auc", "sensitivity", "specificity"):
            assert len(curve[figure]) == len(curve["x"])


def test_a_network_is_asked_about_as_many_films_as_was_said() -> None:
    sample, asked = films(), 0

    def predict(squares: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(squares)
        return reads(None)(squares)

    probing.probe(sample, predict)
    assert asked == probing.passes(sample)


def test_with_too_few_films_nothing_is_said_and_little_is_asked() -> None:
    result = probing.probe(films(count=12), reads(None))
    assert {finding["level"] for finding in result["findings"]} == {"unknown"}
    assert "Too few test films" in by_name(result)["corners"]["words"]


def fails_at(number: int, error: Exception) -> probing.Predict:
    """A network that fails the n-th time it is asked."""
    times = 0

    def predict(squares: np.ndarray) -> np.ndarray:
        nonlocal times
        times += 1
        if times == number:
            raise error
        return reads(None)(squares)

    return predict


def test_a_probe_that_fails_is_unknown_and_the_others_go_on() -> None:
    found = by_name(probing.probe(films(), fails_at(2, RuntimeError("out of memory\n at 0x1"))))
    assert found["lungs_out"]["level"] == "unknown"
    assert found["lungs_out"]["words"] == "This probe failed: out of memory"
    assert found["border_out"]["level"] == "fine"


def test_answers_that_are_no_numbers_are_unknown_and_never_fine() -> None:
    whole = films()
    sound = reads(None)

    def overflows(squares: np.ndarray) -> np.ndarray:
        logits = sound(squares)
        return logits if np.array_equal(squares, whole.squares) else np.full_like(logits, np.nan)

    result = probing.probe(whole, overflows)
    found = by_name(result)
    asked = set(found) - {"baseline"}
    assert {found[name]["level"] for name in asked} == {"unknown"}
    assert "no finite numbers" in found["corners"]["words"]
    json.dumps(result, allow_nan=False)


def test_a_request_to_end_ends_it() -> None:
    with pytest.raises(Stop):
        probing.probe(films(), fails_at(2, Stop()), ends=(Stop,))


def test_films_are_chosen_by_seed_with_the_classes_in_balance() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    rows = probing.choose(labels, 224, seed=1)
    assert list(rows) == sorted(set(rows))
    assert len(rows) <= 120
    assert abs((labels[rows] == 1).mean() - 0.5) < 0.01
    np.testing.assert_array_equal(rows, probing.choose(labels, 224, seed=1))
    assert list(rows) != list(probing.choose(labels, 224, seed=2))
    assert len(probing.choose(labels, 512, seed=1)) < len(rows)
    assert len(probing.choose(labels[:50], 224, seed=1)) == 50


# -- heat maps ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bright_spots() -> Any:
    """A network whose evidence is how bright a film is, and where: its maps are the film itself."""
    import keras

    film = keras.layers.Input((SIZE, SIZE, 1))
    maps = keras.layers.Conv2D(1, 1, use_bias=False, name="maps")(film)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(film, keras.layers.Dense(1, name="logits")(pooled))
    model.set_weights([np.ones((1, 1, 1, 1)), np.ones((1, 1)), np.array([-100.0])])
    return model


def test_maps_on_the_lesions_are_told_from_maps_beside_them(bright_spots: Any) -> None:
    sample = films()
    squares = np.zeros_like(sample.squares)
    where = np.zeros(squares.shape, bool)
    where[sample.labels == 1, LUNGS[0], LUNGS[1]] = True
    squares[where] = 200
    lit = Sample(squares, sample.labels, tiny.BINARY, None, 1.0, 0.5, seed=0)

    def looked(lesions: np.ndarray) -> dict[str, dict[str, Any]]:
        explained = Explained(bright_spots, "maps", lesions)
        return by_name(probing.probe(lit, reads(None), explained=explained))

    on, beside = looked(where), looked(np.roll(where, 13, axis=2))
    assert (on["energy"]["value"], on["pointing"]["value"]) == pytest.approx((1, 1))
    assert {on[name]["level"] for name in ("energy", "pointing")} == {"fine"}
    assert {beside[name]["level"] for name in ("energy", "pointing")} == {"warning"}


def test_without_known_lesions_heat_maps_are_asked_for_sanity_alone(
    bright_spots: Any,
) -> None:
    found = by_name(probing.probe(films(), reads(None), explained=Explained(bright_spots, "maps")))
    assert "sanity" in found
    assert not {"energy", "pointing"} & set(found)


def test_maps_that_are_the_film_whatever_the_weights_fail_their_sanity_test(
    bright_spots: Any,
) -> None:
    result = probing.probe(films(), reads(None), explained=Explained(bright_spots, "maps"))
    found = by_name(result)["sanity"]
    assert found["level"] == "warning"
    assert found["value"] > 0.99
    assert "prove nothing" in found["words"]


@pytest.fixture(scope="module")
def untrained() -> Any:
    from cxr_core import zoo  # noqa: F401  registers the networks
    from cxr_core.zoo import registry

    return registry.build("plain_cnn", size=SIZE, outputs=1, seed=1)


def test_the_cascade_goes_from_the_top_to_the_first_layer_and_leaves_the_network_alone(
    untrained: Any,
) -> None:
    before = [weight.copy() for weight in untrained.get_weights()]
    squares = films(count=6).squares
    selectors = np.stack([explain.selector(1, 2)] * 6)
    found = sanity.cascade(untrained, squares, selectors, layer="block3_relu", seed=0)
    for mine, then in zip(untrained.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, then)
    assert found.layers[-1] == "block1_conv"
    assert len(found.layers) == sanity.STEPS
    assert found.likeness.shape == (sanity.STEPS, len(found.rows))
    assert (found.likeness <= 1).all()
    again = sanity.cascade(untrained, squares, selectors, layer="block3_relu", seed=0)
    np.testing.assert_allclose(found.likeness, again.likeness, atol=1e-6)


def test_films_with_an_empty_heat_map_say_nothing_of_its_sanity(untrained: Any) -> None:
    squares = films(count=6).squares
    nothing = np.zeros((6, 1), np.float32)
    assert not len(sanity.cascade(untrained, squares, nothing, layer="block3_relu", seed=0).rows)


def test_maps_are_compared_by_their_shape_not_their_scale() -> None:
    cells = np.random.default_rng(0).random((2, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(sanity.normalised(cells), sanity.normalised(1000 * cells), rtol=1e-5)
    assert sanity.normalised(cells).max() == pytest.approx(1, abs=0.02)
    assert not sanity.normalised(np.zeros((1, 5, 5), np.float32)).any()


# -- the proof ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Phantoms at 32 px, normal and pneumonia in turn, a patient each."""

    def draw(number: int) -> np.ndarray:
        rng = np.random.default_rng(number)
        film = phantom.expose(phantom.sample_patient(phantom.CLASSES[number % 2], rng), rng)
        return images.to_square(film.pixels, tiny.SIZE, "squash")

    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(draw, range(150))))


def trained_and_probed(squares: np.ndarray) -> dict[str, Any]:
    """Train a plain CNN on two thirds of the films, and probe it on the rest."""
    import keras
    import tensorflow as tf

    from cxr_core import zoo  # noqa: F401  registers the networks
    from cxr_core.zoo import registry

    labels, cut = np.arange(len(squares)) % 2, 100
    keras.utils.set_random_seed(0)
    model = registry.build("plain_cnn", size=tiny.SIZE, outputs=1, seed=0)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    learnt = squares[:cut, ..., None].astype(np.float32)
    model.fit(learnt, labels[:cut, None].astype(np.float32), epochs=15, verbose=0)
    forward = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)

    def predict(films: np.ndarray) -> np.ndarray:
        return np.asarray(forward(films[..., None].astype(np.float32)))

    sample = Sample(squares[cut:], labels[cut:], phantom.CLASSES[:2], None, 1.0, 0.5, seed=0)
    return probing.probe(sample, predict)


@pytest.mark.slow
def test_a_network_trained_on_a_planted_mark_is_accused_in_words(drawn: np.ndarray) -> None:
    marked = drawn.copy()
    marked[1::2, -5:-2, 2:5] = 235
    result = trained_and_probed(marked)
    assert {"corners", "lungs_out"} <= doubtful(result)
    found = by_name(result)
    assert found["corners"]["words"].startswith("The lower left corner speaks for PNEUMONIA")
    assert "the network reads a marker" in found["corners"]["words"]
    assert "reads something else" in found["lungs_out"]["words"]


@pytest.mark.slow
def test_the_same_network_without_the_mark_is_not_accused(drawn: np.ndarray) -> None:
    result = trained_and_probed(drawn)
    found = by_name(result)
    for name in ("lungs_out", "border_out", "corners", "edges"):
        assert found[name]["level"] == "fine", found[name]["words"]
