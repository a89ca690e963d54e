"""The audit's page: one safe file, with pictures where there are any, and marks where they belong."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from evaluation.audit import audit
from evaluation.cohort import Cohort
from evaluation.report.audit_films import Films
from evaluation.report.audit_page import write_audit
from evaluation.report.rounds import Chart, chart
from screening.report import picture_paths
from tests.support.audits import CATEGORY, COLUMNS, ROWS, cohort, protocol

HOSTILE = '<script>alert("x")</script>'


def page(given: Cohort, out: Path, results: Path | None = None) -> str:
    data = {
        "systems": [{"name": given.scores.name, "model_ids": [], "rows": 1, "sha256": "0"}],
        "followup": [],
        "sha256": "0",
    }
    *_, path = write_audit(audit(given), data, out, results)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(cohort(), tmp_path_factory.mktemp("audit"))


def picture(results: Path, exam_id: str, image_id: str, *, wall_on_right: bool) -> None:
    """A bright half disc on one edge of a dark picture, as large as half the image."""
    pixels = np.zeros((ROWS * 4, COLUMNS * 4), np.uint8)
    cv2.circle(pixels, (pixels.shape[1] - 1 if wall_on_right else 0, pixels.shape[0] // 2), 150, 160, -1)
    paths = picture_paths(results, exam_id, image_id)
    paths.plain.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(paths.plain), pixels)


def test_page_needs_no_network_and_names_no_woman(plain: str) -> None:
    assert "not a medical device" in plain.lower()
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", plain)
    assert "<script" not in plain
    assert not any(re.search(rf"\b{woman}\b", plain) for woman in ("wA", "wB", "wC"))


def test_page_escapes_what_comes_from_headers(tmp_path: Path) -> None:
    text = page(cohort(names={"A1": HOSTILE, "B2": HOSTILE + "2"}), tmp_path)
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text


def test_every_missed_exam_is_listed_and_every_flagged_one_has_a_section(plain: str) -> None:
    listed = plain[plain.index('id="missed"') : plain.index('id="candidates"')]
    assert all(exam in listed for exam in ("A1", "B1", "C1"))
    assert "not counted: rejected" in listed
    sections = re.findall(r"<h3>Exam (\w+)</h3>", plain)
    assert sections == ["A1", "B1"]


def test_section_shows_the_exam_that_found_the_cancer_or_the_diagnosis(plain: str) -> None:
    first, second = plain.split('class="candidate"')[1:]
    assert "found between rounds, 14.0 months after" in first
    assert "Exam that found the cancer, 2017-01-05, score 0.95" in second


def test_page_is_whole_from_a_table_of_exams_alone(tmp_path: Path) -> None:
    text = page(cohort(tables=("exams",), lesions=()), tmp_path)
    assert "The scores list no images of this exam." in text
    assert "not computable" in text


def test_page_of_a_programme_without_operating_points(tmp_path: Path) -> None:
    rules = protocol(CATEGORY).model_copy(update={"operating_points": ()})
    text = page(cohort(rules), tmp_path)
    assert "The protocol has no operating points." in text


def test_pictures_of_the_results_folder_are_embedded(tmp_path: Path) -> None:
    picture(tmp_path / "results", "A1", "A1.0", wall_on_right=False)
    text = page(cohort(), tmp_path / "out", tmp_path / "results")
    assert text.count("data:image/jpeg;base64,") == 1
    assert "drawn on the image" in text  # of those that have none


@pytest.mark.parametrize("mirrored", [False, True])
def test_marks_turn_with_the_picture(tmp_path: Path, mirrored: bool) -> None:
    # Of a left breast the chest wall hangs on the left.
    picture(tmp_path, "A1", "A1.0", wall_on_right=mirrored)
    (right, left), *_ = [(row.right, row.left) for row in Films(cohort(), ["A1"], tmp_path).hang("A1", 0.0)]
    film = left[0]
    assert (film.label, right[0].label) == ("L CC", "R CC")
    assert film.turn.flip_x == mirrored
    region = next(mark for mark in film.marks if mark.kind == "region")
    lesion = next(mark for mark in film.marks if mark.kind == "lesion")
    # The box covers the columns 10 to 20 and the rows 10 to 20 of the stored image.
    x1, x2 = (COLUMNS - 20, COLUMNS - 10) if mirrored else (10, 20)
    assert region.points == f"{x1:.1f},10.0 {x2:.1f},10.0 {x2:.1f},20.0 {x1:.1f},20.0"
    assert lesion.points == region.points


def test_only_regions_that_reach_a_threshold_are_drawn() -> None:
    rows = Films(cohort(), ["A1"], None).hang("A1", 0.44)
    drawn = {film.label: [mark.kind for mark in film.marks] for row in rows for film in (*row.right, *row.left)}
    assert drawn == {"R CC": [], "L CC": ["lesion", "region"], "R MLO": [], "L MLO": ["lesion", "region"]}


def test_image_of_unknown_size_has_a_note_in_place_of_a_film() -> None:
    given = cohort()
    assert given.scores.images is not None
    given.scores.images.loc[:, "rows"] = np.nan
    films = [film for row in Films(given, ["A1"], None).hang("A1", 0.0) for film in (*row.right, *row.left)]
    assert all(film.rows == 0 and "size" in film.note for film in films)


def rounds(scores: list[tuple[float, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "exam_id": [f"E{at}" for at in range(len(scores))],
            "exam_date": pd.to_datetime([f"{2010 + 2 * at}-05-01" for at in range(len(scores))]),
            "left_score": [left for left, _ in scores],
            "right_score": [right for _, right in scores],
            "exam_score": [np.fmax(*one) for one in scores],
        }
    )


def drawn(scores: list[tuple[float, float]], thresholds: dict[str, float]) -> Chart:
    found = chart(rounds(scores), "E0", "E1", pd.Timestamp("2013-01-01"), thresholds)
    assert found is not None
    return found


@pytest.mark.parametrize("low", [0.3, 0.0004])
def test_chart_puts_higher_scores_higher_and_later_rounds_further_right(low: float) -> None:
    found = drawn([(low, 0.35), (0.4, 0.5), (0.6, 0.9)], {"cut": 0.45})
    assert found.logarithmic == (low < 0.01)
    for line in found.lines:
        assert all(here[0] < there[0] and here[1] > there[1] for here, there in pairwise(line.dots))
        assert all(found.left <= x <= found.right and found.top <= y <= found.bottom for x, y, _ in line.dots)
    (height, _, name), *_ = found.thresholds
    left = next(line for line in found.lines if line.name == "left")
    assert name == "cut"
    assert left.dots[2][1] < height < left.dots[1][1]
    assert found.diagnosis is not None
    assert found.rounds[1][0] < found.diagnosis < found.rounds[2][0]
    assert [kind for *_, kind in found.rounds] == ["missed", "found", ""]


def test_labels_of_thresholds_do_not_lie_on_each_other() -> None:
    found = drawn([(0.1, 0.9)], {f"cut {at}": 0.1 + 0.0001 * at for at in range(6)})
    heights = sorted(label for _, label, _ in found.thresholds)
    assert all(there - here >= 12 for here, there in pairwise(heights))
    assert heights[-1] <= found.bottom


def test_thresholds_off_the_scale_are_left_out_and_unscored_rounds_skipped() -> None:
    found = drawn([(0.1, 0.2), (np.nan, np.nan), (0.3, np.nan)], {"all": 0.0, "none": np.inf, "unknown": np.nan})
    assert found.thresholds == ()
    assert len(found.rounds) == 2
    assert chart(rounds([(np.nan, np.nan)]), "E0", "", pd.NaT, {}) is None
