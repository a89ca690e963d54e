"""Marks and lesions of a cohort: what FROC figures need, and the figures themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from evaluation.bootstrap import OverClusters
from evaluation.cases import Cases, Counted, cases
from evaluation.checks import BoolArray, FloatArray, IntArray
from evaluation.cohort import Cohort
from evaluation.columns import positions
from evaluation.draft import Draft, attempt
from evaluation.errors import NotComputableError
from evaluation.followup import NEGATIVE
from evaluation.froc import FrocStatistics
from evaluation.hits import Lesions, Regions
from evaluation.mlroc import MARKS_PER_CASE, MlrocStatistics, localised_cases
from evaluation.protocol import Localisation
from evaluation.statistic import SumStatistic

GROUP = "localisation"
_LEVELS = {"case-any-view": "any view", "case-all-views": "every view with a lesion"}
_DENOMINATORS = {"all": "all images", "with-lesion": "images with a lesion", "normal": "images without lesion"}
_BOX = ["x", "y", "width", "height"]


@dataclass(frozen=True, eq=False)
class Marks:
    """Regions and lesions on the images that were scored, of exams whose lesions are known or that have none.

    `exam`: shape (n_images,), the exam of each image, as its row among the cohort's included exams (`cases.cases`).
    `regions` and `lesions`: by index of image; target lesions are the malignant ones. `left_out`: sentences on what
    has no part in it. `rules`: the protocol's.
    """

    regions: Regions
    lesions: Lesions
    exam: IntArray
    left_out: str
    rules: Localisation

    @property
    def n_images(self) -> int:
        return len(self.exam)

    @cached_property
    def froc(self) -> FrocStatistics:
        """FROC under the protocol's rules; a case is an exam."""
        return self._froc(self.rules.fp_per)

    def froc_per(self, per: Literal["image", "case"]) -> FrocStatistics:
        """FROC with false positives per image or per exam; otherwise as the protocol says."""
        return self.froc if per == self.rules.fp_per else self._froc(per)

    def _froc(self, per: Literal["image", "case"]) -> FrocStatistics:
        return FrocStatistics(
            self.regions,
            self.lesions,
            self.n_images,
            rule=self.rules.rule(),
            level=self.rules.level,
            denominator=self.rules.fp_denominator,
            per=per,
            case=self.exam,
            others=self.rules.other_lesions,
        )

    def mlroc(self, among: Cases) -> tuple[MlrocStatistics, IntArray]:
        """The mLROC of the exams that have an image here, and their rows among the cases.

        A case is called by its exam score, whichever mark made it, as the curve's abscissa asks.
        """
        rows, case = np.unique(self.exam, return_inverse=True)
        localised = localised_cases(self.regions, self.lesions, case, len(rows), rule=self.rules.rule())
        return MlrocStatistics(among.positive[rows], among.exam_score[rows], localised), rows

    def over_women(self, among: Cases, judged: BoolArray | None = None) -> OverClusters:
        """From statistics over images to statistics over women; images count as their exams, of which `judged` do."""
        weight = among.weight if judged is None else among.weight * judged
        return OverClusters(among.woman[self.exam], len(among.women), weight[self.exam])

    def counted(self, among: Cases, judged: BoolArray | None = None) -> Counted:
        """Images in numbers and words; positives are the lesions, or the exams, that are to be found."""
        inside = np.ones(self.n_images, dtype=np.bool_) if judged is None else judged[self.exam]
        lesions = self.lesions.image[self.lesions.target]
        lesions = lesions[inside[lesions]]
        by_lesion = self.rules.level == "lesion"
        n = len(lesions) if by_lesion else len(np.unique(self.exam[lesions]))
        n_women = len(np.unique(among.woman[self.exam[inside]]))
        found = "lesions" if by_lesion else "exams with a lesion, a hit in " + _LEVELS[self.rules.level]
        words = (
            f"{int(inside.sum()):,} images of {n_women:,} women; {n:,} {found}; false positives per "
            f"{'image' if self.rules.fp_per == 'image' else 'exam'} over {_DENOMINATORS[self.rules.fp_denominator]}; "
            f"hit rule {self.rules.hit_rule}"
        )
        return Counted(int(inside.sum()), n, words)


def localisation(cohort: Cohort) -> Marks:
    """The marks of a system and the lesions of the follow-up on the images of the included exams.

    Exams with cancer but without a malignant lesion in the table have no part, as their marks are neither hits nor
    false positives; nor do negative exams in which the table marks a cancer. Raises `NotComputableError` where the
    scores have no images or no regions.
    """
    images, regions = cohort.scores.images, cohort.scores.regions
    if images is None:
        raise NotComputableError("The scores have no table images, so images without regions cannot be counted.")
    if regions is None:
        raise NotComputableError("The scores have no table regions.")
    table = cases(cohort).table
    exams = table["exam_id"]
    lesions = cohort.followup.lesions
    if lesions is None:
        lesions = pd.DataFrame({name: [] for name in ("exam_id", "image_id", *_BOX, "malignant")}).astype(
            {"exam_id": "str", "image_id": "str"}
        )
    has_lesion = exams.isin(lesions.loc[lesions["malignant"] == 1, "exam_id"]).to_numpy()
    negative = (table["role"] == NEGATIVE).to_numpy()
    kept_exam = has_lesion != negative
    exam = positions(images["exam_id"], exams)
    scored = (exam >= 0) & images["status"].isin(["scored", ""]).to_numpy()
    kept = scored & np.append(kept_exam, False)[exam]  # -1: an exam that is not included
    image_ids = images["image_id"][kept]
    region_image, lesion_image = (positions(one["image_id"], image_ids) for one in (regions, lesions))
    of_kept = _of(exams, lesions, kept_exam)
    inside, lesion_inside = region_image >= 0, lesion_image >= 0
    return Marks(
        Regions(region_image[inside], _numbers(regions, ["score"])[inside, 0], _numbers(regions, _BOX)[inside]),
        Lesions(
            lesion_image[lesion_inside],
            _numbers(lesions, _BOX)[lesion_inside],
            target=(lesions["malignant"] == 1).to_numpy()[lesion_inside],
        ),
        exam[kept],
        _left_out(
            (int((~negative & ~has_lesion).sum()), "exams with cancer, whose lesions are not known"),
            (int((negative & has_lesion).sum()), "exams without cancer under the protocol in which a cancer is marked"),
            (int((of_kept & ~lesion_inside).sum()), "lesions on images that were not scored"),
        ),
        cohort.protocol.localisation,
    )


