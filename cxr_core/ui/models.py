"""Choosing the model that judges films, and saying what it is worth."""

import contextlib
from pathlib import Path

import streamlit as st

from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.errors import CxrError
from cxr_core.training import bundle_index
from cxr_core.training.bundle_index import BundleRef
from cxr_core.ui import card_view, loaders, words

_CHOSEN = "model_spec"
_BEFORE = "model_spec_before"  # session key: what was in use before one was lent


def use(spec: str) -> None:
    """Make a model (a run's id, or a name in ``models/``) the one in use in this session."""
    st.session_state[_CHOSEN] = spec


def lend(spec: str) -> None:
    """Make a model the one in use until :func:`take_back`."""
    st.session_state[_BEFORE] = st.session_state.get(_CHOSEN)
    use(spec)


def take_back() -> None:
    """Make the model that was in use before the last :func:`lend` the one in use again."""
    before = st.session_state.pop(_BEFORE, None)
    if before is not None:
        use(before)


def in_use() -> BundleRef | None:
    """Return the model in use: the one chosen in this session, else the first there is.

    Raises:
        TrainingError: the run store cannot be opened.
    """
    found = bundle_index.available(loaders.store())
    asked = st.session_state.get(_CHOSEN)
    return next((ref for ref in found if ref.spec == asked), next(iter(found), None))


def choose() -> BundleRef | None:
    """Draw the choice of a model and what the chosen one is worth; None where there is none."""
    found = {ref.spec: ref for ref in bundle_index.available(loaders.store())}
    if not found:
        return None
    if st.session_state.get(_CHOSEN) not in found:
        use(next(iter(found)))
    left, right = st.columns([1, 1.6], gap="large", vertical_alignment="bottom")
    with left:
        spec = st.selectbox(
            "Model",
            list(found),
            on_change=_settle,
            format_func=lambda name: found[name].label,
            key=_CHOSEN,
            persist_state="session",
        )
    with right:
        st.caption(worth(found[spec].info))
        if st.button("Model card", type="tertiary", icon=":material/description:"):
            card_view.read(found[spec].info)
    return found[spec]


def _settle() -> None:
    """Keep to what was chosen by hand."""
    st.session_state.pop(_BEFORE, None)


def for_synthetic(ref: BundleRef) -> BundleRef | None:
    """Return a model that knows synthetic films, for films that this one would refuse.

    One that is published comes before those of runs. None where this one knows such films, or no
    other does.
    """
    if ref.info.data.synthetic:
        return None
    found = [
        other for other in bundle_index.available(loaders.store()) if other.info.data.synthetic
    ]
    return min(found, key=lambda other: bool(other.run_id), default=None)


def folder(ref: BundleRef) -> Path:
    """Return where a model lies on this machine, fetched where it is kept elsewhere.

    Raises:
        BundleError: it is gone.
    """
    return bundle_index.resolve(ref.spec, loaders.store())


def prepare(ref: BundleRef) -> None:
    """Have a model loaded while its visitor looks for a film; faults are told with the film."""
    with contextlib.suppress(CxrError):
        loaders.prepare(folder(ref))


def worth(info: BundleInfo) -> str:
    """Return what a model is worth and what it is not for, in sentences."""
    test = info.metrics.get("test", {})
    blind = "" if info.gate else " It cannot refuse pictures unlike its films."
    knows = words.listing([words.finding(label) for label in info.classes])
    drawn = " synthetic" if info.data.synthetic else ""
    first = f"Tells {knows} apart; learned from{drawn} films of {info.data.name}."
    if test.get("auc") is None:
        return f"{first} It was never tested.{blind}"
    bounds = words.interval(test.get("ci95", {}).get("auc"))
    return (
        f"{first} Test AUROC {words.figure(test['auc'])} (95 % interval {bounds}, "
        f"n = {test['n']:,}). Of no worth for films of other ages, machines or findings than those "
        f"it learned from.{blind}"
    )
