"""Heat maps: which parts of a film raised a class's score, and how to show them honestly.

`methods` names the ways to compute one, `compute` and `scored` hold them, `explainer` keeps what it
takes for one network, `heat` is the map itself and its look. TensorFlow is imported where a map is
computed and not before.
"""

from cxr_core.diagnosis.explain.compute import Maps, evidence, selector, traced, with_layers
from cxr_core.diagnosis.explain.explainer import Explainer
from cxr_core.diagnosis.explain.heat import (
    COLOURS,
    MIN_EVIDENCE,
    HeatMap,
    assemble,
    colour_bar,
    overlay,
    spread,
    together,
)
from cxr_core.diagnosis.explain.methods import METHODS, Method

__all__ = [
    "COLOURS",
    "METHODS",
    "MIN_EVIDENCE",
    "Explainer",
    "HeatMap",
    "Maps",
    "Method",
    "assemble",
    "colour_bar",
    "evidence",
    "overlay",
    "selector",
    "spread",
    "together",
    "traced",
    "with_layers",
]
