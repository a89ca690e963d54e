"""Studies by DIMSE (PS3.4 annex C): C-FIND finds them, C-GET brings their instances, or C-MOVE sends them to us."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom import uid
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined] # made when it is imported
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from screening.delivery.answers import RefusedError, UnreachableError
from screening.delivery.association import associated
from screening.delivery.destinations import Credentials, peer, tls_context
from screening.dicomfile import integer, text, texts
from screening.errors import ConfigError, ImageError, StoreError
from screening.imaging.decode import SUPPORTED_SYNTAXES
from screening.site import Destination
from screening.sources.spool import Spool, Study, StudyError, is_uid

_UNCOMPRESSED = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)
_MAMMOGRAPHY = (
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForProcessing,
    uid.BreastTomosynthesisImageStorage,
    uid.BreastProjectionXRayImageStorageForPresentation,
    uid.BreastProjectionXRayImageStorageForProcessing,
)
_BESIDE_MAMMOGRAMS = (
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.MRImageStorage,
    uid.CTImageStorage,
    uid.GrayscaleSoftcopyPresentationStateStorage,
    uid.ColorSoftcopyPresentationStateStorage,
    uid.BasicTextSRStorage,
    uid.EnhancedSRStorage,
    uid.ComprehensiveSRStorage,
    uid.Comprehensive3DSRStorage,
    uid.MammographyCADSRStorage,
    uid.XRayRadiationDoseSRStorage,
    uid.KeyObjectSelectionDocumentStorage,
    uid.ParametricMapStorage,
    uid.SegmentationStorage,
    uid.EncapsulatedPDFStorage,
    uid.RawDataStorage,
)
"""What else is in studies with mammograms: taken, so that the counts agree, and then rejected with a reason."""
_MOST_CONTEXTS = 127
"""Of the 128 that an association has (PS3.8 9.3.2.2), one is that of C-GET itself."""
_MOST_STUDIES = 100_000

_PENDING = (0xFF00, 0xFF01)
_SUCCESS, _WARNING, _NO_RESOURCES, _UNKNOWN_DESTINATION, _CANNOT_UNDERSTAND = 0x0000, 0xB000, 0xA700, 0xA801, 0xC000


@dataclass(frozen=True)
class Listener:
    """Where a PACS sends what C-MOVE asks for: our AE title as the PACS knows it, and the port that we listen on."""

    ae_title: str
    port: int


class DimseClient:
    """Asks the DIMSE peer at the destination's URL; see `Client`.

    `sop_classes` are those that a site scores, added to those of mammography. With a `listener` studies are moved to
    it by C-MOVE, without they come by C-GET.
    """

    def __init__(
        self,
        destination: Destination,
        credentials: Credentials,
        sop_classes: Iterable[str] = (),
        listener: Listener | None = None,
    ) -> None:
        self._destination = destination
        self._credentials = credentials
        self._name = destination.name
        self._listener = listener
        self._contexts = storage_contexts(sop_classes)

    def find(self, dates: str, patient_id: str = "") -> Iterator[Study]:
        """Search at study level."""
        asked = _identifier("")
        asked.StudyDate = dates
        asked.ModalitiesInStudy = "MG"
        asked.NumberOfStudyRelatedInstances = ""
        if patient_id:
            asked.PatientID = patient_id
        for found in self._search(asked):
            # A peer may take signs in an ID for wildcards, or not match it at all.
            if not _has_mammograms(found) or (patient_id and _value(found, "PatientID") != patient_id):
                continue
            yield _study(found)

    def count(self, study_uid: str) -> int | None:
        """Search at series level: what lies beside the mammograms, our own results too, is not counted."""
        asked = _identifier(study_uid)
        asked.QueryRetrieveLevel = "SERIES"
        asked.SeriesInstanceUID = asked.Modality = asked.NumberOfSeriesRelatedInstances = ""
        series = [one for one in self._search(asked) if _value(one, "Modality") == "MG"]
        counts = [_number(one, "NumberOfSeriesRelatedInstances") for one in series]
        known = [one for one in counts if one is not None]
        return sum(known) if known and len(known) == len(counts) else None

    def _search(self, asked: Dataset) -> Iterator[Dataset | None]:
        model = StudyRootQueryRetrieveInformationModelFind
        with associated(self._destination, self._credentials, [(model, _UNCOMPRESSED)]) as association:
            self._check_offered(association, "C-FIND")
            for number, (status, found) in enumerate(association.send_c_find(asked, model)):
                if self._status(status) not in _PENDING:
                    self._check_found(status.Status)
                    return
                if number >= _MOST_STUDIES:
                    raise RefusedError(f"{self._name} finds more than {_MOST_STUDIES} studies; ask for fewer days")
                yield found
        raise UnreachableError(f"{self._name} did not end its answer")

    def fetch(self, study: Study, spool: Spool) -> None:
        """Retrieve all instances of a study."""
        receiver = _Receiver(study, spool)
        try:
            if self._listener is None:
                self._get(study, receiver)
            else:
                self._move(study, receiver, self._listener)
        finally:
            # What we could not take is the cause of what the peer then says, so it is told instead.
            if receiver.problem is not None:
                raise receiver.problem

    def _get(self, study: Study, receiver: _Receiver) -> None:
        model = StudyRootQueryRetrieveInformationModelGet
        roles = [build_role(one, scp_role=True) for one in dict.fromkeys(one for one, _ in self._contexts)]
        contexts = [(model, _UNCOMPRESSED), *self._contexts]
        handlers = [(evt.EVT_C_STORE, receiver.handle)]
        with associated(self._destination, self._credentials, contexts, handlers, roles) as association:
            if not any(one.abstract_syntax == model for one in association.accepted_contexts):
                raise RefusedError(f"{self._name} does not offer C-GET; use C-MOVE, with move_to=AE_TITLE:PORT")
            for status, _ in association.send_c_get(_identifier(study.uid), model):
                self._check_retrieved(status)

    def _move(self, study: Study, receiver: _Receiver, listener: Listener) -> None:
        model = StudyRootQueryRetrieveInformationModelMove
        with (
            self._listening(receiver, listener),
            associated(self._destination, self._credentials, [(model, _UNCOMPRESSED)]) as association,
        ):
            self._check_offered(association, "C-MOVE")
            for status, _ in association.send_c_move(_identifier(study.uid), listener.ae_title, model):
                self._check_retrieved(status)

    @contextmanager
    def _listening(self, receiver: _Receiver, listener: Listener) -> Iterator[None]:
        """Take what this peer, and nobody else, sends us."""
        called = peer(self._destination)
        ae = AE(ae_title=listener.ae_title)
        ae.require_called_aet = True
        ae.require_calling_aet = [called.ae_title]
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self._destination.timeout_s
        for abstract, transfer in self._contexts:
            ae.add_supported_context(abstract, list(transfer))
        tls = tls_context(self._destination, ssl.Purpose.CLIENT_AUTH) if called.tls else None
        try:
            server = ae.start_server(
                ("", listener.port),
                block=False,
                ssl_context=tls,
                evt_handlers=[(evt.EVT_C_STORE, receiver.handle)],
            )
        except OSError as error:
            raise ConfigError(f"port {listener.port} of move_to cannot be listened on ({error.strerror})") from error
        try:
            yield
        finally:
            if server is not None:
                server.shutdown()

    def _check_offered(self, association: Association, service: str) -> None:
        if not association.accepted_contexts:
            raise RefusedError(f"{self._name} does not offer {service} at study level")

    def _status(self, status: Dataset) -> int:
        """The status of an answer; raises if there was none."""
        if "Status" not in status:
            raise UnreachableError(
                f"{self._name} did not answer within {self._destination.timeout_s:g} s, or broke off"
            )
        return int(status.Status)

    def _check_found(self, status: int) -> None:
        if status == _SUCCESS:
            return
        if status & 0xFF00 == _NO_RESOURCES or status == 0xFE00:
            raise UnreachableError(f"{self._name} has no resources for the search (status 0x{status:04X})")
        raise RefusedError(f"{self._name} refuses the search (status 0x{status:04X})")

    def _check_retrieved(self, answer: Dataset) -> None:
        """Raise what the final answer to a C-GET or C-MOVE means (PS3.4 C.4.2.1.5, C.4.3.1.4)."""
        status = self._status(answer)
        if status in _PENDING:
            return
        if status == _UNKNOWN_DESTINATION:
            raise RefusedError(f"{self._name} does not know the AE title of move_to; enter it in the PACS")
        failed = answer.get("NumberOfFailedSuboperations") or 0
        if status == _WARNING or (failed and status == _SUCCESS):
            raise StudyError(f"the PACS could not send {failed or 'some'} of its instances (status 0x{status:04X})")
        if status != _SUCCESS:
            raise StudyError(f"the PACS does not send it (status 0x{status:04X})")


class _Receiver:
    """Takes the C-STORE requests for one study; pynetdicom's threads call `handle`."""

    def __init__(self, study: Study, spool: Spool) -> None:
        self._study = study
        self._spool = spool
        self.problem: StoreError | StudyError | None = None

    def handle(self, event: Event) -> int:
        """Put an instance into the spool as it came. What is wrong is kept, as no exception leaves this thread."""
        try:
            self._spool.add(self._study, [event.encoded_dataset()])
        except StoreError as error:
            self.problem = error
            return _NO_RESOURCES
        except StudyError as error:
            self.problem = error
            return _CANNOT_UNDERSTAND
        return _SUCCESS


