"""A programme of a few women whose missed cancers are known by heart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from evaluation.cohort import Cohort, join
from evaluation.protocol import Localisation, OperatingPoint, Outcome, OutcomeRules, Protocol, Uncertainty
from evaluation.scores import check_scores
from evaluation.tables import check_followup

VIEWS = (("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"))
ROWS, COLUMNS = 100, 80
RECALL_20 = OperatingPoint(name="recall-20-percent", target="recall-rate", value=0.2)
FEW_FP = OperatingPoint(name="few-fp-per-image", target="fp-per-image", value=0.05)
CATEGORY = OperatingPoint(name="category-10", target="category", value=10)

EXAMS = (
    # exam, woman, date, recalled, left score, right score (None: rejected)
    ("A1", "wA", "2015-01-01", 0, 0.9, 0.1),
    ("B1", "wB", "2015-01-01", 0, 0.2, 0.8),
    ("B2", "wB", "2017-01-05", 1, 0.95, 0.3),
    ("C1", "wC", "2015-01-01", 0, None, None),
    *((f"N{i:02d}", f"wN{i:02d}", "2015-01-01", 0, 0.02 * i, 0.01 * i) for i in range(20)),
)
"""A1 precedes an interval cancer of the left breast, B1 one that B2 finds in the left breast, C1 an interval cancer."""
DIAGNOSES = (("wA", "2016-03-01", "L", 1), ("wB", "2017-02-01", "L", 1), ("wC", "2016-01-01", "R", 0))
_EXAM_COLUMNS = ("exam_id", "woman_id", "exam_date", "status", "reason", "score", "category")
LESIONS = (("A1", "A1.0", "L", 10, 10, "minimal_sign"), ("A1", "A1.1", "L", 60, 70, "occult"))
"""On A1's L CC, where a region is, and on its L MLO, where none is."""


def protocol(*points: OperatingPoint, level: str = "case-any-view", **rules: Any) -> Protocol:
    given: dict[str, Any] = {
        "window_months": 27,
        "minimum_negative_followup_months": 24,
        "interval_months": 24,
        "positives": (Outcome.INTERVAL, Outcome.NEXT_ROUND),
        "exams": "negatively-read",
    }
    return Protocol(
        name="by-hand",
        source="tests",
        description="tests",
        outcome=OutcomeRules(**(given | rules)),
        operating_points=points or (RECALL_20, FEW_FP, CATEGORY),
        localisation=Localisation(level=level, fp_denominator="normal"),  # type: ignore[arg-type]
        uncertainty=Uncertainty(replicates=50),
    )


def cohort(
    under: Protocol | None = None,
    *,
    lesions: tuple[tuple[Any, ...], ...] = LESIONS,
    tables: tuple[str, ...] = ("exams", "images", "regions"),
    region_scale: float = 1.0,
    names: Mapping[str, str] | None = None,
) -> Cohort:
    """The programme under a protocol. `lesions`, `tables`: what there is of them. `region_scale`: what regions' scores
    are multiplied by. `names`: other names for exams.
    """
    named = {exam: (names or {}).get(exam, exam) for exam, *_ in EXAMS}
    followup = {
        "exams": pd.DataFrame(
            [(named[exam], woman, date, recalled) for exam, woman, date, recalled, *_ in EXAMS],
            columns=["exam_id", "woman_id", "exam_date", "recalled"],
        ),
        "diagnoses": pd.DataFrame(DIAGNOSES, columns=["woman_id", "diagnosis_date", "laterality", "invasive"]).assign(
            malignant=1
        ),
        "followup": pd.DataFrame(
            {"woman_id": sorted({woman for _, woman, *_ in EXAMS}), "followed_until": "2025-01-01"}
        ),
        "lesions": pd.DataFrame(
            [(named[exam], *rest) for exam, *rest in lesions],
            columns=["exam_id", "image_id", "laterality", "x", "y", "visible"],
        ).assign(width=10, height=10, malignant=1),
    }
    if not lesions:
        del followup["lesions"]
    scores = {name: table for name, table in _scores(named, region_scale).items() if name in tables}
    return join(check_scores(scores, "by hand"), check_followup(followup), under or protocol())


def _scores(named: Mapping[str, str], region_scale: float) -> dict[str, pd.DataFrame]:
    exams, images, regions = [], [], []
    for exam, woman, date, _, left, right in EXAMS:
        status = "rejected" if left is None else "scored"
        score = None if left is None else max(left, right)
        category = None if score is None else 10 if score >= 0.5 else 1
        reason = "no-eligible-image: every image was rejected" if left is None else ""
        exams.append((named[exam], woman, date, status, reason, score, category, left, right))
        for at, (side, view) in enumerate(VIEWS if left is not None else ()):
            of_breast = left if side == "L" else right
            # The CC view's region is the breast's, the MLO view's is half as suspicious; each view has its own place.
            region_score = (of_breast if view == "CC" else of_breast / 2) * region_scale
            images.append((named[exam], f"{exam}.{at}", side, view, region_score))
            regions.append((f"{exam}.{at}.r", named[exam], f"{exam}.{at}", side, view, 10, 10, region_score, at + 1))
    return {
        "exams": pd.DataFrame(
            exams,
            columns=[*_EXAM_COLUMNS, "left_score", "right_score"],
        ),
        "images": pd.DataFrame(images, columns=["exam_id", "image_id", "laterality", "view", "score"]).assign(
            kind="ffdm", status="scored", reason="", rows=ROWS, columns=COLUMNS, frames=1, pixel_spacing_mm=1.0
        ),
        "regions": pd.DataFrame(
            regions,
            columns=["region_id", "exam_id", "image_id", "laterality", "view", "x", "y", "score", "rank"],
        ).assign(width=10, height=10, frame_first=0, frame_last=0, frame_peak=0),
    }
