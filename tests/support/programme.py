"""A simulated screening programme at the level of its tables, with the truth that figures and audits must find.

Every woman is invited each 24 months (± 10 days) and comes to 90 % of her rounds after the first. Cancers begin at a
steady rate, three in ten of them fast, and surface by themselves half a year to several years later; until then
readers see them more and more. Two readers decide without knowing of each other, with a specificity of 96.5 % each;
two votes recall, one vote goes to a consensus. Of 1,000 exams, about six detect a cancer and two are followed by an
interval cancer; about 27 are recalled. Each reader alone sees eight in ten of the cancers that screening detects. Some
women leave the registry early, some come again after a cancer, and a few exams are rejected, fail, were never sent to
the model, or are unknown to the registry. What the model says of the exams is in `simulated_model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.protocol import Outcome, OutcomeRules
from evaluation.scores import Scores, check_scores
from evaluation.tables import FollowUp, check_followup
from tests.support.simulated_model import (
    DENSITIES,
    MANUFACTURERS,
    SITES,
    SUFFIXES,
    VIEWS,
    add_scores,
    dates,
    draw_lesions,
    ids,
    images_and_regions,
    scored_exams,
    visibility,
)

Array = npt.NDArray[Any]

RULES = OutcomeRules(
    window_months=27,
    minimum_negative_followup_months=24,
    interval_months=24,
    positives=(Outcome.SCREEN_DETECTED, Outcome.INTERVAL, Outcome.NEXT_ROUND, Outcome.LATER_CANCER),
)
"""The rules under which `Programme.truth` names outcomes."""

_NEVER = np.iinfo(np.int64).max // 4  # a day that does not come
_YEAR = 365.25
_ROUND_DAYS = 730.5
_FIRST_DAY = np.datetime64("2012-01-01", "D").astype(np.int64)
_ENROLMENT_DAYS = 730
_CANCERS_A_YEAR = 0.0032
_BEFORE_YEARS = 8  # cancers may begin that long before a woman's first exam
_SPECIFICITY = 0.965
_JITTER_DAYS = 10


@dataclass(frozen=True, eq=False)
class Programme:
    """The tables of a programme, as its files hold them, and its truth.

    `followup`: exams, diagnoses, followup, lesions, biopsies; `scores`: exams, and images and regions if asked for.
    `truth`: one row an exam of the follow-up, in its order: exam_id; woman_id; `outcome` under `RULES`; `missed`
    (bool): not recalled, and before an interval or next-round cancer; `visible` of a missed exam: what the lesion
    table says (false_negative, minimal_sign, occult; "" where the cancer had not begun); `cancer_side` of an exam with
    cancer (L, R, B; "" where the registry does not know); `lesion_score` and `tissue_score`: the model's highest score
    of a region on and off the cancer (NaN: none); `scored` (bool).
    """

    followup: dict[str, pd.DataFrame]
    scores: dict[str, pd.DataFrame]
    truth: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Write `followup/*.csv` and `scores/*.csv` under `folder`."""
        for part, tables in (("followup", self.followup), ("scores", self.scores)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            for name, table in tables.items():
                table.to_csv(folder / part / f"{name}.csv", index=False)

    def checked_followup(self) -> FollowUp:
        return check_followup(self.followup)

    def checked_scores(self) -> Scores:
        return check_scores(self.scores, "simulated")


def simulate(
    n_women: int, rounds: int, seed: int, *, with_regions: bool = True, cancers_a_year: float = _CANCERS_A_YEAR
) -> Programme:
    """Simulate the programme of `n_women` over `rounds` rounds; the same arguments give the same tables.

    `with_regions`: images and regions too. `cancers_a_year`: a woman's rate; small tests ask for more than is real.
    """
    rng = np.random.default_rng(seed)
    women = _women(rng, n_women, rounds, cancers_a_year)
    exams = _with_unlisted(rng, _screen(rng, women, rounds), women)
    listed = exams[exams["listed"]]
    exams["outcome"] = ""
    exams.loc[exams["listed"], "outcome"] = _outcomes(listed, women)
    add_scores(rng, exams, women)
    truth = _truth(exams[exams["listed"]], women)
    lesions = draw_lesions(rng, exams, women)
    followup = _registry(rng, exams[exams["listed"]], women)
    followup["lesions"] = _lesion_table(exams, lesions)
    sent = exams[exams["sent"]]
    scores = {"exams": scored_exams(sent)}
    if with_regions:
        images, regions = images_and_regions(rng, sent, lesions)
        scores |= {"images": images, "regions": regions}
    return Programme(followup, scores, truth)


def _women(rng: np.random.Generator, n: int, rounds: int, cancers_a_year: float) -> pd.DataFrame:
    """One row a woman: her first exam, her end of follow-up, and her cancer's days, if she has one."""
    start = _FIRST_DAY + rng.integers(0, _ENROLMENT_DAYS, n)
    registry_end = int(_FIRST_DAY + _ENROLMENT_DAYS + (rounds + 1) * _ROUND_DAYS)
    until = np.where(rng.random(n) < 0.03, rng.integers(start, registry_end), registry_end)
    years = _BEFORE_YEARS + 2 * rounds
    ill = rng.random(n) < cancers_a_year * years
    onset = (start + (rng.random(n) * years - _BEFORE_YEARS) * _YEAR).astype(np.int64)
    # At least half a year from onset to symptoms: a false alarm before the onset is never followed by the diagnosis
    # within its work-up time, so what detected a cancer is beyond doubt.
    fast = rng.random(n) < 0.3
    sojourn = 0.5 + np.where(fast, rng.exponential(0.5, n), rng.gamma(3.0, 1.5, n))
    surfacing = onset + (sojourn * _YEAR).astype(np.int64)
    ill &= (surfacing > start) | (rng.random(n) < 0.02)  # few women come to screening after a cancer
    density = rng.choice(4, n, p=[0.1, 0.4, 0.4, 0.1])
    return pd.DataFrame(
        {
            "woman_id": ids("W", np.arange(n)),
            "start": start,
            "until": until,
            "onset": np.where(ill, onset, _NEVER),
            "surfacing": np.where(ill, surfacing, _NEVER),
            "side": rng.choice(["L", "R", "B"], n, p=[0.49, 0.49, 0.02]),
            "side_known": rng.random(n) < 0.99,
            "invasive": (rng.random(n) < 0.8).astype(np.int64),
            "returns": rng.random(n) < 0.05,
            "age": rng.integers(50, 70, n),
            "density": density,
            "site": rng.integers(0, len(SITES), n),
        }
    )


def _screen(rng: np.random.Generator, women: pd.DataFrame, rounds: int) -> pd.DataFrame:
    """One row an exam, by woman and date. Adds to `women`: `found_at`, the round that found the cancer (-1: none),
    and `diagnosis`, the day that the registry knows."""
    n = len(women)
    start, until, onset, surfacing, returns, density = (
        women[name].to_numpy() for name in ("start", "until", "onset", "surfacing", "returns", "density")
    )
    found_at = np.full(n, -1)
    diagnosis = surfacing.copy()
    parts = []
    for number in range(rounds):
        day = (start + number * _ROUND_DAYS).astype(np.int64)
        if number:
            day += rng.integers(-_JITTER_DAYS, _JITTER_DAYS + 1, n)
        comes = (rng.random(n) < 0.9) | (number == 0)
        comes &= (day <= until) & ((day < diagnosis) | (returns & (day > diagnosis)))
        present = comes & (onset <= day) & (day < diagnosis)
        growth = np.where(present, np.clip((day - onset) / np.maximum(surfacing - onset, 1), 0, 1), 0.0)
        chance = np.where(present, np.clip(1.25 * growth - 0.05 * density, 0.05, 0.95), 1 - _SPECIFICITY)
        votes = rng.random((2, n)) < chance
        recalled = votes.all(axis=0) | (votes.any(axis=0) & (rng.random(n) < np.where(present, 0.85, 0.3)))
        found = present & recalled
        found_at[found] = number
        diagnosis[found] = day[found] + rng.integers(10, 60, int(found.sum()))
        here = np.flatnonzero(comes)
        columns = {"day": day, "present": present, "growth": growth, "reader1": votes[0], "reader2": votes[1]}
        part = {name: values[here] for name, values in (columns | {"recalled": recalled}).items()}
        parts.append(pd.DataFrame({"woman": here, "round": number} | part))
    women["found_at"] = found_at
    women["diagnosis"] = np.where(diagnosis <= until, diagnosis, _NEVER)
    exams = pd.concat(parts).sort_values(["woman", "round"], ignore_index=True)
    exams.insert(0, "exam_id", ids("E", np.arange(len(exams))))
    return exams


def _with_unlisted(rng: np.random.Generator, exams: pd.DataFrame, women: pd.DataFrame) -> pd.DataFrame:
    """The exams, and one in a thousand more that went to the model but that the registry does not know."""
    extra = exams[exams["round"] == 0].head(len(exams) // 1000).copy()
    extra["exam_id"] = ids("X", np.arange(len(extra)))
    extra["woman"] = -1
    extra[["present", "growth"]] = False, 0.0
    both = pd.concat([exams, extra], ignore_index=True)
    both["listed"] = both["woman"] >= 0
    both["woman_id"] = women["woman_id"].reindex(both["woman"]).fillna("").to_numpy()
    both.loc[~both["listed"], "woman_id"] = both["exam_id"].where(~both["listed"])
    for name in ("density", "site"):
        both[name] = women[name].reindex(both["woman"]).fillna(0).to_numpy().astype(np.int64)
    return both


def _outcomes(exams: pd.DataFrame, women: pd.DataFrame) -> Array:
    """What the simulation knows to have become of each exam, in the words of `RULES`."""
    hers = women.loc[exams["woman"]]
    day, number = exams["day"].to_numpy(), exams["round"].to_numpy()
    diagnosis, found_at = hers["diagnosis"].to_numpy(), hers["found_at"].to_numpy()
    again = exams["woman"].to_numpy() == exams["woman"].shift(-1, fill_value=-1).to_numpy()
    next_day = np.where(again, exams["day"].shift(-1, fill_value=_NEVER), _NEVER)
    next_round = np.where(again, exams["round"].shift(-1, fill_value=-1), -2)
    known = diagnosis < _NEVER
    clinical = known & (found_at < 0) & (diagnosis < next_day)
    kind = np.select(
        [
            diagnosis < day,
            known & (found_at == number),
            clinical & ((next_day < _NEVER) | (diagnosis <= _months_after(day, 24))),
            known & (found_at == next_round),
        ],
        [Outcome.AFTER_DIAGNOSIS, Outcome.SCREEN_DETECTED, Outcome.INTERVAL, Outcome.NEXT_ROUND],
        Outcome.LATER_CANCER,
    )
    healthy = diagnosis > _months_after(day, 27)
    followed = known | (hers["until"].to_numpy() >= _months_after(day, 24))
    without = np.where(followed, Outcome.NEGATIVE, Outcome.INSUFFICIENT_FOLLOW_UP)
    return np.where(healthy, without, kind).astype(object)


def _truth(exams: pd.DataFrame, women: pd.DataFrame) -> pd.DataFrame:
    missed = ~exams["recalled"] & exams["outcome"].isin([Outcome.INTERVAL, Outcome.NEXT_ROUND])
    hers = women.loc[exams["woman"]]
    scored = exams["status"] == "scored"
    cancer = exams["outcome"].isin(RULES.positives).to_numpy()
    truth = {
        "exam_id": exams["exam_id"],
        "woman_id": exams["woman_id"],
        "outcome": exams["outcome"].astype(str),
        "missed": missed,
        "visible": visibility(exams).where(missed, ""),
        "cancer_side": np.where(cancer & hers["side_known"].to_numpy(), hers["side"].to_numpy(), ""),
        "lesion_score": exams[["lesion_L", "lesion_R"]].max(axis=1).where(scored),
        "tissue_score": exams[["tissue_L", "tissue_R"]].max(axis=1).where(scored),
        "scored": scored,
    }
    return pd.DataFrame(truth).reset_index(drop=True)


def _registry(rng: np.random.Generator, exams: pd.DataFrame, women: pd.DataFrame) -> dict[str, pd.DataFrame]:
    table = pd.DataFrame(
        {
            "exam_id": exams["exam_id"],
            "woman_id": exams["woman_id"],
            "exam_date": dates(exams["day"]),
            "site": SITES[exams["site"].to_numpy()],
            "manufacturer": MANUFACTURERS[exams["site"].to_numpy()],
            "age": women["age"].to_numpy()[exams["woman"]] + 2 * exams["round"],
            "density": DENSITIES[exams["density"].to_numpy()],
        }
        | {name: exams[name].astype(np.int64) for name in ("reader1", "reader2", "recalled")}
    )
    ill = women[women["diagnosis"] < _NEVER]
    side = ill["side"].where(ill["side_known"], "").to_numpy()
    found = np.where(ill["found_at"] >= 0, "screening", "symptoms")
    cancers = _diagnoses(ill["woman_id"], ill["diagnosis"], side, 1).assign(
        invasive=ill["invasive"].to_numpy(), detection=found
    )
    # A quarter of the false alarms are biopsied, and found benign.
    alarms = exams[exams["recalled"] & ~exams["present"]]
    alarms = alarms[rng.random(len(alarms)) < 0.25]
    later = alarms["day"] + rng.integers(10, 40, len(alarms))
    in_time = later.to_numpy() <= women["until"].to_numpy()[alarms["woman"]]
    benign = _diagnoses(alarms["woman_id"], later, rng.choice(["L", "R"], len(alarms)), 0)[in_time]
    both = pd.concat([cancers, benign.assign(detection="screening")], ignore_index=True)
    biopsies = both[["woman_id", "diagnosis_date", "laterality", "malignant"]]
    return {
        "exams": table.reset_index(drop=True),
        "diagnoses": both,
        "followup": pd.DataFrame({"woman_id": women["woman_id"], "followed_until": dates(women["until"])}),
        "biopsies": biopsies.rename(columns={"diagnosis_date": "biopsy_date"}),
    }


def _diagnoses(women: pd.Series, day: pd.Series, side: Array, malignant: int) -> pd.DataFrame:
    columns = {"woman_id": women.to_numpy(), "diagnosis_date": dates(day), "laterality": side}
    return pd.DataFrame(columns | {"malignant": malignant})


def _lesion_table(exams: pd.DataFrame, lesions: pd.DataFrame) -> pd.DataFrame:
    """The registry's boxes: of cancers that are known, on the exam that found them and on those before it."""
    known = exams["outcome"].isin(RULES.positives).to_numpy()[lesions["exam"]]
    shown = lesions[known]
    hers = exams.loc[shown["exam"]].reset_index(drop=True)
    image = shown["image"].to_numpy()
    return pd.DataFrame(
        {
            "exam_id": hers["exam_id"],
            "image_id": hers["exam_id"] + SUFFIXES[image],
            "laterality": np.array([laterality for laterality, _ in VIEWS])[image],
            "x": shown["x"].to_numpy(),
            "y": shown["y"].to_numpy(),
            "width": shown["size"].to_numpy(),
            "height": shown["size"].to_numpy(),
            "malignant": 1,
            "visible": visibility(hers).where(hers["outcome"] != Outcome.SCREEN_DETECTED, ""),
        }
    )


def _months_after(day: Array, months: int) -> Array:
    dates = pd.DatetimeIndex(day.astype("datetime64[D]").astype("datetime64[s]")) + pd.DateOffset(months=months)
    return dates.to_numpy().astype("datetime64[D]").astype(np.int64)
