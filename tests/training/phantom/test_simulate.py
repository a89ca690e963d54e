"""`screening simulate`: the same bytes whatever happens on the way, truth that fits the pixels, tables for others."""

from __future__ import annotations

import csv
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import psutil
import pytest
from typer import Typer
from typer.testing import CliRunner, Result

import training.cli
from evaluation.tables import load_followup
from screening.errors import ConfigError, ScreeningError
from screening.exam import Laterality
from screening.site import load_site
from screening.sources.folder import read_folder
from tests.support.handmade_breasts import handmade_breast
from tests.support.validators import dciodvfy, needs
from training.datasets import read_dataset
from training.phantom.dicom import written_pixels
from training.phantom.exams import Programme, machine, simulate_woman
from training.phantom.imaging import mammogram, tomosynthesis
from training.phantom.model import CompressedBreast, Grid, Lesion, LesionKind, LesionTrace, Style
from training.phantom.population import draw_woman
from training.phantom.simulate import simulate
from training.phantom.styles import STYLES
from training.phantom.truth import image_box

PROGRAMME = Programme(seed=3, women=2, rounds=2, modality="both", pixel_mm=0.8, cancer_share=0.8)
COMMAND = (
    *("simulate", "--women", 2, "--seed", 3, "--rounds", 2, "--modality", "both"),
    *("--pixel-mm", 0.8, "--cancer-share", 0.8),
)


