"""A screening programme's own figures, as it was read and with the model in the readers' place.

Recall rate, cancer detection rate, predictive values, interval cancers and false negatives, with published levels
beside them. Unlike the figures on a protocol's positives and negatives, these count all exams that were read:
a programme recalls women whose follow-up is not complete yet, too. What needs follow-up counts the exams from which the
registry had reached that far.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from evaluation.checks import BoolArray, FloatArray
from evaluation.cohort import Cohort
from evaluation.errors import NotComputableError
from evaluation.figure import Figure
from evaluation.followup import DateArray, add_months, exam_outcomes
from evaluation.indicators import INDICATORS, MODEL_INDICATORS, Indicator
from evaluation.operating_points import first_threshold
from evaluation.protocol import Outcome, OutcomeRules
from evaluation.rates import Cells, Rate, rate, rate_intervals

GROUP = "programme"

_PPV2_REASON = "PPV2 needs the biopsies that were recommended; the follow-up tables hold those that were done."


def programme_rates(reading: Mapping[str, BoolArray]) -> dict[str, Rate]:
    """The programme's rates from boolean columns of exams (or cells of equal exams), shape (n,) each.

    `recalled`; `screen_detected`: a malignant diagnosis within the work-up time after a recall; `interval`: another one
    within the round; `first_year`: it came within 12 months; `biopsied`, `biopsy_malignant`: within the work-up time;
    `workup_known`, `year_known`, `round_known`: followed that far. Definitions: PPV1, PPV3 and the false negative rate
    as in the BI-RADS atlas, 5th ed., and Lehman et al., Radiology 2017;283:49; interval cancers as in
    `protocol.OutcomeRules`.
    """
    recalled, detected, interval = reading["recalled"], reading["screen_detected"], reading["interval"]
    early = interval & reading["first_year"]
    return {
        "recall_rate": rate(recalled, np.ones_like(recalled), "No exam has a known decision."),
        "cancer_detection_rate": rate(
            detected, reading["workup_known"], "No exam was followed through its work-up time."
        ),
        "ppv1": rate(
            detected, recalled & reading["workup_known"], "No exam was recalled and followed through its work-up time."
        ),
        "ppv3": rate(
            reading["biopsy_malignant"], recalled & reading["biopsied"], "No recalled exam led to a biopsy in time."
        ),
        "interval_cancer_rate": rate(interval, reading["round_known"], "No exam was followed for a round."),
        "interval_cancer_rate_first_year": rate(early, reading["year_known"], "No exam was followed for 12 months."),
        "false_negative_rate": rate(early & ~recalled, reading["year_known"], "No exam was followed for 12 months."),
        "programme_sensitivity": rate(
            detected,
            (detected | interval) & reading["round_known"],
            "No exam that was followed for a round has a screen-detected or interval cancer.",
        ),
    }


def model_rates(reading: Mapping[str, BoolArray]) -> dict[str, Rate]:
    """The rates with the model in the readers' place, from boolean columns of exams as in `programme_rates`.

    Besides those, `scored`: the exam has a score; `called`: the exam's score reaches the threshold; `called_side`: that
    of the cancer's breast does. A called cancer counts as detected, which an interval cancer might not have been;
    `model_screen_detected_rate` leaves those out.
    """
    scored, called, found_side = reading["scored"], reading["called"], reading["called_side"]
    known = scored & reading["round_known"]
    cancer = reading["screen_detected"] | reading["interval"]
    no_round = "No scored exam was followed for a round."
    return {
        "model_recall_rate": rate(called, scored, "No exam has a score."),
        "model_cancer_detection_rate": rate(cancer & found_side, known, no_round),
        "model_screen_detected_rate": rate(reading["screen_detected"] & found_side, known, no_round),
        "model_ppv1": rate(
            cancer & found_side, called & known, "The model calls no exam that was followed for a round."
        ),
        "model_missed_rate": rate(cancer & ~found_side, known, no_round),
    }


def programme_figures(cohort: Cohort, threshold: float | None = None) -> tuple[Figure, ...]:
    """The programme's figures of a cohort's exams, and those of the model in its place.

    All exams of the follow-up whose decision is known, except after a diagnosis; so neither the protocol's window nor
    its positives, but its round length (`interval_months`) and work-up time. `threshold`: of the exam score; by
    default that of the protocol's first operating point.
    """
    rules = cohort.protocol.outcome
    if rules is None:
        return _without(f"The protocol {cohort.protocol.name} does not define outcomes.")
    reading = _reading(cohort, rules)
    if not len(reading):
        return _without("The programme's figures need the column recalled in the follow-up's exams.")
    reasons = {"ppv2": _PPV2_REASON}
    if cohort.followup.biopsies is None:
        reasons["ppv3"] = "PPV3 needs the follow-up table biopsies."
    try:
        cut = first_threshold(cohort) if threshold is None else threshold
    except NotComputableError as error:
        cut = None
        reasons |= dict.fromkeys(MODEL_INDICATORS, str(error))
    return _figures(cohort, reading, cut, reasons)


def _reading(cohort: Cohort, rules: OutcomeRules) -> pd.DataFrame:
    """What the programme did and what came of it: the columns of `programme_rates`, woman_id, weight and scores."""
    own = rules.model_copy(
        update={
            "window_months": rules.interval_months,
            "minimum_negative_followup_months": rules.interval_months,
            "workup_months": min(rules.workup_months, rules.interval_months),
            "positives": (Outcome.SCREEN_DETECTED, Outcome.INTERVAL),
            "exams": "all",
            "next_exam_months": None,
        }
    )
    outcomes = exam_outcomes(cohort.followup, own).set_index("exam_id")
    exams = cohort.exams[cohort.exams["recalled"].notna()]
    outcomes = outcomes.reindex(exams["exam_id"]).set_axis(exams.index)
    kept = (outcomes["outcome"] != Outcome.AFTER_DIAGNOSIS) & outcomes["outcome"].notna()
    exams, outcomes = exams[kept], outcomes[kept]
    date, diagnosis = _days(outcomes["exam_date"]), _days(outcomes["diagnosis_date"])
    until, end = _followed_until(cohort, exams, rules)

    def known(months: int) -> BoolArray:
        # Beyond the registry's end an exam with a cancer is known and one without is not: neither counts.
        later = add_months(date, months)
        return np.asarray((later <= end) & ((later <= until) | (diagnosis <= later)))

    biopsied, malignant = _biopsies(cohort.followup.biopsies, exams, date, own.workup_months)
    return pd.DataFrame(
        {
            "woman_id": exams["woman_id"],
            "weight": outcomes["weight"],
            "recalled": exams["recalled"] == 1,
            "screen_detected": outcomes["outcome"] == Outcome.SCREEN_DETECTED,
            "interval": outcomes["outcome"] == Outcome.INTERVAL,
            "first_year": diagnosis <= add_months(date, 12),
            "biopsied": biopsied,
            "biopsy_malignant": malignant,
            "workup_known": known(own.workup_months),
            "year_known": known(12),
            "round_known": known(own.interval_months),
            "exam_score": exams["exam_score"],
            "side_score": _side_score(exams, outcomes["cancer_side"]),
        }
    )


def _side_score(exams: pd.DataFrame, side: pd.Series) -> FloatArray:
    """The score of the breast with the cancer, as `Cohort.exams` has it for a protocol's positives."""
    left, right, exam = (exams[name].to_numpy(dtype=np.float64) for name in ("left_score", "right_score", "exam_score"))
    at = side.to_numpy()
    of_cancer = np.select([at == "L", at == "R", at == "B"], [left, right, np.fmax(left, right)], exam)
    return np.where(np.isnan(left) & np.isnan(right), exam, of_cancer)


