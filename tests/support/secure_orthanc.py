"""Orthanc that others reach over TLS alone: DIMSE by its own means, https by a reverse proxy as sites have one.

Debian's Orthanc 1.10 ends at the first request of its own https server.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.support.certificates import Certificates
from tests.support.orthanc import AE_TITLE, PLUGIN, free_port

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class SecureOrthanc:
    """A running Orthanc. It shows its certificate, and asks DIMSE peers for theirs."""

    http_port: int
    https_port: int
    dicom_port: int

    @property
    def dicomweb(self) -> str:
        """Address of the DICOMweb service."""
        return f"https://127.0.0.1:{self.https_port}/dicom-web"

    @property
    def dimse(self) -> str:
        """Address of the DIMSE service, as site profiles write it."""
        return f"dicom-tls://{AE_TITLE}@127.0.0.1:{self.dicom_port}"

    def store(self, files: list[Path]) -> None:
        """Store DICOM files."""
        for file in files:
            url = f"http://127.0.0.1:{self.http_port}/instances"
            requests.post(url, file.read_bytes(), timeout=60).raise_for_status()


@contextmanager
def secure_orthanc(folder: Path, files: Certificates) -> Iterator[SecureOrthanc]:
    """Start Orthanc with its files in `folder` and these certificates, and stop it."""
    server = SecureOrthanc(free_port(), free_port(), free_port())
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "Name": "Tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": server.http_port,
        "DicomPort": server.dicom_port,
        "DicomAet": AE_TITLE,
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(files.certificate),
        "DicomTlsPrivateKey": str(files.key),
        "DicomTlsTrustedCertificates": str(files.ca),
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log) as process,
        forwarding(server.https_port, server.http_port, server_context(files)),
    ):
        try:
            _wait_until_it_answers(server, process, folder / "log")
            yield server
        finally:
            process.terminate()


def server_context(files: Certificates) -> ssl.SSLContext:
    """TLS of a server with the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(files.certificate), str(files.key))
    return context


def client_context(files: Certificates) -> ssl.SSLContext:
    """TLS of a client that trusts the authority and shows its certificate."""
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(str(files.certificate), str(files.key))
    return context


@contextmanager
def forwarding(
    port: int, target: int, tls: ssl.SSLContext | None = None, cut_after: int | None = None
) -> Iterator[None]:
    """Forward connections on loopback from `port` to `target`: over TLS, or cut after so many bytes of the client."""
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(0.1)
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):  # a peer that is gone, or does not trust us
                    client = server.accept()[0]
                    threading.Thread(target=_forward, args=(client, target, tls, cut_after), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _forward(client: socket.socket, target: int, tls: ssl.SSLContext | None, cut_after: int | None) -> None:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", target)) as there:
        here = client if tls is None else tls.wrap_socket(client, server_side=True)
        with here:
            sent = 0
            while True:
                pending = [here] if isinstance(here, ssl.SSLSocket) and here.pending() else []
                for one in pending or select.select([here, there], [], [])[0]:
                    data = one.recv(65_536)
                    if not data:
                        return
                    sent += len(data) if one is here else 0
                    if cut_after is not None and sent > cut_after:
                        return
                    (there if one is here else here).sendall(data)


def _wait_until_it_answers(server: SecureOrthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            requests.get(f"http://127.0.0.1:{server.http_port}/system", timeout=10)
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"Orthanc does not answer:\n{log.read_text(errors='replace')[-2000:]}")
