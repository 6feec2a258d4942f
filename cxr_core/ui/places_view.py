"""Where to train: this machine, or a Ray cluster."""

import streamlit as st

from cxr_core import cluster
from cxr_core.cluster import demand, survey
from cxr_core.cluster.launcher import RayLauncher, SweepLauncher
from cxr_core.cluster.survey import Node
from cxr_core.config import RunConfig
from cxr_core.errors import TrainingError
from cxr_core.training.checks import Problem
from cxr_core.ui import loaders, words

_WHERE = "train_where"  # session key: here or on a cluster
_ADDRESS = "train_cluster"  # session key: which
_RAY = "ray"
_REMEMBERED = 300  # seconds for which what the nodes said stands on the page


def choose() -> str:
    """Draw the choice where there is one; return the cluster's address, "" for this machine."""
    known = cluster.address()
    if not known and not cluster.installed():
        return ""
    titles = {
        cluster.HERE: ":material/computer: This machine",
        _RAY: f":material/lan: Ray cluster{f' at {known}' if known else ''}",
    }
    where = st.segmented_control(
        "Where to train",
        list(titles),
        required=True,
        default=cluster.HERE,
        format_func=lambda name: titles[name],
        key=_WHERE,
        persist_state="session",
    )
    if where != _RAY:
        return ""
    if known:
        return known
    typed = st.text_input(
        "Address of the cluster",
        key=_ADDRESS,
        placeholder="HOST:PORT, or empty for the cluster that this machine is part of",
        help="As `ray start` printed it; `ray://HOST:10001` from a machine that is no part of it.",
        persist_state="session",
    )
    return typed.strip() or cluster.AUTO


def problems(config: RunConfig, address: str) -> list[Problem]:
    """Say what the cluster has; return what its nodes say against a run.

    The nodes are asked once in some minutes, and again when the run is started.
    """
    nodes, error = _nodes(address, loaders.store().uri, survey.roots(config))
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        if not error:
            st.caption(_told(config, nodes), width="stretch")
        st.button(
            "Ask again",
            key="ask_cluster",
            icon=":material/refresh:",
            type="tertiary",
            help="What the nodes said is remembered for some minutes.",
            on_click=_nodes.clear,
        )
    if error:
        return [Problem("error", "The cluster is not there", error)]
    return list(survey.problems(config, nodes))


def launcher(address: str) -> RayLauncher | None:
    """Return who starts workers there; None for this machine."""
    return RayLauncher(loaders.store(), address) if address else None


def sweep_launcher(address: str) -> SweepLauncher | None:
    """Return who starts the worker of a sweep whose trials train there; None for this machine."""
    return SweepLauncher(loaders.store(), address) if address else None


def _told(config: RunConfig, nodes: list[Node]) -> str:
    wanted = demand.of(config.hardware, [node.capacity for node in nodes])
    cores, gpus = (sum(getattr(node, kind) for node in nodes) for kind in ("cores", "gpus"))
    cards = words.count(gpus, "GPU") if gpus else "no GPU"
    return (
        f"{words.count(len(nodes), 'node')} with {words.count(cores, 'core')} and {cards} in all. "
        f"The run takes {wanted.words} of one of them."
    )


@st.cache_data(ttl=_REMEMBERED, show_spinner="Asking the nodes of the cluster")
def _nodes(address: str, uri: str, roots: tuple[str, ...]) -> tuple[list[Node], str]:
    """Return what the nodes said, and why they could not be asked, "" where they could."""
    del uri  # of the store: with another one the answer is another
    try:
        return survey.look(address, loaders.store(), roots), ""
    except TrainingError as error:
        return [], str(error)
