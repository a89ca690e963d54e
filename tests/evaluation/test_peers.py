"""Figures equal those of established tools on data made here, where the rules agree.

scikit-learn, statsmodels and SciPy stand beside the figures in `test_roc`, `test_intervals`, `test_calibration`,
`test_agreement` and `test_bootstrap`, and the DBTex scorer's rules in `test_dbtex`; here are R's pROC, picai_eval and
the figures of merit of RJafroc.
"""

from __future__ import annotations

import subprocess
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.froc import FrocStatistics
from evaluation.hits import IntersectionOverUnion, Lesions, Regions, centre_in_lesion
from evaluation.roc import auc, delong_interval, delong_test, partial_auc
from tests.support.peers import REQUIRED, needs_package, needs_program

NO_PROC = 77  # what the R script exits with where the package is not installed


def delong_in_r(y: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[float]:
    """pROC's numbers for two scores on the same cases, in the order of `ours`."""

    def vector(values: np.ndarray) -> str:
        return f"c({','.join(repr(float(value)) for value in values)})"

    script = f"""
        if (!requireNamespace("pROC", quietly = TRUE)) quit(status = {NO_PROC})
        suppressMessages(library(pROC))
        y <- {vector(y)}
        a <- roc(y, {vector(first)}, levels = c(0, 1), direction = "<")
        b <- roc(y, {vector(second)}, levels = c(0, 1), direction = "<")
        t <- roc.test(a, b, method = "delong", paired = TRUE)
        found <- c(ci.auc(a), ci.auc(b), t$statistic, t$p.value, t$conf.int,
                   auc(a, partial.auc = c(1, 0.8)), auc(b, partial.auc = c(1, 0.8)))
        cat(sprintf("%.17g", found))
    """
    done = subprocess.run(["Rscript", "-"], input=script, capture_output=True, text=True, timeout=120)
    if done.returncode == NO_PROC and not REQUIRED:
        pytest.skip("R is installed, but its package pROC is not")
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()]


