"""Agreement of two ratings on an ordered scale, such as breast density."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluation import checks
from evaluation.checks import FloatArray
from evaluation.errors import InvalidInputError
from evaluation.statistic import SumStatistic, sparse_terms


def confusion(
    truth: npt.ArrayLike, rating: npt.ArrayLike, n_categories: int, weight: npt.ArrayLike | None = None
) -> FloatArray:
    """Weights of cases by true category (row) and rated category (column): float64 (n_categories, n_categories).

    `truth`, `rating`: shape (n,), whole numbers from 0 to n_categories - 1; `weight`: shape (n,). Raises
    `InvalidInputError` for anything else.
    """
    rows, columns = _ratings(truth, rating, n_categories)
    cells = np.bincount(rows * n_categories + columns, checks.weights(weight, len(rows)), minlength=n_categories**2)
    return cells.astype(np.float64).reshape(n_categories, n_categories)


def quadratic_weighted_kappa_statistic(truth: npt.ArrayLike, rating: npt.ArrayLike, n_categories: int) -> SumStatistic:
    """Quadratic weighted kappa as a statistic over the cases; see `quadratic_weighted_kappa`."""
    rows, columns = _ratings(truth, rating, n_categories)
    n = len(rows)
    category = np.arange(n_categories)
    disagreement = (category[:, np.newaxis] - category) ** 2

    def figure(sums: FloatArray) -> FloatArray:
        table = sums.reshape(n_categories, n_categories, -1)
        observed = np.einsum("ij,ijb->b", disagreement, table)
        expected = np.einsum("ij,ib,jb->b", disagreement, table.sum(axis=1), table.sum(axis=0))
        total = table.sum(axis=(0, 1))
        return np.asarray(1 - observed * total / np.where(expected > 0, expected, np.nan))

    terms = sparse_terms(rows * n_categories + columns, np.arange(n), (n_categories**2, n))
    return SumStatistic(terms, figure, "Kappa needs ratings that are not all in one and the same category.")


def quadratic_weighted_kappa(
    truth: npt.ArrayLike, rating: npt.ArrayLike, n_categories: int, weight: npt.ArrayLike | None = None
) -> float:
    """Kappa with quadratic weights (Cohen, Psychol Bull 1968;70:213): 1 for agreement, 0 for chance.

    Parameters as in `confusion`. Raises `NotComputableError` when all ratings of both lie in one category,
    `InvalidInputError` for ratings off the scale.
    """
    return quadratic_weighted_kappa_statistic(truth, rating, n_categories)(weight)


def _ratings(truth: npt.ArrayLike, rating: npt.ArrayLike, n_categories: int) -> tuple[checks.IntArray, checks.IntArray]:
    if n_categories < 2:
        raise InvalidInputError("An ordered scale needs at least two categories.")
    rows = checks.whole(truth, "truth", below=n_categories)
    return rows, checks.whole(rating, "rating", below=n_categories, length=len(rows))
