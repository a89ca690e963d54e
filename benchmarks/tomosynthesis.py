"""How fast a tomosynthesis volume is scored against decoding and network alone, and how much memory it takes.

    python -m benchmarks.tomosynthesis [--json FILE] [--model BUNDLE] [--repeats N] [--cores N]

Run it by hand from the checkout's root, on a machine that does nothing else. A volume of 60 frames of 2457 x 1996 in
JPEG 2000 lossless is made, and two things are timed in turn in one process: *end to end*, from the folder to the
result with its pictures (headers, decoding, slabs, network, regions, heatmap, key frames), and the *floor*, the same
decoder on all frames and the network on all slabs, one after the other. Both have the same decoder threads and network
threads; end to end decodes the next frame while it reduces the last, so that the ratio can be below 1. Peak memory is
that of processes of their own: volumes of 60 frames, and of 80 frames of 16 bit, the most that is promised.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import torch
from pydicom import uid

from screening.dicomfile import open_dicom
from screening.imaging.decode import PIXEL_KEYWORDS, FrameReader, PixelFormat
from screening.imaging.load_volume import load_volume
from screening.model.bundle import Bundle, load_bundle
from screening.model.forward import forward
from screening.model.precision import bfloat16_pays
from screening.report import write_figures
from screening.result import ExamResult, Status
from screening.scoring import answer, score
from screening.site import load_site
from screening.sources.folder import read_folder
from tests.support.dicom import write_dicom
from tests.support.phantoms import HEIGHT_MM, Outline, synthetic_mammogram
from tests.support.volumes import tomosynthesis

ROWS, COLUMNS = 2457, 1996
RATIO_TARGET, MEMORY_TARGET_GB = 1.25, 1.5
_DIFFERENT = 5
"""Frames that are made; a volume repeats them, as each takes a second to draw and to encode."""


def main() -> None:
    options = _options()
    torch.set_num_threads(options.cores)
    if options.peak:
        print(json.dumps(_peak(Path(options.peak), options.model)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        timed, large = folder / "60", folder / "80"
        megabytes = write_volume(timed, frames=60, bits=14)
        write_volume(large, frames=80, bits=16)
        figures: dict[str, Any] = {"megabytes": round(megabytes, 1), "cores": options.cores}
        figures |= timings(timed, load_bundle(options.model), options.repeats)
        figures["peak_gb"] = {path.name: _peak_of(path, options) for path in (timed, large)}
    _show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def write_volume(folder: Path, frames: int, bits: int) -> float:
    """Write one volume into `folder`; returns its size in megabytes."""
    streams = [_encoded(_frame(number, bits), bits) for number in range(_DIFFERENT)]
    dataset = tomosynthesis(np.zeros((frames, 1, 1), np.uint16), bits_stored=bits)
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [HEIGHT_MM / ROWS] * 2
    voi = shared.FrameVOILUTSequence[0]
    voi.WindowCenter, voi.WindowWidth = float(1 << (bits - 1)), float(1 << bits)
    codestreams = [streams[number % _DIFFERENT] for number in range(frames)]
    path = write_dicom(folder / "volume.dcm", dataset, uid.JPEG2000Lossless, codestreams=codestreams)
    return path.stat().st_size / 1e6


def timings(folder: Path, bundle: Bundle, repeats: int) -> dict[str, Any]:
    """Seconds of both, in turn, and their ratio by medians."""
    half = bfloat16_pays(bundle.device)
    whole: list[float] = []
    decode: list[float] = []
    network: list[float] = []
    end_to_end(folder, bundle, half)  # once for nothing: what is loaded at first use is not timed
    for _ in range(repeats):
        start = time.perf_counter()
        end_to_end(folder, bundle, half)
        whole.append(time.perf_counter() - start)
        decode.append(_decoding(folder / "volume.dcm"))
        network.append(_network(folder, bundle, half))
    floor = float(np.median(decode)) + float(np.median(network))
    return {
        "end_to_end_s": whole,
        "decode_s": decode,
        "network_s": network,
        "ratio": float(np.median(whole)) / floor,
        "bfloat16": half,
        "device": str(bundle.device),
    }


def end_to_end(folder: Path, bundle: Bundle, half: bool) -> ExamResult:
    """Score the one exam of a folder and write its pictures."""
    (exam,) = read_folder(folder, load_site()).exams
    result = score(exam, bundle, lambda image: answer(image, bundle, half=half))
    assert result.status is Status.SCORED, result.rejection
    with tempfile.TemporaryDirectory() as out:
        write_figures(Path(out), result, bundle.calibration.category_thresholds[-1])
    return result


def _decoding(path: Path) -> float:
    start = time.perf_counter()
    with open_dicom(path, PIXEL_KEYWORDS) as file:
        pixel_format = PixelFormat.of(file.dataset)
        reader = FrameReader(file, pixel_format)
        for frame in range(pixel_format.frames):
            reader.raw(frame)
    return time.perf_counter() - start


def _network(folder: Path, bundle: Bundle, half: bool) -> float:
    (exam,) = read_folder(folder, load_site()).exams
    loaded = load_volume(exam.images[0], bundle.preparation, bundle.slabbing)
    assert loaded.volume is not None
    start = time.perf_counter()
    for image in loaded.volume.images:
        forward(image, bundle, half)
    return time.perf_counter() - start


def _peak(folder: Path, model: str | None) -> float:
    bundle = load_bundle(model)
    end_to_end(folder, bundle, bfloat16_pays(bundle.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _peak_of(folder: Path, options: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "benchmarks.tomosynthesis", "--peak", str(folder), "--cores", str(options.cores)]
    if options.model:
        command += ["--model", options.model]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _frame(number: int, bits: int) -> npt.NDArray[np.uint16]:
    outline = Outline(centre=0.5, half_height=0.45, depth=0.7, axilla=0.0)
    shown = synthetic_mammogram(ROWS, COLUMNS, "L", "CC", number, noise=400.0, outline=outline).astype(np.float64)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    away = number - _DIFFERENT // 2
    shown += 20_000 * np.exp(-((x - 700) ** 2 + (y - 1200) ** 2) / (2 * 50.0**2) - away**2 / 2)
    return (np.clip(shown, 0, 65535).astype(np.uint16) >> (16 - bits)).astype(np.uint16)


def _encoded(frame: npt.NDArray[np.uint16], bits: int) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True, bitspersample=bits))


def _show(figures: dict[str, Any]) -> None:
    def median(key: str) -> str:
        return f"{float(np.median(figures[key])):.2f} s"

    print(f"one volume of 60 frames of {ROWS} x {COLUMNS}, JPEG 2000 lossless, {figures['megabytes']} MB")
    print(f"end to end {median('end_to_end_s')}; decode {median('decode_s')} + network {median('network_s')}")
    ratio = figures["ratio"]
    print(f"ratio {ratio:.2f} (target at most {RATIO_TARGET}: {'met' if ratio <= RATIO_TARGET else 'missed'})")
    for frames, peak in figures["peak_gb"].items():
        met = "met" if peak <= MEMORY_TARGET_GB else "missed"
        print(f"peak memory, {frames} frames: {peak:.2f} GB (target at most {MEMORY_TARGET_GB}: {met})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of scoring a tomosynthesis volume.")
    parser.add_argument("--model", help="Bundle; default: the bundled one.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="Threads of the network.")
    parser.add_argument("--json", type=Path, help="Write the figures here as well.")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
