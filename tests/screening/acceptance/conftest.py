"""A bundle with a reference of its training images, a site's sample, and the command run on it once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site_samples import EXAMS, WORDY, Accept, Accepted, phantom_reference, write_ordinary, write_wordy


@pytest.fixture(scope="session")
def accepting_bundle(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("accepting") / "bundle"
    shutil.copytree(bundle_folder, folder)
    phantom_reference(folder)
    return folder


@pytest.fixture(scope="session")
def accept(accepting_bundle: Path) -> Iterator[Accept]:
    from typer.testing import CliRunner

    from screening.cli import app

    def run(exams: Path, out: Path, *options: str, model: Path = accepting_bundle) -> Accepted:
        arguments = ["accept", "--exams", str(exams), "--out", str(out), "--model", str(model), "--fp32", *options]
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a stack trace that a user would see
        return Accepted(result.exit_code, result.stdout, result.stderr, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("screening.monitoring.reference.LEAST_EXAMS", EXAMS)  # hundreds would take minutes
        yield run


@pytest.fixture(scope="session")
def site_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_ordinary(folder, EXAMS)
    write_wordy(folder, WORDY)
    (folder / "readme.txt").write_text("no DICOM")
    return folder


@pytest.fixture(scope="session")
def accepted(accept: Accept, site_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Accepted:
    out = tmp_path_factory.mktemp("acceptance") / "out"
    return accept(site_sample, out, "--recall-rate", "0.5", "--repeat", "3")