def run(*arguments: object) -> Result:
    app = Typer()
    training.cli.join(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two women, two rounds, two workers."""
    out = tmp_path_factory.mktemp("simulated") / "out"
    result = run(*COMMAND, "--out", out, "--workers", 2)
    assert result.exit_code == 0, result.output
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_run_that_is_killed_goes_on_to_the_same_bytes_as_with_other_workers(out: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    started = subprocess.Popen(
        [sys.executable, "-m", "screening.cli", *map(str, COMMAND), "--out", str(again), "--workers", "1"],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: any(again.glob("women/*.json")))
        workers = psutil.Process(started.pid).children(recursive=True)
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
    assert workers
    wait_until(lambda: not any(worker.is_running() for worker in workers))
    assert not (again / "images.csv").exists()
    assert len(list(again.glob("women/*.json"))) < PROGRAMME.women, "killed too late to prove anything"
    result = run(*COMMAND, "--out", again, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert contents(again) == contents(out)


def wait_until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_woman_whose_rows_are_missing_is_made_again_and_others_are_left_alone(out: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(out, tmp_path / "copy")
    first, second = sorted(path.stem for path in copy.glob("women/*.json"))
    (copy / "women" / f"{second}.json").unlink()
    for image in (copy / "dicom" / second).rglob("*.dcm"):
        image.write_bytes(b"half")
    (copy / "unfinished" / second).mkdir(parents=True)
    untouched = {path: path.stat().st_mtime_ns for path in (copy / "dicom" / first).rglob("*.dcm")}
    calls: list[tuple[int, int]] = []
    simulate(PROGRAMME, copy, 1, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    assert contents(copy) == contents(out)
    assert {path: path.stat().st_mtime_ns for path in untouched} == untouched


def test_other_parameters_in_the_same_folder_are_refused_by_name(out: Path) -> None:
    before = contents(out)
    result = run(*COMMAND, "--out", out, "--rounds", 3)
    assert result.exit_code == 2
    with pytest.raises(ConfigError, match=r"holds another simulation \(rounds is 2, not 3\)"):
        simulate(Programme(3, 2, 3, "both", 0.8, 0.8), out, 1)
    assert contents(out) == before


def test_women_of_another_version_of_the_simulator_are_not_mixed(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "copy")
    file = tmp_path / "copy" / "simulation.json"
    file.write_text(file.read_text().replace('"simulator": "', '"simulator": "0'))
    with pytest.raises(ConfigError, match="simulator is 0"):
        simulate(PROGRAMME, tmp_path / "copy", 1)
    file.write_text("{")
    with pytest.raises(ConfigError, match=r"simulation\.json cannot be read"):
        simulate(PROGRAMME, tmp_path / "copy", 1)


def test_a_folder_of_other_images_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    with pytest.raises(ConfigError, match="holds other files"):
        simulate(PROGRAMME, tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["dicom"]


def test_two_runs_do_not_work_in_one_folder(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(ScreeningError, match="another run simulates into"):
        simulate(PROGRAMME, tmp_path, 1)
    os.close(folder)


@pytest.mark.parametrize("share", ["0", "1", "-0.5"])
def test_a_share_of_cancers_that_is_none_is_wrong_use(tmp_path: Path, share: str) -> None:
    result = run(*COMMAND, "--out", tmp_path / "out", "--cancer-share", share)
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


@needs("dciodvfy")
def test_every_image_of_an_exam_is_valid_dicom(out: Path) -> None:
    exam = min(path.parent for path in out.glob("dicom/*/*/*.dcm"))
    found = sorted(exam.glob("*.dcm"))
    assert len(found) == 12
    assert {path.name: dciodvfy(path) for path in found} == {path.name: [] for path in found}


def test_the_pipeline_reads_every_image_and_the_registry_knows_every_exam(out: Path) -> None:
    scan = read_folder(out / "dicom", load_site(None))
    assert scan.rejections == ()
    followup = load_followup(out / "followup")
    stated = {(row.exam_id, row.woman_id, str(row.exam_date.date())) for row in followup.exams.itertuples()}
    assert {(exam.exam_id, exam.woman_id, str(exam.exam_date)) for exam in scan.exams} == stated
    assert followup.lesions is not None
    assert followup.weights is not None
    images = {image.image_id: image for exam in scan.exams for image in exam.images}
    rows = table(out / "images.csv")
    assert {row["image_id"] for row in rows} == set(images)
    for row in rows:
        image = images[row["image_id"]]
        assert (row["laterality"], row["view"], row["kind"]) == (image.laterality, image.view, image.kind)
        assert (int(row["rows"]), int(row["columns"]), int(row["frames"])) == (image.rows, image.columns, image.frames)
        assert float(row["pixel_mm"]) == pytest.approx(image.pixel_spacing_mm[0])
        assert image.path == out / "dicom" / row["file"]


def test_cancers_of_the_registry_are_in_the_truth_with_the_same_boxes(out: Path) -> None:
    box = ("image_id", "x", "y", "width", "height", "frame", "malignant")
    truth = {tuple(row[name] for name in box) for row in table(out / "lesions.csv")}
    known = table(out / "followup" / "lesions.csv")
    # The registry's frames pass through pandas, which writes whole numbers with a point where some are missing.
    shown = {tuple(str(row[name]).removesuffix(".0") for name in box) for row in known}
    assert shown
    assert shown <= {tuple(cell.removesuffix(".0") for cell in row) for row in truth}


def test_the_adapter_reads_the_folder(out: Path) -> None:
    records = read_dataset("simulated", out)
    assert {record.path for record in records} == set((out / "dicom").rglob("*.dcm"))
    assert any(record.malignant for record in records)
    assert any(record.malignant is False for record in records)


def test_a_mammogram_is_the_same_without_the_volume_of_the_same_compression(out: Path, tmp_path: Path) -> None:
    only = Programme(3, 2, 1, "mammography", 0.8, 0.8)
    index = 1
    simulate_woman(only, index, tmp_path)
    both = out / "dicom" / draw_woman(3, index).woman_id / "round-1"
    mammograms = contents(tmp_path / "round-1")
    assert len(mammograms) == 4
    assert {name: (both / name).read_bytes() for name in mammograms} == mammograms


BALL_MM, RADIUS_MM = (14.0, 40.0, 20.0), 3.0


def ball_trace() -> LesionTrace:
    lesion = Lesion(
        lesion_id="ball",
        laterality=Laterality.LEFT,
        kind=LesionKind.CIRCUMSCRIBED_MASS,
        malignant=True,
        invasive=True,
        position_mm=(0.0, 0.0, 0.0),
        born=date(2020, 1, 1),
        birth_mm=2 * RADIUS_MM,
        doubling_days=100.0,
        contrast=1.0,
        seed=0,
    )
    height, along, out = BALL_MM
    r = RADIUS_MM
    return LesionTrace(lesion, 2 * r, ((height - r, along - r, out - r), (height + r, along + r, out + r)), 9.0)


def with_and_without_ball(laterality: Laterality) -> tuple[CompressedBreast, CompressedBreast]:
    """A drawn breast without and with a dense ball at `BALL_MM`."""
    grid = Grid(pixel_mm=0.4)
    ball = handmade_breast(grid=grid, ball_mm=BALL_MM, ball_radius_mm=RADIUS_MM, ball=0.2)
    return replace(handmade_breast(grid=grid), laterality=laterality), replace(ball, laterality=laterality)


@pytest.mark.parametrize("laterality", Laterality)
@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_the_box_of_a_lesion_is_where_the_mammogram_as_written_changes(style: Style, laterality: Laterality) -> None:
    without, ball = (
        written_pixels(mammogram(breast, style, np.random.default_rng(1))).astype(float)
        for breast in with_and_without_ball(laterality)
    )
    image = mammogram(with_and_without_ball(laterality)[1], style, np.random.default_rng(1))
    box = image_box(ball_trace(), image, "image")
    assert box is not None
    assert box.frame is None
    change = ball - without
    rows, columns = np.nonzero(change > 0.5 * change.max())
    pixel = image.pixel_mm
    assert columns.mean() + 0.5 == pytest.approx(box.x + box.width / 2, abs=0.6 / pixel)
    assert rows.mean() + 0.5 == pytest.approx(box.y + box.height / 2, abs=0.6 / pixel)
    assert (box.width * pixel, box.height * pixel) == pytest.approx((6.0, 6.0), abs=0.1)


@pytest.mark.parametrize("laterality", Laterality)
def test_the_frame_of_a_lesion_is_the_one_in_which_the_volume_changes_most(laterality: Laterality) -> None:
    wide = max(STYLES, key=lambda style: style.sweep_degrees)
    without, ball = (tomosynthesis(b, wide, np.random.default_rng(1)) for b in with_and_without_ball(laterality))
    box = image_box(ball_trace(), ball, "image")
    assert box is not None
    assert box.frame == int(BALL_MM[0] / wide.frame_mm)
    x, y = round(box.x + box.width / 2), round(box.y + box.height / 2)
    change = written_pixels(ball).astype(float) - written_pixels(without)
    profile = change[:, y - 3 : y + 4, x - 3 : x + 4].mean(axis=(1, 2))
    half = np.flatnonzero(profile > 0.5 * profile.max())
    assert half.mean() == pytest.approx(box.frame, abs=1.5)


def test_a_lesion_beyond_the_image_has_no_box_and_one_at_the_border_ends_there() -> None:
    image = mammogram(with_and_without_ball(Laterality.RIGHT)[0], STYLES[0], np.random.default_rng(1))
    columns = image.pixels.shape[1]
    beyond = replace(ball_trace(), box_mm=((0.0, -9.0, 3.0), (5.0, -1.0, 8.0)))
    assert image_box(beyond, image, "image") is None
    border = replace(ball_trace(), box_mm=((0.0, 30.0, -3.0), (5.0, 40.0, 2.0)))
    box = image_box(border, image, "image")
    assert box is not None
    assert box.x + box.width == pytest.approx(columns, abs=0.01), "the chest wall of a right breast is on the right"
    assert box.width * image.pixel_mm == pytest.approx(2.0, abs=0.01)


def test_a_woman_keeps_her_machine_mostly_and_all_machines_are_used() -> None:
    first = [machine(5, index, 0) for index in range(300)]
    later = [machine(5, index, 1) for index in range(300)]
    same = sum(one is other for one, other in zip(first, later, strict=True)) / 300
    assert 0.6 < same < 0.9
    assert all(first.count(style) > 60 for style in STYLES)