def ours(y: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[float]:
    a, b, test = delong_interval(y, first), delong_interval(y, second), delong_test(y, first, second)
    return [
        a.low, a.point, a.high, b.low, b.point, b.high, test.z, test.p_value, test.difference.low, test.difference.high,
        partial_auc(y, first, 0.2), partial_auc(y, second, 0.2),
    ]  # fmt: skip


def test_delong_and_partial_areas_equal_numbers_taken_from_proc() -> None:
    """pROC 1.18.0 with R 4.2.2 gave the numbers, by these commands.

    i <- 0:39
    y <- as.integer((i * 7) %% 10 < 4)
    a <- roc(y, ((i * 37) %% 41) %/% 3 + 4 * y, levels = c(0, 1), direction = "<")
    b <- roc(y, ((i * 23) %% 43) %/% 4 + 3 * y, levels = c(0, 1), direction = "<")
    t <- roc.test(a, b, method = "delong", paired = TRUE)
    sprintf("%.15g", c(ci.auc(a), ci.auc(b), t$statistic, t$p.value, t$conf.int))
    sprintf("%.15g", c(auc(a, partial.auc = c(1, 0.8)), auc(b, partial.auc = c(1, 0.8))))
    """
    i = np.arange(40)
    y = ((i * 7) % 10 < 4).astype(int)
    from_r = [
        0.353886292271511, 0.545572916666667, 0.737259541061822, 0.598472874406062, 0.752604166666667,
        0.906735458927271, -1.80641727804561, 0.0708531847255543, -0.431660298119668, 0.0175977981196684,
        0.0473958333333333, 0.0883854166666667,
    ]  # fmt: skip
    assert ours(y, i * 37 % 41 // 3 + 4 * y, i * 23 % 43 // 4 + 3 * y) == pytest.approx(from_r, rel=1e-12)


@needs_program("Rscript", "R with pROC")
def test_delong_and_partial_areas_equal_proc_on_random_scores_with_ties() -> None:
    for seed in range(2):
        rng = np.random.default_rng(seed)
        y = np.append([0, 0, 1, 1], rng.integers(0, 2, 116))
        first = np.round(rng.normal(y) * 4)
        second = np.round(rng.normal(y * 0.7) + first / 8, 1)
        assert ours(y, first, second) == pytest.approx(delong_in_r(y, first, second), rel=1e-9)


class Maps(NamedTuple):
    """The same study as boxes and as pixel maps (cases, 1, rows, columns)."""

    regions: Regions
    lesions: Lesions
    detection: np.ndarray
    truth: np.ndarray


def pixel_study(seed: int, n_cases: int = 12, cells: int = 3, side: int = 16) -> Maps:
    """A grid of cells in each image, kept apart by empty pixels: in a cell nothing, a lesion, a mark, or both.

    A mark on a lesion is shifted against it, so that the overlap is near the limit, or it is in two parts, of which the
    larger has the higher score: there PI-CAI's matching by overlap and ours by score agree.
    """
    rng = np.random.default_rng(seed)
    regions, lesions = [], []
    detection = np.zeros((n_cases, 1, cells * side, cells * side), np.float32)
    truth = np.zeros(detection.shape, np.int32)

    def mark(case: int, x: int, y: int, width: int, height: int, score: float) -> None:
        regions.append((case, score, (x, y, width, height)))
        detection[case, 0, y : y + height, x : x + width] = score

    for case in range(n_cases):
        for column in range(cells):
            for row in range(cells):
                kind = rng.choice(["nothing", "lesion", "mark", "both"], p=[0.5, 0.1, 0.2, 0.2] if case % 2 else
                                  [0.7, 0.0, 0.3, 0.0])  # fmt: skip
                x, y = side * column + 4, side * row + 4
                width, height = rng.integers(6, 8, 2)
                score = rng.integers(1, 20) / 64  # float32 holds it exactly
                if kind in ("lesion", "both"):
                    lesions.append((case, (x, y, width, height)))
                    truth[case, 0, y : y + height, x : x + width] = 1
                if kind == "both" and rng.random() < 0.3:
                    mark(case, x, y, width - 2, height, score)
                    mark(case, x + width - 1, y, 1, height, score / 2)
                elif kind in ("mark", "both"):
                    shift = rng.integers(-3, 4, 2)
                    mark(case, x + shift[0], y + shift[1], width, height, score)
    return Maps(
        Regions([r[0] for r in regions], [r[1] for r in regions], [r[2] for r in regions]),
        Lesions([m[0] for m in lesions], [m[1] for m in lesions]),
        detection,
        truth,
    )


@needs_package("picai_eval")
def test_froc_and_auc_equal_picai_eval_which_matches_pixel_maps() -> None:
    from picai_eval import evaluate

    found = []
    for seed in range(8):
        regions, lesions, detection, truth = pixel_study(seed)
        metrics: Any = evaluate(detection, truth, min_overlap=0.1, num_parallel_calls=1)
        froc = FrocStatistics(regions, lesions, len(truth), rule=IntersectionOverUnion(0.1))
        for false_positives in range(40):
            rate = false_positives / len(truth)
            value = froc.sensitivity_at_fp(rate)()
            # Rates and sensitivities of picai_eval have single precision.
            assert value == pytest.approx(metrics.lesion_TPR_at_FPR(rate + 1e-6), abs=1e-6)
            found.append(value)
        score = np.zeros(len(truth))
        np.maximum.at(score, regions.image, regions.score)
        diseased = truth.any(axis=(1, 2, 3))
        assert auc(diseased, score) == pytest.approx(metrics.auroc, abs=1e-12)
    assert len(set(found)) > 20


def ratings(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratings in RJafroc's form, -∞ for no mark: `nl` (k1 + k2, 4), normal cases first, and `ll` (k2, 3).

    Also how many lesions each of the k2 diseased cases has, which is how many columns of `ll` count.
    """
    rng = np.random.default_rng(seed)
    k1, k2 = rng.integers(1, 9, 2)
    nl = np.where(rng.random((k1 + k2, 4)) < 0.4, rng.integers(1, 9, (k1 + k2, 4)), -np.inf)
    ll = np.where(rng.random((k2, 3)) < 0.6, rng.integers(1, 9, (k2, 3)) + 2, -np.inf)
    return nl, ll, rng.integers(1, 4, k2)


def figure_of_merit(nl: np.ndarray, ll: np.ndarray, n_lesions: np.ndarray, *, weighted: bool, all_cases: bool) -> float:
    """RJafroc's wAFROC, AFROC (`weighted` no), wAFROC1 and AFROC1 (`all_cases`), as its manual defines them."""
    normal = len(nl) if all_cases else len(nl) - len(ll)
    total = 0.0
    for case in range(normal):
        highest = max(nl[case])
        for diseased in range(len(ll)):
            for lesion in range(n_lesions[diseased]):
                rating = ll[diseased, lesion]
                psi = 1.0 if highest < rating else 0.5 if highest == rating else 0.0
                total += psi / n_lesions[diseased] if weighted else psi
    return total / (normal * (len(ll) if weighted else n_lesions.sum()))


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 100_000), st.booleans(), st.booleans())
def test_afroc_areas_equal_rjafrocs_definitions_on_its_own_form_of_data(
    seed: int, weighted: bool, all_cases: bool
) -> None:
    nl, ll, n_lesions = ratings(seed)
    k1 = len(nl) - len(ll)
    regions = [(k, r, (500, 500, 4, 4)) for k in range(len(nl)) for r in nl[k] if r > -np.inf]
    lesions = []
    for diseased in range(len(ll)):
        for lesion in range(n_lesions[diseased]):
            place = (40 * lesion, 0, 10, 10)
            lesions.append((k1 + diseased, place))
            if ll[diseased, lesion] > -np.inf:
                regions.append((k1 + diseased, ll[diseased, lesion], place))
    froc = FrocStatistics(
        Regions([r[0] for r in regions], [r[1] for r in regions], [r[2] for r in regions]),
        Lesions([m[0] for m in lesions], [m[1] for m in lesions]),
        len(nl),
        rule=centre_in_lesion,
    )
    expected = figure_of_merit(nl, ll, n_lesions, weighted=weighted, all_cases=all_cases)
    assert froc.afroc_auc(weighted=weighted, all_cases=all_cases)() == pytest.approx(expected, abs=1e-12)
