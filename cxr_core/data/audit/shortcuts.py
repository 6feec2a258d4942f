"""Checks for shortcuts: what is no anatomy and yet gives the answer away."""

from collections.abc import Iterator

from cxr_core.data.audit.findings import Finding, Severity, check
from cxr_core.data.audit.subject import Subject

# From which AUROC on a shortcut has which severity. Exposure comes one step later: a disease that
# whitens the lungs changes it too.
_LEVELS: tuple[tuple[float, Severity], ...] = ((0.8, "high"), (0.7, "medium"), (0.6, "low"))
_EXPOSURE_LATER = 0.1

WORDS = {  # each feature of the probe, inside a sentence
    "width": "image width",
    "height": "image height",
    "aspect_ratio": "the aspect ratio of the image",
    "colour_mode": "the colour mode of the file",
    "file_size": "the size of the file",
    "mean": "mean brightness",
    "std": "contrast",
    "border": "the outermost 6 % of the film",
}
_LEARNS = {
    "mean": "a network may learn the exposure, though disease may be part of it",
    "std": "a network may learn the exposure, though disease may be part of it",
    "border": "a network may learn markers, frames or the way of cropping, not the lung",
}
_SIZE = (
    "Bring all films to one size and shape before training, and test on films of another origin."
)
_ADVICE = {
    "width": _SIZE,
    "height": _SIZE,
    "aspect_ratio": "Train with image.fit 'squash' or 'crop', which hide the proportions, "
    "and test on films of another origin.",
    "colour_mode": "Films are read as gray, which hides the mode itself; ask why the classes come "
    "from different software, and test on films of another origin.",
    "file_size": "Ask whether the classes were stored with different compression; store all "
    "films in the same way, and test on films of another origin.",
    "mean": "Train with changes of brightness and contrast, and see whether the result holds.",
    "std": "Train with changes of brightness and contrast, and see whether the result holds.",
    "border": "Train with image.fit 'crop', translation and zoom, and look at the heat maps: "
    "evidence should lie on the lungs.",
}


@check("Looking for shortcuts")
def shortcuts(subject: Subject) -> Iterator[Finding]:
    """Say which features alone tell the classes apart, and how well."""
    several = subject.films["label"].replace("", None).nunique() > 2
    for found in subject.shortcuts:
        severity = severity_of(found.feature, found.auroc)
        if severity is None or not found.certain:
            continue
        words = WORDS[found.feature]
        task = f"separates {found.label} from the rest" if several else "separates the classes"
        learns = _LEARNS.get(found.feature, "a network may learn the scanner, not the lung")
        yield Finding(
            kind="shortcut",
            title=f"{words[0].upper()}{words[1:]} gives the class away",
            severity=severity,
            count=len(subject.films),
            paths=(),
            sentence=f"{words[0].upper()}{words[1:]} alone {task} with AUROC {found.auroc:.2f}; "
            f"{learns}.",
            advice=_ADVICE[found.feature],
            details={
                "feature": found.feature,
                "auroc": round(found.auroc, 4),
                "label": found.label,
                "by_class": {name: round(value, 4) for name, value in found.by_class.items()},
            },
        )


def severity_of(feature: str, auroc: float) -> Severity | None:
    """Return how severe it is that a feature alone reaches an AUROC; None where it is not."""
    later = _EXPOSURE_LATER if feature in ("mean", "std") else 0.0
    return next((severity for least, severity in _LEVELS if auroc >= least + later), None)
