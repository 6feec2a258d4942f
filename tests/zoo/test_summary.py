"""The layer table: what a page shows of a network before it is trained."""

import json
import subprocess
import sys

import pytest

from cxr_core.zoo import registry, summary


def test_it_is_printed_as_json_by_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "cxr_core.zoo.summary", "plain_cnn"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    described = json.loads(printed)
    entry = registry.get("plain_cnn")
    assert described["size"] == entry.default_size
    assert described["parameters"] == entry.parameters
    assert described["cam_grid"] == 56
    rows = described["layers"]
    assert sum(row["parameters"] for row in rows) == entry.parameters
    conv = next(row for row in rows if row["layer"] == "block1_conv")
    assert conv == {
        "layer": "block1_conv",
        "kind": "Conv2D",
        "shape": [224, 224, 32],
        "parameters": 288,
        "part": "body",
    }
    assert rows[-1]["part"] == "head"
    assert described["head_parameters"] == sum(
        row["parameters"] for row in rows if row["part"] == "head"
    )


def test_the_options_are_those_of_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plain_cnn", "--size", "32", "--outputs", "3", "--head", "flatten_mlp"]
    assert summary.main([*asked, "--coordinates"]) == 0
    described = json.loads(capsys.readouterr().out)
    names = [row["layer"] for row in described["layers"]]
    assert {"coordinates", "dense1", "dense2"} <= set(names)
    assert described["layers"][-1]["shape"] == [3]


@pytest.mark.parametrize(
    ("asked", "said"),
    [(["alexnet"], "there is no network 'alexnet'"), (["resnet50", "--size", "32"], "at least 64")],
)
def test_bad_input_ends_with_status_two_and_a_sentence(
    asked: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summary.main(asked) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
