"""The C-STORE listener: whom it lets in, what it answers, and that an answer is the truth."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made when it is imported

from screening.errors import ConfigError, StoreError
from screening.imaging.decode import SUPPORTED_SYNTAXES
from screening.site import ArrivalRules, load_site
from screening.sources.dimse import accepted_contexts
from screening.sources.inbox import Inbox
from screening.sources.listener import listening
from tests.support.certificates import certificates
from tests.support.dicom import write_dicom
from tests.support.exams import drawn, image_uid, instance, study_uid
from tests.support.listening import associate, store
from tests.support.orthanc import free_port
from tests.support.secure_orthanc import client_context, forwarding

OK, NO_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000


@contextmanager
def listener(out: Path, **rules: object) -> Iterator[tuple[int, Inbox]]:
    """A listener on a free port."""
    port = free_port()
    profile = load_site().model_copy(update={"arrivals": ArrivalRules.model_validate({"port": port, **rules})})
    with Inbox(out, profile) as inbox, listening(profile, inbox):
        yield port, inbox


def small(folder: Path, count: int = 3, syntax: str = uid.ExplicitVRLittleEndian) -> list[Path]:
    """Small instances of one exam."""
    pixels = drawn("L", "CC", 1)[::20, ::20]
    return [
        write_dicom(folder / f"{number}.dcm", instance(1, number, "L", "CC", pixels), syntax)
        for number in range(1, count + 1)
    ]


def kept(out: Path) -> list[str]:
    return sorted(path.stem for path in (out / "inbox" / study_uid(1)).glob("*.dcm"))


def uids(*numbers: int) -> list[str]:
    return [image_uid(1, number) for number in numbers]


def test_what_is_answered_with_success_is_on_disk_as_it_was_sent_and_a_duplicate_is_too(tmp_path: Path) -> None:
    files = small(tmp_path, syntax=uid.JPEGLosslessSV1)
    with listener(tmp_path) as (port, inbox):
        assert store(port, files) == [OK] * 3
        assert store(port, files) == [OK] * 3
        (waiting,) = inbox.waiting()
        assert waiting.changes == 3
    assert kept(tmp_path) == uids(1, 2, 3)
    for file in files:
        sent = dcmread(file)
        read = dcmread(waiting.folder / f"{sent.SOPInstanceUID}.dcm")
        assert read == sent
        assert read.file_meta.TransferSyntaxUID == uid.JPEGLosslessSV1


def test_mammograms_are_taken_in_every_transfer_syntax_that_can_be_decoded_and_echo_is_answered(tmp_path: Path) -> None:
    mammogram = uid.DigitalMammographyXRayImageStorageForPresentation
    with listener(tmp_path) as (port, _):
        ae = AE("MODALITY")
        ae.add_requested_context(Verification)
        for syntax in sorted(SUPPORTED_SYNTAXES):
            ae.add_requested_context(mammogram, syntax)
        for abstract in accepted_contexts():
            if abstract != mammogram:
                ae.add_requested_context(abstract, uid.ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", port, ae_title="SCREENING")
        assert association.is_established
        assert association.rejected_contexts == []
        assert association.send_c_echo().Status == OK
        association.release()


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", "SCREENING"), ("MODALITY", "OTHER")])
def test_wrong_ae_title_is_refused_and_leaves_nothing(tmp_path: Path, calling: str, called: str) -> None:
    files = small(tmp_path)
    with listener(tmp_path, senders=("MODALITY", "PACS")) as (port, _):
        association = associate(port, files, calling, called)
        assert association.is_rejected
        assert store(port, files[:1], calling="PACS") == [OK]
    assert kept(tmp_path) == uids(1)


def test_connection_cut_in_the_middle_of_an_instance_keeps_those_before_it_and_the_rest_can_come_again(
    tmp_path: Path,
) -> None:
    files = small(tmp_path)
    size = max(file.stat().st_size for file in files)
    large = write_dicom(tmp_path / "large.dcm", instance(1, 4, "R", "CC", drawn("R", "CC", 2)))
    assert large.stat().st_size > 20 * size
    between = free_port()
    with (
        listener(tmp_path) as (port, inbox),
        forwarding(between, port, cut_after=large.stat().st_size // 2),
    ):
        assert store(between, [*files, large]) == [OK, OK, OK, None]
        assert kept(tmp_path) == uids(1, 2, 3)
        assert list((tmp_path / "inbox" / "incoming").iterdir()) == []
        assert store(port, [*files, large]) == [OK] * 4
        (waiting,) = inbox.waiting()
        assert waiting.changes == 4
    assert kept(tmp_path) == uids(1, 2, 3, 4)


def test_full_disk_is_out_of_resources_for_the_sender_who_can_send_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    files = small(tmp_path)
    with listener(tmp_path) as (port, _):
        with monkeypatch.context() as patch:
            patch.setattr("screening.sources.inbox.Inbox._keep", full)
            assert store(port, files) == [NO_RESOURCES] * 3
        assert kept(tmp_path) == []
        assert store(port, files) == [OK] * 3
    assert kept(tmp_path) == uids(1, 2, 3)


def test_instance_without_study_is_refused_and_the_others_are_kept(tmp_path: Path) -> None:
    files = small(tmp_path)
    bad = instance(1, 9, "L", "CC", np.zeros((8, 8), np.uint16), StudyInstanceUID=None)
    files.insert(1, write_dicom(tmp_path / "bad.dcm", bad))
    with listener(tmp_path) as (port, _):
        assert store(port, files) == [OK, CANNOT_UNDERSTAND, OK, OK]
    assert kept(tmp_path) == uids(1, 2, 3)


def test_over_tls_only_a_sender_with_a_trusted_certificate_is_heard(tmp_path: Path) -> None:
    ours, others = certificates(tmp_path / "ours"), certificates(tmp_path / "others")
    files = small(tmp_path)
    rules = {
        "certificate_file": str(ours.certificate),
        "key_file": str(ours.key),
        "ca_file": str(ours.ca),
    }
    with listener(tmp_path, **rules) as (port, _):
        stranger = ssl.create_default_context(cafile=str(ours.ca))
        stranger.load_cert_chain(str(others.certificate), str(others.key))
        for tls in (None, stranger):
            assert not associate(port, files, tls=tls).is_established
        assert store(port, files, tls=client_context(ours)) == [OK] * 3
    assert kept(tmp_path) == uids(1, 2, 3)


def test_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with (
        listener(tmp_path / "one") as (port, _),
        pytest.raises(ConfigError, match=f"port {port} cannot be listened on"),
        listener(tmp_path / "two", port=port),
    ):
        pass
