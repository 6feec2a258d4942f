"""Films are divided by patient and twin, near the target, and the same way each time."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_core import workspace
from cxr_core.config import DataConfig
from cxr_core.data import catalog as catalogs
from cxr_core.data import likeness, splits, twins
from cxr_core.data.allotment import allot
from cxr_core.data.catalog import Catalog, Looks, scan
from cxr_core.errors import DatasetError

RECUT = DataConfig(split="recut")
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


VERSIONS = list(likeness.VIEWS)  # the first is the film as it is


def catalog(rows: Sequence[dict[str, object]]) -> Catalog:
    """A catalog of films that were never on a disk; what a row leaves out is plausible.

    ``picture`` names what a film shows, ``version`` how (one of VERSIONS).
    """
    frame = pd.DataFrame(
        [
            {
                "path": f"{number:05d}.png",
                "label": "NORMAL",
                "split": "",
                "patient_id": "",
                "md5": f"md5-{number}",
                "readable": True,
                "picture": f"picture-{number}",
                "version": "",
            }
            | row
            for number, row in enumerate(rows)
        ]
    )
    return Catalog(NOWHERE, "films", "a folder a class", "", False, frame)


NOWHERE = Path("/films")


@pytest.fixture(autouse=True)
def _drawn_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw what the films of :func:`catalog` look like: noise, a different one each picture."""
    scanned = catalogs.looks

    def looks(films: Catalog) -> Looks:
        if films.root != NOWHERE:
            return scanned(films)
        shown = films.frame[films.frame["readable"]]
        drawn = [draw(p, v) for p, v in zip(shown["picture"], shown["version"], strict=True)]
        pixels = (shown["picture"] + shown["version"]).to_numpy(dtype=str)
        return Looks(pixels, np.stack(drawn) if drawn else np.empty((0, 32, 32), np.uint8))

    monkeypatch.setattr(catalogs, "looks", looks)


@functools.cache
def draw(picture: str, version: str) -> np.ndarray:
    """A film of 32 x 32 px in one of VERSIONS, at an exposure of its own."""
    noise = np.random.default_rng(list(picture.encode())).integers(30, 200, (1, 32, 32))
    turned = likeness.VIEWS[version](noise.astype(np.int64))[0]
    return (turned + (255 if version == "inverted" else VERSIONS.index(version))).astype(np.uint8)


def plain(normal: int, pneumonia: int, **values: object) -> list[dict[str, object]]:
    """Films of unknown patients, with the same further values each."""
    labels = ["NORMAL"] * normal + ["PNEUMONIA"] * pneumonia
    return [{"label": label, **values} for label in labels]


def sides(table: pd.DataFrame) -> dict[str, int]:
    return table["split"].value_counts().to_dict()


def together(found: splits.Split, *paths: str) -> bool:
    return len({found.table.set_index("path")["split"][path] for path in paths}) == 1


# ---- properties ----


@st.composite
def tables(draw: st.DrawFn, mixed: bool = False) -> Catalog:
    """Any set of two to four classes with three patients each or more, twins, unknown patients."""
    classes = ["NORMAL", "A", "B", "C"][: draw(st.integers(2, 4))]
    sizes = st.integers(1, draw(st.sampled_from([1, 3, 12])))
    films = [
        (label, f"{label}-{patient}")
        for label in classes
        for patient, size in enumerate(draw(st.lists(sizes, min_size=3, max_size=15)))
        for _ in range(size)
    ]
    if mixed:
        labels = st.lists(st.sampled_from(classes), min_size=len(films), max_size=len(films))
        films = [(own, patient) for own, (_, patient) in zip(draw(labels), films, strict=True)]
    rows: list[dict[str, object]] = [{"label": own, "patient_id": who} for own, who in films]
    for _ in range(draw(st.integers(0, 5))):  # twins, within a class or (mixed) across
        first, second = (draw(st.integers(0, len(rows) - 1)) for _ in range(2))
        if mixed or rows[first]["label"] == rows[second]["label"]:
            rows[first]["picture"] = rows[second]["picture"] = (
                f"twin-{draw(st.integers(0, 2))}-{rows[first]['label']}"
            )
            rows[first]["version"] = ""
            rows[second]["version"] = draw(st.sampled_from(VERSIONS))
    for row in draw(st.lists(st.sampled_from(rows), max_size=5)):
        row["patient_id"] = ""
    return catalog(rows)


