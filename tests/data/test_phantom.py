"""The phantoms: repeatable, masked, divided by patient, and with no shortcut to their class."""

import csv
import hashlib
import os
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cxr_core.data import phantom
from cxr_core.errors import DatasetError

LESIONS = ("PNEUMONIA", "TUBERCULOSIS")
SEEDS = range(12)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "set"
    phantom.write(folder, images=300, seed=0)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def gray(path: Path) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# One film


@pytest.mark.parametrize("label", phantom.CLASSES)
def test_film_is_gray_of_the_size_asked_for(label: str) -> None:
    film = phantom.draw(label, np.random.default_rng(0), size=(300, 270))
    assert film.pixels.shape == film.mask.shape == film.lungs.shape == (300, 270)
    assert film.pixels.dtype == np.uint8
    assert film.mask.dtype == film.lungs.dtype == bool
    assert film.label == label
    assert np.ptp(film.pixels) > 120


def test_lungs_are_darker_than_the_heart_between_them() -> None:
    for seed in SEEDS:
        film = phantom.draw("NORMAL", np.random.default_rng(seed), size=(300, 300))
        middle = film.pixels[150:200, 145:160]
        assert film.pixels[film.lungs].mean() + 30 < middle.mean()


def test_heart_reaches_further_to_the_images_right() -> None:
    for seed in SEEDS:
        film = phantom.draw("NORMAL", np.random.default_rng(seed), size=(300, 300))
        lower = film.lungs[150:210]
        assert lower[:, :150].sum() > lower[:, 150:].sum()


