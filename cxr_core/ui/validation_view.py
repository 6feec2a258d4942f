"""How the validation films fared at each epoch: figures, confusion matrix, probabilities."""

import json
from pathlib import Path
from typing import Any

import streamlit as st

from cxr_core import figures
from cxr_core.figures import NOTHING, Lines
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import charts, epochs, words

FOLDER = "validation"
_FIGURES = {
    "val_auroc": "AUROC",
    "val_sensitivity": "Sensitivity",
    "val_specificity": "Specificity",
    "val_accuracy": "Accuracy",
    "val_loss": "Loss",
}
_AS_FIGURE = ("val_auroc", "val_loss")  # the others are shares


def panel(record: RunRecord, lines: Lines, key: str) -> None:
    """Draw confusion matrix and histogram at one epoch, and the slider through all of them.

    Args:
        record: the run.
        lines: its metrics.
        key: prefix of the widgets' keys.
    """
    kept = epochs.written(record, FOLDER, ".json")
    if not kept:
        st.markdown(
            ":gray[The validation films are judged after each epoch.]"
            if record.status.active
            else ":gray[This run kept no validation results by epoch.]"
        )
        return
    chosen = epochs.choose([epoch for epoch, _ in kept], f"{key}:{record.run_id}:validation")
    _figures(lines, chosen)
    found = _read(dict(kept).get(chosen, kept[-1][1]))
    if found is None:
        st.markdown(":gray[This epoch's results are being written.]")
        return
    left, right = st.columns([1, 1.3], gap="medium")
    with left:
        st.markdown("**Confusion matrix**")
        charts.show(
            figures.confusion(found["confusion"], found["classes"]),
            key=f"{key}:{record.run_id}:confusion",
            alt=f"Confusion matrix of the validation films at epoch {chosen}",
        )
    with right:
        st.markdown("**Probabilities by true class**")
        counts = {label: found["histogram"][label] for label in found["classes"]}
        charts.show(
            figures.score_bins(found["edges"], counts, 0.5, whole=True),
            key=f"{key}:{record.run_id}:histogram",
            alt=f"Histogram of the validation films' probabilities at epoch {chosen}",
        )
    films = sum(map(sum, found["confusion"]))
    st.caption(
        f"{words.count(films, 'validation film')}. Matrix and accuracy are decided for the most "
        "probable class, sensitivity and specificity for any finding above a probability of 50 %. "
        "The probabilities are the network's own: temperature and threshold are fitted when "
        "training has ended."
    )


def _figures(lines: Lines, epoch: int) -> None:
    for place, (metric, title) in zip(st.columns(len(_FIGURES)), _FIGURES.items(), strict=True):
        line = lines.get(metric, NOTHING)
        found = line.values[line.steps == epoch]
        value = float(found[-1]) if len(found) else None
        place.metric(title, words.figure(value) if metric in _AS_FIGURE else words.percent(value))


def _read(path: Path) -> dict[str, Any] | None:
    """Return an epoch's results, None while the file is not whole."""
    try:
        return _parsed(str(path), path.stat().st_mtime)
    except (OSError, json.JSONDecodeError):
        return None


@st.cache_data(max_entries=200, show_spinner=False)
def _parsed(path: str, modified: float) -> dict[str, Any]:
    """Read a file; ``modified`` tells one that a resumed run wrote again."""
    found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return found
