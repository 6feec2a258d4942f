"""How long intervals of all metrics take, and how often the interval of AUROC holds the truth.

    python benchmarks/evaluation.py [--films 5000] [--resamples 2000] [--json]
    python benchmarks/evaluation.py --coverage [--sets 500] [--json]

The first times `metrics.summarise` of two classes against a plain loop over scikit-learn's
`roc_auc_score`, which resamples as many patients as often and gives AUROC alone.

The second simulates data sets with known AUROC. Scores are normal with variance 1, of which the
patient has a share, and `Phi(distance / sqrt 2)` is the true AUROC of two such classes. A set's
films are one a patient, or several (one and a Poisson number more).
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from cxr_core.evaluation import metrics  # noqa: E402  found by the line above

CLASSES = ("NORMAL", "PNEUMONIA")


@dataclass(frozen=True)
class Design:
    """How the simulated data sets of a row are made."""

    patients: int
    films_each: float  # mean
    auroc: float  # the truth
    patient_share: float  # of the scores' variance
    prevalence: float = 0.6


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


def coverage(design: Design, sets: int, resamples: int) -> dict[str, float]:
    """Return how often the interval of AUROC holds the truth, and its mean width."""
    rng = np.random.default_rng(2026)
    held, above, widths, films = 0, 0, [], []
    for _ in range(sets):
        labels, table, patients = simulate(design, rng)
        low, high = metrics.summarise(
            labels, table, CLASSES, 0.5, patients=list(patients), resamples=resamples
        )["ci95"]["auc"]
        held += low <= design.auroc <= high
        above += low > design.auroc
        widths.append(high - low)
        films.append(len(labels))
    return {
        "patients": design.patients,
        "films": round(float(np.mean(films))),
        "auroc": design.auroc,
        "patient_share": design.patient_share,
        "held": held / sets,
        "too_high": above / sets,
        "width": float(np.mean(widths)),
    }


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return seconds by the clock and of processor time that a call takes."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def speed(films: int, resamples: int) -> dict[str, float]:
    """Return the seconds of all metrics with intervals, and of the loop for AUROC alone."""
    labels, table, patients = simulate(Design(films // 2, 2, 0.9, 0.5), np.random.default_rng(0))

    def ours() -> None:
        metrics.summarise(labels, table, CLASSES, 0.5, patients=list(patients), resamples=resamples)

    rows_of = np.split(np.arange(len(labels)), np.flatnonzero(np.diff(patients)) + 1)

    def loop() -> None:
        rng = np.random.default_rng(0)
        areas = []
        for _ in range(resamples):
            drawn = rng.integers(len(rows_of), size=len(rows_of))
            rows = np.concatenate([rows_of[patient] for patient in drawn])
            areas.append(roc_auc_score(labels[rows], table[rows, 1]))
        np.quantile(areas, [0.025, 0.975])

    (ours_clock, ours_cpu), (loop_clock, loop_cpu) = timed(ours), timed(loop)
    return {
        "films": len(labels),
        "resamples": resamples,
        "seconds": ours_clock,
        "cpu_seconds": ours_cpu,
        "loop_seconds": loop_clock,
        "loop_cpu_seconds": loop_cpu,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=5000)
    parser.add_argument("--resamples", type=int, help="2,000 for the time, 1,000 for coverage")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.coverage:
        result = speed(options.films, options.resamples or 2000)
        if options.json:
            print(json.dumps(result, indent=2))
            return
        print(
            f"{result['films']:,} films, {result['resamples']:,} resamples over patients.\n"
            f"All metrics: {result['seconds']:.2f} s ({result['cpu_seconds']:.2f} s of processor "
            f"time). A loop over roc_auc_score: {result['loop_seconds']:.1f} s "
            f"({result['loop_cpu_seconds']:.1f} s): "
            f"{result['loop_cpu_seconds'] / result['cpu_seconds']:.1f} times the processor time, "
            "for one metric."
        )
        return
    rows = []
    for design in DESIGNS:
        rows.append(coverage(design, options.sets, options.resamples or 1000))
        if not options.json:
            row = rows[-1]
            print(
                f"{row['films']} films of {row['patients']} patients (their share of the variance "
                f"{row['patient_share']:.0%}), AUROC {row['auroc']}: held in {row['held']:.1%} of "
                f"{options.sets} sets, too high in {row['too_high']:.1%}, mean width "
                f"{row['width']:.4f}",
                flush=True,
            )
    if options.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
