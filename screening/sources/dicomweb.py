"""Studies by DICOMweb: QIDO-RS finds them (PS3.18 10.6), WADO-RS brings their instances (10.4)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.message import Message
from typing import Any

import requests

from screening.delivery.answers import RefusedError, UnreachableError
from screening.delivery.destinations import Credentials
from screening.delivery.web import WebSession, first, values
from screening.site import Destination
from screening.sources.multipart import BrokenOffError, Multipart
from screening.sources.spool import Spool, Study, StudyError, is_uid

_STUDY, _MODALITIES, _INSTANCES = "0020000D", "00080061", "00201208"
_DATE, _PATIENT = "00080020", "00100020"
_MODALITY, _IN_SERIES = "00080060", "00201209"
_PAGE = 100


class DicomWebClient:
    """Asks the DICOMweb service at the destination's URL; see `Client`."""

    def __init__(self, destination: Destination, credentials: Credentials) -> None:
        self._name = destination.name
        self._url = destination.url.removesuffix("/studies") + "/studies"
        self._web = WebSession(destination, credentials)

    def find(self, dates: str, patient_id: str = "") -> Iterator[Study]:
        """Search page by page until one brings nothing new: a service may give fewer than it is asked for."""
        seen: set[str] = set()
        offset = 0
        while page := self._page(dates, patient_id, offset):
            uids = {_study(one).uid for one in page} - {""}
            if offset and uids <= seen:
                return
            for one in filter(_has_mammograms, page):
                study = _study(one)
                # A service may take signs in an ID for wildcards, or not match it at all.
                if study.uid not in seen and (not patient_id or first(one, _PATIENT) == patient_id):
                    yield study
            seen |= uids
            offset += len(page)

    def count(self, study_uid: str) -> int | None:
        """Search at series level: what lies beside the mammograms, our own results too, is not counted."""
        series = self._search(
            f"{self._url}/{study_uid}/series", {"includefield": "NumberOfSeriesRelatedInstances", "limit": str(_PAGE)}
        )
        counts = [first(one, _IN_SERIES) for one in series if first(one, _MODALITY) == "MG"]
        numbers = [int(one) for one in counts if isinstance(one, int) or (isinstance(one, str) and one.isdecimal())]
        return sum(numbers) if numbers and len(numbers) == len(counts) else None

    def fetch(self, study: Study, spool: Spool) -> None:
        """Retrieve all instances of a study in one request, each in the transfer syntax that the PACS has it in."""
        accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        with self._web.ask("GET", f"{self._url}/{study.uid}", headers=accept) as response:
            status = response.status_code
            if status not in (200, 206):  # 206: not all instances, which counting them will tell
                if status not in (404, 406, 410):
                    self._web.check(status, "WADO-RS")
                raise StudyError(f"the PACS does not send it (HTTP {status})")
            try:
                for part in Multipart(self._web.chunks(response), self._boundary(response)):
                    spool.add(study, part)
            except BrokenOffError as error:
                raise UnreachableError(f"{self._name} cut the connection half-way") from error

    def _page(self, dates: str, patient_id: str, offset: int) -> list[dict[str, Any]]:
        query = {
            **({"PatientID": patient_id} if patient_id else {}),
            "StudyDate": dates,
            "ModalitiesInStudy": "MG",
            "includefield": "NumberOfStudyRelatedInstances",
            "limit": str(_PAGE),
            "offset": str(offset),
        }
        return self._search(self._url, query)

    def _search(self, url: str, query: dict[str, str]) -> list[dict[str, Any]]:
        with self._web.ask("GET", url, params=query, headers={"Accept": "application/dicom+json"}) as response:
            status = response.status_code
            if status == 204 or (status == 404 and url != self._url):  # it does not have this study
                return []
            if status != 200:
                self._web.check(status, "QIDO-RS")
                raise UnreachableError(f"{self._name} fails on the search (HTTP {status})")
            body = self._web.body(response)
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RefusedError(f"{self._name} does not answer in DICOM JSON; check the URL") from error
        if not isinstance(content, list):
            raise RefusedError(f"{self._name} does not answer with a list; check the URL")
        return [one for one in content if isinstance(one, dict)]

    def _boundary(self, response: requests.Response) -> str:
        header = Message()
        header["Content-Type"] = response.headers.get("Content-Type", "")
        boundary = header.get_boundary()
        if header.get_content_type() != "multipart/related" or not boundary:
            raise RefusedError(f"{self._name} does not answer with DICOM files; check the URL")
        return boundary


def _study(found: dict[str, Any]) -> Study:
    uid, instances, date = first(found, _STUDY), str(first(found, _INSTANCES)), first(found, _DATE)
    counted = len(instances) < 10 and instances.isdecimal()
    return Study(str(uid) if is_uid(uid) else "", int(instances) if counted else None, str(date or ""))


def _has_mammograms(found: dict[str, Any]) -> bool:
    """Some services do not match Modalities in Study, and give all studies of the day."""
    modalities = values(found, _MODALITIES)
    return not modalities or "MG" in modalities
