"""Biopsy support: how many benign biopsies a threshold would have spared, at a sensitivity that must be kept.

The case is a breast that was biopsied after an exam; its score is the model's for that breast at that exam. Below the
threshold the biopsy is avoided. The threshold is chosen on one half of the women and judged on the other; the same on
one and the same set is given as well, and is optimistic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation import checks
from evaluation.bootstrap import cluster_codes
from evaluation.checks import BoolArray, FloatArray
from evaluation.cohort import Cohort
from evaluation.errors import NotComputableError
from evaluation.figure import Figure
from evaluation.followup import add_months
from evaluation.intervals import Interval
from evaluation.operating_point import threshold_at_sensitivity
from evaluation.protocol import Uncertainty
from evaluation.rates import Cells, rate, rate_intervals

GROUP = "biopsy"
SENSITIVITIES = (0.98, 1.0)
WORTH_WHILE = 0.2
"""The share of benign biopsies avoided from which support is taken to be worth while; the project's own mark."""

_PUBLISHED = (
    "at least 20 % is this project's mark; published: 33 % of benign lesions at 95 % sensitivity, on mammograms of "
    "BI-RADS 4 lesions (Breast Cancer Res 2024, 10.1186/s13058-024-01830-9)"
)


@dataclass(frozen=True, eq=False)
class Biopsied:
    """Breasts that were biopsied after an exam, shape (b,) each; `malignant` if any of the breast's biopsies was.

    `n_biopsies` stand behind them; `left_out` counts, by reason, the biopsies that have no score.
    """

    score: FloatArray
    malignant: BoolArray
    woman: npt.NDArray[np.object_]
    weight: FloatArray
    n_biopsies: int
    left_out: dict[str, int]


@dataclass(frozen=True)
class Avoided:
    """At a threshold: the share of benign cases below it, and of malignant ones not below it; a sentence where a share
    cannot be computed."""

    threshold: float
    avoided: Interval | str
    sensitivity: Interval | str
    n_benign_avoided: int
    n_benign: int
    n_malignant_kept: int
    n_malignant: int


