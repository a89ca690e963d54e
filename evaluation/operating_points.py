"""A protocol's operating points applied to a cohort: the threshold of each, and whom it calls."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from evaluation.cases import Cases, cases
from evaluation.checks import BoolArray, FloatArray
from evaluation.cohort import Cohort
from evaluation.errors import MetricError, NotComputableError
from evaluation.localisation import Marks, highest_regions, localisation
from evaluation.operating_point import threshold_at_recall_rate, threshold_at_sensitivity, threshold_at_specificity
from evaluation.protocol import OperatingPoint, Protocol

_OF_SCORES = ("specificity", "sensitivity", "recall-rate", "reader-specificity", "reader-sensitivity")


@dataclass(frozen=True, eq=False)
class Decisions:
    """What an operating point makes of the included exams; arrays of shape (n,).

    `judged`: the exams that its figures count. `found`: the exam is called by the score of the breast with the cancer,
    where both are known; `recalled`: it is called, whichever breast. `threshold`: None where every site has its own.
    `note`: how it was chosen. Where the point cannot be applied, `reason` says why and no exam is judged.
    """

    point: OperatingPoint
    judged: BoolArray
    found: BoolArray
    recalled: BoolArray
    threshold: float | None
    note: str
    reason: str = ""


def operating_points(cohort: Cohort) -> tuple[Decisions, ...]:
    """Every operating point of the cohort's protocol, in its order."""
    among = cases(cohort)
    return decide(cohort, among, marks_of(cohort))


def first_threshold(cohort: Cohort) -> float:
    """The threshold of the first operating point that is one threshold on exam scores.

    Raises `NotComputableError` where the protocol has no such point, or none that these exams give.
    """
    reasons = []
    for one in operating_points(cohort):
        if one.point.target in _OF_SCORES:
            if one.threshold is not None:
                return one.threshold
            reasons.append(one.reason or f"{one.point.name} has a threshold for each site.")
    raise NotComputableError(" ".join(reasons) or "The protocol has no operating point on the scores of exams.")


def marks_of(cohort: Cohort) -> Marks | str:
    """The cohort's marks, or the sentence that says why there are none."""
    try:
        return localisation(cohort)
    except MetricError as error:
        return str(error)


def decide(cohort: Cohort, among: Cases, marks: Marks | str) -> tuple[Decisions, ...]:
    """Apply every operating point of the cohort's protocol to its cases."""
    protocol = cohort.protocol
    decisions = []
    for point in protocol.operating_points:
        try:
            decisions.append(_apply(point, protocol, among, marks, cohort))
        except MetricError as error:
            none = np.zeros(len(among), dtype=np.bool_)
            decisions.append(Decisions(point, none, none, none, None, "", str(error)))
    return tuple(decisions)


def chosen_half(among: Cases, seed: int) -> BoolArray:
    """The exams (n,) of the women on whom thresholds are chosen: half of all women, by a hash of their identifiers.

    A woman's half depends on nothing but her identifier and the seed, so it is the same for every system.
    """
    half = [sha256(f"{seed}:{woman}".encode()).digest()[0] % 2 == 0 for woman in among.women]
    return np.array(half, dtype=np.bool_)[among.woman]


def _apply(point: OperatingPoint, protocol: Protocol, among: Cases, marks: Marks | str, cohort: Cohort) -> Decisions:
    if not len(among):
        raise NotComputableError("No exam is included.")
    score, exam_score = _scales(point, among, cohort)
    usable = _usable(point, among)
    chosen = judged = usable
    if point.chosen_on == "validation-split":
        half = chosen_half(among, protocol.uncertainty.seed)
        chosen, judged = usable & half, usable & ~half
    sites = among.text("site") if point.per_site else np.full(len(among), "", dtype=object)
    limit = np.full(len(among), np.nan)
    told, without = [], []
    for site in sorted(set(sites[judged])):
        here = sites == site
        try:
            threshold = _threshold(point, among, chosen & here, score, exam_score, marks)
        except NotComputableError as error:
            if not point.per_site:
                raise
            without.append(f"{site or 'unknown site'} ({error})")
            continue
        limit[here] = threshold
        told.append((site or "unknown site", threshold))
    if not told:
        raise NotComputableError(f"No site gives a threshold: {'; '.join(without)}")
    judged = judged & ~np.isnan(limit)
    return Decisions(
        point,
        judged,
        score >= limit,
        exam_score >= limit,
        None if point.per_site else told[0][1],
        _note(point, told if point.per_site else [], without, among, chosen),
    )


