"""Published levels of a screening programme's figures, and the words that the figures are printed with."""

from __future__ import annotations

from dataclasses import dataclass

_EUROPE = (
    "European guidelines for quality assurance in breast cancer screening and diagnosis, 4th ed. 2006, as quoted in "
    "BMC Public Health 2011;11:91, table 8"
)
_BCSC = "BCSC mean: Lehman et al., Radiology 2017;283:49"
_EXPERTS = "Miglioretti et al., AJR 2015 (PMC4369798)"


@dataclass(frozen=True)
class Indicator:
    """How a rate is printed: its name, what it is multiplied by, the words for what is counted among what, and the
    published levels."""

    label: str
    counted: str
    among: str
    per: int = 1
    benchmark: str = ""
    note: str = ""


INDICATORS: dict[str, Indicator] = {
    "recall_rate": Indicator(
        "recall rate",
        "recalled",
        "exams that were read",
        benchmark=(
            f"initial screening < 7 % acceptable, < 5 % desirable; subsequent < 5 % and < 3 % ({_EUROPE}). "
            f"11.6 % ({_BCSC}). 5 to 12 % where 2.5 to 4 cancers per 1,000 are detected ({_EXPERTS})"
        ),
    ),
    "cancer_detection_rate": Indicator(
        "cancer detection rate",
        "with a screen-detected cancer",
        "exams that were read, work-up time complete",
        per=1_000,
        benchmark=(
            f"initial screening 3 times the background incidence acceptable, more desirable ({_EUROPE}). "
            f"5.1 per 1,000 ({_BCSC}). At least 2.5 per 1,000 ({_EXPERTS})"
        ),
    ),
    "ppv1": Indicator(
        "PPV1, of a recall",
        "with a screen-detected cancer",
        "exams that were recalled, work-up time complete",
        benchmark=f"4.4 % ({_BCSC}). 3 to 8 % where 2.5 to 4 cancers per 1,000 are detected ({_EXPERTS})",
    ),
    "ppv2": Indicator("PPV2, of a biopsy recommended", "", "", benchmark=f"25.6 % ({_BCSC})"),
    "ppv3": Indicator(
        "PPV3, of a biopsy",
        "with a malignant biopsy",
        "exams that were recalled and led to a biopsy within the work-up time",
        benchmark=f"28.6 % ({_BCSC})",
    ),
    "interval_cancer_rate": Indicator(
        "interval cancer rate",
        "followed by an interval cancer",
        "exams that were read, one round of follow-up complete",
        per=1_000,
    ),
    "interval_cancer_rate_first_year": Indicator(
        "interval cancer rate, first 12 months",
        "followed by an interval cancer within 12 months",
        "exams that were read, 12 months of follow-up complete",
        per=1_000,
        benchmark=f"30 % of the background incidence acceptable, less desirable ({_EUROPE})",
    ),
    "false_negative_rate": Indicator(
        "false negative rate",
        "not recalled and followed by a cancer within 12 months",
        "exams that were read, 12 months of follow-up complete",
        per=1_000,
        benchmark=f"0.8 per 1,000 ({_BCSC})",
    ),
    "programme_sensitivity": Indicator(
        "programme sensitivity",
        "screen-detected",
        "screen-detected and interval cancers of one round",
        benchmark=f"86.9 %, of cancers within 12 months ({_BCSC}). At least 75 % ({_EXPERTS})",
    ),
}
_ASSUMED = "at one threshold, without a reader; every called cancer is taken to be found"
MODEL_INDICATORS: dict[str, Indicator] = {
    "model_recall_rate": Indicator(
        "recall rate of the model",
        "called",
        "scored exams",
        benchmark=INDICATORS["recall_rate"].benchmark,
        note="at one threshold, without a reader",
    ),
    "model_cancer_detection_rate": Indicator(
        "cancer detection rate of the model",
        "with a called cancer, screen-detected or interval",
        "scored exams, one round of follow-up complete",
        per=1_000,
        benchmark=INDICATORS["cancer_detection_rate"].benchmark,
        note=_ASSUMED,
    ),
    "model_screen_detected_rate": Indicator(
        "screen-detected cancers that the model calls, too",
        "with a called screen-detected cancer",
        "scored exams, one round of follow-up complete",
        per=1_000,
        note="the least that the model would have detected",
    ),
    "model_ppv1": Indicator(
        "PPV1 of the model",
        "with a called cancer, screen-detected or interval",
        "called exams, one round of follow-up complete",
        benchmark=INDICATORS["ppv1"].benchmark,
        note=_ASSUMED,
    ),
    "model_missed_rate": Indicator(
        "cancers of the round that the model does not call",
        "with a cancer that is not called",
        "scored exams, one round of follow-up complete",
        per=1_000,
    ),
}
