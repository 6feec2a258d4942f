"""The card as Markdown: a section a question, each made from what the bundle says of itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cxr_core import NOT_FOR_CLINICAL_USE
from cxr_core.config import Setting, settings
from cxr_core.diagnosis.card import claim, text
from cxr_core.diagnosis.card.text import (
    BY_CLASS,
    HEADLINES,
    NOT_REPORTED,
    count,
    fact,
    figure,
    interval,
    listing,
    metric,
    plain,
)

if TYPE_CHECKING:  # bundle.py writes cards; at run time only it imports this module
    from cxr_core.diagnosis.bundle import BundleInfo

SYNTHETIC = (
    "Trained on synthetic films only: drawings by a program, not X-rays of people. What this model "
    "says about a real film means nothing."
)
PARTS = {"train": "Training", "val": "Validation", "test": "Test"}

# Settings that every card names; of the others those that differ from their defaults.
_ALWAYS = (
    "optimise.epochs",
    "optimise.batch_size",
    "optimise.optimizer",
    "optimise.learning_rate",
    "optimise.schedule",
    "optimise.loss",
    "optimise.balance",
    "stop.monitor",
    "stop.patience",
)
# Sections of the configuration.
_TRAINING = ("optimise", "distil", "stop", "augment", "model", "hardware")
_ELSEWHERE = ("model.architecture", "model.weights")  # settings that another table names

_LEVELS = {"fine": "nothing amiss", "warning": "**doubtful**", "unknown": "not known"}


@dataclass(frozen=True)
class Section:
    """One part of the card."""

    name: str  # a word that tells it from the others
    title: str
    body: str  # Markdown, headings from the third level on


def render(
    info: "BundleInfo",
    *,
    evaluation: Mapping[str, Any] | None = None,
    ece_before: float | None = None,
) -> str:
    """Return the model card of a bundle as Markdown; arguments as for :func:`sections`."""
    told = sections(info, evaluation=evaluation, ece_before=ece_before)
    blocks = [f"# Model card: {plain(info.name)}", opening(info, evaluation)]
    blocks += [f"## {section.title}\n\n{section.body}" for section in told]
    return "\n\n".join(blocks) + "\n"


def opening(info: "BundleInfo", evaluation: Mapping[str, Any] | None = None) -> str:
    """Return what stands at the top: the warnings, and the card in a paragraph."""
    lines = [f"**{NOT_FOR_CLINICAL_USE}**"]
    if info.data.synthetic:
        lines.append(f"**{SYNTHETIC}**")
    return "\n\n".join([*lines, in_a_paragraph(info, evaluation)])


def in_a_paragraph(info: "BundleInfo", evaluation: Mapping[str, Any] | None = None) -> str:
    """Return the card in short: what the model is, and the results that the card shows."""
    trained = sum((info.data.counts.get("train") or {}).values())
    kind = (
        f"An ensemble of {count(len(info.members), 'network')}"
        if info.members
        else f"A neural network ({plain(info.architecture)})"
    )
    on = f"{count(trained, 'film')} of " if trained else ""
    return (
        f"{kind} that sorts frontal chest radiographs into {listing(info.classes)}, trained on "
        f"{on}{fact(info.data.name)}. {_in_short(info, evaluation)}"
    )


def sections(
    info: "BundleInfo",
    *,
    evaluation: Mapping[str, Any] | None = None,
    ece_before: float | None = None,
) -> list[Section]:
    """Return the sections of a bundle's card in their order.

    Args:
        info: what the bundle says of itself.
        evaluation: results on other films, as `evaluate.Evaluated` has them; the card then shows
            these, and the run's own test in a sentence.
        ece_before: expected calibration error on the validation films before calibration, 0-1;
            None where it is not known.
    """
    return [
        Section("model", "Model", _model(info)),
        Section("use", "Intended use", _use(info)),
        Section("data", "Data", _data(info)),
        Section("split", "Split", _split(info)),
        Section("training", "Training", _training(info)),
        Section("decision", "Calibration and threshold", _decision(info, ece_before)),
        Section("gate", "Gate: which films it answers for", _gate(info)),
        Section("results", "Results", _results(info, evaluation)),
        Section("probes", "Probes: what the network uses", _probes(info.probes)),
        Section("limits", "Limits", _limits(info)),
        Section("claim", "CLAIM 2024", claim.render(claim.items(info, evaluation))),
    ]


# -- what it is ------------------------------------------------------------------------------------


def _in_figures(summary: Mapping[str, Any]) -> str:
    """Return a test in a line, to be read and to be compared with another."""
    return (
        f"n = {summary['n']:,}, AUROC {metric(summary, 'auc')}, sensitivity "
        f"{metric(summary, 'sensitivity', True)}, specificity "
        f"{metric(summary, 'specificity', True)}"
    )


def _in_short(info: "BundleInfo", evaluation: Mapping[str, Any] | None) -> str:
    """Return the results that the card shows, in a sentence."""
    shown = evaluation or info.metrics.get("test")
    if not shown:
        return f"Test results: {NOT_REPORTED}."
    where = "test films"
    if evaluation:
        same = evaluation["data"] == info.data.name
        where = "films of this set" if same else f"films of {plain(evaluation['data'])}"
    drawn = evaluation["synthetic"] if evaluation else info.data.synthetic
    return (
        f"On {shown['n']:,} {'synthetic ' if drawn else ''}{where}: AUROC {metric(shown, 'auc')}, "
        f"sensitivity {metric(shown, 'sensitivity', True)}, specificity "
        f"{metric(shown, 'specificity', True)} at the threshold {info.threshold.value:.3f}; in "
        "brackets 95 % intervals."
    )


def _model(info: "BundleInfo") -> str:
    image = info.image
    equalised = f", CLAHE with clip limit {image.clahe:g}" if image.clahe else ""
    weights = (info.config.get("model") or {}).get("weights")
    start = "random" if weights == "none" else weights
    facts = _facts(
        "Model",
        ("Architecture", info.architecture),
        ("Classes", f"{', '.join(info.classes)} ({info.classes[0]} is the reference)"),
        ("Input", f"grayscale, {image.size} x {image.size} px, fit: {image.fit}{equalised}"),
        ("Starting weights", "the members'" if info.members else start),
        ("Heat maps", f"Grad-CAM at {', '.join(info.cam_layers)}"),
        ("Size of the model file", f"{info.model_bytes / 1e6:.1f} MB" if info.model_bytes else ""),
        ("SHA-256 of the model file", info.model_sha256),
        ("Made", info.created),
        ("Run", info.run_id),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
    )
    if not info.members:
        return facts
    rows = [
        (plain(each.name), fact(each.run_id), plain(each.architecture), f"{each.temperature:.3f}")
        for each in info.members
    ]
    members = text.table(("Member", "Run", "Architecture", "Temperature"), rows)
    return (
        f"{facts}\n\n### Members\n\nThe answer is the mean of the members' logits, each divided by "
        f"its temperature.\n\n{members}"
    )


def _use(info: "BundleInfo") -> str:
    return (
        "Teaching, and research on how such models learn and fail. It sorts frontal chest "
        f"radiographs into {listing(info.classes)} and nothing else.\n\n"
        "Not for the diagnosis, triage or treatment of anybody: it is no medical device, and no "
        "clinical study of it has been made."
    )


def _data(info: "BundleInfo") -> str:
    data = info.data
    facts = _facts(
        "Data",
        ("Name", f"{data.name} (synthetic)" if data.synthetic else data.name),
        ("Licence", data.licence),
        ("Source", data.citation),
        ("Patients", "" if data.patients is None else f"{data.patients:,}"),
        ("Fingerprint of the set", data.fingerprint),
    )
    parts = [part for part in PARTS if part in data.counts]
    if not parts:
        return f"{facts}\n\nFilms by part and class: {NOT_REPORTED}."
    classes = list(dict.fromkeys([*info.classes, *(c for p in parts for c in data.counts[p])]))
    rows = [
        [
            PARTS[part],
            *(f"{data.counts[part].get(label, 0):,}" for label in classes),
            f"{sum(data.counts[part].values()):,}",
            _patients(info, part),
        ]
        for part in parts
    ]
    heads = ["Films", *map(plain, classes), "All", "Patients"]
    return f"{facts}\n\n{text.table(heads, rows, numbers=True)}"


def _patients(info: "BundleInfo", part: str) -> str:
    """Return how many patients a part has; of training what the test and validation leave."""
    if info.data.patients is None:
        return NOT_REPORTED
    val, test = ((info.metrics.get(name) or {}).get("patients") for name in ("val", "test"))
    known = {"val": val, "test": test}
    rule = (info.config.get("data") or {}).get("split")
    # Only a division by patient lets one subtract.
    if val is not None and test is not None and (_fold(info) or rule in ("auto", "recut")):
        known["train"] = info.data.patients - val - test
    found = known.get(part)
    return NOT_REPORTED if found is None else f"{found:,}"


def _split(info: "BundleInfo") -> str:
    chosen = info.config.get("data") or {}
    fold, rule = _fold(info), chosen.get("split")
    if fold:
        how = f"fold {fold} of {chosen.get('folds')} is the test"
    else:
        how = {
            "auto": "the set's own parts were kept where large enough, the others cut",
            "published": "the set's own parts",
            "recut": "all parts were cut anew",
        }.get(str(rule), "")
    apart = ""
    if rule == "published" and not fold and chosen.get("accept_leaks"):
        apart = "nothing: leaks were accepted"
    elif rule or fold:  # without leave for it nothing trains on a division that leaks
        apart = "patients, where known; identical and near-identical films"
    pattern = chosen.get("patient_pattern")
    from_names = "the set's own column or file names, where they tell" if chosen else ""
    facts = _facts(
        "Split",
        ("How", how),
        ("Kept on one side", apart),
        ("Patients told by", f"the pattern {pattern}" if pattern else from_names),
        ("Validation, where cut", _share(chosen.get("val_fraction"))),
        ("Test, where cut", "" if fold else _share(chosen.get("test_fraction"))),
        ("Seed", info.config.get("seed")),
        ("Film by film", "splits.csv of the bundle"),
    )
    blocks = [facts]
    if info.notes:
        noted = "\n".join(f"- {plain(note)}" for note in info.notes)
        blocks.append(f"What the run noted of its films and weights:\n\n{noted}")
    if info.data.patients is None:
        blocks.append(
            "Not all patients are known, so films of one patient may stand in several parts, and "
            "results may be better than they would be on new patients."
        )
    return "\n\n".join(blocks)


def _fold(info: "BundleInfo") -> int:
    return int((info.config.get("data") or {}).get("fold") or 0)


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:g} % of each class"


def _training(info: "BundleInfo") -> str:
    if info.members:
        return "The members were trained each for itself; their own cards say how."
    values = {
        setting.path: (info.config.get(setting.section) or {}).get(setting.path.split(".")[-1])
        for setting in settings()
        if setting.section in _TRAINING
    }
    named = {setting.path: setting for setting in settings()}
    rows = [(_label(named[path]), values[path]) for path in _ALWAYS]
    rows += [
        (_label(named[path]), value)
        for path, value in values.items()
        if path not in (*_ALWAYS, *_ELSEWHERE)
        and value is not None
        and value != named[path].default
    ]
    closing = (
        "Settings that are not in this table stood at their defaults; all are in bundle.json."
        if info.config
        else ""
    )
    return "\n\n".join(filter(None, [_facts("Setting", *rows), closing, _selection(info)]))


def _selection(info: "BundleInfo") -> str:
    """Return what the recipe was chosen from; "" where that is not known."""
    found = info.selection
    if found is None:
        return ""
    heads = (
        "Variant",
        "AUROC",
        "Balanced accuracy",
        "ECE",
        "Altered: AUROC",
        "Altered: balanced accuracy; worst",
    )
    rows = [
        (
            f"**{plain(each.name)}**" if each.name == found.chosen else plain(each.name),
            *(
                f"{figure(shown.value)} ({interval(shown.ci95)})"
                for shown in (each.auc, each.balanced_accuracy, each.ece)
            ),
            figure(each.altered_auc),
            f"{figure(each.altered_balanced_accuracy)}; {figure(each.altered_worst)}",
        )
        for each in found.variants
    ]
    told = "\n".join(f"- {plain(each.name)}: {plain(each.words)}" for each in found.variants)
    added = (
        f"To {plain(found.chosen)} the recipe adds, without a comparison of its own: "
        f"{plain('; '.join(found.added))}."
        if found.added
        else ""
    )
    return "\n\n".join(
        [
            f"The recipe goes out from {plain(found.chosen)}, one of {len(found.variants)} "
            f"variants compared by cross-validation on {count(found.films, 'film')} of "
            f"{plain(found.data)} in {found.folds} folds by patient, each film predicted by a "
            "network that never saw its patient; no film that this model is tested on was among "
            "them. It was chosen by the mean balanced accuracy on films altered in ways in which "
            "another hospital's might differ, some of which variants also train with "
            f"({count(found.altered_films, 'film')}, the classes equally: "
            f"{listing(found.alterations)}); what the worst of these leaves stands beside it. "
            "Intervals are of 95 %, by patient.",
            text.table(heads, rows, numbers=True),
            told,
            *filter(None, [added]),
        ]
    )


def _label(setting: Setting) -> str:
    """Return a setting's name with its unit, unless the name says it."""
    name = setting.label.partition(" (")[0]
    return name if setting.unit in name.lower() else setting.label


