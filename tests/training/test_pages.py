"""Blocks of a page that programs write: only they change, and they outlive the page's own program."""

from __future__ import annotations

from pathlib import Path

import pytest

from screening.errors import ConfigError
from training.pages import keep_blocks, put_block


def test_block_is_added_once_and_then_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nText.\n", encoding="utf-8")
    put_block(page, "figures", "first")
    put_block(page, "other", "untouched")
    put_block(page, "figures", "second\n")
    assert page.read_text(encoding="utf-8") == (
        "# Title\n\nText.\n\n<!-- figures: begin -->\nsecond\n<!-- figures: end -->\n"
        "\n<!-- other: begin -->\nuntouched\n<!-- other: end -->\n"
    )


def test_page_that_is_not_there_is_made(tmp_path: Path) -> None:
    put_block(tmp_path / "docs" / "page.md", "figures", "text")
    assert "text" in (tmp_path / "docs" / "page.md").read_text(encoding="utf-8")


def test_page_written_anew_keeps_what_other_programs_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Old\n", encoding="utf-8")
    put_block(page, "figures", "measured")
    new = keep_blocks(page.read_text(encoding="utf-8"), "# New\n")
    assert new == "# New\n\n<!-- figures: begin -->\nmeasured\n<!-- figures: end -->\n"
    assert keep_blocks(new, new) == new


def test_half_a_block_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- figures: begin -->\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="without the other"):
        put_block(page, "figures", "text")
