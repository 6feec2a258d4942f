"""Engines: another one answers as TensorFlow does, or TensorFlow does."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

from cxr_core import images
from cxr_core.data import phantom
from cxr_core.diagnosis import engine
from cxr_core.diagnosis.predictor import Predictor
from cxr_core.errors import BundleError
from cxr_core.images import to_square

FILMS = np.stack(
    [
        to_square(
            phantom.draw("PNEUMONIA", np.random.default_rng(seed)).pixels, tiny.SIZE, "squash"
        )
        for seed in range(5)
    ]
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("source") / "bundle", tiny.THREE)


@pytest.fixture
def by_openvino(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Ask for OpenVINO; return the graphs that it has taken over."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("needs OpenVINO: pip install -r requirements-openvino.txt")
    taken: list[object] = []
    inner = engine._compiled

    def watched(traced: object) -> engine.Compute:
        taken.append(traced)
        return inner(traced)

    monkeypatch.setattr(engine, "_compiled", watched)
    monkeypatch.setenv(engine.VARIABLE, engine.OPENVINO)
    return taken


def test_openvino_answers_as_tensorflow_does_for_any_number_of_films(
    source, by_openvino, monkeypatch
):
    fast = Predictor(source)
    found = [fast.probabilities(FILMS[:1]), fast.probabilities(FILMS)]
    assert len(by_openvino) == 1
    monkeypatch.delenv(engine.VARIABLE)
    plain = Predictor(source)
    np.testing.assert_allclose(found[0], plain.probabilities(FILMS[:1]), atol=1e-4)
    np.testing.assert_allclose(found[1], plain.probabilities(FILMS), atol=1e-4)


def test_heat_maps_and_the_gate_work_beside_openvino(source, by_openvino, monkeypatch):
    drawn = phantom.draw("PNEUMONIA", np.random.default_rng(7)).pixels
    film = images.read(cv2.imencode(".png", drawn)[1].tobytes(), "drawn.png")
    answer = Predictor(source).diagnose(film, force=True)
    monkeypatch.delenv(engine.VARIABLE)
    expected = Predictor(source).diagnose(film, force=True)
    assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-4)
    assert answer.heatmap is not None


def test_an_engine_that_answers_otherwise_is_left_out(source, by_openvino, monkeypatch, caplog):
    monkeypatch.setattr(
        engine, "_compiled", lambda traced: lambda *films: [np.full((len(films[0]), 3), 9.0)] * 3
    )
    wrong = Predictor(source).probabilities(FILMS)
    assert "differ from TensorFlow's" in caplog.text
    monkeypatch.delenv(engine.VARIABLE)
    np.testing.assert_array_equal(wrong, Predictor(source).probabilities(FILMS))


def test_a_network_that_cannot_be_converted_is_left_to_tensorflow(
    source, by_openvino, monkeypatch, caplog
):
    def refuse(traced: object) -> engine.Compute:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(engine, "_compiled", refuse)
    assert Predictor(source).probabilities(FILMS).shape == (5, 3)
    assert "no such operation" in caplog.text


def test_an_unknown_engine_is_a_sentence(monkeypatch):
    monkeypatch.setenv(engine.VARIABLE, "abacus")
    with pytest.raises(BundleError, match="'abacus'; it may be tensorflow or openvino"):
        engine.chosen()


def test_an_engine_that_is_not_installed_is_a_sentence(monkeypatch):
    monkeypatch.setenv(engine.VARIABLE, engine.OPENVINO)
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BundleError, match=r"pip install -r requirements-openvino\.txt"):
        engine.chosen()
