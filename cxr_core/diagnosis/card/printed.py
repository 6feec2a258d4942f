"""The card as one page for print: light, on A4, with its figures; it fetches nothing."""

import html as markup
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import plotly.graph_objects as go
from markdown_it import MarkdownIt
from plotly.offline import get_plotlyjs

from cxr_core import NOT_FOR_CLINICAL_USE, __version__, figures
from cxr_core.diagnosis.card import markdown
from cxr_core.evaluation import calibration, scores
from cxr_core.figures import Lines

if TYPE_CHECKING:
    from cxr_core.diagnosis.bundle import BundleInfo

_WIDE = 680  # px: what A4 leaves between margins of 15 mm
_HALF = 330  # px
_LEGEND = 44  # characters that a legend has room for
_HIGHEST = 360  # px, of a figure that is half as wide as the page
_CURVES = {"loss": "Loss", "auroc": "AUROC"}
_CHANGES = {"brightness": "Brightness", "rotation": "Rotation", "blur": "Blur"}

# What a line must not be broken in: intervals, percentages, counts.
_TOGETHER = (
    (re.compile(r"(?<=\d) %"), "&nbsp;%"),
    (re.compile(r"\bn = (?=\d)"), "n&nbsp;=&nbsp;"),
    (re.compile(r"\(-?\d[\d.]* to -?\d[\d.]*(?:&nbsp;%)?\)"), r'<span class="ci">\g<0></span>'),
)

# Nothing may be fetched, whatever the page holds.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


class Films(Protocol):
    """What a model said about films whose classes are known."""

    @property
    def labels(self) -> np.ndarray:
        """The true class's number, int (n,)."""

    @property
    def logits(self) -> np.ndarray:
        """Before the temperature, float64 (n, classes)."""

    @property
    def probabilities(self) -> np.ndarray:
        """Calibrated, float64 (n, classes)."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure with its place in the card and what is said under it."""

    section: str
    figure: go.Figure
    caption: str
    width: int = _HALF  # px


def html(
    info: "BundleInfo",
    *,
    films: Films | None = None,
    validation: Films | None = None,
    curves: Lines | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> str:
    """Return the model card of a bundle as a page of HTML that needs no other file, about 5 MB.

    Args:
        info: what the bundle says of itself.
        films: those whose results the card shows, for the figures; without them there are none.
        validation: the films on which temperature and threshold were chosen.
        curves: figures of the training by epoch, see `figures.by_metric`.
        evaluation: results on other films than the run's test, see `markdown.sections`.
    """
    before = ece_before(info, validation)
    parts = markdown.sections(info, evaluation=evaluation, ece_before=before)
    shown = [
        *_of_training(info, curves),
        *_of_calibration(info, validation),
        *_of_films(info, films, evaluation),
        *_of_probes(info.probes),
    ]
    body = "\n".join(
        f'<section id="{part.name}">\n<h2>{markup.escape(part.title)}</h2>\n'
        f"{_from_markdown(part.body)}"
        f"{_together([each for each in shown if each.section == part.name], part.name)}\n</section>"
        for part in parts
    )
    name = markup.escape(info.name)
    return _PAGE.format(
        policy=_POLICY,
        name=name,
        style=_STYLE,
        plotly=get_plotlyjs() if shown else "",
        notice=markup.escape(NOT_FOR_CLINICAL_USE),
        made=markup.escape(f"{info.created[:10]}, run {info.run_id[:8] or 'not reported'}"),
        opening=_from_markdown(markdown.in_a_paragraph(info, evaluation)),
        warning=f'<p class="drawn">{markdown.SYNTHETIC}</p>' if info.data.synthetic else "",
        body=body,
        version=markup.escape(__version__),
    )


def ece_before(info: "BundleInfo", validation: Films | None) -> float | None:
    """Return the calibration error on the validation films before they were calibrated on, 0-1.

    None where there are no such films.
    """
    if validation is None or not len(validation.labels):
        return None
    return calibration.expected_calibration_error(
        validation.labels, info.uncalibrated(validation.logits)
    )


# -- figures ---------------------------------------------------------------------------------------


def _of_training(info: "BundleInfo", curves: Lines | None) -> Iterator[Drawn]:
    monitor = (info.config.get("stop") or {}).get("monitor", "val_loss")
    epochs = {name: line for name, line in (curves or {}).items() if not name.startswith("batch_")}
    for metric, name in _CURVES.items():
        if f"val_{metric}" in epochs:
            yield Drawn(
                "training",
                figures.curves(epochs, 1, metric, monitor),
                f"{name} on training and validation films by epoch.",
            )


def _of_calibration(info: "BundleInfo", validation: Films | None) -> Iterator[Drawn]:
    if validation is not None and len(validation.labels):
        yield Drawn(
            "decision",
            _reliability(info, validation),
            f"Reliability on {len(validation.labels):,} validation films, by which it was "
            "calibrated: on the diagonal a probability comes true as often as it says.",
        )


def _of_films(
    info: "BundleInfo", films: Films | None, evaluation: Mapping[str, Any] | None
) -> Iterator[Drawn]:
    if films is None or not len(films.labels):
        return
    summary = evaluation or info.metrics.get("test") or {}
    drawn = evaluation["synthetic"] if evaluation else info.data.synthetic
    which = f"{'synthetic ' if drawn else ''}{'films evaluated' if evaluation else 'test films'}"
    which = f"the {len(films.labels):,} {which}"
    classes = [_shown(label) for label in info.classes]
    threshold = info.threshold.value
    yield Drawn(
        "decision",
        _reliability(info, films),
        f"Reliability on {which}, which had no part in the calibration.",
    )
    labels, probabilities = films.labels, films.probabilities
    yield Drawn(
        "results",
        figures.roc(labels, probabilities, classes, threshold, _intervals(summary, "auc")),
        f"ROC on {which}, with the operating point.",
    )
    yield Drawn(
        "results",
        figures.precision_recall(
            labels, probabilities, classes, threshold, _intervals(summary, "average_precision")
        ),
        f"Precision and recall on {which}; dotted: the share of findings among them.",
    )
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (labels, scores.decide(probabilities, threshold)), 1)
    yield Drawn(
        "results",
        figures.confusion(counts, classes),
        f"Confusion on {which}: films, and their share of the true class.",
    )
    yield Drawn(
        "results",
        figures.score_histogram(labels, probabilities, classes, threshold),
        f"Probability of any finding on {which}, by true class.",
    )


