"""The figures of an evaluation: one list of them, and `evaluate`, which computes them all with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
import pandas as pd

from evaluation import localisation, point_figures, subgroups
from evaluation.biopsy import biopsy_figures
from evaluation.bootstrap import OverClusters
from evaluation.calibration import Reliability, expected_observed_statistic, recalibration_statistics, reliability_bins
from evaluation.cases import counted
from evaluation.checks import FloatArray
from evaluation.cohort import Cohort
from evaluation.comparison import compare
from evaluation.draft import Draft, attempt, settle
from evaluation.errors import MetricError
from evaluation.figure import Figure
from evaluation.followup import POSITIVE
from evaluation.frames_to_view import reading_aid_figures
from evaluation.froc import FrocCurve
from evaluation.inputs import Inputs
from evaluation.programme import programme_figures
from evaluation.readers import reader_figures
from evaluation.roc import RocCurve, RocStatistics, roc_curve
from evaluation.statistic import SumStatistic
from evaluation.study import Evaluation

DISCRIMINATION, CALIBRATION = "discrimination", "calibration"
SPECIFICITIES = (0.9, 0.95)
RECALL_RATES = (0.01, 0.04, 0.1)
SENSITIVITIES = (0.8, 0.9)
MAX_FPR = 0.1
_CLIPPED = 1e-6  # how near to 0 and 1 a probability may be in a logistic fit

Source: TypeAlias = Callable[[Inputs], list[Draft]]


def auc(inputs: Inputs) -> list[Draft]:
    """Area under the ROC curve of exams (Bamber, J Math Psychol 1975;12:387)."""
    return [_of_cases(inputs, "auc", "AUC", inputs.roc.auc)]


def partial_auc(inputs: Inputs) -> list[Draft]:
    """Area under the ROC curve up to FPR 0.10, standardised (McClish, Med Decis Making 1989;9:190)."""
    return [
        _of_cases(
            inputs,
            f"partial-auc@fpr={MAX_FPR:g}",
            f"Partial AUC to FPR {MAX_FPR:.2f}, standardised",
            lambda: inputs.roc.partial_auc(MAX_FPR, standardise=True),
        )
    ]


def breast_auc(inputs: Inputs) -> list[Draft]:
    """Area under the ROC curve of breasts, which asks for the right side; women are resampled with both breasts."""
    breasts = inputs.cohort.breasts
    table = breasts.loc[breasts["included"].to_numpy(dtype=np.bool_)]
    positive = (table["role"] == POSITIVE).to_numpy()
    woman = pd.Index(inputs.cases.women).get_indexer(pd.Index(table["woman_id"]))
    known = woman >= 0  # a breast may be included where its exam is not
    weight, score = table["weight"].to_numpy(dtype=np.float64)[known], table["score"].to_numpy(dtype=np.float64)[known]
    source: SumStatistic | str = "The scores have none of breasts."
    if known.any():
        statistic = RocStatistics(positive[known], score).auc()
        source = attempt(lambda: OverClusters(woman[known], len(inputs.cases.women), weight)(statistic))
    words = counted(
        int(known.sum()), int(positive[known].sum()), woman[known], "breasts", weighted=bool((weight != 1).any())
    )
    return [Draft("auc:breast", "AUC of breasts", DISCRIMINATION, words, source)]


def sensitivity_at_specificity(inputs: Inputs) -> list[Draft]:
    """Highest sensitivity at the protocol's specificities, 0.90 and 0.95; each replicate chooses its threshold."""
    return [
        _of_cases(
            inputs,
            f"sensitivity@specificity={value:g}",
            f"Sensitivity at specificity {value:g}",
            partial(inputs.roc.sensitivity_at_specificity, value),
        )
        for value in _targets(inputs, "specificity", SPECIFICITIES)
    ]


def specificity_at_sensitivity(inputs: Inputs) -> list[Draft]:
    """Highest specificity at the protocol's sensitivities and at 0.80 and 0.90."""
    return [
        _of_cases(
            inputs,
            f"specificity@sensitivity={value:g}",
            f"Specificity at sensitivity {value:g}",
            partial(inputs.roc.specificity_at_sensitivity, value),
        )
        for value in _targets(inputs, "sensitivity", SENSITIVITIES)
    ]


def sensitivity_at_recall_rate(inputs: Inputs) -> list[Draft]:
    """Highest sensitivity while at most the given share of exams is called, at the protocol's shares and 1, 4 and 10 %.

    An exam is called by its score; its cancer is found by the score of its breast, where both are known. So the curve
    has each exam with cancer twice: at the score of its breast among the cancers, at its own among all exams.
    """
    among = inputs.cases
    positive = np.flatnonzero(among.positive)
    rows = np.concatenate([positive, np.arange(len(among))])
    is_cancer = np.arange(len(rows)) < len(positive)
    curve = RocStatistics(is_cancer, np.concatenate([among.score[positive], among.exam_score]))
    per_woman = OverClusters(among.woman[rows], len(among.women), among.weight[rows])
    return [
        Draft(
            f"sensitivity@recall-rate={value:g}",
            f"Sensitivity at a recall rate of {value:g}",
            DISCRIMINATION,
            inputs.counted,
            per_woman(curve.sensitivity_at_specificity(1 - value)),
        )
        for value in _targets(inputs, "recall-rate", RECALL_RATES)
    ]


def points(inputs: Inputs) -> list[Draft]:
    """The protocol's operating points: sensitivity, specificity, recall rate; the reader's where one is matched."""
    return point_figures.drafts(inputs.decisions, inputs.cases, inputs.marks, inputs.protocol)


