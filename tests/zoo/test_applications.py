"""Keras's networks scale films as they were trained to, and take their weights without a network.

The weights here are random ones, written as Keras writes its own.
"""

import dataclasses
import hashlib
import inspect
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.applications import efficientnet, resnet

from cxr_core.errors import TrainingError
from cxr_core.zoo import applications, keras_weights, registry
from cxr_core.zoo.registry import Options

SIZE = 64
AS_SHIPPED = dict(applications.APPLICATIONS)  # the tests put other files into the original


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    gray = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 1))
    return gray.astype("float32")


@pytest.fixture(scope="module", autouse=True)
def keras_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give Keras an empty home."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("keras")
        patch.setenv("KERAS_HOME", str(home))
        yield home


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take the network away; return the addresses that were asked for."""
    addresses: list[str] = []

    def refuse(request: urllib.request.Request, **_: Any) -> None:
        addresses.append(request.full_url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(keras_weights, "_answers", {})
    return addresses


@contextmanager
def published(name: str, network: keras.Model) -> Iterator[Path]:
    """Put a network's weights where Keras keeps those of that name."""
    application = applications.APPLICATIONS[name]
    place = application.file.place
    place.parent.mkdir(exist_ok=True)
    network.save(place)  # by its ending, in the old layout of Keras's published weights
    md5 = hashlib.md5(place.read_bytes()).hexdigest()
    ours = dataclasses.replace(application, file=dataclasses.replace(application.file, md5=md5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(applications.APPLICATIONS, name, ours)
        yield place


@pytest.fixture(scope="module")
def mobile(keras_home: Path) -> Iterator[tuple[keras.Model, keras.Model]]:
    """The smallest network as Keras has it, and ours with the same weights, by way of a file."""
    theirs = keras.applications.MobileNetV3Large(
        include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg"
    )
    _shake(theirs)
    with published("mobilenet_v3", theirs):
        yield theirs, registry.build("mobilenet_v3", size=SIZE, outputs=1, weights="imagenet")


def _shake(network: keras.Model) -> None:
    """Give the normalisation statistics of films, not the zeros and ones that hide mistakes."""
    numbers = np.random.default_rng(1)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([w + numbers.uniform(0, 0.2, w.shape) for w in layer.get_weights()])


def _features(model: keras.Model, films: np.ndarray) -> np.ndarray:
    return keras.Model(model.input, model.get_layer("features").output)(films).numpy()


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [
        ("resnet50", keras.applications.resnet50.preprocess_input),
        ("resnet50v2", keras.applications.resnet_v2.preprocess_input),
        ("densenet121", keras.applications.densenet.preprocess_input),
        ("efficientnet_b0", keras.applications.densenet.preprocess_input),
        ("efficientnet_b3", keras.applications.densenet.preprocess_input),
        ("mobilenet_v3", keras.applications.resnet_v2.preprocess_input),
    ],
)
def test_films_are_scaled_as_keras_scales_photographs(
    name: str, preprocess: Callable[[np.ndarray], np.ndarray], films: np.ndarray
) -> None:
    scaling = applications.APPLICATIONS[name].scaling
    ours = films * np.array(scaling.factor) + np.array(scaling.offset)
    np.testing.assert_allclose(ours, preprocess(np.repeat(films, 3, axis=-1)), atol=1e-4)


def test_imagenet_weights_make_it_the_network_that_keras_would_load(
    mobile: tuple[keras.Model, keras.Model], films: np.ndarray
) -> None:
    theirs, ours = mobile
    expected = theirs(np.repeat(films, 3, axis=-1))
    np.testing.assert_allclose(_features(ours, films), expected, atol=1e-4, rtol=1e-4)


def test_weights_that_are_there_need_no_network(
    mobile: tuple[keras.Model, keras.Model], asked: list[str]
) -> None:
    registry.check("mobilenet_v3", size=SIZE, weights="imagenet")
    assert asked == []


def test_the_graph_is_the_same_whatever_the_weights(
    mobile: tuple[keras.Model, keras.Model], films: np.ndarray
) -> None:
    _, trained = mobile
    twin = registry.build("mobilenet_v3", size=SIZE, outputs=1, weights="none")
    assert trained.to_json() == twin.to_json()
    twin.set_weights(trained.get_weights())
    np.testing.assert_array_equal(twin(films), trained(films))


def test_coordinates_start_without_influence(
    mobile: tuple[keras.Model, keras.Model], films: np.ndarray
) -> None:
    placed = registry.build(
        "mobilenet_v3",
        size=SIZE,
        outputs=1,
        weights="imagenet",
        options=Options(coordinates=True),
    )
    assert placed.get_layer("conv").kernel.shape == (3, 3, 5, 16)
    np.testing.assert_allclose(_features(placed, films), _features(mobile[1], films), atol=1e-5)


@pytest.fixture(scope="module")
def efficient(keras_home: Path) -> Iterator[tuple[keras.Model, keras.Model]]:
    """EfficientNet-B0 as Keras has it with "imagenet", and ours with the same weights."""
    network = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)
    )
    _shake(network)
    # As in Keras's file: standard deviations where variances should be.
    statistics = network.get_layer(index=2)
    statistics.adapt_mean.assign([0.485, 0.456, 0.406])
    statistics.adapt_variance.assign([0.229, 0.224, 0.225])
    with published("efficientnet_b0", network) as place:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: str(place))
            theirs = keras.applications.EfficientNetB0(
                include_top=False, weights="imagenet", input_shape=(SIZE, SIZE, 3), pooling="avg"
            )
        options = Options(dropout=0)
        yield (
            theirs,
            registry.build(
                "efficientnet_b0", size=SIZE, outputs=1, weights="imagenet", options=options
            ),
        )


