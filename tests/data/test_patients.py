"""Telling the patient from a file's name."""

import pandas as pd
import pytest

from cxr_core.data import patients
from cxr_core.errors import DatasetError

GUANGZHOU = [
    "train/PNEUMONIA/person1234_bacteria_1.jpeg",
    "train/PNEUMONIA/person1234_bacteria_2.jpeg",
    "train/PNEUMONIA/person1234_virus_3.jpeg",
    "train/NORMAL/IM-0115-0001.jpeg",
    "train/NORMAL/IM-0115-0001-0002.jpeg",
    "val/NORMAL/NORMAL2-IM-0115-0001.jpeg",
]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (
            GUANGZHOU,
            [
                "person1234_bacteria",
                "person1234_bacteria",
                "person1234_virus",
                "IM-0115",
                "IM-0115",
                "NORMAL2-IM-0115",
            ],
        ),
        (
            ["A/00000001_000.png", "B/00000001_001.png", "A/00000002_000.png"],
            ["00000001"] * 2 + ["00000002"],
        ),
        (["CHNCXR_0001_0.png", "X/CHNCXR_0327_1.png"], ["CHNCXR_0001", "CHNCXR_0327"]),
        (["MCUCXR_0001_0.png", "X/MCUCXR_0104_1.png"], ["MCUCXR_0001", "MCUCXR_0104"]),
    ],
    ids=["guangzhou", "nih", "shenzhen", "montgomery"],
)
def test_well_known_names_give_the_patient(paths: list[str], expected: list[str]) -> None:
    found, rule = patients.identify(paths)
    assert found == expected
    assert rule != patients.UNKNOWN


def test_names_of_no_known_set_leave_every_patient_unknown() -> None:
    found, rule = patients.identify(["normal-1.jpg", "normal-2.jpg"])
    assert found == ["", ""]
    assert rule == patients.UNKNOWN


def test_a_viewers_export_names_alone_are_not_taken_for_guangzhou() -> None:
    found, _ = patients.identify(["a/IM-0001-0001.dcm", "b/IM-0001-0001.dcm"])
    assert found == ["", ""]


@pytest.mark.parametrize(("strays", "known"), [(2, True), (3, False)])
def test_a_rule_counts_only_where_it_matches_nine_names_of_ten(strays: int, known: bool) -> None:
    paths = [f"{number:08d}_000.png" for number in range(20 - strays)]
    found, _ = patients.identify(paths + [f"stray-{i}.png" for i in range(strays)])
    assert any(found) is known
    assert found[-1] == ""


def test_the_sets_own_column_goes_before_its_names() -> None:
    found, rule = patients.identify(GUANGZHOU, ["a", "a", "b", "", "c", "c"])
    assert found == ["a", "a", "b", "", "c", "c"]
    assert rule == patients.COLUMN


def test_an_empty_column_falls_back_to_the_names() -> None:
    found, _ = patients.identify(GUANGZHOU, [""] * 6)
    assert found[0] == "person1234_bacteria"


def test_a_users_pattern_goes_first_and_sees_the_folders() -> None:
    paths = ["NORMAL/p7/1.png", "NORMAL/p7/2.png", "NORMAL/loose.png"]
    found, rule = patients.identify(paths, ["a", "b", "c"], r"/(p\d+)/")
    assert found == ["p7", "p7", ""]
    assert "matches 2 of 3 files" in rule


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("(", "not a regular expression"), (r"p\d+", "no group"), ("(zebra)", "matches none")],
)
def test_a_useless_pattern_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        patients.identify(["p1.png"], expression=pattern)


def test_examples_come_from_all_over_the_set_and_skip_unknown_patients() -> None:
    frame = pd.DataFrame(
        {
            "path": [f"A/{number:03d}.png" for number in range(101)],
            "patient_id": ["", *(f"p{number}" for number in range(1, 101))],
        }
    )
    found = patients.examples(frame)
    assert len(found) == 5
    assert found[0] == ("001.png", "p1")
    assert found[-1] == ("100.png", "p100")
    assert patients.examples(frame.head(1)) == []
