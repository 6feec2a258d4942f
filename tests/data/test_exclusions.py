"""Films on the list are left out, by content; nothing is deleted, nothing slips back unseen."""

import shutil
from pathlib import Path

import pytest

from cxr_core import workspace
from cxr_core.data import exclusions
from cxr_core.data.catalog import Catalog, scan
from cxr_core.errors import DatasetError


@pytest.fixture
def opened(phantoms: Path, tmp_path: Path) -> Catalog:
    return scan(Path(shutil.copytree(phantoms, tmp_path / "set")))


def paths(catalog: Catalog, *rows: int) -> list[str]:
    return list(catalog.frame["path"].iloc[list(rows)])


def test_excluded_films_are_left_out_and_stay_on_the_disk(opened: Catalog) -> None:
    out = paths(opened, 2, 7)
    assert exclusions.exclude(opened, out, "twin") == 2
    kept, left_out = exclusions.without(opened)
    assert [entry.path for entry in left_out] == out
    assert {entry.reason for entry in left_out} == {"twin"}
    assert len(kept.frame) == len(opened.frame) - 2
    assert not set(out) & set(kept.frame["path"])
    assert list(kept.frame.index) == list(range(len(kept.frame)))
    assert kept.fingerprint != opened.fingerprint
    assert all((opened.root / path).is_file() for path in out)


def test_the_list_outlives_the_process_and_a_new_scan(opened: Catalog) -> None:
    exclusions.exclude(opened, paths(opened, 0))
    assert exclusions.is_excluded(scan(opened.root)).sum() == 1


def test_each_film_may_have_a_reason_of_its_own(opened: Catalog) -> None:
    first, second = paths(opened, 0, 1)
    exclusions.exclude(opened, {first: "blank", second: "inverted"})
    assert {e.path: e.reason for e in exclusions.listed(opened.root)} == {
        first: "blank",
        second: "inverted",
    }


def test_excluding_twice_keeps_the_first_reason(opened: Catalog) -> None:
    exclusions.exclude(opened, paths(opened, 0), "first")
    assert exclusions.exclude(opened, paths(opened, 0, 1), "second") == 1
    assert [entry.reason for entry in exclusions.listed(opened.root)] == ["first", "second"]


def test_films_come_back(opened: Catalog) -> None:
    out = paths(opened, 3, 4)
    exclusions.exclude(opened, out)
    assert exclusions.include(opened, out[:1]) == 1
    assert exclusions.include(opened, out[:1]) == 0
    assert [entry.path for entry in exclusions.listed(opened.root)] == out[1:]


def test_a_replaced_film_is_used_again(opened: Catalog) -> None:
    (out,) = paths(opened, 5)
    exclusions.exclude(opened, [out])
    shutil.copyfile(opened.root / paths(opened, 6)[0], opened.root / out)
    kept, left_out = exclusions.without(scan(opened.root))
    assert left_out == ()
    assert out in set(kept.frame["path"])


def test_sets_have_lists_of_their_own(opened: Catalog, phantoms: Path) -> None:
    exclusions.exclude(opened, paths(opened, 0))
    assert exclusions.listed(phantoms.resolve()) == ()


def test_a_film_that_is_not_there_cannot_be_excluded(opened: Catalog) -> None:
    with pytest.raises(DatasetError, match="no film 'elsewhere"):
        exclusions.exclude(opened, ["elsewhere.png"])
    assert exclusions.listed(opened.root) == ()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"films": [{"path": "a"}]}'])
def test_a_damaged_list_is_not_taken_for_empty(opened: Catalog, content: str) -> None:
    exclusions.exclude(opened, paths(opened, 0))
    (file,) = workspace.exclusion_folder().glob("*.json")
    file.write_text(content)
    with pytest.raises(DatasetError, match=r"excluded films .* cannot be read"):
        exclusions.without(opened)
    with pytest.raises(DatasetError):
        exclusions.exclude(opened, paths(opened, 1))
    assert file.read_text() == content


def test_the_list_becomes_a_table_for_a_run(opened: Catalog) -> None:
    assert list(exclusions.as_table(()).columns) == ["path", "md5", "reason", "since"]
    exclusions.exclude(opened, paths(opened, 0), "blank")
    table = exclusions.as_table(exclusions.without(opened)[1])
    assert table["path"].tolist() == paths(opened, 0)
    assert table["reason"].tolist() == ["blank"]
