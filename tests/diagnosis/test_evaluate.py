"""An evaluation takes the films that a model may honestly be tested on, and says which."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny

from cxr_core import images
from cxr_core.data import catalog, exclusions
from cxr_core.data.catalog import Catalog
from cxr_core.diagnosis import evaluate
from cxr_core.diagnosis.predictor import Predictor
from cxr_core.errors import DatasetError


def _films(md5s: str, splits: list[str] | None = None) -> Catalog:
    """A catalog of one film a letter."""
    count = len(md5s)
    frame = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(count)],
            "label": ["NORMAL", "PNEUMONIA"] * (count // 2),
            "split": splits or [""] * count,
            "patient_id": "",
            "md5": list(md5s),
            "readable": True,
        }
    )
    return Catalog(Path("/films"), "films", "", "", False, frame)


def _own(train: str, test: str) -> pd.DataFrame:
    rows = [(md5, "train") for md5 in train] + [(md5, "test") for md5 in test]
    return pd.DataFrame(rows, columns=["md5", "split"])


def test_the_models_own_test_films_are_taken_where_it_knows_the_folder() -> None:
    films = _films("abcdef", ["test", "test", "train", "train", "train", "train"])
    chosen = evaluate.select(films, _own("abcd", "ef"), "test")
    assert list(chosen.table["md5"]) == ["e", "f"]
    assert chosen.seen == 0
    assert "own test films" in chosen.origin


def test_a_foreign_folder_gives_its_published_test_part() -> None:
    films = _films("abcdef", ["train", "train", "train", "train", "test", "test"])
    chosen = evaluate.select(films, _own("uvw", "xyz"), "test")
    assert list(chosen.table["md5"]) == ["e", "f"]
    assert "not the model's own" in chosen.origin


def test_a_few_shared_copies_do_not_make_a_folder_the_models_own() -> None:
    films = _films("abcdef", ["train", "train", "test", "test", "test", "test"])
    chosen = evaluate.select(films, _own("uv", "c"), "test")
    assert list(chosen.table["md5"]) == ["c", "d", "e", "f"]


def test_a_published_test_part_that_the_model_never_saw_comes_before_its_own() -> None:
    films = _films("abcdefgh", ["train"] * 6 + ["test"] * 2)
    chosen = evaluate.select(films, _own("abcd", "ef"), "test")
    assert list(chosen.table["md5"]) == ["g", "h"]
    assert chosen.seen == 0


def test_a_foreign_folder_without_parts_is_taken_whole() -> None:
    chosen = evaluate.select(_films("abcdef"), _own("uv", "x"), "test")
    assert list(chosen.table["md5"]) == list("abcdef")
    assert "every labelled film" in chosen.origin
    with pytest.raises(DatasetError, match="--split all"):  # here parts are known: none is a test
        evaluate.select(_films("abcdef", ["train"] * 6), _own("uv", "x"), "test")


def test_a_test_part_known_from_another_set_is_told_as_such() -> None:
    films = _films("abcdefgh", ["train"] * 6 + ["test"] * 2)
    chosen = evaluate.select(films, _own("xyz", "gh"), "test")
    assert list(chosen.table["md5"]) == ["g", "h"]
    assert "knows films of it" in chosen.origin


def test_films_learned_from_are_counted() -> None:
    chosen = evaluate.select(_films("abcdef"), _own("abc", "de"), "all")
    assert len(chosen.table) == 6
    assert chosen.seen == 3


def test_a_byte_identical_copy_of_a_training_film_is_no_test_film() -> None:
    chosen = evaluate.select(_films("abcdef"), _own("abcd", "def"), "test")
    assert list(chosen.table["md5"]) == ["e", "f"]


def test_excluded_films_are_counted_and_tested_all_the_same() -> None:
    films = _films("abcdef", ["test"] * 6)
    exclusions.exclude(films, ["1.png", "4.png"], "blurred")
    for part, splits in (("all", None), ("test", None), ("test", _own("abcd", "ef"))):
        chosen = evaluate.select(films, splits, part)
        assert chosen.excluded == chosen.table["path"].isin(["1.png", "4.png"]).sum() > 0
    assert len(evaluate.select(films, None, "all").table) == 6


def test_patients_are_those_the_models_run_knew() -> None:
    films = _films("abcdef")
    own = _own("abc", "def").assign(patient_id=["1", "1", "1", "2", "2", ""])
    assert list(evaluate.select(films, own, "test").table["patient_id"]) == ["2", "2", ""]
    few = own[own["md5"] == "d"]  # a copy in a foreign set is nobody's patient there
    assert list(evaluate.select(films, few, "all").table["patient_id"]) == [""] * 6


def test_a_folder_without_test_films_says_what_to_do() -> None:
    with pytest.raises(DatasetError, match="--split all"):
        evaluate.select(_films("abcdef"), None, "test")


def test_unreadable_and_unlabelled_films_are_left_out() -> None:
    films = _films("abcdef")
    films.frame.loc[0, "readable"] = False
    films.frame.loc[1, "label"] = ""
    assert len(evaluate.select(films, None, "all").table) == 4


def test_the_summary_is_that_of_the_films_one_by_one(
    three_class_bundle: Path, phantoms: Path
) -> None:
    predictor = Predictor(three_class_bundle)
    films = catalog.scan(phantoms)
    summary = evaluate.evaluate(predictor, three_class_bundle, films, "test").summary
    test = films.frame[films.frame["split"] == "test"]
    decided = []
    for path in test["path"]:
        film = images.read(phantoms / path)
        decided.append(predictor.diagnose(film, heatmap=False, force=True).label)
    assert summary["n"] == len(test)
    assert summary["accuracy"] == pytest.approx(np.mean(np.array(decided) == test["label"]))
    assert np.sum(summary["confusion"]) == len(test)
    assert summary["synthetic"] is True
    assert summary["seen_in_training"] == summary["excluded"] == 0
    assert set(summary["per_class"]) == set(tiny.THREE)
    assert len(summary["ci95"]["auc"]) == 2


def test_intervals_are_drawn_with_the_seed_of_the_models_run(
    three_class_bundle: Path, phantoms: Path
) -> None:
    films = catalog.scan(phantoms)
    summaries = []
    for seed in (0, 7, 7):
        predictor = Predictor(three_class_bundle)
        predictor.info = predictor.info.model_copy(update={"config": {"seed": seed}})
        summaries.append(evaluate.evaluate(predictor, three_class_bundle, films, "test").summary)
    assert summaries[1] == summaries[2]
    assert summaries[0]["ci95"] != summaries[1]["ci95"]
    assert summaries[0]["accuracy"] == summaries[1]["accuracy"]


def test_classes_that_the_model_does_not_know_are_named(
    binary_bundle: Path, phantoms: Path
) -> None:
    with pytest.raises(DatasetError, match=r"films of TUBERCULOSIS, which the model tiny does not"):
        evaluate.evaluate(Predictor(binary_bundle), binary_bundle, catalog.scan(phantoms), "all")
