"""Exams that were read negative before a cancer, and what the model said of them at each operating point.

An exam is *flagged* where its score reaches the threshold, and flagged *at the right place* where what reaches it lies
where the cancer is: by the exam's lesion truth under the protocol's hit rule; by two readers' judgement of its regions;
or, where neither is known, in the breast that had the cancer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.cases import Cases
from evaluation.checks import BoolArray, FloatArray, IntArray
from evaluation.cohort import Cohort
from evaluation.followup import POSITIVE
from evaluation.hits import Lesions, Regions, match
from evaluation.operating_points import Decisions
from evaluation.protocol import Outcome
from screening.errors import ScreeningError

MISSED = (Outcome.INTERVAL, Outcome.NEXT_ROUND, Outcome.LATER_CANCER)
"""Outcomes of exams that were read negative before a cancer."""

VISIBILITIES = ("false_negative", "minimal_sign", "occult")
"""How visible a cancer was on an exam, as radiologists judged it in hindsight, the most visible first."""

VISIBLE = VISIBILITIES[:2]

LESIONS, READERS, BREAST, EXAM = "lesions", "readers", "breast", "exam"
"""What the right place is judged by. `exam`: by nothing, as the cancer's side or the breasts' scores are unknown."""

_REGION_COLUMNS = ["region_id", "exam_id", "image_id", "laterality", "view", "x", "y", "width", "height", "score"]
_ON_REGIONS = ("fp-per-image", "fp-per-exam")  # operating points whose threshold is on regions
_BOX = ["x", "y", "width", "height"]
_SAME_SCORE = 1e-4  # relative: tables give scores with six digits


class AuditError(ScreeningError):
    """An audit has no meaning under this protocol."""


@dataclass(frozen=True, eq=False)
class Missed:
    """The missed exams, one row each in the order of the cohort, and their regions.

    `exams`: the cohort's columns, and `found_exam_id` (the exam of the next round at which the cancer was found, or
    ""), `visible` (one of `VISIBILITIES`, "" for unknown), `judged_by`, and `place_score`: the highest score of a
    region at the right place, by lesions or readers; -∞ where no region is there, NaN where neither is known.
    `regions`: the scores' columns, `row` (of the exam in `exams`) and `right_place` (1, 0, NaN for not judged); the
    highest score of each exam first. `one_scale`: whether a threshold on exams can be held against regions.
    """

    exams: pd.DataFrame
    regions: pd.DataFrame
    one_scale: bool

    @property
    def included(self) -> BoolArray:
        """Which of the exams figures count: shape (n,)."""
        return self.exams["included"].to_numpy(dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Calls:
    """What one operating point makes of the n missed exams: bool arrays of shape (n,).

    `judged`: the exams that it says something of. `flagged`, and `detected`: flagged at the right place. `limit`:
    float64 (n,), the score from which a region counts as marked, NaN where that is unknown.
    """

    decisions: Decisions
    judged: BoolArray
    flagged: BoolArray
    detected: BoolArray
    limit: FloatArray

    @property
    def name(self) -> str:
        return self.decisions.point.name


def missed_exams(cohort: Cohort, consensus: pd.DataFrame | None = None) -> Missed:
    """Find the missed exams of a cohort, scored or not, and what is known of the cancer's place on them.

    `consensus`: what readers said (`audit_form.Readings.consensus`), used where the tables do not know it. Raises
    `AuditError` where the protocol takes no exam before a cancer for positive.
    """
    rules = cohort.protocol.outcome
    if rules is None or not set(MISSED) & set(rules.positives):
        raise AuditError(
            f"The protocol {cohort.protocol.name} has no exams before a cancer among its positives; an audit needs "
            "interval or next-round cancers, as missed-cancers has."
        )
    table = cohort.exams
    chosen = (table["role"] == POSITIVE) & table["outcome"].isin(list(MISSED)) & (table["recalled"] != 1)
    exams = table[chosen].reset_index(drop=True)
    regions, lesions = _regions_of(exams, cohort), _lesions_of(exams, cohort)
    place, right_place = _by_lesions(regions, lesions, len(exams), cohort)
    visible = _most_visible(lesions, len(exams))
    by_lesions = ~np.isnan(place)
    if consensus is not None:
        _use_consensus(exams, regions, consensus, visible, place, right_place)
    breast_known = (exams["cancer_side"] != "") & (exams["left_score"].notna() | exams["right_score"].notna())
    return Missed(
        exams.assign(
            found_exam_id=_found_at(exams, table),
            visible=pd.Series(visible, dtype="str"),
            place_score=place,
            judged_by=np.select([by_lesions, ~np.isnan(place), breast_known], [LESIONS, READERS, BREAST], EXAM),
        ),
        regions.assign(right_place=right_place),
        on_one_scale(cohort),
    )


def calls(missed: Missed, decisions: Sequence[Decisions], among: Cases) -> tuple[Calls, ...]:
    """What each operating point makes of the missed exams; `among`: the cases that the decisions are on."""
    return tuple(_calls(missed, one, among) for one in decisions)


def on_one_scale(cohort: Cohort) -> bool:
    """Whether the score of (nearly) every exam that has regions is the highest score of these."""
    regions, exams = cohort.scores.regions, cohort.scores.exams
    if regions is None:
        return False
    highest = regions.groupby("exam_id", sort=False)["score"].max()
    exam = exams.set_index("exam_id")["score"].reindex(highest.index).to_numpy()
    known = ~np.isnan(exam)
    return bool(known.any()) and float(np.isclose(exam, highest, rtol=_SAME_SCORE, atol=0)[known].mean()) >= 0.99


def _calls(missed: Missed, one: Decisions, among: Cases) -> Calls:
    exams = missed.exams
    if one.reason:
        none = np.zeros(len(exams), dtype=np.bool_)
        return Calls(one, none, none, none, np.full(len(exams), np.nan))
    row = pd.Index(among.table["exam_id"]).get_indexer(exams["exam_id"])
    judged, flagged, on_side = ((row >= 0) & values[row] for values in (one.judged, one.recalled, one.found))
    limit = _limits(one, among, exams)
    if one.point.target == "category":
        # A category is the exam's; the breast's own score says whether the breast with the cancer made it so.
        on_side = (exams["score"] >= limit).to_numpy()
    place = exams["place_score"].to_numpy()
    at_place = place >= limit
    if not (missed.one_scale or one.point.target in _ON_REGIONS):
        # On a scale of their own, regions cannot be held against a threshold on exams: then every region is a mark.
        at_place, limit = place > -np.inf, np.full(len(exams), -np.inf)
    flagged = judged & flagged
    detected = flagged & np.where(np.isnan(place) | np.isnan(limit), on_side, at_place)
    return Calls(one, judged, flagged, detected, limit)


def _limits(one: Decisions, among: Cases, exams: pd.DataFrame) -> FloatArray:
    """The threshold for each missed exam, (n,), as a score; NaN for marks whose threshold differs by site."""
    if one.threshold is not None and one.point.target != "category":
        return np.full(len(exams), one.threshold)
    if one.point.target in _ON_REGIONS:
        return np.full(len(exams), np.nan)
    # Where the point tells no score, it is the lowest one that it calls.
    lowest = pd.Series(among.exam_score[one.recalled & one.judged])
    if one.point.per_site:
        by_site = lowest.groupby(among.text("site")[one.recalled & one.judged]).min()
        of_exam = by_site.reindex(exams["site"].fillna("")).fillna(np.inf)
        return np.asarray(of_exam, dtype=np.float64)
    return np.full(len(exams), float(lowest.min()) if len(lowest) else np.inf)


def _found_at(exams: pd.DataFrame, all_exams: pd.DataFrame) -> list[str]:
    """The exam at which the next round found the cancer; "" where a diagnosis between rounds did."""
    following = all_exams.drop_duplicates(["woman_id", "exam_date"]).set_index(["woman_id", "exam_date"])["exam_id"]
    keys = pd.MultiIndex.from_frame(exams[["woman_id", "next_exam_date"]])
    found = following.reindex(keys).fillna("").to_numpy()
    return [str(one) for one in np.where(exams["outcome"] == Outcome.NEXT_ROUND, found, "")]


def _rows(exam_id: pd.Series, exams: pd.DataFrame) -> IntArray:
    return np.asarray(pd.Index(exams["exam_id"]).get_indexer(pd.Index(exam_id)), dtype=np.int64)


def _regions_of(exams: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    table = cohort.scores.regions
    if table is None:
        table = pd.DataFrame({name: pd.Series(dtype=np.float64) for name in _REGION_COLUMNS})
    table = table.assign(row=_rows(table["exam_id"], exams))
    return table[table["row"] >= 0].sort_values(["row", "score"], ascending=[True, False], kind="stable")


def _lesions_of(exams: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    """Malignant lesions on the missed exams, with the `row` of their exam."""
    table = cohort.followup.lesions
    if table is None:
        table = pd.DataFrame({name: [] for name in ("exam_id", "image_id", *_BOX, "malignant", "visible")})
    table = table.assign(row=_rows(table["exam_id"], exams))
    return table[(table["row"] >= 0) & (table["malignant"] == 1)]


def _by_lesions(
    regions: pd.DataFrame, lesions: pd.DataFrame, n_exams: int, cohort: Cohort
) -> tuple[FloatArray, FloatArray]:
    """`Missed`'s `place_score` of each exam, (n,), and `right_place` of each region, (r,), by the lesion truth."""
    place, right_place = np.full(n_exams, np.nan), np.full(len(regions), np.nan)
    if not len(lesions) or cohort.scores.regions is None:
        return place, right_place
    rules = cohort.protocol.localisation
    images = pd.concat([regions[["row", "image_id"]], lesions[["row", "image_id"]]])
    image = pd.factorize(pd.MultiIndex.from_frame(images))[0]
    marks = Regions(image[: len(regions)], regions["score"].to_numpy(), regions[_BOX].to_numpy(dtype=np.float64))
    truth = Lesions(image[len(regions) :], lesions[_BOX].to_numpy(dtype=np.float64))
    matches = match(marks, truth, rules.rule())
    known = np.isin(regions["row"], lesions["row"])
    right_place[known] = ~matches.false_positive[known]
    by_image = pd.Series(matches.lesion_score).groupby([lesions["row"].to_numpy(), truth.image]).max()
    by_exam = by_image.groupby(level=0)
    best = by_exam.min() if rules.level == "case-all-views" else by_exam.max()
    place[best.index.to_numpy()] = best.to_numpy()
    return place, right_place


