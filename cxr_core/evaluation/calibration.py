"""What a probability is worth: temperature, offset and reliability.

Both are fitted on validation films alone; the test part only reports.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

BINS = 10
TEMPERATURE_RANGE = (0.05, 20.0)


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Fit the temperature that makes validation labels most likely (Guo et al. 2017).

    Args:
        logits: One logit a class, shape (n, k); see ``scores.expand_logits``.
        labels: True class of each film, int, shape (n,).

    Returns:
        The temperature, within `TEMPERATURE_RANGE`. It is 1 where the likelihood grows without
        end as probabilities sharpen, as it does when validation holds no mistake: such films
        cannot say how sure to be.

    Raises:
        ValueError: If there are no films, or a logit is not finite.
    """
    from scipy.optimize import minimize_scalar  # slow to load, and no page opens with it
    from scipy.special import logsumexp

    table = np.asarray(logits, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.intp)
    if not len(truth):
        raise ValueError("The temperature cannot be fitted: there are no validation films.")
    if not np.isfinite(table).all():
        raise ValueError("The temperature cannot be fitted: a logit is not a finite number.")
    # Only differences to the true logit matter, and they keep the exponentials in range.
    margins = table - table[np.arange(len(truth)), truth][:, None]

    def negative_log_likelihood(log_temperature: float) -> float:
        return float(logsumexp(margins / np.exp(log_temperature), axis=1).mean())

    low, high = np.log(TEMPERATURE_RANGE)
    fit = minimize_scalar(
        negative_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-6}
    )
    if fit.x - low < 1e-3:
        return 1.0
    return float(np.exp(fit.x))


@dataclass(frozen=True, eq=False)
class Calibration:
    """How logits become calibrated: ``softmax((logits + offset) / temperature)``."""

    temperature: float
    offset: np.ndarray  # float64 (k,), the first class's is 0


def fit(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Calibration:
    """Fit temperature and offset together (Alexandari et al. 2020, arXiv 1901.06852).

    A temperature alone cannot mend logits that lean to a class, as those of a network do that
    learned from smoothed labels, altered films or balanced classes. The offsets in calibrated
    log-odds have a standard normal prior: a few films move them little.

    Args:
        logits: One logit a class, shape (n, k); see ``scores.expand_logits``.
        labels: True class of each film, int, shape (n,).

    Returns:
        Both. Where validation holds no mistake there is no offset and the temperature is that of
        `fit_temperature`; a class without films has no offset.

    Raises:
        ValueError: As for `fit_temperature`.
    """
    from scipy.optimize import minimize  # slow to load, and no page opens with it
    from scipy.special import logsumexp

    table = np.asarray(logits, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.intp)
    alone = Calibration(fit_temperature(table, truth), np.zeros(table.shape[1]))
    if (table.argmax(axis=1) == truth).all():  # sharper is likelier, without end
        return alone
    count, rows = len(truth), np.arange(len(truth))
    free = np.isin(np.arange(1, table.shape[1]), truth)
    low, high = np.log(TEMPERATURE_RANGE)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = table / np.exp(point[0])
        moved = scaled + np.concatenate([[0.0], point[1:]])
        total = logsumexp(moved, axis=1)
        residual = np.exp(moved - total[:, None])
        residual[rows, truth] -= 1
        value = (total - moved[rows, truth]).mean() + 0.5 * (point[1:] ** 2).sum() / count
        slope = -(residual * scaled).sum(axis=1).mean()
        return float(value), np.r_[slope, residual.mean(axis=0)[1:] + point[1:] / count]

    start = np.r_[np.log(alone.temperature), alone.offset[1:]]
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(low, high), *((None, None) if each else (0, 0) for each in free)],
    )
    temperature = float(np.exp(found.x[0]))
    return Calibration(temperature, np.r_[0.0, found.x[1:]] * temperature)


def forecasts(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return what was forecast and whether it came true: the pairs that calibration is about.

    Two classes: the probability of the second class, and whether it is the true one. More
    classes: the probability of the most probable class, and whether that is the true one (Guo
    et al. 2017).

    Returns:
        Forecast in 0-1 and outcome 0 or 1, both float64, shape (n,).
    """
    table = np.asarray(probabilities, dtype=np.float64)
    truth = np.asarray(labels)
    if table.shape[1] == 2:
        return table[:, 1], (truth == 1).astype(np.float64)
    return table.max(axis=1), (table.argmax(axis=1) == truth).astype(np.float64)


def equal_mass_bins(forecast: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return each film's bin, int in 0 to bins - 1, so that all bins hold about as many films.

    Equal forecasts share a bin, whatever their order in the table.
    """
    from scipy.stats import rankdata  # slow to import, and no page opens with it

    ranks = rankdata(forecast, method="average") - 0.5
    return np.minimum((ranks * bins / max(len(forecast), 1)).astype(np.intp), bins - 1)


def expected_calibration_error(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS
) -> float:
    """Return the expected calibration error over equal-mass bins, 0-1; 0 is perfect.

    The mean gap between forecast and observed frequency, weighted by the films in a bin (Naeini
    et al. 2015; equal mass as in Nguyen and O'Connor 2015). NaN without films. `forecasts` says
    which probability counts.
    """
    table = reliability(labels, probabilities, bins)
    if table.empty:
        return float("nan")
    gap = (table["forecast"] - table["observed"]).abs()
    return float((gap * table["n"]).sum() / table["n"].sum())


def reliability(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS
) -> pd.DataFrame:
    """Return the points of a reliability diagram, a row a filled bin.

    Returns:
        Columns ``low`` and ``high`` (range of the forecasts), ``forecast`` (their mean),
        ``observed`` (share that came true) and ``n`` (films).
    """
    forecast, outcome = forecasts(labels, probabilities)
    films = pd.DataFrame(
        {"bin": equal_mass_bins(forecast, bins), "forecast": forecast, "outcome": outcome}
    )
    return (
        films.groupby("bin")
        .agg(
            low=("forecast", "min"),
            high=("forecast", "max"),
            forecast=("forecast", "mean"),
            observed=("outcome", "mean"),
            n=("forecast", "size"),
        )
        .reset_index(drop=True)
    )
