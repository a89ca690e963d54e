"""What exams are compared with: the bundle's screening-like distribution, or a site's own accepted sample.

A reference is a file, `reference.json`. It holds counts and no exam: how many scores fell into each tenth, how many
exams were incomplete, recalled, of each density; for each manufacturer, and for all together ("").
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from screening.errors import ConfigError
from screening.model.calibration import Calibration
from screening.monitoring.records import ExamRecord
from screening.store import write_atomically

BINS = 10
LEAST_EXAMS = 200
"""A sample of fewer exams is no reference: a tenth of it is known to no better than a fifth of itself."""
LEAST_OF_A_MANUFACTURER = 100
"""With fewer, a manufacturer is compared with the whole sample."""
_EXACT = 10**6
"""Size of a reference that does not state its own: its error is taken for nothing."""


class Unit(StrEnum):
    """Of what a score is: an exam (the higher breast), or one breast."""

    EXAM = "exam"
    BREAST = "breast"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Share(_Part):
    """`count` of `total` exams."""

    count: int = Field(ge=0)
    total: int = Field(gt=0)

    @model_validator(mode="after")
    def _is_a_share(self) -> Self:
        if self.count > self.total:
            raise ValueError("count is more than total")
        return self


class Stratum(_Part):
    """One manufacturer's part of a reference, or all of it (`manufacturer` "").

    `bins`: how many scores (their effective number, where they were weighted) fell between the reference's edges.
    Where `incomplete`, `recalled` or `densities` is not known, that is not tested.
    """

    manufacturer: str
    bins: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=BINS, max_length=BINS)
    incomplete: Share | None = None
    recalled: Share | None = None
    densities: dict[Literal["A", "B", "C", "D"], int] = {}

    @model_validator(mode="after")
    def _has_scores(self) -> Self:
        if sum(self.bins) < 1:
            raise ValueError("bins hold no scores")
        return self


class Reference(_Part):
    """A reference: `edges` are nine scores, rising; a score's bin is how many of them it reaches.

    `site`: whose exams it is made of, "" for a bundle's. `source`: what it is, in words. `threshold`: the operating
    point at which `recalled` was counted.
    """

    format: Literal["screening-reference/1"] = "screening-reference/1"
    site: str
    model_id: str
    source: str
    made: datetime
    unit: Unit
    edges: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(min_length=BINS - 1, max_length=BINS - 1)
    threshold: float | None = None
    strata: tuple[Stratum, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if list(self.edges) != sorted(self.edges):
            raise ValueError("edges must rise")
        names = [stratum.manufacturer for stratum in self.strata]
        if len(set(names)) < len(names) or "" not in names:
            raise ValueError('strata must have each manufacturer once, and "" for all')
        return self

    def stratum(self, manufacturer: str) -> Stratum:
        """The part for a manufacturer; all of it, if it has none of its own."""
        by_name = {stratum.manufacturer: stratum for stratum in self.strata}
        return by_name.get(manufacturer, by_name[""])

    def value(self, record: ExamRecord) -> float | None:
        """The score of an exam that is comparable with the reference's; None if it was not scored.

        Against a reference of breasts it is that of one breast, chosen by the exam's id and not by its score: the
        higher of two would lie higher, and two of one woman would count as two independent scores.
        """
        if self.unit is Unit.EXAM or not record.breasts:
            return record.score
        return record.breasts[hashlib.sha256(record.exam_id.encode()).digest()[0] % len(record.breasts)]

    def bin(self, score: float) -> int:
        """0 to 9."""
        return bisect_right(self.edges, score)


def reference_of_bundle(calibration: Calibration, model_id: str) -> Reference:
    """The reference that comes with a bundle: its category thresholds are deciles, so each bin holds a tenth.

    What they are deciles of, and of how many, is said by the words in which training writes it. Breasts with cancer
    are weighted down to their share in screening there, so that the others alone make the effective number.
    """
    unit = Unit.BREAST if re.search(r"\bdeciles of \d+ breasts\b", calibration.categories_from) else Unit.EXAM
    size = float(_EXACT)
    if stated := re.match(r"(\d+) (?:breasts|exams), (\d+) with cancer", calibration.fitted_on):
        size = (int(stated[1]) - int(stated[2])) / (1 - calibration.prevalence) ** 2 or size
    if exams := re.search(r"\bdeciles of (\d+) exams\b", calibration.categories_from):
        size = float(exams[1])
    return Reference(
        site="",
        model_id=model_id,
        source=f"the bundle's {calibration.categories_from}",
        made=datetime.fromtimestamp(0, UTC),
        unit=unit,
        edges=calibration.category_thresholds,
        strata=(Stratum(manufacturer="", bins=(size / BINS,) * BINS),),
    )


def reference_of_sample(
    records: Sequence[ExamRecord], site: str, model_id: str, source: str, threshold: float | None = None
) -> Reference:
    """A site's own reference: the deciles of its exams, and its rates. `threshold`: the site's operating point.

    `records`: of one model, in any order (`record_of`, `read_records`). Raises ConfigError for fewer than 200 scored
    exams.
    """
    scores = [record.score for record in records if record.score is not None]
    if len(scores) < LEAST_EXAMS:
        raise ConfigError(
            f"{len(scores)} scored exams are too few for a reference: give at least {LEAST_EXAMS}, better 1,000"
        )
    edges = tuple(float(edge) for edge in np.quantile(scores, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    numbers = Counter(record.manufacturer for record in records if record.score is not None)
    own = sorted(name for name, number in numbers.items() if name and number >= LEAST_OF_A_MANUFACTURER)
    return Reference(
        site=site,
        model_id=model_id,
        source=source,
        made=datetime.now(UTC).replace(microsecond=0),
        unit=Unit.EXAM,
        edges=edges,
        threshold=threshold,
        strata=tuple(
            _stratum(name, [one for one in records if name in ("", one.manufacturer)], edges, threshold)
            for name in ("", *own)
        ),
    )


def write_reference(path: Path, reference: Reference) -> None:
    """Write a reference. Raises StoreError if it cannot be written."""
    write_atomically(path, [reference.model_dump_json(indent=2).encode(), b"\n"])


def read_reference(path: Path) -> Reference:
    """Read a reference. Raises ConfigError, naming the key, if it is none."""
    try:
        return Reference.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"reference {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"reference {path}: {key}: {first['msg']}; make it again") from error


def digest(reference: Reference) -> str:
    """SHA-256 of a reference's content, as it stands in reports."""
    content = json.dumps(reference.model_dump(mode="json"), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _stratum(
    manufacturer: str, records: Iterable[ExamRecord], edges: tuple[float, ...], threshold: float | None
) -> Stratum:
    exams = list(records)
    scores = [one.score for one in exams if one.score is not None]
    filled = Counter(bisect_right(edges, score) for score in scores)
    densities = Counter(one.density for one in exams if one.density in "ABCD" and one.density)
    recalled = None
    if threshold is not None:
        recalled = Share(count=sum(score >= threshold for score in scores), total=len(scores))
    return Stratum(
        manufacturer=manufacturer,
        bins=tuple(filled[number] for number in range(BINS)),
        incomplete=Share(count=sum(one.incomplete for one in exams), total=len(exams)),
        recalled=recalled,
        densities=dict(sorted(densities.items())),
    )
