"""Calibration, categories and operating points from out-of-fold scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from evaluation.calibration import Platt, fit_platt, prior_shift
from evaluation.operating_point import threshold_at_recall_rate
from screening.errors import ConfigError
from screening.model.calibration import Calibration, OperatingPoint
from screening.result import ExamResult

FloatArray = npt.NDArray[np.float64]

UNCALIBRATED = Calibration(
    slope=1.0,
    intercept=0.0,
    prevalence=0.5,
    fitted_on="nothing",
    category_thresholds=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    categories_from="nothing",
    operating_points=(),
)
"""The score is the logistic function of the fused logit, so that `logits` gives it back."""

FALSE_POSITIVES_PER_IMAGE = (0.5, 1.0, 2.0)
RECALL_RATES = (0.03, 0.10)
FEWEST_EXAMS = 20
"""Of women without cancer, with fewer of which categories and recall points are those of breasts, and say so."""


def logits(score: npt.ArrayLike) -> FloatArray:
    """Fused logits from uncalibrated scores."""
    s = np.asarray(score, np.float64)
    return np.log(s) - np.log1p(-s)


def fit_calibration(
    malignant: npt.ArrayLike,
    logit: npt.ArrayLike,
    normal_exam_logits: npt.ArrayLike,
    normal_image_logits: Sequence[npt.ArrayLike],
    prevalence: float,
    data: str,
) -> Calibration:
    """Fit on out-of-fold scores.

    `malignant`, `logit`: (n,) truth and fused logit of each breast, for the probability. `normal_exam_logits`: (e,) the
    higher breast of each exam that shows both, of women without cancer: the exam score takes the higher one, too, so
    its tenths and recall rates are those of exams. With fewer than `FEWEST_EXAMS`, they are those of the breasts,
    weighted to `prevalence`, of the screened population. `normal_image_logits`: for each image of a breast without
    cancer, the logits of all its regions. `data`: which data, in words. Raises `ConfigError` where higher logits do not
    mean cancer more often.
    """
    y, x = np.asarray(malignant, np.int64), np.asarray(logit, np.float64)
    line = fit_line(y, x, prevalence)
    if line.slope <= 0:
        raise ConfigError(
            f"The scores do not rise with cancer (slope {line.slope:.3f}): the network has learned nothing that holds "
            "on other women; train longer, or look at the curves and the data."
        )
    exams = line(normal_exam_logits)
    if len(exams) >= FEWEST_EXAMS:
        per, score, weight = "exam", exams, np.ones(len(exams))
        sample = "exams of women without cancer (both breasts)"
    else:
        per, score, weight = "breast", line(x), screening_weights(y, prevalence)
        sample = f"breasts weighted to {prevalence:.1%} with cancer"
    deciles = [weighted_quantile(score, weight, q / 10) for q in range(1, 10)]
    regions = [line(one) for one in normal_image_logits]
    points = [
        OperatingPoint(
            name=f"{target:g}-fp-per-image",
            per="image",
            target=f"{target:g} false positives per image, on images of breasts without cancer",
            threshold=false_positive_threshold(regions, target),
            chosen_on=f"{len(regions)} images: {data}",
        )
        for target in FALSE_POSITIVES_PER_IMAGE
    ] + [
        OperatingPoint(
            name=f"recall-{rate:.0%}".replace("%", "-percent"),
            per=per,
            target=f"{rate:.0%} of {sample} recalled",
            threshold=min(1.0, threshold_at_recall_rate(score, rate, weight)),
            chosen_on=f"{len(score)} {sample}: {data}",
        )
        for rate in RECALL_RATES
    ]
    return Calibration(
        slope=line.slope,
        intercept=line.intercept,
        prevalence=prevalence,
        fitted_on=f"{len(y)} breasts, {int(y.sum())} with cancer: {data}",
        category_thresholds=tuple(deciles),  # nine of them, checked by the model
        categories_from=f"deciles of {len(score)} {sample}: {data}",
        operating_points=tuple(points),
    )


def fit_line(malignant: npt.ArrayLike, logit: npt.ArrayLike, prevalence: float) -> Platt:
    """Platt's fit on breasts (n,), its intercept shifted from their share of cancers to `prevalence`."""
    y = np.asarray(malignant, np.int64)
    platt = fit_platt(y, logit)
    shift = float(prior_shift(np.zeros(1), float(y.mean()), prevalence)[0])
    return Platt(platt.slope, platt.intercept + shift)


def screening_weights(malignant: npt.ArrayLike, prevalence: float) -> FloatArray:
    """Weights (n,), summing to 1, under which the share `prevalence` of breasts has cancer, as in screening."""
    y = np.asarray(malignant, np.int64)
    cancers = max(1, int((y == 1).sum()))
    others = max(1, int((y == 0).sum()))
    return np.where(y == 1, prevalence / cancers, (1 - prevalence) / others).astype(np.float64)


def weighted_quantile(value: npt.ArrayLike, weight: npt.ArrayLike, q: float) -> float:
    """The smallest value with at least the share `q` of the weight at or below it."""
    v, w = np.asarray(value, np.float64), np.asarray(weight, np.float64)
    order = np.argsort(v, kind="stable")
    cumulative = np.cumsum(w[order])
    index = int(np.searchsorted(cumulative, q * cumulative[-1]))
    return float(v[order][min(index, len(v) - 1)])


def false_positive_threshold(regions: Sequence[FloatArray], target: float) -> float:
    """A threshold that at most `target` regions per image reach, and that no lower one can replace.

    It lies midway between the lowest score that reaches it and the next, so that rounding moves none across.
    """
    scores = np.sort(np.concatenate([np.asarray(r) for r in regions]))[::-1]
    allowed = int(np.floor(target * len(regions)))
    if allowed >= len(scores):
        return float(scores[-1])
    # Every region of the first excluded score is excluded.
    reached = scores[scores > scores[allowed]]
    return float((scores[allowed] + (reached[-1] if len(reached) else 1.0)) / 2)


def recalibrated(results: Sequence[ExamResult], calibration: Calibration) -> list[ExamResult]:
    """Results with uncalibrated scores under a calibration; order and regions stay the same, as the map is monotone."""
    return [_recalibrated(result, calibration) for result in results]


def _recalibrated(result: ExamResult, calibration: Calibration) -> ExamResult:
    if result.score is None:
        return result

    def new(score: float) -> float:
        return calibration.score(float(logits(score)))

    images = tuple(
        replace(
            image,
            score=None if image.score is None else new(image.score),
            regions=tuple(replace(region, score=new(region.score)) for region in image.regions),
        )
        for image in result.images
    )
    breasts = tuple(replace(breast, score=new(breast.score)) for breast in result.breasts)
    score = new(result.score)
    return replace(result, score=score, category=calibration.category(score), breasts=breasts, images=images)
