"""The benchmarks' harness: what it makes of numbers, and that cases run. No time is asserted."""

import json
import math
import re
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import growth, harness, twins
from benchmarks.__main__ import CASES
from benchmarks.harness import Case, Figure, MissingError, Result, Setting
from benchmarks.kept import Kept, RefusedError
from cxr_core.data import likeness


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


def lacking(setting: Setting) -> list[Figure]:
    raise MissingError("there is no peer")


def broken(setting: Setting) -> list[Figure]:
    raise RuntimeError("the server gave up")


def interrupted(setting: Setting) -> list[Figure]:
    raise KeyboardInterrupt


def case(name: str, value: float = 1.5, run: object = None, **more: object) -> Case:
    def measured(setting: Setting) -> list[Figure]:
        return [Figure("rate", value, "times", (1.0, 2.0), least=2)]

    return Case(name, f"Of {name}.", run or measured, **more)


def test_what_a_machine_lacks_is_said_and_the_others_go_on():
    results = list(harness.run([case("first", run=lacking), case("second")], Setting()))
    assert "there is no peer" in harness.told(results[0])
    assert "rate: 1.50 times (1.00 to 2.00); bar at least 2.00, MISSED" in harness.told(results[1])
    summary = harness.summed_up(results)
    assert "of 1 bars 0 held" in summary
    assert "missed: second: rate: 1.50 times, bar at least 2.00" in summary
    assert "left out: first: there is no peer" in summary


def test_a_case_that_breaks_off_takes_no_other_with_it():
    results = list(harness.run([case("first", run=broken), case("second")], Setting()))
    assert "BROKE OFF: RuntimeError: the server gave up" in harness.told(results[0])
    assert "broke off: first: RuntimeError: the server gave up" in harness.summed_up(results)
    assert results[1].figures


def test_the_smallest_size_holds_nothing_against_a_bar():
    (result,) = harness.run([case("one")], Setting("smallest"))
    assert result.figures[0].held is None


# ---- what is kept ----


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "results", "now", "full")


def add(kept: Kept, *cases: Case, among: list[Case] | None = None) -> list[str]:
    said = [kept.add(result, among or list(cases)) for result in harness.run(cases, Setting())]
    return [words for each in said for words in each]


def test_results_are_kept_for_programs_and_as_a_page(kept: Kept):
    add(kept, case("first", run=lacking), case("second"), case("third", run=broken))
    page = kept.page.read_text(encoding="utf-8")
    assert "Left out: there is no peer" in page
    assert "| rate | 1.50 times | 1.00 to 2.00 | at least 2.00 | **missed** |" in page
    assert "Broke off: RuntimeError: the server gave up" in page
    read = json.loads(kept.data.read_text(encoding="utf-8"))
    assert [each["missing"] for each in read["cases"]] == ["there is no peer", "", ""]
    assert read["cases"][1]["figures"][0]["value"] == 1.5
    assert read["cases"][1]["machine"]["cores"] >= 1
    assert kept.read()[1].figures == [Figure("rate", 1.5, "times", (1.0, 2.0), least=2)]


def test_an_interrupted_run_keeps_what_it_measured(kept: Kept):
    with pytest.raises(KeyboardInterrupt):
        add(kept, case("first"), case("second", run=interrupted), case("third"))
    assert [result.name for result in kept.read()] == ["first"]
    assert "## first" in kept.page.read_text(encoding="utf-8")


def test_a_run_of_single_cases_replaces_just_these_in_their_order(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
):
    cases = [case("first"), case("second"), case("third")]
    monkeypatch.setattr(harness, "machine", lambda: {"date": "Monday", "load": 0, "cores": 2})
    add(kept, cases[2], cases[0], among=cases)
    monkeypatch.setattr(harness, "machine", lambda: {"date": "Friday", "load": 5, "cores": 2})
    add(kept, case("first", 3.0), cases[1], among=cases)
    found = kept.read()
    assert [(each.name, each.figures[0].value) for each in found] == [
        ("first", 3.0),
        ("second", 1.5),
        ("third", 1.5),
    ]
    assert [each.machine["date"] for each in found] == ["Friday", "Friday", "Monday"]
    page = kept.page.read_text(encoding="utf-8")
    assert "cores 2." in page.split("##")[0]  # true of all
    assert re.findall(r"date (\w+), load (\d)", page) == [
        ("Friday", "5"),
        ("Friday", "5"),
        ("Monday", "0"),
    ]


