"""The model card says what is known, says what is not, and is loud about synthetic films."""

import tiny

from cxr_core.config import ImageConfig, RunConfig
from cxr_core.diagnosis import card
from cxr_core.diagnosis.bundle import DataInfo
from cxr_core.evaluation import metrics


def test_a_card_is_loud_about_synthetic_films_and_clinical_use() -> None:
    text = card.render(tiny.info())
    assert "**Trained on synthetic films only" in text
    assert "not for clinical use" in text
    assert "phantoms **(synthetic)**" in text


def test_a_card_of_real_films_does_not_call_them_synthetic() -> None:
    data = DataInfo(name="clinic", synthetic=False, counts={"train": {"NORMAL": 3}}, patients=3)
    assert "synthetic" not in card.render(tiny.info(data=data)).lower()


def test_a_card_says_how_a_film_becomes_the_input() -> None:
    assert "32 x 32 px, fit: letterbox\n" in card.render(tiny.info())
    image = ImageConfig(size=32, fit="crop", clahe=2.5)
    assert "fit: crop, CLAHE with clip limit 2.5" in card.render(tiny.info(image=image))


def test_the_unknown_is_said_to_be_not_reported() -> None:
    text = card.render(tiny.info())
    assert "Licence: not reported" in text
    assert "Patients: not reported" in text
    assert "Test results: not reported" in text
    assert "Batch size: not reported" in text
    assert "the parts may share patients" in text


def test_a_card_shows_counts_settings_and_figures_with_their_intervals() -> None:
    summary = metrics.summarise(
        [0, 0, 1, 1, 0, 1],
        [[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]],
        tiny.BINARY,
        0.5,
        resamples=50,
    )
    config = RunConfig().with_values({"optimise.batch_size": 48, "augment.rotation": 7.0})
    text = card.render(tiny.info(metrics={"test": summary}, config=config.model_dump()))
    low, high = summary["ci95"]["auc"]
    assert "### Test films (n = 6, **synthetic**)" in text
    assert f"| AUROC | {summary['auc']:.3f} | {low:.3f} to {high:.3f} |" in text
    assert "| is NORMAL | 2 | 1 |" in text
    assert "| Training | 4 | 4 | 8 |" in text
    assert "Batch size: 48" in text
    assert "Random changes: rotation 7.0" in text
    assert "threshold of **0.500** (method: fixed for a test; chosen on: validation films)" in text
