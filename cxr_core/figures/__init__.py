"""Data in, Plotly figures out: every chart of the app. Shares are passed as 0-1, shown in percent.

Pure functions; `look` holds what all figures share.
"""

from cxr_core.figures.comparison import by_group, rocs
from cxr_core.figures.films import balance, distribution, film, gray_levels, shortcuts
from cxr_core.figures.lines import NOTHING, Line, Lines, best_epoch, by_metric
from cxr_core.figures.look import CLASS_COLOURS, class_colour
from cxr_core.figures.probes import cascade, sensitivity_curve
from cxr_core.figures.results import (
    confusion,
    precision_recall,
    probability_bars,
    reliability,
    roc,
    score_bins,
    score_histogram,
)
from cxr_core.figures.sweep import (
    Axis,
    Tried,
    sweep_front,
    sweep_history,
    sweep_importance,
    sweep_parallel,
)
from cxr_core.figures.thinning import MOST_POINTS
from cxr_core.figures.training import (
    RUN_COLOURS,
    RUN_MARKERS,
    curves,
    detection,
    learning_rate,
    machine,
    pace,
    sparkline,
)

__all__ = [
    "CLASS_COLOURS",
    "MOST_POINTS",
    "NOTHING",
    "RUN_COLOURS",
    "RUN_MARKERS",
    "Axis",
    "Line",
    "Lines",
    "Tried",
    "balance",
    "best_epoch",
    "by_group",
    "by_metric",
    "cascade",
    "class_colour",
    "confusion",
    "curves",
    "detection",
    "distribution",
    "film",
    "gray_levels",
    "learning_rate",
    "machine",
    "pace",
    "precision_recall",
    "probability_bars",
    "reliability",
    "roc",
    "rocs",
    "score_bins",
    "score_histogram",
    "sensitivity_curve",
    "shortcuts",
    "sparkline",
    "sweep_front",
    "sweep_history",
    "sweep_importance",
    "sweep_parallel",
]
