"""Splits by woman: folds, checks that refuse a leak, and a manifest of what was used."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from screening.errors import ConfigError
from training.cache import PreparedRecord
from training.datasets.record import Record

Group = tuple[str, str]


@dataclass(frozen=True)
class Fold:
    """One fold: the records to learn from and those, of other women, to test on, both in the order given."""

    train: tuple[Record, ...]
    test: tuple[Record, ...]


def folds(records: Sequence[Record], k: int, seed: int, train_only: frozenset[str] = frozenset()) -> list[Fold]:
    """`k` folds by woman; each record is tested in exactly one. Deterministic, whatever the order of `records`.

    `train_only`: data sets whose records are learned from in every fold and tested in none.

    Women are stratified by dataset, malignant and located lesions: within a stratum they are shuffled by `seed` and
    dealt out in turn, each deal going on where the last stratum ended, so that folds differ by one woman at most,
    within every stratum and in all.

    Raises `ConfigError` if there are fewer women than folds, or fewer than two folds.
    """
    women: dict[Group, list[Record]] = defaultdict(list)
    for record in records:
        if record.dataset not in train_only:
            women[record.group].append(record)
    if not 2 <= k <= len(women):
        raise ConfigError(f"{k} folds cannot be made of {len(women)} women; give from 2 to the number of women.")
    strata: dict[tuple[str, bool, bool], list[Group]] = defaultdict(list)
    for group in sorted(women):
        strata[_stratum(women[group])].append(group)
    rng = np.random.default_rng(seed)
    dealt: list[Group] = []
    for stratum in sorted(strata):
        groups = strata[stratum]
        dealt.extend(groups[i] for i in rng.permutation(len(groups)))
    fold_of = {group: i % k for i, group in enumerate(dealt)}
    made = [
        Fold(
            train=tuple(record for record in records if fold_of.get(record.group) != fold),
            test=tuple(record for record in records if fold_of.get(record.group) == fold),
        )
        for fold in range(k)
    ]
    for fold in made:
        check_no_leak(fold.train, fold.test)
    return made


def _stratum(records: Sequence[Record]) -> tuple[str, bool, bool]:
    return (
        records[0].dataset,
        any(record.malignant is True for record in records),
        any(bool(record.lesions) for record in records),
    )


def check_no_leak(train: Iterable[Record], test: Iterable[Record]) -> None:
    """Raises `ConfigError` naming a woman (by her dataset's pseudonym) who has images on both sides."""
    shared = sorted({record.group for record in train} & {record.group for record in test})
    if shared:
        dataset, woman = shared[0]
        raise ConfigError(
            f"The split leaks: woman {woman} of {dataset} is in training and in test, one of {len(shared)} such women; "
            "split by woman."
        )


def check_no_duplicate(prepared: Iterable[PreparedRecord]) -> None:
    """Raises `ConfigError` naming two images of different women whose prepared pixels are the same.

    Such women may be one, whom a split by woman would not keep on one side. Of three folds or more, one learns from
    both of them, so that looking at what is learned from finds them.
    """
    first: dict[bytes, Record] = {}
    for copy in prepared:
        one, other = first.setdefault(hashlib.sha256(copy.pixels.tobytes()).digest(), copy.record), copy.record
        if one.group != other.group:
            raise ConfigError(
                f"The images {one.image} of {one.dataset} and {other.image} of {other.dataset} are the same, but of "
                "two women; take one of them out of its table."
            )


def manifest(records: Iterable[Record]) -> dict[str, Any]:
    """What a run learned from: counts per dataset, and a SHA-256 over all of the records and their files' contents.

    The hash depends neither on the order of the records nor on where the folder lies. `ConfigError` is raised where an
    image or mask file has gone.
    """
    ordered = sorted(records, key=lambda record: (record.dataset, record.image, record.path.name))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    total = hashlib.sha256()
    for record in ordered:
        counts[record.dataset].update(images=1, malignant_images=int(record.malignant is True))
        counts[record.dataset].update(lesions=len(record.lesions or ()))
        # Paths alone are no JSON: images and masks stand in it by their content.
        total.update(json.dumps(asdict(record), sort_keys=True, default=_file_hash).encode())
    for dataset, counter in counts.items():
        own = [record for record in ordered if record.dataset == dataset]
        counter["women"] = len({record.group for record in own})
        counter["breasts"] = len({record.breast for record in own})
        counter["malignant_breasts"] = len({record.breast for record in own if record.malignant})
    return {"sha256": total.hexdigest(), "datasets": {name: dict(counts[name]) for name in sorted(counts)}}


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"The file {path} cannot be read; check the dataset's folder.") from error
