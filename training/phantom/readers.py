"""Two simulated readers of an exam, the arbitration between them, and the assessment of women who are recalled.

A reader sees a lesion with some evidence: the logarithm of its conspicuity, of how much it looks like cancer, and of
chance, of which a part is the same for all readers of the case. He votes for recall where that exceeds his own
threshold. Normal tissue looks suspicious now and then, more often in dense breasts. They read projections: what a
tomosynthesis volume shows beyond a mammogram does not help them here.

All figures here are our choice, tuned together with the rate in `growth` so that the programme's come out about as
published: 6 cancers detected and 2 interval cancers in 1,000 exams, 15 to 50 healthy women recalled (the Netherlands,
digital: 6.2, 2.2 and 14 to 21, Sankatsing et al., BMC Cancer 18:256, 2018; Norway: 4.9 to 6.4 detected and 26 to 46
recalled, Hofvind et al., Eur J Epidemiol 22:447, 2007), a quarter of cancers of 5 mm found and most above 10 mm (26 %
and 91 % at 10 mm, Weedon-Fekjaer et al., Breast Cancer Res 10:R41, 2008). `tests/training/phantom/test_programme.py`
holds them to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from screening.exam import Laterality
from training.phantom.conspicuity import SIGN_FROM, Visibility, visibility
from training.phantom.model import Density, Lesion, LesionKind, LesionTrace
from training.phantom.programme import Course, Visit
from training.phantom.seeds import generator

_THRESHOLD = 3.2  # conspicuity of a lesion that half of the readers recall
_SHARED, _OWN, _ARBITER = 0.35, 0.28, 0.15  # standard deviations of evidence
_READERS, _HABIT = 12, 0.12  # in a programme, and how far their thresholds lie apart

# How much a lesion looks like cancer, 1 for one that does.
_MALIGNANT_LOOK = {LesionKind.CIRCUMSCRIBED_MASS: 0.85}
_BENIGN_LOOK = {
    LesionKind.CYST: 0.24,
    LesionKind.FIBROADENOMA: 0.27,
    LesionKind.MICROCALCIFICATIONS: 0.33,
    LesionKind.VASCULAR_CALCIFICATION: 0.05,
    LesionKind.ARCHITECTURAL_DISTORTION: 0.9,
}
_SEEN_BEFORE = math.log(0.75)  # of what was there in the round before and has not changed
_TISSUE = {"A": -1.12, "B": -1.05, "C": -0.98, "D": -0.95}  # evidence of normal tissue, below the threshold
_BIOPSIED = {
    LesionKind.CYST: 0.1,
    LesionKind.FIBROADENOMA: 0.5,
    LesionKind.MICROCALCIFICATIONS: 0.6,
    LesionKind.VASCULAR_CALCIFICATION: 0.0,
    LesionKind.ARCHITECTURAL_DISTORTION: 0.9,
}
_TISSUE_BIOPSIED = 0.15


@dataclass(frozen=True)
class Reading:
    """What became of one exam.

    `reader1`, `reader2`: their votes for recall; `recalled`: after arbitration. `detects`: the assessment after the
    recall finds the woman's cancer, and her screening ends. `biopsied`: lateralities of biopsies that found no cancer,
    each with the lesion's id ("" for normal tissue). `visible`: by lesion, the verdict of one who knows of it, from
    its conspicuity on the better view; and `conspicuity` itself.
    """

    reader1: bool
    reader2: bool
    recalled: bool
    detects: bool
    biopsied: tuple[tuple[Laterality, str], ...]
    visible: dict[str, Visibility]
    conspicuity: dict[str, float]


@dataclass(frozen=True)
class _Finding:
    """Something that may be recalled: its evidence before chance, as a logarithm; `lesion` is None of normal tissue."""

    laterality: Laterality
    lesion: Lesion | None
    evidence: float


def read(course: Course, visit: Visit, traces: Sequence[LesionTrace]) -> Reading:
    """Let two readers read a visit, given the lesions' traces in all of its images.

    Two votes recall; after one vote a third reader decides. Chance comes from the woman and the round alone. The cancer
    is found if it is what the recall is for, or if the same breast is recalled and there is a sign of it.
    """
    rng = generator(course.woman.seed, course.woman.index, "reading", visit.round_number)
    seen = _best(traces)
    findings = [*_lesions(seen, traces, visit, course), *_normal_tissue(course, visit)]
    first, second, third = _thresholds(course.woman.seed, rng)
    evidence = np.array([finding.evidence for finding in findings]) + _SHARED * rng.standard_normal(len(findings))
    one = evidence + _OWN * rng.standard_normal(len(findings)) > first
    two = evidence + _OWN * rng.standard_normal(len(findings)) > second
    arbitrated = evidence + _ARBITER * rng.standard_normal(len(findings)) > third
    recall = (one & two) | ((one | two) & arbitrated)
    recalled = [finding for finding, voted in zip(findings, recall, strict=True) if voted]
    return Reading(
        reader1=bool(one.any()),
        reader2=bool(two.any()),
        recalled=bool(recalled),
        detects=_detects(recalled, course.cancer, seen),
        biopsied=_biopsied(recalled, rng),
        visible={lesion_id: visibility(value) for lesion_id, value in seen.items()},
        conspicuity=seen,
    )


def _best(traces: Sequence[LesionTrace]) -> dict[str, float]:
    """Each lesion's conspicuity on the view that shows it best."""
    best: dict[str, float] = {}
    for trace in traces:
        best[trace.lesion.lesion_id] = max(best.get(trace.lesion.lesion_id, 0.0), trace.conspicuity)
    return best


