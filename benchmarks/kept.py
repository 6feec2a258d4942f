"""Results that are kept: a file for programs and a page for people, filled case by case.

A run that is broken off has kept what it measured until then, and a run of single cases replaces
just these. So each case has its own time and machine.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Case, Figure, MissingError, Result, Size, number

_OWN = ("date", "load")  # of a machine: what is told with each case


class RefusedError(Exception):
    """Results cannot be kept as asked for; the message says why."""


@dataclass(frozen=True)
class Kept:
    """The results of one name and size."""

    folder: Path
    name: str
    size: Size

    @property
    def data(self) -> Path:
        """The file for programs."""
        return self.folder / f"{self.name}.json"

    @property
    def page(self) -> Path:
        """The page for people."""
        return self.folder / f"{self.name}.md"

    def read(self) -> list[Result]:
        """Return what was kept so far.

        Raises:
            RefusedError: there is a file of another size, or none that this version reads.
        """
        if not self.data.is_file():
            return []
        try:
            found = json.loads(self.data.read_text(encoding="utf-8"))
            results, size = [_result(case) for case in found["cases"]], found["size"]
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(
                f"{self.data} holds no results that can be added to ({error}): keep these under "
                "another --out"
            ) from error
        if size != self.size:
            raise RefusedError(
                f"{self.data} holds results of size {size}, which do not mix with {self.size}: "
                "keep these under another --out"
            )
        return results

    def add(self, result: Result, cases: Sequence[Case]) -> list[str]:
        """Put a result in the place of what was kept of its case, in the order of the cases.

        What was left out or broke off takes no figures away that were measured before.

        Returns:
            What is to be told: why there is no picture where one belongs.
        """
        kept = {each.name: each for each in self.read()}
        if result.figures or not kept.get(result.name, result).figures:
            kept[result.name] = result
        order = {case.name: place for place, case in enumerate(cases)}
        results = sorted(kept.values(), key=lambda each: order.get(each.name, len(order)))
        self.folder.mkdir(parents=True, exist_ok=True)
        said = []
        draw = next((case.picture for case in cases if case.name == result.name), None)
        if draw is not None and result.figures:
            self._picture(result.name).unlink(missing_ok=True)
            try:
                _replace(self._picture(result.name), draw(result.figures))
            except MissingError as reason:
                said.append(f"no picture of {result.name}: {reason}")
        described = {"size": self.size, "cases": [asdict(each) for each in results]}
        _replace(self.data, json.dumps(described, indent=2) + "\n")
        _replace(self.page, self._as_markdown(results))
        return said

    def _picture(self, case: str) -> Path:
        return self.folder / f"{self.name}-{case}.svg"

    def _as_markdown(self, results: Sequence[Result]) -> str:
        """Return all results as a page: what all were measured on, then a table a case."""
        shared = {
            fact: value
            for fact, value in results[0].machine.items()
            if fact not in _OWN and all(each.machine.get(fact) == value for each in results)
        }
        parts = [f"# Benchmarks, {self.size}"]
        if shared:
            parts.append(f"{_facts(shared)}.")
        for result in results:
            own = {fact: it for fact, it in result.machine.items() if fact not in shared}
            parts.append(
                f"## {result.name}\n\n{result.words} ({result.seconds:.0f} s; {_facts(own)})"
            )
            if result.missing:
                parts.append(f"Left out: {result.missing}")
            if result.fault:
                parts.append(f"Broke off: {result.fault}")
            if result.figures:
                parts.append(_rows(result.figures))
            picture = self._picture(result.name)
            if result.figures and picture.is_file():
                parts.append(f"![{result.words}]({picture.name})")
        return "\n\n".join(parts) + "\n"


def _rows(figures: Sequence[Figure]) -> str:
    """Return figures as a table with their bars."""
    rows = ["| figure | value | over the rounds | bar | |", "|---|---|---|---|---|"]
    for figure in figures:
        low_high = " to ".join(map(number, figure.spread)) if figure.spread else ""
        held = {True: "held", False: "**missed**", None: ""}[figure.held]
        value = f"{number(figure.value)} {figure.unit}"
        rows.append(f"| {figure.name} | {value} | {low_high} | {figure.bar} | {held} |")
    return "\n".join(rows)


def _facts(described: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in described.items())


def _result(read: dict[str, Any]) -> Result:
    figures = [
        Figure(**{**each, "spread": tuple(each["spread"]) if each["spread"] else None})
        for each in read["figures"]
    ]
    return Result(**{**read, "figures": figures, "machine": dict(read["machine"])})


def _replace(path: Path, text: str) -> None:
    """Write a file so that there is never half of one."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
