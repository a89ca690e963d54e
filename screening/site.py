"""A site profile: how one hospital's headers are to be read, and what of its images is to be scored."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydicom import uid as uids
from pydicom.datadict import tag_for_keyword

from screening.configs import config_dir
from screening.errors import ConfigError
from screening.result import Reason
from screening.views import ViewModifier

_LONGEST_VALUE = 1024
_SHORTEST_KEY = 16


def _is_attribute(path: str) -> str:
    unknown = [keyword for keyword in path.split(".") if tag_for_keyword(keyword) is None]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no DICOM attribute keyword")
    return path


def _is_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no valid regular expression: {error}") from error
    return pattern


def _is_sop_class(uid: str) -> str:
    found = getattr(uids, uid, uid)  # the module has every UID of the standard under its keyword
    if not isinstance(found, str) or not re.fullmatch(uids.RE_VALID_UID, found):
        raise ValueError(f"{uid!r} is neither a UID nor the keyword of a SOP class")
    return str(found)


def _is_pacs_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from error
    if parts.scheme not in ("http", "https", "dicom", "dicom-tls") or not host:
        raise ValueError("write http(s)://HOST[:PORT]/PATH for DICOMweb or dicom(-tls)://AE_TITLE@HOST:PORT for DIMSE")
    if parts.scheme.startswith("dicom"):
        if not re.fullmatch(_AE_TITLE, parts.username or "") or parts.path not in ("", "/"):
            raise ValueError("a DIMSE peer is written dicom://AE_TITLE@HOST:PORT, the title of at most 16 characters")
    elif parts.query or parts.fragment:
        raise ValueError("a DICOMweb address has no query")
    if parts.password is not None or (parts.username and parts.scheme.startswith("http")):
        raise ValueError("credentials do not belong into a URL; name environment variables that hold them")
    return url.rstrip("/")


def _is_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone; write one such as Europe/Berlin") from error
    return name


_AE_TITLE = r"[!-\[\]-~]{1,16}"
_AeTitle = Annotated[str, Field(pattern=f"^{_AE_TITLE}$")]
_EnvironmentVariable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_Attribute = Annotated[str, AfterValidator(_is_attribute)]
_Pattern = Annotated[str, AfterValidator(_is_pattern)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Rule(_Section):
    """Take a value from a header attribute ("A.B" for B in the first item of sequence A).

    `pattern` must be found in the value; what its group `value` matches (or all that it matches) is the result, which
    `values` may translate further. Without a pattern, the whole value is the result.
    """

    attribute: _Attribute
    pattern: _Pattern | None = None
    values: dict[str, str] = {}

    def apply(self, text: str) -> str:
        """The rule's result for an attribute's text, "" if the rule does not apply."""
        found = text
        if self.pattern is not None:
            match = re.search(self.pattern, text[:_LONGEST_VALUE])
            if match is None:
                return ""
            found = (match["value"] if "value" in match.re.groupindex else match[0]) or ""
        return self.values.get(found, found)


class SopClass(_Section):
    """A SOP class whose images are eligible, given as UID or keyword, if its Modality is one of `modalities`."""

    uid: Annotated[str, AfterValidator(_is_sop_class)]
    modalities: tuple[str, ...] = ("MG",)


class Exclusion(_Section):
    """Images that the site does not want scored: `attribute` matches `pattern`; `sentence` says why."""

    attribute: _Attribute
    pattern: _Pattern
    sentence: str
    code: Reason = Reason.EXCLUDED_BY_SITE


class Reject(_Section):
    """Which images are rejected that would be scored, with a warning, otherwise."""

    implants: bool = False
    partial_views: bool = False
    for_processing: bool = False
    modifiers: tuple[ViewModifier, ...] = ()


class PixelSpacing(_Section):
    """Pixel spacing in the plane of the breast.

    `default_mm` is taken where the header states none. `correct_magnification` divides the spacing at the detector by
    the Estimated Radiographic Magnification Factor (PS3.3 10.7.1.1).
    """

    default_mm: Annotated[float, Field(ge=0.01, le=1.0)] | None = None
    correct_magnification: bool = True


class ObjectKind(StrEnum):
    """The kinds of DICOM objects that are made of an exam."""

    CAD_SR = "cad-sr"
    MEASUREMENT_REPORT = "measurement-report"
    PRESENTATION_STATE = "presentation-state"
    SUMMARY_IMAGE = "summary-image"
    HEATMAP = "heatmap"


class Service(StrEnum):
    """What a destination is: a PACS for the DICOM objects, a FHIR server for reports, a UPS-RS server for worklists."""

    PACS = "pacs"
    FHIR = "fhir"
    UPS = "ups"


class Destination(_Section):
    """Where results are sent: to a PACS, by STOW-RS or C-STORE as its URL says, or to another `service` over the web.

    UPS only: `retrieve_url` (DICOMweb) and `retrieve_ae_title` say where a reader's workstation gets the images;
    `worklist` is the Worklist Label; `workitem_query` says how the server wants a new workitem's UID. PS3.18 11.4.1.1
    writes `?{workitem}`, which most servers take for a name and a value; "{}" is for one that wants the bare UID.

    Secrets are not in a profile: `user_env`, `password_env` and `token_env` name environment variables that hold them.
    `timeout_s` holds for connecting and for each answer. `rejection_notes`: the PACS is told by a Key Object Selection
    which objects a newer result has superseded. DIMSE only: `ae_title` is our own; `commitment` asks for
    storage commitment where the peer offers it; `commitment_port` is where the peer may call back to report.
    """

    name: Annotated[str, Field(min_length=1, max_length=256)]
    url: Annotated[str, AfterValidator(_is_pacs_url)]
    service: Service = Service.PACS
    kinds: Annotated[tuple[ObjectKind, ...], Field(min_length=1)] = tuple(ObjectKind)
    user_env: _EnvironmentVariable | None = None
    password_env: _EnvironmentVariable | None = None
    token_env: _EnvironmentVariable | None = None
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    ae_title: _AeTitle = "SCREENING"
    commitment: bool = True
    commitment_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    rejection_notes: bool = True
    retrieve_url: Annotated[str, AfterValidator(_is_pacs_url)] | None = None
    retrieve_ae_title: _AeTitle | None = None
    worklist: Annotated[str, Field(min_length=1, max_length=64)] = "Screening"
    workitem_query: Annotated[str, Field(pattern=r"^[A-Za-z=]*\{\}$")] = "workitem={}"

    @model_validator(mode="after")
    def _fits_its_service(self) -> Self:
        if self.service is not Service.PACS and not self.url.startswith("http"):
            raise ValueError(f"service {self.service} needs an http(s) URL")
        if self.service is not Service.PACS and "kinds" in self.model_fields_set:
            raise ValueError("kinds are for a PACS; a FHIR or UPS server gets what it is for")
        if self.service is Service.UPS and self.retrieve_url is None and self.retrieve_ae_title is None:
            raise ValueError("service ups needs retrieve_url or retrieve_ae_title: where readers get the images")
        return self

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.user_env is None) != (self.password_env is None):
            raise ValueError("user_env and password_env belong together")
        if self.token_env is not None and (self.user_env is not None or self.url.startswith("dicom")):
            raise ValueError("token_env is for DICOMweb, and instead of user_env")
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file needs its certificate_file")
        if self.url.startswith("dicom-tls:") and self.commitment_port is not None and self.certificate_file is None:
            raise ValueError("commitment_port with dicom-tls needs a certificate_file to be called back")
        return self


class Mode(StrEnum):
    """Where results go: only aside, where nobody acts on them, or to the radiologists' PACS."""

    SHADOW = "shadow"
    LIVE = "live"


