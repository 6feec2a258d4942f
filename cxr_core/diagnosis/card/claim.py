"""The items of CLAIM 2024, each answered from what a bundle knows.

Numbers follow the 44 items of the Checklist for Artificial Intelligence in Medical Imaging, 2024
update: Tejani et al. 2024, Radiology: Artificial Intelligence 6(4), doi 10.1148/ryai.240300. The
items are named in words of our own. An answer says what is known, and what is not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cxr_core.diagnosis.card import text
from cxr_core.diagnosis.card.text import NOT_REPORTED, count, fact, listing, metric, plain

if TYPE_CHECKING:
    from cxr_core.diagnosis.bundle import BundleInfo

State = Literal["reported", "in part", "not reported", "not applicable"]

# Headings of this card with the number of the last item under each.
GROUPS = (
    ("Title, abstract, introduction", 4),
    ("Methods: design and data", 13),
    ("Methods: reference standard and partitions", 21),
    ("Methods: model and training", 27),
    ("Methods: evaluation", 34),
    ("Results", 39),
    ("Discussion and other information", 44),
)


@dataclass(frozen=True)
class Answer:
    """What a card says to one item, as Markdown in one line."""

    state: State
    words: str


@dataclass(frozen=True)
class Item:
    """One item of the checklist with its answer."""

    number: int
    name: str
    answer: Answer


def items(info: "BundleInfo", evaluation: Mapping[str, Any] | None = None) -> list[Item]:
    """Return all 44 items in their order.

    Args:
        info: what the bundle says of itself.
        evaluation: results on other films, as `evaluate.Evaluated` has them; by default those of
            the run's test.
    """
    answers = _Answers(info, evaluation)
    named = [
        *answers.opening(),
        *answers.data(),
        *answers.reference_standard(),
        *answers.partitions(),
        *answers.model(),
        *answers.evaluation(),
        *answers.results(),
        *answers.closing(),
    ]
    return [Item(number, name, answer) for number, (name, answer) in enumerate(named, start=1)]


def render(found: list[Item]) -> str:
    """Write the items as tables under headings, after a sentence that counts the answers."""
    tally: dict[State, int] = dict.fromkeys(
        ("reported", "in part", "not reported", "not applicable"), 0
    )
    for item in found:
        tally[item.answer.state] += 1
    counted = ", ".join(f"{number} {state}" for state, number in tally.items())
    blocks = [
        "The 44 items of the Checklist for Artificial Intelligence in Medical Imaging, 2024 update "
        "(Tejani et al. 2024, doi 10.1148/ryai.240300), in this card's own words, answered from "
        f"the run: {counted}."
    ]
    start = 0
    for heading, end in GROUPS:
        rows = [(item.number, item.name, item.answer.words) for item in found[start:end]]
        blocks.append(f"### {heading}\n\n" + text.table(("No.", "Item", "Answer"), rows))
        start = end
    return "\n\n".join(blocks)


def reported(words: str) -> Answer:
    """Say what is known."""
    return Answer("reported", words)


def partly(words: str, missing: str) -> Answer:
    """Say what is known, and what is not."""
    return Answer("in part", f"{words} {missing}: {NOT_REPORTED}.")


def unknown(also: str = "") -> Answer:
    """Say that it is not known; ``also`` is what there is to say all the same."""
    return Answer("not reported", f"Not reported. {also}".rstrip())


def inapplicable(reason: str) -> Answer:
    """Say why the item does not apply."""
    return Answer("not applicable", f"Not applicable: {reason}.")


_Named = tuple[str, Answer]


class _Answers:
    """The answers to one bundle, in the order of the checklist."""

    def __init__(self, info: "BundleInfo", evaluation: Mapping[str, Any] | None) -> None:
        self._info = info
        self._evaluation = evaluation
        self._shown: Mapping[str, Any] = evaluation or info.metrics.get("test") or {}
        self._drawn = info.data.synthetic
        self._classes = listing(info.classes)
        self._films = "films" if evaluation else "test films"

    def opening(self) -> Iterator[_Named]:
        info = self._info
        kind = "joined deep neural networks" if info.members else "a deep neural network"
        yield (
            "The kind of AI, named",
            reported(f"Deep learning: {kind} ({plain(info.architecture)})."),
        )
        yield "Summary of the study", reported("At the top of this card.")
        yield (
            "Background, use and role",
            partly("Teaching and research: see Intended use.", "Scientific, clinical background"),
        )
        yield (
            "Aims and hypotheses",
            partly(f"To tell {self._classes} apart on a frontal chest film.", "Hypotheses"),
        )

    def data(self) -> Iterator[_Named]:
        data, image = self._info.data, self._info.image
        drawn = "the films are drawings by a program"
        taken = (
            "Readable films with a label, without those that somebody put on the set's list of "
            "excluded films."
        )
        yield (
            "Prospective or retrospective",
            inapplicable(drawn)
            if self._drawn
            else reported("Retrospective: the films were there before the model."),
        )
        yield "Goal of the study", reported("To make a model and to test it.")
        yield (
            "Sources of the data",
            reported(
                f"{fact(data.name)}; licence: {fact(data.licence)}; source: {fact(data.citation)}"
            ),
        )
        yield (
            "Which cases were taken",
            reported(taken)
            if self._drawn
            else partly(taken, "By what criteria the set was collected"),
        )
        equalised = f", CLAHE with clip limit {image.clahe:g}" if image.clahe else ""
        yield (
            "Preprocessing",
            reported(
                f"Grayscale, {image.size} x {image.size} px, fit: {plain(image.fit)}{equalised}."
            ),
        )
        yield (
            "Parts of the data chosen",
            reported("The centre square of each film.")
            if image.fit == "crop"
            else inapplicable("whole films are used"),
        )
        yield (
            "De-identification",
            inapplicable("the films show nobody") if self._drawn else unknown(),
        )
        yield (
            "Missing data",
            reported(
                "Films that cannot be read or have no label are left out, nothing is filled in. A "
                "film whose patient is not known counts as a patient of its own."
            ),
        )
        yield "How the films were taken", inapplicable(drawn) if self._drawn else unknown()

    def reference_standard(self) -> Iterator[_Named]:
        if self._drawn:
            program = "the program that draws a film knows what it draws"
            yield "How the true class was found", reported(f"{program.capitalize()}.")
            yield "Why it was found so", inapplicable("it is known by construction")
            yield "Who annotated", inapplicable(program)
            yield "Annotation of the test films", inapplicable(program)
            yield "Agreement between annotators", inapplicable(program)
            return
        taken = "The data set's own labels were taken as they are."
        yield "How the true class was found", partly(taken, "How they were made")
        yield "Why it was found so", unknown()
        yield "Who annotated", unknown()
        yield "Annotation of the test films", partly(taken, "Whether test films had a reading more")
        yield "Agreement between annotators", unknown()

    def partitions(self) -> Iterator[_Named]:
        settings = self._info.config.get("data") or {}
        fold = settings.get("fold")
        rule = settings.get("split")
        seed = self._info.config.get("seed")
        if fold:
            how = f"Fold {fold} of {settings.get('folds')} is the test; seed {seed}."
        elif rule in _RULES:
            how = f"{_RULES[rule]} Seed {seed}."
        else:
            how = ""
        where = "Film by film in splits.csv of the bundle; counts: see Data."
        yield (
            "How films went to parts",
            reported(f"{how} {where}") if how else partly(where, "By which rule"),
        )
        yield "What the parts do not share", self._disjoint(settings)
        n = self._shown.get("n")
        tested = f"There are {count(n, self._films[:-1])}." if n else ""
        yield "Size of the test, planned", unknown(tested)

    def _disjoint(self, settings: Mapping[str, Any]) -> Answer:
        rule, fold = settings.get("split"), settings.get("fold")
        if rule == "published" and not fold and settings.get("accept_leaks"):
            return unknown("The set's own parts were kept, whatever they share.")
        if not rule and not fold:
            return unknown()
        if self._info.data.patients is not None:
            return reported("Patients, and identical or near-identical films.")
        return partly("Identical or near-identical films, and known patients.", "Other patients")

    def model(self) -> Iterator[_Named]:
        info, config = self._info, self._info.config
        size = info.image.size
        yield (
            "The model in detail",
            reported(
                f"{plain(info.architecture)}: {size} x {size} px in, "
                f"{count(info.outputs, 'logit')} out; every layer is in model.keras."
            ),
        )
        versions = ", ".join(f"{plain(k)} {plain(v)}" for k, v in info.versions.items())
        yield "Software", reported(f"{versions}.") if versions else unknown()
        yield "Starting weights", self._start()
        seen = bool(config.get("optimise"))
        yield (
            "Training in detail",
            reported("See Training; every setting is in bundle.json.") if seen else unknown(),
        )
        monitor = (config.get("stop") or {}).get("monitor")
        best = {"val_loss": "lowest loss", "val_auroc": "highest AUROC"}.get(str(monitor))
        yield (
            "How the final model was chosen",
            reported(f"The epoch with the {best} on the validation films.{self._compared()}")
            if best
            else unknown(),
        )
        yield "Ensemble", self._joined()

    def _compared(self) -> str:
        """Say that settings were chosen among variants, where they were."""
        if self._info.selection is None:
            return ""
        number = len(self._info.selection.variants)
        return f" The settings were chosen from {number} by cross-validation: see Training."

    def _joined(self) -> Answer:
        """Say whether several networks had a part in the answer."""
        members = len(self._info.members)
        teachers = (self._info.config.get("distil") or {}).get("teachers", 0)
        if members:
            return reported(
                f"The mean of the calibrated logits of {count(members, 'network')}: see Model."
            )
        if teachers:
            return reported(
                f"One network, distilled from {count(teachers, 'other')}, each blind to the "
                "training films it was asked about."
            )
        return inapplicable("one network")

    def _start(self) -> Answer:
        if self._info.members:
            return reported("Those of the members' trained networks.")
        weights = (self._info.config.get("model") or {}).get("weights")
        if weights is None:
            return unknown()
        if weights == "none":
            return reported(f"Random, seed {self._info.config.get('seed')}.")
        return reported({"imagenet": "ImageNet."}.get(weights, f"{plain(weights)}."))

    def evaluation(self) -> Iterator[_Named]:
        info, shown = self._info, self._shown
        names = [name for key, name, _ in text.HEADLINES if key in shown]
        yield (
            "Metrics",
            reported(f"{listing(names)}; by class, macro and weighted.") if names else unknown(),
        )
        yield (
            "Uncertainty",
            reported("95 % intervals by bootstrap over patients; no test of significance.")
            if shown.get("ci95")
            else unknown(),
        )
        yield "Robustness", self._probed(("brightness", "rotation", "blur"))
        explained = (
            f"Heat maps by Grad-CAM at {listing(info.cam_layers)}. Their check by random weights"
        )
        sanity = self._found("sanity")
        yield (
            "Explanation of answers",
            reported(f"{explained}: {text.finding(sanity)}, {_LEVELS[sanity['level']]}.")
            if sanity
            else Answer("in part", f"{explained}: {NOT_REPORTED}."),
        )
        own = info.metrics.get("test")
        yield (
            "Test on films of the same source",
            reported(f"{count(own['n'], 'test film')} of the same set: see Results.")
            if own
            else unknown(),
        )
        yield "Test on films of another source", self._elsewhere()
        yield "Trial registration", inapplicable("no clinical trial")

    def _found(self, name: str) -> Mapping[str, Any] | None:
        findings = (self._info.probes or {}).get("findings", [])
        return next((each for each in findings if each["name"] == name), None)

    def _probed(self, names: tuple[str, ...]) -> Answer:
        found = [each for each in map(self._found, names) if each]
        if not found:
            return unknown()
        told = [f"{plain(each['title'])}: {_LEVELS[each['level']]}" for each in found]
        return reported(f"{'; '.join(told)}. See Probes.")

    def _elsewhere(self) -> Answer:
        shown = self._evaluation
        if not shown or not shown["external"]:
            return unknown()
        return partly(
            f"{count(shown['n'], 'film')} of {plain(shown['data'])}, a set that the model was not "
            "trained on.",
            "Whether it is another hospital's",
        )

    def results(self) -> Iterator[_Named]:
        shown = self._shown
        yield "Cases included and left out", self._counted()
        yield (
            "Who the cases are, by part",
            inapplicable("the films show nobody; classes by part: see Data")
            if self._drawn
            else partly("Classes by part: see Data.", "Age, sex, illness"),
        )
        yield (
            "Metrics with their uncertainty",
            reported(
                f"AUROC {metric(shown, 'auc')} on {count(shown['n'], self._films[:-1])}; all "
                "others: see Results."
            )
            if shown
            else unknown(),
        )
        yield (
            "Diagnostic performance",
            reported(
                f"Sensitivity {metric(shown, 'sensitivity', True)}, specificity "
                f"{metric(shown, 'specificity', True)}; by class and as counts: see Results."
            )
            if shown
            else unknown(),
        )
        yield "Failures", self._failures(shown.get("confusion"))

    def _counted(self) -> Answer:
        data = self._info.data
        films = sum(sum(part.values()) for part in data.counts.values())
        if not films:
            return unknown()
        of = "" if data.patients is None else f" of {count(data.patients, 'patient')}"
        words = f"{count(films, 'film')}{of} in all parts: see Data."
        missing = [] if of else ["patients"]
        if self._info.notes:
            words += " What was left out and why: see Split."
        else:
            missing.append("how many were left out")
        return partly(words, listing(missing).capitalize()) if missing else reported(words)

    def _failures(self, confusion: list[list[int]] | None) -> Answer:
        if not confusion:
            return unknown()
        names = [plain(label) for label in self._info.classes]
        wrong = [
            f"{number:,} {names[truth]} called {names[decided]}"
            for truth, row in enumerate(confusion)
            for decided, number in enumerate(row)
            if number and truth != decided
        ]
        if not wrong:
            return reported(f"None of these {self._films} was decided wrongly.")
        return partly(f"Decided wrongly: {', '.join(wrong)}.", "Why")

    def closing(self) -> Iterator[_Named]:
        yield "Limits", reported("See Limits.")
        yield (
            "What it means for practice",
            reported("Nothing: for research and teaching alone. See Intended use."),
        )
        yield (
            "Protocol and further detail",
            partly("Every setting is in bundle.json, every film in splits.csv.", "Study protocol"),
        )
        yield (
            "Where software, model and data are",
            partly(
                "Software: CXR Studio, Apache-2.0; the model is this bundle's model.keras; data: "
                f"licence {fact(self._info.data.licence)}.",
                "Where the model is published",
            ),
        )
        yield "Funding", unknown()


_RULES = {
    "auto": "The set's own parts were kept where large enough, the others cut by patient.",
    "published": "The set's own parts.",
    "recut": "All parts were cut by patient.",
}
_LEVELS = {"fine": "nothing amiss", "warning": "doubtful", "unknown": "not known"}
