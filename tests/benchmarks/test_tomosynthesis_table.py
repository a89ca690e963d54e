"""The table of a volume's time and memory says of each target whether it is met, and takes its place in a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.tomosynthesis import BLOCK, document
from training.pages import put_block

ROOT = Path(__file__).parents[2]
MACHINE = {"processor": "P", "cores": 2, "memory_gb": 8, "device": "CPU", "load_before": 0.1, "model": "m"}


def figures(ratio: float = 1.1, peak: float = 1.2) -> dict[str, Any]:
    seconds = {name: [3.0, 1.0, 2.0] for name in ("decode_s", "network_s", "end_to_end_s")}
    common = {"machine": MACHINE, "cores": 2, "megabytes": 200.0, "bfloat16": False}
    return common | seconds | {"ratio": ratio, "peak_gb": {"60": 1.0, "80": peak}}


@pytest.mark.parametrize(
    ("missed", "row"),
    [({"ratio": 1.3}, "| **end to end ÷ floor** | **1.30** |"), ({"peak": 1.6}, "| **peak memory**, 80 frames |")],
)
def test_only_what_exceeds_its_target_is_missed(missed: dict[str, float], row: str) -> None:
    assert "missed" not in document(figures())
    (line,) = [line for line in document(figures(**missed)).splitlines() if "missed" in line]
    assert line.startswith(row)


def test_times_are_medians_with_their_range() -> None:
    assert document(figures()).count("| 2.00 s (1.00 to 3.00) |") == 3


def test_the_page_has_a_place_for_the_table(tmp_path: Path) -> None:
    before = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(before, encoding="utf-8")
    put_block(page, BLOCK, document(figures(ratio=9.87)))
    after = page.read_text(encoding="utf-8")
    assert "**9.87**" in after
    begin = f"<!-- {BLOCK}: begin -->"
    assert after.partition(begin)[0] == before.partition(begin)[0]
    assert begin in before
