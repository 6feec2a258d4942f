"""A film is set beside the training films that the network takes to be most like it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from cxr_core import images
from cxr_core.data import phantom
from cxr_core.diagnosis import bundle, similar
from cxr_core.diagnosis.bundle import SimilarInfo
from cxr_core.diagnosis.predictor import Predictor
from cxr_core.diagnosis.similar import Similar
from cxr_core.errors import BundleError

_FILMS = 40


def _features(films: int, seed: int = 0, width: int = 24) -> np.ndarray:
    """Two clouds far from each other: even films and odd ones."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(films, width)) + 20 * (np.arange(films) % 2)[:, None]).astype("f4")


def _laid_out(features: np.ndarray, patients: np.ndarray | None = None) -> Similar:
    rows = np.arange(len(features))
    return similar.fit(
        features,
        rows % 2,
        rows if patients is None else patients,
        [f"{row:032}"[::-1] for row in rows],
        "features",
        [bytes([row + 1]) * (row + 1) for row in rows],
    )


@pytest.mark.parametrize(("films", "width"), [(_FILMS, 24), (30, 60)])
def test_the_nearest_films_are_those_of_a_plain_search_each_with_its_own_picture(
    films: int, width: int
) -> None:
    features = _features(films, width=width)
    known = _laid_out(features)
    own = _features(5, seed=1, width=width)
    for film in own:
        wanted = np.argsort(np.linalg.norm(features - film, axis=1))[:3]
        found = known.nearest(film, tiny.BINARY)
        assert [each.film for each in found] == [f"{row:032}"[::-1][:8] for row in wanted]
        assert [each.label for each in found] == [tiny.BINARY[row % 2] for row in wanted]
        assert [each.picture for each in found] == [bytes([row + 1]) * (row + 1) for row in wanted]
        assert [each.distance for each in found] == sorted(each.distance for each in found)
        assert 0.3 < found[0].distance < 3


def test_the_film_itself_is_nearer_than_any_other() -> None:
    features = _features(_FILMS)
    found = _laid_out(features).nearest(features[7], tiny.BINARY)
    assert found[0].distance < similar.SAME < found[1].distance


def test_a_patient_is_named_once_and_is_no_measure_of_himself() -> None:
    features = _features(_FILMS)
    twice = np.concatenate([features, features + 0.001])
    patients = np.tile(np.arange(_FILMS), 2)
    known = _laid_out(twice, patients)
    assert known.usual == pytest.approx(_laid_out(features).usual, rel=0.01)
    names = [each.film for each in known.nearest(features[0], tiny.BINARY)]
    rows = [int(name[::-1].lstrip("0") or 0) % _FILMS for name in names]
    assert len(set(rows)) == 3


def test_what_is_saved_is_small_and_comes_back(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 40, 40), np.uint8)
    shown = similar.pictures(noise)
    rows = np.arange(len(shown))
    features = np.random.default_rng(1).normal(size=(len(shown), 1280)).astype(np.float32)
    known = similar.fit(
        features, rows % 2, rows, [f"{row:032x}" for row in rows], "features", shown
    )
    known.save(tmp_path / "similar.npz")
    assert (tmp_path / "similar.npz").stat().st_size < 2e6
    again = similar.load((tmp_path / "similar.npz").read_bytes(), "similar.npz")
    for one, other in zip(
        known.nearest(features[3], tiny.BINARY),
        again.nearest(features[3], tiny.BINARY),
        strict=True,
    ):
        assert one == other
    picture = again.nearest(features[3], tiny.BINARY)[0].picture
    assert picture is not None
    assert images.read(picture, "small.jpg").pixels.shape == (96, 96)
    bare = similar.fit(features, rows % 2, rows, ["0" * 32] * len(rows), "features")
    assert {each.picture for each in bare.nearest(features[3], tiny.BINARY)} == {None}


def test_too_few_patients_and_features_without_difference_are_refused() -> None:
    with pytest.raises(ValueError, match="40 films of 4 patients are too few"):
        _laid_out(_features(_FILMS), np.arange(_FILMS) % 4)
    with pytest.raises(ValueError, match="the same features"):
        _laid_out(np.ones((_FILMS, 8), np.float32))


def test_a_predictor_names_the_films_and_refuses_those_of_another_network(
    binary_bundle: Path, tmp_path: Path
) -> None:
    import keras

    model = keras.saving.load_model(binary_bundle / bundle.MODEL_FILE)
    plain = Predictor(binary_bundle)
    films = [
        images.Radiograph(
            phantom.draw("NORMAL", np.random.default_rng(seed), size=(96, 96)).pixels,
            f"{seed}.png",
            "PNG",
            "gray 8 bit",
        )
        for seed in range(12)
    ]
    answers = plain.diagnose_all(films, force=True)
    assert plain.similar(answers[0]) == ()
    features = np.stack([answer.features for answer in answers if answer.features is not None])
    known = similar.fit(
        features, np.arange(12) % 2, np.arange(12), [f"{row:032}" for row in range(12)], "features"
    )

    def written(name: str, what: Similar) -> Path:
        info = tiny.info(similar=SimilarInfo(films=12, pictures=False))
        bundle.write(
            tmp_path / name,
            info,
            lambda path: model.save(path),
            tiny.SPLITS,
            save_similar=what.save,
        )
        return tmp_path / name

    folder = written("known", known)
    predictor = Predictor(folder)
    (answer,) = predictor.diagnose_all(films[5:6], force=True)
    assert predictor.similar(answer)[0].label == "PNEUMONIA"
    assert predictor.similar(answer)[0].distance < similar.SAME
    assert predictor.similar(replace(answer, features=None)) == ()
    with pytest.raises(BundleError, match="made for another network"):
        Predictor(written("other", replace(known, layer="member1_features")))
    (folder / bundle.SIMILAR_FILE).write_bytes(b"other")
    with pytest.raises(BundleError, match=r"not the one that bundle\.json describes"):
        Predictor(folder)
    with pytest.raises(BundleError, match="is damaged"):
        similar.load(b"other", "similar.npz")
