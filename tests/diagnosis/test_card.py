"""The model card says what is known, says what is not, and is loud about synthetic films."""

import re
from typing import Any

import numpy as np
import tiny

from cxr_core.config import ImageConfig, RunConfig
from cxr_core.diagnosis import card
from cxr_core.diagnosis.bundle import DataInfo, Estimate, Member, RecipeSelection, Variant
from cxr_core.diagnosis.card import claim, text
from cxr_core.evaluation import metrics, scores

HOSTILE = "<script>alert(1)</script>|[x](javascript:y) `*_!"


def summary(classes: tuple[str, ...] = tiny.BINARY, films: int = 60) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    labels = np.arange(films) % len(classes)
    logits = rng.normal(size=(films, len(classes))) + 1.5 * np.eye(len(classes))[labels]
    return metrics.summarise(labels, scores.probabilities(logits), classes, 0.5, resamples=50)


def claims(card_text: str) -> dict[int, str]:
    """The rows of the checklist: number to answer."""
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| (.+) \|$", card_text, re.MULTILINE)
    assert len(rows) == len({number for number, _ in rows}), "a number occurs twice"
    return {int(number): answer for number, answer in rows}


def test_a_card_is_loud_about_synthetic_films_and_clinical_use() -> None:
    told = card.render(tiny.info(metrics={"test": summary()}))
    assert "**Trained on synthetic films only" in told
    assert "not for clinical use" in told
    assert "phantoms (synthetic)" in told
    assert "On 60 synthetic test films" in told
    assert "### Test films: n = 60, synthetic" in told


def test_a_card_of_real_films_does_not_call_them_synthetic() -> None:
    data = DataInfo(name="clinic", synthetic=False, counts={"train": {"NORMAL": 3}}, patients=3)
    told = card.render(tiny.info(data=data, metrics={"test": summary()}))
    assert "synthetic" not in told.lower()
    assert "drawing" not in told.lower()


def test_a_card_shows_what_its_settings_were_chosen_from() -> None:
    def variant(name: str, worst: float) -> Variant:
        seen = Estimate(value=0.987, ci95=(0.98, 0.99))
        return Variant(
            name=name,
            words=f"What {name} does.",
            auc=seen,
            balanced_accuracy=seen,
            ece=Estimate(value=0.021, ci95=(0.01, 0.03)),
            altered_auc=0.975,
            altered_balanced_accuracy=0.921,
            altered_worst=worst,
        )

    selection = RecipeSelection(
        chosen="steady",
        added=("distil.teachers 3",),
        data="clinic",
        films=5232,
        folds=3,
        altered_films=900,
        alterations=("blur", "noise"),
        variants=(variant("plain", 0.55), variant("steady", 0.853)),
    )
    told = card.render(tiny.info(selection=selection, config=RunConfig().model_dump()))
    assert "| plain | 0.987 (0.980 to 0.990) |" in told
    assert "| **steady** |" in told
    assert "| 0.975 | 0.921; 0.853 |" in told
    assert "5,232 films of clinic in 3 folds" in told
    assert "- plain: What plain does." in told
    assert "To steady the recipe adds, without a comparison of its own: distil.teachers 3." in told
    assert "chosen from 2 by cross-validation" in told
    assert "Altered" not in card.render(tiny.info())


def test_an_offset_stands_beside_the_temperature_and_only_where_there_is_one() -> None:
    balanced = RunConfig().with_values({"optimise.balance": "weights"}).model_dump()
    told = card.render(tiny.info(offset=(0.0, 1.25), config=balanced))
    assert "| Offset of PNEUMONIA, in the last bias | +1.250 |" in told
    assert "Alexandari" in told
    assert "cannot mend it" not in told  # the offset did
    without = card.render(tiny.info(config=balanced))
    assert "Offset" not in without
    assert "Alexandari" not in without
    assert "cannot mend it" in without


def test_a_distilled_network_says_so() -> None:
    config = RunConfig().with_values({"distil.teachers": 3}).model_dump()
    told = card.render(tiny.info(config=config))
    assert "One network, distilled from 3 others" in told
    assert "| Teachers | 3 |" in told


def test_a_card_says_how_a_film_becomes_the_input() -> None:
    assert "32 x 32 px, fit: letterbox |" in card.render(tiny.info())
    image = ImageConfig(size=32, fit="crop", clahe=2.5)
    assert "fit: crop, CLAHE with clip limit 2.5" in card.render(tiny.info(image=image))


