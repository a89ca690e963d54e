"""What every pure figure has in common: one list of figures through one list of laws.

A figure takes a study and weights of its exams, and gives its values; a sentence stands for one that is undefined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pytest

from evaluation.agreement import quadratic_weighted_kappa
from evaluation.biopsy import avoided_at
from evaluation.calibration import calibration_slope_intercept, expected_observed, fit_platt, reliability_bins
from evaluation.dbtex import DbtexSet, DbtexStatistics
from evaluation.errors import InvalidInputError, MetricError, NotComputableError
from evaluation.froc import FrocStatistics
from evaluation.hits import Lesions, Regions, centre_in_lesion
from evaluation.mlroc import MlrocStatistics, localised_cases, mlroc_area
from evaluation.operating_point import threshold_at_recall_rate, threshold_at_sensitivity, threshold_at_specificity
from evaluation.programme import model_rates, programme_rates
from evaluation.protocol import Uncertainty
from evaluation.rates import Cells, Rate
from evaluation.reading import low_name, lowest, strategies, strategy_rates, top_name
from evaluation.roc import (
    auc,
    partial_auc,
    roc_curve,
    sensitivity_at_recall_rate,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from evaluation.statistic import SumStatistic
from screening.errors import ScreeningError

SEEDS = range(4)
N_EXAMS = 24

Values: TypeAlias = list[float | str]
OfCases: TypeAlias = Callable[..., float]


@dataclass(frozen=True, eq=False)
class Study:
    """Exams of two images each, image i of exam i // 2: outcomes, scores, decisions, regions and lesions."""

    y: np.ndarray
    score: np.ndarray
    said: dict[str, np.ndarray]
    region_image: np.ndarray
    region_score: np.ndarray
    region_box: np.ndarray
    region_slice: np.ndarray
    lesion_image: np.ndarray
    lesion_box: np.ndarray
    lesion_slice: np.ndarray
    target: np.ndarray

    def take(self, exams: np.ndarray) -> Study:
        """The given exams, each as often as it is given, and their images; rows of regions and lesions reversed."""

        def images(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            pairs = [(row, 2 * new + image[row] % 2) for new, old in enumerate(exams)
                     for row in np.flatnonzero(image // 2 == old)]  # fmt: skip
            return np.array([p[0] for p in pairs[::-1]], int), np.array([p[1] for p in pairs[::-1]], int)

        r, region_image = images(self.region_image)
        m, lesion_image = images(self.lesion_image)
        return Study(
            self.y[exams],
            self.score[exams],
            {name: column[exams] for name, column in self.said.items()},
            region_image,
            self.region_score[r],
            self.region_box[r],
            self.region_slice[r],
            lesion_image,
            self.lesion_box[m],
            self.lesion_slice[m],
            self.target[m],
        )

    def with_regions(self, rows: np.ndarray) -> Study:
        return replace(self, **{name: getattr(self, name)[rows] for name in vars(self) if name.startswith("region")})

    def without_lesions(self) -> Study:
        fields = {name: getattr(self, name)[:0] for name in vars(self) if name.startswith("lesion")}
        return replace(self, **fields, target=self.target[:0])

    def map_scores(self, function: Callable[[np.ndarray], np.ndarray]) -> Study:
        return replace(self, score=function(self.score), region_score=function(self.region_score))

    @property
    def regions(self) -> Regions:
        return Regions(self.region_image, self.region_score, self.region_box)

    @property
    def lesions(self) -> Lesions:
        return Lesions(self.lesion_image, self.lesion_box, target=self.target)

    @property
    def exam_of_image(self) -> np.ndarray:
        return np.arange(2 * len(self.y)) // 2


@cache
def study(seed: int) -> Study:
    """Both classes, ties, lesions in places apart, regions on them and elsewhere; scores are multiples of 1/32."""
    rng = np.random.default_rng(seed)
    n = N_EXAMS
    y = np.append([0, 1, 0, 1], rng.integers(0, 2, n - 4)).astype(float)
    score = np.append([2, 9, 31, 1], rng.integers(1, 32, n - 4)) / 32
    said = {name: rng.random(n) < 0.3 + 0.4 * y for name in ("reader1", "reader2")}
    said["recalled"] = np.where(said["reader1"] == said["reader2"], said["reader1"], rng.random(n) < 0.5)
    said |= {name: rng.random(n) < 0.7 for name in ("first_year", "biopsied", "round_known")}
    places = [(column, row) for column in (0, 40, 80) for row in (0, 40)]
    lesions = [
        (image, places[place])
        for image in range(2 * n)
        for place in rng.permutation(6)[: rng.integers(1, 3) if y[image // 2] else rng.random() < 0.2]
    ]
    lesion_image = np.array([image for image, _ in lesions])
    lesion_box = np.array([(*place, 12, 12) for _, place in lesions])
    hit = np.flatnonzero(rng.random(len(lesions)) < 0.6)
    offset = np.column_stack([rng.integers(-3, 4, (len(hit), 2)), np.zeros((len(hit), 2), int)])
    far = rng.integers(0, 2 * n, 40)
    far_box = np.column_stack([rng.integers(0, 90, 40), rng.integers(500, 590, 40), np.full((40, 2), 12)])
    region_image = np.append(lesion_image[hit], far)
    lesion_slice = rng.random(len(lesions)) * 30
    near = lesion_slice[hit] + rng.random(len(hit)) * 4 - 2
    return Study(
        y,
        score,
        said,
        region_image,
        rng.integers(1, 32, len(region_image)) / 32,
        np.concatenate([lesion_box[hit] + offset, far_box]),
        np.append(near, rng.random(len(far)) * 30),
        lesion_image,
        lesion_box,
        lesion_slice,
        y[lesion_image // 2] == 1,
    )


def tell(figure: Callable[..., float], *arguments: object) -> float | str:
    """The value, or the sentence why there is none."""
    try:
        return figure(*arguments)
    except NotComputableError as error:
        return str(error)


@dataclass(frozen=True)
class Figure:
    """A figure and what holds of it: `by_rank`: only the order of scores matters; `both_classes`: needs positives and
    negatives; `marks`: is made of regions, `needs_lesions` and of lesions."""

    of: Callable[[Study, np.ndarray | None], Values]
    by_rank: bool = False
    both_classes: bool = False
    marks: bool = False
    needs_lesions: bool = False


def of_cases(figure: OfCases, **laws: bool) -> Figure:
    """A figure on outcomes, scores and weights."""
    return Figure(lambda study, weight: [tell(figure, study.y, study.score, weight)], **laws)


def of_images(
    make: Callable[[FrocStatistics], list[SumStatistic]], *, needs_lesions: bool = True, **options: Any
) -> Figure:
    """FROC figures; `options` are those of `FrocStatistics`."""

    def values(study: Study, weight: np.ndarray | None) -> Values:
        exam = study.exam_of_image
        froc = FrocStatistics(study.regions, study.lesions, len(exam), case=exam, **options)
        return [tell(one, None if weight is None else weight[exam]) for one in make(froc)]

    return Figure(values, by_rank=True, marks=True, needs_lesions=needs_lesions)


def sensitivities(froc: FrocStatistics) -> list[SumStatistic]:
    return [
        *(froc.sensitivity_at_fp(rate) for rate in (0.1, 0.3, 1.0)),
        froc.mean_sensitivity_at_fp([0.25, 0.5], interpolate=True),
    ]


def froc_curve(study: Study, weight: np.ndarray | None) -> Values:
    exam = study.exam_of_image
    froc = FrocStatistics(study.regions, study.lesions, len(exam))

    def area(weight: np.ndarray | None) -> float:
        curve = froc.curve(weight)
        return float(np.trapezoid(curve.sensitivity, curve.fp_rate))

    return [tell(area, None if weight is None else weight[exam])]


def froc_threshold(study: Study, weight: np.ndarray | None) -> Values:
    exam = study.exam_of_image
    froc = FrocStatistics(study.regions, study.lesions, len(exam))
    weight = None if weight is None else weight[exam]
    threshold = tell(froc.threshold_at_fp, 0.2, weight)
    return [threshold, threshold if isinstance(threshold, str) else tell(froc.sensitivity_at(threshold), weight)]


def dbtex(study: Study, weight: np.ndarray | None) -> Values:
    exam = study.exam_of_image
    data = DbtexSet(exam, np.full(len(exam), 30), study.regions, study.region_slice, study.lesions, study.lesion_slice)
    statistics = DbtexStatistics(data)
    wanted = [statistics.mean_sensitivity([0.2, 0.5, 1.0]), statistics.mean_sensitivity([0.3], volumes="all")]
    return [tell(one, None if weight is None else weight[exam]) for one in wanted]


def localised(study: Study) -> np.ndarray:
    return localised_cases(study.regions, study.lesions, study.exam_of_image, len(study.y), centre_in_lesion, marks=20)


def mlroc(study: Study, weight: np.ndarray | None) -> Values:
    found = localised(study)

    def reached() -> float:
        return float(MlrocStatistics(study.y, study.score, found).curve(weight).tpr[-1])

    return [tell(mlroc_area, study.y, study.score, found, limit, weight) for limit in (0.1, 0.5, 1.0)] + [tell(reached)]


def over_cells(rates: Callable[[dict[str, Any]], dict[str, Rate]], columns: dict[str, Any], weight: Any) -> Values:
    cells = Cells.of(columns)
    return [tell(cells.statistic(one), weight) for one in rates(dict(cells.columns)).values()]


def called(study: Study, weight: np.ndarray | None) -> Any:
    return study.score >= threshold_at_recall_rate(study.score, 0.4, weight)


def programme(study: Study, weight: np.ndarray | None) -> Values:
    said, recalled = study.said, study.said["recalled"]
    columns = {
        **said,
        "screen_detected": study.y * recalled,
        "interval": study.y * ~recalled,
        "biopsy_malignant": study.y * said["biopsied"],
        "workup_known": np.ones(len(study.y)),
        "year_known": said["round_known"],
    }
    return over_cells(programme_rates, columns, weight)


def model(study: Study, weight: np.ndarray | None) -> Values:
    recalled = study.said["recalled"]
    by_model = called(study, weight)
    columns = {
        "screen_detected": study.y * recalled,
        "interval": study.y * ~recalled,
        "round_known": study.said["round_known"],
        "scored": np.ones(len(study.y)),
        "called": by_model,
        "called_side": by_model & study.said["first_year"],
    }
    return over_cells(model_rates, columns, weight)


def reading(study: Study, weight: np.ndarray | None) -> Values:
    """All rates of all ways of reading."""
    columns = {**study.said, "positive": study.y, "interval": study.y * ~study.said["recalled"]}
    columns["called"] = called(study, weight)
    columns |= {low_name(share): lowest(study.score, share, weight) for share in (0.5, 0.7)}
    columns[top_name(0.1)] = study.score >= threshold_at_recall_rate(study.score, 0.1, weight)

    def rates(cells: dict[str, Any]) -> dict[str, Rate]:
        ways = {one.key: strategy_rates(one, cells, cells) for one in strategies(net=0.1)}
        return {f"{key} {name}": rate for key, way in ways.items() for name, rate in way.items()}

    return over_cells(rates, columns, weight)


def biopsies(study: Study, weight: np.ndarray | None) -> Values:
    cut = tell(threshold_at_sensitivity, study.y, study.score, 0.9, weight)
    if isinstance(cut, str):
        return [cut]
    women = np.arange(len(study.y))
    found = avoided_at(cut, study.score, study.y, women, weight, Uncertainty(replicates=20))
    return [one if isinstance(one, str) else one.point for one in (found.avoided, found.sensitivity)]


RANKED = {"by_rank": True, "both_classes": True}
FIGURES: dict[str, Figure] = {
    "auc": of_cases(auc, **RANKED),
    "partial_auc": of_cases(lambda y, s, w=None: partial_auc(y, s, 0.3, w), **RANKED),
    "sensitivity_at_specificity": of_cases(lambda y, s, w=None: sensitivity_at_specificity(y, s, 0.8, w), **RANKED),
    "specificity_at_sensitivity": of_cases(lambda y, s, w=None: specificity_at_sensitivity(y, s, 0.8, w), **RANKED),
    "sensitivity_at_recall_rate": of_cases(lambda y, s, w=None: sensitivity_at_recall_rate(y, s, 0.3, w), **RANKED),
    "roc_curve": of_cases(lambda y, s, w=None: float(np.trapezoid((c := roc_curve(y, s, w)).tpr, c.fpr)), **RANKED),
    "mlroc": Figure(mlroc, marks=True, **RANKED),
    "calibration_slope": of_cases(lambda y, s, w=None: calibration_slope_intercept(y, s, w).slope, both_classes=True),
    "calibration_in_the_large": of_cases(
        lambda y, s, w=None: calibration_slope_intercept(y, s, w).in_the_large, both_classes=True
    ),
    "platt": of_cases(lambda y, s, w=None: fit_platt(y, s, w, smooth=False).slope, both_classes=True),
    "expected_observed": of_cases(expected_observed),
    "reliability": of_cases(lambda y, s, w=None: float(reliability_bins(y, s, 4, "uniform", w).observed[0])),
    "kappa": of_cases(lambda y, s, w=None: quadratic_weighted_kappa(y, np.floor(4 * np.asarray(s)), 4, w)),
    "threshold_at_specificity": of_cases(lambda y, s, w=None: threshold_at_specificity(y, s, 0.8, w)),
    "threshold_at_sensitivity": of_cases(lambda y, s, w=None: threshold_at_sensitivity(y, s, 0.8, w)),
    "threshold_at_recall_rate": of_cases(lambda y, s, w=None: threshold_at_recall_rate(s, 0.3, w)),
    "froc, lesions": of_images(sensitivities),
    "froc, any view, normal images": of_images(sensitivities, level="case-any-view", denominator="normal"),
    "froc, all views, per exam": of_images(
        sensitivities, level="case-all-views", denominator="with-lesion", per="case"
    ),
    "froc, benign ignored": of_images(sensitivities, others="ignore"),
    "froc_curve": Figure(froc_curve, by_rank=True, marks=True, needs_lesions=True),
    "froc_threshold": Figure(froc_threshold, marks=True),
    "afroc": of_images(lambda f: [f.afroc_auc(weighted=w, all_cases=a) for w in (True, False) for a in (True, False)]),
    "dbtex": Figure(dbtex, by_rank=True, marks=True, needs_lesions=True),
    "programme": Figure(programme),
    "model": Figure(model, by_rank=True),
    "biopsies": Figure(biopsies, by_rank=True),
    "reading": Figure(reading, by_rank=True),
}


def having(**laws: bool) -> pytest.MarkDecorator:
    """The figures of which the given laws hold."""
    chosen = {
        name: one for name, one in FIGURES.items() if all(getattr(one, law) == holds for law, holds in laws.items())
    }
    return pytest.mark.parametrize("figure", chosen.values(), ids=chosen)


def same(found: Values, expected: Values) -> bool:
    """Equal values but for rounding, and equal sentences."""
    return len(found) == len(expected) and all(
        a == b if isinstance(a, str) or isinstance(b, str) else a == pytest.approx(b, rel=1e-7, abs=1e-9)
        for a, b in zip(found, expected, strict=True)
    )


def said_why(values: Values) -> bool:
    """Every value is a number, or a sentence; never NaN."""
    return all(one.endswith(".") if isinstance(one, str) else not np.isnan(one) for one in values)


@having()
def test_every_figure_has_a_value_on_a_study_with_everything(figure: Figure) -> None:
    for one in zip(*(figure.of(study(seed), None) for seed in SEEDS), strict=True):
        assert any(isinstance(value, float) for value in one)


@having()
def test_order_of_exams_images_and_marks_does_not_matter(figure: Figure) -> None:
    for seed in SEEDS:
        plain = study(seed)
        order = np.random.default_rng(seed).permutation(N_EXAMS)
        assert same(figure.of(plain.take(order), None), figure.of(plain, None))


@having()
def test_weights_of_one_equal_no_weights(figure: Figure) -> None:
    for seed in SEEDS:
        assert figure.of(study(seed), np.ones(N_EXAMS)) == figure.of(study(seed), None)


@having()
def test_whole_weights_equal_copies_of_the_exams(figure: Figure) -> None:
    for seed in SEEDS:
        weight = np.append([1, 1, 1, 1], np.random.default_rng(seed).integers(0, 4, N_EXAMS - 4))
        copies = study(seed).take(np.repeat(np.arange(N_EXAMS), weight))
        assert same(figure.of(study(seed), weight), figure.of(copies, None))


@having()
def test_replicating_every_woman_and_scaling_all_weights_change_nothing(figure: Figure) -> None:
    for seed in SEEDS:
        plain = study(seed)
        assert same(figure.of(plain.take(np.tile(np.arange(N_EXAMS), 3)), None), figure.of(plain, None))
        weight = np.random.default_rng(seed).random(N_EXAMS) + 0.1
        assert same(figure.of(plain, 7.3 * weight), figure.of(plain, weight))


@having(by_rank=True)
def test_only_the_order_of_scores_matters(figure: Figure) -> None:
    for seed in SEEDS:
        plain = study(seed)
        for transform in (np.log, lambda score: score**3 - 5, lambda score: np.exp(20 * score)):
            assert figure.of(plain.map_scores(transform), None) == figure.of(plain, None)


@having(marks=True)
def test_a_mark_on_a_lesion_given_twice_counts_once(figure: Figure) -> None:
    for seed in SEEDS:
        plain = study(seed)
        marks = np.arange(len(plain.region_score))
        on_target = (plain.region_box[:, 1] < 500) & (plain.y[plain.region_image // 2] == 1)
        repeated = plain.with_regions(np.concatenate([marks, marks[on_target], marks[on_target]]))
        assert same(figure.of(repeated, None), figure.of(plain, None))


@having(needs_lesions=True)
def test_without_lesions_there_is_a_sentence(figure: Figure) -> None:
    values = figure.of(study(0).without_lesions(), None)
    assert all(isinstance(value, str) for value in values)
    assert said_why(values)


@having(marks=True)
def test_without_marks_nothing_is_found_and_nothing_is_nan(figure: Figure) -> None:
    values = figure.of(study(0).with_regions(np.arange(0)), None)
    assert said_why(values)
    assert all(value in (0.0, 0.5) for value in values)  # 0.5: an AFROC area where nobody marks anything


@having(both_classes=True)
def test_one_class_is_refused_where_a_figure_needs_both(figure: Figure) -> None:
    for outcome in (0, 1):
        values = figure.of(study(0).take(np.flatnonzero(study(0).y == outcome)), None)
        assert all(isinstance(value, str) for value in values)
        assert said_why(values)
    weight = (study(0).y == 1).astype(float)
    assert all(isinstance(value, str) for value in figure.of(study(0), weight))


@having()
def test_one_class_and_equal_scores_give_numbers_or_sentences_but_never_nan(figure: Figure) -> None:
    plain = study(0)
    for outcome in (0, 1):
        assert said_why(figure.of(plain.take(np.flatnonzero(plain.y == outcome)), None))
    assert said_why(figure.of(plain.map_scores(lambda score: np.full(len(score), 0.5)), None))


@having()
def test_nan_is_refused_with_the_projects_error(figure: Figure) -> None:
    spoilt = study(0).map_scores(lambda score: np.where(np.arange(len(score)) == 1, np.nan, score))
    spoilt = replace(spoilt, y=np.where(np.arange(N_EXAMS) == 0, np.nan, spoilt.y))
    with pytest.raises(InvalidInputError) as error:
        figure.of(spoilt, None)
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, ScreeningError)
    assert str(error.value).endswith(".")


@having()
def test_weights_without_meaning_are_refused(figure: Figure) -> None:
    for wrong in (-1.0, np.nan, np.inf):
        weight = np.append(np.ones(N_EXAMS - 1), wrong)
        with pytest.raises(InvalidInputError, match="weight"):
            figure.of(study(0), weight)


def test_equal_scores_carry_no_information() -> None:
    y, score = [0, 1, 0, 1], [0.5] * 4
    assert auc(y, score) == 0.5
    assert partial_auc(y, score, 0.2, standardise=True) == pytest.approx(0.5)
    assert sensitivity_at_specificity(y, score, 0.9) == 0.0
    assert sensitivity_at_recall_rate(y, score, 0.9) == 0.0
    assert specificity_at_sensitivity(y, score, 0.1) == 0.0


@pytest.mark.parametrize("figure", [auc, expected_observed, roc_curve, reliability_bins, calibration_slope_intercept])
def test_no_cases_and_unequal_lengths_are_refused_with_the_projects_error(figure: Callable[..., object]) -> None:
    for y, score in (([], []), ([0, 1], [0.2]), ([[0, 1]], [[0.1, 0.2]])):
        with pytest.raises(MetricError) as error:
            figure(y, score)
        assert str(error.value).endswith(".")
