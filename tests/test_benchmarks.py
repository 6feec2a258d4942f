"""The benchmarks' harness: what it makes of numbers, and that a case runs. No time is asserted."""

import json

import pytest

from benchmarks import harness
from benchmarks.__main__ import CASES
from benchmarks.harness import Case, Figure, MissingError, Setting


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


@pytest.mark.slow
def test_a_case_runs_at_its_smallest():
    case = next(case for case in CASES if case.name == "diagnose")
    (result,) = harness.run([case], Setting("smallest"), lambda words: None)
    assert result.figures
    assert all(figure.value > 0 for figure in result.figures)
