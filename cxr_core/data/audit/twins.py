"""Checks for films that stand in a set more than once."""

from collections.abc import Hashable, Iterator

import numpy as np
import pandas as pd

from cxr_core.data.audit.findings import Finding, check, films, listed
from cxr_core.data.audit.subject import Subject
from cxr_core.data.twins import members


@check("Looking for films that are there twice")
def exact_twins(subject: Subject) -> Iterator[Finding]:
    """Find films of equal pixels, however they were named or stored."""
    found = members(subject.twins.exact)
    if found:
        paths = _paths(subject, found)
        yield Finding(
            kind="exact_twins",
            title="Films that are there more than once",
            severity="medium",
            count=len(found),
            paths=paths,
            sentence=f"{len(found):,} {_groups(len(found))} of films ({films(len(paths))}) have "
            "exactly the same pixels.",
            advice="Exclude all but one of each group: copies weigh twice in training and make a "
            "test look better than it is.",
            details={"groups": _grouped(subject, found)},
        )


@check("Looking for films that are nearly the same")
def near_twins(subject: Subject) -> Iterator[Finding]:
    """Find one picture in several versions: resized, compressed, brightened, turned, inverted."""
    found = near_groups(subject)
    if found:
        paths = _paths(subject, found)
        views = sorted(set(subject.twins.near["view"]) - {""})
        yield Finding(
            kind="near_twins",
            title="Films that are nearly the same",
            severity="medium",
            count=len(found),
            paths=paths,
            sentence=f"{len(found):,} {_groups(len(found))} of films ({films(len(paths))}) show "
            "one picture in different versions"
            + (f", some of them {listed(views)}." if views else "."),
            advice="Look at each group and keep the best version: the others are copies to a "
            "network.",
            details={"groups": _grouped(subject, found), "pairs": _pairs(subject)},
        )


@check("Looking for twins under different labels")
def twins_across_labels(subject: Subject) -> Iterator[Finding]:
    """Find one picture, exact or near, under two labels: one of them is wrong."""
    found = [g for g in members(subject.twins.alike) if len(_labels(subject, g)) > 1]
    if found:
        paths = _paths(subject, found)
        combinations = pd.Series([" / ".join(_labels(subject, g)) for g in found]).value_counts()
        exact = sum(len(_labels(subject, g)) > 1 for g in members(subject.twins.exact))
        told = [f"{number:,} as {labels}" for labels, number in combinations.items()]
        yield Finding(
            kind="twins_across_labels",
            title="The same film under different labels",
            severity="high",
            count=len(found),
            paths=paths,
            sentence=f"{len(found):,} {_groups(len(found))} of twins ({films(len(paths))}, "
            f"{exact:,} groups with exactly the same pixels) stand under different labels: "
            f"{listed(told)}.",
            advice="At least one label of each is wrong. Find the right one, or exclude the whole "
            "group.",
            details={
                "groups": _grouped(subject, found),
                "labels": {str(labels): int(n) for labels, n in combinations.items()},
            },
        )


@check("Looking for twins across parts")
def twins_across_splits(subject: Subject) -> Iterator[Finding]:
    """Find one picture, exact or near, in two of train, val and test."""
    found = [g for g in members(subject.twins.alike) if len(_parts(subject, g)) > 1]
    if found:
        paths = _paths(subject, found)
        yield Finding(
            kind="twins_across_splits",
            title="The same film on both sides of the division",
            severity="high",
            count=len(found),
            paths=paths,
            sentence=f"{len(found):,} {_groups(len(found))} of twins ({films(len(paths))}) stand "
            "in more than one of train, val and test: the model is tested on films it has seen.",
            advice="Cut the set anew (data.split: recut); twins then stay on one side. Or exclude "
            "the copies.",
            details={"groups": _grouped(subject, found)},
        )


def near_groups(subject: Subject) -> list[np.ndarray]:
    """Return the groups of twins that are not all equal to the pixel."""
    return [g for g in members(subject.twins.alike) if len(np.unique(subject.twins.exact[g])) > 1]


def across_labels(subject: Subject) -> int:
    """Return how many groups of exact twins stand under several labels."""
    return sum(len(_labels(subject, g)) > 1 for g in members(subject.twins.exact))


def across_splits(subject: Subject) -> int:
    """Return how many groups of exact twins stand in several parts."""
    return sum(len(_parts(subject, g)) > 1 for g in members(subject.twins.exact))


def _labels(subject: Subject, group: np.ndarray) -> list[str]:
    return sorted(set(subject.films["label"].iloc[group]) - {""})


def _parts(subject: Subject, group: np.ndarray) -> list[str]:
    return sorted(set(subject.films["split"].iloc[group]) - {""})


def _paths(subject: Subject, found: list[np.ndarray]) -> tuple[str, ...]:
    return tuple(subject.films["path"].iloc[np.concatenate(found)])


def _grouped(subject: Subject, found: list[np.ndarray]) -> list[list[str]]:
    return [list(subject.films["path"].iloc[group]) for group in found]


def _pairs(subject: Subject) -> list[dict[Hashable, object]]:
    near, paths = subject.twins.near, subject.films["path"].to_numpy(dtype=object)
    table = pd.DataFrame(
        {
            "first": paths[near["first"]],
            "second": paths[near["second"]],
            "view": near["view"],
            "correlation": near["correlation"].round(4),
        }
    )
    return table.to_dict("records")


def _groups(number: int) -> str:
    return "groups" if number != 1 else "group"
