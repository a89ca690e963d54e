"""A small evaluation, put together by hand: its numbers mean nothing, but each is where it belongs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from evaluation.calibration import reliability_bins
from evaluation.cohort import Cohort
from evaluation.figure import Figure
from evaluation.froc import FrocCurve
from evaluation.intervals import Interval
from evaluation.protocol import Outcome, load_protocol
from evaluation.roc import roc_curve
from evaluation.scores import Scores
from evaluation.study import Evaluation
from evaluation.tables import check_followup

HOSTILE = "<script>alert('$x$')</script>"
"""Text that is markup, a formula and a quotation at once."""

_KINDS = {
    Outcome.NEGATIVE: ("negative", 300),
    Outcome.SCREEN_DETECTED: ("positive", 30),
    Outcome.INTERVAL: ("positive", 12),
    Outcome.INSUFFICIENT_FOLLOW_UP: ("excluded", 40),
}
FLOW = (
    (0, "exams in the follow-up", 380),
    (0, "scored exams without follow-up", 2),
    (1, "insufficient follow-up", 40),
    (1, "scored, without follow-up", 2),
    (2, "negative", 298),
    (2, "screen-detected", 30),
    (2, "interval", 12),
)


def cohort(name: str = "ours", seed: int = 0) -> Cohort:
    """382 exams of as many women, 340 of them analysed and 42 of these positive, under salim-2020."""
    rng = np.random.default_rng(seed)
    outcome = [kind for kind, (_, n) in _KINDS.items() for _ in range(n)]
    role = [text for text, n in _KINDS.values() for _ in range(n)]
    n = len(outcome)
    positive = np.array(role) == "positive"
    score = 1 / (1 + np.exp(4 - rng.normal(1.5 * positive, 1.0, n)))
    included = (np.array(role) != "excluded") & (np.arange(n) > 1)
    exams = pd.DataFrame(
        {
            "exam_id": [f"1.2.{i}" for i in range(n)],
            "woman_id": [f"WOMAN-{i}" for i in range(n)],
            "outcome": [str(one) for one in outcome],
            "role": role,
            "months_to_diagnosis": np.where(positive, rng.uniform(0, 11.9, n), np.nan),
            "weight": 1.0,
            "reader1": (rng.random(n) < np.where(positive, 0.8, 0.05)).astype(float),
            "reader2": np.nan,
            "recalled": (rng.random(n) < np.where(positive, 0.85, 0.04)).astype(float),
            "score": score,
            "exam_score": score,
            "included": included,
            "excluded_because": np.where(included, "", "the woman was not followed for long enough"),
        }
    )
    ids = exams[["exam_id", "woman_id"]].assign(exam_date="2020-01-01")
    followup = check_followup(
        {
            "exams": ids,
            "diagnoses": pd.DataFrame(
                {"woman_id": ["NOBODY", "NOBODY2"], "diagnosis_date": "2020-02-01", "laterality": "L", "malignant": "1"}
            ),
            "followup": pd.DataFrame({"woman_id": exams["woman_id"], "followed_until": "2024-01-01"}),
        }
    )
    scores = Scores(name, ("ab" * 32,), exams, None, None, "cd" * 32)
    return Cohort(load_protocol("salim-2020"), followup, scores, exams, pd.DataFrame(), FLOW, ("a note of the join",))


def figure(key: str = "auc", **changes: Any) -> Figure:
    """A figure with an interval."""
    made = Figure(
        key=key,
        label="AUC",
        group="discrimination",
        interval=Interval(0.81234, 0.75, 0.86, "percentile bootstrap", 0.95, 2000, 338),
        n=340,
        n_positive=42,
        denominator="340 exams of 340 women, 42 with cancer",
    )
    return replace(made, **changes)


def evaluation(name: str = "ours", seed: int = 0) -> Evaluation:
    """All kinds of figures and curves; one figure has few positives, one cannot be computed."""
    of = cohort(name, seed)
    exams = of.exams[of.exams["included"]]
    positive, score = (exams["role"] == "positive").to_numpy(), exams["score"].to_numpy()
    threshold = float(np.quantile(score[~positive], 0.966))
    figures = (
        figure(benchmark="0.87 in the literature"),
        figure(
            "sensitivity@first-reader-specificity",
            label="Sensitivity at first-reader-specificity",
            group="operating points",
            threshold=threshold,
        ),
        figure("detection-rate", label="Cancer detection rate", group="programme", per=1000, n_positive=5),
        figure("froc-sensitivity@fp=1", label="Sensitivity at 1 false positive per image", group="localisation"),
        figure("eo", label="E/O", group="calibration", interval=None, reason="the scores are no probabilities"),
        figure(subgroup="density: C", n=100, n_positive=12),
        figure(subgroup=f"site: {HOSTILE}", n=20, n_positive=0, interval=None, reason="there is one class only"),
    )
    return Evaluation(
        cohort=of,
        figures=figures,
        roc=roc_curve(positive, score),
        froc=FrocCurve(np.array([np.inf, 0.9, 0.5]), np.array([0.0, 0.5, 2.0]), np.array([0.0, 0.6, 0.8])),
        reliability=reliability_bins(positive, score),
        comparisons=(figure("auc-difference", label="Difference in AUC", subgroup=HOSTILE),),
    )


def data_of(one: Evaluation) -> dict[str, Any]:
    """A manifest as `evaluation.manifest.manifest` makes it."""
    scores = one.cohort.scores
    system = {"name": scores.name, "model_ids": list(scores.model_ids), "rows": 382, "sha256": scores.sha256}
    other = {"name": HOSTILE, "model_ids": [], "rows": 382, "sha256": "ef" * 32}
    file = {"file": "exams.csv", "rows": 382, "sha256": "01" * 32}
    return {"systems": [system, other], "followup": [file], "sha256": "23" * 32}
