"""Test results of a run: everything follows the threshold at the top."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import figures
from cxr_core.diagnosis.bundle import BundleInfo
from cxr_core.evaluation import HEADLINES, metrics, operating, scores
from cxr_core.evaluation.operating import Rule, Threshold
from cxr_core.training.tested import RunResult
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import charts, run_films, words

# What a summary holds, in the words of the field.
_TITLES = {
    "auc": "AUROC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "f1": "F1",
    "average_precision": "Average precision",
    "mcc": "Matthews correlation",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "log_loss": "Log loss (nats)",
}
METRIC_TITLES = {name: _TITLES[name] for name in HEADLINES}  # in the order of the tables
SHARES = ("sensitivity", "specificity", "accuracy", "balanced_accuracy", "ppv", "npv")
# What stands in a row above all figures: its name there, and what it asks.
_HEADLINES = {
    "sensitivity": ("Sensitivity", "Of the films with a finding, the share called so."),
    "specificity": ("Specificity", "Of the normal films, the share called normal."),
    "ppv": (
        "PPV",
        "Positive predictive value: of the films called a finding, the share that has one. It "
        "depends on the prevalence.",
    ),
    "npv": (
        "NPV",
        "Negative predictive value: of the films called normal, the share that is. It depends on "
        "the prevalence.",
    ),
    "balanced_accuracy": (
        "Balanced accuracy",
        "Mean over the classes of the share of their films decided right.",
    ),
}
_SHIPPED, _BY_HAND = "As it ships", "By hand"
_RULES = {
    _SHIPPED: None,
    "Youden": "youden",
    "Sensitivity at least": "sensitivity",
    "Specificity at least": "specificity",
    "Least cost": "cost",
    _BY_HAND: None,
}
_EXAMPLES = (0.1, 0.3, 0.5, 0.7, 0.9)  # probabilities shown at another prevalence


@st.fragment
def show(run: RunRecord, tested: RunResult) -> None:
    """Draw everything that the test films say at a threshold that the reader may move.

    Args:
        run: the run.
        tested: what its model said.
    """
    threshold = _threshold(run, tested)
    summary = summarised(run.run_id, threshold, tested)
    _headlines(summary)
    _matrix_and_films(run, tested, summary, threshold)
    _curves(run, tested, summary, threshold)
    st.markdown("**By class, each against the rest**")
    st.table(class_table(summary), border="horizontal", hide_index=True)
    st.markdown("**All films**")
    table = metrics_table(summary)
    half = -(-len(table) // 2)
    for column, rows in zip(st.columns(2, gap="large"), (table[:half], table[half:]), strict=True):
        column.table(rows, border="horizontal", hide_index=True)
    _prevalence(run, tested, summary, threshold)


def summarised(run_id: str, threshold: float, tested: RunResult) -> dict[str, Any]:
    """Return the metrics of a run's test films at a threshold, as the run itself counted them."""
    return _summarised(run_id, tested.info.created, threshold, tested)


@st.cache_data(max_entries=200, show_spinner=False)
def _summarised(run_id: str, created: str, threshold: float, _tested: RunResult) -> dict[str, Any]:
    info = _tested.info
    return metrics.summarise(
        _tested.test.labels,
        _tested.test.probabilities,
        info.classes,
        threshold,
        patients=_tested.test.patients,
        seed=int(info.config.get("seed", 0)),
    )


def _threshold(run: RunRecord, tested: RunResult) -> float:
    """Draw the choice of a threshold; return it, 0-1."""
    shipped, asked = tested.info.threshold, words.plain(words.asked(tested.info.classes))
    exact, moved, rule = (f"threshold{part}:{run.run_id}" for part in ("", ":slider", ":rule"))
    st.session_state.setdefault(exact, shipped.value)

    def by_rule() -> None:
        found = _by_rule(run.run_id, tested)
        if found:
            st.session_state[exact] = found.value
        elif st.session_state[rule] == _SHIPPED:
            st.session_state[exact] = shipped.value
        st.session_state[moved] = _percent(st.session_state[exact])

    def by_hand() -> None:
        st.session_state[exact] = st.session_state[moved] / 100
        st.session_state[rule] = _BY_HAND

    with st.container(border=True):
        left, middle, right = st.columns([2.4, 1.2, 1], gap="medium", vertical_alignment="bottom")
        left.slider(
            f"Threshold on the probability of {asked}",
            0.0,
            100.0,
            _percent(st.session_state[exact]),
            step=0.1,
            format="%.1f %%",
            key=moved,
            on_change=by_hand,
            help="A film at or above it is called so. Everything below follows.",
        )
        chosen = middle.selectbox(
            "Chosen by", list(_RULES), key=rule, on_change=by_rule, persist_state="session"
        )
        if chosen in ("Sensitivity at least", "Specificity at least"):
            right.number_input(
                "At least (%)",
                50.0,
                100.0,
                95.0,
                0.5,
                key=f"{rule}:target",
                on_change=by_rule,
                persist_state="session",
            )
        elif chosen == "Least cost":
            right.number_input(
                "A miss costs (false alarms)",
                0.1,
                1000.0,
                5.0,
                1.0,
                key=f"{rule}:cost",
                on_change=by_rule,
                persist_state="session",
            )
        threshold = float(st.session_state[exact])
        found = _by_rule(run.run_id, tested)
        if found:  # a target may be out of reach, and validation films too few to choose
            st.caption(f"Chosen by {words.threshold_method(found.method)}.")
        ships = (
            f"The bundle ships with {words.percent(shipped.value)}, chosen on {shipped.chosen_on} "
            f"films by {words.threshold_method(shipped.method)}"
        )
        st.caption(
            f"{ships}; all figures below are at it."
            if threshold == shipped.value
            else f"{ships}. All figures below are at **{words.percent(threshold)}** instead; the "
            "bundle stays as it is. Rules choose on the validation films; a threshold chosen by "
            "looking at these test figures flatters the model."
        )
    return threshold