def test_the_efficientnet_scales_films_as_keras_does_with_its_weights(
    efficient: tuple[keras.Model, keras.Model], films: np.ndarray
) -> None:
    theirs, ours = efficient
    expected = theirs(np.repeat(films, 3, axis=-1))
    np.testing.assert_allclose(_features(ours, films), expected, atol=1e-3, rtol=1e-3)


def test_dropout_of_whole_blocks_is_dropout_too(
    efficient: tuple[keras.Model, keras.Model],
) -> None:
    def rates(model: keras.Model) -> set[float]:
        return {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}

    theirs, ours = efficient
    assert max(rates(theirs)) > 0.1
    assert rates(ours) == {0.0}


def test_without_file_and_network_a_sentence_says_what_to_do(asked: list[str]) -> None:
    file = applications.APPLICATIONS["resnet50"].file
    with pytest.raises(TrainingError) as refused:
        registry.check("resnet50", size=224, weights="imagenet")
    text = str(refused.value)
    for part in (str(file.place), file.url, "no route to host", "'none'", "efficientnet_lite0"):
        assert part in text
    assert "is not on this machine" in text
    assert asked == [file.url]


def test_a_page_that_asks_again_gets_the_same_answer_at_once(asked: list[str]) -> None:
    for _ in range(3):
        with pytest.raises(TrainingError):
            registry.check("resnet50", size=224, weights="imagenet")
    assert len(asked) == 1


def test_random_weights_ask_for_nothing(asked: list[str]) -> None:
    registry.check("resnet50", size=224, weights="none")
    assert asked == []


def test_a_source_within_reach_is_good_enough_before_the_start(
    monkeypatch: pytest.MonkeyPatch, keras_home: Path
) -> None:
    opened: list[Any] = []

    class Answer:
        def close(self) -> None:
            opened.append(self)

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Answer())
    file = applications.APPLICATIONS["densenet121"].file
    assert file.find() == keras_home / "models" / file.name
    assert len(opened) == 1


def test_a_source_that_never_answers_does_not_hold_up_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = threading.Event()

    def wait(*_: Any, **__: Any) -> None:
        waiting.wait()
        raise OSError

    monkeypatch.setattr(urllib.request, "urlopen", wait)
    monkeypatch.setattr(keras_weights, "_PATIENCE", 0.01)
    try:
        with pytest.raises(TrainingError, match=r"no answer within 0\.01 seconds"):
            registry.check("resnet50", size=224, weights="imagenet")
    finally:
        waiting.set()


def test_a_damaged_file_is_told_from_a_missing_one() -> None:
    place = applications.APPLICATIONS["resnet50v2"].file.place
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"half of it")
    with pytest.raises(TrainingError, match=rf"{place.name} is damaged"):
        registry.check("resnet50v2", size=224, weights="imagenet")


def test_a_fetch_that_fails_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_: Any, **__: Any) -> None:
        raise Exception("URL fetch failure on https://example.org: None -- reset by peer")

    monkeypatch.setattr(keras.utils, "get_file", break_off)
    with pytest.raises(TrainingError, match=r"could not be fetched.*reset by peer.*'none'"):
        applications.APPLICATIONS["resnet50"].file.fetch()


@pytest.mark.parametrize("name", sorted(applications.APPLICATIONS))
def test_addresses_and_hashes_are_in_the_source_of_keras(name: str) -> None:
    application = AS_SHIPPED[name]
    builder = getattr(keras.applications, application.keras_name)
    source = inspect.getsource(inspect.getmodule(builder)) + inspect.getsource(resnet)
    assert f'"{application.file.md5}"' in source
    assert f'"{application.file.url.removesuffix(application.file.name)}"' in source
