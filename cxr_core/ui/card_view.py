"""A model's card as it prints, to read on the page and, for a run's, to take away."""

import re

import streamlit as st

from cxr_core.diagnosis import bundle, card
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.diagnosis.card import printed
from cxr_core.training import reports
from cxr_core.training.tested import RunResult
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import loaders

_WIDTH = 860  # px; a card is read, and lines of a whole screen are not
_FOLDED = ("claim",)  # sections that would make the page three times as long


def show(run: RunRecord, tested: RunResult) -> None:
    """Draw the card of a run's model, with buttons to download it.

    Args:
        run: the run.
        tested: what its model said.
    """
    with st.container(horizontal=True):
        st.download_button(
            "Card for print (HTML)",
            data=lambda: reports.page(tested, loaders.store()).encode(),
            file_name=f"{run.name}-{run.run_id[:8]}-card.html",
            mime="text/html",
            icon=":material/print:",
            type="primary",
            on_click="ignore",
            help="One page with all figures; it opens without a network. About 5 MB.",
            key=f"card:html:{run.run_id}",
        )
        st.download_button(
            bundle.CARD_FILE,
            data=lambda: reports.text(tested).encode(),
            file_name=bundle.CARD_FILE,
            mime="text/markdown",
            icon=":material/download:",
            on_click="ignore",
            key=f"card:markdown:{run.run_id}",
        )
    with st.container(border=True, width=_WIDTH):
        _text(tested.info, printed.ece_before(tested.info, tested.val))


@st.dialog("Model card", width="large", icon=":material/description:")
def read(info: BundleInfo) -> None:
    """Open the card of a model of which nothing but its bundle is known.

    Args:
        info: what the bundle says of itself.
    """
    _text(info, None, heading="#")  # a dialog makes all headings smaller


def _text(info: BundleInfo, ece_before: float | None, heading: str = "####") -> None:
    st.markdown(card.opening(info))
    for section in card.sections(info, ece_before=ece_before):
        body = re.sub("^### ", f"{heading}# ", section.body, flags=re.MULTILINE)
        if section.name in _FOLDED:
            with st.expander(f"{section.title}, item by item", icon=":material/checklist:"):
                st.markdown(body)
        else:
            st.markdown(f"{heading} {section.title}\n\n{body}")