def _by_rule(run_id: str, tested: RunResult) -> Threshold | None:
    """Return the threshold by the rule that the reader asks for, from the validation films.

    None where it comes from elsewhere.
    """
    kind = _RULES[st.session_state[f"threshold:rule:{run_id}"]]
    if kind is None:
        return None
    target = st.session_state.get(f"threshold:rule:{run_id}:target", 95.0) / 100
    cost = st.session_state.get(f"threshold:rule:{run_id}:cost", 5.0)
    rule = Rule(kind, target=target, miss_cost=cost)  # type: ignore[arg-type]
    return operating.choose_threshold(tested.val.labels, tested.val.probabilities, rule)


def _percent(share: float) -> float:
    return round(100 * share, 1)


def _headlines(summary: Mapping[str, Any]) -> None:
    for place, (name, (title, meaning)) in zip(
        st.columns(len(_HEADLINES)), _HEADLINES.items(), strict=True
    ):
        with place.container(gap=None):
            st.metric(title, words.percent(summary[name]), help=meaning)
            bounds = summary["ci95"].get(name)
            st.caption(" to ".join(words.percent(bound) for bound in bounds) if bounds else "–")
    of = f" of {words.count(summary['patients'], 'patient')}" if summary["patients"] else ""
    over = "patients" if summary["patients"] else "films, as their patients are not known"
    st.caption(
        f"{words.count(summary['n'], 'test film')}{of}. Under each figure its 95 % interval by "
        f"bootstrap over {over}; a share without a mistake, or without a hit, gets the exact bound "
        f"of so many instead (Clopper and Pearson 1934). {_asks(len(summary['per_class']))}"
    )


def _asks(classes: int) -> str:
    """Return which figures look at any finding and which at every class."""
    if classes == 2:
        return ""
    return (
        "Sensitivity, specificity, predictive values and F1 ask: any finding or none? Accuracy, "
        f"balanced accuracy and Matthews correlation ask which of the {classes} classes; AUROC and "
        "average precision are the mean of the classes, each against the rest."
    )


def _matrix_and_films(
    run: RunRecord, tested: RunResult, summary: Mapping[str, Any], threshold: float
) -> None:
    classes = tested.info.classes
    left, right = st.columns([1, 1.25], gap="large")
    with left:
        st.markdown("**Confusion matrix**")
        picked = charts.pick(
            figures.confusion(summary["confusion"], classes),
            key=f"confusion:{run.run_id}",
            alt="Confusion matrix of the test films, truth by decision",
        )
        st.caption("Click on a cell to see its films.")
    with right:
        st.markdown("**Probabilities by true class**")
        charts.show(
            figures.score_histogram(
                tested.test.labels, tested.test.probabilities, classes, threshold
            ),
            key=f"scores:{run.run_id}",
            alt="Histogram of the test films' probabilities by true class",
        )
    if picked:
        # By its place: of classes named 0 and 1, Plotly would return numbers.
        truth, decision = divmod(picked[0]["point_index"], len(classes))
        decided = scores.decide(tested.test.probabilities, threshold)
        rows = np.flatnonzero((tested.test.labels == truth) & (decided == decision))
        # The surest first: among mistakes those are the gravest.
        rows = rows[np.argsort(-tested.test.probabilities[rows, decided[rows]], kind="stable")]
        is_one, called = (words.plain(classes[number]) for number in (truth, decision))
        st.markdown(f"**{is_one} called {called}**, the most certain first")
        if len(rows):
            run_films.grid(run, tested, rows, threshold, f"cell:{run.run_id}:{truth}:{decision}")
        else:
            st.markdown("No film is in this cell.")