# -- what it is worth ------------------------------------------------------------------------------


def _decision(info: "BundleInfo", ece_before: float | None) -> str:
    threshold = info.threshold
    validated = info.metrics.get("val") or {}
    facts = _facts(
        "Calibration and threshold",
        ("Temperature", f"{info.temperature:.3f}"),
        *(
            (f"Offset of {plain(label)}, in the last bias", f"{offset:+.3f}")
            for label, offset in zip(info.classes[1:], info.offset[1:], strict=bool(info.offset))
        ),
        ("ECE before calibration, validation films", figure(ece_before)),
        ("ECE after it, validation films", metric(validated, "ece")),
        ("Threshold, any finding", f"{threshold.value:.3f}"),
        ("Rule of the threshold", _METHODS.get(threshold.method, threshold.method)),
        ("Chosen on", f"{threshold.chosen_on} films{_views(info)}"),
    )
    offset = (
        " An offset a class was fitted with it (Alexandari et al. 2020, arXiv 1901.06852) and is "
        "part of the logits."
        if info.offset
        else ""
    )
    return (
        "Probabilities are the softmax of the logits divided by the temperature (Guo et al. 2017, "
        f"arXiv 1706.04599).{offset} A film is called a finding where 1 - "
        f"p({plain(info.classes[0])}) is at least the threshold. Neither was fitted on test films. "
        "The calibration error (ECE) is the mean gap between forecast and frequency over ten bins "
        f"of as many films each.\n\n{facts}"
    )


