"""The exam's result as FHIR R4: a report with an observation for exam, breast and region, for hospital and programme.

The bundle is a transaction that puts each resource under an id which follows from exam and bundle: sending it again,
or after the exam was scored anew, gives a new version of the same report and never a second report. A region has the
Tracking UID that it has in the DICOM structured reports.

Codes are those of the structured reports (DICOM, SNOMED CT, UCUM). What has none there is in the code system of this
project, whose address leads nowhere on purpose. LOINC's and RadLex's codes for mammography reports and density name a
radiologist's report and are not used for a computer's.
"""

from __future__ import annotations

import html
import uuid
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from typing import Any

from pydicom.sr.coding import Code
from pydicom.uid import UID

from screening.delivery import codes
from screening.delivery.context import DISCLAIMER, Delivery, Source
from screening.delivery.findings import Finding, description, findings, meaning, processing_summary, rendering_intent
from screening.delivery.objects import MANUFACTURER
from screening.delivery.uids import derived_uid
from screening.exam import Laterality
from screening.imaging.volume import stored_run
from screening.result import BreastResult, ImageResult, Region, Status

LOCAL_CODES = "http://screening-research-pipeline.invalid/CodeSystem/results"
"""Code system of this project: category, operating-point, rank, source-image, x, y, width, height, frames, peak-frame.

A region's x, y (of its upper left corner), width and height are pixels of the source image, of which the first covers
0 to 1; frames count from 1.
"""

