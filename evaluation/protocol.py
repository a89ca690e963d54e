"""A named protocol: what counts as a cancer of an exam, where a mark hits, and how the figures are taken."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from evaluation.bootstrap import Method
from evaluation.errors import InvalidInputError
from evaluation.froc import Denominator, Level
from evaluation.hits import HitRule, OtherLesions, hit_rule
from screening.configs import config_dir
from screening.errors import ConfigError


class Outcome(StrEnum):
    """What became of an exam, or of one breast of it, under a protocol. Every exam has exactly one outcome."""

    SCREEN_DETECTED = "screen-detected"
    INTERVAL = "interval"
    NEXT_ROUND = "next-round"
    LATER_CANCER = "later-cancer"  # in the window, but none of the above: say, an interval cancer of the next round
    NEGATIVE = "negative"
    INSUFFICIENT_FOLLOW_UP = "insufficient-follow-up"
    OTHER_CANCER = "other-cancer"  # too late to be a positive of the protocol, too early for a negative
    AFTER_DIAGNOSIS = "after-diagnosis"  # the woman already had a malignant diagnosis before this exam
    NOT_READ_NEGATIVE = "not-read-negative"  # the protocol asks for negatively read exams
    UNKNOWN_SIDE = "unknown-side"  # of a breast: the woman's cancer may be in it or in the other


CANCERS = (Outcome.SCREEN_DETECTED, Outcome.INTERVAL, Outcome.NEXT_ROUND, Outcome.LATER_CANCER)
"""The outcomes that a protocol may take as positive."""


def _is_cancer(outcome: Outcome) -> Outcome:
    if outcome not in CANCERS:
        raise ValueError(f"{outcome} is no cancer; positives are among {', '.join(CANCERS)}")
    return outcome


def _is_hit_rule(name: str) -> str:
    try:
        hit_rule(name)
    except InvalidInputError as error:
        raise ValueError(str(error).rstrip(".")) from error
    return name


_Months = Annotated[int, Field(ge=1, le=240)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class OutcomeRules(_Section):
    """From registry rows to the outcome of an exam. All months are calendar months, limits included.

    A cancer is *screen-detected* when the exam was recalled and the diagnosis follows within `workup_months`;
    *interval* when it comes after the exam, not screen-detected, before the woman's next exam or, after her last one,
    within `interval_months`; *next-round* when the next exam detects it within `window_months` of this one;
    *later-cancer* otherwise. Those of the `positives` that are diagnosed within `window_months` make the exam
    positive. Exams without malignant diagnosis for `minimum_negative_followup_months`, and followed as long, are
    negative. The rest are excluded and counted.
    """

    window_months: _Months
    minimum_negative_followup_months: _Months
    interval_months: _Months
    workup_months: _Months = 3
    positives: Annotated[tuple[Annotated[Outcome, AfterValidator(_is_cancer)], ...], Field(min_length=1)]
    exams: Literal["all", "negatively-read"] = "all"
    next_exam_months: tuple[_Months, _Months] | None = None
    """If given, next-round cancers count only where the next exam comes at least and at most that much later."""
    unknown_recall: Literal["by-date", "not-recalled"] = "by-date"
    """Where the decision is unknown: `by-date` takes a diagnosis within the work-up for one that followed a recall."""
    later_exams_extend_followup: bool = False
    """Whether a woman counts as followed at least until her last exam."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.workup_months > self.window_months:
            raise ValueError("workup_months is longer than window_months")
        if self.next_exam_months is not None and self.next_exam_months[0] > self.next_exam_months[1]:
            raise ValueError("next_exam_months must be the least and the most, in this order")
        return self


class OperatingPoint(_Section):
    """A threshold by its target. `value` is the target; for a reader's figure, `reader` names whose.

    `per_site`: every site gets its own threshold.
    """

    name: str
    target: Literal[
        "specificity",
        "sensitivity",
        "recall-rate",
        "category",
        "fp-per-image",
        "fp-per-exam",
        "reader-specificity",
        "reader-sensitivity",
    ]
    value: Annotated[float, Field(ge=0)] | None = None
    reader: Literal["reader1", "reader2"] | None = None
    chosen_on: Literal["same-exams", "validation-split"] = "same-exams"
    per_site: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Self:
        of_reader = self.target.startswith("reader-")
        if of_reader == (self.reader is None) or of_reader == (self.value is not None):
            raise ValueError(f"{self.target} needs {'reader and no value' if of_reader else 'value and no reader'}")
        if self.target in ("specificity", "sensitivity", "recall-rate") and not 0 <= (self.value or 0) <= 1:
            raise ValueError(f"{self.target} must lie between 0 and 1, not {self.value}")
        if self.target == "category" and self.value not in range(1, 11):
            raise ValueError(f"a category is a whole number from 1 to 10, not {self.value}")
        return self


