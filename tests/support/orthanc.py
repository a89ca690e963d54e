"""A real PACS for tests: Orthanc with its DICOMweb plugin, on free loopback ports, with all it stores thrown away."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom import dcmread
from pydicom.dataset import FileDataset

from tests.support.peers import REQUIRED

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_ABSENT = shutil.which("Orthanc") is None or not PLUGIN.exists()

needs_orthanc = pytest.mark.skipif(_ABSENT and not REQUIRED, reason="not installed: orthanc, orthanc-dicomweb")
"""Skip a test where Orthanc is not installed."""

AE_TITLE = "ORTHANC"
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc. `user` and `password` are asked for by HTTP."""

    http_port: int
    dicom_port: int
    user: str = "reader"
    password: str = "s3cret-of-orthanc"

    @property
    def dicomweb(self) -> str:
        """Address of the DICOMweb service."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    @property
    def dimse(self) -> str:
        """Address of the DIMSE service, as site profiles write it."""
        return f"dicom://{AE_TITLE}@127.0.0.1:{self.dicom_port}"

    def get(self, path: str) -> requests.Response:
        """GET from Orthanc's own interface (not DICOMweb)."""
        response = requests.get(f"http://127.0.0.1:{self.http_port}{path}", auth=(self.user, self.password), timeout=60)
        response.raise_for_status()
        return response

    def store(self, files: Iterable[Path]) -> None:
        """Store DICOM files."""
        for file in files:
            url = f"http://127.0.0.1:{self.http_port}/instances"
            requests.post(url, file.read_bytes(), auth=(self.user, self.password), timeout=60).raise_for_status()

    def stored(self) -> dict[str, FileDataset]:
        """All that is stored, by SOP Instance UID."""
        files = [self.get(f"/instances/{one}/file").content for one in self.get("/instances").json()]
        datasets = [dcmread(BytesIO(file)) for file in files]
        assert len({str(dataset.SOPInstanceUID) for dataset in datasets}) == len(datasets)
        return {str(dataset.SOPInstanceUID): dataset for dataset in datasets}

    def changes(self) -> list[str]:
        """What happened, in order: NewInstance, NewSeries, …"""
        return [one["ChangeType"] for one in self.get("/changes?limit=100000").json()["Changes"]]

    def clear(self) -> None:
        """Delete all that is stored."""
        for patient in self.get("/patients").json():
            url = f"http://127.0.0.1:{self.http_port}/patients/{patient}"
            requests.delete(url, auth=(self.user, self.password), timeout=60).raise_for_status()
        url = f"http://127.0.0.1:{self.http_port}/changes"
        requests.delete(url, auth=(self.user, self.password), timeout=60).raise_for_status()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_orthanc(folder: Path, modalities: dict[str, tuple[str, int]] | None = None) -> Iterator[Orthanc]:
    """Start Orthanc with its files in `folder`, and stop it. `modalities`: AE title to (host, port)."""
    server = Orthanc(free_port(), free_port())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(_configuration(server, folder, modalities or {})))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log) as process,
    ):
        try:
            _wait_until_it_answers(server, process, folder / "log")
            yield server
        finally:
            process.terminate()


def _configuration(server: Orthanc, folder: Path, modalities: dict[str, tuple[str, int]]) -> dict[str, Any]:
    return {
        "Name": "Tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": server.http_port,
        "DicomPort": server.dicom_port,
        "DicomAet": AE_TITLE,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {server.user: server.password},
        "DicomModalities": {
            name: {"AET": name, "Host": host, "Port": port, "AllowStorageCommitment": True}
            for name, (host, port) in modalities.items()
        },
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }


def _wait_until_it_answers(server: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.get("/system")
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"Orthanc does not answer:\n{log.read_text(errors='replace')[-2000:]}")