def storage_contexts(sop_classes: Iterable[str] = ()) -> list[tuple[str, tuple[str, ...]]]:
    """Presentation contexts for what may be in a study, at most 127.

    Mammograms have one for each transfer syntax, so that the PACS sends them as it has them. What else a site scores
    has one for all, of which the PACS chooses; the rest is uncompressed.
    """
    accepted = accepted_contexts(sop_classes)
    mammograms = [(str(one), (syntax,)) for one in _MAMMOGRAPHY for syntax in accepted.pop(str(one))]
    return [*mammograms, *accepted.items()][:_MOST_CONTEXTS]


def accepted_contexts(sop_classes: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """What may be in a study, by SOP class: transfer syntaxes in which it is taken.

    Mammograms are taken in all that can be decoded, the rest uncompressed.
    """
    scored = dict.fromkeys([*_MAMMOGRAPHY, *sop_classes], tuple(sorted(map(str, SUPPORTED_SYNTAXES))))
    beside = {one: _UNCOMPRESSED for one in _BESIDE_MAMMOGRAMS if one not in scored}
    return {str(one): tuple(map(str, syntaxes)) for one, syntaxes in (scored | beside).items()}


def _identifier(study_uid: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study_uid
    return identifier


def _study(found: Dataset | None) -> Study:
    """A study that was found, whatever stands in the answer; None is one that could not be decoded."""
    name = _value(found, "StudyInstanceUID")
    return Study(
        name if is_uid(name) else "", _number(found, "NumberOfStudyRelatedInstances"), _value(found, "StudyDate")
    )


def _value(found: Dataset | None, keyword: str) -> str:
    """A value of an answer as text, "" where it is absent or malformed."""
    try:
        return "" if found is None else text(found, keyword)
    except ImageError:
        return ""


def _number(found: Dataset | None, keyword: str) -> int | None:
    try:
        return None if found is None else integer(found, keyword)
    except ImageError:
        return None


def _has_mammograms(found: Dataset | None) -> bool:
    """Some services do not match Modalities in Study, and give all studies of the day."""
    if found is None:
        return True
    try:
        modalities = texts(found, "ModalitiesInStudy")
    except ImageError:
        return True
    return not modalities or "MG" in modalities
