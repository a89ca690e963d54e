"""Ways of reading: each worked by hand on the same twelve exams, and the comparison with the programme."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from evaluation.cohort import Cohort
from evaluation.errors import InvalidInputError
from evaluation.figure import Figure
from evaluation.intervals import Interval, paired_proportion_difference
from evaluation.protocol import OperatingPoint
from evaluation.rates import Cells
from evaluation.readers import is_non_inferior, reader_figures
from evaluation.reading import arbitrated, lowest, meets, strategies, strategy_rates
from tests.support.handmade import cohort_of, protocol

# Exam by exam: reader 1, reader 2, programme, model's score, cancer ("s" screen-detected, "i" interval, "" none).
EXAMS = [
    (1, 1, 1, 0.95, "s"),  # everybody
    (1, 0, 1, 0.90, "s"),  # consensus recalled
    (0, 1, 1, 0.10, "s"),  # reader 2 alone, model below
    (1, 1, 1, 0.20, "s"),  # both readers, model below
    (0, 0, 0, 0.99, "i"),  # missed by both, called by the model
    (0, 0, 0, 0.15, "i"),  # missed by all
    (1, 0, 0, 0.30, ""),  # consensus did not recall
    (0, 0, 0, 0.85, ""),  # false call of the model alone
    (0, 1, 0, 0.80, ""),  # false calls of reader 2 and model, consensus did not recall
    (1, 1, 1, 0.05, ""),  # false recall by both readers
    (0, 0, 0, 0.02, ""),
    (0, 0, 0, 0.01, ""),
]
CUT = 0.75
SIZE = len(EXAMS)


def twelve(copies: int = 1, exams: list[tuple[int, int, int, float, str]] = EXAMS, **options: object) -> Cohort:
    rows, cancers = [], []
    for copy in range(copies):
        for number, (reader1, reader2, recalled, score, cancer) in enumerate(exams):
            woman = f"w{number}.{copy}"
            rows.append(
                {
                    "exam_id": f"e{number}.{copy}",
                    "woman_id": woman,
                    "exam_date": "2020-01-10",
                    "reader1": reader1,
                    "reader2": reader2,
                    "recalled": recalled,
                    "score": score,
                }
            )
            if cancer:
                cancers.append((woman, "2020-02-01" if cancer == "s" else "2021-02-01", ""))
    return cohort_of(rows, cancers, **options)


def by_key(figures: tuple[Figure, ...]) -> dict[str, Figure]:
    assert len({figure.key for figure in figures}) == len(figures)
    return {figure.key: figure for figure in figures}


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return by_key(reader_figures(twelve(), CUT, triage=(0.5,), net=0.1))


def point(figure: Figure) -> float:
    assert figure.interval is not None, figure.reason
    return figure.interval.point


def rates_of(figures: dict[str, Figure], way: str) -> tuple[float, ...]:
    """Detected of 6, false recalls of 6, reads saved of 24, to consensus of 12, interval cancers caught of 2."""
    return (
        6 * point(figures[f"{way}/sensitivity"]),
        6 * (1 - point(figures[f"{way}/specificity"])),
        24 * point(figures[f"{way}/reads_saved"]),
        12 * point(figures[f"{way}/consensus_rate"]),
        2 * point(figures[f"{way}/interval_cancers_caught"]),
    )


@pytest.mark.parametrize(
    ("way", "by_hand"),
    [
        # The programme: four cancers, one false recall, two reads each, the readers differ on four exams.
        ("programme", (4, 1, 0, 4, 0)),
        ("reader1", (3, 2, 12, 0, 0)),
        ("reader2", (3, 2, 12, 0, 0)),
        ("either_reader", (4, 3, 0, 0, 0)),
        ("both_readers", (2, 1, 0, 0, 0)),
        # The model calls exams 1, 2, 5 (cancer) and 8, 9 (none).
        ("model", (3, 2, 24, 0, 1)),
        ("reader1_or_model", (4, 4, 12, 0, 1)),
        ("reader1_and_model", (2, 0, 12, 0, 0)),
        # Reader 1 and model differ on exams 4, 5, 7, 8, 9 and 10. They agree to recall 1 and 2. Of the six, the readers
        # had a consensus on 7 and 9 (both: no). The other four keep the programme's decision: 4 and 10 are recalled.
        ("second_reader_programme", (3, 1, 12, 6, 0)),
        # A consensus that recalls what it never saw: 4, 5, 8 and 10.
        ("second_reader_recall", (4, 2, 12, 6, 1)),
        ("second_reader_no-recall", (2, 0, 12, 6, 0)),
        # The lowest half: exams 3, 4, 6, 10, 11, 12. Reader 1 alone recalls 4 and 10 of them, and misses 3. Of the four
        # exams on which the readers differ, only 3 is among them.
        ("triage_50_single_read", (3, 1, 6, 3, 0)),
        ("triage_50_no_read", (2, 0, 12, 3, 0)),
        # The highest tenth of twelve exams is one exam, the fifth: an interval cancer.
        ("safety_net_10", (5, 1, 0, 4, 1)),
        ("triage_50_no_read_net", (3, 0, 12, 3, 1)),
    ],
)
def test_every_way_of_reading_gives_what_was_counted_by_hand(
    figures: dict[str, Figure], way: str, by_hand: tuple[float, ...]
) -> None:
    assert rates_of(figures, way) == pytest.approx(by_hand)


def test_every_way_of_reading_has_an_example_by_hand(figures: dict[str, Figure]) -> None:
    worked = test_every_way_of_reading_gives_what_was_counted_by_hand.pytestmark[0].args[1]
    assert {way for way, _ in worked} == {one.key for one in strategies((0.5,), 0.1)}
    assert not [figure for figure in figures.values() if figure.reason]


def test_recall_detection_and_ppv_are_of_all_exams_and_of_the_recalled(figures: dict[str, Figure]) -> None:
    assert point(figures["programme/recall_rate"]) == pytest.approx(5 / 12)
    assert point(figures["programme/detection_rate"]) == pytest.approx(4 / 12)
    assert figures["programme/detection_rate"].per == 1_000
    assert point(figures["programme/ppv"]) == pytest.approx(4 / 5)
    assert figures["programme/ppv"].denominator == "4 with cancer of 5 recalled exams"
    assert figures["model/sensitivity"].threshold == CUT
    assert figures["triage_50_no_read/sensitivity"].threshold is None


def test_the_difference_to_the_programme_is_paired_with_newcombes_interval(figures: dict[str, Figure]) -> None:
    # Model against programme among six cancers: both find 1 and 2, the model alone 5, the programme alone 3 and 4.
    figure = figures["model-minus-programme/sensitivity"]
    assert figure.interval == paired_proportion_difference(2, 1, 2, 1)
    assert "only by model alone 1, only by the programme as it was read 2, both 2, of 6" in figure.denominator


def test_the_p_value_is_that_of_statsmodels(figures: dict[str, Figure]) -> None:
    exact = protocol(paired_test="mcnemar-exact")
    many = by_key(reader_figures(twelve(7, under=exact), CUT))
    figure = many["model-minus-programme/sensitivity"]
    p = mcnemar([[14, 7], [14, 7]], exact=True).pvalue
    assert f"p = {p:.3g} (McNemar exact" in figure.note
    assert "mid-p" in figures["model-minus-programme/sensitivity"].note


def test_the_model_is_compared_with_each_reader_and_the_consensus(figures: dict[str, Figure]) -> None:
    compared = {key.split("/")[0] for key in figures if key.startswith("model-minus-")}
    assert compared == {"model-minus-programme", "model-minus-reader1", "model-minus-reader2"}


def test_copies_of_every_woman_change_no_rate(figures: dict[str, Figure]) -> None:
    copied = by_key(reader_figures(twelve(3), CUT, triage=(0.5,), net=0.1))
    for key, figure in figures.items():
        # The top tenth of 12 exams is one exam, that of 36 exams three.
        assert point(copied[key]) == pytest.approx(point(figure)), key


def test_weights_of_one_change_nothing_but_the_test_that_knows_no_weights(figures: dict[str, Figure]) -> None:
    ones = {f"e{number}.0": 1.0 for number in range(SIZE)}
    weighted = by_key(reader_figures(twelve(weights=ones), CUT, triage=(0.5,), net=0.1))
    assert weighted == figures


def test_weights_count_an_exam_as_often_as_it_weighs() -> None:
    double = {f"e{number}.0": 2.0 if number == 10 else 1.0 for number in range(SIZE)}
    found = by_key(reader_figures(twelve(weights=double), CUT))
    assert point(found["programme/recall_rate"]) == pytest.approx(5 / 13)
    assert point(found["programme/specificity"]) == pytest.approx(6 / 7)
    assert "no McNemar test" in found["model-minus-programme/specificity"].note
    assert "weighted" in found["programme/recall_rate"].denominator


def test_a_call_on_the_healthy_breast_recalls_the_woman_and_detects_nothing() -> None:
    base = {"exam_date": "2020-01-10", "reader1": 0, "reader2": 0, "recalled": 0}
    exams = [
        {**base, "exam_id": "wrong", "woman_id": "a", "score": 0.9, "left_score": 0.9, "right_score": 0.1},
        {**base, "exam_id": "right", "woman_id": "b", "score": 0.9, "left_score": 0.1, "right_score": 0.9},
        {**base, "exam_id": "free", "woman_id": "c", "score": 0.2, "left_score": 0.1, "right_score": 0.2},
    ]
    cohort = cohort_of(exams, [("a", "2020-12-01", "R"), ("b", "2020-12-01", "R")])
    found = by_key(reader_figures(cohort, 0.5, net=0.7))
    for way in ("model", "safety_net_70", "second_reader_recall"):
        assert point(found[f"{way}/recall_rate"]) == pytest.approx(2 / 3), way
        assert point(found[f"{way}/sensitivity"]) == pytest.approx(1 / 2), way
        assert point(found[f"{way}/ppv"]) == pytest.approx(1 / 2), way


def test_where_the_consensus_overrules_two_recalls_it_meets_on_every_recall() -> None:
    overruled = [*EXAMS[:-1], (1, 1, 0, 0.9, "")]
    found = by_key(reader_figures(twelve(exams=overruled), CUT))
    # At least one reader recalls exams 1 to 4, 7, 9, 10 and 12; reader 1 or the model 1, 2, 4, 5 and 7 to 10 and 12.
    assert point(found["programme/consensus_rate"]) == pytest.approx(8 / 12)
    assert point(found["second_reader_programme/consensus_rate"]) == pytest.approx(9 / 12)
    # Reader 1 and the model would recall exam 12; the consensus that saw it did not.
    assert point(found["second_reader_recall/specificity"]) == pytest.approx(4 / 6)


@pytest.mark.parametrize("meeting", ["discordant", "any-recall"])
@pytest.mark.parametrize("arbitration", ["programme", "recall", "no-recall"])
def test_a_further_call_of_the_model_never_takes_a_recall_away(meeting: str, arbitration: str) -> None:
    said = np.array(np.meshgrid(*[[False, True]] * 3)).reshape(3, -1)
    columns = dict(zip(("reader1", "reader2", "recalled"), said, strict=True))
    called, silent = ({**columns, "called": np.full(8, call)} for call in (True, False))
    # A consensus that decided against two recalls exists only where it meets on them.
    possible = ~(columns["reader1"] & columns["reader2"] & ~columns["recalled"]) | (meeting == "any-recall")
    possible &= (columns["reader1"] | columns["reader2"]) | ~columns["recalled"]
    more, less = (arbitrated(one, meeting, arbitration)[possible] for one in (called, silent))
    assert (more >= less).all()


def test_the_three_assumptions_bracket_the_recalls() -> None:
    rng = np.random.default_rng(0)
    columns = {name: rng.random(200) < 0.3 for name in ("reader1", "reader2", "called")}
    columns["recalled"] = columns["reader1"] & columns["reader2"]
    fewest, actual, most = (arbitrated(columns, "discordant", one) for one in ("no-recall", "programme", "recall"))
    assert (fewest <= actual).all()
    assert (actual <= most).all()
    assert (
        meets(columns["reader1"], columns["called"], "discordant") == (columns["reader1"] ^ columns["called"])
    ).all()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_the_lowest_exams_are_at_most_the_share_and_ties_stay_together(share: float) -> None:
    score = np.random.default_rng(1).integers(0, 6, 50) / 5
    low = lowest(score, share)
    assert low.mean() <= share
    assert not low.any() or score[low].max() < score[~low].min(initial=np.inf)
    tied = lowest(np.full(10, 0.5), share)
    assert set(tied) == {share == 1}


def test_the_lowest_exams_go_by_weight() -> None:
    assert lowest([0.1, 0.2, 0.3], 0.5, [1, 1, 2]).tolist() == [True, True, False]
    assert lowest([0.1, 0.2, 0.3], 0.5, [3, 1, 2]).tolist() == [True, False, False]


@pytest.mark.parametrize(("low", "passes"), [(-0.049, True), (-0.051, False), (0.01, True)])
def test_non_inferiority_is_the_lower_bound_above_the_margin(low: float, passes: bool) -> None:
    assert is_non_inferior(Interval(0.0, low, 0.1, "test"), 0.05) is passes


@pytest.mark.parametrize("margin", [0.0, -0.05, float("nan")])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(InvalidInputError, match="margin"):
        is_non_inferior(Interval(0.0, 0.0, 0.0, "test"), margin)


def test_the_verdict_stands_with_sensitivity_and_specificity_only(figures: dict[str, Figure]) -> None:
    with_verdict = {key.split("/")[1] for key, figure in figures.items() if "non-inferior" in figure.note}
    assert with_verdict == {"sensitivity", "specificity"}


def test_no_readers_at_all_is_one_sentence() -> None:
    exams = [{"exam_id": "e", "woman_id": "w", "exam_date": "2020-01-10", "score": 0.5}]
    (figure,) = reader_figures(cohort_of(exams), 0.5)
    assert "No exam has a decision in reader1, reader2, recalled" in figure.reason


def test_one_reader_alone_leaves_out_what_needs_the_second() -> None:
    exams = [
        {"exam_id": f"e{i}", "woman_id": f"w{i}", "exam_date": "2020-01-10", "reader1": i % 2, "score": i / 9}
        for i in range(9)
    ]
    found = by_key(reader_figures(cohort_of(exams, [("w1", "2020-02-01", "")]), 0.5))
    assert found["second_reader_programme"].reason == "It needs reader2, recalled in the follow-up's exams."
    assert point(found["reader1/reads_saved"]) == 0
    assert point(found["model/specificity"]) == pytest.approx(4 / 8)


def test_exams_with_an_unknown_decision_are_left_out_and_counted() -> None:
    exams = [{"exam_id": "x", "woman_id": "x", "exam_date": "2020-01-10", "reader1": 1, "reader2": "", "recalled": 1}]
    exams[0]["score"] = 0.5
    rows = [
        {"exam_id": f"e{i}", "woman_id": f"w{i}", "exam_date": "2020-01-10", "score": i / 4}
        | {"reader1": 0, "reader2": 0, "recalled": i % 2}
        for i in range(4)
    ]
    found = by_key(reader_figures(cohort_of([*exams, *rows]), 0.5))
    assert found["programme/recall_rate"].n == 4
    assert found["programme/recall_rate"].note == "1 exams without all of the readers' decisions are left out"


def test_no_cancer_gives_reasons_and_keeps_the_rest() -> None:
    healthy = [(*exam[:4], "") for exam in EXAMS]
    found = by_key(reader_figures(twelve(exams=healthy), CUT))
    assert found["model/sensitivity"].reason == "There is no exam with cancer."
    assert found["model-minus-programme/sensitivity"].reason == "There is no exam with cancer."
    assert point(found["model/specificity"]) == pytest.approx(7 / 12)


def test_equal_scores_are_triaged_together_or_not_at_all() -> None:
    equal = [(*exam[:3], 0.5, exam[4]) for exam in EXAMS]
    found = by_key(reader_figures(twelve(exams=equal), CUT))
    assert point(found["triage_50_no_read/reads_saved"]) == 0
    assert point(found["safety_net_1/recall_rate"]) == point(found["programme/recall_rate"])
    assert found["model/ppv"].reason == "No exam is recalled."


def test_the_threshold_is_that_of_the_protocols_first_operating_point() -> None:
    at = OperatingPoint(name="half", target="recall-rate", value=0.25)
    found = by_key(reader_figures(twelve(under=protocol(at))))
    assert found["model/recall_rate"].threshold == 0.9
    assert point(found["model/recall_rate"]) == pytest.approx(3 / 12)


def test_without_an_operating_point_only_what_needs_the_model_at_a_threshold_is_missing() -> None:
    found = by_key(reader_figures(twelve()))
    assert "operating point" in found["model"].reason
    assert point(found["triage_50_no_read/sensitivity"]) == pytest.approx(2 / 6)


def test_exams_of_one_woman_are_resampled_together() -> None:
    rows = [
        {"exam_id": f"e{i}", "woman_id": f"w{i // 2}", "exam_date": f"{2016 + 3 * (i % 2)}-01-10", "score": i / 20}
        | {"reader1": i % 2, "reader2": i % 3 == 0, "recalled": i % 2}
        for i in range(20)
    ]
    rows = [{**row, "reader2": int(row["reader2"])} for row in rows]
    found = by_key(reader_figures(cohort_of(rows), 0.5))
    interval = found["model-minus-programme/specificity"].interval
    assert interval is not None
    assert (interval.method, interval.n_clusters) == ("percentile bootstrap", 10)


def test_rates_over_cells_of_exams_are_those_over_the_exams() -> None:
    rng = np.random.default_rng(3)
    names = ("reader1", "reader2", "recalled", "called", "positive", "interval", "low 0.5", "top 0.01")
    exams = {name: rng.random(500) < 0.4 for name in names}
    cells = Cells.of(exams)
    for strategy in strategies((0.5,), 0.01):
        over_exams, over_cells = (strategy_rates(strategy, one, one) for one in (exams, cells.columns))
        for name, rate in over_exams.items():
            value = cells.statistic(over_cells[name])()
            assert value == pytest.approx(rate.counted.sum() / rate.among.sum()), (strategy.key, name)
