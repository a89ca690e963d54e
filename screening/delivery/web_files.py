"""What sending to a web service that is no PACS has in common: one request for each file, and no commitment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from screening.delivery.answers import Answer, Outcome
from screening.delivery.destinations import Credentials
from screening.delivery.outbox import Parcel
from screening.delivery.web import WebSession
from screening.site import Destination


class FileSender(ABC):
    """Sends each parcel's file on its own; see `Sender`. Subclasses say how."""

    def __init__(self, destination: Destination, credentials: Credentials) -> None:
        self._destination = destination
        self._web = WebSession(destination, credentials)

    def send(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        """Send the files one after the other. One that is gone is answered, and the others follow."""
        for parcel in parcels:
            try:
                content = parcel.path.read_bytes()
            except OSError as error:
                yield Answer(parcel.sop_instance_uid, Outcome.LATER, f"its file cannot be read ({error.strerror})")
            else:
                outcome, sentence = self._store(content)
                yield Answer(parcel.sop_instance_uid, outcome, sentence)

    def commit(self, parcels: Sequence[Parcel]) -> Iterator[Answer]:
        """The answer to sending is all there is."""
        for parcel in parcels:
            yield Answer(parcel.sop_instance_uid, Outcome.NOT_OFFERED)

    @abstractmethod
    def _store(self, content: bytes) -> tuple[Outcome, str]:
        """Send one file; what became of it, and why it was not taken."""

    def _ask(self, method: str, url: str, media_type: str, content: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of the answer to one request."""
        headers = {"Accept": media_type} | ({"Content-Type": media_type} if content is not None else {})
        with self._web.ask(method, url, data=content, headers=headers) as response:
            return response.status_code, self._web.body(response)
