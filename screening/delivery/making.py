"""Making what is delivered of one exam, and writing it where it is valid: the one place that knows of all kinds.

DICOM objects are written to `dicom/EXAM`, the FHIR report to `fhir/EXAM.json`, workitems to `workitems/EXAM`. What goes
wrong with one kind is told, and costs no other.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from screening.delivery.cad_sr import cad_sr
from screening.delivery.context import Delivery, prepare
from screening.delivery.fhir_file import KIND as FHIR_REPORT
from screening.delivery.fhir_file import write_report
from screening.delivery.headers import DeliveryError
from screening.delivery.heatmap_object import heatmaps
from screening.delivery.measurement_report import measurement_report
from screening.delivery.objects import written
from screening.delivery.outbox import Object, Parcel
from screening.delivery.presentation_state import presentation_states
from screening.delivery.rejection_note import KIND as REJECTION_NOTE
from screening.delivery.rejection_note import rejection_notes
from screening.delivery.summary_image import summary_image
from screening.delivery.ups import KIND as WORKITEM
from screening.delivery.ups import SOP_CLASS, Retrieval, workitem, write_workitem
from screening.errors import StoreError
from screening.model.calibration import OperatingPoint
from screening.report.figures import picture_paths
from screening.result import ExamResult, InstanceRejection
from screening.site import Destination, ObjectKind, Service

if TYPE_CHECKING:  # the bundle's module loads torch
    from screening.model.bundle import Bundle

_MAKERS: dict[ObjectKind, Callable[[Delivery, Path], Iterable[Dataset]]] = {
    ObjectKind.CAD_SR: lambda delivery, _: [cad_sr(delivery)],
    ObjectKind.MEASUREMENT_REPORT: lambda delivery, _: [measurement_report(delivery)],
    ObjectKind.PRESENTATION_STATE: lambda delivery, _: presentation_states(delivery),
    ObjectKind.SUMMARY_IMAGE: lambda delivery, out: [summary_image(delivery, out)],
    ObjectKind.HEATMAP: lambda delivery, _: heatmaps(delivery),
}

Made = tuple[list[Object], list[str]]
"""What was made and written, and what was the matter."""


def write_objects(delivery: Delivery, results: Path) -> Made:
    """Make all DICOM objects of an exam and write those that are valid to `results/dicom/EXAM`.

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


def write_heatmaps(
    result: ExamResult,
    bundle: Bundle,
    results: Path,
    operating_point: OperatingPoint | str | None = None,
    rejections: Iterable[InstanceRejection] = (),
) -> None:
    """Write the heatmap objects of an exam that was scored just now: the store does not keep heatmaps.

    Of an exam of which no objects can be made there are none; delivery tells why. Arguments as of `prepare`. Raises
    StoreError if they cannot be written.
    """
    with contextlib.suppress(DeliveryError):
        delivery = prepare(result, bundle, datetime.now(UTC), operating_point, rejections)
        _made(ObjectKind.HEATMAP, partial(heatmaps, delivery), _folder(delivery, results))


def write_fhir(delivery: Delivery, results: Path, patient_system: str | None, earlier: Iterable[Parcel]) -> Made:
    """Write the exam's FHIR report to `results/fhir/EXAM.json`; what `earlier` ones said besides is withdrawn in it."""
    path = results / "fhir" / f"{_folder(delivery, results).name}.json"
    before = [one.path for one in earlier if one.kind == FHIR_REPORT]
    uid = str(delivery.instance_uid(FHIR_REPORT))
    with _isolated(FHIR_REPORT) as problems:
        write_report(delivery, path, patient_system, before)
    return [] if problems else [Object(FHIR_REPORT, "", uid, path, replaces=True)], problems


def write_own(delivery: Delivery, results: Path, destination: Destination, superseded: Sequence[Parcel]) -> Made:
    """What is made for one destination alone: a worklist's workitem, or a PACS's notes on what is `superseded`."""
    if destination.service is Service.UPS:
        uid = _workitem_uid(delivery, destination)
        path = results / "workitems" / _folder(delivery, results).name / f"{uid}.json"
        with _isolated(WORKITEM) as problems:
            write_workitem(workitem(delivery, _retrieval(destination), destination.worklist), path)
        return [] if problems else [Object(WORKITEM, SOP_CLASS, uid, path, replaces=True)], problems
    if destination.service is Service.PACS and destination.rejection_notes:
        return _made(REJECTION_NOTE, partial(rejection_notes, delivery, superseded), _folder(delivery, results))
    return [], []


def uids(delivery: Delivery, destination: Destination) -> set[str]:
    """UIDs of all objects that this result has for it, made this time or not: none of them is of an earlier result."""
    match destination.service:
        case Service.FHIR:
            return {str(delivery.instance_uid(FHIR_REPORT))}
        case Service.UPS:
            return {_workitem_uid(delivery, destination)}
        case Service.PACS:
            images = [(), *((str(source.sop_instance),) for source in delivery.sources)]
            return {str(delivery.instance_uid(kind.value, *image)) for kind in ObjectKind for image in images}


def _retrieval(destination: Destination) -> Retrieval:
    return Retrieval(destination.retrieve_url or "", destination.retrieve_ae_title or "")


def _workitem_uid(delivery: Delivery, destination: Destination) -> str:
    """In the outbox; not the workitem's own, which all results of the exam share."""
    where = _retrieval(destination)
    return str(delivery.instance_uid(WORKITEM, where.wado_rs, where.ae_title, destination.worklist))


def _made(kind: str, make: Callable[[], Iterable[Dataset]], folder: Path) -> Made:
    """Make DICOM objects of a kind and write them."""
    paths: list[Path] = []
    with _isolated(kind) as problems:
        paths = [written(dataset, folder) for dataset in make()]
    return [_object(kind, path) for path in paths], problems


@contextlib.contextmanager
def _isolated(kind: str) -> Iterator[list[str]]:
    """What goes wrong with objects of one kind, as sentences."""
    problems: list[str] = []
    try:
        yield problems
    except StoreError:
        raise  # no disk, no delivery
    except DeliveryError as error:
        problems.append(f"{kind}: {error}")
    except Exception as error:
        # The one place where an unforeseen error is caught: it costs this kind of object, never the night. Its message
        # may quote a header, so that only its kind and place are told.
        place = traceback.extract_tb(error.__traceback__)[-1]
        problems.append(f"{kind}: an unforeseen {type(error).__name__} at {Path(place.filename).name}:{place.lineno}")


def _object(kind: str, path: Path) -> Object:
    header = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True)
    return Object(kind, str(header.SOPClassUID), str(header.SOPInstanceUID), path, lasting=kind == REJECTION_NOTE)


def _heatmaps_there(delivery: Delivery, folder: Path) -> Iterator[Object]:
    for source in delivery.sources:
        uid = delivery.instance_uid(ObjectKind.HEATMAP.value, str(source.sop_instance))
        path = folder / f"{uid}.dcm"
        if path.is_file():
            yield Object(ObjectKind.HEATMAP.value, ParametricMapStorage, str(uid), path)


def _folder(delivery: Delivery, results: Path) -> Path:
    """`dicom/EXAM`, by the name that the exam's pictures have: exam ids come from headers."""
    return results / "dicom" / picture_paths(results, delivery.result.exam_id, "").annotated.parent.name
