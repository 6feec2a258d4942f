"""A bundle is written whole, read back as it was, and refused where it is not what it says."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from cxr_core.diagnosis import bundle
from cxr_core.errors import BundleError
from cxr_core.evaluation import scores


def _save(path: Path) -> None:
    path.write_bytes(b"network")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    bundle.write(folder, tiny.info(), _save, tiny.SPLITS)
    return folder


def _change(folder: Path, **fields: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    info = bundle.write(tmp_path / "model", tiny.info(tiny.THREE), _save, tiny.SPLITS)
    assert bundle.read(tmp_path / "model") == info
    assert info.model_bytes == len(b"network")
    assert info.outputs == 3
    assert bundle.verified_model(tmp_path / "model", info).read_bytes() == b"network"


def test_splits_come_back_with_their_leading_zeros(written: Path) -> None:
    table = bundle.read_splits(written)
    assert table["md5"].tolist() == tiny.SPLITS["md5"].tolist()
    assert table["split"].tolist() == ["train", "val", "test"]


def test_undefined_figures_are_written_as_valid_json(tmp_path: Path) -> None:
    info = tiny.info(metrics={"test": {"n": 2, "auc": float("nan"), "ci95": {}}})
    bundle.write(tmp_path / "model", info, _save, tiny.SPLITS)
    text = (tmp_path / "model" / "bundle.json").read_text()
    assert "NaN" not in text
    assert bundle.read(tmp_path / "model").metrics["test"]["auc"] is None


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        bundle.write(tmp_path / "model", tiny.info(), fail, tiny.SPLITS)
    assert list(tmp_path.iterdir()) == []


def test_writing_again_replaces_the_bundle(written: Path) -> None:
    bundle.write(written, tiny.info(name="second"), _save, tiny.SPLITS)
    assert bundle.read(written).name == "second"
    assert [path.name for path in written.parent.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="left alone"):
        bundle.write(tmp_path, tiny.info(), _save, tiny.SPLITS)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_missing_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere is not there"):
        bundle.read(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"no bundle\.json"):
        bundle.read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="is a file, not a folder"):
        bundle.read(tmp_path / "file")


def test_damaged_json_is_a_sentence(written: Path) -> None:
    (written / "bundle.json").write_text('{"name": ')
    with pytest.raises(BundleError, match="cannot be read"):
        bundle.read(written)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"threshold": {"value": 7, "method": "x"}}, r"threshold\.value"),
        ({"classes": ["NORMAL"]}, "classes"),
        ({"temperature": 0}, "temperature"),
        ({"image": {"size": "large"}}, r"image\.size"),
        ({"schema_version": None}, "no schema version"),
        ({"schema_version": bundle.SCHEMA_VERSION + 1}, "Update CXR Studio"),
    ],
)
def test_wrong_fields_are_named(written: Path, fields: dict[str, object], words: str) -> None:
    _change(written, **fields)
    with pytest.raises(BundleError, match=words):
        bundle.read(written)


def test_optional_keys_of_a_later_release_do_not_hinder_reading(written: Path) -> None:
    _change(written, sanity={"spearman": 0.1})
    assert bundle.read(written).name == "tiny"


def test_a_changed_model_file_is_not_handed_out(written: Path) -> None:
    info = bundle.read(written)
    (written / "model.keras").write_bytes(b"netw0rk")
    with pytest.raises(BundleError, match=r"not the one that bundle\.json describes"):
        bundle.verified_model(written, info)
    (written / "model.keras").unlink()
    with pytest.raises(BundleError, match="No such file"):
        bundle.verified_model(written, info)


def test_damaged_splits_are_named(written: Path) -> None:
    (written / "splits.csv").write_text("path,label\n")
    with pytest.raises(BundleError, match="no column md5, split"):
        bundle.read_splits(written)
    (written / "splits.csv").unlink()
    with pytest.raises(BundleError, match="splits"):
        bundle.read_splits(written)


def test_probabilities_before_calibration_are_without_offset_and_temperature() -> None:
    logits = np.array([[0.0, 2.0], [0.0, -1.0]])
    shifted = logits + np.array([0.0, 0.7])
    info = tiny.info(offset=(0.0, 0.7), temperature=2.0)
    np.testing.assert_allclose(info.uncalibrated(shifted), scores.probabilities(logits))
    np.testing.assert_allclose(tiny.info().uncalibrated(logits), scores.probabilities(logits))
