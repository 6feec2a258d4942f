"""Faults planted in a set are found, each by its check; a clean set has no findings."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_core.config import DataConfig
from cxr_core.data import catalog as catalogs
from cxr_core.data import phantom, splits
from cxr_core.data.audit import SEVERITIES, Audit, Finding, audit
from cxr_core.data.audit.findings import check
from cxr_core.data.catalog import scan
from cxr_core.errors import DatasetError

KEYS = {
    "images",
    "unreadable",
    "counts",
    "duplicates",
    "near_duplicates",
    "patients",
    "shortcuts",
}


class Planted:
    """A copy of the phantoms to spoil."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with (root / "metadata.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))

    def pixels(self, row: dict[str, str]) -> np.ndarray:
        return cv2.imread(str(self.root / row["path"]), cv2.IMREAD_GRAYSCALE)

    def put(self, row: dict[str, str], pixels: np.ndarray) -> str:
        """Replace a film."""
        assert cv2.imwrite(str(self.root / row["path"]), pixels)
        return row["path"]

    def add(self, pixels: np.ndarray, name: str = "planted.png", **values: str) -> str:
        """Add a film of a new patient, in the part and class of the first unless told."""
        path = f"images/{name}"
        self.rows.append({**self.rows[0], "patient_id": name, **values, "path": path})
        return self.put(self.rows[-1], pixels)

    def change(self, label: str, how: Callable[[np.ndarray], np.ndarray]) -> None:
        """Change all films of a class."""
        for row in self.rows:
            if row["label"] == label:
                self.put(row, how(self.pixels(row)))

    def audit(self, **options: object) -> Audit:
        with (self.root / "metadata.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, self.rows[0].keys())
            table.writeheader()
            table.writerows(self.rows)
        return audit(scan(self.root), **options)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited") / "set"
    phantom.write(folder, images=120, seed=3)
    return folder


@pytest.fixture
def planted(clean: Path, tmp_path: Path) -> Planted:
    return Planted(Path(shutil.copytree(clean, tmp_path / "set")))


def found(result: Audit, kind: str) -> Finding:
    """Return the one finding of its kind."""
    (finding,) = (finding for finding in result.findings if finding.kind == kind)
    return finding


def shortcuts(result: Audit) -> dict[str, Finding]:
    return {f.details["feature"]: f for f in result.findings if f.kind == "shortcut"}


# ---- the whole ----


def test_a_clean_set_has_no_findings(planted: Planted) -> None:
    assert planted.audit().findings == ()


def test_the_summary_has_the_promised_keys_and_the_true_figures(planted: Planted) -> None:
    summary = json.loads(json.dumps(planted.audit().summary))
    table = pd.DataFrame(planted.rows)
    assert set(summary) == KEYS
    assert summary["images"] == 120
    assert summary["unreadable"] == []
    assert summary["counts"] == {
        part: labels.value_counts().to_dict() for part, labels in table.groupby("split")["label"]
    }
    assert summary["duplicates"] == {"groups": 0, "cross_label": 0, "cross_split": 0}
    assert summary["near_duplicates"] == 0
    assert summary["patients"] == {
        "known": table["patient_id"].nunique(),
        "in_several_splits": 0,
    }
    assert set(summary["shortcuts"]) == {
        "width",
        "height",
        "aspect_ratio",
        "colour_mode",
        "file_size",
        "mean",
        "std",
        "border",
    }


def test_findings_come_most_severe_first_and_as_json(planted: Planted) -> None:
    film = planted.pixels(planted.rows[0])
    planted.add(film, "twin.png", label="OTHER")
    planted.add(255 - planted.pixels(planted.rows[5]), "inverted.png")
    (planted.root / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    planted.rows.append({**planted.rows[0], "path": "images/broken.png", "patient_id": "x"})
    findings = planted.audit().findings
    ranks = [SEVERITIES.index(finding.severity) for finding in findings]
    assert len(findings) >= 3
    assert ranks == sorted(ranks)
    for finding in findings:
        assert json.loads(json.dumps(finding.as_json()))["kind"] == finding.kind
        assert finding.sentence.endswith(".")
        assert finding.advice.endswith(".")


def test_progress_is_told_from_nothing_to_all(planted: Planted) -> None:
    told: list[tuple[str, int, int]] = []
    planted.audit(progress=lambda *step: told.append(step))
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == told[-1][2]


def test_two_checks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two checks"):

        @check("Looking for shortcuts")
        def again(subject: object) -> Iterator[Finding]:
            yield from ()


def test_an_audit_needs_no_cache_but_refuses_films_that_changed(planted: Planted) -> None:
    opened = scan(planted.root)
    cache = catalogs._cache_file(opened.root)
    cache.unlink()
    assert audit(opened).findings == ()
    planted.put(planted.rows[0], np.zeros((64, 64), np.uint8))
    cache.unlink()
    with pytest.raises(DatasetError, match="changed since"):
        audit(opened)


# ---- twins ----


def test_equal_pixels_are_exact_twins_however_they_are_stored(planted: Planted) -> None:
    film = planted.pixels(planted.rows[0])
    path = planted.add(film, "copy.bmp")
    result = planted.audit()
    finding = found(result, "exact_twins")
    assert set(finding.paths) == {planted.rows[0]["path"], path}
    assert finding.count == 1
    assert result.summary["duplicates"]["groups"] == 1
    assert result.summary["near_duplicates"] == 0


@pytest.mark.parametrize(
    ("view", "how"),
    [
        ("", lambda film: cv2.add(film, 12)),
        ("", lambda film: cv2.resize(film, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)),
        ("", lambda film: cv2.imdecode(cv2.imencode(".jpg", film, [1, 60])[1], 0)),
        ("mirrored", np.fliplr),
        ("upside down", np.flipud),
        ("rotated by 90°", np.rot90),
        ("rotated by 180°", lambda film: np.rot90(film, 2)),
        ("rotated by 90°", lambda film: np.rot90(film, 3)),
        ("inverted", lambda film: 255 - film),
    ],
    ids=["brighter", "smaller", "jpeg", "mirrored", "flipped", "left", "around", "right", "invert"],
)
def test_versions_of_one_film_are_near_twins(
    planted: Planted, view: str, how: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = planted.add(how(planted.pixels(planted.rows[7])))
    result = planted.audit()
    finding = found(result, "near_twins")
    assert set(finding.paths) == {planted.rows[7]["path"], path}
    assert [pair["view"] for pair in finding.details["pairs"]] == [view]
    assert result.summary["near_duplicates"] == 1
    assert result.summary["duplicates"]["groups"] == 0


def test_blank_films_are_no_twins_of_each_other(planted: Planted) -> None:
    for number in (10, 20):
        planted.add(np.full((100 + number, 100), number, np.uint8), f"{number}.png")
    assert planted.audit().summary["near_duplicates"] == 0


def test_twins_under_two_labels_are_severe(planted: Planted) -> None:
    row = next(row for row in planted.rows if row["label"] == "PNEUMONIA")
    planted.add(planted.pixels(row), "exact.png", label="TUBERCULOSIS", split=row["split"])
    other = next(row for row in planted.rows if row["label"] == "NORMAL")
    near = cv2.add(planted.pixels(other), 9)
    planted.add(near, "near.png", label="PNEUMONIA", split=other["split"])
    result = planted.audit()
    finding = found(result, "twins_across_labels")
    assert finding.severity == "high"
    assert finding.count == 2
    assert finding.details["labels"] == {
        "PNEUMONIA / TUBERCULOSIS": 1,
        "NORMAL / PNEUMONIA": 1,
    }
    assert result.summary["duplicates"]["cross_label"] == 1


def test_twins_in_two_parts_are_severe(planted: Planted) -> None:
    row = next(row for row in planted.rows if row["split"] == "train")
    path = planted.add(planted.pixels(row), label=row["label"], split="test")
    result = planted.audit()
    finding = found(result, "twins_across_splits")
    assert finding.severity == "high"
    assert set(finding.paths) == {row["path"], path}
    assert result.summary["duplicates"]["cross_split"] == 1


def test_a_cut_is_looked_at_in_place_of_the_published_parts(planted: Planted) -> None:
    row = next(row for row in planted.rows if row["split"] == "train")
    planted.add(planted.pixels(row), label=row["label"], split="test")
    assert found(planted.audit(), "twins_across_splits")
    opened = scan(planted.root)
    anew = splits.cut(opened, DataConfig(split="recut"), seed=0)
    mended = audit(opened, split=anew)
    assert "twins_across_splits" not in [finding.kind for finding in mended.findings]
    parts = anew.table["split"].value_counts().to_dict()
    assert {part: sum(n.values()) for part, n in mended.summary["counts"].items()} == parts


# ---- patients ----


def test_patients_in_several_parts_are_counted_in_a_matrix(planted: Planted) -> None:
    train, test = (
        next(row for row in planted.rows if row["split"] == part) for part in ("train", "test")
    )
    for row in planted.rows:
        if row["patient_id"] == train["patient_id"]:
            row["patient_id"] = test["patient_id"]
    result = planted.audit()
    finding = found(result, "patients_across_splits")
    assert finding.severity == "high"
    assert finding.count == 1
    assert finding.details["patients"] == [test["patient_id"]]
    assert finding.details["matrix"]["train"]["test"] == 1
    assert finding.details["matrix"]["test"]["train"] == 1
    assert finding.details["matrix"]["train"]["val"] == 0
    assert result.summary["patients"]["in_several_splits"] == 1


def test_unknown_patients_are_told(planted: Planted) -> None:
    for row in planted.rows:
        row["patient_id"] = ""
    finding = found(planted.audit(), "patients_unknown")
    assert finding.count == len(planted.rows)
    assert finding.severity == "medium"


# ---- single films ----


def test_unreadable_files_are_listed_with_the_reason(planted: Planted) -> None:
    (planted.root / planted.rows[4]["path"]).write_bytes(b"no film at all")
    result = planted.audit()
    finding = found(result, "unreadable")
    assert finding.paths == (planted.rows[4]["path"],)
    assert finding.details["errors"][planted.rows[4]["path"]]
    assert result.summary["unreadable"] == [planted.rows[4]["path"]]
    assert sum(sum(part.values()) for part in result.summary["counts"].values()) == 119


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("odd_size", lambda film: cv2.resize(film, None, fx=6, fy=6)),
        ("odd_size", lambda film: cv2.resize(film, None, fx=0.15, fy=0.15)),
        ("odd_size", lambda film: cv2.resize(film, None, fx=4, fy=0.8)),
        ("odd_exposure", lambda film: film // 6),
        ("odd_exposure", lambda film: 225 + film // 12),
        ("blank", lambda film: np.full_like(film, 90)),
        ("inverted", lambda film: 255 - film),
        ("rotated", np.rot90),
        ("rotated", lambda film: np.rot90(film, 2)),
        ("mirrored", np.fliplr),
        ("cropped", lambda film: film[len(film) // 2 :, len(film) // 5 : -len(film) // 5]),
        ("cropped", lambda film: film[:, : len(film) // 2]),
        ("framed", lambda film: cv2.copyMakeBorder(film, 60, 60, 60, 60, cv2.BORDER_CONSTANT)),
    ],
)
def test_a_film_unlike_the_rest_is_found(
    planted: Planted, kind: str, how: Callable[[np.ndarray], np.ndarray]
) -> None:
    row = planted.rows[11]
    path = planted.put(row, np.ascontiguousarray(how(planted.pixels(row))))
    finding = found(planted.audit(), kind)
    assert finding.paths == (path,)
    assert finding.count == 1


# ---- shortcuts ----


def a_letter(film: np.ndarray) -> np.ndarray:
    height, width = film.shape
    film[int(0.01 * height) : int(0.09 * height), int(0.01 * width) : int(0.09 * width)] = 250
    return film


@pytest.mark.parametrize(
    ("feature", "how"),
    [
        ("width", lambda film: cv2.resize(film, None, fx=1.3, fy=1)),
        ("height", lambda film: cv2.resize(film, None, fx=1, fy=1.3)),
        ("aspect_ratio", lambda film: cv2.resize(film, None, fx=1, fy=1.3)),
        ("colour_mode", lambda film: cv2.cvtColor(film, cv2.COLOR_GRAY2BGR)),
        ("file_size", lambda film: cv2.GaussianBlur(film, (0, 0), 6)),
        ("mean", lambda film: cv2.add(film, 40)),
        ("std", lambda film: (film * 0.5 + 60).astype(np.uint8)),
        ("border", a_letter),
    ],
)
def test_what_gives_a_class_away_is_found(
    planted: Planted, feature: str, how: Callable[[np.ndarray], np.ndarray]
) -> None:
    planted.change("TUBERCULOSIS", how)
    result = planted.audit()
    finding = shortcuts(result)[feature]
    assert finding.details["label"] == "TUBERCULOSIS"
    assert finding.details["auroc"] > 0.85
    assert result.summary["shortcuts"][feature] == finding.details["auroc"]
    assert "TUBERCULOSIS" in finding.sentence


def test_a_class_of_both_ends_is_a_shortcut_too(planted: Planted) -> None:
    sizes = iter([0.7, 1.4] * 60)
    planted.change("NORMAL", lambda film: cv2.resize(film, None, fx=next(sizes), fy=1))
    assert shortcuts(planted.audit())["width"].details["auroc"] > 0.85


def test_one_patient_s_size_is_no_shortcut(planted: Planted) -> None:
    """A size that only the films of one person have cannot help with another person's."""
    mine = [row for row in planted.rows if row["label"] == "NORMAL"][:30]
    for row in mine:
        row["patient_id"] = "one"
        row["split"] = "train"
        planted.put(row, cv2.resize(planted.pixels(row), (500, 512)))
    assert "width" not in shortcuts(planted.audit())


def test_a_set_of_one_class_has_no_shortcuts(planted: Planted) -> None:
    for row in planted.rows:
        row["label"] = "NORMAL"
    result = planted.audit()
    assert result.summary["shortcuts"] == {}
    assert not shortcuts(result)


# ---- real films ----


@pytest.mark.real_data
def test_kermany_has_24_groups_of_twins_and_no_leak(real_data: Path) -> None:
    summary = audit(scan(real_data / "kermany")).summary
    assert summary["images"] == 5232
    assert summary["duplicates"] == {"groups": 24, "cross_label": 0, "cross_split": 0}
    assert summary["patients"] == {"known": 3669, "in_several_splits": 0}
    assert summary["counts"]["train"] == {"NORMAL": 1341, "PNEUMONIA": 3875}


@pytest.mark.real_data
def test_native_sizes_give_the_class_away(real_data: Path) -> None:
    result = audit(scan(real_data / "native"))
    assert result.summary["shortcuts"]["width"] > 0.8
    assert shortcuts(result)["width"].severity == "high"


@pytest.mark.real_data
def test_three_class_has_twins_under_different_labels(real_data: Path) -> None:
    finding = found(audit(scan(real_data / "three_class")), "twins_across_labels")
    assert finding.severity == "high"
    assert finding.details["labels"]["NORMAL / PNEUMONIA"] >= 10
