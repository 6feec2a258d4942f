"""Exports: other engines give the bundle's answers, also without this package."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

from cxr_core import images
from cxr_core.config import ImageConfig
from cxr_core.data import phantom
from cxr_core.diagnosis import bundle, exports
from cxr_core.diagnosis.exports import answer
from cxr_core.diagnosis.predictor import Predictor
from cxr_core.errors import ExportError


@pytest.fixture(scope="module", params=[tiny.BINARY, tiny.THREE], ids=["two", "three"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(
        tmp_path_factory.mktemp("source") / "bundle",
        request.param,
        temperature=1.7,
        image=ImageConfig(size=tiny.SIZE, fit="letterbox", clahe=2.0),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", exports.FORMATS)
def test_an_export_answers_as_its_bundle_without_this_package(name, source, tmp_path):
    made = exports.export(source, name, tmp_path / "out", films=12)
    assert made.check.furthest <= exports.MOST_APART
    assert made.check.films == 12
    film = phantom.draw("PNEUMONIA", np.random.default_rng(3)).pixels
    cv2.imwrite(str(tmp_path / "film.png"), film)

    isolated = [sys.executable, "-P", str(made.folder / "answer.py"), str(tmp_path / "film.png")]
    asked = subprocess.run(
        isolated,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(made.folder), "TF_CPP_MIN_LOG_LEVEL": "2"},
        cwd=tmp_path,
    )
    assert asked.returncode == 0, asked.stderr[-2000:]
    said = json.loads(asked.stdout)
    expected = Predictor(source).diagnose(images.read(tmp_path / "film.png"), force=True)
    assert said["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)
    assert said["label"] == expected.label
    assert "cxr_core" not in (made.folder / "answer.py").read_text(encoding="utf-8")


def test_an_export_says_what_goes_in_and_what_comes_out(source, tmp_path):
    made = exports.export(source, "litert", tmp_path / "out", films=3)
    about = json.loads((made.folder / answer.ABOUT_FILE).read_text(encoding="utf-8"))
    info = bundle.read(source)
    assert about["classes"] == list(info.classes)
    assert (about["temperature"], about["threshold"]) == (1.7, info.threshold.value)
    assert about["input"]["shape"] == ["films", tiny.SIZE, tiny.SIZE, 1]
    assert about["output"]["shape"] == ["films", info.outputs]
    assert about["image"] == info.image.model_dump()
    assert about["check"]["furthest"] == made.check.furthest
    assert about["bundle_sha256"] == info.model_sha256
    assert (made.folder / bundle.CARD_FILE).read_bytes() == (source / bundle.CARD_FILE).read_bytes()
    assert made.size == (made.folder / "model.tflite").stat().st_size


def test_a_network_that_answers_otherwise_is_not_kept(source, tmp_path, monkeypatch):
    def wrong(folder: Path, about: dict) -> answer.Network:
        return lambda films: np.full((len(films), about["output"]["shape"][1]), 3.0)

    monkeypatch.setattr(answer, "open_network", wrong)
    with pytest.raises(ExportError, match="differ by up to"):
        exports.export(source, "litert", tmp_path / "out", films=3)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(source, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="is there already"):
        exports.export(source, "litert", tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_an_unknown_format_is_answered_with_the_known_ones(source, tmp_path):
    with pytest.raises(ExportError, match="no format 'pickle'; there are onnx, saved_model"):
        exports.export(source, "pickle", tmp_path / "out")


def test_a_library_that_is_not_installed_is_named_with_its_mend(source, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "missing", lambda format: ["tf2onnx"])
    with pytest.raises(ExportError, match=r"needs tf2onnx.*pip install -r requirements-export"):
        exports.export(source, "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