def test_the_unknown_is_said_to_be_not_reported() -> None:
    told = card.render(tiny.info())
    for row in (
        "| Licence | not reported |",
        "| Patients | not reported |",
        "| Batch size (films) | not reported |",
        "| Seed | not reported |",
        "| ECE before calibration, validation films | not reported |",
        "Test results: not reported.",
        "What the network uses: not reported.",
    ):
        assert row in told
    assert "films of one patient may stand in several parts" in told
    assert "None" not in told


def test_a_card_shows_counts_settings_and_what_the_run_noted() -> None:
    config = RunConfig().with_values({"optimise.batch_size": 48, "augment.rotation": 7.0})
    told = card.render(
        tiny.info(config=config.model_dump(), notes=("3 films could not be read.",)),
        ece_before=0.0314,
    )
    assert "| Training | 4 | 4 | 8 | not reported |" in told
    assert "| Batch size (films) | 48 |" in told
    assert "| Rotation (degrees) | 7.0 |" in told
    assert "| Translation" not in told  # at its default
    assert "- 3 films could not be read." in told
    assert "| ECE before calibration, validation films | 0.031 |" in told
    assert "| Rule of the threshold | fixed for a test |" in told
    assert "| Threshold, any finding | 0.500 |" in told


def test_every_figure_is_that_of_the_summary_with_its_interval() -> None:
    tested = summary(tiny.THREE)
    told = card.render(tiny.info(tiny.THREE, metrics={"test": tested}))
    for key, name, percent in text.HEADLINES:
        value, low_high = tested[key], tested["ci95"][key]
        row = f"| {name} | {text.figure(value, percent)} | {text.interval(low_high, percent)} |"
        assert row in told
    for key, name, percent in text.BY_CLASS:
        columns = [*(tested["per_class"][label] for label in tiny.THREE)]
        columns += [tested["macro"], tested["weighted"]]
        cells = [text.metric(values, key, percent) for values in columns]
        assert f"| {name} | {' | '.join(cells)} |" in told
    assert f"{tested['auc']:.3f}" == text.figure(tested["auc"])
    for label, row in zip(tiny.THREE, tested["confusion"], strict=True):
        assert f"| is {label} | {' | '.join(map(str, row))} |" in told


def test_a_card_tells_of_the_gate_of_similar_films_and_how_probabilities_fared() -> None:
    bare = card.render(tiny.info(metrics={"test": summary()}))
    assert "Statistics of its films: not reported." in bare
    assert "No training films go with the model" in bare
    bins = (
        {"low": 0, "high": 0.9, "films": 40, "found": 2, "ci95": (0.006, 0.169)},
        {"low": 0.9, "high": 1, "films": 0, "found": 0},
    )
    told = card.render(
        tiny.info(
            metrics={"test": summary()},
            gate={"train_films": 1000, "val_films": 500, "val_refused": 4, "member": "first"},
            similar={"films": 2000, "pictures": False},
            track_record=[{"finding": "PNEUMONIA", "bins": bins}],
        )
    )
    assert "| Fitted on | 1,000 training films |" in told
    assert "| Of those refused | 4 (0.8 %) |" in told
    assert "| That of the member | first |" in told
    assert "of 2,000 training films: their classes, without pictures." in told
    assert "| Probability of PNEUMONIA | Test films | Had it | Share | 95 % interval |" in told
    assert "| 0 to 90 % | 40 | 2 | 5.0 % | 0.6 to 16.9 % |" in told
    assert "| 90 to 100 % | 0 | 0 | not reported | not reported |" in told


def test_patients_are_told_by_part_where_the_division_ran_between_patients() -> None:
    data = DataInfo(
        name="clinic",
        synthetic=False,
        counts={part: {"NORMAL": 5, "PNEUMONIA": 5} for part in ("train", "val", "test")},
        patients=20,
    )
    tested = {"val": {**summary(), "patients": 4}, "test": {**summary(), "patients": 6}}
    told = card.render(tiny.info(data=data, metrics=tested, config=RunConfig().model_dump()))
    assert "| Training | 5 | 5 | 10 | 10 |" in told
    assert "| Test | 5 | 5 | 10 | 6 |" in told
    published = RunConfig().with_values({"data.split": "published"}).model_dump()
    told = card.render(tiny.info(data=data, metrics=tested, config=published))
    assert "| Training | 5 | 5 | 10 | not reported |" in told


