"""From results to the outbox: what is delivered of each exam is made, written if it is valid, and queued."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from screening.delivery.context import Delivery, deliveries
from screening.delivery.fhir_file import KIND as FHIR_REPORT
from screening.delivery.headers import DeliveryError
from screening.delivery.making import uids, write_fhir, write_objects, write_own
from screening.delivery.outbox import Object, Outbox, OutdatedError, Parcel, Switch
from screening.errors import ConfigError
from screening.model.calibration import OperatingPoint
from screening.site import DeliveryRules, Destination, ObjectKind, Service
from screening.store import STORE_NAME, ResultStore

if TYPE_CHECKING:  # the bundle's module loads torch
    from screening.model.bundle import Bundle


@dataclass(frozen=True)
class ExamDelivery:
    """What was done for one exam: its objects' files, how many were queued anew, and what could not be made or why."""

    exam_id: str
    objects: tuple[Object, ...]
    queued: int
    problems: tuple[str, ...]


def deliver_results(
    results: Path,
    bundle: Bundle,
    outbox: Outbox,
    destinations: Sequence[Destination],
    operating_point: OperatingPoint | str | None = None,
    patient_system: str | None = None,
) -> Iterator[ExamDelivery]:
    """Make, write and queue the objects of every exam that `bundle` scored, rejected or failed in a results folder.

    One exam's trouble is told in its `problems`; the others follow. Repeated, it makes and queues nothing new.
    `patient_system`: see `report_bundle`.

    Raises
    ------
    StoreError
        If the results or the outbox cannot be read or written; what was queued before stays.
    ConfigError
        If the folder holds no finished batch, or none of this bundle.
    """
    made = _finished(results)
    found = False
    with ResultStore(results / STORE_NAME) as store:
        for result, delivery in deliveries(store, bundle, made, operating_point):
            found = True
            if isinstance(delivery, DeliveryError):
                yield ExamDelivery(result.exam_id, (), 0, (str(delivery),))
            else:
                yield deliver_exam(delivery, results, outbox, destinations, patient_system)
    if not found:
        raise ConfigError(
            f"{results} holds no result of model {bundle.model_id}; name the one that scored with --model"
        )


def deliver_exam(
    delivery: Delivery,
    results: Path,
    outbox: Outbox,
    destinations: Sequence[Destination],
    patient_system: str | None = None,
) -> ExamDelivery:
    """Make, write and queue what is delivered of one exam, for each destination what it wants.

    An object that cannot be made or is not valid is told in `problems`; the others go. Objects of an earlier result of
    the exam are superseded, and where they may have arrived, a note that rejects them is queued too.
    Raises `StoreError` if a file or the outbox cannot be written.
    """
    exam_id = delivery.result.exam_id
    before = {
        one.name: outbox.to_supersede(one.name, exam_id, delivery.created, uids(delivery, one)) for one in destinations
    }
    superseded = [parcel for parcels in before.values() for parcel in parcels]
    delivery = replace(delivery, predecessors=_reports(superseded))
    objects, problems = write_objects(delivery, results)
    report, trouble = write_fhir(delivery, results, patient_system, superseded)
    objects, problems = objects + report, problems + trouble
    queued = 0
    for destination in destinations:
        wanted = [one for one in objects if _wants(destination, one)]
        if wanted or destination.service is Service.UPS:
            own, trouble = write_own(delivery, results, destination, before[destination.name])
            wanted, problems = wanted + own, problems + trouble
        if not wanted:
            continue
        try:
            queued += outbox.enqueue(destination.name, exam_id, delivery.created, wanted, uids(delivery, destination))
        except OutdatedError as error:
            problems.append(f"not queued for {destination.name}: {error}")
    return ExamDelivery(exam_id, tuple(objects), queued, tuple(problems))


def _wants(destination: Destination, one: Object) -> bool:
    if one.kind == FHIR_REPORT:
        return destination.service is Service.FHIR
    return destination.service is Service.PACS and one.kind in destination.kinds


def log_mode(outbox: Outbox, site: str, rules: DeliveryRules, profile: str) -> bool:
    """Log the site's mode in the outbox if it has changed: when, from what to what, who decided, who runs this.

    `profile`: the profile in words; its SHA-256 is logged.
    """
    switch = Switch(
        when=datetime.now(UTC),
        site=site,
        before="",
        after=rules.mode.value,
        decided_by=rules.decided_by or "",
        user=f"{getpass.getuser()}@{socket.gethostname()}",
        profile=hashlib.sha256(profile.encode()).hexdigest(),
    )
    return outbox.note_mode(switch)


def _reports(superseded: Iterable[Parcel]) -> tuple[Dataset, ...]:
    """Headers of the structured reports among what is superseded, each once; without those whose file is gone."""
    headers: dict[str, Dataset] = {}
    for parcel in superseded:
        if parcel.kind in (ObjectKind.CAD_SR, ObjectKind.MEASUREMENT_REPORT):
            with contextlib.suppress(OSError, InvalidDicomError):
                headers[parcel.sop_instance_uid] = dcmread(parcel.path, stop_before_pixels=True)
    return tuple(headers.values())


def _finished(results: Path) -> datetime:
    """When the batch was finished: the same for a repeated delivery."""
    try:
        record = json.loads((results / "batch.json").read_text(encoding="utf-8"))
        return datetime.fromisoformat(record["finished"]).astimezone(UTC)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{results} holds no finished batch (there is no proper batch.json); score it, or finish with --resume"
        ) from error