def _scales(point: OperatingPoint, among: Cases, cohort: Cohort) -> tuple[FloatArray, FloatArray]:
    """What is held against the threshold: of the breast with the cancer, and of the exam."""
    if point.target == "category":
        category = among.numbers("category")
        return category, category
    if point.target in ("fp-per-image", "fp-per-exam"):
        return highest_regions(cohort, among)
    return among.score, among.exam_score


def _usable(point: OperatingPoint, among: Cases) -> BoolArray:
    """The exams that the point can be chosen and judged on."""
    if point.reader is not None:
        usable = ~np.isnan(among.numbers(point.reader))
        if not usable.any():
            raise NotComputableError(f"The follow-up has no decisions of {point.reader}.")
    elif point.target == "category":
        usable = ~np.isnan(among.numbers("category"))
        if not usable.any():
            raise NotComputableError("The scores have no category.")
    else:
        usable = np.ones(len(among), dtype=np.bool_)
    return np.asarray(usable)


def _threshold(
    point: OperatingPoint,
    among: Cases,
    chosen: BoolArray,
    score: FloatArray,
    exam_score: FloatArray,
    marks: Marks | str,
) -> float:
    """The threshold that meets the point's target on the exams `chosen` (n,)."""
    value = point.value if point.value is not None else np.nan
    if point.target == "category":
        return value
    if not chosen.any():
        raise NotComputableError("There are no exams to choose the threshold on.")
    if point.target in ("fp-per-image", "fp-per-exam"):
        if isinstance(marks, str):
            raise NotComputableError(marks)
        weight = (among.weight * chosen)[marks.exam]
        if not weight.any():
            raise NotComputableError("There are no images to count false positives on.")
        return marks.froc_per("image" if point.target == "fp-per-image" else "case").threshold_at_fp(value, weight)
    weight = among.weight[chosen]
    if point.target == "recall-rate":
        return threshold_at_recall_rate(exam_score[chosen], value, weight)
    positive = among.positive[chosen]
    if point.reader is not None:
        recalled = among.numbers(point.reader)[chosen] == 1
        of_class = positive if point.target == "reader-sensitivity" else ~positive
        if not of_class.any():
            raise NotComputableError(f"{point.reader} has no exams {'with' if positive.any() else 'without'} cancer.")
        value = float(np.average((recalled == positive)[of_class], weights=weight[of_class]))
    meet = threshold_at_sensitivity if point.target.endswith("sensitivity") else threshold_at_specificity
    return meet(positive, score[chosen], value, weight)


def _note(
    point: OperatingPoint, by_site: list[tuple[str, float]], without: list[str], among: Cases, chosen: BoolArray
) -> str:
    if point.target == "category":
        return f"the exam's category is {point.value:g} or more, whichever breast made it so"
    target = f"{point.reader}'s {point.target.removeprefix('reader-')}" if point.reader else point.target
    value = "" if point.value is None else f" of {point.value:g}"
    on = "the same exams, so the intervals take it as given"
    if point.chosen_on == "validation-split":
        on = f"{among.counted(chosen).words}, of other women"
    note = f"threshold chosen for {target.replace('-', ' ')}{value} on {on}"
    if by_site:
        note += "; thresholds by site: " + ", ".join(f"{site} {threshold:.4g}" for site, threshold in by_site)
    if without:
        note += f"; sites without threshold, left out: {'; '.join(without)}"
    return note
