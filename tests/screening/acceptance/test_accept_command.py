"""`screening accept` on drawn exams: what it writes, finds, proposes and keeps to itself."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from screening.model.bundle import load_bundle
from screening.monitoring.reference import read_reference
from screening.site import load_site
from tests.support.command import Score
from tests.support.dicom import write_dicom
from tests.support.exams import NAME, WOMAN, instance, write_exam
from tests.support.site_samples import EXAMS, SECRET_PROTOCOL, WORDY, Accept, Accepted, darkened, write_wordy

SOURCE_PROFILE = Path(__file__).parents[3] / "configs" / "sites" / "default.yaml"


def with_proposal(accepted: Accepted, folder: Path) -> Path:
    """The default profile with the keys replaced that acceptance proposes."""
    content = yaml.safe_load(SOURCE_PROFILE.read_text(encoding="utf-8"))
    content |= yaml.safe_load((accepted.out / "proposed-site.yaml").read_text(encoding="utf-8"))
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_every_file_is_accounted_for_and_only_what_is_lost_to_headers_fails(accepted: Accepted) -> None:
    record = accepted.record
    assert record["sample"]["files"] == 4 * (EXAMS + WORDY) + 1
    assert record["sample"]["exams"] == record["sample"]["scored"] == record["sample"]["women"] == EXAMS
    assert record["sample"]["images"] + sum(one["files"] for one in record["not_scored"]) == record["sample"]["files"]
    assert accepted.check("Mammograms that are not scored")["verdict"] == "fail"
    assert accepted.code == 1
    failed = {one["name"] for one in record["checks"] if one["verdict"] == "fail"}
    assert failed == {"Mammograms that are not scored"}


def test_proposed_profile_admits_what_was_rejected(accepted: Accepted, accept: Accept, tmp_path: Path) -> None:
    site = with_proposal(accepted, tmp_path)
    sample = tmp_path / "sample"
    write_wordy(sample, 1)
    before = accept(sample, tmp_path / "before", "--repeat", "0")
    assert before.record["sample"]["exams"] == 0
    after = accept(sample, tmp_path / "after", "--site", str(site), "--repeat", "0")
    assert after.record["sample"]["images"] == 4
    assert not after.record["not_scored"]
    assert after.check("Exams with CC and MLO")["verdict"] == "pass"


def test_proposed_operating_point_recalls_as_many_exams_as_stated(
    accepted: Accepted, score_cli: Score, site_sample: Path, tmp_path: Path
) -> None:
    site = with_proposal(accepted, tmp_path)
    point = load_site(site).operating_point
    assert point is not None
    recorded = accepted.record["operating_point"]
    assert recorded["recalled"] == EXAMS // 2
    run = score_cli(site_sample, tmp_path / "out", "--site", str(site))
    scores = {row["exam_id"]: float(row["score"]) for row in run.table("exams")}
    recalled = {exam for exam, score in scores.items() if score >= point.threshold}
    rows = run.table("worklist")
    assert {row["exam_id"] for row in rows if row["recall"] == "yes"} == recalled
    assert {row["recall"] for row in rows} == {"yes", "no"}
    first = [row["exam_id"] for row in rows[: len(recalled)]]
    assert set(first) == recalled  # of the worklist's order
    page = (run.out / "report.html").read_text(encoding="utf-8")
    assert f"site-{point.threshold:.6g}" in page
    assert f"{len(recalled)} for recall at the operating point" in page


def test_same_exams_give_the_same_record_but_for_time(
    accepted: Accepted, accept: Accept, site_sample: Path, tmp_path: Path
) -> None:
    again = accept(site_sample, tmp_path / "out", "--recall-rate", "0.5", "--repeat", "3").record

    def timeless(record: dict[str, object]) -> str:
        kept = {key: value for key, value in record.items() if key not in ("made", "seconds_per_exam")}
        kept["checks"] = [one for one in kept["checks"] if one["name"] != "Time per exam"]  # type: ignore[attr-defined]
        return json.dumps(kept)

    assert timeless(again) == timeless(accepted.record)
    assert again["checks"] != []


def test_repeatability_is_measured(accepted: Accepted) -> None:
    check = accepted.check("Repeatability")
    assert check["finding"] == "3 of 3 exams"
    assert check["verdict"] == "pass"


def test_no_patient_data_is_written(accepted: Accepted) -> None:
    for path in accepted.out.iterdir():
        content = path.read_text(encoding="utf-8")
        for secret in (WOMAN, NAME, "Musterfrau", "Erika", SECRET_PROTOCOL, "19611223"):
            assert secret not in content, path.name
    assert "Musterfrau" not in accepted.stdout + accepted.stderr
    assert "Screening 4 views" in (accepted.out / "acceptance.html").read_text(encoding="utf-8")


def test_report_is_one_whole_page_without_network_or_scripts_and_can_be_signed(accepted: Accepted) -> None:
    page = (accepted.out / "acceptance.html").read_text(encoding="utf-8")
    open_tags: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br", "rect", "path", "img"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    parser = Balance()
    parser.feed(re.sub(r"<(rect|path)([^>]*)/>", r"<\1\2>", page))
    assert not open_tags
    assert not re.search(r"<script|https?://|src=", page)
    for words in ("Nothing here is a medical device", "Clinical physicist, name", "Signature", "break-before: page"):
        assert words in page
    record = accepted.record
    for words in (record["model"]["sha256"], record["sample"]["digest"], record["profile_sha256"]):
        assert words in page
    for check in record["checks"]:
        assert check["name"] in page


def test_hostile_header_text_stays_text(accept: Accept, tmp_path: Path) -> None:
    for number, path in enumerate(write_exam(tmp_path / "in", 1), start=1):
        side, view = path.stem[0], path.stem[1:]
        pixels = darkened(side, view, number)
        evil = "<script>alert(1)</script>"
        write_dicom(path, instance(1, number, side, view, pixels, ManufacturerModelName=evil, SoftwareVersions=evil))
    run = accept(tmp_path / "in", tmp_path / "out", "--repeat", "0")
    page = (run.out / "acceptance.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_images_of_another_grey_scale_are_noticed(accepted: Accepted, accept: Accept, tmp_path: Path) -> None:
    for study in (1, 2):
        for number, (side, view) in enumerate((("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO")), start=1):
            dataset = instance(study, number, side, view, darkened(side, view, 10 * study + number))
            write_dicom(tmp_path / "in" / f"{study}{side}{view}.dcm", dataset)
    run = accept(tmp_path / "in", tmp_path / "out", "--repeat", "0")
    assert run.check("Mean brightness")["verdict"] == "fail"
    assert accepted.check("Mean brightness")["verdict"] != "fail"


def test_too_small_a_sample_gets_no_operating_point_but_the_number_that_is_needed(
    accept: Accept, site_sample: Path, tmp_path: Path
) -> None:
    run = accept(site_sample / "001", tmp_path / "out", "--repeat", "0")
    check = run.check("Operating point")
    assert check["verdict"] == "attention"
    assert "467 scored exams are needed" in check["finding"]
    proposed = (run.out / "proposed-site.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(proposed) is None
    assert "467" in proposed
    assert not (run.out / "site-reference.json").exists()
    assert "too few for a reference" in run.record["drift_reference"]


def test_reference_for_monitoring_is_the_sample_s_own(accepted: Accepted) -> None:
    reference = read_reference(accepted.out / "site-reference.json")
    assert reference.site == "default"
    whole = reference.stratum("")
    assert sum(whole.bins) == EXAMS
    assert whole.recalled is not None
    assert (whole.recalled.count, whole.recalled.total) == (EXAMS // 2, EXAMS)
    assert reference.threshold == pytest.approx(accepted.record["operating_point"]["threshold"])


def test_reference_of_images_does_not_change_the_model(accepting_bundle: Path, bundle_folder: Path) -> None:
    assert (accepting_bundle / "training-images.json").is_file()
    assert load_bundle(accepting_bundle).sha256 == load_bundle(bundle_folder).sha256


def test_bundle_without_reference_says_so(
    accept: Accept, bundle_folder: Path, site_sample: Path, tmp_path: Path
) -> None:
    run = accept(site_sample / "001", tmp_path / "out", "--repeat", "0", model=bundle_folder)
    assert "without a reference" in run.check("Breast area and intensity")["finding"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--exams", "nowhere"], "neither a folder nor a file"),
        (["--site", "nowhere"], "no site profile"),
    ],
)
def test_wrong_use_is_one_sentence(
    accept: Accept, site_sample: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    run = accept(site_sample / "001", tmp_path / "out", *options)
    assert run.code == 2
    assert sentence in " ".join((run.stderr + run.stdout).split())


def test_empty_folder_is_refused(accept: Accept, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    run = accept(tmp_path / "in", tmp_path / "out")
    assert run.code == 2
    assert "holds no files" in run.stderr + run.stdout
