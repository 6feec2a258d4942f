"""How long intervals of all metrics take, and how often the interval of AUROC holds the truth.

The first times `metrics.summarise` of two classes against a plain loop over scikit-learn's
`roc_auc_score`, which resamples as many patients as often and gives AUROC alone.

The second simulates data sets with known AUROC. Scores are normal with variance 1, of which the
patient has a share, and `Phi(distance / sqrt 2)` is the true AUROC of two such classes. A set's
films are one a patient, or several (one and a Poisson number more).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from benchmarks import harness
from benchmarks.harness import Case, Figure, MissingError, Setting
from cxr_core.evaluation import metrics

CLASSES = ("NORMAL", "PNEUMONIA")

_MOST_SECONDS = 3
_LEAST_HELD, _MOST_HELD = 92, 98  # % of sets, of intervals that are meant to hold in 95


@dataclass(frozen=True)
class Design:
    """How the simulated data sets of a row are made."""

    patients: int
    films_each: float  # mean
    auroc: float  # the truth
    patient_share: float  # of the scores' variance
    prevalence: float = 0.6

    @property
    def name(self) -> str:
        """The design in words."""
        return (
            f"AUROC {self.auroc}, {self.patients} patients, {self.films_each} films each, "
            f"their share {self.patient_share}"
        )


# Sizes as the test parts of published sets have them, up to the AUROC that good models reach.
DESIGNS = (
    Design(600, 1, 0.85, 0),
    Design(200, 3, 0.85, 0.6),
    Design(600, 1, 0.95, 0),
    Design(200, 3, 0.95, 0.6),
    Design(100, 4, 0.95, 0.8),
    Design(600, 1, 0.99, 0),
    Design(200, 3, 0.99, 0.6),
    Design(550, 1.43, 0.998, 0.6, 0.73),
)


def simulate(design: Design, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels (n,), probabilities (n, 2) and patients (n,) of one data set."""
    each = 1 + rng.poisson(design.films_each - 1, size=design.patients)
    patients = np.repeat(np.arange(design.patients), each)
    labels = (rng.random(design.patients) < design.prevalence).astype(int)[patients]
    distance = np.sqrt(2) * norm.ppf(design.auroc)
    noise = np.sqrt(design.patient_share) * rng.normal(size=design.patients)[patients]
    noise += np.sqrt(1 - design.patient_share) * rng.normal(size=len(patients))
    finding = expit(distance * (labels - 0.5) + noise)
    return labels, np.column_stack([1 - finding, finding]), patients


def held(design: Design, sets: int, resamples: int) -> float:
    """Return in how many percent of simulated sets the interval of AUROC holds the truth."""
    rng = np.random.default_rng(2026)
    count = 0
    for _ in range(sets):
        labels, table, patients = simulate(design, rng)
        low, high = metrics.summarise(
            labels, table, CLASSES, 0.5, patients=list(patients), resamples=resamples
        )["ci95"]["auc"]
        count += low <= design.auroc <= high
    return 100 * count / sets


def measure(setting: Setting) -> list[Figure]:
    """Return the seconds of all metrics with intervals, and of the loop for AUROC alone."""
    films, resamples = setting.pick(200, 5000, 5000), setting.pick(20, 2000, 2000)
    labels, table, patients = simulate(Design(films // 2, 2, 0.9, 0.5), np.random.default_rng(0))
    rows_of = np.split(np.arange(len(labels)), np.flatnonzero(np.diff(patients)) + 1)

    def ours() -> None:
        metrics.summarise(labels, table, CLASSES, 0.5, patients=list(patients), resamples=resamples)

    def loop() -> None:
        rng = np.random.default_rng(0)
        areas = []
        for _ in range(resamples):
            drawn = rng.integers(len(rows_of), size=len(rows_of))
            rows = np.concatenate([rows_of[patient] for patient in drawn])
            areas.append(roc_auc_score(labels[rows], table[rows, 1]))
        np.quantile(areas, [0.025, 0.975])

    found = harness.by_turns(
        {
            "ours": lambda: harness.seconds(ours, 1, warm_up=0)[0],
            "loop": lambda: harness.seconds(loop, 1, warm_up=0)[0],
        },
        setting.pick(1, 1, 3),
    )
    return [
        Figure("films", len(labels), "films"),
        Figure("resamples over patients", resamples, "resamples"),
        harness.median("all metrics with intervals", found["ours"], "s", most=_MOST_SECONDS),
        harness.median("a loop over roc_auc_score", found["loop"], "s"),
        harness.ratio("as fast as that", found["loop"], found["ours"]),
    ]


def measure_coverage(setting: Setting) -> list[Figure]:
    """Return how often the interval of AUROC holds the truth, by design of the data set."""
    if setting.size == "quick":
        raise MissingError("hundreds of sets tell 92 % from 95 %, and take minutes")
    sets, resamples = setting.pick(2, 0, 500), setting.pick(20, 0, 1000)
    shares = {design.name: held(design, sets, resamples) for design in DESIGNS}
    return [
        *(Figure(name, share, "%") for name, share in shares.items()),
        Figure("the lowest of these", min(shares.values()), "%", least=_LEAST_HELD),
        Figure("the highest of these", max(shares.values()), "%", most=_MOST_HELD),
    ]


CASES = (
    Case("evaluation", "intervals of all metrics against a loop over one of them", measure),
    Case("coverage", "how often the 95 % interval of AUROC holds the truth", measure_coverage),
)