def _followed_until(cohort: Cohort, exams: pd.DataFrame, rules: OutcomeRules) -> tuple[DateArray, np.datetime64]:
    """Until when each exam's woman is followed, shape (n,), and until when anybody is."""
    until = cohort.followup.followup.set_index("woman_id")["followed_until"]
    if rules.later_exams_extend_followup:
        last = cohort.followup.exams.groupby("woman_id")["exam_date"].max()
        until = pd.concat([until, last]).groupby(level=0).max()
    return _days(until.reindex(exams["woman_id"])), np.datetime64(until.max(), "D")


def _biopsies(
    biopsies: pd.DataFrame | None, exams: pd.DataFrame, date: DateArray, workup_months: int
) -> tuple[BoolArray, BoolArray]:
    """Whether each exam was followed by a biopsy within the work-up time, and by a malignant one: shape (n,) each."""
    found = np.zeros((2, len(exams)), dtype=np.bool_)
    if biopsies is None:
        return found[0], found[1]
    row = pd.DataFrame({"woman_id": exams["woman_id"].to_numpy(), "row": np.arange(len(exams)), "date": date})
    row = row[row["woman_id"].isin(set(biopsies["woman_id"]))]
    pairs = row.merge(biopsies[["woman_id", "biopsy_date", "malignant"]], on="woman_id")
    day, exam_day = _days(pairs["biopsy_date"]), _days(pairs["date"])
    pairs = pairs[(exam_day <= day) & (day <= add_months(exam_day, workup_months))]
    found[0, pairs["row"]] = True
    found[1, pairs.loc[pairs["malignant"] == 1, "row"]] = True
    return found[0], found[1]


