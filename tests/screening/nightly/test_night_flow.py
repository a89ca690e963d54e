"""A night from the source to the summary: everything is accounted for, nothing is doubled, what failed is made good."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from screening.audit_log import verify
from screening.configs import config_dir
from screening.errors import StoreError
from screening.store import ResultStore
from tests.support.dicom import write_dicom
from tests.support.exams import BIRTH_DATE, NAME, WOMAN, drawn, instance, study_uid, write_exam
from tests.support.nights import NEXT, TONIGHT, Site, counting_pacs
from tests.support.orthanc import Orthanc, free_port, needs_orthanc

LATER = "2026-02-05"


@pytest.fixture
def site(tmp_path: Path, bundle_folder: Path) -> Site:
    one = Site(tmp_path, bundle_folder)
    one.incoming.mkdir()
    return one


def ends(night: dict[str, Any]) -> Counter[str]:
    return Counter({key: night["exams"][key] for key in ("scored", "rejected", "failed", "unfinished", "done_before")})


def adds_up(record: dict[str, Any]) -> None:
    """Found is the sum of all ways to end, in every night of a summary, and the reasons are as many as the ends."""
    for night in record["nights"]:
        for kind in ("exams", "instances"):
            told = night[kind]
            assert told["found"] == sum(told[key] for key in told if key != "found"), night
            for status in ("rejected", "failed"):
                assert told[status] == sum(one[kind] for one in night["reasons"] if one["status"] == status)


def test_a_mixed_night_is_accounted_for_in_summary_tables_metrics_and_log(site: Site) -> None:
    site.exams(1, 2)
    broken = instance(3, 1, "L", "CC", drawn("L", "CC", 1))
    write_dicom(site.incoming / "broken.dcm", broken, "1.2.840.10008.1.2.4.90", codestreams=[b"\xff\x4f\xff\x51" * 50])
    (site.incoming / "notes.txt").write_text("not DICOM")
    site.write_profile()
    metrics = site.folder / "night.prom"
    ran = site.night(TONIGHT, "--metrics-file", str(metrics), "--log-json")

    assert ran.code == 1
    adds_up(ran.summary)
    (night,) = ran.summary["nights"]
    assert ends(night) == Counter(scored=2, failed=1)
    assert night["instances"]["found"] == 4
    table = Counter(row["status"] for row in ran.table(TONIGHT))
    assert table == Counter(scored=2, failed=1)
    assert Counter(row["status"] for row in ran.table(TONIGHT, "images")) == Counter(scored=2, failed=1, rejected=1)

    figures = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.read_text())
        for sample in family.samples
    }
    place = ("site", "st-elsewhere")
    for state in ("scored", "rejected", "failed"):
        assert figures["screening_exams", place, ("state", state)] == table[state]
    assert figures["screening_instances", place, ("state", "rejected")] == 1
    unscored = ("of", "instance"), ("reason", "not-dicom"), place, ("status", "rejected")
    assert figures["screening_unscored", *unscored] == 1
    assert figures["screening_stage_seconds_count", place, ("stage", "total")] == 3
    assert figures["screening_night_exit_code", place] == ran.code

    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[-1])
    assert lines[-1]["exams"]["scored"] == 2
    everything = (
        ran.stderr + ran.stdout + "".join((site.out / name).read_text() for name in ("summary.html", "summary.json"))
    )
    for secret in (WOMAN, NAME, "Musterfrau", BIRTH_DATE):
        assert secret not in everything
        assert secret not in metrics.read_text()

    found = verify(site.out / "audit-log")
    assert found.whole
    logged = (site.out / "audit-log").glob("*.jsonl")
    events = Counter(json.loads(line)["event"] for path in logged for line in path.read_text().splitlines())
    assert events["exam"] == 3


def test_a_night_started_again_does_nothing_again(site: Site) -> None:
    site.exams(1)
    with counting_pacs() as (pacs, arrived):
        site.write_profile(pacs=pacs.url)
        first = site.night()
        before = (site.out / TONIGHT / "exams.csv").read_bytes()
        second = site.night()
    assert (first.code, second.code) == (0, 0)
    assert (site.out / TONIGHT / "exams.csv").read_bytes() == before
    assert second.summary["nights"][0]["starts"] == 2
    assert set(arrived.values()) == {1}


def test_a_folder_that_keeps_its_exams_is_not_scored_night_after_night(site: Site) -> None:
    """But what came is: new exams, and an exam to which images have come."""
    site.exams(1, 2)
    (site.incoming / "notes.txt").write_text("not DICOM")
    site.write_profile()
    site.night(TONIGHT)
    site.exams(3)
    write_exam(site.incoming, 2, views=(("R", "CC"), ("L", "CC")))
    ran = site.night(NEXT)
    adds_up(ran.summary)
    assert ran.code == 0
    assert ends(ran.summary["nights"][0]) == Counter(scored=2, done_before=1)
    assert ran.summary["nights"][0]["instances"]["found"] == 5
    assert {row["exam_id"] for row in ran.table(NEXT)} == {study_uid(2), study_uid(3)}
    assert [line["new"] for line in ran.summary["last_nights"]] == [2]
    third = site.night(LATER)
    assert ends(third.summary["nights"][0]) == Counter(done_before=3)
    assert not third.table(LATER)


def test_results_are_kept_while_the_pacs_is_down_and_delivered_once_by_a_later_night(site: Site) -> None:
    port = free_port()
    site.exams(1)
    site.write_profile(pacs=f"http://127.0.0.1:{port}/dicom-web")
    down = site.night(TONIGHT)
    assert down.code == 1
    assert [row["status"] for row in down.table(TONIGHT)] == ["scored"]
    (pacs,) = down.summary["delivery"]["destinations"]
    assert pacs["queued"] > 0
    assert pacs["oldest_waiting"]
    assert any("could not be sent to" in one["what"] for one in down.summary["todo"])
    assert down.summary["verdict"] == "act"

    site.exams(2)
    with counting_pacs(port) as (server, arrived):
        up = site.night(NEXT)
        after = site.night(NEXT)
    assert (up.code, after.code) == (0, 0)
    assert set(arrived.values()) == {1}
    assert len(arrived) == len(server.stored) == 2
    assert up.summary["delivery"]["destinations"][0]["queued"] == 0
    assert {row["exam_id"] for row in up.table(NEXT)} == {study_uid(2)}


@needs_orthanc
def test_a_pacs_that_is_source_and_destination_gets_each_object_once(
    site: Site, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time, our own objects are in the study that is fetched."""
    orthanc.store(write_exam(site.folder / "film", 1, views=(("R", "CC"), ("L", "CC"))))
    monkeypatch.setenv("PACS_USER", orthanc.user)
    monkeypatch.setenv("PACS_PASSWORD", orthanc.password)
    mine = Site(site.folder, site.bundle, {"user_env": "PACS_USER", "password_env": "PACS_PASSWORD"})
    mine.write_profile(at=orthanc.dicomweb, pacs=orthanc.dicomweb, dates="yesterday")
    first = mine.night("2024-02-01")
    stored = set(orthanc.stored())
    second = mine.night("2024-02-01")
    assert (first.code, second.code) == (0, 0), (first.stderr, second.stderr)
    assert len(stored) == 3
    assert set(orthanc.stored()) == stored
    assert orthanc.changes().count("NewInstance") == 3
    adds_up(second.summary)
    assert second.summary["delivery"]["destinations"][0]["arrived_now"] == 0


