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

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
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


class Destination(_Section):
    """A PACS that objects are sent to, by STOW-RS or C-STORE as its URL says.

    Secrets are not in a profile: `user_env`, `password_env` and `token_env` name environment variables that hold them.
    `timeout_s` holds for connecting and for each answer. `rejection_notes`: the PACS is told by a Key Object Selection
    which objects a newer result has superseded. DIMSE only: `ae_title` is our own; `commitment` asks for
    storage commitment where the peer offers it; `commitment_port` is where the peer may call back to report.
    """

    name: Annotated[str, Field(min_length=1, max_length=256)]
    url: Annotated[str, AfterValidator(_is_pacs_url)]
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
    without, each results folder has an outbox of its own.
    """

    mode: Mode = Mode.SHADOW
    decided_by: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    live: tuple[Destination, ...] = ()
    shadow: tuple[Destination, ...] = ()
    outbox: str | None = None

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


class SiteProfile(_Section):
    """One hospital's profile. Rules of one kind are tried in order; the first that gives a result counts."""

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
    operating_point: str | None = None
    delivery: DeliveryRules = DeliveryRules()

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
