"""How good a recipe is on women that its networks never saw: every figure with its interval over women.

What can be measured on a data set follows from its truth: breasts with and without cancer give an AUC, marked lesions
a sensitivity at one false positive per image, density labels a kappa. Calibration is judged on the main data set, the
one with the most cancers among those that also hold breasts without.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from evaluation.agreement import quadratic_weighted_kappa_statistic
from evaluation.bootstrap import Statistic, cluster_bootstrap
from evaluation.calibration import calibration_slope_intercept, expected_observed_statistic
from evaluation.errors import NotComputableError
from evaluation.froc import FrocStatistics
from evaluation.intervals import Interval
from evaluation.roc import RocStatistics
from evaluation.statistic import difference
from screening.errors import ConfigError
from screening.model.bundle import Figure
from screening.model.calibration import Calibration
from screening.model.network import DENSITIES
from screening.result import ExamResult, Status
from training.calibrate import fit_calibration, fit_line, logits, screening_weights
from training.datasets.record import Record
from training.exams import image_id
from training.recipe import Recipe
from training.splits import Group, folds
from training.truth import Breasts, breasts, densities, localised

LOG = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

REPLICATES = 2_000
FALSE_POSITIVES = 1.0
"""Per image: where sensitivity is read off."""

FEWEST = 10
"""Breasts (or images) with cancer, and without, that a subgroup needs before its figure means anything."""


@dataclass(frozen=True)
class Target:
    """What a figure is held to: the range that passes, and the range aimed at (limits included)."""

    floor: tuple[float, float]
    aim: tuple[float, float]


_AT_LEAST = math.inf
TARGETS = {
    "rsna-breast-auc": Target((0.70, _AT_LEAST), (0.82, _AT_LEAST)),
    "rsna-auc-above-baseline": Target((0.0, _AT_LEAST), (0.0, _AT_LEAST)),
    "mias-malignant-at-1-fp": Target((0.60, _AT_LEAST), (0.85, _AT_LEAST)),
    "mias-any-at-1-fp": Target((0.55, _AT_LEAST), (0.75, _AT_LEAST)),
    "cesm-malignant-at-1-fp": Target((0.65, _AT_LEAST), (0.90, _AT_LEAST)),
    "rsna-density-kappa": Target((0.60, _AT_LEAST), (0.80, _AT_LEAST)),
    "rsna-calibration-slope": Target((0.8, 1.25), (0.95, 1.05)),
}
"""The project's own targets on the public sets, by figure; other data sets are measured without one."""

BY_ITS_INTERVAL = ("rsna-auc-above-baseline",)
"""Figures that pass only if their whole interval does."""


@dataclass(frozen=True)
class Measured:
    """One figure. `key`: short name, the same in every run; `title` and `data`: what it is and on what, in words."""

    key: str
    title: str
    data: str
    interval: Interval

    @property
    def target(self) -> Target | None:
        """What the figure is held to, if anything."""
        return TARGETS.get(self.key)

    @property
    def passed(self) -> bool | None:
        """Whether the floor is met; None where there is none."""
        if self.target is None:
            return None
        low, high = self.target.floor
        values = (self.interval.low,) if self.key in BY_ITS_INTERVAL else (self.interval.point,)
        return all(low <= value <= high for value in values)

    def card(self) -> Figure:
        """The figure as a bundle's card states it."""
        i = self.interval
        value, low, high = (round(number, 4) for number in (i.point, i.low, i.high))
        return Figure(figure=self.title, data=self.data, value=value, low=low, high=high)


@dataclass(frozen=True)
class Accuracy:
    """All figures of a cross-validation (or of one fold), its subgroups, and what has to be known about them."""

    figures: tuple[Measured, ...]
    subgroups: tuple[Measured, ...]
    notes: tuple[str, ...]

    def cards(self) -> list[Figure]:
        """Every figure for a bundle's card."""
        return [one.card() for one in (*self.figures, *self.subgroups)]


