"""The population stability index, and how much of it is chance.

PSI = Σ (p − q) · ln(p / q) over bins, the symmetric Kullback-Leibler divergence (Jeffreys 1946). The convention that
0.1 means "watch" and 0.25 "act" (Siddiqi 2006) knows nothing of numbers: without any change, PSI / (1/n + 1/m) follows
about a chi-square distribution with one degree of freedom fewer than bins (Yurdakul 2018; Yurdakul and Naranjo 2020),
so that 50 exams against 1,000 have a PSI of 0.19 on average by chance alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def psi(counts: Sequence[float], reference: Sequence[float]) -> float:
    """PSI of counts (k,) against a reference's counts (k,).

    Half an exam is added to each bin of both where one is empty, as the logarithm has no value there. NaN is never
    returned; raises `ValueError` where one of them holds nothing.
    """
    n, m = np.asarray(counts, np.float64), np.asarray(reference, np.float64)
    if not (n.sum() > 0 and m.sum() > 0):
        raise ValueError("PSI needs exams on both sides")
    used = (n > 0) | (m > 0)
    n, m = n[used], m[used]
    if (n == 0).any() or (m == 0).any():
        n, m = n + 0.5, m + 0.5
    p, q = n / n.sum(), m / m.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def chance_psi(total: float, reference_total: float, bins: int, quantile: float = 0.95) -> float:
    """The PSI that `total` exams reach without any change in all but 1 − `quantile` of the cases."""
    return float(stats.chi2.ppf(quantile, bins - 1) * (1 / total + 1 / reference_total))
