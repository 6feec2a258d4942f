"""The table of answers as Parquet: whole parts, gone on with, the same columns as the CSV."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import tiny

from cxr_core.diagnosis import answer_parts, scoring
from cxr_core.diagnosis.answer_parts import AnswerParts
from cxr_core.errors import DatasetError

COLUMNS = scoring.columns(tiny.BINARY)
MODEL = {"model": "0123456789ab", "threshold": 0.5}


def row(path: str, **values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS), "path": path, **MODEL, **values}


def parts(folder: Path, resume: bool = True, **model: object) -> AnswerParts:
    return AnswerParts(folder, COLUMNS, {**MODEL, **model}, resume=resume)


def write(folder: Path, *paths: str) -> None:
    with parts(folder, resume=False) as table:
        for path in paths:
            table.add(row(path))


def test_columns_and_types_are_the_same_though_a_part_has_no_answer(tmp_path):
    write(tmp_path / "a", "broken.png")
    with parts(tmp_path / "a") as table:
        table.add(row("film.png", accepted=True, probability=0.75, p_NORMAL=0.25, label="NORMAL"))
    first, second = sorted((tmp_path / "a").iterdir())
    assert pq.read_schema(first).equals(pq.read_schema(second))
    found = pd.read_parquet(tmp_path / "a")
    assert list(found.columns) == COLUMNS
    assert found["probability"].tolist()[1:] == [0.75]
    assert found["accepted"].tolist() == [None, True]


def test_it_goes_on_after_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(answer_parts, "_ROWS", 2)
    table = parts(tmp_path)
    for number in range(5):
        table.add(row(f"{number}.png"))
    del table  # killed before the fifth was in a part
    (tmp_path / "part-00002.partial").write_bytes(b"half")
    with parts(tmp_path) as table:
        assert len(table) == 4
        assert [table.has(f"{number}.png") for number in range(5)] == [True] * 4 + [False]
        table.add(row("4.png"))
    assert sorted(pd.read_parquet(tmp_path)["path"]) == [f"{n}.png" for n in range(5)]
    assert not list(tmp_path.glob("*.partial"))


def test_what_was_added_is_on_disk_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(answer_parts, "_SECONDS", 0.0)
    parts(tmp_path).add(row("a.png"))
    assert list(pd.read_parquet(tmp_path)["path"]) == ["a.png"]


def test_without_resume_only_its_own_parts_are_replaced(tmp_path):
    write(tmp_path, "a.png")
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, "b.png")
    assert list(pd.read_parquet(tmp_path / "part-00000.parquet")["path"]) == ["b.png"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "change", [{"model": "another"}, {"threshold": 0.6}], ids=["model", "threshold"]
)
def test_answers_of_another_model_are_not_gone_on_with(tmp_path, change):
    write(tmp_path, "a.png")
    with pytest.raises(DatasetError, match="another model, or at another threshold"):
        parts(tmp_path, **change)


def test_a_folder_of_other_tables_or_damaged_parts_is_a_sentence(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "part-00000.parquet")
    with pytest.raises(DatasetError, match="other columns"):
        parts(tmp_path)
    (tmp_path / "part-00000.parquet").write_bytes(b"no table")
    with pytest.raises(DatasetError, match=r"part-00000\.parquet is damaged"):
        parts(tmp_path)


def test_a_name_that_is_no_text_is_kept_as_in_the_csv(tmp_path):
    odd = os.fsdecode(b"film-\x80.png")
    write(tmp_path, odd)
    assert list(pd.read_parquet(tmp_path)["path"]) == [r"film-\udc80.png"]
    assert parts(tmp_path).has(odd)
