"""Checks for patients: known or not, and on one side of the division or not."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from cxr_core.data.audit.findings import Finding, are, check, films
from cxr_core.data.audit.subject import Subject
from cxr_core.data.splits import PARTS, on_several_sides


@check("Looking for patients in several parts")
def patients_across_splits(subject: Subject) -> Iterator[Finding]:
    """Find patients with films in more than one of train, val and test."""
    shared = on_several_sides(subject.films, "patient_id")
    if not shared:
        return
    concerned = subject.films[subject.films["patient_id"].isin(shared)]
    known = int(subject.films.loc[subject.films["patient_id"] != "", "patient_id"].nunique())
    yield Finding(
        kind="patients_across_splits",
        title="Patients on both sides of the division",
        severity="high",
        count=len(shared),
        paths=tuple(concerned.sort_values(["patient_id", "split"])["path"]),
        sentence=f"{len(shared):,} of {known:,} patients "
        f"({films(len(concerned))}) {are(len(shared))} in more than one of train, "
        "val and test: the model can recognise the person in place of the disease, and "
        "its test looks better than it is.",
        advice="Cut the set anew by patient (data.split: recut).",
        details={"matrix": matrix(subject.films), "patients": shared},
    )


@check("Looking at how patients are known")
def patients_unknown(subject: Subject) -> Iterator[Finding]:
    """Say where patients are not known, since a leak cannot be ruled out there."""
    unknown = subject.films[subject.films["patient_id"] == ""]
    if unknown.empty:
        return
    yield Finding(
        kind="patients_unknown",
        title="Patients are not known",
        severity="medium" if len(unknown) == len(subject.films) else "low",
        count=len(unknown),
        paths=tuple(unknown["path"]),
        sentence=f"The patient of {films(len(unknown))} is not known, so films of one "
        "person may stand on both sides of a division.",
        advice="Give the patient in a column patient_id of metadata.csv, or as a pattern of the "
        "file names.",
    )


def matrix(frame: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return, for each pair of parts, how many patients have films in both; the diagonal: in one.

    Args:
        frame: ``patient_id`` and ``split`` a film; unknown patients and films in no part are left
            out.
    """
    known = frame[(frame["patient_id"] != "") & frame["split"].isin(PARTS)]
    of_part = {part: set(known.loc[known["split"] == part, "patient_id"]) for part in PARTS}
    present = [part for part in PARTS if of_part[part]]
    return {a: {b: len(of_part[a] & of_part[b]) for b in present} for a in present}


def summary(subject: Subject) -> dict[str, Any]:
    """Return how many patients are known, and how many are in several parts."""
    known = subject.films.loc[subject.films["patient_id"] != "", "patient_id"]
    return {
        "known": int(known.nunique()),
        "in_several_splits": len(on_several_sides(subject.films, "patient_id")),
    }