def drafts(marks: Marks | str, among: Cases) -> list[Draft]:
    """The FROC figures of the protocol, the areas under AFROC curves, and mLROC; `marks`: or why there are none."""
    if isinstance(marks, str):
        without = among.counted(np.ones(len(among), dtype=np.bool_))
        return [Draft("froc", "Localisation", GROUP, without, marks)]
    per_woman = marks.over_women(among)
    rules, froc, counted = marks.rules, marks.froc, marks.counted(among)
    unit = "image" if rules.fp_per == "image" else "exam"

    def draft(key: str, label: str, statistic: Callable[[], SumStatistic], note: str = "") -> Draft:
        told = "; ".join(part for part in (note, marks.left_out) if part)
        return Draft(key, label, GROUP, counted, attempt(lambda: per_woman(statistic())), note=told)

    def at(rate: float) -> Draft:
        return draft(
            f"froc-sensitivity@fp={rate:g}",
            f"Sensitivity at {rate:g} false positive{'' if rate == 1 else 's'} per {unit}",
            lambda: froc.sensitivity_at_fp(rate, interpolate=rules.interpolate),
        )

    found = [at(rate) for rate in rules.fp_rates]
    if len(rules.fp_rates) > 1:
        rates = ", ".join(f"{rate:g}" for rate in rules.fp_rates)
        found.append(
            draft(
                "froc-mean-sensitivity",
                f"Mean sensitivity at {rates} false positives per {unit}",
                lambda: froc.mean_sensitivity_at_fp(rules.fp_rates, interpolate=rules.interpolate),
            )
        )
    by_exam = "cases are exams; neither level nor denominator has a part"
    found.append(draft("wafroc", "Area under wAFROC", froc.afroc_auc, by_exam))
    found.append(draft("afroc", "Area under AFROC", lambda: froc.afroc_auc(weighted=False), by_exam))
    return [*found, _mlroc(marks, among)]


def _mlroc(marks: Marks, among: Cases) -> Draft:
    """mLROC to FPR 0.10 (McKinney et al., Nature 2020;577:89)."""
    statistics, rows = marks.mlroc(among)
    judged = np.zeros(len(among), dtype=np.bool_)
    judged[rows] = True
    per_woman = OverClusters(among.woman[rows], len(among.women), among.weight[rows])
    told = "; ".join(part for part in (f"at most {MARKS_PER_CASE} marks an exam, in any view", marks.left_out) if part)
    return Draft(
        "mlroc@fpr=0.1",
        "Area under mLROC to FPR 0.10 (at most 0.1)",
        GROUP,
        among.counted(judged),
        attempt(lambda: per_woman(statistics.area(0.1))),
        note=told,
    )


def highest_regions(cohort: Cohort, among: Cases) -> tuple[FloatArray, FloatArray]:
    """The highest region score of each included exam, -∞ without a region: of the breast with the cancer, and of both.

    Two arrays of shape (n,). In exams without cancer, or with one of unknown side or in both breasts, the first is the
    second; so is it for regions of unknown side. Raises `NotComputableError` where the scores have no regions.
    """
    regions = cohort.scores.regions
    if regions is None:
        raise NotComputableError("The scores have no table regions.")
    exam = positions(regions["exam_id"], among.table["exam_id"])
    inside = exam >= 0
    exam, score = exam[inside], _numbers(regions, ["score"])[inside, 0]
    side = np.where(among.positive, among.text("cancer_side"), "")[exam]
    of_region = regions["laterality"].to_numpy(dtype=object)[inside]
    on_side = ~np.isin(side, ["L", "R"]) | (of_region == "") | (of_region == side)
    highest, on_cancer = np.full(len(among), -np.inf), np.full(len(among), -np.inf)
    np.maximum.at(highest, exam, score)
    np.maximum.at(on_cancer, exam[on_side], score[on_side])
    return on_cancer, highest


def _of(exams: pd.Series, lesions: pd.DataFrame, kept_exam: BoolArray) -> BoolArray:
    """Which malignant lesions (l,) are in an exam that is kept."""
    exam = positions(lesions["exam_id"], exams)
    inside = exam >= 0
    inside[inside] = kept_exam[exam[inside]]
    return np.asarray(inside & (lesions["malignant"] == 1).to_numpy())


def _numbers(table: pd.DataFrame, columns: list[str]) -> FloatArray:
    return table[columns].to_numpy(dtype=np.float64)


def _left_out(*counts: tuple[int, str]) -> str:
    told = [f"{n:,} {what}" for n, what in counts if n]
    return f"left out: {'; '.join(told)}" if told else ""