@dataclass(frozen=True)
class Study:
    """Results of held-out women beside what is known of all women.

    `results`: uncalibrated, each by a network that never saw the woman. `records`: of the whole recipe. `fold_of`: the
    fold in which a woman was held out. `judged_in`: for the women in `results`, groups for fitting the calibration on
    all but one and judging it on that one.
    """

    results: tuple[ExamResult, ...]
    records: tuple[Record, ...]
    recipe: Recipe
    fold_of: Mapping[Group, int]
    judged_in: Mapping[Group, int]

    @cached_property
    def by_image(self) -> dict[str, Record]:
        return {image_id(record): record for record in self.records}

    def breasts(self, dataset: str) -> Breasts:
        return breasts(self.results, self.by_image, dataset)

    def images(self, dataset: str) -> Breasts:
        """One row a scored image, instead of a breast, with its breast's truth."""
        rows = [
            (record, image.score)
            for result in self.results
            for image in result.images
            if (record := self.by_image[image.image.image_id]).dataset == dataset
            and record.malignant is not None
            and image.score is not None
        ]
        return Breasts(
            np.array([record.woman for record, _ in rows]),
            np.array([record.malignant for record, _ in rows], np.int64),
            np.array([score for _, score in rows], np.float64),
            tuple(record for record, _ in rows),
        )


def study(results: Sequence[ExamResult], records: Sequence[Record], recipe: Recipe, fold: int | None = None) -> Study:
    """Bring results and records together; `fold`: the results are of this fold's held-out women only.

    The calibration is then fitted and judged on fifths of these women, as no network of another fold has scored others.
    Raises `ConfigError` where the results hold an image that is not in the records.
    """
    known = {image_id(record) for record in records}
    unknown = {image.image.image_id for result in results for image in result.images} - known
    if unknown:
        raise ConfigError(
            f"the results hold {len(unknown)} images that the recipe's data do not, such as {min(unknown)}"
        )
    split = folds(records, recipe.folds, recipe.seed, recipe.train_only)
    fold_of = _fold_of(one.test for one in split)
    judged_in = fold_of if fold is None else _fold_of(one.test for one in folds(split[fold].test, 5, recipe.seed))
    return Study(tuple(results), tuple(records), recipe, fold_of, judged_in)


def of_fold(whole: Study, fold: int) -> Study:
    """The part of a study that the network of one fold scored."""

    def scored_in(result: ExamResult) -> int:
        return whole.fold_of[whole.by_image[result.images[0].image.image_id].group]

    results = [result for result in whole.results if scored_in(result) == fold]
    return study(results, whole.records, whole.recipe, fold)


def _fold_of(tested: Iterable[Sequence[Record]]) -> dict[Group, int]:
    return {record.group: k for k, test in enumerate(tested) for record in test}


def measure(study: Study) -> Accuracy:
    """Every figure that the data sets' truth allows. Raises `ConfigError` if there is none."""
    names = [source.name for source in study.recipe.data]
    found = [one for name in names for one in (*_auc(study, name), *_localisation(study, name), *_density(study, name))]
    main = main_dataset(study)
    found += _calibration(study, main)
    subgroups = list(_subgroups(study, main))
    notes = (*_notes(study), *_left_out(main, subgroups))
    return Accuracy(tuple(found), tuple(_measured(study, main, subgroups)), notes)


def main_dataset(study: Study) -> str:
    """The data set that calibrates the model: the most cancers, of those with breasts of both kinds in the results.

    Raises `ConfigError` if there is none.
    """
    counts = {
        source.name: Counter(study.breasts(source.name).malignant.tolist())
        for source in study.recipe.data
        if not source.places_only
    }
    fit = {name: count[1] for name, count in counts.items() if min(count[0], count[1]) >= 2}
    if not fit:
        raise ConfigError("data: no data set of the recipe holds breasts with and without cancer to calibrate on")
    return max(fit, key=lambda name: fit[name])


def calibrate(study: Study) -> Calibration:
    """The calibration, categories and operating points that the main data set's held-out women give."""
    name = main_dataset(study)
    own = study.breasts(name)
    return fit_calibration(
        own.malignant,
        logits(own.score),
        _normal_exams(study, own),
        _normal_images(study, name),
        study.recipe.prevalence,
        f"{name} ({_medium(study, name)}), out of fold",
    )