def _lesions(seen: dict[str, float], traces: Sequence[LesionTrace], visit: Visit, course: Course) -> list[_Finding]:
    lesions = {trace.lesion.lesion_id: trace.lesion for trace in traces}
    before = max((other.on for other in course.visits if other.round_number < visit.round_number), default=None)
    findings = []
    for lesion_id, lesion in lesions.items():
        looks = _MALIGNANT_LOOK.get(lesion.kind, 1.0) if lesion.malignant else _BENIGN_LOOK[lesion.kind]
        evidence = math.log(max(seen[lesion_id], 1e-6) * looks)
        if before is not None and lesion.born <= before and math.isinf(lesion.doubling_days):
            evidence += _SEEN_BEFORE
        findings.append(_Finding(lesion.laterality, lesion, evidence))
    return findings


def _normal_tissue(course: Course, visit: Visit) -> list[_Finding]:
    density: Density = course.woman.density
    evidence = math.log(_THRESHOLD) + _TISSUE[density] + (0.3 * _SEEN_BEFORE if visit.round_number else 0.0)
    return [_Finding(laterality, None, evidence) for laterality in Laterality]


def _thresholds(seed: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Of three readers out of the programme's, on the scale of evidence."""
    habits = _HABIT * generator(seed, 0, "readers").standard_normal(_READERS)
    first, second, third = (float(math.log(_THRESHOLD) + habits[one]) for one in rng.permutation(_READERS)[:3])
    return first, second, third


def _detects(recalled: Sequence[_Finding], cancer: Lesion | None, seen: dict[str, float]) -> bool:
    if cancer is None or cancer.lesion_id not in seen:
        return False
    if any(finding.lesion == cancer for finding in recalled):
        return True
    return seen[cancer.lesion_id] >= SIGN_FROM and any(one.laterality is cancer.laterality for one in recalled)


def _biopsied(recalled: Sequence[_Finding], rng: np.random.Generator) -> tuple[tuple[Laterality, str], ...]:
    """Biopsies of what is no cancer."""
    taken = []
    for finding, chance in zip(recalled, rng.random(len(recalled)), strict=True):
        if finding.lesion is None:
            if chance < _TISSUE_BIOPSIED:
                taken.append((finding.laterality, ""))
        elif not finding.lesion.malignant and chance < _BIOPSIED[finding.lesion.kind]:
            taken.append((finding.laterality, finding.lesion.lesion_id))
    return tuple(taken)
