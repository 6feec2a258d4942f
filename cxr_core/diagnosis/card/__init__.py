"""The model card: what a bundle is, what it is worth and where it fails, for people.

Follows Mitchell et al. 2019, "Model cards for model reporting" (doi 10.1145/3287560.3287596), and
answers the items of CLAIM 2024 (see `claim`). What is not known is said to be "not reported";
nothing is filled in by guess. `markdown` writes it as text, `printed` as a page with figures.
"""

from cxr_core.diagnosis.card.markdown import Section, opening, render, sections

__all__ = ["Section", "opening", "render", "sections"]
