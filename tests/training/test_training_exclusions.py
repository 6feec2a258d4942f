"""Training leaves out the films on the list and records which, and knows patients by the rule."""

import shutil
from pathlib import Path

import pytest

from cxr_core.config import RunConfig
from cxr_core.data import exclusions
from cxr_core.data.catalog import scan


class Notes:
    """What a run was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.files: dict[str, str] = {}
        self.values: dict[str, object] = {}
        self.recorded: dict[str, str] = {}

    def phase(self, words: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def tags(self, tags: dict[str, str]) -> None: ...

    def note(self, *sentences: str) -> None:
        self.said += sentences

    def text(self, name: str, text: str) -> None:
        self.files[name] = text

    def params(self, params: dict[str, object]) -> None:
        self.values |= params


@pytest.mark.slow
def test_excluded_films_are_not_trained_on_and_the_run_records_them(
    phantoms: Path, tmp_path: Path
) -> None:
    from cxr_core.training.film_set import read_films  # imports TensorFlow

    root = Path(shutil.copytree(phantoms, tmp_path / "set"))
    opened = scan(root)
    out = list(opened.frame["path"].iloc[[4, 9]])
    exclusions.exclude(opened, out, "twin")
    config = RunConfig().with_values({"data.root": str(root), "image.size": 32})
    run = Notes()
    films = read_films(config, run, [32])  # type: ignore[arg-type]
    assert not set(films.split["path"]) & set(out)
    assert len(films.split) == len(opened.frame) - 2
    assert run.values["excluded_films"] == 2
    assert run.values["data_fingerprint"] != opened.fingerprint
    assert all(path in run.files["exclusions.csv"] for path in out)
    assert any("excluded" in sentence for sentence in run.said)


@pytest.mark.slow
def test_patients_are_those_of_the_pattern_and_are_not_divided(phantoms: Path) -> None:
    from cxr_core.training.film_set import read_films  # imports TensorFlow

    config = RunConfig().with_values(
        {
            "data.root": str(phantoms),
            "data.patient_pattern": r"/(P\d\d\d)\d_",
            "data.split": "recut",
            "image.size": 32,
        }
    )
    films = read_films(config, Notes(), [32])  # type: ignore[arg-type]
    patients = films.split["patient_id"]
    assert set(patients.str.len()) == {4}
    assert films.split.groupby(patients)["split"].nunique().max() == 1
