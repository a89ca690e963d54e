"""How long a PACS waits for results: one exam from its last instance to the results, and many exams at once.

    python -m benchmarks.latency [--exams 200] [--large 20] [--repetitions 3] [--json FILE] [--docs docs/performance.md]

A real Orthanc on loopback holds the exams and sends them by C-STORE to `screening listen`, which sends the results back
by STOW-RS. Times run from the moment at which the last instance is stored in Orthanc, before Orthanc begins to send,
to the moment at which every result can be read there by WADO-RS (one exam) or is counted there (many). Run it by hand
from the checkout's root, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.uid import UID

from benchmarks.exam_files import write_exam
from tests.support.listening import site
from tests.support.orthanc import Orthanc, free_port, running_orthanc

VIEWS = 4
RESULTS = 2 + VIEWS + 1 + VIEWS
"""Objects of an exam: two structured reports, presentation states, the summary image, heatmaps."""
LARGE, SMALL = (3328, 2560), (416, 320)
TARGET_S = 60.0
BEGIN, END = "<!-- latency: begin -->", "<!-- latency: end -->"
_PATIENCE_S = 3600.0


@dataclass(frozen=True)
class Pacs:
    """Orthanc with the exams, and how to ask it."""

    orthanc: Orthanc

    @property
    def auth(self) -> tuple[str, str]:
        return self.orthanc.user, self.orthanc.password

    def store(self, files: Sequence[Path]) -> str:
        """Store one exam; Orthanc's own name of the study."""
        url = f"http://127.0.0.1:{self.orthanc.http_port}/instances"
        answers = [requests.post(url, file.read_bytes(), auth=self.auth, timeout=60).json() for file in files]
        return str(answers[-1]["ParentStudy"])

    def send(self, studies: Sequence[str]) -> None:
        """Let Orthanc begin to send these studies to the listener, in this order."""
        url = f"http://127.0.0.1:{self.orthanc.http_port}/modalities/SCREENING/store"
        order = {"Resources": list(studies), "Asynchronous": True, "Permissive": False}
        requests.post(url, json.dumps(order), auth=self.auth, timeout=60).raise_for_status()

    def count(self) -> int:
        """How many instances are stored."""
        return int(self.orthanc.get("/statistics").json()["CountInstances"])

    def wait_for(self, instances: int) -> None:
        """Return when so many instances are stored."""
        deadline = time.monotonic() + _PATIENCE_S
        while self.count() < instances:
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.count()} of {instances} instances after {_PATIENCE_S:g} s")
            time.sleep(0.1)

    def read(self, study_uid: str) -> int:
        """Read a study by WADO-RS; how many results are in it."""
        session = requests.Session()
        session.auth = self.auth
        client = DICOMwebClient(self.orthanc.dicomweb, session)
        return sum(one.Modality != "MG" for one in client.retrieve_study(study_uid))

    def order_of_results(self) -> list[str]:
        """Studies in the order in which their first result arrived."""
        changes = self.orthanc.get("/changes?limit=1000000").json()["Changes"]
        expanded = self.orthanc.get("/series?expand").json()
        results = {one["ID"]: one["ParentStudy"] for one in expanded if one["MainDicomTags"]["Modality"] != "MG"}
        new = [results[one["ID"]] for one in changes if one["ChangeType"] == "NewSeries" and one["ID"] in results]
        return list(dict.fromkeys(new))


def main() -> None:
    options = _options()
    os.environ["LATENCY_USER"], os.environ["LATENCY_PASSWORD"] = "reader", "s3cret-of-orthanc"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        figures: dict[str, Any] = {
            "machine": machine(options),
            "one": one_exam(folder / "one", options),
            "many": many_exams(folder / "many", SMALL, options.exams, options),
            "many, large": many_exams(folder / "large", LARGE, options.large, options),
        }
    text = table(figures)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if options.docs:
        before, found, rest = options.docs.read_text(encoding="utf-8").partition(BEGIN)
        _, closed, after = rest.partition(END)
        if not found or not closed:
            raise SystemExit(f"{options.docs}: needs the lines {BEGIN} and {END}, between which the table goes")
        options.docs.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model bundle (default: the bundled one)")
    parser.add_argument("--exams", type=int, default=200, help="small exams at once (default: 200)")
    parser.add_argument("--large", type=int, default=20, help="exams of full size at once (default: 20)")
    parser.add_argument("--repetitions", type=int, default=3, help="of the single exam (default: 3)")
    parser.add_argument(
        "--quiet", type=float, default=10.0, help="quiet period in seconds (default: 10, the profile's)"
    )
    parser.add_argument(
        "--size", type=int, nargs=2, default=LARGE, metavar=("ROWS", "COLUMNS"), help="of the single exam"
    )
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--docs", type=Path, help="also put the table between the markers of this page")
    return parser.parse_args()