def _most_visible(lesions: pd.DataFrame, n_exams: int) -> npt.NDArray[np.object_]:
    visible = np.full(n_exams, "", dtype=object)
    for kind in reversed(VISIBILITIES):
        visible[lesions.loc[lesions["visible"] == kind, "row"].unique()] = kind
    return visible


def _use_consensus(
    exams: pd.DataFrame,
    regions: pd.DataFrame,
    consensus: pd.DataFrame,
    visible: npt.NDArray[np.object_],
    place: FloatArray,
    right_place: FloatArray,
) -> None:
    """Put what readers said where the tables know nothing: into `visible`, `place` and `right_place`."""
    said = consensus.drop_duplicates("exam_id").set_index("exam_id")["visible"].reindex(exams["exam_id"])
    judged = said.notna().to_numpy()
    untold = (visible == "") & judged
    visible[untold] = said.to_numpy()[untold]
    placed = np.isnan(place) & judged
    answers = consensus[consensus["region_id"] != ""].set_index(["exam_id", "region_id"])["right_place"]
    answer = answers.reindex(pd.MultiIndex.from_frame(regions[["exam_id", "region_id"]])).to_numpy(dtype=np.float64)
    row = regions["row"].to_numpy(dtype=np.int64)
    right_place[placed[row]] = answer[placed[row]]
    hits = placed[row] & (answer == 1)
    place[placed] = -np.inf
    np.maximum.at(place, row[hits], regions["score"].to_numpy(dtype=np.float64)[hits])
