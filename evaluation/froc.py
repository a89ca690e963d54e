"""Free-response ROC figures: lesions found against false positives, and the areas under AFROC and wAFROC.

All figures are functions of weights on images, so a bootstrap over women resamples each woman's images together. The
case of a case-level figure is whatever the caller groups images by: a breast, an exam, a woman.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evaluation import checks
from evaluation.bootstrap import cluster_codes
from evaluation.checks import BoolArray, FloatArray, IntArray
from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.hits import HitRule, Lesions, OtherLesions, Regions, centre_in_lesion, match
from evaluation.operating_point import threshold_at_fp
from evaluation.roc import RocStatistics
from evaluation.statistic import SumStatistic, sparse_terms, threshold_segments

Level: TypeAlias = Literal["lesion", "case-any-view", "case-all-views"]
"""What is found: each lesion; or a case, by a hit in any of its images, or in every image that shows a lesion."""

Denominator: TypeAlias = Literal["all", "with-lesion", "normal"]
"""Where false positives count: everywhere, or only where a target lesion is, or only where none is."""

_NO_LESION = "A FROC figure needs a lesion to be found, and an image that its false positives are counted over."
_ROUNDING = 1e-9  # a rate that equals its target but for rounding meets it


@dataclass(frozen=True, eq=False)
class FrocCurve:
    """FROC curve from the strictest threshold (∞, at the origin) down; it ends at the lowest score.

    `threshold`, `fp_rate` (false positives per image or per case), `sensitivity`: float64 (m,). A point stands
    where a lesion is found, and where the false positives after it end: the points between lie on straight lines.
    """

    threshold: FloatArray
    fp_rate: FloatArray
    sensitivity: FloatArray


class FrocStatistics:
    """The FROC figures of one set of images, matched and sorted once, each as a `SumStatistic` over the images.

    `n_images` counts all images read, also those without region and lesion. `case`: shape (n_images,), the case of
    each image (labels), by default each its own; a case weighs as much as its images on average. `level` says what
    is found, `denominator` and `per` what false positives are divided by; only false positives inside the
    denominator count. `rule` and `others` as in `hits.match`, whose result is `matches`. Raises `InvalidInputError` for
    an image index beyond `n_images` and for unknown options.
    """

    def __init__(
        self,
        regions: Regions,
        lesions: Lesions,
        n_images: int,
        *,
        rule: HitRule = centre_in_lesion,
        level: Level = "lesion",
        denominator: Denominator = "all",
        per: Literal["image", "case"] = "image",
        case: npt.ArrayLike | None = None,
        others: OtherLesions = "false-positive",
    ) -> None:
        for name, image in (("region", regions.image), ("lesion", lesions.image)):
            if len(image) and image.max() >= n_images:
                raise InvalidInputError(f"A {name} lies in image {image.max()}, but there are only {n_images} images.")
        self._regions, self._lesions, self._n_images = regions, lesions, n_images
        codes, n_cases = cluster_codes(np.arange(n_images) if case is None else case)
        if len(codes) != n_images:
            raise InvalidInputError(f"case has {len(codes)} values where {n_images} are needed.")
        self._case, self._n_cases = codes, n_cases
        self.matches = match(regions, lesions, rule, others=others)
        self._image_weight = sparse.eye_array(n_images, format="csr")
        # One row a case: the mean of its images' weights.
        self._case_weight = sparse_terms(
            codes, np.arange(n_images), (n_cases, n_images), 1 / np.bincount(codes, minlength=n_cases)[codes]
        )
        self._counted, self._unit_weight = self._denominator(denominator, per)
        self._per = per
        self._found = self._positives(level)
        self._terms, self._threshold = self._sums()

    def curve(self, weight: npt.ArrayLike | None = None) -> FrocCurve:
        """The FROC curve; raises `NotComputableError` without lesions or without images in the denominator."""
        sums = self._terms @ checks.weights(weight, self._n_images)
        fp_rate, sensitivity = self._axes(sums[:, np.newaxis])
        if np.isnan(fp_rate).any() or np.isnan(sensitivity).any():
            raise NotComputableError(_NO_LESION)
        return FrocCurve(np.append(np.inf, self._threshold), fp_rate[:, 0], sensitivity[:, 0])

    def sensitivity_at_fp(self, fp_rate: float = 1.0, *, interpolate: bool = False) -> SumStatistic:
        """Sensitivity at a rate of false positives per image (or per case).

        By default the highest sensitivity of the thresholds whose rate is at most `fp_rate`: reachable, and never
        better than asked. `interpolate` reads the curve's straight lines instead. Where even the lowest score stays
        below the rate, both give the sensitivity at the curve's end.
        """
        return self.mean_sensitivity_at_fp([fp_rate], interpolate=interpolate)

    def mean_sensitivity_at_fp(self, fp_rates: Sequence[float], *, interpolate: bool = False) -> SumStatistic:
        """Mean of the sensitivities at several rates, as LUNA16 (1/8 … 8) and DBTex (1, 2, 3, 4) rank by."""
        if not fp_rates or not all(0 <= rate < np.inf for rate in fp_rates):
            raise InvalidInputError("Rates of false positives must be finite numbers of 0 or more, at least one.")

        def figure(sums: FloatArray) -> FloatArray:
            rate, sensitivity = self._axes(sums)
            found = [_read_off(rate, sensitivity, target, interpolate) for target in fp_rates]
            return np.asarray(np.mean(found, axis=0))

        return SumStatistic(self._terms, figure, _NO_LESION)

    def sensitivity_at(self, threshold: float) -> SumStatistic:
        """Sensitivity at a threshold on the regions' scores that is given, say because other women chose it."""
        score, weight = self._found
        terms = sparse.vstack([_column_sums(weight[np.flatnonzero(score >= threshold)]), _column_sums(weight)])

        def figure(sums: FloatArray) -> FloatArray:
            return np.asarray(sums[0] / np.where(sums[1] > 0, sums[1], np.nan))

        return SumStatistic(sparse.csr_array(terms), figure, "A sensitivity needs a lesion to be found.")

    def threshold_at_fp(self, fp_rate: float, weight: npt.ArrayLike | None = None) -> float:
        """Lowest of the regions' scores that keeps at most `fp_rate` false positives per image (or per case).

        As `operating_point.threshold_at_fp`, whose errors it raises too. Images of weight 0 have no part in it.
        """
        weights = checks.weights(weight, self._n_images)
        counted, fp_weight = self._false_positives()
        event_weight = fp_weight @ weights
        kept = event_weight > 0
        units = float((self._unit_weight @ weights).sum())
        if not units > 0:
            raise NotComputableError("False positives need an image that they are counted over.")
        score = self._regions.score[counted[kept]]
        if not len(score):
            return 0.0
        return threshold_at_fp(score, np.ones(len(score)), fp_rate, units, event_weight[kept])

    def afroc_auc(self, *, weighted: bool = True, all_cases: bool = False) -> SumStatistic:
        """Area under the wAFROC curve (`weighted`) or the AFROC curve.

        The chance that a lesion's hit outscores the highest false positive of a normal case, ties counting one half;
        what has no mark is rated -∞ (Chakraborty, Observer Performance Methods, 2017, chapters 13 and 14; RJafroc's
        figures of merit wAFROC and AFROC). In wAFROC every diseased case counts alike, its lesions sharing its weight
        equally; in AFROC every lesion counts alike. `all_cases` takes the false positives of diseased cases too
        (wAFROC1, AFROC1). `level`, `denominator` and `per` of the constructor have no part in it.
        """
        target = np.flatnonzero(self._lesions.target)
        lesion_case = self._case[self._lesions.image[target]]
        lesions_in_case = np.bincount(lesion_case, minlength=self._n_cases)
        share = 1 / lesions_in_case[lesion_case] if weighted else np.ones(len(target))
        highest = np.full(self._n_cases, -np.inf)
        false_positive = self.matches.false_positive
        np.maximum.at(highest, self._case[self._regions.image[false_positive]], self._regions.score[false_positive])
        counted = np.arange(self._n_cases) if all_cases else np.flatnonzero(lesions_in_case == 0)
        ratings = np.concatenate([self.matches.lesion_score[target], highest[counted]])
        diseased = np.arange(len(ratings)) < len(target)
        cases = np.concatenate([lesion_case, counted])
        rating_weight = sparse_terms(
            np.arange(len(ratings)), cases, (len(ratings), self._n_cases), np.append(share, np.ones(len(counted)))
        )
        area = RocStatistics(diseased, ratings).auc()
        terms = sparse.csr_array(area.terms @ rating_weight @ self._case_weight)
        return SumStatistic(terms, area.figure, "An AFROC area needs a lesion and a case without one.")

    def _sums(self) -> tuple[sparse.csr_array, FloatArray]:
        """Sums over images, and the lowest score (n,) of each threshold segment.

        The 2n + 2 rows: what is found in each segment, false positives in each, all that could be found, and the
        denominator of false positives.
        """
        found_score, found_weight = self._found
        counted, fp_weight = self._false_positives()
        hits = np.flatnonzero(found_score > -np.inf)
        score = np.concatenate([found_score[hits], self._regions.score[counted]])
        is_hit = np.arange(len(score)) < len(hits)
        segment, n = threshold_segments(score, is_hit)
        events = sparse_terms(np.where(is_hit, segment, segment + n), np.arange(len(score)), (2 * n, len(score)))
        event_weight = sparse.vstack([found_weight[hits], fp_weight], format="csr")
        totals = [_column_sums(found_weight), _column_sums(self._unit_weight)]
        threshold = np.full(n, np.inf)
        np.minimum.at(threshold, segment, score)
        return sparse.csr_array(sparse.vstack([events @ event_weight, *totals])), threshold

    def _false_positives(self) -> tuple[IntArray, sparse.csr_array]:
        """Rows of the false positives inside the denominator, and the weight of each on images."""
        counted = np.flatnonzero(self.matches.false_positive & self._counted[self._regions.image])
        image = self._regions.image[counted]
        weight = self._image_weight[image] if self._per == "image" else self._case_weight[self._case[image]]
        return counted, weight

    def _positives(self, level: Level) -> tuple[FloatArray, sparse.csr_array]:
        """Score (-∞: not found) and weight on images of each lesion or case that is to be found."""
        target = np.flatnonzero(self._lesions.target)
        score, image = self.matches.lesion_score[target], self._lesions.image[target]
        if level == "lesion":
            return score, self._image_weight[image]
        # One score an image, the best of its lesions; then the best or the worst of a case's images with a lesion.
        images, row = np.unique(image, return_inverse=True)
        image_score = np.full(len(images), -np.inf)
        np.maximum.at(image_score, row, score)
        cases, row = np.unique(self._case[images], return_inverse=True)
        if level == "case-any-view":
            case_score = np.full(len(cases), -np.inf)
            np.maximum.at(case_score, row, image_score)
        elif level == "case-all-views":
            case_score = np.full(len(cases), np.inf)
            np.minimum.at(case_score, row, image_score)
        else:
            raise InvalidInputError(f"There is no level {level!r}; use lesion, case-any-view or case-all-views.")
        return case_score, self._case_weight[cases]

    def _denominator(
        self, denominator: Denominator, per: Literal["image", "case"]
    ) -> tuple[BoolArray, sparse.csr_array]:
        """Which images (n_images,) false positives count in, and the weight of each image or case that divides them."""
        diseased = np.zeros(self._n_images, dtype=np.bool_)
        diseased[self._lesions.image[self._lesions.target]] = True
        if per == "case":
            diseased = np.bincount(self._case, diseased, minlength=self._n_cases)[self._case] > 0
        elif per != "image":
            raise InvalidInputError(f"False positives are counted per image or per case, not per {per!r}.")
        if denominator == "all":
            inside = np.ones(self._n_images, dtype=np.bool_)
        elif denominator == "with-lesion":
            inside = diseased
        elif denominator == "normal":
            inside = ~diseased
        else:
            raise InvalidInputError(f"There is no denominator {denominator!r}; use all, with-lesion or normal.")
        if per == "case":
            return inside, self._case_weight[np.unique(self._case[inside])]
        return inside, self._image_weight[np.flatnonzero(inside)]

    def _axes(self, sums: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Rates of false positives and sensitivities, (n + 1, b) from the origin on; NaN where either is undefined."""
        n = len(self._threshold)
        positives, units = sums[2 * n], sums[2 * n + 1]
        undefined = (positives <= 0) | (units <= 0)
        origin = np.zeros((1, sums.shape[1]))
        found = np.concatenate([origin, np.cumsum(sums[:n], axis=0)])
        false = np.concatenate([origin, np.cumsum(sums[n : 2 * n], axis=0)])
        return false / np.where(undefined, np.nan, units), found / np.where(undefined, np.nan, positives)


def sensitivity_at_fp(
    regions: Regions,
    lesions: Lesions,
    n_images: int,
    fp_per_image: float = 1.0,
    weight: npt.ArrayLike | None = None,
    *,
    rule: HitRule = centre_in_lesion,
    others: OtherLesions = "false-positive",
    interpolate: bool = False,
) -> float:
    """Share of target lesions found at a rate of false positives per image, over all images.

    `weight`: shape (n_images,). See `FrocStatistics` for other levels and denominators, and `hits.match` for `rule`
    and `others`. Raises `NotComputableError` without target lesions, `InvalidInputError` for input without meaning.
    """
    statistics = FrocStatistics(regions, lesions, n_images, rule=rule, others=others)
    return statistics.sensitivity_at_fp(fp_per_image, interpolate=interpolate)(weight)


def _read_off(rate: FloatArray, sensitivity: FloatArray, target: float, interpolate: bool) -> FloatArray:
    """Sensitivity (b,) of curves (m, b) at the rate `target`."""
    replicate = np.arange(rate.shape[1])
    last = np.maximum((rate <= target + _ROUNDING * max(1.0, target)).sum(axis=0) - 1, 0)
    value = sensitivity[last, replicate]
    if interpolate:
        following = np.minimum(last + 1, len(rate) - 1)
        run = rate[following, replicate] - rate[last, replicate]
        rise = sensitivity[following, replicate] - value
        share = np.divide(target - rate[last, replicate], run, out=np.zeros_like(run), where=run > 0)
        value = value + rise * np.clip(share, 0.0, 1.0)
    return np.asarray(value)


def _column_sums(weight: sparse.csr_array) -> sparse.csr_array:
    return sparse.csr_array(weight.sum(axis=0)[np.newaxis])
