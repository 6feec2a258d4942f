"""The card for print: one file that fetches nothing, with its figures and the names as text."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import tiny

from cxr_core.diagnosis.bundle import DataInfo
from cxr_core.diagnosis.card import printed
from cxr_core.diagnosis.evaluate import Evaluated
from cxr_core.evaluation import calibration, metrics, scores
from cxr_core.figures import Line

HOSTILE = "</script><img src=x onerror=alert(1)>"
TEMPERATURE = 2.0


class _Page(HTMLParser):
    """What a browser would make of a page: tags with their attributes, text, scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._in: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self._in[-1] if self._in else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside != "style":
            self.text += data

    @property
    def figures(self) -> str:
        """The scripts that draw, without the library."""
        return "".join(self.scripts[1:])


@pytest.fixture(autouse=True)
def small_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five megabytes of Plotly need not be parsed in every test."""
    monkeypatch.setattr(printed, "get_plotlyjs", lambda: "/* the library */")


def films(classes: tuple[str, ...], count: int = 80) -> Evaluated:
    rng = np.random.default_rng(3)
    labels = np.arange(count) % len(classes)
    logits = 3 * rng.normal(size=(count, len(classes))) + 4 * np.eye(len(classes))[labels]
    probabilities = scores.probabilities(logits, TEMPERATURE)
    summary: dict[str, Any] = metrics.summarise(labels, probabilities, classes, 0.5, resamples=30)
    return Evaluated(summary, labels, logits, probabilities)


def page(classes: tuple[str, ...] = tiny.BINARY, **changes: Any) -> _Page:
    said = films(classes)
    info = tiny.info(classes, metrics={"test": said.summary}, temperature=TEMPERATURE, **changes)
    epochs = np.arange(1.0, 5.0)
    lines = {name: Line(epochs, 1 / epochs, epochs) for name in ("train_loss", "val_loss")}
    return _Page(printed.html(info, films=said, validation=said, curves=lines))


def test_the_page_asks_the_network_for_nothing() -> None:
    made = page()
    assert made.scripts[0] == "/* the library */"
    for tag, attributes in made.tags:
        assert not {"src", "href", "srcset", "data"} & set(attributes), tag
        assert tag not in ("link", "iframe", "img", "object")
    (policy,) = [a["content"] for _, a in made.tags if "http-equiv" in a]
    assert policy is not None and policy.startswith("default-src 'none'")


def test_the_page_has_the_figures_with_their_captions_and_data() -> None:
    probes = {
        "films": 20,
        "seed": 0,
        "findings": [],
        "curves": {
            "blur": {
                "x": [0, 1],
                "unit": "px",
                "auc": [0.9, 0.123456],
                "sensitivity": [0.9, 0.8],
                "specificity": [0.9, 0.8],
            }
        },
        "cascade": {"layers": ["head", "body"], "ssim": [0.5, 0.1]},
    }
    made = page(tiny.THREE, probes=probes)
    captions = re.findall(
        "(Loss|Reliability|ROC|Precision and recall|Confusion|Probability of any "
        "finding|Blur|Likeness) ",
        made.text,
    )
    assert set(captions) >= {
        "Loss",
        "Reliability",
        "ROC",
        "Precision and recall",
        "Confusion",
        "Probability of any finding",
        "Blur",
        "Likeness",
    }
    assert made.figures.count("Plotly.newPlot(") == len([t for t, _ in made.tags if t == "figure"])
    assert "0.123456" in made.figures
    assert "Before calibration" in made.figures


def test_the_page_has_the_figures_of_the_summary() -> None:
    said = films(tiny.BINARY)
    text = page().text.replace("\xa0", " ")
    low, high = said.summary["ci95"]["auc"]
    assert f"{said.summary['auc']:.3f}" in text
    assert f"{low:.3f} to {high:.3f}" in text
    assert f"{100 * said.summary['sensitivity']:.1f} %" in text
    before = calibration.expected_calibration_error(said.labels, scores.probabilities(said.logits))
    assert printed.ece_before(tiny.info(), said) == before
    assert f"{before:.3f}" in text


def test_what_a_name_holds_is_text_and_no_markup() -> None:
    classes = ("NORMAL", HOSTILE)
    data = DataInfo(name=HOSTILE, synthetic=False, counts={"test": {HOSTILE: 4}})
    made = page(classes, data=data, name=HOSTILE)
    assert HOSTILE in made.text
    assert "img" not in {tag for tag, _ in made.tags}
    assert not any(name.startswith("on") for _, attributes in made.tags for name in attributes)
    # Figures read some markup of their own, so names reach them with their brackets written out.
    assert "\\u003cimg" not in made.figures
    assert json.dumps("&lt;img src=x")[1:-1] in made.figures


def test_the_top_warns_of_clinical_use_and_of_synthetic_films() -> None:
    drawn = page().text
    assert drawn.index("not for clinical use") < drawn.index("Intended use")
    assert "Trained on synthetic films only" in drawn
    assert "synthetic test films" in drawn
    real = page(data=DataInfo(name="clinic", synthetic=False, counts={}))
    assert "synthetic" not in real.text.lower()


def test_without_films_there_are_words_and_no_figures() -> None:
    made = _Page(printed.html(tiny.info()))
    assert "figure" not in {tag for tag, _ in made.tags}
    assert "Test results: not reported." in made.text
    assert made.scripts in ([], [""])
    assert printed.ece_before(tiny.info(), None) is None


def test_other_films_are_named_in_headings_and_captions() -> None:
    said = films(tiny.BINARY)
    evaluation = {
        **said.summary,
        "films": "every labelled film",
        "seen_in_training": 0,
        "excluded": 0,
        "model": "tiny",
        "data": "elsewhere",
        "synthetic": False,
        "external": True,
    }
    made = _Page(printed.html(tiny.info(), films=said, evaluation=evaluation))
    text = made.text.replace("\xa0", " ")
    assert "Films of elsewhere: n = 80" in text
    assert "ROC on the 80 films evaluated" in text
