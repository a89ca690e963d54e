"""Fetching over TLS: from an Orthanc that speaks nothing else, and only if its certificate can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from screening.delivery.outbox import BackOff
from screening.errors import ScreeningError
from screening.site import DeliveryRules, Destination, load_site
from screening.sources.fetch import Fetched
from screening.sources.pacs import fetch_source
from tests.support.certificates import Certificates, certificates
from tests.support.dicom import write_dicom
from tests.support.exams import drawn, instance
from tests.support.orthanc import needs_orthanc
from tests.support.secure_orthanc import SecureOrthanc, secure_orthanc

pytestmark = needs_orthanc
PATIENCE = BackOff(first_s=0.01, longest_s=0.02, most=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, files: Certificates) -> Iterator[SecureOrthanc]:
    folder = tmp_path_factory.mktemp("secure-orthanc")
    pixels = drawn("L", "CC", 1)[::20, ::20]
    with secure_orthanc(folder, files) as server:
        server.store([write_dicom(folder / f"{n}.dcm", instance(1, n, "L", "CC", pixels)) for n in (1, 2)])
        yield server


def fetch(url: str, out: Path, ca: Path | None, own: Certificates | None) -> Fetched:
    pacs = Destination(
        name="pacs",
        url=url,
        ca_file=None if ca is None else str(ca),
        certificate_file=None if own is None else str(own.certificate),
        key_file=None if own is None else str(own.key),
        timeout_s=20,
    )
    profile = load_site().model_copy(update={"delivery": DeliveryRules(shadow=(pacs,))})
    return fetch_source(f"{url}?date=20240131", profile, out, keep=False, patience=PATIENCE)[0]


@pytest.mark.parametrize("service", ["dicomweb", "dimse"])
def test_studies_come_over_tls_from_a_pacs_whose_own_authority_is_trusted(
    tmp_path: Path, secure: SecureOrthanc, files: Certificates, service: str
) -> None:
    assert fetch(getattr(secure, service), tmp_path, files.ca, files) == Fetched(1, 1, ())
    assert len(list((tmp_path / "spool").rglob("*.dcm"))) == 2


def test_pacs_with_a_certificate_of_an_unknown_authority_is_not_asked(tmp_path: Path, secure: SecureOrthanc) -> None:
    with pytest.raises(ScreeningError, match="certificate cannot be trusted; check ca_file"):
        fetch(secure.dicomweb, tmp_path, None, None)


def test_dimse_peer_with_a_certificate_of_another_authority_gets_no_question(
    tmp_path: Path, secure: SecureOrthanc, files: Certificates
) -> None:
    other = certificates(tmp_path / "other")
    with pytest.raises(ScreeningError, match="cannot be reached by DIMSE"):
        fetch(secure.dimse, tmp_path / "out", other.ca, files)
