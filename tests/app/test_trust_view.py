"""The Trust panel says in words what the probes found."""

import pytest
from streamlit.testing.v1 import AppTest

from cxr_core.ui import trust_view


def finding(name: str, level: str, **changes: object) -> dict[str, object]:
    return {
        "name": name,
        "title": name.capitalize(),
        "value": 0.25,
        "unit": "share",
        "ci95": [0.2, 0.3],
        "level": level,
        "words": f"Words about {name}.",
        **changes,
    }


def panel() -> None:
    from cxr_core.ui import trust_view

    finding = {
        "name": "corners",
        "title": "Corners",
        "value": 0.2487,
        "unit": "share",
        "ci95": [0.213, 0.293],
        "level": "warning",
        "words": "The lower left corner speaks for TUBERCULOSIS.",
    }
    unknown = {**finding, "name": "edges", "title": "Edges", "value": None, "ci95": None}
    unknown |= {"level": "unknown", "words": "Too few test films to tell."}
    curve = {"x": [0, 1], "unit": "px", "auc": [0.9, 0.8]}
    curve |= {"sensitivity": [0.9, 0.8], "specificity": [0.9, None]}
    probes = {
        "films": 90,
        "seed": 0,
        "findings": [finding, unknown, {**finding, "name": "blur", "title": "Blur"}],
        "curves": {"blur": curve},
        "cascade": {"layers": ["dense", "conv"], "ssim": [0.4, 0.1]},
    }
    trust_view.show("run", probes)


def nothing() -> None:
    from cxr_core.ui import trust_view

    trust_view.show("run", None)


def test_findings_stand_with_figure_verdict_and_sentence() -> None:
    app = AppTest.from_function(panel, default_timeout=60).run()
    assert not app.exception
    said = "\n".join(block.value for block in app.markdown)
    assert "2 of 2 probes in doubt: corners and blur" in said
    assert "24.9 % (21.3 to 29.3 %)" in said
    assert "The lower left corner speaks for TUBERCULOSIS." in said
    assert "Too few test films to tell." in said
    assert "Doubtful" in said
    assert "Not known" in said
    assert len(app.get("plotly_chart")) == 2


def test_a_run_without_probes_says_what_they_would_be() -> None:
    app = AppTest.from_function(nothing, default_timeout=60).run()
    assert not app.exception
    assert "this run has none" in app.markdown[0].value


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        (["fine", "fine", "unknown"], "2 probes asked, nothing amiss"),
        (["warning", "fine"], "1 of 2 probes in doubt: a0"),
        (["unknown"], "The probes could not tell what the network uses"),
    ],
)
def test_all_findings_in_one_sentence(levels: list[str], words: str) -> None:
    findings = [finding(f"a{place}", level) for place, level in enumerate(levels)]
    assert trust_view.headline(findings) == words


def test_figures_have_their_unit() -> None:
    assert trust_view.value(finding("x", "fine", unit="AUROC")) == "AUROC 0.25 (0.20 to 0.30)"
    assert trust_view.value(finding("x", "fine", unit="SSIM", ci95=None)) == "SSIM 0.25"
    assert trust_view.value(finding("x", "unknown", value=None)) == ""


def test_a_fall_has_the_sign_and_unit_of_its_sentence() -> None:
    fallen = finding("brightness", "warning", value=0.217, ci95=[0.12, 0.301])
    assert trust_view.value(fallen) == "-21.7 percentage points (-30.1 to -12.0)"
    alone = finding("blur", "fine", value=-0.01, ci95=None)
    assert trust_view.value(alone) == "+1.0 percentage points"
