"""One film's answer as a page for print: one sheet of A4 that needs no other file.

It shows what the page in the app shows, for whoever gets it handed on: film, heat map, answer, how
far to trust it, which model said it, and its limits. Of the film's header it holds what says how
the film was taken, nothing of the patient.
"""

import base64
import html as markup
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cxr_core import NOT_FOR_CLINICAL_USE, __version__, figures
from cxr_core.diagnosis import explain, scoring, sentences, stability, standing
from cxr_core.diagnosis.explain import METHODS, HeatMap

if TYPE_CHECKING:
    from cxr_core.diagnosis.bundle import BundleInfo
    from cxr_core.diagnosis.predictor import Diagnosis, Predictor
    from cxr_core.images import Radiograph

BURNED_IN = (
    "Its header says that text is burned into this film's pixels; it may name the patient. Look "
    "before you hand this on."
)
REFUSED = "The model's gate refused this image: the numbers are not to be relied on."
SIDE = 1_000  # px, longer side of the pictures: 280 dots an inch where a film takes half the sheet
_QUALITY = 88  # of their JPEGs
_WIDE, _HALF, _HIGHEST, _CAPTION = 184, 89.5, 130, 9  # mm, of the pictures on the sheet
_BARS = 5  # classes that get a bar of their own
_REASONS = 3  # why a film is refused
_NOTES = 4  # sentences about how a film was read
_TAGS = ("Modality", "BodyPartExamined", "ViewPosition")  # how the film was taken
_ANY, _ANY_COLOUR = "any finding", "#5B6B7A"

# Nothing may be fetched or run, whatever the page holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True, eq=False)
class Shown:
    """A heat map as it is laid over its film."""

    heatmap: HeatMap
    opacity: float = 0.6  # 0-1, of the strongest evidence
    colours: str = "inferno"  # a key of `explain.COLOURS`
    contours: bool = False

    def over(self, pixels: np.ndarray) -> np.ndarray:
        """Return the film with the map over it: uint8 (height, width, 3), RGB."""
        return explain.overlay(
            pixels, self.heatmap, self.opacity, colours=self.colours, contours=self.contours
        )


def page(
    predictor: "Predictor",
    film: "Radiograph",
    diagnosis: "Diagnosis",
    shown: Shown | None = None,
    *,
    synthetic: bool = False,
    made: datetime | None = None,
    side: int = SIDE,
) -> str:
    """Return the report of one film as HTML, about 0.4 MB.

    Args:
        predictor: the model that gave the answer.
        film: the film.
        diagnosis: the answer, or the refusal.
        shown: the heat map to show; the answer's own by default.
        synthetic: whether the film is one of the app's own drawings.
        made: when; now by default.
        side: px, at most, of the longer side of the pictures.
    """
    info = predictor.info
    if shown is None and diagnosis.heatmap is not None:
        shown = Shown(diagnosis.heatmap)
    when = made or datetime.now().astimezone()
    told = _trust(predictor, diagnosis) if diagnosis.accepted else []
    return _PAGE.format(
        policy=_POLICY,
        style=_STYLE,
        title=markup.escape(film.name),
        made=markup.escape(f"{when:%Y-%m-%d %H:%M %Z}".strip()),
        notice=markup.escape(NOT_FOR_CLINICAL_USE),
        warnings="\n".join(
            f'<p class="warning">{markup.escape(words)}</p>'
            for words in _warnings(diagnosis, synthetic)
        ),
        answer=markup.escape(_headline(diagnosis)),
        reasons=_list(_reasons(diagnosis), "reasons"),
        pictures=_pictures(film, shown, side),
        bars=_bars(diagnosis),
        trust=f"<h2>How far to trust it</h2>\n{_list(told, 'trust')}" if told else "",
        film=_facts(_about_film(film)),
        model=_facts(_about_model(info)),
        limits=_list(_limits(info), "limits"),
        version=markup.escape(__version__),
    )


def _headline(diagnosis: "Diagnosis") -> str:
    if diagnosis.accepted:
        return sentences.answer(diagnosis)
    if diagnosis.label is None:
        return "Not judged: the model's gate refused this image"
    return f"Refused, answered on request. {sentences.answer(diagnosis)}"


