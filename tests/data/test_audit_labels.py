"""Wrong labels come first in the ranking, and no film is judged by a model that saw it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_core.data.audit import audit, held_out, labels
from cxr_core.data.catalog import scan
from cxr_core.errors import DatasetError

CLASSES = ("NORMAL", "PNEUMONIA", "TUBERCULOSIS")


def films(number: int, wrong: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Films of three classes, features that tell them apart, and which were mislabelled."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, number)
    features = rng.normal(size=(number, 12))
    features[np.arange(number), truth] += 4
    given = truth.copy()
    swapped = rng.choice(number, wrong, replace=False)
    given[swapped] = (truth[swapped] + 1) % 3
    paths = [f"{k:04d}.png" for k in range(number)]
    table = pd.DataFrame({"path": paths, "label": np.array(CLASSES)[given]})
    return table, features, [paths[k] for k in swapped]


def predicted(table: pd.DataFrame, features: np.ndarray) -> pd.DataFrame:
    probabilities = held_out.predict(features, table["label"], np.arange(len(table)))
    return pd.concat([table[["path"]], probabilities], axis=1)


def test_wrong_labels_rank_first_and_are_pruned() -> None:
    table, features, wrong = films(400, 24)
    ranked = labels.suspects(table, predicted(table, features))
    assert len(set(ranked["path"].head(24)) & set(wrong)) >= 22
    assert len(set(ranked.loc[ranked["suspect"], "path"]) & set(wrong)) >= 18
    assert ranked["suspect"].sum() <= 30
    assert ranked["quality"].is_monotonic_increasing


def test_the_expected_label_is_the_true_one() -> None:
    table, features, wrong = films(400, 24)
    ranked = labels.suspects(table, predicted(table, features)).set_index("path")
    right = [
        CLASSES.index(ranked.loc[path, "label"]) == (CLASSES.index(expected) + 1) % 3
        for path, expected in ranked.loc[wrong, "expected"].items()
    ]
    assert np.mean(right) > 0.9


def test_right_labels_are_not_suspected() -> None:
    table, features, _ = films(400, 0)
    assert labels.suspects(table, predicted(table, features))["suspect"].sum() <= 4


def test_no_model_learns_from_a_twin_of_the_film_it_judges() -> None:
    """Noise that each pair of films shares would give the label away to a model that saw one."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(60, 200)), 2, axis=0)
    given = pd.Series(np.repeat(rng.choice(["NORMAL", "PNEUMONIA"], 60), 2))
    pairs = np.repeat(np.arange(60), 2)
    apart = held_out.predict(features, given, np.arange(120))
    together = held_out.predict(features, given, pairs)

    def accuracy(probabilities: pd.DataFrame) -> float:
        return float((probabilities.idxmax(axis=1) == given).mean())

    assert accuracy(apart) > 0.75
    assert accuracy(together) < 0.65


def test_folds_keep_groups_whole_and_classes_even() -> None:
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 90, 300)
    truth = groups % 3
    fold = held_out.folds(truth, groups, 5, seed=0)
    assert pd.Series(fold).groupby(groups).nunique().max() == 1
    counts = pd.crosstab(fold, truth)
    assert counts.shape == (5, 3)
    assert counts.to_numpy().min() >= 10


def test_a_class_of_one_group_cannot_be_checked() -> None:
    given = pd.Series(["NORMAL"] * 6 + ["PNEUMONIA"] * 3)
    with pytest.raises(DatasetError, match="PNEUMONIA has fewer"):
        held_out.predict(np.zeros((9, 2)), given, np.array([0, 1, 2, 3, 4, 5, 6, 6, 6]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.drop(columns="PNEUMONIA"), "no column PNEUMONIA"),
        (lambda table: table.assign(NORMAL=-1.0), "no probabilities"),
        (lambda table: table.assign(NORMAL=table["NORMAL"] + 0.5), "not logits"),
        (lambda table: table.assign(NORMAL=np.nan), "no probabilities"),
        (lambda table: table.head(0), "two classes"),
    ],
)
def test_predictions_that_are_none_are_refused(spoil, message: str) -> None:
    table, features, _ = films(60, 0)
    with pytest.raises(DatasetError, match=message):
        labels.suspects(table, spoil(predicted(table, features)))


def test_the_audit_reports_suspects_only_where_there_are_predictions(phantoms: Path) -> None:
    opened = scan(phantoms)
    frame = opened.frame
    rng = np.random.default_rng(0)
    wrong = frame["path"].iloc[[3, 8, 30, 41, 55]]
    truth = frame["label"].where(~frame["path"].isin(wrong), "SHIFTED")
    known = opened.classes
    own = np.array([known.index(label) for label in frame["label"]])
    seen = np.where(truth == "SHIFTED", (own + 1) % len(known), own)
    logits = rng.normal(0, 0.3, (len(frame), len(known)))
    logits[np.arange(len(frame)), seen] += 4
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame(probabilities, columns=list(known)).assign(path=frame["path"])

    assert not [f for f in audit(opened).findings if f.kind == "label_suspects"]
    (finding,) = [
        f for f in audit(opened, predictions=table).findings if f.kind == "label_suspects"
    ]
    assert len(finding.paths) >= 3
    assert set(finding.paths) <= set(wrong)
    assert (
        finding.details["suspects"][0]["expected"]
        == known[seen[list(frame["path"]).index(finding.paths[0])]]
    )
