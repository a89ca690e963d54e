"""Do scores mean what they say: calibration figures, Platt's fit, and the shift to another prevalence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from evaluation import checks
from evaluation.checks import BoolArray, FloatArray
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.statistic import SumStatistic, sparse_terms

_STEPS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class CalibrationLine:
    """Logistic recalibration: logit P(y) = intercept + slope · logit(p). Perfect: slope 1, intercept 0.

    `in_the_large` is the intercept when the slope is held at 1: above 0, risk is underestimated on average.
    """

    slope: float
    intercept: float
    in_the_large: float


def calibration_slope_intercept(
    y: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> CalibrationLine:
    """Slope and intercepts of calibration (Cox, Biometrika 1958;45:562; Van Calster et al., BMC Med 2019;17:230).

    `y`, `probability` (strictly between 0 and 1), `weight`: shape (n,). Raises `NotComputableError` for one class, for
    probabilities that are all equal or that separate the classes perfectly; `InvalidInputError` for NaN or a
    probability of 0 or 1.
    """
    positive, p = _cases(y, probability)
    weights = checks.weights(weight, len(p))
    if ((p <= 0) | (p >= 1)).any():
        raise InvalidInputError("A probability of 0 or 1 has no logit; clip the probabilities, and say so.")
    logit = special.logit(p)
    outcome = positive.astype(np.float64)
    _need_both_classes(outcome, weights)
    intercept, slope = _logistic(np.stack([np.ones_like(logit), logit], axis=1), outcome, weights, np.zeros_like(logit))
    (in_the_large,) = _logistic(np.ones((len(logit), 1)), outcome, weights, logit)
    return CalibrationLine(float(slope), float(intercept), float(in_the_large))


def recalibration_statistics(
    y: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> dict[str, SumStatistic]:
    """Slope, intercept and intercept in the large as statistics over the cases, for a bootstrap without a fit each.

    Parameters and errors as in `calibration_slope_intercept`. Weights of 1 stand for `weight`, other weights for as
    many times it. At 1 the figures are those of the fit; elsewhere they solve the likelihood equations expanded around
    it to second order, one term more than the one-step bootstrap (Moulton and Zeger, Comput Stat Data Anal 1991;11:53),
    which keeps the skewness that few cancers make.
    """
    positive, p = _cases(y, probability)
    weights = checks.weights(weight, len(p))
    line = calibration_slope_intercept(positive, p, weights)
    logit = special.logit(p)
    centre = float(np.average(logit, weights=weights))
    x = logit - centre
    slopes, levels = (
        _expansion(positive, special.expit(predictor))
        for predictor in (line.slope * logit + line.intercept, logit + line.in_the_large)
    )
    powers = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3)]
    rows = [slopes[order] * x**power for order, power in powers] + list(levels)
    terms = sparse.csr_array(np.stack(rows) * weights)

    def steps(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        (u0, u1), (h0, h1, h2), (t0, t1, t2, t3) = sums[:2], sums[2:5], sums[5:9]
        determinant = h0 * h2 - h1**2
        determinant = np.where(determinant > 0, determinant, np.nan)

        def newton(v0: FloatArray, v1: FloatArray) -> tuple[FloatArray, FloatArray]:
            return (h2 * v0 - h1 * v1) / determinant, (h0 * v1 - h1 * v0) / determinant

        a, b = newton(u0, u1)
        return newton(
            u0 - (t0 * a**2 + 2 * t1 * a * b + t2 * b**2) / 2, u1 - (t1 * a**2 + 2 * t2 * a * b + t3 * b**2) / 2
        )

    def intercept(sums: FloatArray) -> FloatArray:
        level, slope = steps(sums)
        return np.asarray(line.intercept + level - slope * centre)

    def in_the_large(sums: FloatArray) -> FloatArray:
        u, h, t = sums[9:]
        step = u / np.where(h > 0, h, np.nan)
        return np.asarray(line.in_the_large + step - t / h * step**2 / 2)

    figures = {
        "slope": lambda sums: np.asarray(line.slope + steps(sums)[1]),
        "intercept": intercept,
        "in_the_large": in_the_large,
    }
    return {name: SumStatistic(terms, figure, "A slope needs scores that differ.") for name, figure in figures.items()}


def _expansion(positive: BoolArray, fitted: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Residuals of a logistic fit, and minus their first and second derivatives by the linear predictor: (n,) each."""
    spread = fitted * (1 - fitted)
    return positive - fitted, spread, spread * (1 - 2 * fitted)


