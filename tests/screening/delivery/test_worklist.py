"""The worklist of a batch: its order, that nobody is missing, and that a table is all that it is."""

from __future__ import annotations

import csv
import itertools
import random
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from screening.delivery.context import DISCLAIMER
from screening.delivery.worklist import COLUMNS, Priority, write_worklist
from screening.exam import Image, ImageKind, Laterality, View
from screening.result import (
    BreastResult,
    ExamResult,
    ImageResult,
    InstanceRejection,
    Reason,
    Region,
    Rejection,
    Status,
)

WOMAN = "woman-4711"
SMALL = Rejection(Reason.TOO_SMALL, "the image is too small to be a mammogram")


def scored(exam_id: str, category: int | None, score: float, day: date | None = date(2024, 1, 31)) -> ExamResult:
    """An exam whose score comes from a region in its left MLO view."""
    image = Image("1.2.3", Path("a.dcm"), Laterality.LEFT, View.MLO, ImageKind.FFDM, 100, 80, 1, (0.1, 0.1))
    box = {"x": 1.0, "y": 1.0, "width": 4.0, "height": 4.0}
    region = Region(f"{exam_id}.r", "1.2.3", Laterality.LEFT, View.MLO, **box, contour=(), score=score, rank=1)
    return ExamResult(
        exam_id=exam_id,
        woman_id=WOMAN,
        exam_date=day,
        site="default",
        manufacturer="Maker",
        model_id="spots-1",
        status=Status.SCORED,
        score=score,
        category=category,
        top_region_id=region.region_id,
        breasts=(BreastResult(Laterality.LEFT, score, region.region_id),),
        images=(ImageResult(image, Status.SCORED, score=score, regions=(region,)),),
    )


def unscored(exam_id: str, status: Status = Status.REJECTED, sentence: str = "no image is fit") -> ExamResult:
    """An exam without a score."""
    rejection = Rejection(Reason.NO_ELIGIBLE_IMAGE, sentence)
    empty = scored(exam_id, None, 0.0)
    return replace(empty, status=status, rejection=rejection, score=None, top_region_id=None, breasts=(), images=())


def lost(exam_id: str, code: Reason = Reason.TOMOSYNTHESIS, status: Status = Status.REJECTED) -> InstanceRejection:
    """An instance that never became an image."""
    return InstanceRejection("a.dcm", exam_id, "1.2.9", status, Rejection(code, "not scored yet"))


def rows(out: Path, results: list[ExamResult], rejections: tuple[InstanceRejection, ...] = ()) -> list[dict[str, str]]:
    """Write the worklist and read it with the standard library."""
    with write_worklist(results, rejections, out).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


_exams = st.one_of(
    st.tuples(st.just(Status.SCORED), st.integers(1, 10), st.floats(0, 1)),
    st.tuples(st.sampled_from([Status.REJECTED, Status.FAILED]), st.none(), st.none()),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_exams, max_size=12), st.randoms(use_true_random=False))
def test_every_exam_stands_once_in_order_of_priority_category_and_score(
    tmp_path: Path, exams: list[tuple[Status, int | None, float | None]], order: random.Random
) -> None:
    results = [
        scored(f"1.{n}", category, score or 0.0) if status is Status.SCORED else unscored(f"1.{n}", status)
        for n, (status, category, score) in enumerate(exams)
    ]
    order.shuffle(results)
    table = rows(tmp_path, results)
    assert [row["position"] for row in table] == [str(n + 1) for n in range(len(exams))]
    assert sorted(row["exam_id"] for row in table) == sorted(f"1.{n}" for n in range(len(exams)))
    urgency = [list(Priority).index(Priority(row["priority"])) for row in table]
    assert urgency == sorted(urgency)
    with_score = [(int(row["category"]), float(row["score"])) for row in table if row["score"]]
    assert [category for category, _ in with_score] == sorted((c for c, _ in with_score), reverse=True)
    assert all(a[0] > b[0] or a[1] >= b[1] for a, b in itertools.pairwise(with_score))