def one_exam(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from the last instance stored to all results read, one exam at a time."""
    seconds, sizes = [], []
    with running(folder, options) as pacs:
        for number in range(options.repetitions + 1):  # the first fills caches
            files = exam_files(folder / "files", tuple(options.size), number)
            sizes = [file.stat().st_size for file in files]
            before = pacs.count()
            study = pacs.store(files)
            stored = time.perf_counter()
            pacs.send([study])
            pacs.wait_for(before + VIEWS + RESULTS)
            if pacs.read(study_uid(number)) != RESULTS:
                raise SystemExit("not every result can be read")
            seconds.append(time.perf_counter() - stored)
    return {"seconds": seconds[1:], "megabytes": round(sum(sizes) / 1e6, 1), "pixels": list(options.size)}


def many_exams(folder: Path, size: tuple[int, int], count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds until all results of so many exams that come at once are in the PACS, and whether order was kept."""
    with running(folder, options) as pacs:
        studies, megabytes = [], 0.0
        for number in range(count):
            files = exam_files(folder / "files", size, number)
            megabytes += sum(file.stat().st_size for file in files) / 1e6
            studies.append(pacs.store(files))
        begun = time.perf_counter()
        pacs.send(studies)
        pacs.wait_for(count * (VIEWS + 1))
        first = time.perf_counter() - begun
        pacs.wait_for(count * (VIEWS + RESULTS))
        seconds = time.perf_counter() - begun
        order = pacs.order_of_results()
        complete = all(pacs.read(study_uid(number)) == RESULTS for number in range(count))
    return {
        "exams": count,
        "pixels": list(size),
        "megabytes_each": round(megabytes / max(1, count), 1),
        "seconds": seconds,
        "seconds_to_the_first": first,
        "exams_per_hour": 3600 * count / seconds,
        "in_order_of_arrival": order == studies,
        "all_readable": complete,
    }


@contextmanager
def running(folder: Path, options: argparse.Namespace) -> Iterator[Pacs]:
    """Orthanc and a listener that is ready to score, both thrown away in the end."""
    port = free_port()
    with running_orthanc(folder / "orthanc", {"SCREENING": ("127.0.0.1", port)}) as orthanc:
        pacs = {"name": "pacs", "url": orthanc.dicomweb, "timeout_s": 60}
        access = {"user_env": "LATENCY_USER", "password_env": "LATENCY_PASSWORD"}
        profile = site(
            folder,
            delivery={"mode": "live", "decided_by": "benchmark", "live": [pacs | access]},
            arrivals={"port": port, "quiet_s": options.quiet, "pacs": "pacs"},
        )
        program = "from screening.cli import main; main()"
        command = [sys.executable, "-c", program, "listen", "--site", str(profile), "--out", str(folder / "out")]
        command += ["--model", options.model] if options.model else []
        log = folder / "listen.log"
        with log.open("wb") as told, subprocess.Popen(command, stdout=told, stderr=told) as process:
            try:
                while "scores what comes" not in " ".join(log.read_text(errors="replace").split()):
                    if process.poll() is not None:
                        raise SystemExit(log.read_text(errors="replace"))
                    time.sleep(0.2)
                yield Pacs(orthanc)
            finally:
                process.terminate()


def exam_files(folder: Path, size: tuple[int, int], number: int) -> list[Path]:
    """The four views of exam `number`: the same pixels in all, with identifiers of their own."""
    base = folder / "base"
    sources = sorted(base.glob("*.dcm")) if base.is_dir() else write_exam(base, *size)
    files = []
    for view, source in enumerate(sorted(sources), start=1):
        dataset = dcmread(source)
        dataset.StudyInstanceUID = study_uid(number)
        dataset.SeriesInstanceUID = f"{study_uid(number)}.0"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{study_uid(number)}.{view}")
        dataset.PatientID = f"woman-{number}"
        files.append(folder / f"{view}.dcm")
        dataset.save_as(files[-1])
    return files


def study_uid(number: int) -> str:
    """The study of exam `number`."""
    return f"1.2.826.0.1.3680043.10.7.{number + 1}"


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What a figure depends on."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = [line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "load_before": round(os.getloadavg()[0], 1),
        "model": options.model or "the bundled one",
        "quiet_s": options.quiet,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "pynetdicom")},
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    facts, one = figures["machine"], figures["one"]
    rows, columns = one["pixels"]
    seconds = sorted(one["seconds"])
    lines = [
        f"Machine: {facts['processor']}, {facts['cores']} cores, {facts['memory_gb']} GB; load before the run "
        f"{facts['load_before']}. Quiet period {facts['quiet_s']:g} s. Model: {facts['model']}. Orthanc and the "
        "listener on this machine.",
        "",
        "| figure | value | target |",
        "| --- | --- | --- |",
        f"| one exam (4 × {rows} × {columns} pixels, {one['megabytes']} MB), last instance stored to all {RESULTS} "
        f"results read | **{seconds[len(seconds) // 2]:.1f} s** ({seconds[0]:.1f} to {seconds[-1]:.1f}) "
        f"| ≤ {TARGET_S:g} s |",
    ]
    for many in (figures["many"], figures["many, large"]):
        rows, columns = many["pixels"]
        lines += [
            f"| {many['exams']} exams at once (4 × {rows} × {columns} pixels, {many['megabytes_each']} MB each), all "
            f"results in the PACS | {many['seconds']:.0f} s, first after {many['seconds_to_the_first']:.0f} s | |",
            f"| the same: throughput | {many['exams_per_hour']:.0f} exams an hour | |",
            f"| the same: all results readable; in order of arrival | {_word(many['all_readable'])}; "
            f"{_word(many['in_order_of_arrival'])} | yes; yes |",
        ]
    return "\n".join(lines) + "\n"


def _word(good: bool) -> str:
    return "yes" if good else "**no**"


if __name__ == "__main__":
    main()
