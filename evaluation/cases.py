"""The exams that figures count, as arrays, and the women whose resampling gives the intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.checks import BoolArray, FloatArray, IntArray
from evaluation.cohort import Cohort
from evaluation.followup import POSITIVE


@dataclass(frozen=True)
class Counted:
    """What a figure counts: cases, positives among them, and both in words."""

    n: int
    n_positive: int
    words: str


@dataclass(frozen=True, eq=False)
class Cases:
    """The included exams of a cohort, in its order; arrays of shape (n,).

    `table`: their rows of `Cohort.exams`. `positive`: has cancer under the protocol. `score`: of the breast with the
    cancer where both are known; `exam_score`: of the exam, whichever breast. `weight`: inverse sampling probability.
    `woman`: number of the exam's woman in `women`, the sorted identifiers of all women with an included exam.
    """

    table: pd.DataFrame
    positive: BoolArray
    score: FloatArray
    exam_score: FloatArray
    weight: FloatArray
    woman: IntArray
    women: pd.Index[str]

    def __len__(self) -> int:
        return len(self.positive)

    @property
    def weighted(self) -> bool:
        return bool((self.weight != 1).any())

    def independent(self, among: BoolArray) -> bool:
        """Whether the cases `among` (n,) are of one woman each and count alike, as plain proportions ask."""
        women = np.bincount(self.woman[among], minlength=1)
        return bool(women.max() <= 1) and bool((self.weight[among] == 1).all())

    def counted(self, among: BoolArray, what: str = "exams") -> Counted:
        """The cases `among` (n,) in numbers and in words: "120 exams of 100 women, 9 with cancer"."""
        n, n_positive = int(among.sum()), int((among & self.positive).sum())
        return counted(n, n_positive, self.woman[among], what, weighted=bool((self.weight[among] != 1).any()))

    def text(self, column: str) -> npt.NDArray[np.object_]:
        """A column of text, "" where it is missing."""
        return np.asarray(self.table[column].fillna("").astype(object).to_numpy(), dtype=object)

    def numbers(self, column: str) -> FloatArray:
        """A column of numbers, NaN where it is missing."""
        return self.table[column].to_numpy(dtype=np.float64, na_value=np.nan)


def cases(cohort: Cohort) -> Cases:
    """The included exams of a cohort as arrays."""
    table = cohort.exams.loc[cohort.exams["included"].to_numpy(dtype=np.bool_)].reset_index(drop=True)
    codes, women = pd.factorize(table["woman_id"], sort=True)
    return Cases(
        table=table,
        positive=np.asarray(table["role"] == POSITIVE, dtype=np.bool_),
        score=table["score"].to_numpy(dtype=np.float64),
        exam_score=table["exam_score"].to_numpy(dtype=np.float64),
        weight=table["weight"].to_numpy(dtype=np.float64),
        woman=np.asarray(codes, dtype=np.int64),
        women=pd.Index(women),
    )


def counted(n: int, n_positive: int, woman: IntArray, what: str, *, weighted: bool = False) -> Counted:
    """Counts in words; `woman`: the woman's number for each of the n cases."""
    n_women = int((np.bincount(woman, minlength=1) > 0).sum())
    words = f"{n:,} {what} of {n_women:,} women, {n_positive:,} with cancer"
    return Counted(n, n_positive, words + (", weighted by inverse sampling probability" if weighted else ""))
