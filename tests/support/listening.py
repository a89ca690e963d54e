"""`screening listen` for tests: a site profile, the command as a process, and a sender of instances."""

from __future__ import annotations

import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.association import Association

_PATIENCE_S = 120.0


def site(folder: Path, name: str = "hospital", **sections: Any) -> Path:
    """A site profile file with these sections (`delivery`, `arrivals`, `priors`)."""
    path = folder / f"{name}.yaml"
    content = {
        "name": name,
        "description": "A hospital.",
        "sop_classes": [{"uid": "DigitalMammographyXRayImageStorageForPresentation"}],
        "view": [{"attribute": "ViewPosition"}],
        "laterality": [{"attribute": "ImageLaterality"}],
        **sections,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


class Listener:
    """A running `screening listen`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """What it said."""
        return " ".join(self._log.read_text(errors="replace").split())

    def says(self, words: str) -> None:
        """Wait until it has said this."""
        wait_until(lambda: words in self.log or self.process.poll() is not None)
        assert words in self.log, self.log

    def end(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(_PATIENCE_S)


@contextmanager
def running_listener(profile: Path, out: Path, model: Path, *options: str, before: str = "") -> Iterator[Listener]:
    """`screening listen`; `before`: Python code that it runs first, to make it fail where a test wants that."""
    program = f"{before}\nfrom screening.cli import app\napp()"
    arguments = ["listen", "--site", str(profile), "--out", str(out), "--model", str(model), "--fp32", *options]
    log = out.parent / f"{out.name}.log"
    with log.open("ab") as told:
        command = [sys.executable, "-c", program, *arguments]
        process = subprocess.Popen(command, stdout=told, stderr=told, env=None)
        try:
            running = Listener(process, log)
            running.says("listens on port")
            yield running
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def store(
    port: int,
    files: Sequence[Path],
    calling: str = "MODALITY",
    called: str = "SCREENING",
    tls: ssl.SSLContext | None = None,
) -> list[int | None]:
    """C-STORE these files; the status of each, None without an answer."""
    association = associate(port, files, calling, called, tls)
    assert association.is_established
    statuses = [getattr(association.send_c_store(file), "Status", None) for file in files]
    association.release()
    return statuses


def associate(
    port: int,
    files: Sequence[Path],
    calling: str = "MODALITY",
    called: str = "SCREENING",
    tls: ssl.SSLContext | None = None,
) -> Association:
    """An association for sending these files, established or not."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    for abstract, syntax in sorted({_context(file) for file in files}):
        ae.add_requested_context(abstract, syntax)
    return ae.associate("127.0.0.1", port, ae_title=called, tls_args=(tls, "127.0.0.1") if tls else None)


def wait_until(condition: Callable[[], bool], seconds: float = _PATIENCE_S) -> None:
    """Return when the condition holds, or when it did not in time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def _context(file: Path) -> tuple[str, str]:
    header = dcmread(file, stop_before_pixels=True)
    return str(header.SOPClassUID), str(header.file_meta.TransferSyntaxUID)