def _normal_exams(study: Study, own: Breasts) -> FloatArray:
    """Logit of the higher breast, for each exam that shows both, of the women in `own` who have no cancer anywhere."""
    ill = {record.group for record in study.records if record.malignant}
    exams: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record, logit in zip(own.record, logits(own.score).tolist(), strict=True):
        if record.group not in ill:
            exams[record.woman, record.exam].append(logit)
    return np.array([max(both) for both in exams.values() if len(both) == 2], np.float64)


def _normal_images(study: Study, dataset: str) -> list[FloatArray]:
    """Logits of all regions, for each scored image of a breast without cancer."""
    by_image = study.by_image
    return [
        logits([region.score for region in image.regions])
        for result in study.results
        for image in result.images
        if image.status is Status.SCORED
        and by_image[image.image.image_id].dataset == dataset
        and by_image[image.image.image_id].malignant is False
    ]


def _auc(study: Study, dataset: str) -> Iterator[Measured]:
    """Breast AUC, and where age or machine are known what these alone give."""
    own = study.breasts(dataset)
    if len(set(own.malignant.tolist())) < 2:
        return
    area = RocStatistics(own.malignant, own.score).auc()
    statistics = {"breast-auc": area}
    titles = {"breast-auc": "breast-level AUC"}
    if any(record.age is not None or record.machine for record in own.record):
        baseline = RocStatistics(own.malignant, age_and_machine(study, own)).auc()
        statistics |= {"baseline-auc": baseline, "auc-above-baseline": difference(area, baseline)}
        titles |= {
            "baseline-auc": "breast-level AUC of age and machine alone (logistic regression, same folds)",
            "auc-above-baseline": "breast-level AUC minus that of age and machine alone (paired)",
        }
    for key, interval in _intervals(study, dataset, statistics, own.woman):
        yield Measured(f"{dataset}-{key}", titles[key], _data(own, study), interval)


def _intervals(
    study: Study,
    what: str,
    statistics: Mapping[str, Statistic],
    woman: npt.NDArray[np.str_],
    weight: FloatArray | None = None,
) -> Iterator[tuple[str, Interval]]:
    """The figures with their intervals; one that has no value on these data is named in the log and left out."""
    for key, statistic in statistics.items():
        try:
            interval = cluster_bootstrap(statistic, woman, seed=study.recipe.seed, replicates=REPLICATES, weight=weight)
        except NotComputableError as error:
            LOG.warning("%s-%s is left out: %s", what, key, error)
        else:
            yield key, interval


def age_and_machine(study: Study, rows: Breasts) -> FloatArray:
    """Probability of cancer (n,) of each breast in `rows` from the woman's age and the machine alone, out of fold."""
    dataset = rows.record[0].dataset
    known = {r.breast: r for r in study.records if r.dataset == dataset and r.malignant is not None}
    everybody = list(known.values())
    fold = np.array([study.fold_of[record.group] for record in everybody])
    truth = np.array([bool(record.malignant) for record in everybody])
    wanted = np.array([study.fold_of[record.group] for record in rows.record])
    features, asked = _age_and_machine(everybody), _age_and_machine(rows.record)
    probability = np.zeros(len(rows.record))
    for k in np.unique(wanted):
        model = make_pipeline(
            make_column_transformer(
                (make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), [0]),
                (OneHotEncoder(handle_unknown="ignore"), [1]),
            ),
            LogisticRegression(max_iter=1000),
        )
        model.fit(features[fold != k], truth[fold != k])
        probability[wanted == k] = model.predict_proba(asked[wanted == k])[:, 1]
    return probability


def _age_and_machine(records: Sequence[Record]) -> npt.NDArray[np.object_]:
    return np.array([(math.nan if r.age is None else r.age, r.machine) for r in records], dtype=np.object_)