def _views(info: "BundleInfo") -> str:
    views = (info.config.get("decide") or {}).get("views")
    return f", each altered {views} times" if views else ""


_METHODS = {"youden": "the largest sum of sensitivity and specificity (Youden 1950)"}


def _gate(info: "BundleInfo") -> str:
    """Return which films get no answer, and which ones an answer is set beside."""
    always = (
        "No probability is shown, unless somebody insists, for an image that is in colour, nearly "
        "of one shade, far longer than wide, or by its DICOM header another view, body part or "
        "kind of image."
    )
    return "\n\n".join([always, *_known_films(info), _similar(info)])


def _known_films(info: "BundleInfo") -> list[str]:
    gate = info.gate
    if gate is None:
        return [
            "Whether a film is turned, inverted or far from those the model learned from is not "
            f"checked. Statistics of its films: {NOT_REPORTED}."
        ]
    share = f" ({figure(gate.val_refused / gate.val_films, True)})" if gate.val_films else ""
    return [
        "Neither is one for a film that lies turned or inverted, by a linear model of small "
        "pictures, or far from those the model learned from, by the Mahalanobis distance of its "
        "averaged feature maps (Lee et al. 2018, arXiv 1807.03888).",
        _facts(
            "Gate",
            ("Fitted on", count(gate.train_films, "training film")),
            ("Limits chosen on", count(gate.val_films, "validation film")),
            ("Of those refused", f"{gate.val_refused:,}{share}"),
            *([("That of the member", gate.member)] if gate.member else []),
        ),
    ]