def test_bytes_do_not_depend_on_the_order_of_the_results(tmp_path: Path) -> None:
    results = [scored(f"1.{n}", 9, 0.5, date(2024, 1, 1 + n % 3)) for n in range(9)] + [unscored("2.1")]
    rejections = [lost("1.3"), lost("3.1"), lost("3.1", Reason.SPOT)]
    first = write_worklist(results, rejections, tmp_path).read_bytes()
    assert write_worklist(results[::-1], rejections[::-1], tmp_path).read_bytes() == first


def test_categories_give_the_priorities_and_unscored_exams_are_not_called_unsuspicious(tmp_path: Path) -> None:
    results = [scored(f"1.{n}", n, n / 10) for n in range(1, 11)]
    results += [unscored("2.1"), unscored("2.2", Status.FAILED), scored("2.3", None, 0.9)]
    found = {row["exam_id"]: row["priority"] for row in rows(tmp_path, results)}
    assert [found[f"1.{n}"] for n in range(1, 11)] == ["LOW"] * 7 + ["MEDIUM"] * 2 + ["HIGH"]
    assert found["2.1"] == found["2.2"] == found["2.3"] == "MEDIUM"


def test_of_equal_exams_the_older_comes_first(tmp_path: Path) -> None:
    days = {"1.1": date(2024, 3, 1), "1.2": date(2024, 1, 1), "1.3": None, "1.4": date(2024, 2, 1)}
    table = rows(tmp_path, [scored(exam_id, 10, 0.9, day) for exam_id, day in days.items()])
    assert [row["exam_id"] for row in table] == ["1.2", "1.4", "1.1", "1.3"]
    assert [row["exam_date"] for row in table] == ["2024-01-01", "2024-02-01", "2024-03-01", ""]


def test_row_tells_where_the_score_comes_from_and_what_is_not_in_it(tmp_path: Path) -> None:
    whole = scored("1.1", 10, 0.123456789)
    second = replace(whole.images[0], status=Status.REJECTED, rejection=SMALL, regions=(), score=None)
    partly = replace(whole, exam_id="1.2", images=(*whole.images, second))
    table = rows(tmp_path, [whole, partly], (lost("1.2", Reason.SPOT), lost("1.2", Reason.SPOT)))
    assert (table[0]["laterality"], table[0]["view"], table[0]["score"]) == ("L", "MLO", "0.123457")
    assert table[0]["reason"] == ""
    assert table[1]["reason"] == "not scored: spot-compression (2), too-small (1)"


def test_study_of_which_nothing_became_an_image_is_on_the_list_with_the_reasons(tmp_path: Path) -> None:
    rejections = (
        lost("9.1"),
        lost("9.1"),
        lost("9.2", Reason.UNREADABLE, Status.FAILED),
        lost(""),
        lost("9.3", Reason.DUPLICATE),
    )
    table = {row["exam_id"]: row for row in rows(tmp_path, [], rejections)}
    assert set(table) == {"9.1", "9.2"}
    assert (table["9.1"]["status"], table["9.1"]["reason"]) == ("rejected", "no image: tomosynthesis-not-supported (2)")
    assert table["9.2"]["status"] == "failed"


def test_every_row_says_that_it_is_computer_output_and_none_names_the_woman(tmp_path: Path) -> None:
    results = [scored("1.1", 10, 0.9), unscored("1.2")]
    assert {row["notice"] for row in rows(tmp_path, results, (lost("1.3"),))} == {DISCLAIMER}
    assert WOMAN not in write_worklist(results, (), tmp_path).read_text()


def test_hostile_words_stay_in_their_cell_and_are_no_formula(tmp_path: Path) -> None:
    sentence = 'a "quoted", divided\r\nsentence\rwith\nlines \ud800 <script>'
    results = [unscored("=cmd|' /C calc'!A1"), unscored("1.2", sentence=sentence)]
    table = {row["exam_id"]: row for row in rows(tmp_path, results)}
    assert set(table) == {"'=cmd|' /C calc'!A1", "1.2"}
    shown = sentence.replace("\ud800", "\\ud800")
    assert table["1.2"]["reason"] == f"no-eligible-image: {shown}"
    frame = pd.read_csv(tmp_path / "worklist.csv", dtype=str, keep_default_na=False)
    assert frame.to_dict("records") == list(table.values())