def expected_observed_statistic(y: npt.ArrayLike, probability: npt.ArrayLike) -> SumStatistic:
    """Expected over observed positives as a statistic over the cases; see `expected_observed`."""
    positive, p = _cases(y, probability)
    n = len(p)
    rows, cases = np.repeat([0, 1], n), np.tile(np.arange(n), 2)

    def figure(sums: FloatArray) -> FloatArray:
        return np.asarray(sums[0] / np.where(sums[1] > 0, sums[1], np.nan))

    terms = sparse_terms(rows, cases, (2, n), np.concatenate([p, positive]))
    return SumStatistic(terms, figure, "Expected over observed needs an observed cancer.")


def expected_observed(y: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Sum of the probabilities over the number of positives: 1 if right on average, above 1 if risk is overstated.

    `y`, `probability`, `weight`: shape (n,). Raises `NotComputableError` without positives, `InvalidInputError` for NaN
    or a probability outside [0, 1].
    """
    return expected_observed_statistic(y, probability)(weight)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Reliability plot, one row a bin: float64 (bins,); empty bins are left out.

    `predicted`: mean probability; `observed`: share of positives with Wilson's interval `low` to `high`; `weight`:
    sum of weights; `n`: number of cases. With unequal weights the interval uses Kish's effective number of cases.
    """

    predicted: FloatArray
    observed: FloatArray
    low: FloatArray
    high: FloatArray
    weight: FloatArray
    n: FloatArray


def reliability_bins(
    y: npt.ArrayLike,
    probability: npt.ArrayLike,
    bins: int = 10,
    strategy: Literal["quantile", "uniform"] = "quantile",
    weight: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Reliability:
    """Observed against predicted risk in bins of equal width, or of as nearly equal size as ties allow.

    `y`, `probability`, `weight`: shape (n,). Raises `NotComputableError` without cases, `InvalidInputError` for NaN or
    a probability outside [0, 1].
    """
    positive, p = _cases(y, probability)
    weights = checks.weights(weight, len(p))
    if bins < 1:
        raise InvalidInputError("A reliability plot needs at least one bin.")
    if not len(p):
        raise NotComputableError("A reliability plot of no cases has no value.")
    if strategy == "quantile":
        edges = np.quantile(p, np.arange(1, bins) / bins)
    elif strategy == "uniform":
        edges = np.arange(1, bins) / bins
    else:
        raise InvalidInputError(f"Bins are cut by quantile or uniform, not by {strategy!r}.")
    codes = np.searchsorted(edges, p, side="right")
    total, expected, observed, squares, count = (
        np.bincount(codes, values, minlength=bins).astype(np.float64)
        for values in (weights, weights * p, weights * positive, weights**2, np.ones(len(p)))
    )
    kept = total > 0
    total, share = total[kept], observed[kept] / total[kept]
    effective = total**2 / squares[kept]
    z = special.ndtri(0.5 + level / 2)
    centre = (share + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective) * np.sqrt(share * (1 - share) / effective + z**2 / (4 * effective**2))
    low, high = np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
    return Reliability(expected[kept] / total, share, low, high, total, count[kept])


@dataclass(frozen=True)
class Platt:
    """A calibration map: probability = sigmoid(slope · logit + intercept)."""

    slope: float
    intercept: float

    def __call__(self, logit: npt.ArrayLike) -> FloatArray:
        return np.asarray(special.expit(self.slope * np.asarray(logit, dtype=np.float64) + self.intercept))


def fit_platt(
    y: npt.ArrayLike, logit: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, smooth: bool = True
) -> Platt:
    """Fit Platt's sigmoid by maximum likelihood (Platt 1999; Newton's method as in Lin et al., Mach Learn 2007;68:267).

    `y`, `logit` (raw scores of any finite size), `weight`: shape (n,). `smooth` replaces the targets 1 and 0 by
    (P + 1)/(P + 2) and 1/(N + 2), with P and N the weight of positives and negatives, which keeps the fit finite
    even where the scores separate the classes. Raises `NotComputableError` for one class, for scores that are all
    equal, and (unsmoothed) for classes that are perfectly separated; `InvalidInputError` for NaN or infinity.
    """
    scores = checks.finite(logit, "logit")
    positive = checks.binary(y, "y", length=len(scores))
    weights = checks.weights(weight, len(scores))
    outcome = positive.astype(np.float64)
    _need_both_classes(outcome, weights)
    if smooth:
        n_positive, n_negative = float(weights[positive].sum()), float(weights[~positive].sum())
        outcome = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    design = np.stack([np.ones_like(scores), scores], axis=1)
    intercept, slope = _logistic(design, outcome, weights, np.zeros_like(scores))
    return Platt(float(slope), float(intercept))


def prior_shift(logit: npt.ArrayLike, from_prevalence: float, to_prevalence: float) -> FloatArray:
    """Calibrated logits at another prevalence, when only the share of cancers differs between the populations.

    Adds log odds of `to_prevalence` minus log odds of `from_prevalence` (Saerens et al., Neural Comput 2002;14:21,
    equation 2.4). Raises `InvalidInputError` for a prevalence that is not strictly between 0 and 1.
    """
    for prevalence in (from_prevalence, to_prevalence):
        if not 0 < prevalence < 1:
            raise InvalidInputError(f"A prevalence must lie strictly between 0 and 1, not {prevalence}.")
    shift = float(special.logit(to_prevalence)) - float(special.logit(from_prevalence))
    return np.asarray(logit, dtype=np.float64) + shift


def _logistic(design: FloatArray, outcome: FloatArray, weight: FloatArray, offset: FloatArray) -> FloatArray:
    """Maximum likelihood coefficients (k,) of a logistic regression by damped Newton steps.

    `design`: (n, k); `outcome`: (n,) in [0, 1]; `offset`: (n,) added to the linear predictor.
    """
    # Centred and scaled columns keep the Hessian well conditioned whatever the size of the scores.
    centre = np.average(design, axis=0, weights=weight)
    spread = np.sqrt(np.average((design - centre) ** 2, axis=0, weights=weight))
    slopes = np.arange(1, design.shape[1])
    if (spread[slopes] <= 1e-12 * np.maximum(1.0, np.abs(centre[slopes]))).any():
        raise NotComputableError("A slope needs scores that differ.")
    centre[0], spread[0] = 0.0, 1.0
    scaled = (design - centre) / spread
    coefficients = np.zeros(design.shape[1])
    loss = _deviance(scaled, outcome, weight, offset, coefficients)
    for _ in range(_STEPS):
        fitted = special.expit(scaled @ coefficients + offset)
        gradient = scaled.T @ (weight * (outcome - fitted))
        hessian = (scaled * (weight * fitted * (1 - fitted))[:, np.newaxis]).T @ scaled
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            break
        if not np.isfinite(step).all():
            break
        while (new_loss := _deviance(scaled, outcome, weight, offset, coefficients + step)) > loss + _TOLERANCE * loss:
            step = step / 2
        coefficients, loss = coefficients + step, new_loss
        if np.abs(step).max() <= _TOLERANCE * (1 + np.abs(coefficients).max()):
            raw = coefficients / spread
            raw[0] -= raw[1:] @ centre[1:]
            return np.asarray(raw)
    raise NotComputableError("The logistic fit has no finite solution: the scores separate the classes perfectly.")


def _deviance(
    design: FloatArray, outcome: FloatArray, weight: FloatArray, offset: FloatArray, coefficients: FloatArray
) -> float:
    """Negative log likelihood, computed without overflow."""
    predictor = design @ coefficients + offset
    return float((weight * (np.logaddexp(0, predictor) - outcome * predictor)).sum())


def _need_both_classes(outcome: FloatArray, weight: FloatArray) -> None:
    if not 0 < (weight * outcome).sum() < weight.sum():
        raise NotComputableError("A calibration needs cases of both classes, with and without cancer.")


def _cases(y: npt.ArrayLike, probability: npt.ArrayLike) -> tuple[BoolArray, FloatArray]:
    p = checks.numbers(probability, "probability")
    if ((p < 0) | (p > 1)).any():
        raise InvalidInputError("A probability lies outside [0, 1].")
    return checks.binary(y, "y", length=len(p)), p