def _similar(info: "BundleInfo") -> str:
    similar = info.similar
    if similar is None:
        return "No training films go with the model to set a film beside."
    whose = f" of the member {plain(similar.member)}" if similar.member else ""
    shown = "classes and small pictures" if similar.pictures else "classes, without pictures"
    return (
        f"An answer is set beside the most similar, by features, of "
        f"{count(similar.films, 'training film')}{whose}: their {shown}."
    )


def _track_record(info: "BundleInfo") -> list[str]:
    """Return how probabilities fared on the test films, a table a finding."""
    blocks = []
    for record in info.track_record:
        name = plain(record.finding) if record.finding else "any finding"
        rows = [
            (
                f"{100 * each.low:g} to {100 * each.high:g} %",
                f"{each.films:,}",
                f"{each.found:,}",
                figure(each.found / each.films if each.films else None, True),
                interval(each.ci95, True),
            )
            for each in record.bins
        ]
        heads = (f"Probability of {name}", "Test films", "Had it", "Share", "95 % interval")
        blocks.append(text.table(heads, rows, numbers=True))
    return blocks


def _results(info: "BundleInfo", evaluation: Mapping[str, Any] | None) -> str:
    test, val = info.metrics.get("test"), info.metrics.get("val")
    note = (
        "Sensitivity, specificity, predictive values and F1 of all films ask: any finding or none, "
        "at the threshold. 95 % intervals by bootstrap over patients; films of unknown patients "
        "count as one patient each."
    )
    if evaluation:
        before = f"The test of the run itself: {NOT_REPORTED}."
        if test and _in_figures(test) == _in_figures(evaluation):
            before = "The test of the run itself gave the same figures."
        elif test:
            before = f"The test of the run itself: {_in_figures(test)}."
        return "\n\n".join([note, _evaluated(info, evaluation), before])
    parts = [note]
    drawn = info.data.synthetic
    if test:
        parts += [_heading("Test films", test, synthetic=drawn), *_tables(test, info)]
        parts += _track_record(info)
    else:
        parts.append(f"Test results: {NOT_REPORTED}.")
    if val:
        parts += [_heading("Validation films", val, synthetic=drawn), _all_films(val)]
        parts.append(
            "The best epoch, the temperature and the threshold were chosen on the validation "
            "films, so their figures flatter the model."
        )
    return "\n\n".join(parts)


