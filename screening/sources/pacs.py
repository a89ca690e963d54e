"""A PACS as a source: its address with a range of dates, and the folder that its studies are fetched into."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl

from screening.delivery.destinations import credentials, unlisted
from screening.delivery.outbox import BackOff
from screening.errors import ConfigError
from screening.result import InstanceRejection, Reason, Rejection, Status
from screening.site import DeliveryRules, Destination, SiteProfile
from screening.sources.dicomweb import DicomWebClient
from screening.sources.fetch import PATIENCE, Client, Failure, Fetched, Progress, fetch_studies
from screening.sources.spool import Spool

_FORM = "https://HOST/PATH?date=YYYYMMDD-YYYYMMDD or dicom://AE_TITLE@HOST:PORT?date=…[&move_to=AE_TITLE:PORT]"


@dataclass(frozen=True)
class PacsAddress:
    """Which PACS, and which days ("YYYYMMDD-YYYYMMDD"); for C-MOVE our AE title and port."""

    destination: Destination
    dates: str
    move_to: tuple[str, int] | None = None


def is_pacs(source: str) -> bool:
    """Whether a source is an address, and no folder."""
    return re.match(r"(?i)(https?|dicom|dicom-tls)://", source) is not None


def pacs_address(source: str, rules: DeliveryRules) -> PacsAddress:
    """Read a source that `is_pacs`. One of the profile's destinations is taken with its settings, live or shadow.

    Raises ConfigError for a malformed one.
    """
    url, _, query = source.partition("?")
    known = (one for one in (*rules.live, *rules.shadow) if one.url == url.rstrip("/"))
    destination = next(known, None) or unlisted(url, "SOURCE")
    values = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(values.keys() - {"date", "move_to"})
    if unknown:
        raise ConfigError(f"SOURCE: {unknown[0]!r} is nothing to ask a PACS for; write {_FORM}")
    move_to = values.get("move_to")
    if move_to is not None and not destination.url.startswith("dicom"):
        raise ConfigError("SOURCE: move_to is for dicom:// and dicom-tls://, not for DICOMweb")
    return PacsAddress(destination, _dates(values.get("date", "")), None if move_to is None else move_target(move_to))


def fetch_source(
    source: str,
    profile: SiteProfile,
    out: Path,
    keep: bool,
    on_progress: Progress | None = None,
    patience: BackOff = PATIENCE,
) -> tuple[Fetched, Path]:
    """Fetch what `source` asks for into a folder under `out`, and return what came of it, and the folder.

    `keep`: studies that an earlier run fetched completely are not fetched again. Raises ConfigError for a malformed
    address or missing credentials, ScreeningError if the PACS cannot be asked, StoreError if `out` cannot be written.
    """
    # Their own words about broken connections would only repeat ours, and may quote what is received.
    for library in ("pynetdicom", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    address = pacs_address(source, profile.delivery)
    client = pacs_client(address.destination, profile, address.move_to)
    spool = Spool(out, keep)
    return fetch_studies(client, address.dates, spool, patience, on_progress), spool.folder


def source_client(source: str, profile: SiteProfile) -> Client:
    """What asks the PACS of a source that `is_pacs`. Raises ConfigError as `pacs_address` and `credentials`."""
    address = pacs_address(source, profile.delivery)
    return pacs_client(address.destination, profile, address.move_to)


def rejections(failures: tuple[Failure, ...], profile: SiteProfile) -> tuple[InstanceRejection, ...]:
    """Studies that did not come, as what the batch counts as failed and the report names."""
    by_study = profile.exam == SiteProfile.model_fields["exam"].default
    return tuple(
        InstanceRejection(
            file=f"study {failure.uid or f'number {number}'} of the PACS",
            exam_id=failure.uid if by_study else "",
            image_id="",
            status=Status.FAILED,
            rejection=Rejection(Reason.NOT_FETCHED, failure.sentence),
        )
        for number, failure in enumerate(failures, start=1)
    )


def pacs_client(destination: Destination, profile: SiteProfile, move_to: tuple[str, int] | None = None) -> Client:
    """What asks this PACS; `move_to`: by C-MOVE to our AE title and port. Raises ConfigError as `credentials`."""
    secrets = credentials(destination)
    if destination.url.startswith("http"):
        return DicomWebClient(destination, secrets)
    # DIMSE takes a moment to import; DICOMweb should not wait for it.
    from screening.sources.dimse import DimseClient, Listener

    listener = None if move_to is None else Listener(*move_to)
    return DimseClient(destination, secrets, [one.uid for one in profile.sop_classes], listener)


def _dates(written: str) -> str:
    """One day, or the first and the last, as QIDO-RS and C-FIND take a range (PS3.4 C.2.2.2.5)."""
    first, dash, last = written.partition("-")
    try:
        if not re.fullmatch(r"\d{8}(-\d{8})?", written, re.ASCII):
            raise ValueError
        days = [datetime.strptime(one, "%Y%m%d") for one in (first, last if dash else first)]
    except ValueError as error:
        raise ConfigError(f"SOURCE: say which days, date=YYYYMMDD or date=YYYYMMDD-YYYYMMDD; write {_FORM}") from error
    if days[0] > days[1]:
        raise ConfigError("SOURCE: the first day of date is after the last")
    return f"{first}-{last or first}"


def move_target(written: str) -> tuple[str, int]:
    """AE_TITLE:PORT in its parts. Raises ConfigError for a malformed one."""
    match = re.fullmatch(r"([!-\[\]-~]{1,16}):(\d{1,5})", written, re.ASCII)
    if match is None or not 1 <= int(match[2]) <= 65_535:
        raise ConfigError("SOURCE: move_to is our AE title as the PACS knows it, and our port: move_to=AE_TITLE:PORT")
    return match[1], int(match[2])