def counted(rows: pd.Series, labels: pd.Series) -> pd.DataFrame:
    """Films by row and class; ten times as fast as pandas' crosstab."""
    return pd.get_dummies(labels, dtype=int).groupby(rows.to_numpy()).sum()


def counts_of(films: Catalog) -> pd.DataFrame:
    return counted(splits.groups(films), films.frame["label"])


def assert_nothing_is_cut(films: Catalog, side: pd.Series) -> None:
    """No patient, no picture in any of its versions, and no chain of these is on two sides."""
    frame = films.frame
    known = frame["patient_id"] != ""
    assert side[known].groupby(frame.loc[known, "patient_id"]).nunique().max() in (1, np.nan)
    original = side[frame["version"] == ""].groupby(frame["picture"]).agg(set)
    versions = side[frame["version"] != ""]
    for row, part in versions.items():
        assert original.get(frame.loc[row, "picture"], {part}) == {part}
    assert side.groupby(twins.find_twins(films).alike).nunique().max() == 1
    assert side.groupby(splits.groups(films)).nunique().max() == 1


@settings(max_examples=80, deadline=None)
@given(
    tables(),
    st.sampled_from([0.05, 0.15, 0.4]),
    st.sampled_from([0.05, 0.15, 0.4]),
    st.integers(0, 3),
)
def test_any_set_is_cut_between_groups_near_the_target_with_every_class_everywhere(
    films: Catalog, val: float, test: float, seed: int
) -> None:
    counts = counts_of(films)
    groups_of = (counts > 0).sum()
    data = DataConfig(split="recut", val_fraction=val, test_fraction=test)
    if (groups_of < 3).any():  # twins can merge patients
        with pytest.raises(DatasetError, match="independent patient"):
            splits.cut(films, data, seed)
        return

    table = splits.cut(films, data, seed).table
    group = splits.groups(films)
    assert_nothing_is_cut(films, table["split"])
    assert not splits.on_several_sides(table, "patient_id")

    held = counted(table["split"], table["label"])
    assert set(held.index) == set(splits.PARTS)
    assert (held > 0).all(axis=None)
    held_groups = counted(table["split"].groupby(group).first(), counts.idxmax(axis=1))
    for part, share in {"train": 1 - val - test, "val": val, "test": test}.items():
        off = (held.loc[part] - share * counts.sum()).abs()
        # A class with hardly a group a side gives each side one; training pays for that.
        scarce = held_groups.loc[["val", "test"]].min() == 1
        allowed = counts.max() * (1 + (scarce if part == "train" else 0))
        assert (off <= allowed + 1e-9).all(), (part, off, allowed)


@settings(max_examples=40, deadline=None)
@given(tables(mixed=True), st.integers(0, 3))
def test_patients_with_films_of_several_classes_are_never_cut_either(
    films: Catalog, seed: int
) -> None:
    try:
        table = splits.cut(films, RECUT, seed).table
    except DatasetError as error:
        assert "independent patient" in str(error) or "at least two classes" in str(error)
        return
    assert_nothing_is_cut(films, table["split"])
    counts = counts_of(films)
    held = counted(table["split"], table["label"])
    for part, share in SHARES.items():
        assert ((held.loc[part] - share * counts.sum()).abs() <= 2 * counts.max()).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=3, max_size=7),
    st.integers(0, 3),
)
def test_every_class_is_on_every_side_wherever_a_division_can_have_that(
    rows: list[tuple[int, ...]], seed: int
) -> None:
    counts = np.array(rows)

    def complete(parts: np.ndarray) -> bool:
        return all((counts[parts == part] > 0).any(axis=0).all() for part in range(3))

    possible = any(
        complete(np.array(parts)) for parts in itertools.product(range(3), repeat=len(counts))
    )
    found = allot(counts, list(SHARES.values()), np.random.default_rng(seed))
    assert complete(found) or not possible


