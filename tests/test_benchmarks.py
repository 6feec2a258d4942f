"""The benchmarks' harness: what it makes of numbers, and that cases run. No time is asserted."""

import json
import math
import re
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import harness
from benchmarks.__main__ import CASES
from benchmarks.harness import Case, Figure, MissingError, Result, Setting


def test_a_ratio_is_taken_round_by_round():
    found = harness.ratio("as fast", [2.0, 30.0, 4.0], [1.0, 10.0, 1.0], least=2.5)
    assert (found.value, found.spread, found.held) == (3.0, (2.0, 4.0), True)
    assert harness.ratio("as fast", [2.0], [1.0], most=1.5).held is False
    assert harness.median("taken", [1.0, 5.0, 2.0], "s").held is None


def test_sides_take_turns_and_neither_is_always_first():
    order = []

    def side(name: str):
        def measured() -> float:
            order.append(name)
            return float(len(order))

        return measured

    found = harness.by_turns({"mine": side("mine"), "theirs": side("theirs")}, 2)
    assert order == ["mine", "theirs", "theirs", "mine"]
    assert found == {"mine": [1.0, 4.0], "theirs": [2.0, 3.0]}


def test_the_first_calls_are_not_counted():
    calls = []
    taken = harness.seconds(lambda: calls.append(1), times=3, warm_up=2)
    assert (len(calls), len(taken)) == (5, 3)


def test_a_process_tells_its_own_peak_and_a_failed_one_why():
    found = harness.process("import sys\n_found = {'said': sys.argv[1]}", "word")
    assert found["said"] == "word"
    assert found["peak_mib"] > 1
    with pytest.raises(RuntimeError, match="no such name"):
        harness.process("raise NameError('no such name')")


def test_what_a_machine_lacks_is_said_and_the_others_go_on():
    def lacking(setting: Setting) -> list[Figure]:
        raise MissingError("there is no peer")

    cases = [
        Case("first", "Of one.", lacking),
        Case("second", "Of two.", lambda _: [Figure("rate", 1.5, "times", (1.0, 2.0), least=2)]),
    ]
    told: list[str] = []
    results = harness.run(cases, Setting(), told.append)
    assert "there is no peer" in told[0]
    assert "rate: 1.50 times (1.00 to 2.00); bar at least 2.00, MISSED" in told[1]
    page = harness.as_markdown(results, harness.machine(), "full")
    assert "Left out: there is no peer" in page
    assert "| rate | 1.50 times | 1.00 to 2.00 | at least 2.00 | **missed** |" in page
    read = json.loads(harness.as_json(results, harness.machine(), "full"))
    assert [case["missing"] for case in read["cases"]] == ["there is no peer", ""]
    assert read["cases"][1]["figures"][0]["value"] == 1.5
    assert read["machine"]["cores"] >= 1


def test_the_smallest_size_holds_nothing_against_a_bar():
    case = Case("one", "Of one.", lambda _: [Figure("rate", 1.5, "times", least=2)])
    (result,) = harness.run([case], Setting("smallest"), lambda words: None)
    assert result.figures[0].held is None


def result_of(name: str, setting: Setting) -> Result:
    (case,) = (case for case in CASES if case.name == name)
    (result,) = harness.run([case], setting, lambda words: None)
    return result


def test_a_function_is_called_in_a_process_of_its_own():
    found = harness.call(harness.machine)
    assert found["cores"] >= 1
    assert found["peak_mib"] > 1


def test_every_case_has_a_name_of_its_own_and_a_row_in_the_table():
    page = (harness.REPOSITORY / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [case.name for case in CASES]


@pytest.mark.parametrize("name", ["train", "batches", "scan", "gate", "label_suspects"])
def test_without_films_a_case_is_left_out_and_says_so(name: str, tmp_path: Path):
    result = result_of(name, Setting("quick", tmp_path / "none"))
    assert result.figures == []
    assert f"there is no folder {tmp_path / 'none'}" in result.missing


def test_the_gate_is_asked_about_no_films_but_those_of_its_model(phantoms: Path):
    assert "pneumonia_v1" in result_of("gate", Setting("smallest", phantoms)).missing


@pytest.mark.parametrize("name", ["coverage", "watching"])
def test_what_takes_minutes_is_left_out_of_a_quick_run_and_says_so(name: str):
    assert "minutes" in result_of(name, Setting("quick")).missing


def test_a_case_by_its_name_is_run_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "evaluation", "--smallest", "--out", "now"])
    command.main()
    assert capsys.readouterr().out.startswith("evaluation: ")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["now.json", "now.md"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "no_such"])
    with pytest.raises(SystemExit):
        command.main()
    assert "there is no case no_such" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["scan", "monitor", "evaluation", "diagnose", "score"],
)
def test_a_case_runs_at_its_smallest(name: str, phantoms: Path):
    result = result_of(name, Setting("smallest", phantoms))
    assert result.missing == ""
    assert result.figures
    assert all(math.isfinite(figure.value) for figure in result.figures)
    assert sum(figure.value for figure in result.figures if figure.unit == "faults") == 0


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", ["gate", "label_suspects"])
def test_a_case_of_real_films_runs_at_its_smallest(name: str, real_data: Path):
    result = result_of(name, Setting("smallest", real_data / "kermany"))
    assert result.missing == ""
    assert all(math.isfinite(figure.value) for figure in result.figures)
