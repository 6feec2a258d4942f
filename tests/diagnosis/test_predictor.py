"""A bundle and a film give calibrated probabilities, a decision, or a refusal with its reason."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from scipy.special import expit

from cxr_core import images
from cxr_core.diagnosis import bundle, explain, single_pass
from cxr_core.diagnosis.predictor import Predictor
from cxr_core.errors import BundleError
from cxr_core.evaluation import metrics
from cxr_core.images import Radiograph


@pytest.fixture(scope="module")
def binary(binary_bundle: Path) -> Predictor:
    return Predictor(binary_bundle)


@pytest.fixture(scope="module")
def three(three_class_bundle: Path) -> Predictor:
    return Predictor(three_class_bundle)


@pytest.fixture(scope="module")
def films(phantoms: Path) -> list[Radiograph]:
    return [images.read(path) for path in sorted((phantoms / "images").iterdir())[:6]]


def _squares(films: list[Radiograph]) -> np.ndarray:
    return np.stack([images.to_square(film.pixels, tiny.SIZE, "letterbox") for film in films])


def _with_settings(folder: Path, copy: Path, **fields: object) -> Path:
    """Copy a bundle with other fields in its bundle.json; the model file stays the same."""
    copy.mkdir()
    (copy / "model.keras").hardlink_to(folder / "model.keras")
    values = json.loads((folder / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**values, **fields}))
    return copy


def test_logits_are_those_of_the_saved_network(
    binary: Predictor, binary_bundle: Path, films: list[Radiograph]
) -> None:
    import keras

    squares = _squares(films)
    model = keras.saving.load_model(binary_bundle / "model.keras")
    expected = model.predict(squares[..., None].astype("float32"), verbose=0)
    logits = binary.logits(squares)
    np.testing.assert_allclose(logits[:, 1:], expected, atol=1e-4)
    assert not logits[:, 0].any()


def test_the_batch_size_changes_nothing(three: Predictor, films: list[Radiograph]) -> None:
    squares = _squares(films)
    np.testing.assert_allclose(three.logits(squares, 4), three.logits(squares), atol=1e-5)
    assert three.logits(squares[:0]).shape == (0, 3)


def test_a_model_trained_on_equalised_films_sees_them_so(
    binary: Predictor, binary_bundle: Path, tmp_path: Path, films: list[Radiograph]
) -> None:
    image = {"size": tiny.SIZE, "fit": "letterbox", "clahe": 3.0}
    predictor = Predictor(_with_settings(binary_bundle, tmp_path / "equalised", image=image))
    square = images.to_square(films[0].pixels, tiny.SIZE, "letterbox", 3.0)
    answer = predictor.diagnose(films[0], heatmap=False, force=True)
    seen = [answer.probabilities[label] for label in tiny.BINARY]
    np.testing.assert_allclose(seen, predictor.probabilities(square[None])[0])
    assert seen != list(binary.diagnose(films[0], heatmap=False, force=True).probabilities.values())


def test_temperature_softens_the_probability(
    binary: Predictor, binary_bundle: Path, tmp_path: Path, films: list[Radiograph]
) -> None:
    warm = Predictor(_with_settings(binary_bundle, tmp_path / "warm", temperature=4.0))
    logit = binary.logits(_squares(films))[:, 1]
    np.testing.assert_allclose(warm.probabilities(_squares(films))[:, 1], expit(logit / 4))


def test_the_decision_follows_the_threshold(
    binary: Predictor, binary_bundle: Path, tmp_path: Path, films: list[Radiograph]
) -> None:
    abnormal = binary.diagnose(films[0], heatmap=False).abnormal
    assert abnormal is not None
    for value, label in ((abnormal, "PNEUMONIA"), (abnormal + 1e-6, "NORMAL")):
        threshold = {"value": value, "method": "test", "chosen_on": "validation"}
        other = Predictor(_with_settings(binary_bundle, tmp_path / label, threshold=threshold))
        assert other.diagnose(films[0], heatmap=False).label == label


def test_a_diagnosis_is_complete(three: Predictor, films: list[Radiograph]) -> None:
    answer = three.diagnose(films[0])
    assert answer.accepted
    assert answer.reasons == ()
    assert answer.name == films[0].name
    assert answer.synthetic
    assert tuple(answer.probabilities) == tiny.THREE
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.label is not None
    assert answer.probability == answer.probabilities[answer.label]
    assert answer.abnormal == pytest.approx(1 - answer.probabilities["NORMAL"])
    assert answer.heatmap is not None
    assert answer.heatmap.target in tiny.THREE[1:]


def test_many_films_get_the_answers_of_one(three: Predictor, films: list[Radiograph]) -> None:
    refused = replace(films[1], colour=90.0)
    answers = three.diagnose_all([films[0], refused, films[2]])
    assert [answer.accepted for answer in answers] == [True, False, True]
    for film, answer in ((films[0], answers[0]), (films[2], answers[2])):
        alone = three.diagnose(film, heatmap=False)
        assert answer.name == film.name
        assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_a_refused_film_gets_no_probability_unless_asked_for(
    binary: Predictor, films: list[Radiograph]
) -> None:
    cat = replace(films[0], colour=60.0)
    refusal = binary.diagnose(cat)
    assert not refusal.accepted
    assert len(refusal.reasons) == 1
    assert refusal.probabilities == {}
    assert (refusal.label, refusal.probability, refusal.abnormal) == (None, None, None)
    assert refusal.heatmap is None
    forced = binary.diagnose(cat, force=True)
    assert not forced.accepted
    assert forced.reasons == refusal.reasons
    assert forced.probability is not None
    assert forced.heatmap is not None


@pytest.mark.parametrize("classes", ["binary", "three"])
def test_one_pass_gives_what_the_library_gives_in_two(
    classes: str, films: list[Radiograph], request: pytest.FixtureRequest
) -> None:
    import keras
    from tf_keras_vis.gradcam import Gradcam

    predictor: Predictor = request.getfixturevalue(classes)
    folder = request.getfixturevalue(f"{'binary' if classes == 'binary' else 'three_class'}_bundle")
    model = keras.saving.load_model(folder / "model.keras")
    pixels = _squares(films[:2])[..., None].astype("float32")
    logits = model.predict(pixels, verbose=0)
    for film, square, row in zip(films[:2], pixels, logits, strict=True):
        answer = predictor.diagnose(film, force=True)
        assert answer.heatmap is not None
        finding = 0 if classes == "binary" else 1 + int(np.argmax(row[1:]))
        found = Gradcam(model, clone=False)(
            lambda outputs, finding=finding: outputs[:, finding],
            square[None],
            penultimate_layer="block3_relu",
            seek_penultimate_conv_layer=False,
            normalize_cam=False,
            expand_cam=False,
        )
        cells = np.asarray(found)[0]
        assert answer.heatmap.target == predictor.info.classes[max(finding, 1)]
        assert answer.heatmap.evidence == pytest.approx(
            float((cells - cells.min()).sum()), abs=1e-4
        )
        np.testing.assert_allclose(
            answer.heatmap.values, explain.spread(cells, tiny.SIZE), atol=1e-5
        )
        np.testing.assert_allclose(
            list(answer.probabilities.values())[1:],
            metrics.probabilities(metrics.expand_logits(row[None]), 1.0)[0, 1:],
            atol=1e-5,
        )


def test_films_in_batches_get_the_maps_of_one(three: Predictor, films: list[Radiograph]) -> None:
    together = three.diagnose_all([*films, *films], heatmap=True, target="PNEUMONIA")
    for film, answer in zip([*films, *films], together, strict=True):
        alone = three.heatmap(film, "PNEUMONIA")
        assert answer.heatmap is not None
        np.testing.assert_allclose(answer.heatmap.values, alone.values, atol=1e-5)


def test_a_large_network_whose_weights_stay_as_they_are_answers_alike(
    three: Predictor,
    three_class_bundle: Path,
    films: list[Radiograph],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    squares = np.stack([three.square(film) for film in films[:3]])
    monkeypatch.setattr(single_pass, "_FEW_WEIGHTS", 0)
    large = Predictor(three_class_bundle)
    assert large.logits(squares) == pytest.approx(three.logits(squares), abs=1e-5)
    assert large.logits(255 - squares) != pytest.approx(three.logits(squares), abs=1e-5)


def test_an_unknown_target_is_named(binary: Predictor, films: list[Radiograph]) -> None:
    with pytest.raises(BundleError, match="no class 'SCOLIOSIS'; it knows NORMAL, PNEUMONIA"):
        binary.heatmap(films[0], "SCOLIOSIS")


def test_threads_share_a_predictor(three: Predictor, films: list[Radiograph]) -> None:
    three.warm()
    expected = [three.diagnose(film).probability for film in films]
    found: dict[int, float | None] = {}

    def ask(i: int) -> None:
        found[i] = three.diagnose(films[i]).probability

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(films))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(films))] == pytest.approx(expected, abs=1e-6)


def test_a_changed_model_file_is_not_loaded(binary_bundle: Path, tmp_path: Path) -> None:
    copy = _with_settings(binary_bundle, tmp_path / "copy", model_sha256="f" * 64)
    with pytest.raises(BundleError, match="so it is not loaded"):
        Predictor(copy)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": {"size": 64, "fit": "crop"}}, r"describes \(None, 64, 64, 1\)"),
        ({"classes": list(tiny.THREE)}, r"describes .* to \(None, 3\)"),
        ({"cam_layer": "block9"}, "no layer 'block9'"),
    ],
)
def test_a_description_of_another_network_is_refused(
    binary_bundle: Path, tmp_path: Path, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        Predictor(_with_settings(binary_bundle, tmp_path / "copy", **fields))


def test_a_model_file_with_code_in_it_is_refused(tmp_path: Path) -> None:
    import keras

    film = keras.Input((tiny.SIZE, tiny.SIZE, 1))
    flat = keras.layers.Flatten()(film)
    model = keras.Model(film, keras.layers.Lambda(lambda x: x[:, :1])(flat))
    bundle.write(tmp_path / "evil", tiny.info(), lambda path: model.save(path), tiny.SPLITS)
    with pytest.raises(BundleError, match="cannot be loaded"):
        Predictor(tmp_path / "evil")


def test_a_model_file_that_is_none_is_refused(tmp_path: Path) -> None:
    bundle.write(tmp_path / "m", tiny.info(), lambda path: path.write_text("no"), tiny.SPLITS)  # type: ignore[func-returns-value]
    with pytest.raises(BundleError, match="cannot be loaded"):
        Predictor(tmp_path / "m")