@settings(max_examples=40, deadline=None)
@given(tables(), st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_cut_depends_on_the_seed_and_not_on_the_order_of_rows(
    films: Catalog, random: "np.random.RandomState", seed: int
) -> None:
    if ((counts_of(films) > 0).sum() < 3).any():
        return
    order = list(range(len(films.frame)))
    random.shuffle(order)
    shuffled = Catalog(
        films.root,
        films.name,
        films.layout,
        "",
        False,
        films.frame.iloc[order].reset_index(drop=True),
    )
    first, second = (splits.cut(c, RECUT, seed).table for c in (films, shuffled))
    pd.testing.assert_frame_equal(first, second)
    one, other = (splits.folds(c, 3, seed) for c in (films, shuffled))
    assert list(other) == list(one.iloc[order])


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(2, 3), st.integers(0, 3))
def test_folds_cut_no_group_and_hold_every_class(films: Catalog, k: int, seed: int) -> None:
    counts = counts_of(films)
    if ((counts > 0).sum() < k).any():
        with pytest.raises(DatasetError, match="one for each of"):
            splits.folds(films, k, seed)
        return
    fold = splits.folds(films, k, seed)
    assert_nothing_is_cut(films, fold)
    held = counted(fold, films.frame["label"])
    assert list(held.index) == list(range(k))
    assert (held > 0).all(axis=None)


def test_another_seed_gives_another_cut() -> None:
    films = catalog(plain(50, 50))
    first, second = (splits.cut(films, RECUT, seed).table["split"] for seed in (0, 1))
    assert (first != second).any()


# ---- what must stay together ----


def test_patients_with_many_films_are_on_every_side_in_proportion() -> None:
    rows = [
        {"label": label, "patient_id": f"{label}-{films}-{patient}"}
        for label in ("NORMAL", "PNEUMONIA")
        for films, patients in ((1, 100), (2, 50), (10, 10))
        for patient in range(patients)
        for _ in range(films)
    ]
    table = splits.cut(catalog(rows), RECUT, seed=0).table
    patients = table.groupby(["split", "patient_id"]).size()
    films_a_patient = patients.groupby("split").mean()
    assert films_a_patient.max() < 1.3 * films_a_patient.min()
    for part, share in SHARES.items():
        assert abs((patients[part] == 10).sum() - 20 * share) <= 2  # one a class


def test_patients_who_share_a_film_stay_together() -> None:
    rows = plain(20, 20)
    for number, patient in [(0, "p1"), (1, "p1"), (2, "p2"), (3, "p2")]:
        rows[number]["patient_id"] = patient
    rows[1]["picture"] = rows[2]["picture"] = "the same film"
    for seed in range(10):
        assert together(splits.cut(catalog(rows), RECUT, seed), *(f"{n:05d}.png" for n in range(4)))


@pytest.mark.parametrize("version", VERSIONS, ids=[name or "brighter" for name in VERSIONS])
def test_a_film_and_any_version_of_it_stay_together(version: str) -> None:
    rows = plain(20, 20)
    rows[0] |= {"picture": "one"}
    rows[25] |= {"picture": "one", "version": version}
    group = splits.groups(catalog(rows))
    assert group[0] == group[25]
    assert group.nunique() == 39
    for seed in range(10):
        found = splits.cut(catalog(rows), RECUT, seed)
        assert together(found, "00000.png", "00025.png")
    assert "1 set of identical or near-identical films was kept together." in found.notes


