"""A folder of films becomes a table, whatever its layout, and only what changed is read again."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxr_core import images, workspace
from cxr_core.data import catalog
from cxr_core.data.catalog import scan
from cxr_core.errors import DatasetError, UnreadableImageError


def film(path: Path, seed: int = 0, size: tuple[int, int] = (48, 40)) -> Path:
    """Write a smooth random gray picture of (height, width) ``size``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    pixels = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    assert cv2.imwrite(str(path), pixels)
    return path


def table(root: Path, text: str, encoding: str = "utf-8") -> None:
    (root / "metadata.csv").write_bytes(text.encode(encoding))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the films that were decoded, as they are."""
    names: list[str] = []
    read = images.read

    def noting(source: Path | bytes, name: str = "") -> images.Radiograph:
        names.append(name)
        return read(source, name)

    monkeypatch.setattr(images, "read", noting)
    return names


def labels(found: catalog.Catalog) -> dict[str, str]:
    return dict(zip(found.frame["path"], found.frame["label"], strict=True))


# ---- layouts ----


@pytest.mark.parametrize(
    "parts", [("train", "val", "test"), ("TRAIN", "Valid", "Test"), ("Train", "VALIDATION", "TEST")]
)
def test_published_parts_are_found_in_any_letter_case(root: Path, parts: tuple[str, ...]) -> None:
    for seed, part in enumerate(parts):
        film(root / part / "Normal" / f"{seed}.png", seed)
        film(root / part / "pneumonia" / f"{seed}.png", seed + 10)
    found = scan(root)
    assert found.classes == ("NORMAL", "PNEUMONIA")
    assert found.frame["split"].value_counts().to_dict() == {"train": 2, "val": 2, "test": 2}
    assert found.layout == "train, val and test folders, a folder a class"


def test_plain_class_folders_have_no_split_and_may_hold_folders(root: Path) -> None:
    film(root / "No finding" / "patient 1" / "a.png")
    film(root / "Tuberculosis" / "b.jpg", 1)
    found = scan(root)
    assert labels(found) == {
        "No finding/patient 1/a.png": "NO_FINDING",
        "Tuberculosis/b.jpg": "TUBERCULOSIS",
    }
    assert set(found.frame["split"]) == {""}
    assert found.layout == "a folder a class"


def test_a_test_folder_beside_class_folders_is_a_part_not_a_class(root: Path) -> None:
    film(root / "NORMAL" / "a.png")
    film(root / "PNEUMONIA" / "b.png", 1)
    film(root / "test" / "NORMAL" / "c.png", 2)
    found = scan(root)
    assert found.classes == ("NORMAL", "PNEUMONIA")
    assert found.frame.set_index("path")["split"]["test/NORMAL/c.png"] == "test"


def test_stray_copies_beside_train_are_left_out_and_the_layout_says_so(root: Path) -> None:
    film(root / "train" / "NORMAL" / "a.png")
    film(root / "train" / "PNEUMONIA" / "b.png", 1)
    film(root / "chest_xray" / "train" / "NORMAL" / "a.png")
    found = scan(root)
    assert list(found.frame["path"]) == ["train/NORMAL/a.png", "train/PNEUMONIA/b.png"]
    assert found.layout.endswith("; films beside them, left out: 1")


def test_a_set_wrapped_in_one_folder_is_found_inside_it(root: Path) -> None:
    film(root / "chest_xray" / "train" / "NORMAL" / "a.png")
    film(root / "__MACOSX" / "chest_xray" / "train" / "NORMAL" / "a.png")
    found = scan(root)
    assert found.root == (root / "chest_xray").resolve()
    assert list(found.frame["path"]) == ["train/NORMAL/a.png"]


def test_a_single_class_can_be_scanned(root: Path) -> None:
    film(root / "NORMAL" / "a.png")
    assert scan(root).classes == ("NORMAL",)


def test_films_outside_any_class_have_no_label(root: Path) -> None:
    film(root / "a.png")
    found = scan(root)
    assert labels(found) == {"a.png": ""}
    assert found.classes == ()


def test_a_table_gives_label_split_patient_and_keeps_what_else_it_says(root: Path) -> None:
    film(root / "x" / "a.png")
    film(root / "x" / "b.png", 1)
    film(root / "x" / "not named.png", 2)
    table(
        root,
        "Path,Label,Split,Patient_ID,age,width,synthetic\n"
        'x/a.png,Normal,train,p1,"4,5",wide,false\n\n'
        "x\\b.png,lung opacity,Validation,p2,NA,,true\n",
        encoding="utf-8-sig",
    )
    found = scan(root)
    row = found.frame.set_index("path").loc["x/b.png"]
    assert labels(found) == {"x/a.png": "NORMAL", "x/b.png": "LUNG_OPACITY"}
    assert (row["split"], row["patient_id"], row["age"]) == ("val", "p2", "NA")
    assert found.frame["age"].iloc[0] == "4,5"
    assert row["width"] == 40
    assert list(found.frame["metadata_width"]) == ["wide", ""]
    assert list(found.frame.columns[: len(catalog.COLUMNS)]) == catalog.COLUMNS
    assert found.synthetic
    assert found.patient_rule == "the patient_id column of metadata.csv"


def test_the_phantom_set_is_read_whole_and_known_as_synthetic(phantoms: Path) -> None:
    found = scan(phantoms)
    assert len(found.frame) == 60
    assert found.frame["readable"].all()
    assert found.synthetic
    assert found.classes == ("NORMAL", "PNEUMONIA", "TUBERCULOSIS")
    assert "mask" in found.frame


# ---- what is refused ----


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"There is no folder .*nowhere"):
        scan(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is a file"):
        scan(film(tmp_path / "a.png"))


def test_a_folder_without_films_says_what_a_set_looks_like(root: Path) -> None:
    (root / "notes.txt").write_text("no film")
    with pytest.raises(DatasetError, match=r"no films in .*metadata.csv"):
        scan(root)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no films"),
        ("path,label\n", "names no films"),
        ("file;class\na.png;NORMAL\n", "no column path and label; it has file;class"),
        ("path,split\na.png,train\n", "no column label"),
        ("path,label,Path\na.png,NORMAL,b.png\n", "column path more than once"),
        ("path,label\na.png,NORMAL,extra\n", "Line 2 .* has 3 fields, its header 2"),
        ('path,label\na.png,"NORMAL\n', "cannot be read as a table"),
        ("path,label\n,NORMAL\n", "Line 2 .* has no path"),
        ("path,label\na.png,NORMAL\na.png,PNEUMONIA\n", "twice, in lines 2 and 3"),
        ("path,label\na.png,NORMAL\n./a.png,NORMAL\n", "twice"),
        ("path,label,split\na.png,NORMAL,fold1\n", "Line 2 .* the split 'fold1'"),
        ("path,label\ngone.png,NORMAL\n", "None of the 1 files .* is there"),
    ],
)
def test_a_table_that_cannot_be_used_says_where_and_why(root: Path, text: str, reason: str) -> None:
    film(root / "a.png")
    table(root, text)
    with pytest.raises(DatasetError, match=reason):
        scan(root)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_a_table_in_another_encoding_is_refused(root: Path, encoding: str) -> None:
    film(root / "a.png")
    table(root, "path,label\na.png,Lungenentzündung\n", encoding)
    with pytest.raises(DatasetError, match="not written in UTF-8"):
        scan(root)


@pytest.mark.parametrize(
    "path", ["../secret.png", "a/../../secret.png", "..\\secret.png", "/etc/x.png", "C:\\x.png"]
)
def test_a_table_cannot_reach_outside_its_folder(root: Path, path: str) -> None:
    film(root.parent / "secret.png")
    film(root / "a" / "a.png")
    table(root, f"path,label\na/a.png,NORMAL\n{path},NORMAL\n")
    with pytest.raises(DatasetError, match=r"Line 3 .* lies outside"):
        scan(root)


@pytest.mark.parametrize("link", ["a.png", "folder/secret.png"])
def test_a_table_cannot_reach_outside_through_a_link(root: Path, link: str) -> None:
    secret = film(root.parent / "elsewhere" / "secret.png")
    (root / "a.png").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    table(root, f"path,label\n{link},NORMAL\n")
    with pytest.raises(DatasetError, match="lies outside"):
        scan(root)


def test_a_file_name_that_is_no_utf8_is_refused(root: Path) -> None:
    good = film(root / "NORMAL" / "a.png")
    try:
        shutil.copy(good, os.fsencode(good.parent) + b"/\xff.png")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    with pytest.raises(DatasetError, match="not valid UTF-8"):
        scan(root)


# ---- what is passed over ----


def test_hidden_files_and_archive_leftovers_are_passed_over(root: Path) -> None:
    film(root / "NORMAL" / "a.png")
    film(root / "NORMAL" / ".hidden.png")
    film(root / ".cache" / "b.png")
    film(root / "__MACOSX" / "NORMAL" / "c.png")
    (root / "NORMAL" / "Thumbs.db").write_bytes(b"x")
    assert list(scan(root).frame["path"]) == ["NORMAL/a.png"]


def test_links_out_of_the_folder_are_not_followed_and_links_inside_are(root: Path) -> None:
    outside = film(root.parent / "elsewhere" / "x.png", 1)
    inside = film(root / "NORMAL" / "a.png")
    (root / "NORMAL" / "link out.png").symlink_to(outside)
    (root / "NORMAL" / "link in.png").symlink_to(inside)
    (root / "PNEUMONIA").symlink_to(outside.parent)
    assert list(scan(root).frame["path"]) == ["NORMAL/a.png", "NORMAL/link in.png"]


def test_a_set_of_nothing_but_links_out_says_so(root: Path) -> None:
    outside = film(root.parent / "elsewhere" / "x.png", 1)
    (root / "NORMAL").symlink_to(outside.parent)
    with pytest.raises(DatasetError, match="1 links lead out of the folder"):
        scan(root)


def test_a_file_without_suffix_is_a_film_only_if_it_is_dicom(root: Path) -> None:
    film(root / "NORMAL" / "a.png")
    (root / "NORMAL" / "LICENSE").write_text("x" * 200)
    (root / "NORMAL" / "1.2.840.10008").write_bytes(b"\0" * 128 + b"DICM")
    assert list(scan(root).frame["path"]) == ["NORMAL/1.2.840.10008", "NORMAL/a.png"]


# ---- what is measured ----


def test_a_film_is_measured(root: Path) -> None:
    path = film(root / "NORMAL" / "a.png", size=(50, 70))
    row = scan(root).frame.iloc[0]
    pixels = images.read(path).pixels
    assert (row["width"], row["height"]) == (70, 50)
    assert row["bytes"] == path.stat().st_size
    assert row["modified"].value == path.stat().st_mtime_ns
    assert row["mean"] == pytest.approx(pixels.mean())
    assert row["std"] == pytest.approx(pixels.std())
    assert len(row["md5"]) == 32
    assert row["phash"] == catalog.perceptual_hash(pixels)
    assert row["readable"]


def test_an_unreadable_file_is_a_row_with_its_reason(root: Path) -> None:
    film(root / "NORMAL" / "a.png")
    (root / "NORMAL" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n truncated")
    table(root, "path,label\nNORMAL/a.png,NORMAL\nNORMAL/broken.png,NORMAL\ngone.png,NORMAL\n")
    frame = scan(root).frame.set_index("path")
    assert frame["readable"].to_dict() == {
        "NORMAL/a.png": True,
        "NORMAL/broken.png": False,
        "gone.png": False,
    }
    assert "broken.png" in frame["error"]["NORMAL/broken.png"]
    assert "gone.png" in frame["error"]["gone.png"]
    assert frame["error"]["NORMAL/a.png"] == ""
    assert pd.isna(frame["modified"]["gone.png"])


def test_the_perceptual_hash_survives_resizing_and_exposure_but_tells_films_apart() -> None:
    coarse = np.random.default_rng(0).integers(40, 200, (8, 8), dtype=np.uint8)
    pixels = cv2.resize(coarse, (400, 400), interpolation=cv2.INTER_CUBIC)

    def bits_apart(other: np.ndarray) -> int:
        first, second = (int(catalog.perceptual_hash(p), 16) for p in (pixels, other))
        return (first ^ second).bit_count()

    assert bits_apart(cv2.resize(pixels, (200, 200), interpolation=cv2.INTER_AREA)) <= 2
    assert bits_apart((pixels * 0.8 + 20).astype(np.uint8)) <= 2
    assert bits_apart(np.ascontiguousarray(pixels[:, ::-1])) > 16


@pytest.mark.parametrize(
    ("found", "ordered"),
    [
        (["TUBERCULOSIS", "NORMAL", "PNEUMONIA"], ("NORMAL", "PNEUMONIA", "TUBERCULOSIS")),
        (["POSITIVE", "NEGATIVE"], ("NEGATIVE", "POSITIVE")),
        (["COVID", "NO_FINDING", "COVID"], ("NO_FINDING", "COVID")),
        (["B", "A"], ("A", "B")),
    ],
)
def test_the_normal_like_class_comes_first(found: list[str], ordered: tuple[str, ...]) -> None:
    assert catalog.order_classes(found) == ordered


def test_the_fingerprint_follows_content_and_label_only(root: Path, tmp_path: Path) -> None:
    film(root / "NORMAL" / "a.png")
    film(root / "PNEUMONIA" / "b.png", 1)
    before = scan(root).fingerprint
    os.utime(root / "NORMAL" / "a.png", (0, 0))
    shutil.copytree(root, tmp_path / "copy")
    assert scan(root).fingerprint == scan(tmp_path / "copy").fingerprint == before
    film(root / "NORMAL" / "a.png", 7)
    changed = scan(root).fingerprint
    (root / "PNEUMONIA").rename(root / "COVID")
    assert len({before, changed, scan(root).fingerprint}) == 3


# ---- scanning again ----


def test_a_second_scan_opens_no_film_and_gives_the_same(root: Path, opened: list[str]) -> None:
    for seed in range(20):
        film(root / "NORMAL" / f"{seed}.png", seed)
    first = scan(root).frame
    assert len(opened) == 20
    pd.testing.assert_frame_equal(scan(root).frame, first)
    assert len(opened) == 20


@pytest.mark.parametrize(
    ("change", "read_again", "left"),
    [
        (lambda folder: film(folder / "a.png", 9, (60, 60)), ["a.png"], ["a.png", "b.png"]),
        (lambda folder: os.utime(folder / "a.png", (1, 1)), ["a.png"], ["a.png", "b.png"]),
        (lambda folder: film(folder / "c.png", 2), ["c.png"], ["a.png", "b.png", "c.png"]),
        (lambda folder: (folder / "a.png").unlink(), [], ["b.png"]),
    ],
    ids=["changed", "touched", "new", "vanished"],
)
def test_only_what_changed_is_opened_again(
    root: Path,
    opened: list[str],
    change: Callable[[Path], object],
    read_again: list[str],
    left: list[str],
) -> None:
    film(root / "NORMAL" / "a.png")
    film(root / "NORMAL" / "b.png", 1)
    scan(root)
    opened.clear()
    change(root / "NORMAL")
    frame = scan(root).frame
    assert opened == read_again
    assert list(frame["path"]) == [f"NORMAL/{name}" for name in left]
    opened.clear()
    scan(root)
    assert opened == []


def test_a_new_label_is_seen_without_opening_the_film(root: Path, opened: list[str]) -> None:
    film(root / "a.png")
    table(root, "path,label\na.png,NORMAL\n")
    scan(root)
    table(root, "path,label\na.png,PNEUMONIA\n")
    assert scan(root).classes == ("PNEUMONIA",)
    assert opened == ["a.png"]


def test_a_file_that_becomes_readable_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(root / "NORMAL" / "a.png")

    def fails(source: Path | bytes, name: str = "") -> images.Radiograph:
        raise UnreadableImageError("a.png needs a decoder that is not installed.")

    with monkeypatch.context() as patch:
        patch.setattr(images, "read", fails)
        assert not scan(root).frame["readable"].any()
    assert scan(root).frame["readable"].all()


def test_an_interrupted_scan_goes_on_where_it_stopped(root: Path, opened: list[str]) -> None:
    for seed in range(200):
        film(root / "NORMAL" / f"{seed}.png", seed, (34, 34))

    def stop(done: int, total: int) -> None:
        if done >= 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(root, progress=stop)
    opened.clear()
    assert scan(root).frame["readable"].all()
    assert len(opened) <= 150


def test_a_damaged_cache_is_made_anew(root: Path) -> None:
    film(root / "NORMAL" / "a.png")
    first = scan(root)
    (cache,) = workspace.catalog_folder().iterdir()
    cache.write_bytes(b"PAR1 damaged")
    pd.testing.assert_frame_equal(scan(root).frame, first.frame)


def test_two_folders_do_not_share_a_cache(root: Path, opened: list[str]) -> None:
    film(root / "NORMAL" / "a.png")
    scan(root)
    shutil.copytree(root, root.parent / "other")
    scan(root.parent / "other")
    assert len(opened) == 2
    assert len(list(workspace.catalog_folder().iterdir())) == 2


def test_progress_rises_to_the_number_of_films(root: Path) -> None:
    for seed in range(20):
        film(root / "NORMAL" / f"{seed}.png", seed)
    seen: list[tuple[int, int]] = []
    scan(root, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[0][0] < 20
    assert seen[-1] == (20, 20)


def test_scanning_changes_nothing_in_the_users_folder(root: Path) -> None:
    film(root / "NORMAL" / "a.png")
    table(root, "path,label\nNORMAL/a.png,NORMAL\n")

    def state() -> dict[Path, tuple[int, int, bytes]]:
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes())
            for path in root.rglob("*")
            if path.is_file()
        }

    before = state()
    scan(root)
    assert state() == before


@pytest.mark.real_data
def test_kermany_is_scanned_whole(real_data: Path) -> None:
    found = scan(real_data / "kermany")
    frame = found.frame
    assert len(frame) == 5232
    assert frame["readable"].all()
    assert found.classes == ("NORMAL", "PNEUMONIA")
    assert frame["patient_id"].nunique() == 3669
    assert (frame.groupby("md5").size() > 1).sum() == 24