class Localisation(_Section):
    """Which marks hit, what is found, and where false positives count (`hits.match`, `froc.FrocStatistics`).

    `scorer`: `froc`, or `dbtex` for the rules of the DBTex challenge (`evaluation.dbtex`), which count slices, match
    and interpolate in their own way; of the other keys only `floor_px` and `fp_rates` are then free.
    """

    scorer: Literal["froc", "dbtex"] = "froc"
    hit_rule: Annotated[str, AfterValidator(_is_hit_rule)] = "centre-in-lesion"
    floor_px: Annotated[float, Field(ge=0)] = 0.0
    level: Level = "lesion"
    fp_denominator: Denominator = "all"
    fp_per: Literal["image", "case"] = "image"
    other_lesions: OtherLesions = "false-positive"
    fp_rates: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    interpolate: bool = False

    @model_validator(mode="after")
    def _as_scored(self) -> Self:
        rules = (self.hit_rule, self.level, self.fp_denominator, self.fp_per, self.interpolate)
        if self.scorer == "dbtex" and rules != ("centre-distance", "lesion", "with-lesion", "image", True):
            raise ValueError(
                "scorer dbtex goes with hit_rule centre-distance, level lesion, fp_denominator with-lesion, "
                "fp_per image and interpolate true"
            )
        return self

    def rule(self) -> HitRule:
        return hit_rule(self.hit_rule, floor_px=self.floor_px)


class Uncertainty(_Section):
    """How intervals are made: resampling women for figures, and the interval of plain proportions."""

    method: Method = "percentile"
    proportion: Literal["wilson", "clopper-pearson"] = "wilson"
    paired_test: Literal["mcnemar-exact", "mcnemar-mid-p", "mcnemar-chi2"] = "mcnemar-mid-p"
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    replicates: Annotated[int, Field(ge=1)] = 2_000
    seed: int = 0

    @property
    def mcnemar(self) -> Literal["exact", "mid-p", "chi2"]:
        """The paired test as `intervals.mcnemar` calls it."""
        names: dict[str, Literal["exact", "mid-p", "chi2"]] = {
            "mcnemar-exact": "exact",
            "mcnemar-mid-p": "mid-p",
            "mcnemar-chi2": "chi2",
        }
        return names[self.paired_test]


class Protocol(_Section):
    """One protocol. `choices` gives the reason for each parameter that the source leaves open, by its key."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
    source: str
    description: str
    outcome: OutcomeRules | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    localisation: Localisation = Localisation()
    uncertainty: Uncertainty = Uncertainty()
    choices: dict[str, str] = {}

    @model_validator(mode="after")
    def _choices_name_parameters(self) -> Self:
        for key in self.choices:
            part: Any = self
            for name in key.split("."):
                if not isinstance(part, BaseModel) or name not in type(part).model_fields:
                    raise ValueError(f"choices explains {key!r}, which is no parameter")
                part = getattr(part, name)
        names = [point.name for point in self.operating_points]
        if len(set(names)) < len(names):
            raise ValueError("two operating points have the same name")
        return self


def load_protocol(protocol: str | Path) -> Protocol:
    """Load a protocol: a YAML file, or the name of a bundled one.

    Raises `ConfigError`, naming file and key, for a protocol that is missing or invalid.
    """
    path = _find(protocol)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"protocol {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"protocol {path} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"protocol {path} must be a mapping of keys to values")
    try:
        # By way of JSON, where "strict" still takes a list for a tuple and a text for an enumeration.
        return Protocol.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        raise ConfigError(f"protocol {path}: {'; '.join(_problem(dict(detail)) for detail in details)}") from error


def bundled_protocols() -> tuple[str, ...]:
    """Names of the protocols that come with the project."""
    return tuple(sorted(path.stem for path in config_dir("protocols").glob("*.yaml")))


def _find(protocol: str | Path) -> Path:
    if isinstance(protocol, Path) or protocol.endswith((".yaml", ".yml")) or os.sep in protocol:
        return Path(protocol)
    if protocol not in bundled_protocols():
        raise ConfigError(
            f"there is no protocol {protocol!r}; give a YAML file or one of {', '.join(bundled_protocols())}"
        )
    return config_dir("protocols") / f"{protocol}.yaml"


def _problem(detail: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "the file"
    if detail["type"] == "extra_forbidden":
        return f"{key} is no key of a protocol"
    return f"{key}: {detail['msg'].removeprefix('Value error, ')}"
