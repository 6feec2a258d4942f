"""What is wrong with a set: twins, leaks, odd films, shortcuts, wrong labels; each with its mend.

A check is a function registered by :func:`findings.check`; all give the same :class:`Finding`.
Nothing is changed by an audit: what to leave out is kept by :mod:`cxr_core.data.exclusions`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

# Importing a module registers its checks; this is the order they run in.
from cxr_core.data.audit import films, labels, patients, shortcuts, twins
from cxr_core.data.audit.findings import SEVERITIES, Finding, Severity, checks
from cxr_core.data.audit.subject import Subject
from cxr_core.data.catalog import Catalog
from cxr_core.data.splits import Split
from cxr_core.data.twins import members

__all__ = ["SEVERITIES", "Audit", "Finding", "Severity", "audit"]

UNSPLIT, UNLABELLED = "unsplit", "unlabelled"  # what films without a part or a label count as
_FAMILIES = (films, twins, patients, shortcuts, labels)


@dataclass(frozen=True, eq=False)
class Audit:
    """All that was found, and the figures behind it."""

    findings: tuple[Finding, ...]  # the most severe first
    summary: dict[str, Any]  # plain values; see :func:`audit`


def audit(
    catalog: Catalog,
    *,
    split: Split | None = None,
    predictions: pd.DataFrame | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Audit:
    """Look for everything that makes a result on this set worth less than it seems.

    Args:
        catalog: the set.
        split: a division to look at in place of the published one.
        predictions: for the check of labels: ``path`` and a column of probabilities a class, each
            film predicted by a model that did not learn from it.
        progress: called with (what is looked for, checks done, checks in all).

    Returns:
        The findings, and as ``summary``: ``images``, ``unreadable`` (paths), ``counts`` {split:
        {label: n}} of the readable films, ``duplicates`` {``groups``, ``cross_label``,
        ``cross_split``} counting groups of films with equal pixels, ``near_duplicates`` (groups of
        one picture in different versions), ``patients`` {``known``, ``in_several_splits``},
        ``shortcuts`` {feature: AUROC}.

    Raises:
        DatasetError: a film changed since the scan, or the predictions do not fit the set.
    """
    tell = progress or (lambda step, done, total: None)
    subject = Subject.of(catalog, split, predictions)
    found: list[Finding] = []
    steps = list(checks())
    with threadpool_limits(1):  # matrices this small only wait for each other's threads
        for done, (step, look) in enumerate(steps):
            tell(step, done, len(steps))
            found += look(subject)
        summary = _summary(subject)
    tell("Done", len(steps), len(steps))
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Audit(tuple(found), summary)


def _summary(subject: Subject) -> dict[str, Any]:
    frame = subject.catalog.frame
    counts = pd.crosstab(
        subject.films["split"].replace("", UNSPLIT), subject.films["label"].replace("", UNLABELLED)
    )
    return {
        "images": len(frame),
        "unreadable": list(frame.loc[~frame["readable"], "path"]),
        "counts": {
            part: {label: int(n) for label, n in row.items() if n}
            for part, row in counts.iterrows()
        },
        "duplicates": {
            "groups": len(members(subject.twins.exact)),
            "cross_label": twins.across_labels(subject),
            "cross_split": twins.across_splits(subject),
        },
        "near_duplicates": len(twins.near_groups(subject)),
        "patients": patients.summary(subject),
        "shortcuts": {found.feature: round(found.auroc, 4) for found in subject.shortcuts},
    }
