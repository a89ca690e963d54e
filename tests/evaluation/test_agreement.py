"""Kappa equals scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from evaluation.agreement import confusion, quadratic_weighted_kappa
from evaluation.errors import InvalidInputError, NotComputableError


@pytest.mark.parametrize("seed", range(10))
def test_kappa_and_confusion_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 50)
    rating = np.clip(truth + rng.integers(-1, 2, 50), 0, 3)
    weight = rng.random(50)
    labels = [0, 1, 2, 3]
    for given in (None, weight):
        expected = metrics.cohen_kappa_score(truth, rating, weights="quadratic", labels=labels, sample_weight=given)
        assert quadratic_weighted_kappa(truth, rating, 4, given) == pytest.approx(expected, abs=1e-12)
        np.testing.assert_allclose(
            confusion(truth, rating, 4, given),
            metrics.confusion_matrix(truth, rating, labels=labels, sample_weight=given),
        )


def test_agreement_is_one_and_reversal_is_minus_one() -> None:
    truth = [0, 1, 2, 3]
    assert quadratic_weighted_kappa(truth, truth, 4) == 1.0
    assert quadratic_weighted_kappa(truth, truth[::-1], 4) == pytest.approx(-1.0)


def test_an_unused_category_does_not_change_kappa() -> None:
    truth, rating = [0, 1, 2, 1], [0, 2, 2, 1]
    assert quadratic_weighted_kappa(truth, rating, 7) == pytest.approx(quadratic_weighted_kappa(truth, rating, 3))


def test_ratings_off_the_scale_and_kappa_of_one_category_are_refused() -> None:
    for truth, rating in (([0, 4], [0, 1]), ([0, -1], [0, 1]), ([0, 1], [0, 0.5])):
        with pytest.raises(InvalidInputError, match="whole numbers from 0 to 3"):
            quadratic_weighted_kappa(truth, rating, 4)
    with pytest.raises(InvalidInputError, match="rating has 1 values"):
        confusion([0, 1], [0], 4)
    with pytest.raises(InvalidInputError, match="two categories"):
        confusion([0], [0], 1)
    with pytest.raises(NotComputableError, match="one and the same category"):
        quadratic_weighted_kappa([2, 2], [2, 2], 4)