def test_same_seed_draws_the_same_film_and_another_seed_another() -> None:
    first, again, other = (
        phantom.draw("PNEUMONIA", np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.pixels, other.pixels)


def test_films_of_a_patient_differ() -> None:
    rng = np.random.default_rng(0)
    patient = phantom.sample_patient("TUBERCULOSIS", rng)
    first, second = (phantom.expose(patient, r, size=(300, 300)) for r in rng.spawn(2))
    assert first.mask.any() and second.mask.any()
    assert np.abs(first.pixels.astype(float) - second.pixels).mean() > 2


def test_sizes_vary_within_their_bounds() -> None:
    shapes = [
        phantom.draw("NORMAL", np.random.default_rng(seed)).pixels.shape for seed in range(20)
    ]
    assert len(set(shapes)) > 15
    assert min(map(min, shapes)) >= phantom.SIZES[0]
    assert max(map(max, shapes)) <= phantom.SIZES[1]
    assert {height > width for height, width in shapes} == {True, False}


def test_unknown_class_is_refused_by_name() -> None:
    with pytest.raises(DatasetError, match=r"COVID.*NORMAL, PNEUMONIA, TUBERCULOSIS"):
        phantom.draw("COVID", np.random.default_rng(0))


# Lesions


def test_normal_film_has_an_empty_mask() -> None:
    for seed in SEEDS:
        assert not phantom.draw("NORMAL", np.random.default_rng(seed)).mask.any()


@pytest.mark.parametrize("label", LESIONS)
def test_mask_lies_in_the_lungs(label: str) -> None:
    for seed in SEEDS:
        film = phantom.draw(label, np.random.default_rng(seed))
        assert 0.01 < film.mask.sum() / film.lungs.sum() < 0.7
        assert not (film.mask & ~film.lungs).any()


@pytest.mark.parametrize("label", LESIONS)
def test_lesion_whitens_the_lung_inside_its_mask_and_little_else(label: str) -> None:
    for seed in SEEDS:
        film = phantom.draw(label, np.random.default_rng(seed))
        healthy = phantom.draw("NORMAL", np.random.default_rng(seed))
        change = film.pixels.astype(float) - healthy.pixels
        assert change[film.mask].mean() > 15
        assert np.abs(change[~film.lungs]).mean() < 8


def test_tuberculosis_is_in_the_upper_zones() -> None:
    for seed in SEEDS:
        film = phantom.draw("TUBERCULOSIS", np.random.default_rng(seed))
        rows_of_lung = np.flatnonzero(film.lungs.any(axis=1))
        middle = (rows_of_lung[0] + rows_of_lung[-1]) / 2
        assert (np.nonzero(film.mask)[0] < middle).mean() > 0.8


def test_pneumonia_is_mostly_below_the_upper_zones() -> None:
    depths = []
    for seed in range(20):
        film = phantom.draw("PNEUMONIA", np.random.default_rng(seed))
        rows_of_lung = np.flatnonzero(film.lungs.any(axis=1))
        height = np.nonzero(film.mask)[0].mean() - rows_of_lung[0]
        depths.append(height / np.ptp(rows_of_lung))
    assert np.mean(np.array(depths) > 0.4) > 0.6


# The data set


def test_table_names_every_film_and_every_mask(phantoms: Path) -> None:
    table = rows(phantoms)
    assert tuple(table[0]) == phantom.COLUMNS
    assert len(table) == 60
    assert {row["synthetic"] for row in table} == {"true"}
    assert {row["path"] for row in table} == {
        f"images/{path.name}" for path in (phantoms / "images").iterdir()
    }
    assert {row["mask"] for row in table} - {""} == {
        f"masks/{path.name}" for path in (phantoms / "masks").iterdir()
    }
    for row in table:
        assert (row["label"] == "NORMAL") == (row["mask"] == "")
        if row["mask"]:
            mask = gray(phantoms / row["mask"])
            assert mask.shape == gray(phantoms / row["path"]).shape
            assert set(np.unique(mask)) == {0, 255}


def test_readme_says_synthetic(phantoms: Path) -> None:
    text = (phantoms / "README.txt").read_text(encoding="utf-8")
    assert text.startswith("Synthetic")
    assert phantom.LICENCE in text


def test_classes_and_parts_have_their_shares(many: Path) -> None:
    assert Counter((row["label"], row["split"]) for row in rows(many)) == {
        (label, part): films
        for label in phantom.CLASSES
        for part, films in (("train", 70), ("val", 15), ("test", 15))
    }


def test_patient_has_one_class_and_one_part(many: Path) -> None:
    patients = defaultdict(list)
    for row in rows(many):
        patients[row["patient_id"]].append((row["label"], row["split"]))
    assert all(len(set(films)) == 1 for films in patients.values())
    assert 20 < sum(len(films) > 1 for films in patients.values()) < len(patients) / 2


def test_patient_numbers_tell_nothing_of_the_class(many: Path) -> None:
    table = rows(many)
    number = [int(row["patient_id"][1:]) for row in table]
    for label in phantom.CLASSES:
        auroc = roc_auc_score([row["label"] == label for row in table], number)
        assert 0.4 < auroc < 0.6


def test_no_two_films_are_identical(many: Path) -> None:
    hashes = [hashlib.md5(path.read_bytes()).hexdigest() for path in (many / "images").iterdir()]
    assert len(set(hashes)) == len(hashes) == 300


def test_no_shortcut_separates_the_classes(many: Path) -> None:
    table = rows(many)
    labels = np.array([row["label"] for row in table])
    features = defaultdict(list)
    for row in table:
        film = gray(many / row["path"]).astype(float)
        border = np.concatenate([film[0], film[-1], film[:, 0], film[:, -1]])
        height, width = film.shape
        for name, value in {
            "mean": film.mean(),
            "standard deviation": film.std(),
            "border mean": border.mean(),
            "border standard deviation": border.std(),
            "width": width,
            "height": height,
            "aspect": width / height,
            "area": width * height,
            "bytes": (many / row["path"]).stat().st_size,
        }.items():
            features[name].append(value)

    contests = [(labels == label, np.full(len(labels), True)) for label in phantom.CLASSES]
    contests += [
        (labels == one, np.isin(labels, (one, other)))
        for one, other in combinations(phantom.CLASSES, 2)
    ]
    worst = {
        name: max(
            max(auroc, 1 - auroc)
            for truth, among in contests
            for auroc in [roc_auc_score(truth[among], np.array(values)[among])]
        )
        for name, values in features.items()
    }
    assert all(auroc <= 0.65 for auroc in worst.values()), worst


def test_files_are_the_same_for_a_seed_however_many_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, processors, seed in (("one", 1, 7), ("many", 8, 7), ("other", 8, 8)):
        monkeypatch.setattr(os, "cpu_count", lambda processors=processors: processors)
        phantom.write(tmp_path / name, images=12, seed=seed)
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    assert contents(tmp_path / "one") != contents(tmp_path / "other")


def test_progress_rises_to_the_number_of_films(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    phantom.write(tmp_path, images=12, progress=lambda done, total: calls.append((done, total)))
    done = [call[0] for call in calls]
    assert done == sorted(set(done))
    assert calls[-1] == (12, 12)
    assert {total for _, total in calls} == {12}


def test_smallest_set_has_every_class_in_every_part(tmp_path: Path) -> None:
    phantom.write(tmp_path, images=phantom.LEAST_IMAGES)
    assert len({(row["label"], row["split"]) for row in rows(tmp_path)}) == 9


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="at least 9"):
        phantom.write(tmp_path / "few", images=8)
    assert not (tmp_path / "few").exists()
