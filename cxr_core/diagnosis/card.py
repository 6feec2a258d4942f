"""The model card: what a bundle is, what it is worth and where it fails, as Markdown for people.

Follows Mitchell et al. 2019, "Model cards for model reporting" (doi 10.1145/3287560.3287596). What
is not known is said to be "not reported"; nothing is filled in by guess.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cxr_core import NOT_FOR_CLINICAL_USE

if TYPE_CHECKING:  # bundle.py writes cards; at run time only it imports this module
    from cxr_core.diagnosis.bundle import BundleInfo, DataInfo

NOT_REPORTED = "not reported"
SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}

# The figures of a card: key in the evaluation summary, name for people, shown as a percentage.
FIGURES = (
    ("auc", "AUROC", False),
    ("accuracy", "Accuracy", True),
    ("balanced_accuracy", "Balanced accuracy", True),
    ("sensitivity", "Sensitivity (any finding)", True),
    ("specificity", "Specificity", True),
    ("ece", "Expected calibration error", False),
    ("brier", "Brier score", False),
)


def render(info: "BundleInfo") -> str:
    """Return the model card of a bundle as Markdown."""
    sections = (
        _head(info),
        _section("Model", _model(info)),
        _section("Intended use", _use()),
        _section("Data", _data(info.data)),
        _section("Training", _training(info)),
        _section("From score to answer", _answer(info)),
        _section("Results", _results(info)),
        _section("Limits", _limits(info)),
    )
    return "\n\n".join(sections) + "\n"


def _head(info: "BundleInfo") -> str:
    lines = [f"# Model card: {info.name}", f"**{NOT_FOR_CLINICAL_USE}**"]
    if info.data.synthetic:
        lines.append(
            "**Trained on synthetic films only: drawings by a program, not X-rays of people. What "
            "this model says about a real film means nothing.**"
        )
    return "\n\n".join(lines)


def _model(info: "BundleInfo") -> str:
    versions = ", ".join(f"{name} {version}" for name, version in info.versions.items())
    image = info.image
    equalised = f", CLAHE with clip limit {image.clahe:g}" if image.clahe else ""
    return _items(
        ("Architecture", info.architecture),
        ("Classes", ", ".join(info.classes) + f" ({info.classes[0]} is the reference)"),
        ("Input", f"grayscale, {image.size} x {image.size} px, fit: {image.fit}{equalised}"),
        ("Starting weights", _config(info, "model", "weights")),
        ("Size of the model file", f"{info.model_bytes / 1e6:.1f} MB" if info.model_bytes else ""),
        ("SHA-256 of the model file", f"`{info.model_sha256}`" if info.model_sha256 else ""),
        ("Made", info.created),
        ("Run", info.run_id),
        ("Versions", versions),
    )


def _use() -> str:
    return (
        "Teaching, and research on how such models learn and fail. "
        "It sorts frontal chest radiographs into the classes above and nothing else.\n\n"
        "Not for the diagnosis, triage or treatment of anybody: it is no medical device, and no "
        "clinical study of it has been made."
    )


def _data(data: "DataInfo") -> str:
    counts = data.counts
    classes = list(dict.fromkeys(label for part in counts.values() for label in part))
    parts = [split for split in SPLITS if split in counts]
    rows = [
        [SPLITS[split], *(counts[split].get(c, 0) for c in classes), sum(counts[split].values())]
        for split in parts
    ]
    facts = _items(
        ("Name", f"{data.name} **(synthetic)**" if data.synthetic else data.name),
        ("Licence", data.licence),
        ("Source", data.citation),
        ("Patients", "" if data.patients is None else f"{data.patients:,}"),
        ("Fingerprint", data.fingerprint),
    )
    table = _table(["Films", *classes, "All"], rows) if rows else f"Films: {NOT_REPORTED}."
    unknown = (
        "\n\nWhich films belong to one patient is not known: the parts may share patients, and the "
        "results may be better than they would be on new patients."
        if data.patients is None
        else ""
    )
    return f"{facts}\n\n{table}{unknown}"


def _training(info: "BundleInfo") -> str:
    changes = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in info.config.get("augment", {}).items()
        if value
    ]
    has_settings = "augment" in info.config
    return _items(
        ("Seed", info.config.get("seed")),
        ("Most epochs", _config(info, "optimise", "epochs")),
        ("Batch size", _config(info, "optimise", "batch_size")),
        ("Optimiser", _config(info, "optimise", "optimizer")),
        ("Highest learning rate", _config(info, "optimise", "learning_rate")),
        ("Schedule", _config(info, "optimise", "schedule")),
        ("Balancing of classes", _config(info, "optimise", "balance")),
        ("Best epoch chosen by", _config(info, "stop", "monitor")),
        ("Random changes", (", ".join(changes) or "none") if has_settings else ""),
    )


def _answer(info: "BundleInfo") -> str:
    threshold = info.threshold
    return (
        f"Probabilities are the softmax of the logits divided by a temperature of "
        f"{info.temperature:.3g}, fitted on the validation films. A film is called a finding where "
        f"1 - p({info.classes[0]}) is at least the threshold of **{threshold.value:.3f}** "
        f"(method: {threshold.method}; chosen on: {threshold.chosen_on} films). Neither was fitted "
        "on test films."
    )


def _results(info: "BundleInfo") -> str:
    test, val = info.metrics.get("test"), info.metrics.get("val")
    parts = [_summary("Test films", test, info) if test else f"Test results: {NOT_REPORTED}."]
    if val:
        parts.append(_summary("Validation films", val, info))
        parts.append(
            "The best epoch, the temperature and the threshold were chosen on the validation "
            "films, so their figures flatter the model."
        )
    return "\n\n".join(parts)


def _summary(title: str, summary: Mapping[str, Any], info: "BundleInfo") -> str:
    intervals = summary.get("ci95") or {}
    synthetic = ", **synthetic**" if info.data.synthetic else ""
    figures = [
        [name, _figure(summary.get(key), percent), _interval(intervals.get(key), percent)]
        for key, name, percent in FIGURES
        if key in summary
    ]
    blocks = [
        f"### {title} (n = {summary.get('n', NOT_REPORTED)}{synthetic})",
        _table(["Figure", "Value", "95 % interval"], figures),
    ]
    per_class = summary.get("per_class") or {}
    if per_class:
        keys = ("n", "auc", "sensitivity", "specificity", "precision", "f1")
        rows = [
            [label, *(_figure(values.get(key), key not in ("n", "auc", "f1")) for key in keys)]
            for label, values in per_class.items()
        ]
        heads = ["Class", "n", "AUROC", "Sensitivity", "Specificity", "Precision", "F1"]
        blocks.append(_table(heads, rows))
    confusion = summary.get("confusion")
    if confusion:
        rows = [[f"is {c}", *row] for c, row in zip(info.classes, confusion, strict=False)]
        blocks.append(_table(["", *(f"called {c}" for c in info.classes)], rows))
    return "\n\n".join(blocks)


def _limits(info: "BundleInfo") -> str:
    limits = [
        "The results hold for films like the test films: same hospitals, machines, ages and share "
        "of each class. Elsewhere they are usually worse (Zech et al. 2018, doi "
        "10.1371/journal.pmed.1002683).",
        "It knows only the classes above. Any other finding is forced into one of them.",
        "A probability depends on how common the finding is among the films it was fitted on.",
        "A heat map shows where the network looked, not why, and is no proof of a finding.",
        "Tests on another hospital's films, by age, by sex and by machine: not reported.",
    ]
    if info.data.synthetic:
        limits.insert(0, "**Synthetic data: nothing here carries over to real films.**")
    return "\n".join(f"- {limit}" for limit in limits)


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _items(*pairs: tuple[str, object]) -> str:
    return "\n".join(
        f"- {name}: {NOT_REPORTED if value in ('', None) else value}" for name, value in pairs
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _figure(value: Any, percent: bool) -> str:
    if value is None:
        return NOT_REPORTED
    if isinstance(value, int):
        return str(value)
    return f"{100 * value:.1f} %" if percent else f"{value:.3f}"


def _interval(bounds: Any, percent: bool) -> str:
    if not bounds or any(bound is None for bound in bounds):
        return NOT_REPORTED
    return " to ".join(_figure(float(bound), percent) for bound in bounds)


def _config(info: "BundleInfo", section: str, field: str) -> Any:
    return info.config.get(section, {}).get(field)