def _localisation(study: Study, dataset: str) -> Iterator[Measured]:
    """Sensitivity at one false positive per image for malignant lesions, and for all where some are benign."""
    any_lesion = localised(study.results, study.by_image, dataset, malignant_only=False)
    malignant = localised(study.results, study.by_image, dataset, malignant_only=True)
    kinds = [("malignant", malignant)]
    if not malignant.lesions.target.all():
        kinds.append(("any", any_lesion))
    for kind, found in kinds:
        targets = int(found.lesions.target.sum())
        if not targets:
            continue
        statistic = FrocStatistics(found.regions, found.lesions, found.n_images).sensitivity_at_fp(FALSE_POSITIVES)
        women = len(set(found.woman.tolist()))
        lesions = f"{targets} {'malignant ' if kind == 'malignant' else ''}lesions"
        title = f"sensitivity for {kind} lesions at 1 false positive per image (centre in lesion, over all images)"
        data = f"{dataset} ({_medium(study, dataset)}): {found.n_images} images of {women} women, {lesions}"
        for key, interval in _intervals(study, dataset, {f"{kind}-at-1-fp": statistic}, found.woman):
            yield Measured(f"{dataset}-{key}", title, data, interval)


def _density(study: Study, dataset: str) -> Iterator[Measured]:
    found = densities(study.results, study.by_image, dataset)
    if len(set(found.truth.tolist())) < 2:
        return
    statistic = quadratic_weighted_kappa_statistic(found.truth, found.model, len(DENSITIES))
    women = len(set(found.woman.tolist()))
    data = f"{dataset} ({_medium(study, dataset)}): {len(found.truth)} images of {women} women with a label"
    for key, interval in _intervals(study, dataset, {"density-kappa": statistic}, found.woman):
        yield Measured(f"{dataset}-{key}", "breast density, quadratic weighted kappa", data, interval)


def _calibration(study: Study, dataset: str) -> Iterator[Measured]:
    """Slope and expected/observed at screening prevalence, each breast judged by a fit on other women."""
    own = study.breasts(dataset)
    probability = held_out_probability(study, own)
    statistics: dict[str, Statistic] = {
        "calibration-slope": lambda w: calibration_slope_intercept(own.malignant, probability, w).slope,
        "expected-observed": expected_observed_statistic(own.malignant, probability),
    }
    prevalence = study.recipe.prevalence
    data = f"{_data(own, study)}, weighted to {prevalence:.1%} with cancer"
    titles = {
        "calibration-slope": f"calibration slope after the shift to {prevalence:.1%} prevalence",
        "expected-observed": f"expected/observed cancers after the shift to {prevalence:.1%} prevalence",
    }
    weight = screening_weights(own.malignant, prevalence)
    for key, interval in _intervals(study, dataset, statistics, own.woman, weight):
        yield Measured(f"{dataset}-{key}", titles[key], data, interval)


def held_out_probability(study: Study, own: Breasts) -> FloatArray:
    """Calibrated probability (n,) of each breast, by a calibration fitted on the women of all other groups."""
    logit = logits(own.score)
    group = np.array([study.judged_in[record.group] for record in own.record])
    probability = np.zeros(len(logit))
    for k in np.unique(group):
        line = fit_line(own.malignant[group != k], logit[group != k], study.recipe.prevalence)
        probability[group == k] = line(logit[group == k])
    return probability


@dataclass(frozen=True)
class _Subgroup:
    """Some breasts, or images, that have `label` in common. `unit`: "breast" or "image"."""

    label: str
    unit: str
    rows: Breasts

    @property
    def size(self) -> str:
        return f"{len(self.rows.malignant)} {self.unit}s, {int(self.rows.malignant.sum())} with cancer"

    @property
    def suffices(self) -> bool:
        positives = int(self.rows.malignant.sum())
        return min(positives, len(self.rows.malignant) - positives) >= FEWEST


def _subgroups(study: Study, dataset: str) -> Iterator[_Subgroup]:
    """The breasts of a data set by what is known of them, and its images by view."""
    for unit, rows in (("breast", study.breasts(dataset)), ("image", study.images(dataset))):
        labels = [_labels(record, unit) for record in rows.record]
        for label in sorted({one for some in labels for one in some}):
            inside = [i for i, some in enumerate(labels) if label in some]
            part = Breasts(
                rows.woman[inside], rows.malignant[inside], rows.score[inside], tuple(rows.record[i] for i in inside)
            )
            yield _Subgroup(label, unit, part)


