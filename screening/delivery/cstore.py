"""Sending by DIMSE: C-STORE (PS3.4 annex B), and storage commitment where the peer offers it (PS3.4 annex J)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined] # made when it is imported

from screening.delivery.answers import Answer, Outcome, RefusedError, UnreachableError, by_status
from screening.delivery.association import associated
from screening.delivery.commitment import Reports, listening
from screening.delivery.destinations import Credentials, peer
from screening.delivery.outbox import Parcel
from screening.site import Destination

_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""Well-known SOP instance of the Storage Commitment Push Model."""
_REQUEST_COMMITMENT = 1
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class CStoreSender:
    """Sends to a DIMSE peer, one association for each exam."""

    def __init__(self, destination: Destination, credentials: Credentials) -> None:
        self._destination = destination
        self._credentials = credentials
        self._name = destination.name

    def send(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        """Store the objects one after the other; see `Sender`. Objects whose file is gone are answered and left out."""
        readable: list[tuple[str, Dataset]] = []
        for parcel in parcels:
            try:
                readable.append((parcel.sop_instance_uid, dcmread(parcel.path)))
            except OSError as error:
                yield Answer(parcel.sop_instance_uid, Outcome.LATER, f"its file cannot be read ({error.strerror})")
            except InvalidDicomError:
                yield Answer(parcel.sop_instance_uid, Outcome.NEVER, "its file is no DICOM file any more")
        if readable:
            with self._association({dataset.SOPClassUID for _, dataset in readable}) as association:
                for uid, dataset in readable:
                    yield self._store(association, uid, dataset) if association.accepted_contexts else _unwanted(uid)

    def commit(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        """Ask for commitment and wait, as long as for any answer, for the report; see `Sender`.

        The report comes on the same association, or on one that the peer opens to `commitment_port`. If it does not
        come in time, nothing is yielded, and the next run asks again.
        """
        if not self._destination.commitment or not parcels:
            yield from (Answer(parcel.sop_instance_uid, Outcome.NOT_OFFERED) for parcel in parcels)
            return
        transaction = str(generate_uid(prefix=None))
        reports = Reports(transaction)
        with (
            listening(self._destination, peer(self._destination), reports),
            self._association({StorageCommitmentPushModel}, reports) as association,
        ):
            if not association.accepted_contexts:
                yield from (Answer(parcel.sop_instance_uid, Outcome.NOT_OFFERED) for parcel in parcels)
                return
            status, _ = association.send_n_action(
                _request(transaction, parcels),
                _REQUEST_COMMITMENT,
                StorageCommitmentPushModel,
                _COMMITMENT_INSTANCE,
            )
            if "Status" not in status:
                raise UnreachableError(f"{self._name} did not answer the request for commitment")
            if status.Status != 0:
                raise RefusedError(f"{self._name} refuses the request for commitment (status 0x{status.Status:04X})")
            committed, failed = reports.wait(self._destination.timeout_s)
        for parcel in parcels:
            uid = parcel.sop_instance_uid
            if uid in failed:
                # Whatever the reason, it is not safe there: it is sent again.
                yield Answer(uid, Outcome.LATER, by_status(uid, failed[uid]).sentence or "not committed")
            elif uid in committed:
                yield Answer(uid, Outcome.COMMITTED)

    def _store(self, association: Association, uid: str, dataset: Dataset) -> Answer:
        try:
            status = association.send_c_store(dataset)
        except ValueError:  # pynetdicom's word for a context that was not accepted, or that does not fit
            return _unwanted(uid)
        except RuntimeError as error:  # and for an association that has ended
            raise UnreachableError(f"{self._name} ended the association") from error
        if "Status" not in status:
            raise UnreachableError(
                f"{self._name} did not answer within {self._destination.timeout_s:g} s, or broke off"
            )
        return by_status(uid, status.Status)

    def _association(
        self, sop_classes: Iterable[str], reports: Reports | None = None
    ) -> AbstractContextManager[Association]:
        """An association for these SOP classes; raises if there is none."""
        return associated(
            self._destination,
            self._credentials,
            [(uid, _SYNTAXES) for uid in sorted(sop_classes)],
            handlers=[] if reports is None else [(evt.EVT_N_EVENT_REPORT, reports.handle)],
        )


def _unwanted(uid: str) -> Answer:
    return Answer(uid, Outcome.NEVER, "the PACS does not accept its SOP class or transfer syntax")


def _request(transaction: str, parcels: Iterable[Parcel]) -> Dataset:
    """Action Information of a request for commitment (PS3.4 J.3.2.1.1)."""
    request = Dataset()
    request.TransactionUID = transaction
    items = []
    for parcel in parcels:
        item = Dataset()
        item.ReferencedSOPClassUID = parcel.sop_class_uid
        item.ReferencedSOPInstanceUID = parcel.sop_instance_uid
        items.append(item)
    request.ReferencedSOPSequence = Items(items)
    return request
