"""From results to the outbox: the objects of each exam are made, written under `dicom/` if valid, and queued."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from screening.delivery.cad_sr import cad_sr
from screening.delivery.context import Delivery, deliveries
from screening.delivery.headers import DeliveryError
from screening.delivery.heatmap_object import heatmaps
from screening.delivery.measurement_report import measurement_report
from screening.delivery.objects import written
from screening.delivery.outbox import Object, Outbox, OutdatedError, Parcel, Switch
from screening.delivery.presentation_state import presentation_states
from screening.delivery.rejection_note import KIND as REJECTION_NOTE
from screening.delivery.rejection_note import rejection_notes
from screening.delivery.summary_image import summary_image
from screening.errors import ConfigError, StoreError
from screening.report.figures import picture_paths
from screening.site import DeliveryRules, Destination, ObjectKind
from screening.store import STORE_NAME, ResultStore

if TYPE_CHECKING:  # the bundle's module loads torch
    from screening.model.bundle import Bundle

_MAKERS: dict[ObjectKind, Callable[[Delivery, Path], Iterable[Dataset]]] = {
    ObjectKind.CAD_SR: lambda delivery, _: [cad_sr(delivery)],
    ObjectKind.MEASUREMENT_REPORT: lambda delivery, _: [measurement_report(delivery)],
    ObjectKind.PRESENTATION_STATE: lambda delivery, _: presentation_states(delivery),
    ObjectKind.SUMMARY_IMAGE: lambda delivery, out: [summary_image(delivery, out)],
    ObjectKind.HEATMAP: lambda delivery, _: heatmaps(delivery),
}


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
    operating_point: str | None = None,
) -> Iterator[ExamDelivery]:
    """Make, write and queue the objects of every exam that `bundle` scored, rejected or failed in a results folder.

    One exam's trouble is told in its `problems`; the others follow. Repeated, it makes and queues nothing new.

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
                yield deliver_exam(delivery, results, outbox, destinations)
    if not found:
        raise ConfigError(
            f"{results} holds no result of model {bundle.model_id}; name the one that scored with --model"
        )


def deliver_exam(
    delivery: Delivery, results: Path, outbox: Outbox, destinations: Sequence[Destination]
) -> ExamDelivery:
    """Make, write and queue the objects of one exam, for each destination those that it wants.

    An object that cannot be made or is not valid is told in `problems`; the others go. Objects of an earlier result of
    the exam are superseded, and where they may have arrived, a note that rejects them is queued too.
    Raises `StoreError` if a file or the outbox cannot be written.
    """
    objects, problems = write_objects(delivery, results)
    exam_id, current = delivery.result.exam_id, _uids(delivery)
    queued = 0
    for destination in destinations:
        wanted = [one for one in objects if one.kind in destination.kinds]
        if not wanted:
            continue
        before: tuple[Parcel, ...] = ()
        if destination.rejection_notes:
            before = outbox.to_supersede(destination.name, exam_id, delivery.created, current)
        notes, trouble = _made(REJECTION_NOTE, partial(rejection_notes, delivery, before), _folder(delivery, results))
        problems += trouble
        try:
            queued += outbox.enqueue(destination.name, exam_id, delivery.created, [*wanted, *notes], current)
        except OutdatedError as error:
            problems.append(f"not queued for {destination.name}: {error}")
    return ExamDelivery(exam_id, tuple(objects), queued, tuple(problems))


def write_objects(delivery: Delivery, results: Path) -> tuple[list[Object], list[str]]:
    """Make all objects of an exam and write those that are valid to `results/dicom/EXAM`; and what was the matter.

    Heatmaps of a result that comes from the store have no pixels; where they were written when the exam was scored,
    their files are taken as they are.
    """
    folder = _folder(delivery, results)
    objects, problems = [], []
    for kind, make in _MAKERS.items():
        made, trouble = _made(kind, partial(make, delivery, results), folder)
        objects += made
        problems += trouble
    known = {one.sop_instance_uid for one in objects}
    return objects + [one for one in _heatmaps_there(delivery, folder) if one.sop_instance_uid not in known], problems


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


def _made(kind: str, make: Callable[[], Iterable[Dataset]], folder: Path) -> tuple[list[Object], list[str]]:
    """Make objects of a kind and write them; or say why not."""
    try:
        paths = [written(dataset, folder) for dataset in make()]
    except StoreError:
        raise  # no disk, no delivery
    except DeliveryError as error:
        return [], [f"{kind}: {error}"]
    except Exception as error:
        # The one place where an unforeseen error is caught: it costs this kind of object, never the night. Its message
        # may quote a header, so that only its kind and place are told.
        place = traceback.extract_tb(error.__traceback__)[-1]
        return [], [f"{kind}: an unforeseen {type(error).__name__} at {Path(place.filename).name}:{place.lineno}"]
    return [_object(kind, path) for path in paths], []


def _object(kind: str, path: Path) -> Object:
    header = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True)
    return Object(kind, str(header.SOPClassUID), str(header.SOPInstanceUID), path, lasting=kind == REJECTION_NOTE)


def _uids(delivery: Delivery) -> set[str]:
    """UIDs of all objects that this result has, made this time or not: none of them is of an earlier result."""
    images = [(), *((str(source.sop_instance),) for source in delivery.sources)]
    return {str(delivery.instance_uid(kind.value, *image)) for kind in ObjectKind for image in images}


def _heatmaps_there(delivery: Delivery, folder: Path) -> Iterator[Object]:
    for source in delivery.sources:
        uid = delivery.instance_uid(ObjectKind.HEATMAP.value, str(source.sop_instance))
        path = folder / f"{uid}.dcm"
        if path.is_file():
            yield Object(ObjectKind.HEATMAP.value, ParametricMapStorage, str(uid), path)


def _folder(delivery: Delivery, results: Path) -> Path:
    """`dicom/EXAM`, by the name that the exam's pictures have: exam ids come from headers."""
    return results / "dicom" / picture_paths(results, delivery.result.exam_id, "").annotated.parent.name


def _finished(results: Path) -> datetime:
    """When the batch was finished: the same for a repeated delivery."""
    try:
        record = json.loads((results / "batch.json").read_text(encoding="utf-8"))
        return datetime.fromisoformat(record["finished"]).astimezone(UTC)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{results} holds no finished batch (there is no proper batch.json); score it, or finish with --resume"
        ) from error
