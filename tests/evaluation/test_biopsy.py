"""Biopsy support: which exam a biopsy belongs to, what a threshold spares, and where it was chosen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from evaluation.biopsy import Avoided, Biopsied, avoided_at, biopsy_figures, halves, match_biopsies
from evaluation.cohort import Cohort
from evaluation.errors import InvalidInputError
from evaluation.figure import Figure
from evaluation.intervals import Interval
from evaluation.protocol import Uncertainty
from tests.support.handmade import cohort_of, protocol


def interval(found: Interval | str | None) -> Interval:
    assert isinstance(found, Interval), found
    return found


def breasts(*rows: tuple[str, str, str, float, float]) -> pd.DataFrame:
    """Exams as (exam_id, woman_id, exam_date, left score, right score)."""
    table = pd.DataFrame(
        [
            (exam, woman, date, side, score)
            for exam, woman, date, left, right in rows
            for side, score in (("L", left), ("R", right))
        ],
        columns=["exam_id", "woman_id", "exam_date", "laterality", "score"],
    )
    return table.assign(exam_date=table["exam_date"].astype("datetime64[s]"))


def matched(biopsies: list[tuple[str, str, str, int]], table: pd.DataFrame) -> Biopsied:
    done = pd.DataFrame(biopsies, columns=["woman_id", "biopsy_date", "laterality", "malignant"])
    done = done.assign(biopsy_date=done["biopsy_date"].astype("datetime64[s]"))
    weight = pd.Series(1.0, index=table["exam_id"].unique())
    return match_biopsies(done, table, weight, workup_months=3)


TWO_EXAMS = breasts(("first", "w", "2020-01-10", 0.1, 0.2), ("second", "w", "2022-01-10", 0.3, 0.4))


@pytest.mark.parametrize(
    ("date", "side", "score"),
    [
        ("2020-02-01", "L", 0.1),
        ("2020-04-10", "R", 0.2),  # the last day of the third month
        ("2022-01-10", "L", 0.3),  # the day of the exam itself
        ("2022-02-01", "R", 0.4),
        ("2022-02-01", "B", 0.4),
    ],
)
def test_a_biopsy_takes_the_score_of_its_breast_at_the_latest_exam_before_it(
    date: str, side: str, score: float
) -> None:
    found = matched([("w", date, side, 1)], TWO_EXAMS)
    assert found.score.tolist() == [score]
    assert not any(found.left_out.values())


@pytest.mark.parametrize(
    ("date", "side", "why"),
    [
        ("2020-04-11", "L", "without an exam in the 3 months before"),
        ("2019-12-31", "L", "without an exam in the 3 months before"),
        ("2020-02-01", "", "of unknown side"),
    ],
)
def test_a_biopsy_without_its_exam_is_left_out_and_counted(date: str, side: str, why: str) -> None:
    found = matched([("w", date, side, 1), ("w", "2022-01-12", "L", 0)], TWO_EXAMS)
    assert found.score.tolist() == [0.3]
    assert {reason: count for reason, count in found.left_out.items() if count} == {why: 1}


def test_the_latest_exam_counts_even_where_it_has_no_score() -> None:
    table = breasts(("first", "w", "2020-01-10", 0.1, 0.2), ("second", "w", "2020-02-10", np.nan, 0.4))
    found = matched([("w", "2020-02-20", "L", 1), ("w", "2020-02-20", "R", 0)], table)
    assert found.score.tolist() == [0.4]
    assert found.left_out["of a breast without score"] == 1


def test_several_biopsies_of_a_breast_are_one_case_malignant_if_any_is() -> None:
    biopsies = [("w", "2020-02-01", "L", 0), ("w", "2020-02-20", "L", 1), ("w", "2020-02-01", "R", 0)]
    found = matched(biopsies, TWO_EXAMS)
    assert found.n_biopsies == 3
    assert dict(zip(found.score.tolist(), found.malignant.tolist(), strict=True)) == {0.1: True, 0.2: False}


def test_a_biopsy_of_another_woman_takes_no_score() -> None:
    assert matched([("v", "2020-02-01", "L", 1)], TWO_EXAMS).left_out["without an exam in the 3 months before"] == 1


def test_avoided_and_kept_are_counted_by_hand() -> None:
    # Below 0.5: benign 0.1 and 0.4, malignant 0.3. At 0.5 a biopsy is kept.
    score = [0.1, 0.4, 0.5, 0.9, 0.3, 0.5, 0.8]
    malignant = [0, 0, 0, 0, 1, 1, 1]
    found = avoided_at(0.5, score, malignant, np.arange(7))
    assert (found.n_benign_avoided, found.n_benign, found.n_malignant_kept, found.n_malignant) == (2, 4, 2, 3)
    assert interval(found.avoided).point == 0.5
    assert interval(found.sensitivity).point == pytest.approx(2 / 3)
    peer = proportion_confint(2, 4, method="wilson")
    assert (interval(found.avoided).low, interval(found.avoided).high) == pytest.approx(peer)


def test_one_kind_of_result_alone_gives_the_other_a_reason() -> None:
    benign, malignant = (avoided_at(0.5, [0.1, 0.9], kind, [0, 1]) for kind in ([0, 0], [1, 1]))
    assert benign.sensitivity == "There is no malignant biopsy to keep."
    assert interval(benign.avoided).point == 0.5
    assert malignant.avoided == "There is no benign biopsy to avoid."


def test_a_missing_score_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="NaN"):
        avoided_at(0.5, [0.1, np.nan], [0, 1], [0, 1])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_weights_of_one_and_copies_of_women_change_no_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score, woman = rng.integers(0, 9, 30) / 8, rng.integers(0, 20, 30)
    malignant = np.append([0, 1], rng.integers(0, 2, 28))
    few = Uncertainty(replicates=50)

    def shares(found: Avoided) -> tuple[float, float]:
        return interval(found.avoided).point, interval(found.sensitivity).point

    expected = shares(avoided_at(0.5, score, malignant, woman, uncertainty=few))
    order = rng.permutation(30)
    again = [
        avoided_at(0.5, score[order], malignant[order], woman[order], uncertainty=few),
        avoided_at(0.5, score, malignant, woman, np.ones(30), few),
        avoided_at(
            0.5, *(np.tile(one, 2) for one in (score, malignant)), np.append(woman, woman + 20), uncertainty=few
        ),
    ]
    for found in again:
        assert shares(found) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_halves_are_of_different_women_and_both_have_cancers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    woman = rng.integers(0, 25, 60)
    malignant = rng.random(60) < 0.2
    first = halves(woman, malignant, seed)
    assert not set(woman[first]) & set(woman[~first])
    ill, well = set(woman[malignant]), set(woman) - set(woman[malignant])
    for stratum in (ill, well):
        assert 0 <= len(stratum & set(woman[first])) - len(stratum & set(woman[~first])) <= 1
    order = rng.permutation(60)
    assert (halves(woman[order], malignant[order], seed) == first[order]).all()


def programme(score_of: dict[str, float], **options: object) -> Cohort:
    """One exam and one biopsy of the left breast a woman; a name that begins with m is malignant."""
    exams = [
        {"exam_id": f"e-{woman}", "woman_id": woman, "exam_date": "2020-01-10", "score": max(score, 0.05)}
        | {"left_score": score, "right_score": 0.05}
        for woman, score in score_of.items()
    ]
    biopsies = [(woman, "2020-01-20", "L", int(woman.startswith("m"))) for woman in score_of]
    cancers = [(woman, "2020-01-20", "L") for woman in score_of if woman.startswith("m")]
    return cohort_of(exams, cancers, biopsies, **options)


SCORES = {f"m{i}": 0.5 + i / 100 for i in range(40)} | {f"b{i}": 0.3 + i / 100 for i in range(40)}


def by_key(figures: tuple[Figure, ...]) -> dict[str, Figure]:
    assert len({figure.key for figure in figures}) == len(figures)
    return {figure.key: figure for figure in figures}


def test_on_one_set_the_threshold_is_the_lowest_cancer_or_the_one_that_two_percent_allow() -> None:
    found = by_key(biopsy_figures(programme(SCORES)))
    every = found["benign_biopsies_avoided@sensitivity=1,same-set"]
    assert every.threshold == pytest.approx(0.5)
    assert interval(every.interval).point == pytest.approx(20 / 40)
    assert every.denominator == "20 avoided of 40 breasts biopsied with benign result"
    # 98 % of 40 cancers are 39.2: all must be kept.
    assert found["benign_biopsies_avoided@sensitivity=0.98,same-set"].threshold == pytest.approx(0.5)
    assert interval(found["biopsy_sensitivity@sensitivity=1,same-set"].interval).point == 1
    assert "optimistic" in every.note
    assert "mark of 20%" in every.note


def test_the_threshold_knows_nothing_of_the_half_that_it_is_judged_on() -> None:
    women = np.array(list(SCORES))
    malignant = np.char.startswith(women, "m")
    first = halves(women, malignant)
    changed = {
        woman: score if chosen else 1.0 - score for (woman, score), chosen in zip(SCORES.items(), first, strict=True)
    }
    before, after = (by_key(biopsy_figures(programme(scores))) for scores in (SCORES, changed))
    key = "benign_biopsies_avoided@sensitivity=1"
    chosen = min(score for woman, score in SCORES.items() if woman in set(women[first & malignant]))
    assert before[key].threshold == after[key].threshold == pytest.approx(chosen)
    assert before[key].interval != after[key].interval
    benign_other = [score for woman, score in SCORES.items() if woman in set(women[~first & ~malignant])]
    share = np.mean([score < chosen for score in benign_other])
    assert interval(before[key].interval).point == pytest.approx(share)
    assert before[key].n == 40
    assert before[key].n_positive == 20


def test_weights_count_a_breast_as_often_as_it_weighs() -> None:
    weights = {f"e-{woman}": 3.0 if woman == "b0" else 1.0 for woman in SCORES}
    found = by_key(biopsy_figures(programme(SCORES, weights=weights)))
    assert interval(found["benign_biopsies_avoided@sensitivity=1,same-set"].interval).point == pytest.approx(22 / 42)


def test_the_interval_is_that_of_the_protocol() -> None:
    exact = protocol(proportion="clopper-pearson")
    found = by_key(biopsy_figures(programme(SCORES, under=exact)))
    figure = interval(found["benign_biopsies_avoided@sensitivity=1,same-set"].interval)
    assert (figure.low, figure.high) == pytest.approx(proportion_confint(20, 40, method="beta"))


def test_without_biopsies_or_breast_scores_a_sentence_says_so() -> None:
    exam = {"exam_id": "e", "woman_id": "w", "exam_date": "2020-01-10", "score": 0.5}
    sided = exam | {"left_score": 0.5, "right_score": 0.1}
    biopsy = ("w", "2020-01-20", "L", 0)
    for cohort, reason in (
        (cohort_of([sided]), "needs the follow-up table biopsies"),
        (cohort_of([sided], biopsies=[]), "needs the follow-up table biopsies"),
        (cohort_of([exam], biopsies=[biopsy]), "needs scores of breasts"),
        (cohort_of([sided], biopsies=[("w", "2025-01-20", "L", 0)]), "No biopsy belongs to a scored breast"),
    ):
        (figure,) = biopsy_figures(cohort)
        assert reason in figure.reason


@pytest.mark.parametrize(("kind", "reason"), [("b", "malignant biopsies to choose"), ("m", "no benign biopsy")])
def test_results_of_one_kind_alone_give_reasons(kind: str, reason: str) -> None:
    alone = {woman: score for woman, score in SCORES.items() if woman.startswith(kind)}
    found = by_key(biopsy_figures(programme(alone)))
    for suffix in ("@sensitivity=0.98", "@sensitivity=1", "@sensitivity=0.98,same-set", "@sensitivity=1,same-set"):
        assert reason in found[f"benign_biopsies_avoided{suffix}"].reason


def test_equal_scores_avoid_nothing_at_any_sensitivity() -> None:
    found = biopsy_figures(programme(dict.fromkeys(SCORES, 0.4)))
    avoided = [interval(figure.interval).point for figure in found if figure.key.startswith("benign")]
    assert avoided == [0, 0, 0, 0]