def test_other_films_come_with_which_they_are_and_the_runs_own_test_in_a_sentence() -> None:
    own, other = summary(films=40), summary()
    evaluation = {
        **other,
        "films": "every labelled film",
        "seen_in_training": 7,
        "excluded": 2,
        "model": "tiny",
        "data": "elsewhere",
        "synthetic": False,
        "external": True,
    }
    told = card.render(tiny.info(metrics={"test": own}), evaluation=evaluation)
    assert "### Films of elsewhere: n = 60" in told
    assert "Films: every labelled film. **The model learned from 7 of them" in told
    assert "2 of them are on the set's list of excluded films." in told
    assert f"The test of the run itself: n = 40, AUROC {text.metric(own, 'auc')}" in told
    assert "### Test films" not in told
    again = card.render(tiny.info(metrics={"test": other}), evaluation=evaluation)
    assert "The test of the run itself gave the same figures." in again
    assert "60 films of elsewhere, a set that the model was not trained on" in claims(told)[33]


def test_the_probes_stand_with_value_verdict_and_meaning() -> None:
    finding = {
        "name": "corners",
        "title": "Corners",
        "value": 0.41,
        "unit": "share",
        "ci95": [0.3, 0.5],
        "level": "warning",
        "words": "A corner turns answers.",
    }
    probes = {"films": 20, "seed": 3, "findings": [finding], "curves": {}}
    told = card.render(tiny.info(probes=probes))
    assert "| Corners | 41.0 % (30.0 to 50.0 %) | **doubtful** | A corner turns answers. |" in told
    assert "Asked on 20 test films" in told
    blur = {**finding, "name": "blur", "title": "Blur", "value": 0.217, "ci95": [0.12, 0.301]}
    told = card.render(tiny.info(probes={**probes, "findings": [blur]}))
    assert "| Blur | -21.7 percentage points (-30.1 to -12.0) |" in told


def test_an_ensemble_lists_its_members() -> None:
    members = [
        Member(name=n, run_id=n * 4, architecture="plain_cnn", cam_layer=f"{n}_relu", temperature=t)
        for n, t in (("a", 1.5), ("b", 0.8))
    ]
    told = card.render(tiny.info(members=members))
    assert "| a | aaaa | plain_cnn | 1.500 |" in told
    assert "| b | bbbb | plain_cnn | 0.800 |" in told
    assert "An ensemble of 2 networks" in told
    assert "2 networks" in claims(told)[27]


def test_each_of_the_44_items_of_claim_is_answered_once() -> None:
    for info in (tiny.info(), tiny.info(metrics={"test": summary()})):
        answers = claims(card.render(info))
        assert list(answers) == list(range(1, 45))
        assert all(answer.strip() for answer in answers.values())


def test_claim_says_what_is_not_reported_and_why_an_item_does_not_apply() -> None:
    real = DataInfo(name="clinic", synthetic=False, counts={})
    states = {item.number: item.answer for item in claim.items(tiny.info(data=real))}
    for number in (11, 13, 15, 16, 18, 20, 33, 35, 37, 39, 44):
        assert states[number].state == "not reported"
        assert states[number].words.startswith("Not reported.")
    assert states[34].words == "Not applicable: no clinical trial."
    drawn = {item.number: item.answer for item in claim.items(tiny.info())}
    assert drawn[11].words == "Not applicable: the films show nobody."


def test_the_groups_of_claim_end_with_its_last_item() -> None:
    assert claim.GROUPS[-1][1] == len(claim.items(tiny.info())) == 44


def test_names_are_text_whatever_they_hold() -> None:
    data = DataInfo(name=HOSTILE, synthetic=False, licence=HOSTILE, counts={"test": {HOSTILE: 1}})
    classes = ("NORMAL", HOSTILE)
    told = card.render(tiny.info(classes, data=data, metrics={"test": summary(classes)}))
    assert text.plain(HOSTILE) in told
    assert not re.search(r"(?<!\\)<script", told)
    assert not re.search(r"(?<!\\)\]\(", told)
    for block in told.split("\n\n"):
        if block.startswith("| "):  # a table keeps its columns
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}) == 1
    assert text.plain("a\nb  c") == "a b c"
    assert text.plain("plain_cnn") == "plain_cnn"
    assert text.plain(":red[x] $1$") == "\\:red\\[x\\] \\$1\\$"
