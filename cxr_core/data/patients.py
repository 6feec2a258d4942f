"""From a film's file name to its patient: the rules of well-known sets, or a user's own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from cxr_core.errors import DatasetError

UNKNOWN = "unknown: every film counts as a patient of its own"
COLUMN = "the patient_id column of metadata.csv"
GREAT_MAJORITY = 0.9  # share of the file names that a well-known set's rule must match


@dataclass(frozen=True)
class PatientRule:
    """One way to tell the patient from a film's path; group 1 of the pattern is the patient."""

    words: str  # as shown to people
    pattern: re.Pattern[str]  # searched in the path relative to the set's root
    sign: re.Pattern[str] | None = None  # what at least one path must hold for the rule to count

    def patient(self, path: str) -> str:
        """Return the patient of one film, "" where the rule does not match its path."""
        match = self.pattern.search(path)
        return (match[1] or "").strip() if match else ""


# Kermany, Zhang, Goldbaum 2018, doi 10.17632/rscbjbr9sj.2. Viewers export films of any origin as
# IM-0001-0001 too, so these names count only beside a person123_bacteria_4 or _virus_4.
GUANGZHOU = PatientRule(
    "Guangzhou file names: number and type together are a child (person1234_bacteria), IM-0115 "
    "and NORMAL2-IM-0115 are two series of their own",
    re.compile(
        r"(?:^|/)(person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)[-_][^/]*$", re.IGNORECASE
    ),
    sign=re.compile(r"(?:^|/)person\d+_(?:bacteria|virus)_\d+[^/]*$", re.IGNORECASE),
)
# Wang et al. 2017, doi 10.1109/CVPR.2017.369: eight digits a patient, three a follow-up.
NIH = PatientRule(
    "NIH ChestX-ray14 file names: the eight digits before the follow-up number (00000001_000)",
    re.compile(r"(?:^|/)(\d{8})_\d{3}(?:\.[^/]*)?$"),
)
# Jaeger et al. 2014, doi 10.3978/j.issn.2223-4292.2014.11.20: one film a patient.
SHENZHEN_MONTGOMERY = PatientRule(
    "Shenzhen and Montgomery file names: the number before the finding (CHNCXR_0001_0), one film "
    "a patient",
    re.compile(r"(?:^|/)((?:CHN|MCU)CXR_\d+)_[01](?:\.[^/]*)?$", re.IGNORECASE),
)
WELL_KNOWN = (GUANGZHOU, NIH, SHENZHEN_MONTGOMERY)


def recognise(paths: Sequence[str]) -> PatientRule | None:
    """Return the well-known set's rule that matches at least 90 % of the paths, or None."""
    for rule in WELL_KNOWN:
        matched = sum(bool(rule.patient(path)) for path in paths)
        if matched and matched >= GREAT_MAJORITY * len(paths):
            sign = rule.sign
            if sign is None or any(sign.search(path) for path in paths):
                return rule
    return None


def from_expression(expression: str) -> PatientRule:
    """Return the rule of a user's regular expression, searched in the path; group 1 is the patient.

    Raises:
        DatasetError: the expression is malformed or has no group.
    """
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise DatasetError(
            f"The patient pattern '{expression}' is not a regular expression: {error}. "
            r"A working one is ^[^/]*/(\d+)_, which takes the digits before the first '_'."
        ) from error
    if not pattern.groups:
        raise DatasetError(
            f"The patient pattern '{expression}' has no group. Put the part of the path that names "
            r"the patient into parentheses, such as (\d+)_."
        )
    return PatientRule(f"your pattern {expression}", pattern)


def identify(
    paths: Sequence[str], column: Sequence[str] | None = None, expression: str = ""
) -> tuple[list[str], str]:
    """Return each film's patient ("" where unknown) and the rule used, in words.

    A user's expression comes first, then the set's own column, then the names of well-known sets.

    Raises:
        DatasetError: the expression is malformed, has no group or matches no path.
    """
    if expression:
        rule = from_expression(expression)
        found = [rule.patient(path) for path in paths]
        matched = sum(map(bool, found))
        if not matched:
            raise DatasetError(
                f"The patient pattern '{expression}' matches none of the {len(paths):,} files, "
                f"such as '{paths[0]}'. It is searched in the path below the set's folder."
            )
        return found, f"{rule.words} (matches {matched:,} of {len(paths):,} files)"
    if column is not None and any(column):
        return list(column), COLUMN
    known = recognise(paths)
    if known is None:
        return [""] * len(paths), UNKNOWN
    return [known.patient(path) for path in paths], known.words


def examples(frame: pd.DataFrame, count: int = 5) -> list[tuple[str, str]]:
    """Return up to ``count`` pairs (file name, patient) spread evenly over a catalog's frame."""
    known = frame.loc[frame["patient_id"] != "", ["path", "patient_id"]].sort_values("path")
    picks = np.unique(np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int))
    return [
        (PurePosixPath(path).name, patient)
        for path, patient in known.iloc[picks].itertuples(index=False, name=None)
    ]
