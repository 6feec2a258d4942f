"""Checks on single films: unreadable, or unlike the rest in size, exposure or posture."""

from collections.abc import Iterator

import numpy as np

from cxr_core.data.audit.findings import Finding, Severity, are, check, films
from cxr_core.data.audit.subject import Subject

# Tukey's outer fences: what lies further than 3 interquartile ranges outside the middle half. The
# least width keeps a set of nearly equal films from having its ordinary ones called odd.
_FENCE = 3.0
_LEAST_SIZE, _LEAST_EXPOSURE, _LEAST_FRAME = float(np.log(1.25)), 10.0, 0.1
_BLANK = 5.0  # gray levels of standard deviation; a film has tens
_FEW = 20  # films; of fewer the quartiles say little


@check("Looking for files that cannot be read")
def unreadable(subject: Subject) -> Iterator[Finding]:
    """List the files the scan could not read."""
    frame = subject.catalog.frame
    lost = frame[~frame["readable"]]
    if len(lost):
        yield Finding(
            kind="unreadable",
            title="Files that cannot be read",
            severity="medium",
            count=len(lost),
            paths=tuple(lost["path"]),
            sentence=f"{len(lost):,} of {len(frame):,} files cannot be read and are not used.",
            advice="Export them again as PNG, JPEG or DICOM, or remove them.",
            details={"errors": dict(zip(lost["path"], lost["error"], strict=True))},
        )


@check("Looking for films of an odd size")
def odd_size(subject: Subject) -> Iterator[Finding]:
    """Find films much smaller, larger, wider or taller than the rest."""
    size = subject.films
    area = np.log((size["width"] * size["height"]).to_numpy())
    shape = np.log((size["width"] / size["height"]).to_numpy())
    away = np.maximum(_outside(area, 2 * _LEAST_SIZE), _outside(shape, _LEAST_SIZE))
    middle = f"{int(size['width'].median()):,} × {int(size['height'].median()):,} px"
    yield from _odd(
        subject,
        away,
        kind="odd_size",
        title="Films of an odd size or shape",
        severity="low",
        what=f"much smaller, larger, wider or taller than the rest (median {middle})",
        advice="Look at them: a narrow strip, a photograph or a thumbnail is no film of this set.",
    )


@check("Looking for films of an odd exposure")
def odd_exposure(subject: Subject) -> Iterator[Finding]:
    """Find films much darker, brighter, flatter or harder than the rest, and blank ones."""
    mean, std = subject.films["mean"], subject.films["std"]
    blank = std < _BLANK
    if blank.any():
        yield Finding(
            kind="blank",
            title="Blank films",
            severity="medium",
            count=int(blank.sum()),
            paths=tuple(subject.films.loc[blank, "path"]),
            sentence=f"{films(int(blank.sum()))} {are(int(blank.sum()))} of one gray: there is "
            "nothing to see.",
            advice="Exclude them.",
        )
    away = np.maximum(
        _outside(mean.to_numpy(), _LEAST_EXPOSURE), _outside(std.to_numpy(), _LEAST_EXPOSURE)
    )
    yield from _odd(
        subject,
        np.where(blank, 0, away),
        kind="odd_exposure",
        title="Films of an odd exposure",
        severity="low",
        what=f"much darker, brighter, flatter or harder than the rest (median gray level "
        f"{mean.median():.0f}, spread {std.median():.0f})",
        advice="Look at them: what is burnt out or black cannot be mended; exclude it.",
    )


@check("Looking for inverted, turned and cropped films")
def odd_posture(subject: Subject) -> Iterator[Finding]:
    """Find films that look, by what the rest of the set looks like, turned, inverted or cut."""
    lies = subject.postures
    turned = np.char.startswith(lies.view, "rotated")
    cut = np.char.startswith(lies.view, "cut")
    framed = _outside(lies.frame, _LEAST_FRAME) * (lies.frame >= _LEAST_FRAME)
    for kind, title, chosen, severity, what, advice in (
        (
            "inverted",
            "Inverted films",
            lies.view == "inverted",
            "medium",
            "black where the rest of the set is white",
            "Look at them, invert them in a copy, or exclude them.",
        ),
        (
            "rotated",
            "Rotated films",
            turned,
            "medium",
            "turned against the rest of the set",
            "Look at them, turn them upright in a copy, or exclude them.",
        ),
        (
            "mirrored",
            "Films that may be mirrored",
            lies.view == "mirrored",
            "low",
            "more like the mirror image of the rest of the set: mirrored, or a displaced heart",
            "Look at the side marker and the heart; mirror back in a copy or keep what is real.",
        ),
        (
            "cropped",
            "Films that show only a part",
            cut,
            "low",
            "more like a part of the other films than like a whole one",
            "Look at them: where half of a lung is missing, exclude the film.",
        ),
    ):
        yield from _odd(
            subject,
            np.where(chosen, lies.margin, 0),
            kind=kind,
            title=title,
            severity="medium" if severity == "medium" else "low",
            what=what,
            advice=advice,
            details={"view": dict(_by_path(subject, lies.view, chosen))},
        )
    yield from _odd(
        subject,
        framed,
        kind="framed",
        title="Films with a wide frame",
        severity="low",
        what="set in a wide frame of one gray, unlike the rest",
        advice="Crop the frame off in a copy, or exclude them: a network learns who frames films.",
        details={"frame": dict(_by_path(subject, lies.frame.round(3), framed > 0))},
    )


def _outside(values: np.ndarray, least: float) -> np.ndarray:
    """Return how many interquartile ranges each value lies beyond its outer fence; 0 inside."""
    if len(values) < _FEW:
        return np.zeros(len(values))
    low, high = np.quantile(values, [0.25, 0.75])
    spread = max(high - low, least)
    beyond = np.maximum(low - values, values - high) / spread - _FENCE
    return np.clip(beyond, 0, None)


def _odd(
    subject: Subject,
    away: np.ndarray,
    *,
    kind: str,
    title: str,
    severity: Severity,
    what: str,
    advice: str,
    details: dict[str, object] | None = None,
) -> Iterator[Finding]:
    """Yield the finding of the films with ``away`` > 0, the farthest first."""
    order = np.argsort(-away, kind="stable")
    chosen = order[away[order] > 0]
    if len(chosen):
        yield Finding(
            kind=kind,
            title=title,
            severity=severity,
            count=len(chosen),
            paths=tuple(subject.films["path"].iloc[chosen]),
            sentence=f"{films(len(chosen))} {are(len(chosen))} {what}.",
            advice=advice,
            details=details or {},
        )


def _by_path(
    subject: Subject, values: np.ndarray, chosen: np.ndarray
) -> Iterator[tuple[str, object]]:
    return zip(subject.films["path"][chosen], values[chosen].tolist(), strict=True)
