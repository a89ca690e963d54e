"""The delivery section of a site profile: every mistake is named, and nothing secret fits into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from screening.delivery.destinations import Peer, outbox_path, peer, tls_context
from screening.errors import ConfigError
from screening.site import DeliveryRules, Destination, Mode, ObjectKind, load_site

PACS = {"name": "pacs", "url": "https://pacs.example/dicom-web"}
SITE = {
    "name": "a-site",
    "description": "A hospital.",
    "sop_classes": [{"uid": "DigitalMammographyXRayImageStorageForPresentation"}],
    "view": [{"attribute": "ViewPosition"}],
    "laterality": [{"attribute": "ImageLaterality"}],
}


def rules(folder: Path, **delivery: Any) -> DeliveryRules:
    path = folder / "a-site.yaml"
    path.write_text(yaml.safe_dump({**SITE, "delivery": delivery}), encoding="utf-8")
    return load_site(path).delivery


def test_profile_that_says_nothing_is_in_shadow_mode_and_sends_nowhere() -> None:
    delivery = load_site("default").delivery
    assert delivery.mode is Mode.SHADOW
    assert delivery.destinations == ()
    assert outbox_path(delivery, Path("results")) == Path("results/outbox.sqlite")


def test_profile_with_everything_is_read(tmp_path: Path) -> None:
    delivery = rules(
        tmp_path,
        mode="live",
        decided_by="Dr. Who, radiologist in charge",
        outbox="/var/lib/screening/outbox.sqlite",
        live=[
            {**PACS, "kinds": ["cad-sr"], "user_env": "A_USER", "password_env": "A_PASSWORD"},
            {"name": "old-pacs", "url": "dicom-tls://OLD_PACS@10.0.0.7", "commitment_port": 11113, "timeout_s": 5}
            | {"certificate_file": "ours.pem", "ae_title": "CAD", "ca_file": "theirs.pem"},
        ],
        shadow=[{"name": "archive", "url": "dicom://ARCHIVE@[::1]:104"}],
    )
    assert [one.name for one in delivery.destinations] == ["pacs", "old-pacs"]
    assert delivery.live[0].kinds == (ObjectKind.CAD_SR,)
    assert peer(delivery.live[1]) == Peer("10.0.0.7", 2762, "OLD_PACS", tls=True)
    assert peer(delivery.shadow[0]) == Peer("::1", 104, "ARCHIVE", tls=False)
    assert outbox_path(delivery, Path("results")) == Path("/var/lib/screening/outbox.sqlite")


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"mode": "life"}, "delivery.mode: .*'shadow' or 'live'"),
    ({"mode": "live", "live": [PACS]}, "delivery: decided_by must say who decided"),
    ({"mode": "live", "decided_by": "me"}, "delivery: mode is live, but there is no destination in live"),
    ({"live": [PACS], "shadow": [PACS]}, "delivery: two destinations have the same name"),
    ({"live": [{**PACS, "password": "x"}]}, "delivery.live.0.password is no key"),
    ({"live": [{**PACS, "url": "https://me:secret@pacs.example"}]}, "url: credentials do not belong into a URL"),
    ({"live": [{**PACS, "url": "https://me@pacs.example"}]}, "url: credentials do not belong into a URL"),
    ({"live": [{**PACS, "url": "dicom://ME:secret@pacs.example"}]}, "url: credentials do not belong into a URL"),
    ({"live": [{**PACS, "url": "ftp://pacs.example"}]}, r"url: write http\(s\)://HOST"),
    ({"live": [{**PACS, "url": "https://pacs.example:port"}]}, "url: is no URL"),
    ({"live": [{**PACS, "url": "https://pacs.example/?a=b"}]}, "url: a DICOMweb address has no query"),
    ({"live": [{**PACS, "url": "dicom://pacs.example:104"}]}, "url: a DIMSE peer is written dicom://AE_TITLE@HOST"),
    ({"live": [{**PACS, "url": f"dicom://{'X' * 17}@pacs:104"}]}, "url: a DIMSE peer is written .* 16 characters"),
    ({"live": [{**PACS, "user_env": "A_USER"}]}, "live.0: user_env and password_env belong together"),
    ({"live": [{**PACS, "user_env": "no name"}]}, "live.0.user_env: "),
    (
        {"live": [{**PACS, "token_env": "A", "user_env": "B", "password_env": "C"}]},
        "live.0: token_env is for DICOMweb, and instead of user_env",
    ),
    ({"live": [{**PACS, "key_file": "a.pem"}]}, "live.0: key_file needs its certificate_file"),
    (
        {"live": [{"name": "a", "url": "dicom-tls://A@b", "commitment_port": 104}]},
        "live.0: commitment_port with dicom-tls needs a certificate_file",
    ),
    ({"live": [{**PACS, "kinds": ["report"]}]}, "live.0.kinds.0: .*'cad-sr'"),
    ({"live": [{**PACS, "timeout_s": 0}]}, "live.0.timeout_s: "),
    (
        {"live": [{"name": "a", "url": "dicom://A@b", "service": "fhir"}]},
        r"live.0: service fhir needs an http\(s\) URL",
    ),
    ({"live": [{**PACS, "service": "fhir", "kinds": ["cad-sr"]}]}, "live.0: kinds are for a PACS"),
    ({"live": [{**PACS, "service": "ups"}]}, "live.0: service ups needs retrieve_url or retrieve_ae_title"),
    ({"live": [{**PACS, "service": "ups", "retrieve_ae_title": "A", "workitem_query": "x"}]}, "0.workitem_query: "),
    ({"patient_system": "numbers"}, "delivery.patient_system: "),
]


@pytest.mark.parametrize(("delivery", "sentence"), MISTAKES, ids=[sentence[:40] for _, sentence in MISTAKES])
def test_mistake_is_named_with_its_key(delivery: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        rules(tmp_path, **delivery)
    assert "secret" not in str(caught.value)


def test_certificate_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("none.pem", "empty.pem"):
        with pytest.raises(ConfigError, match="destination pacs: ca_file, certificate_file or key_file cannot be used"):
            tls_context(Destination(**PACS, ca_file=str(tmp_path / name)))  # type: ignore[arg-type] # str alone
