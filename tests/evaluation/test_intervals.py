"""Intervals and tests of proportions equal statsmodels and published examples."""

from __future__ import annotations

import pytest

from evaluation.errors import InvalidInputError, NotComputableError
from evaluation.intervals import Interval, clopper_pearson, mcnemar, paired_proportion_difference, wilson

contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
proportion = pytest.importorskip("statsmodels.stats.proportion")

COUNTS = [(0, 7), (1, 7), (7, 7), (13, 29), (2, 4000), (81, 263)]


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "trials"), COUNTS)
def test_wilson_and_clopper_pearson_equal_statsmodels(successes: int, trials: int, level: float) -> None:
    for function, name in ((wilson, "wilson"), (clopper_pearson, "beta")):
        low, high = proportion.proportion_confint(successes, trials, alpha=1 - level, method=name)
        interval = function(successes, trials, level)
        assert (interval.low, interval.high) == pytest.approx((max(low, 0), min(high, 1)), abs=1e-10)


def test_wilson_equals_newcombes_published_example() -> None:
    interval = wilson(81, 263)  # Newcombe, Stat Med 1998;17:857, table I, method 3
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize(("first", "second"), [(0, 5), (5, 5), (3, 12), (40, 25), (1, 0)])
def test_mcnemar_equals_statsmodels(first: int, second: int) -> None:
    table = [[10, first], [second, 10]]
    assert mcnemar(first, second).p_value == pytest.approx(contingency.mcnemar(table, exact=True).pvalue, abs=1e-12)
    plain = contingency.mcnemar(table, exact=False, correction=False).pvalue
    assert mcnemar(first, second, "chi2").p_value == pytest.approx(plain, abs=1e-12)
    if first != second:  # statsmodels corrects a difference of 0 to 1
        corrected = contingency.mcnemar(table, exact=False, correction=True).pvalue
        assert mcnemar(first, second, "chi2-corrected").p_value == pytest.approx(corrected, abs=1e-12)


def test_mid_p_equals_fagerlands_published_example() -> None:
    # Fagerland et al. 2013, airway hyper-responsiveness before and after transplantation: 1 and 7 discordant pairs.
    assert round(mcnemar(1, 7, "exact").p_value, 4) == 0.0703
    assert round(mcnemar(1, 7, "mid-p").p_value, 4) == 0.0391
    assert round(mcnemar(1, 7, "chi2").p_value, 4) == 0.0339


def test_mcnemar_without_discordant_pairs_finds_nothing() -> None:
    for method in ("exact", "mid-p", "chi2", "chi2-corrected"):
        assert mcnemar(0, 0, method).p_value == 1.0


def test_paired_difference_equals_newcombes_published_example() -> None:
    interval = paired_proportion_difference(36, 12, 2, 0)  # Newcombe, Stat Med 1998;17:2635, table II, method 10
    assert interval.point == pytest.approx(0.2)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.0569, 0.3404)


@pytest.mark.parametrize("table", [(0, 0, 0, 5), (5, 0, 0, 0), (3, 4, 1, 9), (0, 5, 5, 0), (1, 40, 3, 2)])
def test_swapping_the_tests_mirrors_the_paired_difference(table: tuple[int, int, int, int]) -> None:
    both, first, second, neither = table
    one = paired_proportion_difference(both, first, second, neither)
    other = paired_proportion_difference(both, second, first, neither)
    assert (one.low, one.point, one.high) == pytest.approx((-other.high, -other.point, -other.low), abs=1e-12)
    assert one.low <= one.point <= one.high


def test_proportions_of_no_cases_and_of_no_counts_are_refused() -> None:
    for function in (wilson, clopper_pearson):
        with pytest.raises(NotComputableError, match="no cases"):
            function(0, 0)
        for successes, trials in ((3, 2), (-1, 2)):
            with pytest.raises(InvalidInputError, match="proportion of counts"):
                function(successes, trials)
        with pytest.raises(InvalidInputError, match="confidence level"):
            function(1, 2, 95)
    with pytest.raises(NotComputableError, match="no cases"):
        paired_proportion_difference(0, 0, 0, 0)
    with pytest.raises(InvalidInputError, match="discordant"):
        mcnemar(-1, 2)
    with pytest.raises(InvalidInputError, match="no method"):
        mcnemar(1, 2, "exakt")  # type: ignore[arg-type]


def test_an_interval_prints_its_level_and_method() -> None:
    assert str(Interval(0.5, 0.25, 0.75, "Wilson")) == "0.500 (95 % CI 0.250 to 0.750, Wilson)"