def _days(dates: pd.Series) -> DateArray:
    return np.asarray(dates.to_numpy(), dtype="datetime64[D]")


def _figures(
    cohort: Cohort, reading: pd.DataFrame, threshold: float | None, reasons: Mapping[str, str]
) -> tuple[Figure, ...]:
    """All figures; those in `reasons` have none."""
    cut = np.inf if threshold is None else threshold
    flags = {str(name): values.to_numpy() for name, values in reading.select_dtypes("bool").items()}
    flags["scored"] = reading["exam_score"].notna().to_numpy()
    flags["called"] = (reading["exam_score"] >= cut).to_numpy()
    flags["called_side"] = (reading["side_score"] >= cut).to_numpy()
    cells = Cells.of(flags)
    rates = programme_rates(cells.columns) | model_rates(cells.columns)
    rates = {key: one for key, one in rates.items() if key not in reasons}
    weight = None if cohort.followup.weights is None else reading["weight"].to_numpy()
    found = rate_intervals(cells, rates, reading["woman_id"], weight, cohort.protocol.uncertainty) | dict(reasons)
    cancers = cells.number(cells.columns["screen_detected"] | cells.columns["interval"])
    weighted = "" if weight is None else ", weighted by inverse sampling probability"

    def figure(key: str, indicator: Indicator) -> Figure:
        answer = found[key]
        counts = ""
        if key in rates:
            counted, among = cells.number(rates[key].counted), cells.number(rates[key].among)
            counts = f"{counted:,} {indicator.counted} of {among:,} {indicator.among}{weighted}"
        return Figure(
            key=key,
            label=indicator.label,
            group=GROUP,
            interval=None if isinstance(answer, str) else answer,
            n=len(reading),
            n_positive=cancers,
            denominator=counts,
            reason=answer if isinstance(answer, str) else "",
            threshold=threshold if key in MODEL_INDICATORS else None,
            benchmark=indicator.benchmark,
            note=indicator.note,
            per=indicator.per,
        )

    return tuple(figure(key, indicator) for key, indicator in (INDICATORS | MODEL_INDICATORS).items())


def _without(reason: str) -> tuple[Figure, ...]:
    return tuple(
        Figure(key, one.label, GROUP, None, 0, 0, "", reason, benchmark=one.benchmark, per=one.per)
        for key, one in (INDICATORS | MODEL_INDICATORS).items()
    )
