"""Looking for wrong labels, on the Dataset page: the offer, the work under way, the ranking."""

import importlib.util
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from cxr_core.data.audit import Finding
from cxr_core.data.catalog import Catalog
from cxr_core.diagnosis import label_review
from cxr_core.errors import CxrError, DatasetError
from cxr_core.training import label_source
from cxr_core.ui import background, loaders, notices, words

Review = background.Task[pd.DataFrame]

_STARTING = 10.0  # seconds to start TensorFlow
_AT_ONCE = 4  # reviews; each is a process with a TensorFlow of its own


class _Shelf:
    """The reviews under way in this server, or ended with an error that nobody has read yet."""

    def __init__(self) -> None:
        self.reviews: OrderedDict[str, Review] = OrderedDict()


@st.cache_resource(show_spinner=False)
def _shelf() -> _Shelf:
    return _Shelf()


def panel(catalog: Catalog, findings: Sequence[Finding]) -> None:
    """Offer to look for wrong labels, show how far that is, or say what came of it.

    Args:
        catalog: the set.
        findings: of its audit, with the suspects where labels were checked.
    """
    st.subheader("Wrong labels", anchor=False)
    review = _shelf().reviews.get(loaders.key(catalog))
    if review is not None and not review.ended():
        background.watch(review, _films, "labels", stop="Stop")
        st.caption("It goes on if you leave this page.")
        return
    found = source(catalog)
    if found is not None:
        _outcome(findings, found)
        if label_review.has_kept(catalog):
            return
    if review is not None:
        _failure(catalog, review)
    _offer(catalog)


def source(catalog: Catalog) -> label_source.Source | None:
    """Return the predictions that the labels of a set are checked with, None before there are."""
    try:
        store = loaders.store()
    except CxrError:  # labels can be checked without it
        store = None
    return label_source.best(catalog, store)


def ranking(suspects: Sequence[Mapping[str, Any]]) -> None:
    """Draw the table of suspects, the least fitting first."""
    table = pd.DataFrame(suspects)[["path", "label", "expected", "quality"]]
    table.insert(0, "Rank", range(1, len(table) + 1))
    table = table.set_axis(["Rank", "File", "Label", "Looks like", "Fit of the label"], axis=1)
    st.dataframe(
        table,
        hide_index=True,
        height=250,
        column_config={
            "Fit of the label": st.column_config.ProgressColumn(
                min_value=0, max_value=1, format="%.2f", help="1 fits, 0 contradicts."
            )
        },
    )


def _offer(catalog: Catalog) -> None:
    number = int((catalog.frame["readable"] & (catalog.frame["label"] != "")).sum())
    seconds = _STARTING + label_review.SECONDS_A_FILM * number
    st.markdown(
        "Each film is predicted from all films of other patients. Those whose label the prediction "
        "contradicts most come first, for a reader to look at."
    )
    installed = importlib.util.find_spec("tensorflow") is not None
    st.button(
        "Look for wrong labels",
        icon=":material/label_off:",
        disabled=not installed,
        on_click=_begin,
        args=(catalog,),
        help="Features of a network trained on photographs, a linear model on them in 5 folds by "
        "patient, and confident learning (Northcutt and others 2021).",
    )
    if installed:
        st.caption(
            f"Takes {words.estimate(seconds)} for {words.count(number, 'film')} on two cores, and "
            "only once: the result is kept. Needs TensorFlow, which runs in a process of its own."
        )
    else:
        st.caption("Needs TensorFlow, which is not installed: pip install -r requirements.txt.")


def _begin(catalog: Catalog) -> None:
    reviews, key = _shelf().reviews, loaders.key(catalog)
    if key in reviews and not reviews[key].ended():  # another visitor was faster
        return
    reviews.pop(key, None)
    for other in [other for other, review in reviews.items() if review.ended()]:
        if len(reviews) >= _AT_ONCE:
            del reviews[other]
    if len(reviews) >= _AT_ONCE:
        st.toast(
            f"The labels of {_AT_ONCE} other data sets are being looked at on this server. Try "
            "again once one of them is done."
        )
        return
    reviews[key] = background.Task(
        lambda task: label_review.predict_beside(
            catalog, progress=task.tell, cancelled=task.stopped
        )
    )


def _failure(catalog: Catalog, review: Review) -> None:
    """Say why a review ended without a result; one that was stopped needs no words."""
    try:
        review.result()
    except label_review.ReviewCancelledError:
        pass
    except (DatasetError, OSError) as error:
        notices.wrong(error)


def _outcome(findings: Sequence[Finding], found_by: label_source.Source) -> None:
    found = next((f for f in findings if f.kind == "label_suspects"), None)
    if found is None:
        st.markdown("All labels were checked against the other films: none stands out.")
    else:
        st.markdown(
            f"{words.count(found.count, 'label')} may be wrong. The finding "
            f'"{found.title}" has the films, ranked.'
        )
    st.caption(
        f"By {words.plain(found_by.name)}, each film predicted without it and its patient; AUROC "
        f"{words.figure(found_by.auroc)} on the labels as they are."
    )


def _films(done: int, total: int) -> str:
    return f"{done:,} of {words.count(total, 'film')}"
