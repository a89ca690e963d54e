"""PSI, two-sample tests and CUSUM limits beside independent peers, and at their stated error rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from screening.monitoring.cusum import ALLOWANCE, Cusum, limit_for, signal_probability
from screening.monitoring.psi import chance_psi, psi
from screening.monitoring.two_sample import exact_interval, homogeneity_p, location_z, ridits, share_test

COUNTS = st.lists(st.integers(0, 300), min_size=10, max_size=10).filter(any)
QUICK = settings(max_examples=60, deadline=None)


# --- PSI ------------------------------------------------------------------------------------------------------------


def test_psi_is_that_of_a_worked_example() -> None:
    """Σ (p − q) ln(p / q) by hand: 0.2 ln 2 + 0.1 ln 1.5."""
    assert psi([40, 30, 30], [20, 40, 40]) == pytest.approx(0.2 * math.log(2) - 2 * 0.1 * math.log(0.75))


@QUICK
@given(COUNTS, COUNTS)
def test_psi_is_symmetric_and_not_negative_and_never_nan(first: list[int], second: list[int]) -> None:
    value = psi(first, second)
    assert value >= 0
    assert math.isfinite(value)
    assert value == pytest.approx(psi(second, first))


@QUICK
@given(COUNTS)
def test_psi_of_equals_is_zero_whatever_their_numbers(counts: list[int]) -> None:
    assert psi(counts, [7 * count for count in counts]) == pytest.approx(0, abs=0.35 if 0 in counts else 1e-12)


@pytest.mark.parametrize(("n", "m"), [(100, 1000), (400, 400), (1000, 10**6)])
def test_psi_without_change_goes_beyond_its_chance_value_once_in_twenty(n: int, m: int) -> None:
    rng = np.random.default_rng(0)
    beyond = 0
    for _ in range(1500):
        counts, reference = rng.multinomial(n, [0.1] * 10), rng.multinomial(m, [0.1] * 10)
        beyond += psi(counts, reference) > chance_psi(n, m, 10)
    assert beyond / 1500 == pytest.approx(0.05, abs=0.025)


def test_the_usual_limits_of_psi_are_chance_at_small_numbers() -> None:
    assert chance_psi(50, 1000, 10) > 0.25
    assert chance_psi(1000, 10_000, 10) < 0.1


# --- tests ----------------------------------------------------------------------------------------------------------


@QUICK
@given(COUNTS, COUNTS)
def test_homogeneity_is_scipys_cressie_read_test(first: list[int], second: list[int]) -> None:
    table = np.array([first, second])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        assert homogeneity_p(first, second) == 1
    else:
        peer = stats.chi2_contingency(table, correction=False, lambda_="cressie-read")
        assert homogeneity_p(first, second) == pytest.approx(peer.pvalue, rel=1e-6, abs=1e-300)


@QUICK
@given(st.integers(1, 300), st.integers(1, 3000), st.data())
def test_a_share_is_tested_by_scipys_hypergeometric_law(n: int, m: int, data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    law = stats.hypergeom(n + m, x + y, n)
    found = share_test(x, n, y, m)
    assert found.p == pytest.approx(min(1, 2 * min(law.cdf(x), law.sf(x - 1))), rel=1e-6, abs=1e-12)
    middle = law.cdf(x - 1) + law.pmf(x) / 2
    if 1e-6 < middle < 1 - 1e-6:
        assert found.z == pytest.approx(stats.norm.ppf(middle), abs=1e-6)


@pytest.mark.parametrize(("reference", "counts", "sign"), [(50, 30, 1), (50, 0, -1), (0, 9, 1), (1000, 0, -1)])
def test_far_out_shares_have_a_score_of_the_right_sign(reference: int, counts: int, sign: int) -> None:
    z = share_test(counts, 100, reference, 1000).z
    assert sign * z > 1.5
    assert math.isfinite(z)


def test_an_exact_interval_is_scipys() -> None:
    for count, total in [(0, 10), (3, 10), (10, 10), (5, 1000)]:
        peer = stats.binomtest(count, total).proportion_ci(method="exact")
        assert exact_interval(count, total) == pytest.approx((peer.low, peer.high), abs=1e-9)


@QUICK
@given(COUNTS)
def test_ridits_have_mean_one_half_over_their_reference(reference: list[int]) -> None:
    assert np.average(ridits(reference), weights=reference) == pytest.approx(0.5)


def test_a_moved_mean_has_the_wilcoxon_statistic_but_for_its_variance() -> None:
    rng = np.random.default_rng(3)
    values, reference = rng.normal(0.3, 1, 400), rng.normal(0, 1, 4000)
    edges = np.quantile(reference, np.arange(1, 200) / 200)  # so many bins that hardly any are tied
    counts, known = (np.bincount(np.searchsorted(edges, x), minlength=200) for x in (values, reference))
    u = stats.mannwhitneyu(values, reference, method="asymptotic").pvalue
    z = location_z(counts.tolist(), known.tolist(), ridits(known.tolist()))
    assert z == pytest.approx(stats.norm.isf(u / 2), rel=0.03)


def test_small_samples_keep_the_level_that_many_tests_need() -> None:
    rng = np.random.default_rng(1)
    p = [
        homogeneity_p(rng.multinomial(50, [0.1] * 10).tolist(), rng.multinomial(1000, [0.1] * 10).tolist())
        for _ in range(20_000)
    ]
    assert np.mean(np.array(p) < 0.001) < 0.0015
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.01)


# --- CUSUM ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "published"), [(3.0, 117.6), (4.0, 335.4), (5.0, 930.9)])
def test_the_markov_chain_has_the_run_lengths_of_the_literature(limit: float, published: float) -> None:
    """One-sided charts with k = 0.5: twice the two-sided 58.8, 167.7 and 465.4 of Lucas and Crosier (1982), h = 3 to 5.

    Far out the number of steps to a signal is geometric, so the ratio of two probabilities gives its mean.
    """
    still = [1 - signal_probability(limit, steps) for steps in (200, 201)]
    assert 1 / (1 - still[1] / still[0]) == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize("steps", [10, 52])
def test_a_chart_passes_its_limit_as_often_as_it_may(steps: int) -> None:
    limit = limit_for(0.1, steps)
    assert signal_probability(limit, steps) == pytest.approx(0.1, rel=0.01)
    z = np.random.default_rng(2).standard_normal((20_000, steps))
    total, most = np.zeros(len(z)), np.zeros(len(z))
    for step in range(steps):
        total = np.maximum(0, total + z[:, step] - ALLOWANCE)
        most = np.maximum(most, total)
    assert np.mean(most >= limit) == pytest.approx(0.1, abs=0.01)


def test_a_chart_tells_when_a_change_began_and_comes_back_when_it_is_over() -> None:
    chart, limit = Cusum(), 8.0
    for z in [0.1, -0.3, 0.2] + [2.5] * 8:
        chart = chart.step(z, limit)
    assert chart.beyond(limit) == 1
    assert chart.steps == 8
    for _ in range(3):
        chart = chart.step(-0.5, limit)
    assert chart.beyond(limit) == 0
    for _ in range(10):
        chart = chart.step(-2.5, limit)
    assert chart.beyond(limit) == -1


@pytest.mark.parametrize("rate", [0, -0.1, 0.6])
def test_a_rate_of_false_alarms_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="false alarm"):
        limit_for(rate, 52)
