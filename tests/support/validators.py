"""Independent validators of DICOM objects: DCMTK, dicom3tools and PixelMed, as programs.

Tests that need one are marked with `needs`, which skips or fails them as `peers` does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.peers import REQUIRED

_PACKAGES = {
    "dcmdump": "dcmtk",
    "dsrdump": "dcmtk",
    "dciodvfy": "dicom3tools",
    "DicomSRValidator": "pixelmed-apps",
}


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip a test where one of `programs` is not installed, naming the Debian package that has it."""
    absent = sorted({_PACKAGES[program] for program in programs if shutil.which(program) is None})
    return pytest.mark.skipif(bool(absent) and not REQUIRED, reason=f"not installed: {', '.join(absent)}")


def dcmdump(path: Path) -> str:
    """The object as DCMTK reads it; fails the test where DCMTK complains of anything."""
    output, status = _run("dcmdump", "+L", "+U8", str(path))
    assert status == 0, output
    assert not re.search(r"^[EF]: ", output, re.M), output
    return output


def dsrdump(path: Path) -> str:
    """The structured report as DCMTK reads it; fails the test where DCMTK complains of anything."""
    output, status = _run("dsrdump", "+U8", "+Pl", "+Pu", str(path))
    assert status == 0, output
    assert not re.search(r"^[EF]: ", output, re.M), output
    return output


def dciodvfy(path: Path) -> list[str]:
    """What dicom3tools finds wrong with the object by its IOD: lines of errors, none for a valid object."""
    output, _ = _run("dciodvfy", str(path))
    assert output.strip(), "dciodvfy said nothing: it did not recognise the object"
    return [line for line in output.splitlines() if line.startswith("Error")]


def sr_validator(path: Path, extensible: bool = False) -> list[str]:
    """What PixelMed finds wrong with the report by its templates: errors and warnings, none for a valid report.

    `extensible`: the root template may have more than its rows, so that what it does not know is no fault.
    """
    output, status = _run("DicomSRValidator", str(path))
    assert status == 0, output
    assert "IOD validation complete" in output, output
    harmless = [
        r"Found .* IOD|Found Root Template|Root Template Validation Complete|IOD validation complete",
        r"Picked up JAVA_TOOL_OPTIONS",
        r'Warning: .* in template concept name \("Failed  (Detections|Analyses)"\)',  # two spaces: PixelMed's own slip
        *([r"Warning: .*: Content Item not in template"] if extensible else []),
    ]
    return [line for line in output.splitlines() if line.strip() and not re.match("|".join(harmless), line)]


def _run(*command: str) -> tuple[str, int]:
    # PixelMed's rules have more XPath operators than Java allows by default; the other options halve its time.
    limits = " ".join(f"-Djdk.xml.xpath{name}Limit=0" for name in ("ExprGrp", "ExprOp", "TotalOp"))
    done = subprocess.run(
        command,
        capture_output=True,
        timeout=600,
        env={**os.environ, "JAVA_TOOL_OPTIONS": f"{limits} -Xmx1500m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    return done.stdout + done.stderr, done.returncode