_SYSTEMS = {"DCM": "http://dicom.nema.org/resources/ontology/DCM", "SCT": "http://snomed.info/sct"}
_UCUM = "http://unitsofmeasure.org"
_HL7 = "http://terminology.hl7.org/CodeSystem"
_BY_COMPUTER = {
    "system": f"{_HL7}/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}

_Json = dict[str, Any]


def report_bundle(delivery: Delivery, patient_system: str | None = None) -> _Json:
    """The transaction Bundle of one exam, as JSON-ready values: scored, without findings, in part or wholly rejected.

    Its resources: DiagnosticReport (preliminary), Observations of the exam, of each breast and of each region that the
    structured reports show, Device (the model) and Provenance. Patient, study and order are meant by their identifiers
    (PatientID, Study Instance UID, Accession Number), since the hospital has them already. Scores are percentages.

    Parameters
    ----------
    patient_system
        URI of the numbers that the hospital's PatientID is one of; without it, receivers have to know.
    """
    entries = [entry(resource) for resource in _Report(delivery, patient_system).resources()]
    return {
        "resourceType": "Bundle",
        "id": _id(delivery.other_uid("fhir.bundle")),
        "type": "transaction",
        "timestamp": _instant(delivery),
        "entry": entries,
    }


class _Report:
    """Builds the resources of one delivery."""

    def __init__(self, delivery: Delivery, patient_system: str | None) -> None:
        self._delivery = delivery
        self._subject = _patient(delivery, patient_system)
        self._findings = findings(delivery)
        studies = dict.fromkeys(str(source.header.StudyInstanceUID) for source in delivery.sources)
        self._studies = [_reference_by(_uid_identifier(study), "ImagingStudy") for study in studies]
        self._device_id = _id(derived_uid("", delivery.algorithm.sha256, "fhir.device"))

    def resources(self) -> list[_Json]:
        """The report first, then what it refers to."""
        by_side = {
            side: [self._region(finding, n) for finding in self._findings for n in _of(finding, side)]
            for side in Laterality
        }
        breasts = [
            self._breast(side, images, by_side[side])
            for side in Laterality
            if (images := [one for one in self._delivery.result.images if one.image.laterality is side])
        ]
        regions = [region for side in Laterality for region in by_side[side]]
        observations = [self._exam([*breasts, *regions]), *breasts, *regions]
        report = self._report(observations)
        return [report, *observations, self._device(), self._provenance([report, *observations])]

    def _report(self, observations: list[_Json]) -> _Json:
        delivery, accession = self._delivery, str(self._delivery.identity.AccessionNumber)
        uid = delivery.other_uid("fhir.report")
        order = {"type": _concept_of(f"{_HL7}/v2-0203", "ACSN", "Accession ID"), "value": accession}
        words = _clean(description(delivery))
        return {
            **self._resource("DiagnosticReport", uid, [*words.split("\n"), *map(_told, observations)]),
            "identifier": [_uid_identifier(uid)],
            **({"basedOn": [_reference_by(order, "ServiceRequest")]} if accession else {}),
            "status": "preliminary",
            "category": [_concept_of(f"{_HL7}/v2-0074", "RAD", "Radiology")],
            "code": _concept(codes.MAMMOGRAPHY_CAD_REPORT),
            "subject": self._subject,
            **self._times(),
            "result": [_reference(one) for one in observations],
            "imagingStudy": self._studies,
            "conclusion": words,
            "conclusionCode": [_concept(processing_summary(delivery))],
        }

    def _exam(self, members: list[_Json]) -> _Json:
        result = self._delivery.result
        components = [
            _component(
                _concept(codes.FINDINGS_SUMMARY), valueCodeableConcept=_concept(processing_summary(self._delivery))
            ),
            _local("operating-point", valueString=_clean(meaning(self._delivery.point))),
        ]
        if result.category is not None:
            components.append(_local("category", valueInteger=result.category))
        return {
            **self._observation(self._delivery.other_uid("exam"), codes.CERTAINTY_OF_IMPRESSION, "Exam", result.score),
            **({"hasMember": [_reference(one) for one in members]} if members else {}),
            "component": [*components, *_density(result.density)],
        }

    def _breast(self, side: Laterality, images: list[ImageResult], members: list[_Json]) -> _Json:
        found: BreastResult | None = next((b for b in self._delivery.result.breasts if b.laterality is side), None)
        site = codes.BREAST_SIDES[side]
        uid = self._delivery.other_uid("fhir.breast", side.value)
        score = None if found is None else found.score
        density = [] if found is None else _density(found.density)
        missing = [one for one in images if one.status is not Status.SCORED]
        words = [f"Not processed: {one.image.view}: {one.rejection or one.status}." for one in missing]
        return {
            **self._observation(uid, codes.CERTAINTY_OF_FEATURE, site.meaning, score, words),
            "bodySite": _concept(site),
            **({"hasMember": [_reference(one) for one in members]} if members else {}),
            **({"component": density} if density else {}),
        }

    def _region(self, finding: Finding, n: int) -> _Json:
        region: Region = finding.regions[n]
        source = next(one for one in self._delivery.sources if one.result.image.image_id == region.image_id)
        site, view = codes.BREAST_SIDES[region.laterality], codes.VIEWS[region.view]
        modifier = codes.VIEW_MODIFIERS.get(region.view)
        intent = rendering_intent(finding.bins[n] == 0)
        box = {name: getattr(region, name) for name in ("x", "y", "width", "height")}
        components = [
            _component(_concept(codes.SINGLE_IMAGE_FINDING), valueCodeableConcept=_concept(codes.SELECTED_REGION)),
            _component(_concept(codes.IMAGE_VIEW), valueCodeableConcept=_concept(view)),
            *(
                [_component(_concept(codes.IMAGE_VIEW_MODIFIER), valueCodeableConcept=_concept(modifier))]
                if modifier
                else []
            ),
            _component(_concept(codes.RENDERING_INTENT), valueCodeableConcept=_concept(intent)),
            _local("rank", valueInteger=region.rank),
            _local("source-image", valueString=str(source.sop_instance)),
            *(_local(name, valueQuantity=_quantity(value, "pixel", "{pixel}")) for name, value in box.items()),
        ]
        if source.frames > 1:
            first, last = (_quantity(frame + 1, "frame", "{frame}") for frame in stored_run(source.order, region))
            components.append(_local("frames", valueRange={"low": first, "high": last}))
            components.append(_local("peak-frame", valueInteger=source.order[region.frame_peak] + 1))
        name = f"Region {region.rank}, {site.meaning}, {region.view}"
        return {
            **self._observation(self._delivery.region_uid(region), codes.CERTAINTY_OF_FINDING, name, region.score),
            "bodySite": _concept(site),
            "component": components,
        }

    def _observation(self, uid: UID, code: Code, name: str, score: float | None, words: Sequence[str] = ()) -> _Json:
        """What all observations have. Without a score it is cancelled and says why the value is absent."""
        failed = self._delivery.result.status is Status.FAILED
        absent = ("error", "Error") if failed else ("not-performed", "Not Performed")
        value = (
            {"dataAbsentReason": _concept_of(f"{_HL7}/data-absent-reason", *absent)}
            if score is None
            else {"valueQuantity": _quantity(100 * score, "%", "%")}
        )
        told = "not scored" if score is None else f"{100 * score:.4g} %"
        return {
            **self._resource("Observation", uid, [f"{name}: {told}", *words, DISCLAIMER]),
            "identifier": [_uid_identifier(uid)],
            "status": "cancelled" if score is None else "preliminary",
            "category": [_concept_of(f"{_HL7}/observation-category", "imaging", "Imaging")],
            "code": {**_concept(code), "text": f"{code.meaning}: {name}"},
            "subject": self._subject,
            **self._times(),
            **value,
            "note": [{"text": _clean(line)} for line in (*words, DISCLAIMER)],
            "device": {"reference": f"urn:uuid:{self._device_id}"},
            "derivedFrom": self._studies,
        }

    def _device(self) -> _Json:
        algorithm = self._delivery.algorithm
        name = _clean(algorithm.name)
        what = "Detection of suspicious regions in mammograms; research software, not a medical device"
        return {
            **self._resource("Device", self._device_id, [f"{name} {algorithm.version}: {what}"]),
            "identifier": [{"type": {"text": "SHA-256 of the model's bundle"}, "value": algorithm.sha256}],
            "status": "active",
            "manufacturer": MANUFACTURER,
            "serialNumber": algorithm.sha256,
            "deviceName": [{"name": name, "type": "model-name"}],
            "type": {"text": what},
            "version": [
                {"type": {"text": "model"}, "value": _clean(algorithm.version)},
                {"type": {"text": "software"}, "value": f"screening {metadata.version('screening')}"},
            ],
            "note": [{"text": DISCLAIMER}],
        }

    def _provenance(self, targets: list[_Json]) -> _Json:
        """Which model made it, when, of which images."""
        role = _concept_of(f"{_HL7}/provenance-participant-type", "assembler", "Assembler")
        uid = self._delivery.other_uid("fhir.provenance")
        return {
            **self._resource("Provenance", uid, ["Computed from the images that are listed.", DISCLAIMER]),
            "target": [_reference(one) for one in targets],
            "recorded": _instant(self._delivery),
            "activity": {"text": "Computer analysis of a screening exam"},
            "agent": [{"type": role, "who": {"reference": f"urn:uuid:{self._device_id}"}}],
            "entity": [
                {"role": "source", "what": {"identifier": _uid_identifier(one.sop_instance), "display": _label(one)}}
                for one in self._delivery.sources
            ],
        }

    def _resource(self, kind: str, uid: UID | str, lines: Iterable[str]) -> _Json:
        paragraphs = "".join(f"<p>{html.escape(_clean(line))}</p>" for line in lines)
        return {
            "resourceType": kind,
            "id": _id(uid) if isinstance(uid, UID) else uid,
            "meta": {"security": [_BY_COMPUTER]},
            "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{paragraphs}</div>'},
        }

    def _times(self) -> _Json:
        """The exam's date, where it is known, and when the result was made. A time of day would need a time zone."""
        day = self._delivery.result.exam_date
        return {**({"effectiveDateTime": day.isoformat()} if day else {}), "issued": _instant(self._delivery)}


def _label(source: Source) -> str:
    return f"{source.result.image.laterality} {source.result.image.view}: {source.result.status}"


def _of(finding: Finding, side: Laterality) -> Iterator[int]:
    return (n for n, region in enumerate(finding.regions) if region.laterality is side)


def _patient(delivery: Delivery, system: str | None) -> _Json:
    number, issuer = str(delivery.identity.PatientID), str(delivery.identity.get("IssuerOfPatientID", ""))
    if not number:
        return {"type": "Patient", "display": f"Patient of study {delivery.identity.StudyInstanceUID}"}
    identifier = {
        "type": _concept_of(f"{_HL7}/v2-0203", "MR", "Medical record number"),
        **({"system": system} if system else {}),
        "value": number,
        **({"assigner": {"display": issuer}} if issuer else {}),
    }
    return _reference_by(identifier, "Patient")


def _density(category: str | None) -> list[_Json]:
    """The estimated breast composition, where there is one."""
    if category not in codes.DENSITIES:
        return []
    value = {**_concept(codes.DENSITIES[category]), "text": f"BI-RADS density {category}, estimated"}
    return [_component(_concept(codes.BREAST_COMPOSITION), valueCodeableConcept=value)]


def entry(resource: _Json) -> _Json:
    """The resource as an entry of a transaction: put under its own id."""
    return {
        "fullUrl": f"urn:uuid:{resource['id']}",
        "resource": resource,
        "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
    }


def _told(observation: _Json) -> str:
    value = observation.get("valueQuantity")
    told = "not scored" if value is None else f"{value['value']:.4g} %"
    return f"{observation['code']['text']}: {told}"


def _id(uid: UID) -> str:
    """The UUID that a UID of the form 2.25 is made of (PS3.5 B.2)."""
    return str(uuid.UUID(int=int(uid.removeprefix("2.25."))))


def _instant(delivery: Delivery) -> str:
    return delivery.local_time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _uid_identifier(uid: str) -> _Json:
    """A DICOM UID as the HL7 guide on DICOM structured reports writes it."""
    return {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}


def _reference(resource: _Json) -> _Json:
    return {"reference": f"urn:uuid:{resource['id']}"}


def _reference_by(identifier: _Json, kind: str) -> _Json:
    return {"type": kind, "identifier": identifier}


def _concept(code: Code) -> _Json:
    return _concept_of(_SYSTEMS[code.scheme_designator], code.value, code.meaning)


def _concept_of(system: str, code: str, display: str) -> _Json:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _component(code: _Json, **value: Any) -> _Json:
    return {"code": code, **value}


def _local(code: str, **value: Any) -> _Json:
    return _component(_concept_of(LOCAL_CODES, code, code.replace("-", " ").capitalize()), **value)


def _quantity(value: float, unit: str, code: str) -> _Json:
    """A number with six significant digits, as in the structured reports."""
    return {"value": float(f"{value:.6g}"), "unit": unit, "system": _UCUM, "code": code}


def _clean(text: str) -> str:
    """Without the control characters that neither FHIR's strings nor XML may hold."""
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)
