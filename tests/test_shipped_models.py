"""The models that come with the app: whole, small, licensed, and silent on where they were made."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cxr_core import images
from cxr_core.data import catalog, phantom
from cxr_core.diagnosis import bundle
from cxr_core.diagnosis.predictor import Predictor
from cxr_core.training import bundle_index

REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED = ("phantom_v1", "pneumonia_v1")
MOST_MB = {"phantom_v1": 2, "pneumonia_v1": 16}  # of a whole folder

# A folder of somebody's machine: a slash, a usual root of a tree, a name.
LOCAL_PATH = re.compile(rb"/(work|home|root|tmp|Users|mnt|private|var)/\w")


@pytest.fixture(params=SHIPPED)
def shipped(request: pytest.FixtureRequest) -> Path:
    return REPOSITORY / "models" / request.param


def test_the_model_of_real_films_comes_first(store):
    offered = [ref.spec for ref in bundle_index.available(store)]
    assert offered[:2] == ["pneumonia_v1", "phantom_v1"]


def test_a_shipped_model_is_whole_and_small(shipped: Path):
    info = bundle.read(shipped)
    bundle.verified_model(shipped, info)
    assert bundle.verified_gate(shipped, info)
    assert bundle.verified_similar(shipped, info)
    size = sum(file.stat().st_size for file in shipped.iterdir())
    assert size <= MOST_MB[shipped.name] * 1e6


def test_a_shipped_model_tells_no_place_of_a_machine(shipped: Path):
    for file in shipped.iterdir():
        assert not LOCAL_PATH.search(file.read_bytes()), file.name


def test_a_shipped_model_names_its_films_and_their_licence(shipped: Path):
    info = bundle.read(shipped)
    assert info.data.licence and info.data.citation
    assert info.data.licence in (shipped / bundle.CARD_FILE).read_text(encoding="utf-8")
    notice = (REPOSITORY / "NOTICE").read_text(encoding="utf-8")
    assert f"models/{shipped.name}" in notice


def test_no_film_of_a_person_ships(shipped: Path):
    info = bundle.read(shipped)
    assert info.similar is not None
    if not info.data.synthetic:
        assert not info.similar.pictures
        with np.load(shipped / bundle.SIMILAR_FILE) as stored:
            assert all(stored[name].ndim < 3 for name in stored.files)


def test_a_shipped_model_was_tested_on_patients_it_never_saw(shipped: Path):
    info, table = bundle.read(shipped), bundle.read_splits(shipped)
    patients = table.groupby("split")["patient_id"].agg(set)
    assert not patients["train"] & patients["test"]
    assert not patients["train"] & patients["val"]
    assert not patients["val"] & patients["test"]
    test = info.metrics["test"]
    assert test["n"] == (table["split"] == "test").sum()
    for figure in ("auc", "balanced_accuracy", "ece"):
        low, high = test["ci95"][figure]
        assert low <= test[figure] <= high
    assert test["threshold"] == info.threshold.value


def test_the_card_of_the_model_of_real_films_has_probes_and_the_comparison():
    folder = REPOSITORY / "models" / "pneumonia_v1"
    info = bundle.read(folder)
    card = (folder / bundle.CARD_FILE).read_text(encoding="utf-8")
    assert info.probes is not None
    found = {each["name"]: each for each in info.probes["findings"]}
    for probe in ("lungs_out", "border_out", "baseline"):
        assert found[probe]["words"] in card
    assert info.selection is not None
    assert len(info.selection.variants) >= 4
    assert info.selection.chosen in {each.name for each in info.selection.variants}
    for variant in info.selection.variants:
        assert variant.words in card


def test_the_phantom_model_tells_fresh_phantoms_apart(tmp_path: Path):
    phantom.write(tmp_path, images=30, seed=77)
    films = catalog.scan(tmp_path)
    predictor = Predictor(REPOSITORY / "models" / "phantom_v1")
    info = predictor.info
    right = 0
    for path, label in zip(films.frame["path"], films.frame["label"], strict=True):
        square = images.read_square(
            (tmp_path / path).read_bytes(), path, size=info.image.size, fit=info.image.fit
        )
        logits = predictor.logits(square[None])[0]
        right += info.classes[int(logits.argmax())] == label
    assert right >= 27


@pytest.mark.real_data
def test_the_model_of_real_films_judges_them_at_their_full_size(real_data: Path):
    folder = real_data / "native"
    command = f"-m cxr_core evaluate models/pneumonia_v1 {folder} --split all --json"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["n"] == 80
    # Most of these are among its training films: it must know them at another scale.
    assert found["accuracy"] >= 0.9