@pytest.mark.parametrize("later", [lacking, broken])
def test_what_is_left_out_later_takes_no_figures_away(kept: Kept, later: object):
    add(kept, case("one"))
    add(kept, case("one", run=later))
    (result,) = kept.read()
    assert (result.missing, result.fault, len(result.figures)) == ("", "", 1)


def test_sizes_do_not_mix_and_what_is_no_result_is_not_overwritten(kept: Kept):
    add(kept, case("one"))
    with pytest.raises(RefusedError, match="size full, which do not mix with quick"):
        Kept(kept.folder, kept.name, "quick").read()
    kept.data.write_text('{"size": "full"}', encoding="utf-8")
    with pytest.raises(RefusedError, match="another --out"):
        kept.read()


def test_a_picture_stands_beside_the_page_and_where_none_can_be_drawn_that_is_said(kept: Kept):
    assert add(kept, case("one", picture=lambda figures: f"<svg>{len(figures)}</svg>")) == []
    assert (kept.folder / "now-one.svg").read_text(encoding="utf-8") == "<svg>1</svg>"
    assert "![Of one.](now-one.svg)" in kept.page.read_text(encoding="utf-8")

    def undrawn(figures: object) -> str:
        raise MissingError("there is no browser")

    assert add(kept, case("one", picture=undrawn)) == ["no picture of one: there is no browser"]
    assert not (kept.folder / "now-one.svg").exists()
    assert "![" not in kept.page.read_text(encoding="utf-8")


def test_the_chart_of_growth_has_a_line_a_work_for_time_and_for_memory():
    work = growth.Work("audit", lambda size: {})
    points = [growth.Point(size, size / 100, 300 + size / 50) for size in (100, 1_000, 10_000)]
    figures = growth._figures(work, points)
    assert (figures[-1].value, figures[-1].held) == (pytest.approx(1), True)
    times, memory, linear = growth.chart(figures).data
    assert (times.name, times.x, times.y) == ("audit", (100, 1_000, 10_000), (1, 10, 100))
    assert memory.y == (302, 320, 500)
    assert linear.y == (1, 100)


def result_of(name: str, setting: Setting) -> Result:
    (result,) = harness.run([case for case in CASES if case.name == name], setting)
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
    monkeypatch.setattr(sys, "argv", ["benchmarks", "evaluation", "--quick", "--out", "now"])
    with pytest.raises(SystemExit):
        command.main()
    assert "results of size smallest" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["benchmarks", "no_such"])
    with pytest.raises(SystemExit):
        command.main()
    assert "there is no case no_such" in capsys.readouterr().err


def test_a_run_with_a_case_that_broke_off_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(command, "CASES", (case("first", run=broken), case("second")))
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    with pytest.raises(SystemExit, match="1"):
        command.main()
    assert "second: Of second." in capsys.readouterr().out


def test_the_tree_that_twins_are_measured_against_finds_the_same(tmp_path: Path):
    path = str(tmp_path / "thumbnails.npy")
    twins.write_thumbnails(path, 601)
    found = twins.ours(path)["pairs"]
    assert [view for _, _, view in found] == list(likeness.VIEWS)
    assert found == twins.with_a_tree(path)["pairs"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["scan", "monitor", "evaluation", "diagnose", "score"],
)
def test_a_case_runs_at_its_smallest(name: str, phantoms: Path):
    result = result_of(name, Setting("smallest", phantoms))
    assert result.missing == result.fault == ""
    assert result.figures
    assert all(math.isfinite(figure.value) for figure in result.figures)
    assert sum(figure.value for figure in result.figures if figure.unit == "faults") == 0


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", ["gate", "label_suspects"])
def test_a_case_of_real_films_runs_at_its_smallest(name: str, real_data: Path):
    result = result_of(name, Setting("smallest", real_data / "kermany"))
    assert result.missing == result.fault == ""
    assert all(math.isfinite(figure.value) for figure in result.figures)
