"""What a batch does, as records of the audit log."""

from __future__ import annotations

import getpass
import hashlib
import hmac
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from screening.audit_log.chained_log import ChainedLog, Head
from screening.batch.events import BatchObserver, FinishedBatch, FinishedExam, StartedBatch
from screening.errors import ConfigError
from screening.result import ExamResult, ImageResult, Status
from screening.store import Ends, write_atomically

KEY_ENV = "SCREENING_AUDIT_KEY"
"""Environment variable that holds the key for HMAC."""
FOLDER = "audit-log"

_SHORTEST_KEY = 16
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_TABLES = ("exams.csv", "images.csv", "regions.csv", "worklist.csv", "report.html")


def audit_key() -> bytes | None:
    """The key for HMAC from the environment, None if there is none. Raises ConfigError if it is too short."""
    key = os.environ.get(KEY_ENV)
    if key is None:
        return None
    if len(key) < _SHORTEST_KEY:
        raise ConfigError(f"{KEY_ENV} holds no key of at least {_SHORTEST_KEY} characters; set it, or unset it")
    return key.encode()


def audit_folder(out: Path, configured: str | None = None) -> Path:
    """Where the log of a batch is: the site profile's folder, or `audit-log` in the results folder."""
    return Path(configured) if configured else out / FOLDER


def open_log(folder: Path) -> ChainedLog:
    """The log in a folder, with the environment's key. Raises ConfigError if that is too short."""
    return ChainedLog(folder, audit_key())


class AuditLog(BatchObserver):
    """Logs a batch: its begin, every exam that ended, its end; what it raises stops the batch.

    No name, birth date or patient's number is written: exams and images go by their UIDs, an exam id of another kind
    by its digest (of HMAC where the log has a key), reasons by their codes, files by names that are made of UIDs.

    Parameters
    ----------
    out
        The batch's results folder.
    """

    def __init__(self, log: ChainedLog, out: Path) -> None:
        self._log = log
        self._out = out
        self._by = started_by()
        self._points: Mapping[str, float] = {}
        self.head: Head | None = None

    def batch_started(self, event: StartedBatch) -> None:
        """Log what the batch is run with."""
        self._points = event.operating_points
        self._append(
            "batch-started",
            {
                "site": event.site,
                "model_id": event.model_id,
                "bundle_sha256": event.bundle_sha256,
                "config_sha256": event.config_sha256,
                "operating_points": dict(event.operating_points),
                "engine": event.engine,
                "runner": event.host,
                "exams": event.total,
                "started": utc(event.started),
            },
        )

    def exam_finished(self, event: FinishedExam) -> None:
        """Log one exam: what went in, what came out, where and when."""
        self._append("exam", _exam(event, self._out, self._log, self._points))

    def batch_finished(self, event: FinishedBatch) -> None:
        """Log how the batch ended and what it wrote, and note the log's end in `batch.json`."""
        exams, instances = event.counts.exams, event.counts.instances
        self._append(
            "batch-finished",
            {
                "exams": _ends(exams),
                "instances": _ends(instances),
                "reasons": [
                    {"status": status, "code": code, "exams": number[0], "instances": number[1]}
                    for (status, code), number in event.counts.reasons.items()
                ],
                "interrupted": event.interrupted,
                "finished": utc(event.finished),
                "seconds": round(event.seconds, 3),
                "outputs": [
                    {"name": name, "sha256": _digest(self._out / name)}
                    for name in _TABLES
                    if (self._out / name).is_file()
                ],
            },
        )
        if self.head is not None:
            note_head(self._out / "batch.json", self.head)

    def _append(self, event: str, content: Mapping[str, Any]) -> None:
        self.head = self._log.append(event, {**content, "by": self._by, "software": _software()})


def started_by() -> str:
    """User and host; a user without a name in this system is told by number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def exam_name(exam_id: str, log: ChainedLog) -> str:
    """How the log calls an exam: by its UID, or a digest of what the site groups exams by, which may name a woman."""
    if len(exam_id) <= 64 and _UID.fullmatch(exam_id) and "." in exam_id:
        return exam_id
    key, text = log.key, exam_id.encode("utf-8", "surrogateescape")
    if key is None:
        return f"sha256:{hashlib.sha256(text).hexdigest()}"
    return f"hmac-sha256:{hmac.new(key, text, hashlib.sha256).hexdigest()}"


def note_head(batch_json: Path, head: Head) -> None:
    """Write the log's end into a batch's record, as the anchor. Raises StoreError if it cannot be written."""
    if not batch_json.is_file():
        return  # an interrupted batch may end without
    record = json.loads(batch_json.read_text(encoding="utf-8"))
    record["audit_log"] = {"records": head.records, "hash": head.hash}
    write_atomically(batch_json, [json.dumps(record, indent=2, ensure_ascii=True).encode(), b"\n"])


def utc(moment: datetime) -> str:
    """ISO 8601 with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _exam(event: FinishedExam, out: Path, log: ChainedLog, points: Mapping[str, float]) -> dict[str, Any]:
    result = event.result
    record: dict[str, Any] = {
        "exam_id": exam_name(result.exam_id, log),
        "site": result.site,
        "inputs": [
            {"sop_instance_uid": image.image_id, "sha256": event.digests.get(image.image_id)}
            for image in event.exam.images
        ],
        "status": result.status.value,
        "reason": result.rejection.code.value if result.rejection else None,
        "score": _float(result.score),
        "category": result.category,
        "density": result.density,
        "top_region_id": result.top_region_id,
        "breasts": {breast.laterality.value: _float(breast.score) for breast in result.breasts},
        "images": [_image(image) for image in result.images],
        "warnings": list(result.warnings),
        "model_id": event.model_id,
        "bundle_sha256": event.bundle_sha256,
        "config_sha256": event.config_sha256,
        "attempts": event.attempts,
        "host": event.host,
        "worker": event.worker,
        "started": utc(event.started),
        "finished": utc(event.finished),
        "outputs": list(_outputs(result, out)),
    }
    if event.operating_point is not None:
        threshold = points.get(event.operating_point)
        record["operating_point"] = {"name": event.operating_point, "threshold": threshold}
        if threshold is not None and result.score is not None:
            record["recalled"] = bool(result.score >= threshold)
    return record


def _image(result: ImageResult) -> dict[str, Any]:
    return {
        "sop_instance_uid": result.image.image_id,
        "status": result.status.value,
        "reason": result.rejection.code.value if result.rejection else None,
        "score": _float(result.score),
        "regions": len(result.regions),
        "warnings": [*result.image.warnings, *result.warnings],
    }


def _outputs(result: ExamResult, out: Path) -> Iterator[str]:
    """The names of the pictures that were written; their folder has the exam's name, which may be a woman's number."""
    from screening.report.figures import picture_paths  # OpenCV takes a while to load, and `verify-log` needs none

    for image in result.images:
        if image.status is Status.SCORED:
            path = picture_paths(out, result.exam_id, image.image.image_id).annotated
            if path.is_file():
                yield path.name


def _ends(ends: Ends) -> dict[str, int]:
    return {"total": ends.total, **asdict(ends)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _software() -> str:
    try:
        return f"screening {version('screening')}"
    except PackageNotFoundError:
        return "screening, not installed"
