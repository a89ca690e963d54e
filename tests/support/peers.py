"""Independent programs and packages that tests compare with or read real data from.

Where one is absent its tests are skipped, and say so. With SCREENING_REQUIRE_PEERS=1, as in continuous integration,
they run and fail instead, lest a proof vanish unnoticed.
"""

from __future__ import annotations

import os
import shutil
from importlib.metadata import PackageNotFoundError, distribution

import pytest

REQUIRED = os.environ.get("SCREENING_REQUIRE_PEERS", "") not in ("", "0")


def needs_program(program: str, suite: str) -> pytest.MarkDecorator:
    """Skip a test where `program`, a part of `suite`, is not installed."""
    absent = shutil.which(program) is None
    return pytest.mark.skipif(absent and not REQUIRED, reason=f"{suite} is not installed ({program})")


def needs_package(name: str) -> pytest.MarkDecorator:
    """Skip a test where the Python package `name` is not installed."""
    try:
        distribution(name)
        absent = False
    except PackageNotFoundError:
        absent = True
    return pytest.mark.skipif(absent and not REQUIRED, reason=f"the package {name} is not installed")
