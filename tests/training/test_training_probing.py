"""The probes of a run: nothing that goes wrong in them may cost the model."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxr_core.config import RunConfig
from cxr_core.data import sources, splits
from cxr_core.data.catalog import Catalog, scan
from cxr_core.diagnosis import probing as asking
from cxr_core.diagnosis.bundle import DataInfo
from cxr_core.training import probing
from cxr_core.training.film_set import FilmSet, Part
from cxr_core.training.writer import RunCancelled


class Run:
    """Stands in for the writer: remembers what it is told, and may be cancelled at a film."""

    def __init__(self, cancelled_at: float = float("inf")) -> None:
        self.notes: list[str] = []
        self.seen: list[tuple[int, int]] = []
        self._cancelled_at = cancelled_at

    def progress(self, done: int, total: int) -> None:
        self.seen.append((done, total))
        if done >= self._cancelled_at:
            raise RunCancelled

    def note(self, *sentences: str) -> None:
        self.notes += sentences


CONFIG = RunConfig().with_values({"image.size": 32})


@pytest.fixture(scope="module")
def catalog(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(tmp_path_factory.mktemp("catalog")))
        return scan(phantoms)


@pytest.fixture
def films(catalog: Catalog) -> FilmSet:
    """All sixty phantoms as test films, with noise for pixels."""
    table = splits.cut(catalog, CONFIG.data, 0).table.reset_index(drop=True)
    labels = table["label"].map(catalog.classes.index).to_numpy(np.int64)
    part = Part(table, labels, np.arange(len(table)))
    pixels = np.random.default_rng(0).integers(0, 255, (len(table), 32, 32), dtype=np.uint8)
    data = DataInfo.model_validate({**sources.provenance(catalog), "counts": {}})
    return FilmSet(
        catalog.classes, {32: pixels}, table, part, part, part, provenance=data, catalog=catalog
    )


def infer(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A network that looks at the mean of a film."""
    return np.repeat(pixels[rows].mean(axis=(1, 2))[:, None] / 50, 3, axis=1) * [1.0, 2.0, -1.0]


def probed(films: FilmSet, run: Run) -> dict[str, Any] | None:
    return probing.probe(
        None,  # type: ignore[arg-type]  # heat maps are then unknown
        infer,
        films,
        CONFIG,
        run,  # type: ignore[arg-type]
        temperature=1.0,
        threshold=0.5,
    )


def test_a_run_is_told_how_far_its_probes_are(films: FilmSet) -> None:
    run = Run()
    result = probed(films, run)
    assert result is not None
    assert result["films"] == 60
    done, totals = zip(*run.seen, strict=True)
    assert list(done) == sorted(done)
    assert len(set(totals)) == 1
    assert done[-1] <= totals[0]


def test_heat_maps_that_cannot_be_computed_leave_the_other_probes(films: FilmSet) -> None:
    result = probed(films, Run())
    assert result is not None
    levels = {finding["name"]: finding["level"] for finding in result["findings"]}
    assert levels["sanity"] == "unknown"
    assert result["curves"]


def test_a_request_to_cancel_ends_the_probes(films: FilmSet) -> None:
    with pytest.raises(RunCancelled):
        probed(films, Run(cancelled_at=200))


def test_where_all_of_it_fails_the_run_goes_on_and_says_so(
    films: FilmSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError("no memory left\nat 0x1")

    monkeypatch.setattr(asking, "probe", broken)
    run = Run()
    assert probed(films, run) is None
    assert run.notes == ["What the network uses is not known: no memory left"]


def test_lesions_lie_where_the_masks_of_the_set_say(catalog: Catalog) -> None:
    paths = list(catalog.frame["path"])
    found = probing.lesions(catalog, paths, CONFIG)
    assert found is not None
    ill = catalog.frame["label"].to_numpy() != "NORMAL"
    np.testing.assert_array_equal(found.any(axis=(1, 2)), ill)
    assert 0.01 < found[ill].mean() < 0.4


@pytest.mark.parametrize(
    "changes",
    [
        {"mask": "../../elsewhere.png"},
        {"mask": "masks/gone.png"},
        {"mask": ""},
    ],
)
def test_masks_outside_the_set_or_missing_are_unknown(
    catalog: Catalog, changes: dict[str, str]
) -> None:
    frame = catalog.frame.assign(**changes)
    other = dataclasses.replace(catalog, frame=frame)
    assert probing.lesions(other, list(frame["path"]), CONFIG) is None


def test_only_drawn_films_have_known_lesions(catalog: Catalog) -> None:
    real = dataclasses.replace(catalog, synthetic=False)
    assert probing.lesions(real, list(catalog.frame["path"]), CONFIG) is None
    bare = dataclasses.replace(catalog, frame=pd.DataFrame(catalog.frame.drop(columns="mask")))
    assert probing.lesions(bare, list(catalog.frame["path"]), CONFIG) is None


def test_the_shortcuts_of_a_set_are_those_of_its_audit(catalog: Catalog) -> None:
    found = probing.shortcuts(catalog)
    assert {shortcut.feature for shortcut in found} >= {"width", "mean", "border"}
    assert all(0 <= shortcut.auroc <= 1 for shortcut in found)