def _warnings(diagnosis: "Diagnosis", synthetic: bool) -> Iterator[str]:
    if synthetic:
        yield "This film is synthetic, drawn by a program: it shows nobody."
    elif diagnosis.synthetic:
        yield scoring.SYNTHETIC
    if diagnosis.burned_in:
        yield BURNED_IN
    if not diagnosis.accepted and diagnosis.label is not None:
        yield REFUSED
    if diagnosis.label is not None:
        yield from diagnosis.unchecked


def _reasons(diagnosis: "Diagnosis") -> list[str]:
    more = len(diagnosis.reasons) - _REASONS
    rest = f" And {more} more {'reason' if more == 1 else 'reasons'}." if more > 0 else ""
    shown = list(diagnosis.reasons[:_REASONS])
    return [*shown[:-1], shown[-1] + rest] if shown else []


def _trust(predictor: "Predictor", diagnosis: "Diagnosis") -> list[str]:
    """Return what an accepted film's answer is worth, a sentence or two each."""
    info = predictor.info
    assert diagnosis.square is not None  # it has an answer
    steady = stability.measure(predictor.probabilities, diagnosis.square, info.threshold.value)
    told = (
        standing.fared(info, diagnosis),
        steady.words,
        standing.distance(diagnosis),
        standing.alike(predictor.similar(diagnosis)),
        _sane(info),
    )
    return [words for words in told if words]


def _sane(info: "BundleInfo") -> str:
    """Return what the model's own probes found of its heat maps; "" where they were not asked."""
    findings = (info.probes or {}).get("findings", [])
    asked = (each for each in findings if each["name"] == "sanity")
    return next((each["words"] for each in asked if each["value"] is not None), "")


# -- the parts -------------------------------------------------------------------------------------


def _pictures(film: "Radiograph", shown: Shown | None, side: int) -> str:
    pixels = fitted(film.pixels, side)
    pictures = [_picture(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), "Film", "The film")]
    if shown is not None:
        pictures.append(
            _picture(shown.over(pixels), _caption(shown.heatmap), "The heat map over the film")
        )
    # As high as the pictures are at their full width, with their captions; less where text needs
    # the room.
    width = _WIDE if len(pictures) == 1 else _HALF
    height = min(width * pixels.shape[0] / pixels.shape[1], _HIGHEST) + _CAPTION
    joined = "\n".join(pictures)
    return f'<div class="pictures" style="flex-basis: {height:.0f}mm">\n{joined}\n</div>'


def _caption(heatmap: HeatMap) -> str:
    what = "spoke" if METHODS[heatmap.method].at_layer else "could change the score"
    caption = f"What {what} for {sentences.finding(heatmap.target)}: {heatmap.title}. "
    if heatmap.flat:
        return f"{caption}No clear evidence: nothing stands out."
    if heatmap.evidence is not None:
        caption += f"What stands out adds up to {heatmap.evidence:.1f} logits. "
    unit = heatmap.unit.partition(",")[0]  # two lines of a caption have no room for what it omits
    return f"{caption}Brightest: {heatmap.peak:.2g} {unit}."


