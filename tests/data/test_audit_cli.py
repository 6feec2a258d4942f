"""``data audit`` prints what other tools rely on to stdout and the findings in words to stderr."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cxr_core.cli import app
from cxr_core.data.catalog import Catalog, scan
from cxr_core.diagnosis import label_review


def test_audit_prints_the_summary_and_the_findings_as_json(phantoms: Path) -> None:
    result = CliRunner().invoke(app, ["data", "audit", str(phantoms), "--json"])
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed["images"] == 60
    assert printed["duplicates"] == {"groups": 0, "cross_label": 0, "cross_split": 0}
    assert printed["findings"] == []
    assert "Nothing was found." in result.stderr


def test_audit_says_findings_in_words(phantoms: Path, tmp_path: Path) -> None:
    for label, film in zip("AB", [0, 0], strict=True):
        (tmp_path / "set" / label).mkdir(parents=True)
        source = phantoms / scan(phantoms).frame["path"].iloc[film]
        (tmp_path / "set" / label / "film.png").write_bytes(source.read_bytes())
    result = CliRunner().invoke(app, ["data", "audit", str(tmp_path / "set")])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "stand under different labels" in " ".join(result.stderr.split())


@pytest.mark.parametrize("arguments", [["nowhere"], []])
def test_audit_refuses_what_is_no_set(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "audit", *(str(tmp_path / a) for a in arguments)])
    assert result.exit_code == 2


def test_audit_names_patients_by_a_pattern(phantoms: Path) -> None:
    arguments = ["data", "audit", str(phantoms), "--json", "--patient-pattern", r"_(\d)\.png$"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["patients"] == {"known": 3, "in_several_splits": 3}
    refused = CliRunner().invoke(app, [*arguments[:-1], "("])
    assert refused.exit_code == 2
    assert "is not a regular expression" in refused.stderr


def test_audit_predicts_once_and_keeps_what_it_found(
    phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(catalog: Catalog, **_: object) -> pd.DataFrame:
        told = pd.get_dummies(catalog.frame["label"]) * 0.9 + 0.1 / 3
        told.iloc[:3] = np.roll(told.iloc[:3], 1, axis=1)  # three films look like another class
        monkeypatch.setattr(label_review, "predict", None)  # not asked again
        return told.assign(path=catalog.frame["path"])

    monkeypatch.setattr(label_review, "predict", predict)
    arguments = ["data", "audit", str(phantoms), "--labels", "--json"]
    first, second = (CliRunner().invoke(app, arguments) for _ in range(2))
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout
    (finding,) = json.loads(first.stdout)["findings"]
    assert finding["kind"] == "label_suspects"