class DeliveryRules(_Section):
    """Live or shadow, and who decided so; where objects go in each mode.

    Whatever the mode, objects are kept in the results folder. `outbox`: a file that all batches of the site share;
    without, each results folder has an outbox of its own. `patient_system`: URI of the numbers that the hospital's
    PatientID is one of, for FHIR.
    """

    mode: Mode = Mode.SHADOW
    decided_by: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    live: tuple[Destination, ...] = ()
    shadow: tuple[Destination, ...] = ()
    outbox: str | None = None
    patient_system: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$")] | None = None

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Where objects go in the present mode."""
        return self.live if self.mode is Mode.LIVE else self.shadow

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = [one.name for one in (*self.live, *self.shadow)]
        if len(set(names)) < len(names):
            raise ValueError("two destinations have the same name")
        if self.mode is Mode.LIVE and self.decided_by is None:
            raise ValueError("decided_by must say who decided that results go live")
        if self.mode is Mode.LIVE and not self.live:
            raise ValueError("mode is live, but there is no destination in live")
        return self


class Source(_Section):
    """Where a night's exams are: a folder, a DICOMweb service or a DIMSE peer.

    `dates`, of the studies in a PACS, are relative to the night's day: today, yesterday, last-night (both), or
    last-N-days (N days that end yesterday). In a folder's path %Y, %m and %d are year, month and day of the study.
    `timezone` tells which day it is (an IANA name; default: the machine's). `move_to`: retrieve by C-MOVE to
    AE_TITLE:PORT, ours.
    """

    at: Annotated[str, Field(min_length=1, max_length=1024)]
    dates: Annotated[str, Field(pattern=r"^(today|yesterday|last-night|last-[1-9][0-9]?-days)$")] = "yesterday"
    move_to: Annotated[str, Field(pattern=rf"^{_AE_TITLE}:[0-9]{{1,5}}$")] | None = None
    timezone: Annotated[str, AfterValidator(_is_timezone)] | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        pacs = "://" in self.at
        if pacs:
            _is_pacs_url(self.at)
        if self.move_to is not None and not self.at.startswith("dicom"):
            raise ValueError("move_to is for dicom:// and dicom-tls://")
        if not pacs and re.search("%[Ymd]", self.at) and self.dates not in ("today", "yesterday"):
            raise ValueError("a folder by day (%Y, %m, %d) takes dates: today or yesterday")
        return self


class SiteOperatingPoint(_Section):
    """From which exam score on this site recalls, by exactly one of three ways.

    `name`: one of the bundle's operating points. `recall_rate`: the bundle's point for this share of recalled women.
    `threshold`: chosen on this site's own exams, as `screening accept` does: it holds for the one `model` (name,
    version and hash as in outputs) that scored them; `chosen_on` says which exams they were, and `target` for what.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    recall_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    target: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    chosen_on: Annotated[str, Field(min_length=1, max_length=256)] | None = None

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if sum(way is not None for way in (self.name, self.recall_rate, self.threshold)) != 1:
            raise ValueError("give exactly one of name, recall_rate and threshold")
        facts = {"model": self.model, "chosen_on": self.chosen_on}
        if self.threshold is not None and None in facts.values():
            missing = " and ".join(key for key, value in facts.items() if value is None)
            raise ValueError(f"a threshold needs {missing}: it means nothing with other scores")
        if self.threshold is None and (self.target, self.model, self.chosen_on) != (None, None, None):
            raise ValueError("model, target and chosen_on belong to a threshold")
        return self