def test_twins_are_found_once_and_known_again_without_an_excluded_film(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = plain(20, 20)
    for number, version in enumerate(["", "mirrored", "inverted"]):
        rows[number] |= {"picture": "one", "version": version}
    films = catalog(rows)
    found = twins.find_twins(films)
    monkeypatch.setattr(likeness, "pairs", None)  # not asked again
    again = twins.find_twins(dataclasses.replace(films))  # as opened by another process
    pd.testing.assert_frame_equal(again.near, found.near)
    left = dataclasses.replace(films, frame=films.frame.drop(index=[1, 30]).reset_index(drop=True))
    assert [len(group) for group in twins.members(twins.find_twins(left).alike)] == [2]


def test_twins_are_looked_for_anew_once_there_are_other_films() -> None:
    rows = plain(20, 20)
    assert not len(twins.find_twins(catalog(rows)).near)
    rows[3] |= {"picture": "picture-8", "version": "rotated by 90°"}
    near = twins.find_twins(catalog(rows)).near
    assert near[["first", "second", "view"]].to_numpy().tolist() == [[3, 8, "rotated by 90°"]]


def test_a_damaged_list_of_twins_is_made_anew() -> None:
    rows = plain(5, 5)
    rows[0] |= {"picture": "one"}
    rows[1] |= {"picture": "one", "version": "mirrored"}
    twins.find_twins(catalog(rows))
    (file,) = workspace.catalog_folder().glob("*twins*")
    file.write_bytes(file.read_bytes()[:100])
    assert len(twins.find_twins(catalog(rows)).near) == 1


def test_blank_films_that_only_look_alike_are_not_linked(monkeypatch: pytest.MonkeyPatch) -> None:
    films = catalog(plain(2, 2))
    blank = Looks(np.array(list("abcd")), np.full((4, 32, 32), 90, np.uint8))
    monkeypatch.setattr(catalogs, "looks", lambda films: blank)
    assert splits.groups(films).nunique() == 4


# ---- published parts ----


def test_large_published_parts_are_kept() -> None:
    rows = [
        *plain(60, 60, split="train"),
        *plain(20, 25, split="val"),
        *plain(30, 5, split="test"),  # 5 of 90 are over 5 %
    ]
    found = splits.cut(catalog(rows), DataConfig(), 0)
    assert list(found.table["split"]) == [str(row["split"]) for row in rows]
    assert "The set's own test part was kept: 30 NORMAL and 5 PNEUMONIA films." in found.notes


@pytest.mark.parametrize("pneumonia", [4, 19], ids=["under five", "under 5 % of the class"])
def test_a_small_published_part_joins_the_pool_and_is_cut_anew(pneumonia: int) -> None:
    rows = [
        *plain(400, 400, split="train"),
        *plain(40, pneumonia, split="val"),
        *plain(40, 40, split="test"),
    ]
    found = splits.cut(catalog(rows), DataConfig(), 0)
    assert sides(found.table)["test"] == 80
    assert sides(found.table)["val"] == pytest.approx(0.15 * (840 + pneumonia), abs=2)
    assert any("validation part has 40 NORMAL and" in n and "too few" in n for n in found.notes)
    assert any(note.startswith("Validation was cut from") for note in found.notes)


def test_missing_parts_are_cut_and_the_notes_say_so() -> None:
    found = splits.cut(catalog(plain(100, 100, split="train")), DataConfig(), 0)
    assert sides(found.table) == {"train": 140, "val": 30, "test": 30}
    assert found.notes[:3] == (
        "The set publishes no validation part.",
        "The set publishes no test part.",
        "Validation and test were cut from 200 films of unknown patients: 15 % and 15 % of each "
        "class.",
    )


def test_parts_that_leave_a_class_without_training_films_are_not_kept() -> None:
    rows = [*plain(100, 0, split="train"), *plain(50, 50, split="test")]
    found = splits.cut(catalog(rows), DataConfig(), 0)
    assert (pd.crosstab(found.table["split"], found.table["label"]) > 0).all(axis=None)
    assert "leave no films of PNEUMONIA to train on" in found.notes[0]


def test_films_in_no_published_part_join_the_pool() -> None:
    rows = [*plain(60, 60), *plain(25, 25, split="val"), *plain(25, 25, split="test")]
    found = splits.cut(catalog(rows), DataConfig(), 0)
    assert sides(found.table) == {"train": 120, "val": 50, "test": 50}
    assert "120 films in no published part joined the training pool." in found.notes


def test_recut_forgets_the_published_parts() -> None:
    rows = [*plain(60, 60, split="train"), *plain(60, 60, split="test")]
    assert sides(splits.cut(catalog(rows), RECUT, 0).table)["train"] == 168


def published_with_leaks() -> list[dict[str, object]]:
    rows = [
        *plain(60, 60, split="train"),
        *plain(30, 30, split="val"),
        *plain(30, 30, split="test"),
    ]
    rows[0]["patient_id"] = rows[150]["patient_id"] = "in training and validation"
    rows[1]["picture"] = rows[200]["picture"] = "twin in training and test"
    rows[1]["version"] = "mirrored"
    rows[151]["patient_id"] = rows[201]["patient_id"] = "in validation and test"
    return rows


def test_films_that_share_a_patient_or_a_twin_with_a_kept_part_are_left_out() -> None:
    table = splits.cut(catalog(published_with_leaks()), DataConfig(), 0).table
    assert sides(table) == {"train": 118, "val": 59, "test": 60}
    assert splits.on_several_sides(table, "patient_id") == []
    assert "00001.png" not in set(table["path"])


def test_what_was_left_out_is_said() -> None:
    notes = splits.cut(catalog(published_with_leaks()), DataConfig(), 0).notes
    assert "3 films outside the published validation and test parts share a patient" in notes[-1]


def test_published_parts_of_the_same_patients_as_training_are_not_kept() -> None:
    rows = plain(60, 60, split="train") + plain(60, 60, split="test")
    for number, row in enumerate(rows):
        row["patient_id"] = f"p{number % 120}"
    found = splits.cut(catalog(rows), DataConfig(), 0)
    assert splits.on_several_sides(found.table, "patient_id") == []
    assert len(found.table) == 240
    assert any("so none was kept" in note for note in found.notes)


def test_published_as_it_is_warns_of_patients_on_two_sides() -> None:
    found = splits.cut(catalog(published_with_leaks()), DataConfig(split="published"), 0)
    assert len(splits.on_several_sides(found.table, "patient_id")) == 2
    assert found.notes[-1].startswith("2 patients and 1 film of the published parts stand on more")


def test_published_takes_the_parts_as_they_are_however_small() -> None:
    rows = [
        *plain(10, 10, split="train"),
        *plain(1, 0, split="val"),
        *plain(1, 1, split="test"),
        *plain(1, 0),
    ]
    found = splits.cut(catalog(rows), DataConfig(split="published"), 0)
    assert sides(found.table) == {"train": 20, "val": 1, "test": 2}
    assert any("validation part has no films of PNEUMONIA" in note for note in found.notes)
    assert "1 film in no published part was left out." in found.notes


# ---- what is left out, and what is refused ----


def test_unreadable_and_unlabelled_films_are_left_out_and_counted() -> None:
    rows = [*plain(20, 20), {"readable": False}, {"label": ""}, {"label": ""}]
    found = splits.cut(catalog(rows), RECUT, 0)
    assert len(found.table) == 40
    assert found.notes[:2] == (
        "1 film could not be read and was left out.",
        "2 films without a label were left out.",
    )


@pytest.mark.parametrize(
    ("rows", "data", "reason"),
    [
        (plain(20, 0), RECUT, "only the class NORMAL"),
        (plain(3, 3, readable=False), RECUT, "no readable film with a label"),
        (plain(20, 2), RECUT, "PNEUMONIA has films of only 2 independent patients, but 3"),
        (plain(20, 5, patient_id="p"), RECUT, "only 1 independent patient, but 3"),
        (plain(9, 9, split="train"), DataConfig(split="published"), "no validation and test part"),
        (
            [*plain(9, 0, split="train"), *plain(9, 9, split="val"), *plain(9, 9, split="test")],
            DataConfig(split="published"),
            "training part of films has no films of PNEUMONIA",
        ),
    ],
)
def test_a_set_that_cannot_be_divided_says_why(
    rows: list[dict[str, object]], data: DataConfig, reason: str
) -> None:
    with pytest.raises(DatasetError, match=reason):
        splits.cut(catalog(rows), data, 0)


def test_the_table_has_the_contracts_columns_and_is_sorted() -> None:
    table = splits.cut(catalog(plain(20, 20)[::-1]), RECUT, 0).table
    assert list(table.columns) == ["path", "label", "split", "patient_id", "md5"]
    assert table["path"].is_monotonic_increasing


def test_the_phantoms_are_divided_by_patient(phantoms: Path) -> None:
    table = splits.cut(scan(phantoms), RECUT, 0).table
    assert splits.on_several_sides(table, "patient_id") == []
    assert (counted(table["split"], table["label"]) > 0).all(axis=None)


@pytest.mark.real_data
def test_kermany_is_cut_by_patient_into_three_parts(real_data: Path) -> None:
    found = splits.cut(scan(real_data / "kermany"), DataConfig(), 0)
    held = pd.crosstab(found.table["split"], found.table["label"])
    assert held.loc["val"].to_dict() == pytest.approx({"NORMAL": 202, "PNEUMONIA": 582}, abs=2)
    assert held.loc["test"].to_dict() == pytest.approx({"NORMAL": 202, "PNEUMONIA": 582}, abs=2)
    assert splits.on_several_sides(found.table, "patient_id") == []
    assert splits.on_several_sides(found.table, "md5") == []
    assert any("3,669 patients" in note for note in found.notes)
    assert "24 sets of identical or near-identical films were kept together." in found.notes
