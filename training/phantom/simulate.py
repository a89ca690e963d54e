"""The run of `screening simulate`: many women at once, each complete or not there at all.

The folder: `simulation.json` says what is simulated and by what; `dicom/WOMAN/ROUND/*.dcm`; `women/WOMAN.json`, what is
known of her, written last, so that a woman without it does not count; and, once all are there, the tables `images.csv`
and `lesions.csv` (the truth) and `followup/*.csv` (what a registry would know).
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from importlib.metadata import version
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from screening.errors import ConfigError, ScreeningError
from screening.store.files import write_atomically, write_errors
from training.phantom.exams import Programme, WomanRows, simulate_woman
from training.phantom.population import draw_woman
from training.phantom.registry import Row, write_registry
from training.phantom.truth import IMAGE_COLUMNS, LESION_COLUMNS

IMAGES, LESIONS, FOLLOWUP, SIMULATION = "images.csv", "lesions.csv", "followup", "simulation.json"
DICOM, WOMEN = "dicom", "women"
_UNFINISHED = "unfinished"
_LIBRARIES = ("numpy", "scipy", "opencv-python-headless", "pydicom")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Progress = Callable[[int, int], None]


def simulate(programme: Programme, out: Path, workers: int, on_progress: Progress = lambda done, total: None) -> None:
    """Simulate `programme` into the folder `out` with `workers` processes, going on from where a killed run stopped.

    Equal programmes make equal files, whatever the number of workers. `on_progress` is called with the women done and
    all women. Raises `ConfigError` where `out` holds another simulation, `ScreeningError` where another program works
    in it or a worker dies, `StoreError` where it cannot be written.
    """
    with _locked(out):
        _claim(programme, out)
        shutil.rmtree(out / _UNFINISHED, ignore_errors=True)
        everyone = range(programme.women)
        waiting = [index for index in everyone if not _rows_file(out, programme, index).exists()]
        done = programme.women - len(waiting)
        on_progress(done, programme.women)
        for _ in _finished(programme, out, waiting, workers):
            done += 1
            on_progress(done, programme.women)
        _write_tables(programme, out)


def _claim(programme: Programme, out: Path) -> None:
    """Write what is simulated, or see that the folder's own simulation is the same."""
    mine = {
        "programme": asdict(programme),
        "software": {"screening": version("screening"), "simulator": _simulator_digest()},
        "libraries": {name: version(name) for name in _LIBRARIES},
        "note": "Simulated women: none of them exists. Not for clinical use.",
    }
    file = out / SIMULATION
    if not file.exists():
        if (out / DICOM).exists() or (out / WOMEN).exists():
            raise ConfigError(f"--out: {out} holds other files than a simulation's; give another folder")
        text = json.dumps(mine, indent=2) + "\n"
        write_atomically(file, [text.encode()])
        return
    try:
        theirs = json.loads(file.read_text(encoding="utf-8"))
        differing = [
            f"{name} is {theirs[part].get(name)}, not {value}"
            for part in ("programme", "software", "libraries")
            for name, value in mine[part].items()  # type: ignore[attr-defined]
            if theirs[part].get(name) != value
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"--out: {file} cannot be read; give another folder") from error
    if differing:
        raise ConfigError(
            f"--out: {out} holds another simulation ({'; '.join(differing)}); give another folder, or delete this one"
        )


def _simulator_digest() -> str:
    """SHA-256 of the simulator's own source: women of two versions must not be mixed."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _rows_file(out: Path, programme: Programme, index: int) -> Path:
    return out / WOMEN / f"{draw_woman(programme.seed, index).woman_id}.json"


def _simulate_into(programme: Programme, out: Path, index: int) -> None:
    """Simulate one woman in a folder of her own, which takes its place when it is complete."""
    woman_id = draw_woman(programme.seed, index).woman_id
    unfinished, finished = out / _UNFINISHED / woman_id, out / DICOM / woman_id
    with write_errors(out):
        unfinished.mkdir(parents=True)
        rows = simulate_woman(programme, index, unfinished)
        shutil.rmtree(finished, ignore_errors=True)  # of a run that was killed between here and the end
        finished.parent.mkdir(exist_ok=True)
        unfinished.rename(finished)
    write_atomically(_rows_file(out, programme, index), [json.dumps(rows.as_json(), indent=1).encode()])


def _finished(programme: Programme, out: Path, waiting: Sequence[int], workers: int) -> Iterator[int]:
    """Simulate the women `waiting` in processes of one thread each; yields each woman's index when she is done."""
    if not waiting:
        return
    with _one_thread():
        pool = ProcessPoolExecutor(
            min(workers, len(waiting)), mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker
        )
        try:
            running = {pool.submit(_simulate_into, programme, out, index): index for index in waiting}
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BrokenProcessPool as error:
            raise ScreeningError(
                "a process that simulates died, perhaps for lack of memory (each needs up to 1.5 GB); run the same "
                "command again to go on, with fewer --workers"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    with contextlib.suppress(OSError):
        (out / _UNFINISHED).rmdir()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Child processes begin with one thread: many women keep all cores busy, and sums keep their order."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _begin_worker() -> None:
    """An interrupted or killed parent takes its workers with it."""
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep other runs out of the folder, which is made if it is not there; the lock dies with its process."""
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ScreeningError(f"--out: another run simulates into {out}; wait for its end") from error
        yield
    finally:
        os.close(folder)


def _write_tables(programme: Programme, out: Path) -> None:
    """Put the women's rows together, in the order of their numbers; no registry has women with further lesions."""
    women = [_read_rows(_rows_file(out, programme, index)) for index in range(programme.women)]
    with write_errors(out):
        if not programme.more_lesions:
            write_registry((woman.registry for woman in women), out / FOLLOWUP)
        _write_csv(out / IMAGES, IMAGE_COLUMNS, (row for woman in women for row in woman.images))
        _write_csv(out / LESIONS, LESION_COLUMNS, (row for woman in women for row in woman.lesions))


def _read_rows(file: Path) -> WomanRows:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return WomanRows(**content)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{file} cannot be read; delete it and run the same command again") from error


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