def test_a_night_whose_source_could_not_be_reached_is_finished_by_the_next(site: Site) -> None:
    by_day = site.folder / "share" / "%Y-%m-%d"
    site.write_profile(at=str(by_day), dates="today")
    unreachable = site.night(TONIGHT)
    assert unreachable.code == 2
    assert "is the share mounted" in unreachable.summary["nights"][0]["problem"]
    assert unreachable.summary["verdict"] == "act"
    for day, study in ((TONIGHT, 1), (NEXT, 2)):
        write_exam(site.folder / "share" / day, study, views=(("R", "CC"),))
    ran = site.night(NEXT)
    assert ran.code == 0
    assert [one["day"] for one in ran.summary["nights"]] == [NEXT, TONIGHT]
    assert [row["exam_id"] for row in ran.table(TONIGHT)] == [study_uid(1)]
    assert [row["exam_id"] for row in ran.table(NEXT)] == [study_uid(2)]


def test_an_exam_that_failed_is_tried_again_by_the_next_night(site: Site) -> None:
    at = site.folder / "share"
    site.write_profile(at=f"{at}/%Y-%m-%d", dates="today")
    whole = write_exam(at / TONIGHT, 1, views=(("R", "CC"),))[0]
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])  # still being written to
    assert site.night(TONIGHT).code == 1
    whole.write_bytes(content)
    (at / NEXT).mkdir()
    ran = site.night(NEXT)
    assert ran.code == 0
    assert [row["status"] for row in ran.table(TONIGHT)] == ["scored"]


