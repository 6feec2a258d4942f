"""What a model's films look like is learned from them and held against what comes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from cxr_core import images
from cxr_core.data import phantom
from cxr_core.diagnosis import bundle, familiar, gate
from cxr_core.diagnosis.bundle import GateInfo
from cxr_core.diagnosis.familiar import VIEWS, Familiar, Shown
from cxr_core.diagnosis.predictor import Predictor
from cxr_core.diagnosis.single_pass import SinglePass, look_layers
from cxr_core.errors import BundleError
from cxr_core.images import Radiograph

_KINDS = phantom.CLASSES


def _draw(number: int, first: int) -> list[Radiograph]:
    return [
        Radiograph(
            phantom.draw(_KINDS[seed % 2], np.random.default_rng(seed), size=(320, 288)).pixels,
            f"{seed}.png",
            "PNG",
            "gray 8 bit",
        )
        for seed in range(first, first + number)
    ]


@pytest.fixture(scope="module")
def films() -> list[Radiograph]:
    """Fifty to learn from, 25 held back, 15 never seen."""
    return _draw(90, 500)


@pytest.fixture(scope="module")
def known_bundle(
    binary_bundle: Path, films: list[Radiograph], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle with statistics of its films."""
    predictor = Predictor(binary_bundle)
    model = predictor._model
    layers = look_layers(model, "block3_relu")
    network = SinglePass(model, ("block3_relu",), layers)

    def shown(part: list[Radiograph]) -> Shown:
        squares = np.stack([predictor.square(film) for film in part])
        return Shown.of(squares, network.answers(squares).look, bars=True)

    train, val = shown(films[:50]), shown(films[50:75])
    known = familiar.fit(train, val, layers)
    folder = tmp_path_factory.mktemp("known") / "bundle"
    info = tiny.info(
        gate=GateInfo(train_films=50, val_films=25, val_refused=int(known.refused(val).sum()))
    )
    bundle.write(folder, info, lambda path: model.save(path), tiny.SPLITS, known.save)
    return folder


@pytest.fixture(scope="module")
def predictor(known_bundle: Path) -> Predictor:
    return Predictor(known_bundle)


def test_films_like_those_learned_from_are_accepted(
    predictor: Predictor, films: list[Radiograph]
) -> None:
    answers = predictor.diagnose_all(films[75:])
    assert sum(answer.accepted for answer in answers) >= 13
    for answer in answers:
        assert answer.unchecked == ()
        assert answer.distance is not None
        assert answer.features is not None or not answer.accepted


@pytest.mark.parametrize(
    ("turns", "kind", "mend"),
    [(1, "rotated", "rotate 90"), (2, "rotated", "rotate 180"), (3, "rotated", "rotate 270")],
)
def test_a_turned_film_is_refused_with_what_would_mend_it(
    predictor: Predictor, films: list[Radiograph], turns: int, kind: str, mend: str
) -> None:
    film = _accepted(predictor, films)
    answer = predictor.diagnose(replace(film, pixels=np.rot90(film.pixels, turns).copy()))
    assert not answer.accepted
    assert [(refusal.kind, refusal.mend) for refusal in answer.refusals] == [(kind, mend)]
    assert answer.probabilities == {}
    assert answer.heatmap is None


def test_an_inverted_film_is_refused_and_judged_once_inverted_back(
    predictor: Predictor, films: list[Radiograph]
) -> None:
    film = _accepted(predictor, films)
    negative = replace(film, pixels=255 - film.pixels)
    (refusal,) = predictor.diagnose(negative).refusals
    assert (refusal.kind, refusal.mend) == ("inverted", gate.INVERT)
    mended = gate.mended(negative, gate.INVERT)
    again, first = predictor.diagnose(mended), predictor.diagnose(film)
    assert again.accepted
    assert again.probabilities == pytest.approx(first.probabilities)
    assert mended.notes[-1] == "Inverted on request."


@pytest.mark.parametrize("mend", ["rotate 90", "rotate 180", "rotate 270", "invert"])
def test_a_mend_undoes_the_view_it_belongs_to(films: list[Radiograph], mend: str) -> None:
    turns = [named for _, named in VIEWS].index(mend)
    pixels = films[0].pixels
    view = 255 - pixels if mend == "invert" else np.rot90(pixels, turns)
    assert np.array_equal(gate.mended(replace(films[0], pixels=view), mend).pixels, pixels)


def test_noise_is_too_far_away_and_not_called_turned(predictor: Predictor) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    answer = predictor.diagnose(Radiograph(pixels, "noise.png", "PNG", "gray 8 bit"))
    assert [refusal.kind for refusal in answer.refusals] == ["distance"]
    assert "unlike the films that the model learned from" in answer.reasons[0]
    assert answer.probability is None


def test_a_far_film_is_answered_for_when_asked(predictor: Predictor) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    noise = Radiograph(pixels, "noise.png", "PNG", "gray 8 bit")
    answer = predictor.diagnose(noise, force=True)
    assert not answer.accepted
    assert answer.probability is not None
    assert answer.heatmap is not None