def _of_probes(probes: Mapping[str, Any] | None) -> Iterator[Drawn]:
    for kind, name in _CHANGES.items():
        curve = ((probes or {}).get("curves") or {}).get(kind)
        if curve:
            yield Drawn(
                "probes",
                figures.sensitivity_curve(curve, name),
                f"{name} of the test films changed step by step.",
            )
    cascade = (probes or {}).get("cascade")
    if cascade:
        yield Drawn(
            "probes",
            figures.cascade(cascade["layers"], cascade["ssim"]),
            "Likeness of heat maps to the trained network's while its weights become random from "
            "the last layer to the first (Adebayo et al. 2018, arXiv 1810.03292).",
        )


def _reliability(info: "BundleInfo", films: Films) -> go.Figure:
    return figures.reliability(
        {
            "Before calibration": calibration.reliability(
                films.labels, info.uncalibrated(films.logits)
            ),
            "After": calibration.reliability(films.labels, films.probabilities),
        }
    )


def _intervals(summary: Mapping[str, Any], key: str) -> dict[str, Any]:
    by_class: Mapping[str, Mapping[str, Any]] = summary.get("per_class") or {}
    return {
        _shown(label): (values.get("ci95") or {}).get(key) for label, values in by_class.items()
    }


def _shown(label: str) -> str:
    """Write a class name so that a figure, which reads some markup, shows it as it is."""
    return markup.escape(label, quote=False)


# -- the page --------------------------------------------------------------------------------------


def _from_markdown(text: str) -> str:
    """Return HTML of a card's Markdown; whatever HTML it holds is shown as text."""
    page = str(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))
    for pattern, kept_together in _TOGETHER:
        page = pattern.sub(kept_together, page)
    return page


def _together(drawn: Sequence[Drawn], section: str) -> str:
    if not drawn:
        return ""
    shown = [_figure(each, f"{section}-{place}") for place, each in enumerate(drawn, start=1)]
    return '<div class="figures">\n' + "\n".join(shown) + "\n</div>"


def _figure(drawn: Drawn, name: str) -> str:
    drawn.figure.update_layout(
        width=drawn.width,
        height=min(drawn.figure.layout.height, _HIGHEST),
        template="none",
        margin_r=22,
        font={"family": "Inter, 'Segoe UI', Roboto, sans-serif", "size": 11, "color": "#1C2833"},
    )
    drawn.figure.for_each_trace(lambda trace: trace.update(name=_folded(trace.name)))
    drawn.figure.update_xaxes(title_font_size=11)
    drawn.figure.update_yaxes(title_font_size=11, constraintoward="top")
    # Plotly's own page would carry its library once for every figure.
    graph = drawn.figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displayModeBar": False, "responsive": False},
    )
    caption = markup.escape(drawn.caption)
    return (
        f'<figure style="width: {drawn.width}px" aria-label="{caption}">\n{graph}\n'
        f"<figcaption>{caption}</figcaption>\n</figure>"
    )


