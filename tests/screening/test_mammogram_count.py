"""How many mammograms a PACS has of a study: what lies beside them, our own results too, is not counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import uid

from screening.site import Destination, load_site
from screening.sources.pacs import pacs_client
from tests.support.archives import says, web_archive
from tests.support.dicom import write_dicom
from tests.support.exams import instance, study_uid
from tests.support.orthanc import Orthanc, needs_orthanc

PIXELS = np.zeros((8, 8), np.uint16)


@needs_orthanc
@pytest.mark.parametrize("service", ["dicomweb", "dimse"])
def test_orthanc_tells_how_many_mammograms_a_study_has(
    tmp_path: Path, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    monkeypatch.setenv("PACS_USER", orthanc.user)
    monkeypatch.setenv("PACS_PASSWORD", orthanc.password)
    series = {1: "MG", 2: "MG", 3: "MG", 4: "OT", 5: "SR"}
    for number, modality in series.items():
        made = instance(1, number, "L", "CC", PIXELS, Modality=modality)
        made.SeriesInstanceUID = f"1.2.3.{number // 2 + 10 * (modality != 'MG')}"
        if modality != "MG":
            made.SOPClassUID = uid.SecondaryCaptureImageStorage
        orthanc.store([write_dicom(tmp_path / f"{number}.dcm", made)])
    access = {"user_env": "PACS_USER", "password_env": "PACS_PASSWORD"} if service == "dicomweb" else {}
    client = pacs_client(Destination(name="pacs", url=getattr(orthanc, service), **access), load_site())
    assert client.count(study_uid(1)) == 3
    assert client.count(study_uid(2)) is None


def test_service_that_does_not_have_the_study_or_the_count_does_not_know(tmp_path: Path) -> None:
    silent = b'[{"00080060": {"vr": "CS", "Value": ["MG"]}}]'
    with web_archive() as archive:
        client = pacs_client(Destination(name="pacs", url=archive.url), load_site())
        archive.faults[f"{study_uid(1)}/series"] = [says(404), says(204), says(200, silent)]
        assert [client.count(study_uid(1)) for _ in range(3)] == [None] * 3