def test_a_bundle_without_statistics_says_what_was_not_checked(
    binary_bundle: Path, films: list[Radiograph]
) -> None:
    answer = Predictor(binary_bundle).diagnose(films[0], heatmap=False)
    assert answer.accepted
    assert answer.distance is None
    assert "not checked" in answer.unchecked[0]


def test_statistics_come_back_as_they_were_written(
    known_bundle: Path, films: list[Radiograph]
) -> None:
    path = known_bundle / bundle.GATE_FILE
    known = familiar.load(path.read_bytes(), "gate.npz")
    assert path.stat().st_size < 1_000_000
    features = np.random.default_rng(0).random((3, len(known.mean)))
    copy = known_bundle.parent / "again.npz"
    known.save(copy)
    again = familiar.load(copy.read_bytes(), "again.npz")
    assert again.layers == known.layers
    assert np.array_equal(again.distances(features), known.distances(features))


def test_a_changed_file_of_statistics_is_not_loaded(known_bundle: Path, tmp_path: Path) -> None:
    copy = _copy(known_bundle, tmp_path)
    (copy / bundle.GATE_FILE).write_bytes(b"other")
    with pytest.raises(BundleError, match=r"The gate file .* so it is not loaded"):
        Predictor(copy)


def test_statistics_of_another_network_are_refused(known_bundle: Path, tmp_path: Path) -> None:
    copy = _copy(known_bundle, tmp_path)
    known = familiar.load((copy / bundle.GATE_FILE).read_bytes(), "gate.npz")
    replace(known, layers=("block9_relu",)).save(copy / bundle.GATE_FILE)
    _sign(copy)
    with pytest.raises(BundleError, match="made for another network"):
        Predictor(copy)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_a_damaged_file_is_named(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"gate\.npz is damaged"):
        familiar.load(data, "gate.npz")


def test_too_few_films_are_refused() -> None:
    few = Shown.of(np.zeros((5, 32, 32), np.uint8), np.zeros((5, 8), np.float32), bars=False)
    with pytest.raises(ValueError, match="too few: 50 and 20 are needed"):
        familiar.fit(few, few, ("a",))


def test_one_validation_film_in_a_hundred_is_refused_for_its_distance() -> None:
    rng = np.random.default_rng(0)

    def squares(films: int) -> np.ndarray:
        drawn = rng.integers(0, 256, (films, 16, 16), np.uint8)
        drawn[:, :4] //= 4  # dark above: an upright film
        return drawn

    def shown(films: int) -> Shown:
        features = rng.gamma(3, 1, (films, 40)).astype(np.float32)
        return Shown.of(squares(films), features, bars=False)

    known = familiar.fit(shown(300), held := shown(500), ("a",))
    assert (known.distances(held.features) > 1).sum() <= 5
    assert (known.distances(held.features) > 0.8).sum() > 5
    fresh = shown(500)
    assert (known.distances(fresh.features) > 1).mean() < 0.03
    assert (known.distances(10 * fresh.features) > 1).mean() > 0.95
    upright = squares(5)
    assert [known.view(film) for film in upright] == [0] * 5
    assert [known.view(np.rot90(film, 2)) for film in upright] == [2] * 5


@pytest.mark.real_data
def test_real_films_lie_as_they_are_taken_to(real_data: Path) -> None:
    paths = [path for path in sorted((real_data / "native").rglob("*")) if path.is_file()]
    squares = np.stack([images.to_square(images.read(p).pixels, 64, "squash") for p in paths])
    order = np.random.default_rng(0).permutation(len(squares))
    train, held, test = squares[order[:50]], squares[order[50:]], squares[order[50:]]
    noise = np.random.default_rng(1)
    known = familiar.fit(
        Shown.of(train, noise.random((50, 8)), bars=False),
        Shown.of(held, noise.random((30, 8)), bars=False),
        ("a",),
    )
    for turns in range(4):
        found = [known.view(np.rot90(film, turns)) for film in test]
        assert np.mean(np.array(found) == turns) >= 0.9, turns
    assert np.mean([known.view(255 - film) == 4 for film in test]) >= 0.9


def _accepted(predictor: Predictor, films: list[Radiograph]) -> Radiograph:
    """Return a film that is well within the limit, so that only what is done to it counts."""
    near: dict[str, float] = {}
    for answer in predictor.diagnose_all(films[75:]):
        near[answer.name] = answer.distance if answer.distance is not None else np.inf
    return min(films[75:], key=lambda film: near[film.name])


def _copy(folder: Path, into: Path) -> Path:
    for file in folder.iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    return into


def _sign(folder: Path) -> None:
    """Put the hash of the statistics into bundle.json, as whoever wrote them would."""
    import hashlib

    values = json.loads((folder / bundle.INFO_FILE).read_text())
    data = (folder / bundle.GATE_FILE).read_bytes()
    values["gate"]["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / bundle.INFO_FILE).write_text(json.dumps(values))


def test_it_is_plain_numbers(known_bundle: Path) -> None:
    known: Familiar = familiar.load((known_bundle / bundle.GATE_FILE).read_bytes(), "gate.npz")
    assert known.axes.dtype == np.float16
    assert known.views.shape[0] == len(VIEWS)
