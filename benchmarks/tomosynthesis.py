"""How fast a tomosynthesis volume is scored against decoding and network alone, and how much memory it takes.

    python -m benchmarks.tomosynthesis [--docs docs/performance.md] [--json FILE] [--model BUNDLE] [--repeats N]

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

from benchmarks.score_exam import Seconds, machine
from screening.dicomfile import open_dicom
from screening.imaging.decode import PIXEL_KEYWORDS, FrameReader, PixelFormat
from screening.imaging.load_volume import load_volume
from screening.model.bundle import Bundle, load_bundle
from screening.model.forward import forward_slabs
from screening.model.precision import bfloat16_pays
from screening.report import write_figures
from screening.result import ExamResult, Status
from screening.scoring import answer, score
from screening.site import load_site
from screening.sources.folder import read_folder
from tests.support.dicom import write_dicom
from tests.support.phantoms import HEIGHT_MM, Outline, synthetic_mammogram
from tests.support.volumes import tomosynthesis
from training.pages import put_block

BLOCK = "tomosynthesis"
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
    bundle = load_bundle(options.model)
    figures: dict[str, Any] = {"machine": machine(bundle), "cores": options.cores}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        timed, large = folder / "60", folder / "80"
        figures["megabytes"] = round(write_volume(timed, frames=60, bits=14), 1)
        write_volume(large, frames=80, bits=16)
        figures |= timings(timed, bundle, options.repeats)
        figures["peak_gb"] = {path.name: _peak_of(path, options) for path in (timed, large)}
    text = document(figures)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.docs:
        put_block(options.docs, BLOCK, text)


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
    forward_slabs(loaded.volume.images, bundle, half)
    return time.perf_counter() - start


def _peak(folder: Path, model: str | None) -> float:
    bundle = load_bundle(model)
    end_to_end(folder, bundle, bfloat16_pays(bundle.device))
    # Not getrusage, whose peak a process takes over from its parent.
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024 / 1e9


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


def document(figures: dict[str, Any]) -> str:
    """The figures in Markdown, and whether targets are met."""
    facts, ratio = figures["machine"], figures["ratio"]
    lines = [
        f"Machine: {facts['processor']}, {figures['cores']} of {facts['cores']} cores used, {facts['memory_gb']} GB; "
        f"network on {facts['device']} in {'bfloat16' if figures['bfloat16'] else 'float32'}; load before the run "
        f"{facts['load_before']}. Model: `{facts['model']}`.",
        f"Volume: 60 frames of {ROWS} × {COLUMNS} pixels, 14 bits in 16, JPEG 2000 lossless, "
        f"{figures['megabytes']} MB.",
        "",
        "| figure | value | target |",
        "| --- | --- | --- |",
        f"| floor: decoding alone | {Seconds(tuple(figures['decode_s']))} | |",
        f"| floor: networks alone, as they read the slabs | {Seconds(tuple(figures['network_s']))} | |",
        f"| end to end, one volume from file to pictures | {Seconds(tuple(figures['end_to_end_s']))} | |",
        f"| **end to end ÷ floor** | **{ratio:.2f}** | ≤ {RATIO_TARGET}: {_met(ratio <= RATIO_TARGET)} |",
    ]
    for frames, peak in figures["peak_gb"].items():
        met = _met(peak <= MEMORY_TARGET_GB)
        lines.append(f"| **peak memory**, {frames} frames | **{peak:.2f} GB** | ≤ {MEMORY_TARGET_GB} GB: {met} |")
    return "\n".join(lines)


def _met(met: bool) -> str:
    return "met" if met else "missed"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of scoring a tomosynthesis volume.")
    parser.add_argument("--model", help="Bundle; default: the bundled one.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="Threads of the network.")
    parser.add_argument("--json", type=Path, help="Write the figures here as well.")
    parser.add_argument("--docs", type=Path, help="Page whose block is replaced.")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
