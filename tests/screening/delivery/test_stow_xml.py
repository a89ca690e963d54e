"""STOW-RS answers in XML say of each instance what those in JSON do, and nothing else is taken for such an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from screening.delivery.answers import Outcome
from screening.delivery.destinations import Credentials
from screening.delivery.native_xml import NotNativeXmlError, dicom_json
from screening.delivery.outbox import Outbox
from screening.delivery.stow import StowSender
from screening.site import Destination
from tests.support.orthanc import Orthanc, needs_orthanc
from tests.support.pacs import WebPacs, parcels, says, web_pacs

HEAD = '<?xml version="1.0" encoding="utf-8"?>'
NAMESPACE = ' xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"'


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite") as opened:
        yield opened


@pytest.fixture
def pacs() -> Iterator[WebPacs]:
    with web_pacs() as running:
        yield running


def as_xml(dataset: dict[str, Any], namespace: str = NAMESPACE) -> str:
    """A DICOM JSON dataset in the Native DICOM Model (PS3.19 A.1)."""
    return f"{HEAD}<NativeDicomModel{namespace}>{_attributes(dataset)}</NativeDicomModel>"


def _attributes(dataset: dict[str, Any]) -> str:
    return "".join(
        f'<DicomAttribute tag="{tag}" vr="{element["vr"]}" keyword="x">'
        + "".join(
            f'<Item number="{number}">{_attributes(value)}</Item>'
            if isinstance(value, dict)
            else f'<Value number="{number}">{escape(str(value))}</Value>'
            for number, value in enumerate(element["Value"], start=1)
        )
        + "</DicomAttribute>"
        for tag, element in dataset.items()
    )


def response(stored: list[str], failed: dict[str, int]) -> dict[str, Any]:
    """A Store Instances Response (PS3.18 annex I.2) in DICOM JSON."""
    good = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in stored]
    bad = [
        {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [why]}}
        for uid, why in failed.items()
    ]
    return {"00081199": {"vr": "SQ", "Value": good}, "00081198": {"vr": "SQ", "Value": bad}}


words = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=20).map(str.strip)
uids = st.from_regex(r"1\.2(\.[1-9][0-9]{0,3}){1,6}", fullmatch=True)


@given(st.lists(uids, max_size=4), st.dictionaries(uids, st.integers(0, 65535), max_size=4), words)
def test_xml_is_read_as_the_same_dataset_as_json(stored: list[str], failed: dict[str, int], word: str) -> None:
    dataset = response(stored, failed) | {"00081190": {"vr": "UR", "Value": [word]}}
    assert dicom_json(as_xml(dataset).encode()) == dataset
    assert dicom_json(as_xml(dataset, namespace="").encode()) == dataset


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<NativeDicomModel>",
        b"<html><body>login</body></html>",
        b'<!DOCTYPE x [<!ENTITY a "1.2.3">]><NativeDicomModel>&a;</NativeDicomModel>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><NativeDicomModel/>',
        b"\xff\xfe<",
        b"<" * 100_000,
    ],
)
def test_what_is_no_native_model_or_has_a_document_type_is_refused(body: bytes) -> None:
    with pytest.raises(NotNativeXmlError):
        dicom_json(body)


@given(st.binary(max_size=200))
def test_nonsense_is_refused_and_nothing_else_happens(body: bytes) -> None:
    with pytest.raises(NotNativeXmlError):
        dicom_json(b"<" + body)


def test_answer_in_xml_says_of_each_instance_whether_it_arrived(outbox: Outbox, pacs: WebPacs, tmp_path: Path) -> None:
    some = parcels(outbox, tmp_path)
    first, second, _ = (one.sop_instance_uid for one in some)
    pacs.script = [says(202, as_xml(response([first], {second: 0xC122})))]
    sender = StowSender(Destination(name="pacs", url=pacs.url), Credentials())
    answers = list(sender.send(some))
    assert [one.outcome for one in answers] == [Outcome.ARRIVED, Outcome.NEVER, Outcome.LATER]
    assert "application/dicom+xml" in pacs.requests[0]["Accept"]


@needs_orthanc
def test_orthanc_s_answer_in_xml_is_understood(
    outbox: Outbox, orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("screening.delivery.stow._ACCEPT", "application/dicom+xml")
    sender = StowSender(
        Destination(name="pacs", url=orthanc.dicomweb), Credentials(user=orthanc.user, password=orthanc.password)
    )
    some = parcels(outbox, tmp_path)
    some[1].path.write_bytes(b"no DICOM" * 100)
    answers = list(sender.send(some))
    assert [one.outcome is Outcome.ARRIVED for one in answers] == [True, False, True]
    assert len(orthanc.stored()) == 2