def marks(inputs: Inputs) -> list[Draft]:
    """FROC, AFROC, wAFROC (Chakraborty, Observer Performance Methods, 2017); mLROC (McKinney et al., Nature 2020)."""
    return localisation.drafts(inputs.marks, inputs.cases)


def calibration(inputs: Inputs) -> list[Draft]:
    """Slope and intercepts (Cox, Biometrika 1958;45:562) and expected over observed, where scores are probabilities."""
    among, probability = inputs.cases, inputs.cases.exam_score
    names = {"slope": "slope", "intercept": "intercept", "in_the_large": "in the large"}
    line: dict[str, SumStatistic | str]
    ratio: SumStatistic | str
    note = ""
    if not _are_probabilities(probability):
        ratio = "The scores are no probabilities: some lie outside [0, 1]."
        line = dict.fromkeys(names, ratio)
    else:
        clipped = np.clip(probability, _CLIPPED, 1 - _CLIPPED)
        n_clipped = int((clipped != probability).sum())
        moved = f"; {n_clipped:,} scores of nearly 0 or 1 were moved to {_CLIPPED:g} from it" if n_clipped else ""
        note = f"replicates solve the fit's likelihood equations to second order{moved}"
        per_woman = OverClusters(among.woman, len(among.women))  # the statistics hold the sampling weights
        try:
            found = recalibration_statistics(among.positive, clipped, among.weight)
            line = {name: per_woman(found[name]) for name in names}
        except MetricError as error:
            line = dict.fromkeys(names, str(error))
        ratio = attempt(lambda: inputs.per_woman(expected_observed_statistic(among.positive, probability)))
    drafts = [
        Draft(f"calibration-{name.replace('_', '-')}", f"Calibration {words}", CALIBRATION, inputs.counted, line[name])
        for name, words in names.items()
    ]
    return [
        *(replace(draft, note=note) for draft in drafts),
        Draft("expected-observed", "Expected over observed", CALIBRATION, inputs.counted, ratio),
    ]


FIGURES: dict[str, Source] = {
    "auc": auc,
    "breast-auc": breast_auc,
    "partial-auc": partial_auc,
    "sensitivity-at-specificity": sensitivity_at_specificity,
    "sensitivity-at-recall-rate": sensitivity_at_recall_rate,
    "specificity-at-sensitivity": specificity_at_sensitivity,
    "operating-points": points,
    "localisation": marks,
    "calibration": calibration,
}
"""Every figure that is resampled by women, in the order of print; subgroups repeat some of them."""

OTHER_FIGURES: dict[str, Callable[[Cohort], tuple[Figure, ...]]] = {
    "programme": programme_figures,
    "second-reader": reader_figures,
    "biopsy": biopsy_figures,
    "reading-aid": lambda cohort: reading_aid_figures(cohort.scores, cohort.followup, cohort.protocol.uncertainty),
}
"""Figures that take more than scores and outcomes: of the programme, of readers, of biopsies, and of key frames."""


def evaluate(cohort: Cohort, others: Sequence[Cohort] = ()) -> Evaluation:
    """Every figure that the cohort allows, under its protocol; those that it does not allow give their reason.

    `others`: the same follow-up joined with other systems' scores, to be compared with pairwise.
    """
    inputs = Inputs(cohort)
    overall = [draft for source in FIGURES.values() for draft in source(inputs)]
    drafts = overall + subgroups.drafts(inputs)
    figures = settle(drafts, inputs.cases, inputs.protocol.uncertainty)
    other_figures = [figure for source in OTHER_FIGURES.values() for figure in source(cohort)]
    return Evaluation(
        cohort=cohort,
        figures=(*figures[: len(overall)], *other_figures, *figures[len(overall) :]),
        roc=_roc_curve(inputs),
        froc=_froc_curve(inputs),
        reliability=_reliability(inputs),
        comparisons=tuple(figure for other in others for figure in compare(cohort, other)),
    )


def _of_cases(inputs: Inputs, key: str, label: str, statistic: Callable[[], SumStatistic]) -> Draft:
    return Draft(key, label, DISCRIMINATION, inputs.counted, attempt(lambda: inputs.per_woman(statistic())))


def _targets(inputs: Inputs, target: str, usual: tuple[float, ...]) -> list[float]:
    """The protocol's targets of that kind and the usual ones, ascending."""
    points = inputs.protocol.operating_points
    stated = {point.value for point in points if point.target == target and point.value is not None}
    return sorted(stated.union(usual))


def _are_probabilities(score: FloatArray) -> bool:
    return bool(((score >= 0) & (score <= 1)).all())


def _roc_curve(inputs: Inputs) -> RocCurve | None:
    try:
        return roc_curve(inputs.cases.positive, inputs.cases.score, inputs.cases.weight)
    except MetricError:  # the AUC's reason says why
        return None


def _froc_curve(inputs: Inputs) -> FrocCurve | None:
    if isinstance(inputs.marks, str):
        return None
    try:
        return inputs.marks.froc.curve(inputs.cases.weight[inputs.marks.exam])
    except MetricError:  # the reason is that of the FROC figures
        return None


def _reliability(inputs: Inputs) -> Reliability | None:
    if not _are_probabilities(inputs.cases.exam_score):
        return None
    try:
        return reliability_bins(inputs.cases.positive, inputs.cases.exam_score, weight=inputs.cases.weight)
    except MetricError:  # the calibration's reason says why
        return None