def _evaluated(info: "BundleInfo", evaluation: Mapping[str, Any]) -> str:
    """Return the results on other films, with which they are and what to beware of."""
    which = [f"Films: {plain(evaluation['films'])}."]
    if evaluation["seen_in_training"]:
        which.append(
            f"**The model learned from {evaluation['seen_in_training']:,} of them: the figures are "
            "better than they would be on new films.**"
        )
    if evaluation["excluded"]:
        which.append(f"{evaluation['excluded']:,} of them are on the set's list of excluded films.")
    drawn = bool(evaluation["synthetic"])
    head = _heading(f"Films of {plain(evaluation['data'])}", evaluation, synthetic=drawn)
    return "\n\n".join([head, " ".join(which), *_tables(evaluation, info)])


def _heading(name: str, summary: Mapping[str, Any], *, synthetic: bool) -> str:
    patients = summary.get("patients")
    of = f", {count(patients, 'patient')}" if patients else ""
    return f"### {name}: n = {summary['n']:,}{of}{', synthetic' if synthetic else ''}"


def _tables(summary: Mapping[str, Any], info: "BundleInfo") -> list[str]:
    """Return the tables of one test: all films, by class with means, and the confusion."""
    blocks = [_all_films(summary)]
    by_class: dict[str, Mapping[str, Any]] = dict(summary.get("per_class") or {})
    if by_class:
        columns = {plain(label): values for label, values in by_class.items()}
        columns |= {"Macro": summary.get("macro") or {}, "Weighted": summary.get("weighted") or {}}
        films = [f"{values['n']:,}" if "n" in values else "" for values in columns.values()]
        rows: list[Sequence[str]] = [("Films", *films)]
        rows += [
            (name, *(metric(values, key, percent) for values in columns.values()))
            for key, name, percent in BY_CLASS
        ]
        heads = ("Each class against the rest", *columns)
        blocks.append(text.table(heads, rows, numbers=True))
    confusion = summary.get("confusion")
    if confusion:
        names = [plain(label) for label in info.classes]
        blocks.append(
            text.table(
                ("Confusion", *(f"called {name}" for name in names)),
                [
                    (f"is {name}", *(f"{number:,}" for number in row))
                    for name, row in zip(names, confusion, strict=True)
                ],
                numbers=True,
            )
        )
    return blocks