def _labels(record: Record, unit: str) -> set[str]:
    """The subgroups that a record's breast, or its image, belongs to."""
    if unit == "image":
        return {f"{record.view.value} images"}
    labels = {f"density {record.density or 'unknown'}", f"age {age_band(record.age)}"}
    if record.machine:
        labels.add(f"machine {record.machine}")
    if record.implant:
        labels.add("with implant")
    return labels


def _measured(study: Study, dataset: str, subgroups: Iterable[_Subgroup]) -> Iterator[Measured]:
    """The AUC in each subgroup that is large enough."""
    for one in subgroups:
        if one.suffices:
            area = {f"{one.unit}-auc-{one.label}": RocStatistics(one.rows.malignant, one.rows.score).auc()}
            for key, interval in _intervals(study, dataset, area, one.rows.woman):
                title = f"{one.unit}-level AUC, {one.label}"
                yield Measured(f"{dataset}-{key}", title, f"{dataset}: {one.size}", interval)


def _left_out(dataset: str, subgroups: Iterable[_Subgroup]) -> Iterator[str]:
    """A note that names the subgroups that are too small for a figure."""
    small = [f"{one.label} ({one.size})" for one in subgroups if not one.suffices]
    if small:
        yield f"{dataset}: subgroups too small for a figure of their own: {'; '.join(small)}."


def age_band(age: float | None) -> str:
    """The decade that screening programmes report by."""
    if age is None:
        return "unknown"
    for limit, band in ((50, "49 and below"), (60, "50–59"), (70, "60–69")):
        if age < limit:
            return band
    return "70 and above"


def _notes(study: Study) -> Iterator[str]:
    by_image = study.by_image
    read = {image.image.image_id: image for result in study.results for image in result.images}
    for source in study.recipe.data:
        own = [name for name in read if by_image[name].dataset == source.name]
        unread = sum(read[name].status is not Status.SCORED for name in own)
        unplaced = [name for name in own if by_image[name].lesions is None]
        if unread:
            yield f"{source.name}: {unread} of {len(own)} images could not be scored."
        if 0 < len(unplaced) < len(own):
            yield (
                f"{source.name}: {len(unplaced)} images with a lesion of unknown place are in no localisation figure."
            )


def _data(own: Breasts, study: Study) -> str:
    name = own.record[0].dataset
    women = len(set(own.woman.tolist()))
    cancers = int(own.malignant.sum())
    medium = _medium(study, name)
    return f"{name} ({medium}): {len(own.malignant)} breasts of {women} women, {cancers} with cancer, out of fold"


def _medium(study: Study, dataset: str) -> str:
    return " and ".join(sorted({r.medium for r in study.records if r.dataset == dataset}))


def rich_table(accuracy: Accuracy) -> Table:
    """The figures with their targets, for a terminal."""
    table = Table(title="Out of fold, 95 % intervals by bootstrap over women")
    for column in ("figure", "data", "value", "95 % interval", "floor", "aim", ""):
        table.add_column(column, justify="right" if column in ("value", "floor", "aim") else "left")
    for one in accuracy.figures:
        i, target = one.interval, one.target
        floor, aim = (shown_range(target.floor), shown_range(target.aim)) if target else ("", "")
        verdict = {None: "", True: "[green]passed[/]", False: "[red]missed[/]"}[one.passed]
        table.add_row(one.title, one.data, f"{i.point:.3f}", f"{i.low:.3f}–{i.high:.3f}", floor, aim, verdict)
    return table


def shown_range(limits: tuple[float, float]) -> str:
    """A range for people: `≥ 0.70` or `0.80–1.25`."""
    low, high = limits
    return f"≥ {low:.2f}" if math.isinf(high) else f"{low:.2f}–{high:.2f}"


def write_figures(accuracy: Accuracy, file: Path) -> None:
    """Write the figures as JSON for programs."""

    def row(one: Measured) -> dict[str, object]:
        i = one.interval
        return {
            "key": one.key,
            "figure": one.title,
            "data": one.data,
            "value": i.point,
            "low": i.low,
            "high": i.high,
            "method": i.method,
            "replicates": i.replicates,
            "women": i.n_clusters,
            "passed": one.passed,
        }

    content = {
        "figures": [row(one) for one in accuracy.figures],
        "subgroups": [row(one) for one in accuracy.subgroups],
        "notes": list(accuracy.notes),
    }
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
