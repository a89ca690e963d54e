"""Rates over cells: equal to counting by hand, and each with the interval that its cases allow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from evaluation.bootstrap import cluster_bootstrap
from evaluation.errors import InvalidInputError
from evaluation.intervals import Interval, paired_proportion_difference
from evaluation.protocol import Uncertainty
from evaluation.rates import Cells, Rate, difference, rate, rate_intervals

UNCERTAINTY = Uncertainty(replicates=200)


def draw(seed: int, n: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.random(n) < 0.5 for name in ("a", "b", "among")}


def interval(found: Interval | str) -> Interval:
    assert isinstance(found, Interval), found
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_rate_over_cells_is_the_weighted_share_of_its_cases(seed: int) -> None:
    flags = draw(seed)
    weight = np.random.default_rng(seed + 1).uniform(0.1, 9, 60)
    cells = Cells.of(flags)
    value = cells.statistic(rate(cells.columns["a"], cells.columns["among"], "none"))(weight)
    assert value == pytest.approx(np.average(flags["a"][flags["among"]], weights=weight[flags["among"]]))
    assert cells.number(cells.columns["a"] & cells.columns["among"]) == int((flags["a"] & flags["among"]).sum())


def test_a_paired_difference_is_that_of_the_two_rates() -> None:
    flags = draw(1)
    cells = Cells.of(flags)
    first, second = (rate(cells.columns[name], cells.columns["among"], "none") for name in ("a", "b"))
    value = cells.statistic(difference(first, second))()
    assert value == pytest.approx(cells.statistic(first)() - cells.statistic(second)())


def test_a_difference_of_rates_among_different_cases_is_refused() -> None:
    cells = Cells.of(draw(1))
    first = rate(cells.columns["a"], cells.columns["among"], "none")
    with pytest.raises(InvalidInputError, match="same cases"):
        difference(first, rate(cells.columns["a"], ~cells.columns["among"], "none"))


@pytest.mark.parametrize(("proportion", "peer"), [("wilson", "wilson"), ("clopper-pearson", "beta")])
def test_one_exam_a_woman_has_the_plain_interval_of_statsmodels(proportion: str, peer: str) -> None:
    flags = draw(2)
    cells = Cells.of(flags)
    one = rate(cells.columns["a"], cells.columns["among"], "none")
    uncertainty = Uncertainty(proportion=proportion)
    found = interval(rate_intervals(cells, {"a": one}, np.arange(60), None, uncertainty)["a"])
    k, n = int((flags["a"] & flags["among"]).sum()), int(flags["among"].sum())
    assert (found.low, found.high) == pytest.approx(proportion_confint(k, n, method=peer), abs=1e-12)
    assert found.point == k / n


def test_one_exam_a_woman_has_the_paired_interval_of_newcombe() -> None:
    flags = draw(3)
    cells = Cells.of(flags)
    first, second = (rate(cells.columns[name], cells.columns["among"], "none") for name in ("a", "b"))
    found = rate_intervals(cells, {"d": difference(first, second)}, np.arange(60), None, UNCERTAINTY)["d"]
    a, b, among = (flags[name] for name in ("a", "b", "among"))
    counts = [int((among & x & y).sum()) for x, y in ((a, b), (a, ~b), (~a, b), (~a, ~b))]
    assert found == paired_proportion_difference(*counts)


def test_exams_that_share_a_woman_are_resampled_by_woman() -> None:
    flags = draw(4)
    woman = np.arange(60) // 2
    cells = Cells.of(flags)
    one = rate(cells.columns["a"], cells.columns["among"], "none")
    found = rate_intervals(cells, {"a": one}, woman, None, UNCERTAINTY)["a"]
    plain = cluster_bootstrap(
        lambda weight: float(np.average(flags["a"][flags["among"]], weights=weight[flags["among"]])),
        woman, seed=0, replicates=200,
    )  # fmt: skip
    assert interval(found).method == "percentile bootstrap"
    assert (interval(found).low, interval(found).high) == pytest.approx((plain.low, plain.high))


def test_a_proportion_of_one_among_shared_women_has_an_interval_with_width_for_the_number_of_women() -> None:
    woman = np.arange(60) // 2
    cells = Cells.of({"a": np.ones(60)})
    one = rate(cells.columns["a"], np.ones(1), "none")
    found = interval(rate_intervals(cells, {"a": one}, woman, None, UNCERTAINTY)["a"])
    assert found.point == found.high == 1
    assert found.low == pytest.approx(proportion_confint(30, 30, method="wilson")[0])


def test_two_ways_that_never_differ_are_not_certain_to_be_equal() -> None:
    woman = np.arange(60) // 2
    flags = draw(5)
    cells = Cells.of(flags)
    one = rate(cells.columns["a"], np.ones(len(cells.count)), "none")
    found = interval(rate_intervals(cells, {"d": difference(one, one)}, woman, None, UNCERTAINTY)["d"])
    assert found.point == 0
    assert found.low < 0 < found.high


def test_nothing_to_count_among_gives_the_reason_and_spares_the_others() -> None:
    cells = Cells.of(draw(6))
    rates = {
        "empty": rate(cells.columns["a"], np.zeros(len(cells.count)), "There is no exam."),
        "full": rate(cells.columns["a"], np.ones(len(cells.count)), "none"),
    }
    found = rate_intervals(cells, rates, np.arange(60) // 3, None, UNCERTAINTY)
    assert found["empty"] == "There is no exam."
    assert interval(found["full"]).replicates == 200


def test_one_woman_alone_gives_a_sentence() -> None:
    cells = Cells.of(draw(7))
    one = rate(cells.columns["a"], np.ones(len(cells.count)), "none")
    assert "two women" in str(rate_intervals(cells, {"a": one}, np.zeros(60), None, UNCERTAINTY)["a"])


def test_weights_of_one_are_no_weights_and_rows_may_come_in_any_order() -> None:
    flags, woman = draw(8), np.arange(60) // 2
    order = np.random.default_rng(0).permutation(60)

    def found(rows: np.ndarray, weight: np.ndarray | None) -> Interval:
        cells = Cells.of({name: values[rows] for name, values in flags.items()})
        one = rate(cells.columns["a"], cells.columns["among"], "none")
        return interval(rate_intervals(cells, {"a": one}, woman[rows], weight, UNCERTAINTY)["a"])

    rows = np.arange(60)
    plain, weighted, shuffled = found(rows, None), found(rows, np.ones(60)), found(order, None)
    assert plain == weighted
    assert (plain.point, plain.low, plain.high) == pytest.approx((shuffled.point, shuffled.low, shuffled.high))


def test_a_ratio_of_numbers_that_are_no_cases_is_resampled() -> None:
    cells = Cells.of(draw(9))
    one = Rate(2.0 * cells.columns["a"], np.full(len(cells.count), 2.0), "none")
    assert interval(rate_intervals(cells, {"a": one}, np.arange(60), None, UNCERTAINTY)["a"]).replicates == 200


def test_a_case_without_its_woman_is_refused() -> None:
    cells = Cells.of({"a": [0, 1]})
    with pytest.raises(InvalidInputError, match="its woman"):
        rate_intervals(cells, {"a": rate([1, 0], [1, 1], "none")}, np.array(["w", None]), None, UNCERTAINTY)


def test_columns_of_different_length_and_other_values_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="b has 3 values"):
        Cells.of({"a": [0, 1], "b": [0, 1, 1]})
    with pytest.raises(InvalidInputError, match="0 or 1"):
        Cells.of({"a": [0, 2]})