def _folded(name: str | None) -> str | None:
    """Break a long name of a legend in two lines: it has half a page."""
    if name is None or len(name) <= _LEGEND:
        return name
    return name.replace(": ", ":<br>", 1)


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #E9EDF1; color: #1C2833;
  font: 14px/1.5 Inter, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { width: 780px; max-width: 100%; margin: 24px auto; padding: 44px 50px; background: #FFF;
  box-shadow: 0 1px 6px rgba(28, 40, 51, 0.18); counter-reset: figure; }
header { border-bottom: 2px solid #12736D; margin-bottom: 20px; padding-bottom: 12px; }
header .studio { margin: 0; color: #12736D; font-weight: 600; letter-spacing: 0.04em; }
h1 { margin: 2px 0; font-size: 27px; line-height: 1.2; overflow-wrap: anywhere; }
header .made { margin: 2px 0 0; color: #54616C; }
.notice { margin: 0 0 12px; padding: 9px 14px; border: 1.5px solid #A8321F; border-radius: 4px;
  background: #FBEEEB; color: #86210F; font-weight: 650; }
.drawn { margin: 0 0 12px; padding: 9px 14px; border: 1.5px solid #8A6D1B; border-radius: 4px;
  background: #FBF5E1; color: #5E4A10; font-weight: 650; }
h2 { margin: 30px 0 8px; padding-bottom: 3px; border-bottom: 1px solid #C9D1D8; font-size: 19px; }
h3 { margin: 20px 0 6px; font-size: 15px; }
p { margin: 0 0 10px; }
ul { margin: 0 0 12px; padding-left: 20px; }
table { width: 100%; margin: 6px 0 16px; border-collapse: collapse; font-size: 12.5px;
  line-height: 1.4; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 8px; border-bottom: 1px solid #DDE3E8; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th, td[style] { overflow-wrap: break-word; }
th { border-bottom: 1.5px solid #93A0AB; font-weight: 650; }
th:first-child, td:first-child { padding-left: 2px; overflow-wrap: normal; }
td:first-child { color: #3B4853; }
th:first-child:nth-last-child(2), td:first-child:nth-last-child(2) { width: 240px; }
.ci { white-space: nowrap; }
#probes td:nth-child(3) { overflow-wrap: normal; }
#claim td:first-child, #claim th:first-child { width: 38px; }
#claim td:nth-child(2), #claim th:nth-child(2) { width: 190px; }
.figures { display: flex; flex-wrap: wrap; gap: 14px 20px; margin: 8px 0 16px; }
figure { margin: 0; max-width: 100%; overflow-x: auto; }
figcaption { margin-top: 4px; color: #3B4853; font-size: 12px; line-height: 1.4; }
figcaption::before { counter-increment: figure; content: "Figure " counter(figure) ". ";
  font-weight: 650; }
footer { margin-top: 30px; padding-top: 10px; border-top: 1px solid #C9D1D8; color: #54616C;
  font-size: 12px; }
@media (max-width: 780px) { main { margin: 0; padding: 24px 18px; } table { display: block;
  overflow-x: auto; } }
@page { size: A4; margin: 16mm 15mm 18mm;
  @bottom-left { content: "Not for clinical use"; font: 9px sans-serif; color: #54616C; }
  @bottom-right { content: counter(page) " / " counter(pages); font: 9px sans-serif;
    color: #54616C; } }
@media print {
  body { background: none; font-size: 10.5pt; print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  main { width: auto; margin: 0; padding: 0; box-shadow: none; }
  h1, h2, h3 { break-after: avoid; }
  figure, tr, li, .notice, .drawn, header { break-inside: avoid; }
  table:not(:has(tr:nth-child(9))) { break-inside: avoid; }
  tbody tr:nth-last-child(-n+2) { break-before: avoid; }
  tbody tr:first-child { break-after: avoid; }
  thead { display: table-header-group; }
  p { orphans: 3; widows: 3; }
}
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Model card: {name}</title>
<style>{style}</style>
<script>{plotly}</script>
</head>
<body>
<main>
<header>
<p class="studio">CXR Studio · Model card</p>
<h1>{name}</h1>
<p class="made">{made}</p>
</header>
<p class="notice">{notice}</p>
{warning}
{opening}
{body}
<footer>Written by CXR Studio {version} from the run itself. {notice}</footer>
</main>
</body>
</html>
"""
