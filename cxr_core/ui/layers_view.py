"""The network before it is trained: its parameters, where it starts from, its layers."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from cxr_core.config import RunConfig
from cxr_core.errors import CxrError
from cxr_core.ui import background, notices, words
from cxr_core.zoo import registry

_TASK = "layers_task"  # session key: the request and the work on it
_KEPT = 32  # tables, in this server


@dataclass(frozen=True)
class Wanted:
    """What decides a network's layers."""

    architecture: str
    size: int  # px
    outputs: int  # logits
    head: str
    dropout: float
    coordinates: bool

    @classmethod
    def of(cls, config: RunConfig, classes: int) -> "Wanted":
        """Return it for a run on a set of so many classes."""
        model = config.model
        return cls(
            model.architecture,
            config.image.size,
            1 if classes == 2 else classes,
            model.head,
            model.dropout,
            model.coordinates,
        )


Description = Mapping[str, Any]  # as `zoo.summary` prints it


def panel(config: RunConfig, classes: int) -> None:
    """Say what the network is, and offer its layer table, made on demand.

    Args:
        config: the run's.
        classes: of the data set.
    """
    wanted = Wanted.of(config, classes)
    described = _shelf().get(wanted)
    st.caption(line(config, described))
    with st.expander("Layers", icon=":material/layers:", key="layers", on_change="rerun") as place:
        if not place.open:
            return
        if described is not None:
            _table(described)
            return
        _make(wanted)


def line(config: RunConfig, described: Description | None = None) -> str:
    """Return the network in a sentence: its parameters and where it starts from.

    Args:
        config: the run's.
        described: what `zoo.summary` counted; without it the registry's round figure is told.
    """
    entry = registry.get(config.model.architecture)
    if described is None:
        count = f"about {_millions(entry.parameters)} parameters"
    else:
        count = f"{described['parameters']:,} parameters"
    kind, _, name = config.model.weights.partition(":")
    start = {
        "imagenet": f"from ImageNet weights ({entry.licence})",
        "bundle": f"from the bundle {name[:12]}",
    }.get(kind, "from random weights")
    return f"{entry.title}: {count}, {start}. {entry.summary}"


def describe(wanted: Wanted, task: background.Task[Any]) -> Description:
    """Build the network in a process of its own and return what it is.

    Raises:
        CxrError: it cannot be built; the text says why.
    """
    task.tell("Building the network, some ten seconds", 0, 0)
    said = background.in_a_process(
        task,
        *("cxr_core.zoo.summary", wanted.architecture, f"--size={wanted.size}"),
        *(f"--outputs={wanted.outputs}", f"--head={wanted.head}", f"--dropout={wanted.dropout}"),
        *(["--coordinates"] * wanted.coordinates),
    )
    found: Description = json.loads(said.splitlines()[-1])
    return found


def _make(wanted: Wanted) -> None:
    """Have the table made, and show how far that is."""
    asked, task = st.session_state.get(_TASK, (None, None))
    if asked != wanted:
        if task is not None:
            task.stop()
        task = background.Task[Description](lambda task: describe(wanted, task))
        st.session_state[_TASK] = (wanted, task)
    if not task.ended():
        background.watch(task, lambda done, total: "", key="layers")
        return
    try:
        _keep(wanted, task.result())
    except CxrError as error:
        notices.wrong(error)
        if st.button("Try again", key="layers_again", icon=":material/refresh:"):
            del st.session_state[_TASK]
            st.rerun()
        return
    del st.session_state[_TASK]
    st.rerun()  # the sentence above tells the exact figure from now on


def _table(described: Description) -> None:
    cells = words.count(described["cam_grid"], "cell")
    st.caption(
        f"{described['trainable_parameters']:,} of the parameters can be trained, "
        f"{described['head_parameters']:,} are the head's. Heat maps come from "
        f"`{described['cam_layer']}`, {cells} a side."
    )
    rows = pd.DataFrame(described["layers"])
    rows["shape"] = [" × ".join(map(str, shape)) for shape in rows["shape"]]
    st.dataframe(
        rows[["layer", "shape", "parameters", "kind", "part"]],
        hide_index=True,
        height=320,
        column_config={
            "layer": "Layer",
            "kind": "Kind",
            "shape": "Output",
            "parameters": st.column_config.NumberColumn("Parameters", format="localized"),
            "part": "Part",
        },
    )


def _millions(number: int) -> str:
    if number < 1_000_000:
        return f"{round(number, -3):,}"
    return f"{number / 1e6:.1f} million"


@st.cache_resource(show_spinner=False)
def _shelf() -> "OrderedDict[Wanted, Description]":
    """Return the descriptions made by this server."""
    return OrderedDict()


def _keep(wanted: Wanted, described: Description) -> None:
    shelf = _shelf()
    shelf[wanted] = described
    while len(shelf) > _KEPT:
        shelf.popitem(last=False)