def _named_point(written: Any) -> Any:
    """A string is short for the name of one of the bundle's operating points."""
    if isinstance(written, str):
        return {"name": written}
    if written is None or isinstance(written, dict | SiteOperatingPoint):
        return written
    raise ValueError("write the name of one of the bundle's points (a string), or threshold, model and chosen_on")


class PriorRules(_Section):
    """Which earlier exams of the same woman are fetched from the PACS to be shown beside the present one.

    The latest `count` of the last `years`; none by default. `move_to`: by C-MOVE to AE_TITLE:PORT, ours.
    """

    count: Annotated[int, Field(ge=0, le=5)] = 0
    years: Annotated[int, Field(ge=1, le=30)] = 5
    move_to: Annotated[str, Field(pattern=rf"^{_AE_TITLE}:[0-9]{{1,5}}$")] | None = None


class ArrivalRules(_Section):
    """Where `screening listen` takes what a PACS sends by itself, and when an exam is complete.

    An exam is complete when nothing of it came for `quiet_s` and nothing is known to be missing: neither instances,
    as counted by the destination named `pacs`, nor, where that cannot tell, one of `views` (such as RCC). After
    `patience_s` without a word an exam is scored as it is. `senders`: calling AE titles that are accepted, all if
    empty. With a `certificate_file` only TLS is spoken, with peers whose certificate `ca_file` vouches for.
    """

    ae_title: _AeTitle = "SCREENING"
    port: Annotated[int, Field(ge=1, le=65535)] = 11113
    senders: tuple[_AeTitle, ...] = ()
    quiet_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    patience_s: Annotated[float, Field(ge=0.1, le=86400)] = 300.0
    views: tuple[Annotated[str, Field(pattern="^[LR][A-Z]{2,4}$")], ...] = ()
    pacs: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    ca_file: str | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.patience_s < self.quiet_s:
            raise ValueError("patience_s is less than quiet_s")
        if self.certificate_file is None and (self.key_file is not None or self.ca_file is not None):
            raise ValueError("key_file and ca_file need a certificate_file: without one there is no TLS")
        return self


