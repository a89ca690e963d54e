"""The record of a batch, `batch.json`: what was run on what, with which versions, and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from screening.store.files import write_atomically

# What a figure depends on: named in batch.json, with the versions that made it.
_PACKAGES = (
    "albumentations",
    "imagecodecs",
    "jinja2",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "pydicom",
    "safetensors",
    "scikit-learn",
    "scipy",
    "sqlalchemy",
    "timm",
    "torch",
    "torchvision",
)
_SECRET_WORDS = ("key", "password", "secret", "token")


@dataclass(frozen=True)
class Ends:
    """How many exams or instances ended in each way; `unfinished` were read but not reached (Ctrl-C)."""

    scored: int = 0
    rejected: int = 0
    failed: int = 0
    unfinished: int = 0

    @property
    def total(self) -> int:
        """Everything that was read."""
        return self.scored + self.rejected + self.failed + self.unfinished


@dataclass(frozen=True)
class Counts:
    """What became of a batch. `reasons`: (status, reason code) -> (exams, instances)."""

    exams: Ends
    instances: Ends
    reasons: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchSummary:
    """What was run on what, and what came of it: the content of `batch.json` and the head of the report.

    Parameters
    ----------
    model_id
        The bundle's SHA-256; `model_name` and `model_version` are for people.
    started, finished
        Aware times; written as UTC.
    reference
        Exam score from which a heatmap shows its full colour, usually the threshold of category 10; in exams that score
        higher it is their own score.
    key_frame_threshold
        Region score from which on the key frames of volumes show a region; None where no volume is read.
    config
        What the batch was run with: site profile, options. Values under names like `key` or `token` are not written.
    timings
        Seconds by stage.
    """

    site: str
    model_id: str
    model_name: str
    model_version: str
    started: datetime
    finished: datetime
    counts: Counts
    reference: float
    config: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    key_frame_threshold: float | None = None

    def record(self) -> dict[str, Any]:
        """Return the record as JSON-ready values. It names no person and no host."""
        record = {
            "model": {"id": self.model_id, "name": self.model_name, "version": self.model_version},
            "site": self.site,
            "started": _utc(self.started),
            "finished": _utc(self.finished),
            "exams": _ends_record(self.counts.exams),
            "instances": _ends_record(self.counts.instances),
            "reasons": [
                {"status": status, "code": code, "exams": exams, "instances": instances}
                for (status, code), (exams, instances) in self.counts.reasons.items()
            ],
            "heatmap_reference": self.reference,
            "key_frame_threshold": self.key_frame_threshold,
            "timings_seconds": {stage: round(seconds, 3) for stage, seconds in self.timings.items()},
            "config": _without_secrets(self.config),
            "versions": _versions(),
            "machine": _machine(),
        }
        plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
        return plain


def write_batch_json(out: Path, batch: BatchSummary) -> None:
    """Write `batch.json` into `out`, whole or not at all.

    Raises
    ------
    StoreError
        If `out` cannot be written.
    """
    text = json.dumps(batch.record(), indent=2, ensure_ascii=True)
    write_atomically(out / "batch.json", [text.encode(), b"\n"])


def _ends_record(ends: Ends) -> dict[str, int]:
    return {
        "total": ends.total,
        "scored": ends.scored,
        "rejected": ends.rejected,
        "failed": ends.failed,
        "unfinished": ends.unfinished,
    }


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): "(not shown)" if _is_secret(str(name)) and inner else _without_secrets(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_secrets(inner) for inner in value]
    return value


def _is_secret(name: str) -> bool:
    return name.lower().endswith(_SECRET_WORDS)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _machine() -> dict[str, Any]:
    """What kind of machine this is; PyTorch is asked only if the batch loaded it."""
    machine: dict[str, Any] = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        machine["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            machine["gpu"] = torch.cuda.get_device_name()
    return machine
