"""What the machine did while a run trained: processors, memory, GPUs."""

import re

import streamlit as st

from cxr_core import figures
from cxr_core.figures import NOTHING, Lines
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
    wanted = [_CPU, _MEMORY, _MEGABYTES, *cards["load"], *cards["memory"]]
    lines = figures.by_metric(loaders.store().curves(record.run_id, wanted))
    if _CPU in lines:  # psutil's first look at the processors gives 0, whatever they do
        lines[_CPU] = lines[_CPU].at(lines[_CPU].values > 0)
    panels = [
        ("CPU", {_CPU: "CPU"}, f"CPU load{_now(lines, _CPU)}"),
        ("memory", {_MEMORY: "Memory"}, f"Memory{_now(lines, _MEMORY)}{_size(lines)}"),
        ("gpu", cards["load"], f"GPU load{_now(lines, *cards['load'])}"),
        ("gpu_memory", cards["memory"], f"GPU memory{_now(lines, *cards['memory'])}"),
    ]
    with st.grid(2, min_column_width=320, gap="medium"):
        for name, named, title in panels:
            if not named:
                continue
            with st.container(gap=None):
                charts.show(
                    figures.machine(lines, named, title, "%", most=100),
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


def _now(lines: Lines, *metrics: str) -> str:
    """Return the last values of some shares as the end of a title: ": 87 %"."""
    shown = ", ".join(f"{lines[m].values[-1]:.0f} %" for m in metrics if len(lines.get(m, NOTHING)))
    return f": {shown}" if shown else ""


def _size(lines: Lines) -> str:
    return f" ({lines[_MEGABYTES].values[-1] / 1000:.1f} GB)" if _MEGABYTES in lines else ""