def fitted(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return a film, uint8 (height, width), with a longer side of at most ``side`` px."""
    scale = side / max(pixels.shape)
    if scale >= 1:
        return pixels
    height, width = (max(1, round(length * scale)) for length in pixels.shape)
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _picture(rgb: np.ndarray, caption: str, alt: str) -> str:
    encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY)
    )[1]
    data = base64.b64encode(encoded.tobytes()).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{alt}">'
        f"<figcaption>{markup.escape(caption)}</figcaption></figure>"
    )


def _bars(diagnosis: "Diagnosis") -> str:
    """Return a bar a class with the threshold where it applies, as the page in the app has them."""
    if not diagnosis.probabilities:
        return ""
    classes = diagnosis.classes
    bars = [
        (sentences.finding(label), share, figures.class_colour(label, classes), False)
        for label, share in diagnosis.probabilities.items()
    ]
    if len(bars) == 2:
        bars[1] = (*bars[1][:3], True)
        left_out = ""
    else:
        kept = sorted(bars[1:], key=lambda bar: -bar[1])[: _BARS - 1]
        left_out = _left_out(bars[1:], kept)
        bars = [
            (_ANY, diagnosis.abnormal or 0.0, _ANY_COLOUR, True),
            bars[0],
            *(bar for bar in bars[1:] if bar in kept),
        ]
    rows = "\n".join(_bar(*bar, diagnosis.threshold) for bar in bars)
    threshold = sentences.percent(diagnosis.threshold)
    return (
        f'<div class="bars" role="img" aria-label="Probability of each class">\n{rows}\n'
        f"<p>Calibrated probability; the line is the threshold of {threshold}.{left_out}</p></div>"
    )


def _left_out(findings: Sequence[tuple], kept: Sequence[tuple]) -> str:
    others = [bar for bar in findings if bar not in kept]
    if not others:
        return ""
    most = sentences.probability(max(bar[1] for bar in others))
    return f" {len(others)} less probable findings are left out, the most probable at {most}."


def _bar(name: str, share: float, colour: str, marked: bool, threshold: float) -> str:
    mark = f'<b style="left: {100 * threshold:.2f}%"></b>' if marked else ""
    return (
        f'<div class="bar"><span>{markup.escape(name.capitalize())}</span>'
        f'<i><u style="width: {100 * share:.2f}%; background: {colour}"></u>{mark}</i>'
        f"<span>{sentences.probability(share)}</span></div>"
    )


def _about_film(film: "Radiograph") -> list[tuple[str, str]]:
    taken = [film.tags[name] for name in _TAGS if film.tags.get(name)]
    return [
        ("File", f"{film.format}, {film.mode}, {film.width} × {film.height} px"),
        *([("Header", ", ".join(taken))] if taken else []),
        *([("Read", " ".join(film.notes[:_NOTES]))] if film.notes else []),
    ]


def _about_model(info: "BundleInfo") -> list[tuple[str, str]]:
    trained = sum((info.data.counts.get("train") or {}).values())
    what = f"{len(info.members)} networks together" if info.members else info.architecture
    drawn = "synthetic films" if info.data.synthetic else "films"
    run = f", run {info.run_id[:8]}" if info.run_id else ""
    chosen = f"{sentences.percent(info.threshold.value)}, by "
    chosen += f"{sentences.threshold_method(info.threshold.method)} on {info.threshold.chosen_on}"
    return [
        ("Model", f"{info.name}, {what}"),
        ("Version", f"{scoring.version(info)}, {info.created[:10]}{run}"),
        ("Trained on", f"{trained:,} {drawn} of {info.data.name}"),
        ("Tested", _tested(info)),
        ("Threshold", f"{chosen} films"),
    ]


def _tested(info: "BundleInfo") -> str:
    test = info.metrics.get("test") or {}
    if test.get("auc") is None:
        return "not reported"
    low, high = (test.get("ci95") or {}).get("auc") or (None, None)
    between = f" (95 % interval {low:.3f} to {high:.3f})" if low is not None else ""
    films = f", n = {test['n']:,} films" if test.get("n") else ""
    return f"AUROC {test['auc']:.3f}{between}{films} like those it was trained on"


def _limits(info: "BundleInfo") -> list[str]:
    here = standing.prevalence(info)
    had = f"of which had {sentences.asked(info.classes)}"
    among = f", {sentences.percent(here)} {had}" if here is not None else ""
    return [
        "A model knows the films it was trained on: of another hospital, another age or another "
        "machine its numbers mean less, or nothing.",
        f"The probability is calibrated on films like those{among}; where the share of ill people "
        "is another, it is not.",
        "A heat map shows where a score came from, not where disease is.",
    ]


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = (
        f"<dt>{markup.escape(name)}</dt><dd>{markup.escape(value)}</dd>" for name, value in facts
    )
    return "<dl>\n" + "\n".join(rows) + "\n</dl>"


def _list(lines: Sequence[str], kind: str) -> str:
    if not lines:
        return ""
    items = "\n".join(f"<li>{markup.escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">\n{items}\n</ul>'


# The sheet has a fixed height, and the pictures take what the text leaves: so it is one page.
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #E9EDF1; color: #1C2833;
  font: 9.2pt/1.38 Inter, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { display: flex; flex-direction: column; width: 210mm; height: 296mm; margin: 16px auto;
  padding: 11mm 13mm 9mm; overflow: hidden; background: #FFF;
  box-shadow: 0 1px 6px rgba(28, 40, 51, 0.18); }
header { display: flex; justify-content: space-between; gap: 6mm; color: #54616C; }
header b { color: #12736D; font-weight: 600; letter-spacing: 0.04em; }
h1 { margin: 1mm 0 2.5mm; padding-bottom: 2mm; border-bottom: 2px solid #12736D;
  font-size: 13pt; line-height: 1.2; }
h1 span, dd { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
  overflow: hidden; overflow-wrap: anywhere; }
dd { -webkit-line-clamp: 3; }
p, ul, dl, dd, figure { margin: 0; }
.notice, .warning { margin-bottom: 1.5mm; padding: 1.2mm 3mm; border: 1.2px solid #A8321F;
  border-radius: 3px; background: #FBEEEB; color: #86210F; font-weight: 650; }
.warning { border-color: #8A6D1B; background: #FBF5E1; color: #5E4A10; }
.answer { margin: 1.5mm 0; font-size: 14pt; font-weight: 650; line-height: 1.22;
  overflow-wrap: anywhere; }
h2 { margin: 2.5mm 0 0.8mm; font-size: 10pt; }
ul { padding-left: 4.5mm; }
.reasons { margin-bottom: 2mm; }
main > * { flex-shrink: 0; }
.pictures { display: flex; flex: 0 1 auto; gap: 5mm; min-height: 34mm; margin: 1mm 0 1mm; }
figure { display: flex; flex: 1 1 0; flex-direction: column; min-width: 0; min-height: 0; }
img { flex: 1 1 0; width: 100%; min-height: 0; object-fit: contain; }
figcaption { min-height: 2.6em; margin-top: 1mm; color: #3B4853; font-size: 8.4pt;
  line-height: 1.3; }
.bar { display: grid; grid-template-columns: 42mm 1fr 22mm; gap: 3mm; align-items: center;
  margin-bottom: 0.8mm; font-variant-numeric: tabular-nums; }
.bar span:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bar i { position: relative; height: 4mm; border-radius: 2px; background: #EDF1F4; }
.bar u { display: block; height: 100%; border-radius: 2px; }
.bar b { position: absolute; top: -0.7mm; bottom: -0.7mm; width: 0;
  border-left: 1.6px solid #1C2833; }
.bars p { color: #54616C; font-size: 8.4pt; }
.about { display: grid; grid-template-columns: 1fr 1.25fr; gap: 0 6mm; align-items: start; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.3mm 2.5mm; font-size: 8.6pt; }
dt { color: #54616C; }
.limits { margin-bottom: 2mm; font-size: 8.4pt; }
footer { margin-top: auto; padding-top: 1.2mm; border-top: 1px solid #C9D1D8; color: #54616C;
  font-size: 8pt; }
@media screen and (max-width: 820px) {
  main { width: auto; height: auto; margin: 0; padding: 18px; }
  .pictures { flex: none; flex-wrap: wrap; }
  figure { flex: 1 1 280px; }
  img { flex: none; }
  .about { grid-template-columns: 1fr; }
}
@page { size: A4; margin: 0; }
@media print {
  body { background: none; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { margin: 0; box-shadow: none; break-inside: avoid; }
}
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Report: {title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header><b>CXR Studio · Report of one film</b><span>{made}</span></header>
<h1><span>{title}</span></h1>
<p class="notice">{notice}</p>
{warnings}
<p class="answer">{answer}</p>
{reasons}
{pictures}
{bars}
{trust}
<div class="about">
<section><h2>The film</h2>
{film}</section>
<section><h2>The model</h2>
{model}</section>
</div>
<h2>Limits</h2>
{limits}
<footer>Written by CXR Studio {version}. {notice}</footer>
</main>
</body>
</html>
"""
