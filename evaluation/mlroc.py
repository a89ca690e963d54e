"""Localisation-aware ROC: a cancer counts as found only where the case is called and marked at the right place.

The multi-localisation ROC (mLROC) of McKinney et al., Nature 2020;577:89 (Methods, "Localization analysis", and
Extended Data Fig. 3), which extends the LROC curve (Swensson, Med Phys 1996;23:1709) to several marks a case: the
abscissa is that of the ROC curve, the share of cases without cancer that are called; the ordinate is the share of cases
with cancer that are called and of whose marks at least one, in any view, hits a cancer. Where marks miss, it ends
below 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evaluation import checks
from evaluation.checks import BoolArray, FloatArray
from evaluation.errors import InvalidInputError
from evaluation.hits import HitRule, Lesions, Regions, pairs
from evaluation.roc import RocCurve, RocStatistics, roc_curve
from evaluation.statistic import SumStatistic

MARKS_PER_CASE = 6
"""How many marks a reader may give in McKinney et al.; without a limit, marks everywhere would hit every cancer."""

_NEVER_CALLED = 0.0


class MlrocStatistics:
    """The mLROC figures of one set of cases, sorted once, each as a `SumStatistic` over the cases.

    `y`: shape (n,), 1 with cancer and 0 without. `score`: shape (n,), by which cases are called, higher is more
    suspicious. `localised`: shape (n,), 1 where a mark of the case hits a cancer; without meaning in cases without one.
    Raises `InvalidInputError` for NaN, for other values of `y` and `localised`, or for lengths that differ.
    """

    def __init__(self, y: npt.ArrayLike, score: npt.ArrayLike, localised: npt.ArrayLike) -> None:
        self._positive = checks.binary(y, "y")
        self._rating = _rating(self._positive, score, localised)
        self._score = checks.numbers(score, "score")
        self._roc = RocStatistics(self._positive, self._rating)

    def area(self, max_fpr: float = 0.1) -> SumStatistic:
        """Area under the curve from FPR 0 to `max_fpr`, between 0 and `max_fpr`; not standardised, as in the source.

        Equal scores of a found cancer and of a case without cancer count one half. At `max_fpr` 1 this is the area
        under the LROC curve of Popescu (Med Phys 2007;34:1556).
        """
        return self._roc.partial_auc(max_fpr)

    def curve(self, weight: npt.ArrayLike | None = None) -> RocCurve:
        """The curve, one point per distinct score from the strictest threshold down; `tpr` is called and localised.

        Raises `NotComputableError` for one class.
        """
        curve = roc_curve(self._positive, self._rating, weight)
        reached = curve.threshold > _NEVER_CALLED
        # Ratings are ranks of the scores, from 1.
        ranked = np.unique(self._score)
        threshold = np.append(np.inf, ranked[curve.threshold[reached][1:].astype(np.int64) - 1])
        return RocCurve(threshold, curve.fpr[reached], curve.tpr[reached])


def mlroc_area(
    y: npt.ArrayLike,
    score: npt.ArrayLike,
    localised: npt.ArrayLike,
    max_fpr: float = 0.1,
    weight: npt.ArrayLike | None = None,
) -> float:
    """Area under the mLROC curve from FPR 0 to `max_fpr`; see `MlrocStatistics`. `weight`: shape (n,).

    Raises `NotComputableError` for one class, `InvalidInputError` for input without meaning.
    """
    return MlrocStatistics(y, score, localised).area(max_fpr)(weight)


def localised_cases(
    regions: Regions,
    lesions: Lesions,
    case: npt.ArrayLike,
    n_cases: int,
    rule: HitRule,
    *,
    marks: int = MARKS_PER_CASE,
) -> BoolArray:
    """Which cases have a mark that hits a target lesion, in any view: bool (n_cases,).

    `case`: shape (n_images,), the case of each image, 0 to n_cases - 1. Only the `marks` regions of highest score of
    each case are its marks; of equal scores at the limit all are left out, so that the order of rows never decides.
    Raises `InvalidInputError` for images without a case, or a limit below 1.
    """
    cases = checks.whole(case, "case", below=max(n_cases, 1))
    if marks < 1:
        raise InvalidInputError(f"A case must be allowed at least one mark, not {marks}.")
    for name, image in (("region", regions.image), ("lesion", lesions.image)):
        if len(image) and image.max() >= len(cases):
            raise InvalidInputError(f"A {name} lies in image {image.max()}, but only {len(cases)} images have a case.")
    region, lesion = pairs(regions, lesions)
    hit = rule(regions.box[region], lesions.box[lesion], lesions.ellipse[lesion]) & lesions.target[lesion]
    hit &= _is_mark(cases[regions.image], regions.score, marks)[region]
    found = np.zeros(n_cases, dtype=np.bool_)
    found[cases[regions.image[region[hit]]]] = True
    return found


def _is_mark(case: checks.IntArray, score: FloatArray, marks: int) -> BoolArray:
    """Which regions (r,) have at most `marks` regions of their case that score as much or more, themselves included."""
    order = np.lexsort((-score, case))
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = (case[order][1:] != case[order][:-1]) | (score[order][1:] != score[order][:-1])
    # Each region stands where the last one of its case and score does.
    position = np.flatnonzero(last)[np.searchsorted(np.flatnonzero(last), np.arange(len(order)))]
    start = np.searchsorted(case[order], case[order], side="left")
    kept = np.zeros(len(order), dtype=np.bool_)
    kept[order] = position - start < marks
    return kept


def _rating(positive: BoolArray, score: npt.ArrayLike, localised: npt.ArrayLike) -> FloatArray:
    """Ranks of the scores (n,) from 1, and 0, which no threshold reaches, for cancers that no mark hits."""
    scores = checks.numbers(score, "score", length=len(positive))
    hit = checks.binary(localised, "localised", length=len(positive))
    rank = np.unique(scores, return_inverse=True)[1] + 1.0
    return np.where(positive & ~hit, _NEVER_CALLED, rank)
