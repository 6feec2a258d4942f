"""Results by subgroup of the films: where a model is better or worse than on the whole."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.evaluation import metrics

UNKNOWN = "unknown"
BANDS = 4


def by_group(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    groups: Sequence[object],
    classes: Sequence[str],
    threshold: npt.ArrayLike,
    *,
    patients: Sequence[object] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the headline metrics of each subgroup with their intervals, the largest group first.

    Small groups are not left out: their intervals show how little they say.

    Args:
        labels: True class of each film, int, shape (n,).
        probabilities: Calibrated probabilities, shape (n, k).
        groups: What divides the films, a value a film; None, NaN and blanks are "unknown".
        classes: The k class names, the reference class first.
        threshold: Operating point on the abnormal probability, 0-1, or one a film.
        patients: A patient id a film; a patient may have films in several groups.
        resamples: Bootstrap resamples over the patients of a group.
        seed: Seed of the bootstrap.

    Returns:
        A row a group, plain numbers ready for JSON: ``group``, ``n`` films, ``patients`` (None
        where unknown), ``findings`` (films with any), the headline metrics of `metrics.summarise`
        and their ``ci95``. What a group cannot tell is None, as the AUROC of films of one class.

    Raises:
        ValueError: If there is not one group a film; and as for `metrics.summarise`.
    """
    truth = np.asarray(labels, dtype=np.intp)
    table = np.asarray(probabilities, dtype=np.float64)
    cuts = np.broadcast_to(np.asarray(threshold, dtype=np.float64), truth.shape)
    if len(groups) != len(truth):
        raise ValueError(f"There are {len(truth)} films but {len(groups)} groups.")
    people = None if patients is None else list(patients)
    names = np.array([_name(group) for group in groups], dtype=object)
    rows = []
    for name in sorted(set(names), key=lambda name: (-(names == name).sum(), name)):
        chosen = np.flatnonzero(names == name)
        summary = metrics.summarise(
            truth[chosen],
            table[chosen],
            classes,
            cuts[chosen],
            patients=None if people is None else [people[row] for row in chosen.tolist()],
            resamples=resamples,
            seed=seed,
        )
        headline = {
            key: value
            for key, value in summary.items()
            if key not in ("threshold", "confusion", "per_class", "macro", "weighted")
        }
        rows.append({"group": name, "findings": int((truth[chosen] != 0).sum()), **headline})
    return rows


def bands(values: Sequence[float | None], parts: int = BANDS) -> list[str]:
    """Return groups of about equal size for a number a film, such as its width or an age.

    Args:
        values: A number a film; None, NaN and infinity are "unknown".
        parts: How many bands at most. Where there are no more different numbers than that, each
            is a group of its own.

    Returns:
        A group's name a film, such as "1,024 to 1,300": the least and greatest number in it.
    """
    numbers = pd.to_numeric(pd.Series(list(values), dtype=object), errors="coerce")
    numbers = numbers.where(np.isfinite(numbers))
    known = numbers.dropna()
    if known.nunique() <= parts:
        return [UNKNOWN if pd.isna(number) else _plain(number) for number in numbers]
    band = pd.qcut(known, parts, labels=False, duplicates="drop")
    ranges = known.groupby(band).agg(["min", "max"])
    names = {
        number: _plain(low) if low == high else f"{_plain(low)} to {_plain(high)}"
        for number, low, high in ranges.itertuples()
    }
    return [names[band[row]] if row in band.index else UNKNOWN for row in numbers.index]


def _name(group: object) -> str:
    known = not pd.isna(group) and str(group).strip()  # type: ignore[call-overload]
    return str(group).strip() if known else UNKNOWN


def _plain(number: float) -> str:
    return f"{int(number):,}" if number == int(number) else f"{number:.4g}"