def halves(woman: npt.ArrayLike, malignant: npt.ArrayLike, seed: int = 0) -> BoolArray:
    """Which cases belong to the first half of the women: shape (n,), from `woman` and `malignant` of shape (n,).

    Women with a malignant case and women without are halved apart, so that both halves have of both. The same seed
    gives the same halves whatever the order of cases.
    """
    codes, n_women = cluster_codes(woman)
    ill = np.bincount(codes, checks.binary(malignant, "malignant", length=len(codes)), minlength=n_women) > 0
    rng = np.random.default_rng(seed)
    first = np.zeros(n_women, dtype=np.bool_)
    for stratum in (np.flatnonzero(ill), np.flatnonzero(~ill)):
        first[rng.permutation(stratum)[: (len(stratum) + 1) // 2]] = True
    return first[codes]


def avoided_at(
    threshold: float,
    score: npt.ArrayLike,
    malignant: npt.ArrayLike,
    woman: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    uncertainty: Uncertainty | None = None,
) -> Avoided:
    """What a threshold spares and keeps on cases, shape (n,) each; a case is avoided when its score lies below.

    Intervals as in `rates.rate_intervals`; they hold for the threshold as given, not for its choice.
    """
    kept = checks.numbers(score, "score") >= threshold
    sick = checks.binary(malignant, "malignant", length=len(kept))
    cells = Cells.of({"kept": kept, "malignant": sick})
    cell = cells.columns
    rates = {
        "avoided": rate(~cell["kept"], ~cell["malignant"], "There is no benign biopsy to avoid."),
        "sensitivity": rate(cell["kept"], cell["malignant"], "There is no malignant biopsy to keep."),
    }
    found = rate_intervals(cells, rates, woman, weight, uncertainty or Uncertainty())
    return Avoided(
        threshold,
        found["avoided"],
        found["sensitivity"],
        int((~kept & ~sick).sum()),
        int((~sick).sum()),
        int((kept & sick).sum()),
        int(sick.sum()),
    )


def match_biopsies(
    biopsies: pd.DataFrame, breasts: pd.DataFrame, weight_of_exam: pd.Series, workup_months: int
) -> Biopsied:
    """Each biopsy's breast at the woman's latest exam on or before it, if that is at most `workup_months` back.

    `biopsies`: woman_id, biopsy_date, laterality, malignant; `breasts`: exam_id, woman_id, exam_date, laterality (L or
    R), score (NaN for none); `weight_of_exam`: by exam_id. A biopsy of both breasts is a case of its own with the
    higher score. Several biopsies of a breast after one exam are one case.
    """
    known = breasts[breasts["woman_id"].isin(set(biopsies["woman_id"]))]
    either = known.groupby(["woman_id", "exam_date", "exam_id"], as_index=False)["score"].max().assign(laterality="B")
    columns = ["woman_id", "exam_date", "exam_id", "laterality", "score"]
    sides = pd.concat([known[columns], either[columns]]).sort_values(["exam_date", "exam_id"], kind="stable")
    sides["exam_day"] = sides["exam_date"]
    done = biopsies.sort_values("biopsy_date", kind="stable")
    found = pd.merge_asof(
        done, sides, left_on="biopsy_date", right_on="exam_date", by=["woman_id", "laterality"], direction="backward"
    )
    day, exam_day = (found[name].to_numpy().astype("datetime64[D]") for name in ("biopsy_date", "exam_day"))
    unsided = (found["laterality"] == "").to_numpy()
    late = ~(day <= add_months(exam_day, workup_months)) & ~unsided
    unscored = found["score"].isna().to_numpy() & ~unsided & ~late
    usable = found[~(unsided | late | unscored)]
    case = usable.groupby(["woman_id", "exam_id", "laterality"], as_index=False).agg(
        score=("score", "first"), malignant=("malignant", "max")
    )
    return Biopsied(
        case["score"].to_numpy(dtype=np.float64),
        case["malignant"].to_numpy() == 1,
        case["woman_id"].to_numpy(dtype=object),
        weight_of_exam.reindex(case["exam_id"]).to_numpy(dtype=np.float64),
        len(usable),
        {
            "of unknown side": int(unsided.sum()),
            f"without an exam in the {workup_months} months before": int(late.sum()),
            "of a breast without score": int(unscored.sum()),
        },
    )


def biopsy_figures(cohort: Cohort) -> tuple[Figure, ...]:
    """Benign biopsies avoided, and sensitivity kept, at each of `SENSITIVITIES`, on the other half and on the same set.

    A breast's score is that of `Cohort.breasts`, whether or not figures include the exam: the biopsy's result is
    the truth here, and needs no follow-up.
    """
    biopsies = cohort.followup.biopsies
    if biopsies is None or not len(biopsies):
        return _without("Biopsy support needs the follow-up table biopsies.")
    if cohort.breasts["score"].isna().all():
        return _without("Biopsy support needs scores of breasts.")
    rules = cohort.protocol.outcome
    matched = match_biopsies(
        biopsies, cohort.breasts, cohort.exams.set_index("exam_id")["weight"], rules.workup_months if rules else 3
    )
    if not len(matched.score):
        return _without(f"No biopsy belongs to a scored breast: {_left_out(matched)}.")
    weighted = cohort.followup.weights is not None
    return tuple(_figures(matched, weighted, cohort.protocol.uncertainty))


def _figures(case: Biopsied, weighted: bool, uncertainty: Uncertainty) -> Iterator[Figure]:
    first = halves(case.woman, case.malignant, uncertainty.seed)
    everyone = np.ones_like(first)
    for sensitivity in SENSITIVITIES:
        for where, chosen_on, judged_on in (("other half", first, ~first), ("same set", everyone, everyone)):
            name = f"{100 * sensitivity:g} % sensitivity, {where}"
            suffix = f"@sensitivity={sensitivity:g}" + ("" if where == "other half" else ",same-set")
            weight = case.weight if weighted else np.ones(len(first))
            n, n_malignant = int(judged_on.sum()), int((judged_on & case.malignant).sum())
            try:
                threshold = threshold_at_sensitivity(
                    case.malignant[chosen_on], case.score[chosen_on], sensitivity, weight[chosen_on]
                )
            except NotComputableError:
                yield from _without("A threshold needs malignant biopsies to choose it on.", suffix, name)
                continue
            found = avoided_at(
                threshold,
                case.score[judged_on],
                case.malignant[judged_on],
                case.woman[judged_on],
                weight[judged_on] if weighted else None,
                uncertainty,
            )
            note = (
                f"threshold from one half of the women ({int(case.malignant[first].sum())} malignant), "
                "judged on the other"
                if where == "other half"
                else "optimistic: the threshold comes from the cases that it is judged on"
            )
            yield from _pair(found, suffix, name, n, n_malignant, f"{note}; {_left_out(case)}")


def _pair(found: Avoided, suffix: str, name: str, n: int, n_malignant: int, note: str) -> Iterator[Figure]:
    mark = ""
    if isinstance(found.avoided, Interval):
        point, low = found.avoided.point, found.avoided.low
        mark = (
            "reached, lower bound included" if low >= WORTH_WHILE else "reached" if point >= WORTH_WHILE else "missed"
        )
        mark = f"; the mark of {WORTH_WHILE:.0%} is {mark}"
    for key, label, interval, counts, benchmark in (
        (
            "benign_biopsies_avoided",
            f"benign biopsies avoided at {name}",
            found.avoided,
            f"{found.n_benign_avoided:,} avoided of {found.n_benign:,} breasts biopsied with benign result",
            _PUBLISHED,
        ),
        (
            "biopsy_sensitivity",
            f"cancers still biopsied at {name}",
            found.sensitivity,
            f"{found.n_malignant_kept:,} kept of {found.n_malignant:,} breasts biopsied with malignant result",
            "",
        ),
    ):
        yield Figure(
            key=f"{key}{suffix}",
            label=label,
            group=GROUP,
            interval=None if isinstance(interval, str) else interval,
            n=n,
            n_positive=n_malignant,
            denominator=counts,
            reason=interval if isinstance(interval, str) else "",
            threshold=found.threshold,
            benchmark=benchmark,
            note=note + (mark if key == "benign_biopsies_avoided" else ""),
        )


def _left_out(case: Biopsied) -> str:
    parts = [f"{count:,} {why}" for why, count in case.left_out.items() if count]
    return f"{case.n_biopsies:,} biopsies used" + (f", left out {' and '.join(parts)}" if parts else "")


def _without(reason: str, suffix: str = "", name: str = "") -> tuple[Figure, ...]:
    label = f"benign biopsies avoided at {name}" if name else "benign biopsies avoided"
    return (Figure(f"benign_biopsies_avoided{suffix}", label, GROUP, None, 0, 0, "", reason, benchmark=_PUBLISHED),)