def _curves(
    run: RunRecord, tested: RunResult, summary: Mapping[str, Any], threshold: float
) -> None:
    arguments = (tested.test.labels, tested.test.probabilities, tested.info.classes, threshold)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**ROC**")
        charts.show(
            figures.roc(*arguments, class_intervals(summary, "auc")),
            key=f"roc:{run.run_id}",
            alt="ROC curve of the test films with the operating point",
        )
    with right:
        st.markdown("**Precision and recall**")
        charts.show(
            figures.precision_recall(*arguments, class_intervals(summary, "average_precision")),
            key=f"pr:{run.run_id}",
            alt="Precision-recall curve of the test films with the operating point",
        )


def _prevalence(
    run: RunRecord, tested: RunResult, summary: Mapping[str, Any], threshold: float
) -> None:
    """Draw what the same answers are worth where findings are rarer or more common."""
    here = float((tested.test.labels != 0).mean())
    fitted_on = float((tested.val.labels != 0).mean()) if len(tested.val) else here
    st.markdown("**At your own prevalence**")
    left, right = st.columns([1, 1.25], gap="large")
    with left:
        wanted = (
            st.slider(
                f"Share of people with {words.plain(words.asked(tested.info.classes))}",
                0.1,
                99.9,
                min(max(_percent(here), 0.1), 99.9),
                step=0.1,
                format="%.1f %%",
                key=f"prevalence:{run.run_id}",
                help="Among the people whose films the model would see.",
            )
            / 100
        )
        st.caption(f"It begins at {words.percent(here)}, the share among these test films.")
        if summary["sensitivity"] is None or summary["specificity"] is None:
            st.caption("Test films of one kind cannot tell predictive values.")
            return
        ppv, npv = operating.predictive_values(
            summary["sensitivity"], summary["specificity"], wanted
        )
        one, other = st.columns(2)
        one.metric("Pos. predictive value", words.percent(ppv))
        other.metric("Neg. predictive value", words.percent(npv))
    with right:
        if not 0 < fitted_on < 1:
            return
        moved = [_moved(p, fitted_on, wanted) for p in _EXAMPLES]
        table = pd.DataFrame(
            {
                "Probability shown": [words.percent(p) for p in _EXAMPLES],
                "At this prevalence": [words.probability(p) for p in moved],
            }
        )
        st.table(table, border="horizontal", hide_index=True)
        st.caption(
            f"The model's probabilities hold at {words.percent(fitted_on)}, the share among its "
            f"validation films. The threshold of {words.percent(threshold)} is a probability of "
            f"{words.probability(_moved(threshold, fitted_on, wanted))} there. This assumes that "
            "findings and normal films look there as they do here (Saerens 2002)."
            + caution(tested.info)
        )


def caution(info: BundleInfo) -> str:
    """Return what else speaks against moving a run's probabilities elsewhere, "" for nothing.

    A temperature sharpens or softens, and cannot undo another share of findings in training; an
    offset can.
    """
    balance = (info.config.get("optimise") or {}).get("balance", "none")
    if balance == "none" or info.offset:
        return ""
    return (
        " Training made rare classes count for more, so these probabilities hold only as far as "
        "the calibration under Trust shows."
    )


def _moved(probability: float, fitted_on: float, wanted: float) -> float:
    pair = [[1 - probability, probability]]
    return float(operating.at_prevalence(pair, fitted_on, wanted)[0, 1])


def metrics_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return the headline metrics with their 95 % intervals as text, a row a metric."""
    rows = []
    for name, title in METRIC_TITLES.items():
        if summary.get(name) is None:
            continue
        bounds = summary.get("ci95", {}).get(name)
        if name in SHARES:
            low_high = "–" if not bounds else " to ".join(words.percent(b) for b in bounds)
            rows.append((title, words.percent(summary[name]), low_high))
        else:
            rows.append((title, words.figure(summary[name]), words.interval(bounds)))
    return pd.DataFrame(rows, columns=["Metric", "Value", "95 % interval"])


def class_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return AUROC, sensitivity, specificity, precision and F1 as text, a row a class."""
    return pd.DataFrame([_class_row(label, found) for label, found in summary["per_class"].items()])


def _class_row(label: str, found: Mapping[str, Any]) -> dict[str, Any]:
    bounds = found.get("ci95", {})

    def with_interval(name: str) -> str:
        share = name in ("sensitivity", "specificity", "precision")
        write = words.percent if share else words.figure
        value, between = found.get(name), bounds.get(name)
        return write(value) + (f" ({' to '.join(write(b) for b in between)})" if between else "")

    return {
        "Class": words.plain(label),
        "Films": found["n"],
        "AUROC": with_interval("auc"),
        "Sensitivity": with_interval("sensitivity"),
        "Specificity": with_interval("specificity"),
        "Precision": with_interval("precision"),
        "F1": with_interval("f1"),
    }


def class_intervals(summary: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a metric's 95 % interval by class."""
    return {label: found.get("ci95", {}).get(name) for label, found in summary["per_class"].items()}
