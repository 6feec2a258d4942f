"""What a network uses, as the probes found it: each with its figure, its verdict, its sentence."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from cxr_core import figures
from cxr_core.evaluation.probes import CHANGES, fall
from cxr_core.ui import charts, words

_GROUPS = (
    ("What it uses", ("lungs_out", "border_out", "corners", "edges", "baseline")),
    ("How it holds when films change", ("brightness", "rotation", "blur")),
    ("Whether its heat maps can be believed", ("sanity", "energy", "pointing")),
)
_Colour = Literal["orange", "green", "gray"]
_VERDICTS: dict[str, tuple[str, str, _Colour]] = {
    "warning": ("Doubtful", ":material/warning:", "orange"),
    "fine": ("Nothing amiss", ":material/check:", "green"),
    "unknown": ("Not known", ":material/help:", "gray"),
}
_CURVES = {"brightness": "Brightness", "rotation": "Rotation", "blur": "Blur"}


def show(run_id: str, probes: Mapping[str, Any] | None) -> None:
    """Draw what the probes of a run found.

    Args:
        run_id: the run, for the charts' keys.
        probes: as `cxr_core.diagnosis.probing.probe` gives them; None where there are none.
    """
    if not probes or not probes.get("findings"):
        st.markdown(
            "Probes ask what a network uses: they change test films and look at its answers. They "
            "run after the test; this run has none."
        )
        return
    findings = probes["findings"]
    st.markdown(f"#### {headline(findings)}")
    st.caption(
        f"Asked on {words.count(probes['films'], 'test film')}, drawn by seed, classes as equal as "
        "they are there. In brackets 95 % intervals by patient. A probe that finds nothing proves "
        "nothing: there are more shortcuts than probes."
    )
    curves = probes.get("curves") or {}
    for title, names in _GROUPS:
        found = [finding for finding in findings if finding["name"] in names]
        if not found:
            continue
        st.markdown(f"**{title}**")
        for finding in found:
            _finding(finding)
        drawn = {name: curves[name] for name in names if name in curves}
        if drawn:
            _curves(run_id, drawn)
    if probes.get("cascade"):
        _cascade(run_id, probes["cascade"])


def headline(findings: Sequence[Mapping[str, Any]]) -> str:
    """Return all findings in one sentence."""
    doubtful = [finding["title"] for finding in findings if finding["level"] == "warning"]
    asked = sum(finding["level"] != "unknown" for finding in findings)
    if not asked:
        return "The probes could not tell what the network uses"
    if not doubtful:
        return f"{words.count(asked, 'probe')} asked, nothing amiss"
    return f"{len(doubtful)} of {words.count(asked, 'probe')} in doubt: " + words.listing(
        [title[0].lower() + title[1:] for title in doubtful], most=len(doubtful)
    )


def value(finding: Mapping[str, Any]) -> str:
    """Return a finding's value with its unit and interval, "" where there is none."""
    if finding["value"] is None:
        return ""
    bounds = finding["ci95"]
    if finding["name"] in CHANGES:
        return fall(finding["value"], bounds)
    if finding["unit"] == "share":
        spread = f" ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %)" if bounds else ""
        return f"{words.percent(finding['value'])}{spread}"
    spread = f" ({words.interval(bounds, 2)})" if bounds else ""
    return f"{finding['unit']} {words.figure(finding['value'], 2)}{spread}"


def _finding(finding: Mapping[str, Any]) -> None:
    word, icon, colour = _VERDICTS[finding["level"]]
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{finding['title']}**", width="content")
            st.badge(word, icon=icon, color=colour)
            st.markdown(value(finding), width="content")
        st.markdown(words.plain(finding["words"]))


def _curves(run_id: str, curves: Mapping[str, Any]) -> None:
    for place, (name, curve) in zip(st.columns(len(curves)), curves.items(), strict=True):
        with place:
            charts.show(
                figures.sensitivity_curve(curve, _CURVES[name]),
                key=f"trust:{run_id}:{name}",
                alt=f"AUROC, sensitivity and specificity against {name}",
            )
    st.caption(
        "The same test films, changed step by step; sensitivity and specificity at the threshold "
        "that the bundle ships with."
    )


def _cascade(run_id: str, cascade: Mapping[str, Any]) -> None:
    charts.show(
        figures.cascade(cascade["layers"], cascade["ssim"]),
        key=f"trust:{run_id}:cascade",
        alt="Likeness of heat maps to the trained network's while its weights become random",
    )
    st.caption(
        "Weights made random from the last layer to the first: heat maps that are about what the "
        "network learned lose their likeness (Adebayo and others 2018, arXiv 1810.03292)."
    )
