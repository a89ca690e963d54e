"""The files that operators copy are valid, by the programs that will read them, and say what the docs say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cronsim import CronSim

from screening.delivery.outbox import State
from screening.nightly.metrics import NightMetrics
from screening.site import Mode, load_site
from tests.support.peers import needs_program

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = DOCS / "examples"
MISSING = "No night of a has begun for 26 hours: look at the timer and the machine."
PROGRAM = "/opt/screening/.venv/bin/screening"


def options(command: str) -> set[str]:
    """The options of a command line that calls `screening nightly`."""
    words = shlex.split(command)
    start = words.index("nightly")
    return {word.partition("=")[0] for word in words[start:] if word.startswith("--")}


def known_options() -> set[str]:
    import typer

    from screening.cli import app

    command = typer.main.get_group(app).commands["nightly"]
    return {name for parameter in command.params for name in parameter.opts}


def cronjob() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((EXAMPLES / "cronjob.yaml").read_text())
    return content


@needs_program("systemd-analyze", "systemd")
def test_systemd_takes_service_and_timer(tmp_path: Path) -> None:
    for name in ("screening-nightly.service", "screening-nightly.timer"):
        text = (EXAMPLES / name).read_text().replace(PROGRAM, "/bin/true")  # it verifies that the program is there
        (tmp_path / name).write_text(text)
    told = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
    )
    ours = [line for line in told.stderr.splitlines() if "screening-nightly" in line]
    assert (told.returncode, ours) == (0, [])


@needs_program("systemd-analyze", "systemd")
def test_the_timer_elapses_once_a_night() -> None:
    (when,) = re.findall(r"^OnCalendar=(.*)$", (EXAMPLES / "screening-nightly.timer").read_text(), re.MULTILINE)
    command = ["systemd-analyze", "calendar", "--iterations=3", "--base-time=2026-01-31 12:00:00", when]
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin"}
    )
    elapses = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", told.stdout.partition("Next elapse")[2])
    assert elapses[:3] == ["2026-02-01 02:00", "2026-02-02 02:00", "2026-02-03 02:00"]


def test_the_cron_line_runs_once_a_night_as_the_right_user() -> None:
    (line,) = re.findall(r"^\d.*$", (EXAMPLES / "screening.cron").read_text(), re.MULTILINE)
    *fields, user, command = line.split(maxsplit=6)
    times = CronSim(" ".join(fields), datetime(2026, 1, 31, 12, tzinfo=UTC))
    first, second = next(times), next(times)
    assert first == datetime(2026, 2, 1, 2, tzinfo=UTC)
    assert second - first == timedelta(days=1)
    assert user == "screening"
    assert "%" not in command, "cron takes a per cent sign for the end of the line"
    assert options(command.partition("2>>")[0]) <= known_options()


def test_kubernetes_takes_the_cronjob() -> None:
    kubernetes_validate.validate(cronjob(), kubernetes_validate.latest_version(), strict=True)
    next(CronSim(cronjob()["spec"]["schedule"], datetime(2026, 1, 31, tzinfo=UTC)))


def test_kubernetes_never_runs_two_nights_and_repeats_only_what_was_killed() -> None:
    spec = cronjob()["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    (rule,) = [one for one in spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"] if one["action"] == "FailJob"]
    assert rule["onExitCodes"] == {"containerName": "nightly", "operator": "In", "values": [1, 2]}
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["screening", "nightly"]
    assert {argument.partition("=")[0] for argument in container["args"]} <= known_options()


def test_the_service_calls_the_command_with_options_that_it_has() -> None:
    text = (EXAMPLES / "screening-nightly.service").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert command.startswith(f"{PROGRAM} nightly ")
    assert options(command) <= known_options()


def test_the_example_profile_is_valid_and_sends_nothing() -> None:
    profile = load_site(EXAMPLES / "site.yaml")
    assert profile.source is not None
    assert profile.delivery.mode is Mode.SHADOW
    assert not profile.delivery.destinations


def metric_names() -> set[str]:
    return {f"{one.name}" for one in NightMetrics("x").registry.collect()}


def test_every_metric_is_in_the_docs_and_every_one_there_is_exported() -> None:
    page = (DOCS / "operations.md").read_text()
    assert set(re.findall(r"^\| `(screening_\w+)` \|", page, re.MULTILINE)) == metric_names()


def test_the_metrics_file_can_be_read_by_node_exporter_though_the_service_hides_what_it_writes(tmp_path: Path) -> None:
    (umask,) = re.findall(r"^UMask=(\d+)$", (EXAMPLES / "screening-nightly.service").read_text(), re.MULTILINE)
    before = os.umask(int(umask, 8))
    try:
        NightMetrics("x", tmp_path / "screening.prom").write()
    finally:
        os.umask(before)
    assert (tmp_path / "screening.prom").stat().st_mode & 0o777 == 0o644


def test_alerts_are_about_metrics_that_there_are() -> None:
    rules = yaml.safe_load((EXAMPLES / "alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        used = set(re.findall(r"\bscreening_\w+", rule["expr"]))
        assert used, rule["alert"]
        assert used <= metric_names(), rule["alert"]
        states = set(re.findall(r'state=~?"([a-z|]+)"', rule["expr"]))
        known = {"queued", "claimed", "scored", "rejected", "failed", *State}
        assert {state for group in states for state in group.split("|")} <= known


@needs_program("promtool", "prometheus")
def test_prometheus_takes_the_alerts_and_they_fire_when_they_should(tmp_path: Path) -> None:
    """promtool's own evaluation: a night that is 27 hours old pages somebody, one of 25 hours does not."""
    test = {
        "rule_files": [str(EXAMPLES / "alerts.yml")],
        "evaluation_interval": "10m",
        "tests": [
            {
                "interval": "10m",
                "input_series": [
                    {"series": 'screening_night_start_timestamp_seconds{site="a"}', "values": "0x400"},
                    {"series": 'screening_night_end_timestamp_seconds{site="a"}', "values": "3600x400"},
                ],
                "alert_rule_test": [
                    {"eval_time": "25h", "alertname": "ScreeningNightMissing", "exp_alerts": []},
                    {"eval_time": "25h", "alertname": "ScreeningNightTooLong", "exp_alerts": []},
                    {
                        "eval_time": "27h",
                        "alertname": "ScreeningNightMissing",
                        "exp_alerts": [
                            {
                                "exp_labels": {"site": "a", "severity": "page"},
                                "exp_annotations": {"summary": MISSING},
                            }
                        ],
                    },
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(test))
    told = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir()))
def test_every_example_is_told_in_the_docs(name: str) -> None:
    assert f"docs/examples/{name}" in (DOCS / "operations.md").read_text()
