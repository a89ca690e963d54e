"""The night from a real PACS and back: fetched, scored, sent, and read there, by either protocol alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from typer import Typer
from typer.testing import CliRunner

from screening.delivery.commands import join
from screening.site import load_site
from screening.sources.fetch import Fetched
from screening.sources.pacs import fetch_source
from tests.support.command import Score
from tests.support.exams import study_uid, write_exam
from tests.support.orthanc import Orthanc, needs_orthanc

NIGHT = "date=20240131"


@needs_orthanc
@pytest.mark.parametrize("service", ["dicomweb", "dimse"])
def test_results_of_the_night_are_read_from_the_pacs_that_it_came_from(
    tmp_path: Path,
    orthanc: Orthanc,
    bundle_folder: Path,
    score_cli: Score,
    monkeypatch: pytest.MonkeyPatch,
    service: str,
) -> None:
    if service == "dicomweb":
        monkeypatch.setenv("SCREENING_PACS_USER", orthanc.user)
        monkeypatch.setenv("SCREENING_PACS_PASSWORD", orthanc.password)
    url = getattr(orthanc, service)
    spot = {("L", "CC"): (110.0, 180.0), ("L", "MLO"): (110.0, 180.0)}
    orthanc.store([*write_exam(tmp_path / "in", 1, spots=spot), *write_exam(tmp_path / "in", 2)])
    run = score_cli(f"{url}?{NIGHT}", tmp_path / "out", "--workers", "0")
    assert run.code == 0

    app = Typer()
    join(app)
    sent = CliRunner().invoke(app, ["send", str(run.out), "--to", url, "--model", str(bundle_folder)])
    assert sent.exit_code == 0, sent.output

    fetched, folder = fetch_source(f"{url}?{NIGHT}", load_site(), tmp_path / "read", keep=False)
    assert fetched == Fetched(2, 2, ())
    made = {path.stem: dcmread(path) for path in (run.out / "dicom").rglob("*.dcm")}
    read = {path.stem: dcmread(path) for path in folder.rglob("*.dcm")}
    assert {uid: read[uid] for uid in made} == made
    assert len(read) == 8 + len(made)
    for study in (study_uid(1), study_uid(2)):
        modalities = sorted(str(one.Modality) for one in made.values() if one.StudyInstanceUID == study)
        assert modalities.count("SR") == 2
        assert modalities.count("PR") == 4
