"""What the machine did while a run trained: processors, memory, GPUs."""

import re

import pandas as pd
import streamlit as st

from cxr_core import figures
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import charts, loaders

_CPU = "system/cpu_utilization_percentage"
_MEMORY = "system/system_memory_usage_percentage"
_MEGABYTES = "system/system_memory_usage_megabytes"
_GPU = re.compile(r"system/gpu_(\d+)_(utilization|memory_usage)_percentage")


def panel(record: RunRecord, key: str) -> None:
    """Draw CPU, memory, and load and memory of each GPU over the minutes of a run.

    Args:
        record: the run.
        key: prefix of the charts' keys.
    """
    names = [name for name in record.metrics if name.startswith("system/")]
    if not names:
        st.markdown(
            ":gray[The first look at the machine comes with the first steps.]"
            if record.status.active
            else ":gray[This run kept no record of the machine.]"
        )
        return
    cards = {"load": _gpus(names, "utilization"), "memory": _gpus(names, "memory_usage")}
    table = loaders.store().curves(
        record.run_id, [_CPU, _MEMORY, _MEGABYTES, *cards["load"], *cards["memory"]]
    )
    panels = [
        ("CPU", {_CPU: "CPU"}, f"CPU load{_now(table, _CPU)}"),
        ("memory", {_MEMORY: "Memory"}, f"Memory{_now(table, _MEMORY)}{_size(table)}"),
        ("gpu", cards["load"], f"GPU load{_now(table, *cards['load'])}"),
        ("gpu_memory", cards["memory"], f"GPU memory{_now(table, *cards['memory'])}"),
    ]
    with st.grid(2, min_column_width=320, gap="medium"):
        for name, lines, title in panels:
            if not lines:
                continue
            with st.container(gap=None):
                charts.show(
                    figures.machine(table, lines, title, "%", most=100),
                    key=f"{key}:{record.run_id}:machine:{name}",
                    alt=f"{title}, over the minutes of the run",
                )
    if not cards["load"]:
        st.caption("No GPU was seen by this run.")


def _gpus(names: list[str], what: str) -> dict[str, str]:
    """Return the metrics of all GPUs by their names in a legend, in the order of the cards."""
    found = [(match, name) for name in names if (match := _GPU.fullmatch(name))]
    of_kind = sorted((int(match[1]), name) for match, name in found if match[2] == what)
    return {name: f"GPU {number}" for number, name in of_kind}


def _now(table: pd.DataFrame, *metrics: str) -> str:
    """Return the last values of some shares as the end of a title: ": 87 %"."""
    last = [_last(table, metric) for metric in metrics]
    shown = ", ".join(f"{value:.0f} %" for value in last if value is not None)
    return f": {shown}" if shown else ""


def _size(table: pd.DataFrame) -> str:
    megabytes = _last(table, _MEGABYTES)
    return "" if megabytes is None else f" ({megabytes / 1000:.1f} GB)"


def _last(table: pd.DataFrame, metric: str) -> float | None:
    points = table[table["metric"] == metric]
    return None if points.empty else float(points.sort_values("time")["value"].iloc[-1])
