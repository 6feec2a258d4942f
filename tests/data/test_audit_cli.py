"""``data audit`` prints what other tools rely on to stdout and the findings in words to stderr."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxr_core.cli import app
from cxr_core.data.catalog import scan


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
