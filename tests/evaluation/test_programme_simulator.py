"""The simulated programme: its truth is the tables' truth, and its rates are those of a screening programme."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.columns import positions
from evaluation.followup import exam_outcomes
from evaluation.hits import Lesions, Regions, centre_in_lesion, match
from evaluation.protocol import Outcome
from evaluation.scores import load_scores
from evaluation.tables import load_followup
from tests.support.programme import RULES, Programme, simulate

MANY_CANCERS = 0.03


@pytest.fixture(scope="module")
def programme() -> Programme:
    return simulate(1_500, 3, 7, cancers_a_year=MANY_CANCERS)


def test_same_seed_gives_the_same_tables_and_another_seed_gives_others() -> None:
    one, same, other = (simulate(200, 2, seed, cancers_a_year=MANY_CANCERS) for seed in (1, 1, 2))
    for name in one.followup:
        pd.testing.assert_frame_equal(one.followup[name], same.followup[name])
    for name in one.scores:
        pd.testing.assert_frame_equal(one.scores[name], same.scores[name])
    pd.testing.assert_frame_equal(one.truth, same.truth)
    assert not one.scores["exams"]["score"].equals(other.scores["exams"]["score"])


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), rounds=st.integers(1, 5))
def test_outcomes_from_the_tables_are_the_outcomes_that_the_simulation_knows(seed: int, rounds: int) -> None:
    programme = simulate(700, rounds, seed, with_regions=False, cancers_a_year=MANY_CANCERS)
    found = exam_outcomes(programme.checked_followup(), RULES)
    assert found["exam_id"].tolist() == programme.truth["exam_id"].tolist()
    assert found["outcome"].tolist() == programme.truth["outcome"].tolist()
    cancer = found["role"] == "positive"
    assert found.loc[cancer, "cancer_side"].tolist() == programme.truth.loc[cancer, "cancer_side"].tolist()


def test_every_outcome_of_the_rules_occurs(programme: Programme) -> None:
    assert set(programme.truth["outcome"]) == {
        *RULES.positives,
        Outcome.NEGATIVE,
        Outcome.INSUFFICIENT_FOLLOW_UP,
        Outcome.AFTER_DIAGNOSIS,
    }


def test_rates_are_those_of_a_screening_programme() -> None:
    programme = simulate(20_000, 3, 0, with_regions=False)
    exams, outcome = programme.followup["exams"], programme.truth["outcome"]
    detected = (outcome == Outcome.SCREEN_DETECTED).to_numpy()
    healthy = (outcome == Outcome.NEGATIVE).to_numpy()
    assert 0.005 < detected.mean() < 0.007
    assert 0.0013 < (outcome == Outcome.INTERVAL).mean() < 0.0025
    assert 0.022 < exams["recalled"].mean() < 0.034
    for reader in ("reader1", "reader2"):
        assert 0.958 < 1 - exams.loc[healthy, reader].mean() < 0.970
        assert 0.72 < exams.loc[detected, reader].mean() < 0.90


def test_written_tables_are_read_back_as_they_were(programme: Programme, tmp_path: Path) -> None:
    programme.write(tmp_path)
    scores, expected = load_scores(tmp_path / "scores", "simulated"), programme.checked_scores()
    followup, tables = load_followup(tmp_path / "followup"), programme.checked_followup()
    for name in ("exams", "images", "regions"):
        pd.testing.assert_frame_equal(getattr(scores, name), getattr(expected, name))
    for name in ("exams", "diagnoses", "followup", "lesions", "biopsies"):
        pd.testing.assert_frame_equal(getattr(followup, name), getattr(tables, name))


def test_every_score_is_that_of_a_region(programme: Programme) -> None:
    exams = programme.scores["exams"].set_index("exam_id")
    regions = programme.scores["regions"]
    scored = exams[exams["status"] == "scored"]
    best = regions.groupby("exam_id")["score"].max()
    assert best.reindex(scored.index).tolist() == scored["score"].tolist()
    assert set(regions["exam_id"]) == set(scored.index)
    for side, column in (("L", "left_score"), ("R", "right_score")):
        best = regions[regions["laterality"] == side].groupby("exam_id")["score"].max()
        assert best.reindex(scored.index).tolist() == scored[column].tolist()
    first = regions[regions["rank"] == 1].set_index("exam_id")["score"]
    assert first.reindex(scored.index).tolist() == scored["score"].tolist()


def test_regions_hit_lesions_with_the_scores_that_the_truth_states(programme: Programme) -> None:
    images, regions, lesions = programme.scores["images"], programme.scores["regions"], programme.followup["lesions"]
    lesions = lesions[positions(lesions["image_id"], images["image_id"]) >= 0]
    matches = match(
        Regions(positions(regions["image_id"], images["image_id"]), regions["score"], _box(regions)),
        Lesions(positions(lesions["image_id"], images["image_id"]), _box(lesions)),
        centre_in_lesion,
    )
    hit = pd.Series(matches.lesion_score).groupby(lesions["exam_id"].to_numpy()).max()
    stated = programme.truth.set_index("exam_id")["lesion_score"].fillna(-np.inf).reindex(hit.index)
    assert hit.tolist() == stated.tolist()
    assert np.isfinite(hit).sum() > 100
    cancers = programme.truth["outcome"].isin(RULES.positives)
    healthy = programme.truth.loc[programme.truth["outcome"] == Outcome.NEGATIVE, "exam_id"]
    assert set(lesions["exam_id"]) <= set(programme.truth.loc[cancers, "exam_id"])
    assert not set(healthy) & set(lesions["exam_id"])


def test_only_missed_cancers_that_had_begun_have_a_visibility_and_occult_ones_get_no_region(
    programme: Programme,
) -> None:
    truth, lesions = programme.truth, programme.followup["lesions"]
    missed = truth[truth["missed"] & (truth["visible"] != "")]
    assert set(missed["visible"]) == {"false_negative", "minimal_sign", "occult"}
    stated = lesions.drop_duplicates("exam_id").set_index("exam_id")["visible"]
    assert stated.reindex(missed["exam_id"]).tolist() == missed["visible"].tolist()
    assert truth.loc[truth["visible"] == "occult", "lesion_score"].isna().all()
    seen = missed[missed["visible"].isin(["false_negative", "minimal_sign"]) & missed["scored"]]
    assert seen["lesion_score"].notna().all()
    assert (programme.followup["exams"].set_index("exam_id")["recalled"].reindex(missed["exam_id"]) == 0).all()


def test_the_model_sees_a_cancer_the_better_the_nearer_its_diagnosis(programme: Programme) -> None:
    outcomes = exam_outcomes(programme.checked_followup(), RULES)
    score = programme.truth["lesion_score"].fillna(0)
    months = outcomes["months_to_diagnosis"]
    mean = [score[programme.truth["scored"] & months.between(*span)].mean() for span in ((0, 3), (18, 28), (40, 54))]
    assert mean[0] > mean[1] > mean[2]


def _box(table: pd.DataFrame) -> np.ndarray:
    return table[["x", "y", "width", "height"]].to_numpy(dtype=np.float64)
