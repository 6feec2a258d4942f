"""The parts of the Train page that need no page: layers, strips, axes, recipes in words."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxr_core import figures
from cxr_core.config import RunConfig
from cxr_core.errors import CxrError
from cxr_core.training import recipes
from cxr_core.training.tracking import Status
from cxr_core.ui import attention_view, background, curves_view, launch, layers_view

PLAIN = layers_view.Wanted("plain_cnn", 64, 1, "own", 1.0, False)


def described(wanted: layers_view.Wanted) -> layers_view.Description:
    """The description of a network, made as the page has it made."""
    task = background.Task[layers_view.Description](lambda task: layers_view.describe(wanted, task))
    assert task.ended(patience=300)
    return task.result()


@pytest.mark.slow
def test_the_layers_of_a_network_are_counted_in_a_process_of_their_own() -> None:
    found = described(PLAIN)
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])
    config = RunConfig().with_values({"image.size": 64})
    assert f"{found['parameters']:,} parameters" in layers_view.line(config, found)


def test_a_network_that_cannot_be_built_is_refused_in_its_own_words() -> None:
    with pytest.raises(CxrError, match="needs at least"):
        described(replace(PLAIN, size=4))


def test_a_network_is_told_in_a_sentence_before_its_layers_are_counted() -> None:
    config = RunConfig().with_values(
        {"model.architecture": "efficientnet_lite0", "model.weights": "imagenet"}
    )
    told = layers_view.line(config)
    assert "about 3.4 million parameters, from ImageNet weights (Apache-2.0)" in told
    config = config.with_values({"model.weights": "bundle:best_so_far"})
    assert "from the bundle best_so_far" in layers_view.line(config)


def test_two_classes_need_one_output() -> None:
    config = RunConfig()
    assert layers_view.Wanted.of(config, 2).outputs == 1
    assert layers_view.Wanted.of(config, 3).outputs == 3


def test_a_strip_is_cut_into_its_films(tmp_path: Path) -> None:
    grays = (20, 120, 220)
    strip = np.hstack([np.full((30, 30, 3), gray, np.uint8) for gray in grays])
    path = tmp_path / "0001.jpg"
    cv2.imwrite(str(path), strip)
    tiles = attention_view.cut(str(path), 0.0, len(grays))
    for tile, gray in zip(tiles, grays, strict=True):
        pixels = cv2.imdecode(np.frombuffer(tile, np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape == (30, 30, 3)
        assert abs(float(pixels.mean()) - gray) < 3


def test_a_strip_that_is_half_written_is_no_films_yet(tmp_path: Path) -> None:
    path = tmp_path / "0001.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    assert attention_view.cut(str(path), 0.0, 3) == []


@pytest.mark.parametrize(
    ("status", "done", "planned", "end"),
    [
        (Status.RUNNING, 0, 20, 5),
        (Status.RUNNING, 5, 20, 10),
        (Status.RUNNING, 12, 20, 20),
        (Status.RUNNING, 12, 15, 15),
        (Status.FINISHED, 7, 20, 7),
        (Status.FAILED, 7, 20, 8),  # in the middle of its eighth
    ],
)
def test_the_axis_of_a_run_at_work_grows_in_wide_steps_and_no_further_than_planned(
    status: Status, done: int, planned: int, end: int
) -> None:
    steps = np.arange(1, done + 1)
    lines = {"val_loss": figures.Line(steps, np.ones(done), np.ones(done))} if done else {}
    begun = done + (status is not Status.FINISHED)
    assert curves_view.end_of_axis(status, planned, begun, [lines]) == end


def test_recipes_are_told_apart_by_what_they_start_from_and_called_after_their_networks() -> None:
    tables = launch.recipe_tables()
    assert list(tables) == ["From ImageNet weights", "From random weights"]
    assert sum(map(len, tables.values())) == len(recipes.names())
    assert "Plain CNN" in set(tables["From random weights"]["Recipe"])
    for table in tables.values():
        assert (table["What it is for"].str.len() > 20).all()
