"""Values as a card's Markdown wants them: names as plain text, numbers with unit and interval."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cxr_core.evaluation import HEADLINES as NAMES
from cxr_core.evaluation import probes

NOT_REPORTED = "not reported"

_WORDS = {
    "auc": ("AUROC", False),
    "average_precision": ("Average precision", False),
    "sensitivity": ("Sensitivity (any finding)", True),
    "specificity": ("Specificity", True),
    "ppv": ("Positive predictive value", True),
    "npv": ("Negative predictive value", True),
    "f1": ("F1 (any finding)", False),
    "accuracy": ("Accuracy", True),
    "balanced_accuracy": ("Balanced accuracy", True),
    "mcc": ("Matthews correlation", False),
    "log_loss": ("Log loss (nats)", False),
    "brier": ("Brier score", False),
    "ece": ("Expected calibration error", False),
}
# Metrics in the order of the tables: key in an evaluation summary, name, whether a percentage.
HEADLINES = tuple((key, *_WORDS[key]) for key in NAMES)
BY_CLASS = (
    ("auc", "AUROC", False),
    ("average_precision", "Average precision", False),
    ("sensitivity", "Sensitivity", True),
    ("specificity", "Specificity", True),
    ("precision", "Precision", True),
    ("npv", "Negative predictive value", True),
    ("f1", "F1", False),
)

# What Markdown reads as markup somewhere: CommonMark, GitHub's tables and bare links, and the
# formulas, colours and icons of other readers. An underscore inside a word is none.
_MARKUP = re.compile(
    r"[\\`*\[\]<>|~$&@#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=[/A-Za-z+_-])|(?<=[wW]{3})\."
)


def plain(value: object) -> str:
    """Write a name in one line so that Markdown shows it as it is, whatever it holds."""
    text = "".join(sign if sign.isprintable() else " " for sign in str(value))
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def fact(value: object) -> str:
    """Write a value, or that it is not reported."""
    return NOT_REPORTED if value is None else plain(value) or NOT_REPORTED


def listing(names: Iterable[object]) -> str:
    """Write names in a sentence: "a, b and c"."""
    shown = [plain(name) for name in names]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def count(number: int, one: str) -> str:
    """Write a number with its noun: "1 film", "5,232 films"."""
    return f"{number:,} {one if number == 1 else one + 's'}"


def figure(value: float | None, percent: bool = False) -> str:
    """Write a metric with three decimals, or as a percentage with one."""
    if value is None:
        return NOT_REPORTED
    return f"{100 * value:.1f} %" if percent else f"{value:.3f}"


def interval(bounds: Sequence[float | None] | None, percent: bool = False) -> str:
    """Write a 95 % interval: "0.971 to 0.990", "95.9 to 98.2 %"."""
    if not bounds or bounds[0] is None or bounds[1] is None:
        return NOT_REPORTED
    if percent:
        return f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def metric(values: Mapping[str, Any], key: str, percent: bool = False) -> str:
    """Write a metric with its interval in brackets, where there is one."""
    if values.get(key) is None:
        return NOT_REPORTED
    bounds = (values.get("ci95") or {}).get(key)
    spread = f" ({interval(bounds, percent)})" if bounds else ""
    return figure(values[key], percent) + spread


def finding(found: Mapping[str, Any]) -> str:
    """Write what a probe measured, with its unit and interval."""
    if found["value"] is None:
        return NOT_REPORTED
    if found["name"] in probes.CHANGES:
        return probes.fall(found["value"], found["ci95"])
    share = found["unit"] == "share"
    name = "" if share else f"{plain(found['unit'])} "
    spread = f" ({interval(found['ci95'], share)})" if found["ci95"] else ""
    return f"{name}{figure(found['value'], share)}{spread}"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = False) -> str:
    """Write a table; the first column runs left, the others right where they are numbers."""
    rule = ["---"] + ["---:" if numbers else "---"] * (len(heads) - 1)
    return "\n".join(
        "| " + " | ".join(str(cell) for cell in line) + " |" for line in (heads, rule, *rows)
    )
