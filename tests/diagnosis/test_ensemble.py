"""An ensemble's network: the mean of its members in one flat graph, and its heat maps."""

import keras
import numpy as np
import pytest
import tiny

from cxr_core import images, zoo  # noqa: F401  registers the networks
from cxr_core.diagnosis import bundle, ensemble, explain, familiar, similar
from cxr_core.diagnosis.bundle import GateInfo, SimilarInfo
from cxr_core.diagnosis.familiar import Shown
from cxr_core.diagnosis.predictor import Predictor
from cxr_core.diagnosis.single_pass import SinglePass, look_layers
from cxr_core.errors import BundleError
from cxr_core.zoo import registry

TEMPERATURES = (1.5, 0.7)
SIZE = tiny.SIZE


@pytest.fixture(scope="module")
def networks() -> list[keras.Model]:
    """Two networks that are not built alike, for three classes."""
    films = np.random.default_rng(0).uniform(0, 255, (8, SIZE, SIZE, 1))
    built = []
    for options in (registry.Options(), registry.Options("gap", coordinates=True)):
        model = registry.build("plain_cnn", size=SIZE, outputs=3, seed=len(built), options=options)
        model(films, training=True)  # normalisation has seen something
        built.append(model)
    return built


@pytest.fixture(scope="module")
def joined(networks) -> keras.Model:
    """The ensemble of both."""
    return ensemble.join(networks, TEMPERATURES)


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (SIZE, SIZE), np.uint8)


def test_logits_are_the_mean_of_the_members_each_by_its_temperature(networks, joined, tmp_path):
    films = np.random.default_rng(2).uniform(0, 255, (5, SIZE, SIZE, 1))
    one, other = (np.asarray(model(films)) for model in networks)
    wanted = (one / 1.5 + other / 0.7) / 2
    np.testing.assert_allclose(joined(films), wanted, atol=1e-5)
    joined.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    np.testing.assert_allclose(loaded(films), wanted, atol=1e-5)


def test_the_graph_is_flat_and_its_layers_say_whose_they_are(networks, joined):
    assert not any(isinstance(layer, keras.Model) for layer in joined.layers)
    names = {layer.name for layer in joined.layers}
    for number, model in enumerate(networks, start=1):
        assert {f"member{number}_{layer.name}" for layer in model.layers[1:]} <= names


def test_a_graph_that_is_not_the_mean_of_its_members_is_refused(networks, monkeypatch):
    monkeypatch.setattr(ensemble.keras.Layer, "set_weights", lambda *_: None)
    with pytest.raises(ValueError, match="off the mean of its members"):
        ensemble.join(networks, TEMPERATURES)


def test_the_heat_map_is_the_sum_of_the_members_and_adds_up(networks, joined, film, tmp_path):
    infos = [tiny.info(tiny.THREE, temperature=temperature) for temperature in TEMPERATURES]
    members = ensemble.members(infos)
    info = tiny.info(
        tiny.THREE,
        architecture="ensemble",
        cam_layer=members[0].cam_layer,
        members=members,
    )
    assert info.cam_layers == tuple(member.cam_layer for member in members)
    bundle.write(tmp_path / "both", info, lambda path: joined.save(path), tiny.SPLITS)
    found = Predictor(tmp_path / "both").heatmap(
        images.Radiograph(film, "f.png", "PNG", "gray 8 bit"), "PNEUMONIA"
    )

    films, weights = film[None, :, :, None].astype(np.float32), explain.selector(1, 3)[None]
    cells = [
        explain.traced(model, [of.cam_layer])(films, weights)[0][0]
        for model, of in zip(networks, infos, strict=True)
    ]
    evidence = [(each - each.min()).sum() for each in cells]
    shares = [1 / (2 * temperature) for temperature in TEMPERATURES]
    assert found.evidence == pytest.approx(
        sum(share * each for share, each in zip(shares, evidence, strict=True)), rel=1e-3
    )
    finest = max(each.size for each in cells)
    wanted = sum(
        explain.spread(share * each * each.size / finest, SIZE)
        for share, each in zip(shares, cells, strict=True)
    )
    assert found.values.max() > 0
    np.testing.assert_allclose(found.values, wanted, rtol=1e-3, atol=1e-6)


def test_gate_and_similar_films_are_those_of_the_first_member_that_has_them(
    networks, joined, film, tmp_path
):
    squares = np.random.default_rng(4).integers(0, 256, (70, SIZE, SIZE), np.uint8)
    layers = look_layers(networks[1], "block3_relu")
    told = SinglePass(networks[1], ("block3_relu",), layers).answers(squares)
    train, val = (
        Shown.of(squares[part], told.look[part], bars=True) for part in (slice(50), slice(50, 70))
    )
    known = familiar.fit(train, val, layers)
    rows = np.arange(70)
    laid_out = similar.fit(told.features, rows % 3, rows, [f"{row:08}" for row in rows], "features")
    of_one = {
        "gate": GateInfo(train_films=50, val_films=20, val_refused=0),
        "similar": SimilarInfo(films=70, pictures=False),
    }
    folders = [tmp_path / "bare", tmp_path / "full"]
    infos = [
        bundle.write(
            folder,
            tiny.info(tiny.THREE, name=folder.name, **about),
            lambda path, model=model: model.save(path),
            tiny.SPLITS,
            known.save,
            laid_out.save,
        )
        for folder, model, about in zip(folders, networks, ({}, of_one), strict=True)
    ]
    gate, alike = ensemble.gate(folders, infos), ensemble.similar_films(folders, infos)
    assert gate[1].member == alike[1].member == "full"
    members = ensemble.members(infos)
    info = tiny.info(
        tiny.THREE,
        cam_layer=members[0].cam_layer,
        members=members,
        gate=gate[1],
        similar=alike[1],
    )
    bundle.write(
        tmp_path / "both",
        info,
        lambda path: joined.save(path),
        tiny.SPLITS,
        gate[0].save,
        alike[0].save,
    )
    both, member = Predictor(tmp_path / "both"), Predictor(folders[1])
    shown = images.Radiograph(film, "f.png", "PNG", "gray 8 bit")
    one, other = both.diagnose(shown, force=True), member.diagnose(shown, force=True)
    assert one.unchecked == ()
    assert one.distance == pytest.approx(other.distance, rel=1e-3)
    for mine, theirs in zip(both.similar(one), member.similar(other), strict=True):
        assert (mine.film, mine.label) == (theirs.film, theirs.label)
        assert mine.distance == pytest.approx(theirs.distance, rel=1e-2)
    assert ensemble.gate(folders[:1], infos[:1]) is None
    assert ensemble.similar_films(folders[:1], infos[:1]) is None


def test_maps_of_different_grids_weigh_by_what_they_add_up_to():
    coarse, fine = np.full((2, 2), 4.0, np.float32), np.full((4, 4), 1.0, np.float32)
    both = explain.together([coarse, fine], 8)
    np.testing.assert_allclose(both, 2.0)  # 16 logits each, over the 16 cells of the finer grid


def test_a_member_without_its_layer_is_refused(joined, tmp_path):
    members = ensemble.members(
        [tiny.info(tiny.THREE), tiny.info(tiny.THREE, cam_layer="block9_relu")]
    )
    info = tiny.info(tiny.THREE, cam_layer=members[0].cam_layer, members=members)
    bundle.write(tmp_path / "both", info, lambda path: joined.save(path), tiny.SPLITS)
    with pytest.raises(BundleError, match="no layer 'member2_block9_relu'"):
        Predictor(tmp_path / "both")
