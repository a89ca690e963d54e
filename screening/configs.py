"""Where the configuration files that come with the project are: in a checkout, or in the installed package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def config_dir(kind: str) -> Path:
    """The folder of one kind of bundled configuration files: "sites", "protocols" or "training"."""
    installed = _PACKAGE / "_configs" / kind  # where the build puts the checkout's configs/
    return installed if installed.is_dir() else _PACKAGE.parent / "configs" / kind
