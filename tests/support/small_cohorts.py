"""Small cohorts from a few columns; what a test does not care about has a plain value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evaluation.cohort import Cohort
from evaluation.protocol import OperatingPoint, Protocol, Uncertainty
from evaluation.scores import Scores
from evaluation.tables import FollowUp


def protocol(*points: OperatingPoint, replicates: int = 50, **sections: Any) -> Protocol:
    uncertainty = Uncertainty(**{"replicates": replicates} | sections.pop("uncertainty", {}))
    return Protocol(
        name="test", source="-", description="-", operating_points=points, uncertainty=uncertainty, **sections
    )


def cohort(
    y: Any,
    score: Any,
    rules: Protocol | None = None,
    *,
    name: str = "ours",
    tables: dict[str, pd.DataFrame] | None = None,
    breasts: pd.DataFrame | None = None,
    **columns: Any,
) -> Cohort:
    """A cohort of n exams, all included unless `included` says otherwise, of a woman each unless `woman_id` does.

    `y`, `score`: shape (n,). `tables`: images, regions and lesions. `columns`: further columns of `Cohort.exams`.
    """
    n = len(y)
    given = tables or {}
    role = np.where(np.asarray(y) == 1, "positive", "negative")
    exams = pd.DataFrame(
        {
            "exam_id": [f"E{at:05d}" for at in range(n)],
            "woman_id": [f"W{at:05d}" for at in range(n)],
            "outcome": np.where(np.asarray(y) == 1, "screen-detected", "negative"),
            "role": role,
            "weight": 1.0,
            "cancer_side": "",
            "invasive": np.nan,
            "age": np.nan,
            "density": "",
            "site": "",
            "manufacturer": "",
            "reader1": np.nan,
            "reader2": np.nan,
            "recalled": np.nan,
            "round": 1,
            "score": np.asarray(score, dtype=np.float64),
            "exam_score": np.asarray(score, dtype=np.float64),
            "category": np.nan,
            "left_score": np.nan,
            "right_score": np.nan,
            "included": True,
            "excluded_because": "",
        }
    ).assign(**columns)
    if breasts is None:
        breasts = pd.DataFrame(
            {name: [] for name in ("exam_id", "woman_id", "role", "score", "weight", "included")}
        ).astype({"exam_id": "str", "woman_id": "str", "role": "str", "included": "bool"})
    followup = FollowUp(
        exams=exams,
        diagnoses=pd.DataFrame(),
        followup=pd.DataFrame(),
        lesions=given.get("lesions"),
        biopsies=None,
        weights=None,
        notes=(),
    )
    scores = Scores(
        name=name,
        model_ids=("model",),
        exams=exams,
        images=given.get("images"),
        regions=given.get("regions"),
        sha256="",
    )
    return Cohort(rules or protocol(), followup, scores, exams, breasts, (), ())


def images(exam: Any, **columns: Any) -> pd.DataFrame:
    """Scored images, `exam`: shape (n,), the number of each one's exam; their identifiers are I0, I1, …"""
    table = pd.DataFrame({"image_id": [f"I{at}" for at in range(len(exam))], "exam_id": _ids(exam), "status": "scored"})
    return table.assign(**columns)


def boxes(image: Any, exam: Any, x: Any, **columns: Any) -> pd.DataFrame:
    """Regions or lesions of 10 x 10 pixels in row 0, at column `x`, on images and exams by number."""
    table = pd.DataFrame(
        {
            "image_id": [f"I{at}" for at in image],
            "exam_id": _ids(exam),
            "laterality": "",
            "x": np.asarray(x, dtype=np.float64),
            "y": 0.0,
            "width": 10.0,
            "height": 10.0,
        }
    )
    return table.assign(**columns)


def _ids(exam: Any) -> list[str]:
    return [f"E{at:05d}" for at in exam]