def test_an_empty_source_is_no_failure_but_worth_a_look(site: Site) -> None:
    site.write_profile()
    ran = site.night()
    assert ran.code == 0
    assert ran.summary["verdict"] == "look"
    assert ran.summary["todo"][0]["what"] == "No new exam was found."
    adds_up(ran.summary)


@pytest.mark.parametrize(
    ("at", "words"),
    [("/nowhere/at/all", "is the share mounted"), ("http://127.0.0.1:9/dicom-web", "it was asked 3 times")],
)
def test_a_source_that_cannot_be_reached_ends_with_a_sentence(
    site: Site, at: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the patience between questions is tested elsewhere
    site.write_profile(at=at)
    ran = site.night()
    assert ran.code == 2
    assert words in ran.summary["nights"][0]["problem"]
    assert "Traceback" not in ran.stderr


def test_a_clock_that_was_set_back_neither_hides_nor_doubles_anything(site: Site) -> None:
    site.exams(1)
    with counting_pacs() as (pacs, arrived):
        site.write_profile(pacs=pacs.url)
        site.night(LATER)
        site.exams(2)
        ran = site.night(TONIGHT)
        again = site.night(LATER)
    assert (ran.code, again.code) == (0, 0)
    assert [row["exam_id"] for row in ran.table(TONIGHT)] == [study_uid(2)]
    assert [row["exam_id"] for row in ran.table(LATER)] == [study_uid(1)]
    assert len(arrived) == 2
    assert set(arrived.values()) == {1}
    assert ran.summary["last_nights"] == [], "a night of the future is no last night"


def test_a_second_site_does_not_write_into_the_nights_of_the_first(site: Site) -> None:
    site.write_profile()
    site.night()
    site.profile.write_text(site.profile.read_text().replace("st-elsewhere", "elsewhere"))
    ran = site.night()
    assert ran.code == 2
    assert "holds a night of site st-elsewhere" in ran.stderr


def test_a_damaged_record_of_an_old_night_stops_nobody(site: Site) -> None:
    (site.out / "2026-01-01").mkdir(parents=True)
    (site.out / "2026-01-01" / "night.json").write_text("{")
    site.write_profile()
    ran = site.night()
    assert ran.code == 0
    assert "is no record of that night" in ran.stderr


def test_a_full_disk_ends_with_a_sentence_and_the_night_is_finished_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.exams(1)
    site.write_profile()
    with monkeypatch.context() as broken:

        def full(*_: object) -> None:
            raise StoreError("the disk is full: free some space and run again")

        broken.setattr(ResultStore, "add_batch", full)
        ran = site.night()
    assert ran.code == 2
    assert "the disk is full" in ran.summary["nights"][0]["problem"]
    assert ran.summary["verdict"] == "act"
    later = site.night(NEXT)
    assert later.code == 0
    assert [row["exam_id"] for row in later.table(TONIGHT)] == [study_uid(1)]
    assert not later.table(NEXT)


def test_a_profile_without_source_is_told_what_it_lacks(site: Site) -> None:
    site.profile.write_text((config_dir("sites") / "default.yaml").read_text())
    ran = site.night()
    assert ran.code == 2
    assert "has no source" in ran.stderr
