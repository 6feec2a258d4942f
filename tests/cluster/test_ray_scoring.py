"""An archive scored on a Ray cluster: as on one machine, and gone on with after an interruption."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny

from cxr_core.cluster import scoring
from cxr_core.cluster.demand import Capacity
from cxr_core.cluster.scoring import Pool
from cxr_core.cluster.survey import Node
from cxr_core.errors import TrainingError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("nodes", "number", "expected"),
    [
        ([Capacity(2, 0)], None, Pool(1, 2, 0)),
        ([Capacity(8, 0), Capacity(4, 0), Capacity(0, 0)], None, Pool(3, 4, 0)),
        ([Capacity(16, 2), Capacity(64, 4)], None, Pool(6, 8, 1)),
        ([Capacity(16, 2)], 1, Pool(1, 8, 1)),
        ([Capacity(1, 0), Capacity(1, 0)], 1, Pool(1, 1, 0)),
        ([Capacity(4, 0), Capacity(2, 0)], 2, Pool(2, 2, 0)),
        ([Capacity(4, 0)], 9, Pool(9, 1, 0)),
        ([], None, Pool(1, 1, 0)),
    ],
)
def test_predictors_fill_the_nodes_evenly(nodes, number, expected):
    assert scoring.pool(nodes, number) == expected


def test_a_node_without_the_films_is_named_before_any_is_scored():
    node = Node("one", "1", cores=2, gpus=0, missing=("/films",))
    with pytest.raises(TrainingError, match=r"one has no /films\. Put the films"):
        scoring._require_films([node])
    scoring._require_films([Node("head", "0", cores=0, gpus=0, missing=("/films",))])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Path:
    """Several blocks of films, among them two that cannot be read."""
    folder = tmp_path_factory.mktemp("films")
    sources = sorted((phantoms / "images").iterdir())
    for number in range(300):
        (folder / f"{number:03}.png").hardlink_to(sources[number % len(sources)])
    (folder / "broken.png").write_text("no picture")
    (folder / os.fsdecode(b"odd-\x80.png")).hardlink_to(sources[0])
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return folder


def predict(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cxr_core", "predict", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def by_path(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("path", ignore_index=True)


@pytest.mark.slow
@pytest.mark.usefixtures("in_the_cluster")
def test_an_archive_is_scored_as_on_one_machine_and_gone_on_with_after_an_interruption(
    ray_cluster: Any, model: Path, films: Path, tmp_path: Path, until: Callable[..., None]
) -> None:
    there = ("--on", ray_cluster.address)
    local, csv, parts = tmp_path / "local.csv", tmp_path / "there.csv", tmp_path / "parts"
    assert predict(model, films, "--csv", local).returncode == 0

    command = [sys.executable, "-m", "cxr_core", "predict", model, films, "--csv", csv, *there]
    interrupted = subprocess.Popen(
        list(map(str, command)),
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: csv.is_file() and csv.read_bytes().count(b"\n") > 1, "the first rows")
    interrupted.send_signal(signal.SIGKILL)
    interrupted.wait()
    before = csv.read_bytes()

    went_on = predict(model, films, "--csv", csv, "--parquet", parts, "--resume", *there)
    assert went_on.returncode == 0, went_on.stderr
    assert csv.read_bytes().startswith(before[: before.rfind(b"\n") + 1])

    expected = by_path(pd.read_csv(local))
    assert len(expected) == 303
    assert expected["error"].notna().sum() == 2
    pd.testing.assert_frame_equal(by_path(pd.read_csv(csv)), expected, rtol=1e-5)
    found = by_path(pd.read_parquet(parts))
    assert list(found.columns) == list(expected.columns)
    assert list(found["path"]) == list(expected["path"])
    pd.testing.assert_series_equal(found["probability"], expected["probability"], rtol=1e-5)