def _all_films(summary: Mapping[str, Any]) -> str:
    """Return the table of the headline metrics."""
    bounds = summary.get("ci95") or {}
    rows = [
        (name, figure(summary.get(key), percent), interval(bounds.get(key), percent))
        for key, name, percent in HEADLINES
    ]
    return text.table(("All films", "Value", "95 % interval"), rows, numbers=True)


def _probes(probes: Mapping[str, Any] | None) -> str:
    if not probes or not probes.get("findings"):
        return f"What the network uses: {NOT_REPORTED}."
    rows = [
        (
            plain(found["title"]),
            text.finding(found),
            _LEVELS[found["level"]],
            plain(found["words"]),
        )
        for found in probes["findings"]
    ]
    return (
        f"Asked on {count(probes['films'], 'test film')}, drawn by seed {probes['seed']}, changed "
        "on purpose; in brackets 95 % intervals. A probe that finds nothing proves nothing: there "
        "are more shortcuts than probes.\n\n"
        + text.table(("Probe", "Found", "Verdict", "What it means"), rows)
    )


def _limits(info: "BundleInfo") -> str:
    limits = [
        "The results hold for films like those tested: same hospitals, machines, ages and share "
        "of each class. Elsewhere they are usually worse (Zech et al. 2018, doi "
        "10.1371/journal.pmed.1002683).",
        "It knows only the classes above. Any other finding is forced into one of them.",
        "A probability depends on how common the finding is among the films it was fitted on.",
        "A heat map shows where the network looked, not why, and is no proof of a finding.",
        f"Results by age, by sex and by machine: {NOT_REPORTED}.",
    ]
    if info.config.get("optimise", {}).get("balance", "none") != "none" and not info.offset:
        limits.append(
            "Classes were balanced in training, which may leave probabilities too high for rare "
            "classes: the temperature, fitted at the validation films' own shares, cannot mend it."
        )
    if info.data.synthetic:
        limits.insert(0, "**Synthetic data: nothing here carries over to real films.**")
    return "\n".join(f"- {limit}" for limit in limits)


def _facts(head: str, *pairs: tuple[str, object]) -> str:
    return text.table((head, "Value"), [(name, fact(value)) for name, value in pairs])
