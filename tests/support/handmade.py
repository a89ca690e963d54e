"""Cohorts joined from a few rows of tables, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from evaluation.cohort import Cohort, join
from evaluation.protocol import OperatingPoint, Outcome, OutcomeRules, Protocol, Uncertainty
from evaluation.scores import check_scores
from evaluation.tables import check_followup

RULES = OutcomeRules(
    window_months=24,
    minimum_negative_followup_months=24,
    interval_months=24,
    positives=(Outcome.SCREEN_DETECTED, Outcome.INTERVAL),
)


def protocol(*points: OperatingPoint, rules: OutcomeRules = RULES, **uncertainty: Any) -> Protocol:
    """A protocol of one round of two years; few replicates, as tests look at points."""
    return Protocol(
        name="by-hand",
        source="tests",
        description="tests",
        outcome=rules,
        operating_points=points,
        uncertainty=Uncertainty(**{"replicates": 50, **uncertainty}),
    )


def cohort_of(
    exams: Sequence[Mapping[str, Any]],
    cancers: Sequence[tuple[str, ...]] = (),
    biopsies: Sequence[tuple[Any, ...]] | None = None,
    *,
    under: Protocol | None = None,
    until: Mapping[str, str] | None = None,
    registry_ends: str = "2030-01-01",
    weights: Mapping[str, float] | None = None,
) -> Cohort:
    """Exams (exam_id, woman_id, exam_date, any of reader1, reader2, recalled, and score, left_score, right_score),
    cancers as (woman, date, side), biopsies as (woman, date, side, malignant). Women are followed to the registry's
    end, or `until`."""
    table = pd.DataFrame(list(exams))
    in_registry = [name for name in table if not name.endswith("score")]
    of_scores = ["exam_id", *(name for name in table if name.endswith("score"))]
    women = sorted(set(table["woman_id"]))
    diagnoses = pd.DataFrame(list(cancers), columns=["woman_id", "diagnosis_date", "laterality"])
    tables = {
        "exams": table[in_registry],
        "diagnoses": diagnoses.assign(malignant=1),
        "followup": pd.DataFrame(
            {"woman_id": women, "followed_until": [(until or {}).get(woman, registry_ends) for woman in women]}
        ),
    }
    if biopsies is not None:
        columns = ["woman_id", "biopsy_date", "laterality", "malignant"]
        tables["biopsies"] = pd.DataFrame(list(biopsies), columns=columns)
    if weights is not None:
        tables["weights"] = pd.DataFrame({"exam_id": list(weights), "weight": list(weights.values())})
    scores = check_scores({"exams": table[of_scores].assign(model_id="by-hand")})
    return join(scores, check_followup(tables), under or protocol())