class SiteProfile(_Section):
    """One hospital's profile. Rules of one kind are tried in order; the first that gives a result counts.

    `audit_log`: folder of the audit log that all batches of the site share; without, each results folder has its own.
    `drift_reference`: the site's own reference for drift, as `screening accept` writes it; without, the bundle's.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
    description: str
    sop_classes: Annotated[tuple[SopClass, ...], Field(min_length=1)]
    woman: tuple[Rule, ...] = (Rule(attribute="PatientID"),)
    exam: tuple[Rule, ...] = (Rule(attribute="StudyInstanceUID"),)
    view: Annotated[tuple[Rule, ...], Field(min_length=1)]
    laterality: Annotated[tuple[Rule, ...], Field(min_length=1)]
    exclude: tuple[Exclusion, ...] = ()
    reject: Reject = Reject()
    pixel_spacing: PixelSpacing = PixelSpacing()
    pseudonym_key_env: _EnvironmentVariable | None = None
    operating_point: Annotated[SiteOperatingPoint | None, BeforeValidator(_named_point)] = None
    source: Source | None = None
    audit_log: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    drift_reference: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    delivery: DeliveryRules = DeliveryRules()
    arrivals: ArrivalRules = ArrivalRules()
    priors: PriorRules = PriorRules()

    @model_validator(mode="after")
    def _names_a_destination(self) -> Self:
        known = [one.name for one in (*self.delivery.live, *self.delivery.shadow)]
        if self.arrivals.pacs is not None and self.arrivals.pacs not in known:
            raise ValueError(f"arrivals.pacs: {self.arrivals.pacs!r} is no destination in delivery, live or shadow")
        return self

    def pseudonym_key(self) -> bytes | None:
        """The key for pseudonyms, None if the profile asks for none.

        Raises ConfigError if the profile names an environment variable that holds no key: identifiers must not leak
        because a variable was forgotten.
        """
        if self.pseudonym_key_env is None:
            return None
        key = os.environ.get(self.pseudonym_key_env, "")
        if len(key) < _SHORTEST_KEY:
            raise ConfigError(
                f"site profile {self.name}: pseudonym_key_env names the environment variable {self.pseudonym_key_env}, "
                f"which holds no key of at least {_SHORTEST_KEY} characters; set it"
            )
        return key.encode()


def pseudonym(identifier: str, key: bytes) -> str:
    """The keyed pseudonym of an identifier: 32 hexadecimal digits of HMAC-SHA-256 (RFC 2104)."""
    return hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:32]


def load_site(site: str | Path | None = None) -> SiteProfile:
    """Load a site profile: a YAML file, the name of a bundled profile, or None for the bundled `default`.

    Raises ConfigError, naming file and key, for a profile that is missing or invalid.
    """
    path = _find(site)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"site profile {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"site profile {path} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"site profile {path} must be a mapping of keys to values")
    try:
        # By way of JSON, where "strict" still takes a list for a tuple and a text for an enumeration.
        return SiteProfile.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        problems = "; ".join(
            _problem(dict(detail)) for detail in error.errors(include_url=False, include_context=False)
        )
        raise ConfigError(f"site profile {path}: {problems}") from error


def _find(site: str | Path | None) -> Path:
    folder = config_dir("sites")
    if site is None:
        return folder / "default.yaml"
    if isinstance(site, Path) or site.endswith((".yaml", ".yml")) or os.sep in site:
        return Path(site)
    if not (folder / f"{site}.yaml").is_file():
        bundled = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise ConfigError(f"there is no site profile {site!r}; give a YAML file or one of {bundled}")
    return folder / f"{site}.yaml"


def _problem(detail: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "the file"
    if detail["type"] == "extra_forbidden":
        return f"{key} is no key of a site profile"
    return f"{key}: {detail['msg'].removeprefix('Value error, ')}"
