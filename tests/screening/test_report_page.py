"""The batch report: what the page says, in which order, and what never gets into it."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from screening.exam import Image, ImageKind, Laterality, View
from screening.report import picture_paths, write_figures, write_report
from screening.result import (
    BreastResult,
    ExamResult,
    Heatmap,
    ImageResult,
    InstanceRejection,
    Reason,
    Region,
    Rejection,
    Status,
)
from screening.store import STORE_NAME, BatchSummary, Counts, Ends, ResultStore

MODEL = "5f" * 32
REFERENCE = 0.02
ROWS, COLUMNS = 800, 600
VIEWS = (("L", "MLO"), ("R", "CC"), ("L", "CC"), ("R", "MLO"))
CARD = {
    "training_data": [{"name": "set A", "women": 105}, {"name": "set B", "women": 178}],
    "limits": ["small research sets"],
    "validation": {"AUC": 0.71, "interval": [0.67, 0.75], "external": None},
}


def preview(wall_on_right: bool) -> npt.NDArray[np.uint8]:
    rows, columns = np.mgrid[:200, :150]
    inside = ((columns / 110) ** 2 + ((rows - 100) / 80) ** 2) < 1
    tissue = np.where(inside, 110 + 40 * np.sin(rows / 5) * np.cos(columns / 4), 0).astype(np.uint8)
    return np.ascontiguousarray(tissue[:, ::-1] if wall_on_right else tissue)


def view(exam_id: str, side: str, name: str, score: float, rank: int, mirrored: bool = False) -> ImageResult:
    image = Image(
        image_id=f"{exam_id}.{side}{name}".replace("/", "."),
        path=Path("x"),
        laterality=Laterality(side),
        view=View(name),
        kind=ImageKind.FFDM,
        rows=ROWS,
        columns=COLUMNS,
        frames=1,
        pixel_spacing_mm=(0.2, 0.2),
    )
    region = Region(
        f"{exam_id}-{rank}", image.image_id, image.laterality, image.view, 200, 300, 100, 50, (), score, rank
    )
    heatmap = Heatmap(np.full((20, 15), score, np.float32), 0, 0, COLUMNS, ROWS)
    wall_on_right = (side == "R") != mirrored
    return ImageResult(image, Status.SCORED, None, score, (region,), heatmap, preview(wall_on_right))


def exam(exam_id: str = "1.2.3", score: float = 0.03, category: int = 9, **changes: Any) -> ExamResult:
    images = tuple(view(exam_id, side, name, score / rank, rank) for rank, (side, name) in enumerate(VIEWS, start=1))
    made = ExamResult(
        exam_id=exam_id,
        woman_id="WOMAN-4711",
        exam_date=date(2026, 3, 1),
        site="north",
        manufacturer="ACME",
        model_id=MODEL,
        status=Status.SCORED,
        score=score,
        category=category,
        density="B",
        top_region_id=f"{exam_id}-1",
        breasts=(
            BreastResult(Laterality.LEFT, score, f"{exam_id}-1"),
            BreastResult(Laterality.RIGHT, score / 2, f"{exam_id}-2"),
        ),
        images=images,
    )
    return replace(made, **changes)


def report(
    out: Path,
    *results: ExamResult,
    rejections: tuple[InstanceRejection, ...] = (),
    card: dict[str, Any] | None = None,
    **options: Any,
) -> str:
    """Write pictures, store and report as a batch does, and return the page."""
    with ResultStore(out / STORE_NAME) as store:
        for result in results:
            write_figures(out, result, REFERENCE)
            store.add(result)
        store.add_rejections(rejections)
        batch = BatchSummary(
            site="north",
            model_id=MODEL,
            model_name="malignancy",
            model_version="1.0",
            started=datetime(2026, 3, 2, 1, 0, tzinfo=UTC),
            finished=datetime(2026, 3, 2, 1, 30, tzinfo=UTC),
            counts=store.counts(MODEL),
            reference=REFERENCE,
        )
        write_report(out, store.results(MODEL), store.rejections(), batch, CARD if card is None else card, **options)
    return (out / "report.html").read_text()


def text_of(page: str) -> str:
    """The page's words, without tags and data."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.split("</style>")[1]))


def section(page: str, name: str) -> str:
    return page.split(f'<section id="{name}">')[1].split("</section>")[0]


# --- nothing from outside, nothing private --------------------------------------------------------------------------


def test_the_page_needs_no_network_and_runs_no_script(tmp_path: Path) -> None:
    page = report(tmp_path, exam())
    assert "<script" not in page
    assert not re.search(r"https?:|url\(|@import|<link|<iframe|<object|\son\w+=", page)
    targets = re.findall(r'(?:src|href|srcset|action)="([^"]*)"', page)
    assert targets
    assert all(target.startswith(("#", "data:image/")) for target in targets)
    assert "default-src 'none'" in page


def test_every_link_has_its_target(tmp_path: Path) -> None:
    page = report(tmp_path, exam(), exam("1.2.4", 0.001, 2))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(re.findall(r'id="([^"]*)"', page))


EVIL = '<script>alert(1)</script><img src=x onerror="alert(1)">{{ 7 * 7 }}'


def test_whatever_comes_from_headers_is_shown_as_text(tmp_path: Path) -> None:
    evil_image = replace(exam().images[0], warnings=(EVIL,))
    failed = ImageResult(view("9", "R", "XCCL", 0.1, 1).image, Status.FAILED, Rejection(Reason.UNREADABLE, EVIL))
    page = report(
        tmp_path,
        exam(EVIL, images=(evil_image, failed), warnings=(EVIL,), density=EVIL, woman_id=EVIL),
        exam("../../etc", 0.05),
        ExamResult("8" + EVIL, EVIL, None, EVIL, EVIL, MODEL, Status.FAILED, Rejection(Reason.UNREADABLE, EVIL)),
        rejections=(
            InstanceRejection(
                EVIL, EVIL, "", Status.REJECTED, Rejection(Reason.NOT_DICOM, EVIL), laterality=EVIL, view=EVIL
            ),
        ),
        card={EVIL: EVIL, "list": [EVIL], "table": [{EVIL: EVIL}]},
    )
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "{{ 7 * 7 }}" in page
    assert page.count("&lt;script&gt;") > 10
    assert "../../etc" in page
    assert {path.name for path in tmp_path.iterdir()} == {STORE_NAME, "heatmaps", "report.html"}


def test_no_patient_id_is_on_the_page_or_in_a_file_name(tmp_path: Path) -> None:
    page = report(tmp_path, exam())
    assert "WOMAN-4711" not in page
    assert not [path for path in tmp_path.rglob("*") if "WOMAN" in path.name]


def test_a_file_name_that_is_no_text_does_not_stop_the_report(tmp_path: Path) -> None:
    moment = datetime(2026, 3, 2, tzinfo=UTC)
    batch = BatchSummary("north", MODEL, "m", "1", moment, moment, Counts(Ends(), Ends(rejected=1)), REFERENCE)
    write_report(tmp_path, [], [rejection(os.fsdecode(b"M\xfcller.dcm"))], batch, CARD)
    assert "ller.dcm" in (tmp_path / "report.html").read_text()


class _Tags(HTMLParser):
    """Counts tags that are closed out of order."""

    VOID = ("meta", "img", "input", "br", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_well_formed(tmp_path: Path) -> None:
    tags = _Tags()
    tags.feed(report(tmp_path, exam(), exam("1.2.4", 0.001, 2), rejections=(rejection(),)))
    assert (tags.open, tags.wrong) == ([], [])


# --- what it says ---------------------------------------------------------------------------------------------------


def rejection(
    file: str = "in/1", exam_id: str = "1.2.3", code: Reason = Reason.TOO_SMALL, **changes: Any
) -> InstanceRejection:
    made = InstanceRejection(file, exam_id, "", Status.REJECTED, Rejection(code, f"{file} has 1 x 1 pixels"))
    return replace(made, **changes)


def test_it_says_first_that_a_computer_made_it_and_who_decides(tmp_path: Path) -> None:
    words = text_of(report(tmp_path, exam()))
    head = words[: words.index("Worklist 1 scored exam")]
    for sentence in ("Not a medical device, not for clinical use", "made by a computer", "The radiologist decides"):
        assert sentence in head
    assert "malignancy 1.0" in head
    assert MODEL[:16] in head
    assert MODEL in words


def test_counts_and_reasons_are_those_of_the_batch(tmp_path: Path) -> None:
    reason = Rejection(Reason.NO_ELIGIBLE_IMAGE, "only a specimen")
    lost = ExamResult("1.2.9", "W", None, "north", "", MODEL, Status.REJECTED, reason)
    words = text_of(report(tmp_path, exam(), lost, rejections=(rejection("a"), rejection("b"))))
    assert "Exams 2 1 1 0 Images and other files 6 4 2 0" in words
    assert "no-eligible-image rejected 1 too-small rejected 2" in words


def test_a_batch_that_was_stopped_says_so(tmp_path: Path) -> None:
    counts = Counts(Ends(scored=1, unfinished=3), Ends(scored=4, unfinished=12))
    moment = datetime(2026, 3, 2, tzinfo=UTC)
    batch = BatchSummary("north", MODEL, "malignancy", "1.0", moment, moment, counts, REFERENCE)
    write_report(tmp_path, [exam()], [], batch, CARD)
    words = text_of((tmp_path / "report.html").read_text())
    assert "Not reached Exams 4 1 0 0 3 Images and other files 16 4 0 0 12 The batch was stopped" in words


def test_the_worklist_is_sorted_by_score(tmp_path: Path) -> None:
    scores = {"1.1": 0.004, "1.2": 0.4, "1.3": 0.04, "1.4": 0.00001}
    page = report(tmp_path, *(exam(name, score, 5) for name, score in scores.items()))
    listed = re.findall(r'<td class="id">(1\.\d)</td>', section(page, "worklist"))
    assert listed == ["1.2", "1.3", "1.1", "1.4"]
    assert "0.4000" in page
    assert "&lt;0.0001" in page


def test_an_exam_tells_what_was_not_scored_and_what_was_odd(tmp_path: Path) -> None:
    whole = exam()
    failed = replace(whole.images[3], status=Status.FAILED, score=None, regions=(), heatmap=None, preview=None)
    failed = replace(failed, rejection=Rejection(Reason.UNREADABLE, "4.dcm is cut off"))
    odd = replace(whole.images[0], warnings=("no pectoral muscle",))
    page = report(
        tmp_path,
        replace(whole, images=(odd, whole.images[1], failed), warnings=("two exams of one day",)),
        rejections=(
            rejection("in/7", laterality="L", view="CC"),
            rejection("in/8", code=Reason.DUPLICATE, image_id="1.2.3.RCC"),
        ),
    )
    notes = text_of("</style>" + section(page, "worklist"))
    assert "two exams of one day L MLO: no pectoral muscle R MLO not scored: 4.dcm is cut off" in notes
    assert "L CC not scored: in/7 has 1 x 1 pixels" in notes
    assert "in/8" not in notes
    pictures = text_of("</style>" + section(page, "exams"))
    assert "R MLO not scored: 4.dcm is cut off" in pictures
    assert "L CC not scored: in/7 has 1 x 1 pixels" in pictures
    unscored = text_of("</style>" + section(page, "unscored"))
    for row in ("R MLO failed unreadable 4.dcm", "in/7 L CC rejected too-small", "1.2.3.RCC rejected duplicate"):
        assert row in unscored


def test_a_missing_view_leaves_its_place_empty(tmp_path: Path) -> None:
    page = report(tmp_path, replace(exam(), images=exam().images[:2]))
    words = text_of("</style>" + section(page, "exams"))
    assert words.count("not in this exam") == 2
    assert "L CC not in this exam" in words


def test_the_model_card_is_told_whole(tmp_path: Path) -> None:
    words = text_of("</style>" + section(report(tmp_path, exam()), "model"))
    assert "Training data Name Women set A 105 set B 178 Limits small research sets" in words
    assert "Validation AUC 0.71 Interval 0.67, 0.75 External not stated" in words


def test_an_empty_batch_has_a_report(tmp_path: Path) -> None:
    words = text_of(report(tmp_path))
    assert "0 scored exams" in words
    assert "Everything that was read was scored." in words


def test_two_reports_of_one_batch_are_the_same(tmp_path: Path) -> None:
    pages = {report(tmp_path / str(run), *results) for run, results in enumerate(both_orders())}
    assert len(pages) == 1


def both_orders() -> tuple[list[ExamResult], list[ExamResult]]:
    first, second = exam("1.1", 0.03), exam("1.2", 0.03)
    return [first, second], [second, first]


# --- pictures -------------------------------------------------------------------------------------------------------


def test_views_hang_right_to_the_left_and_cc_above_mlo(tmp_path: Path) -> None:
    whole = exam()
    extra = (view("1.2.3", "R", "XCCL", 0.01, 5), view("1.2.3", "R", "ML", 0.01, 6))
    page = section(report(tmp_path, replace(whole, images=(*extra, *whole.images))), "exams")
    rows = page.split('<div class="row">')[1:]
    hung = []
    for row in rows:
        right, left = row.split('<div class="left">')
        hung.append(tuple(re.findall(r"<figcaption><b>(.*?)</b>", side) for side in (right, left)))
    assert hung == [(["R CC"], ["L CC"]), (["R MLO"], ["L MLO"]), (["R ML", "R XCCL"], [])]


def test_pictures_on_the_page_are_the_files_beside_it(tmp_path: Path) -> None:
    page = report(tmp_path, exam())
    inside = {base64.b64decode(data) for data in re.findall(r'src="data:image/[a-z]+;base64,([^"]*)"', page)}
    files = [picture_paths(tmp_path, "1.2.3", one.image.image_id) for one in exam().images]
    assert inside == {path.read_bytes() for paths in files for path in (paths.plain, paths.heat)}


def marks(page: str, label: str) -> list[tuple[float, float]]:
    drawing = page.split(f'aria-label="Marks on {label}"')[1].split("</svg>")[0]
    points = re.findall(r'points="([^"]*)"', drawing)
    assert len(points) == 1
    return [(float(x), float(y)) for x, y in (point.split(",") for point in points[0].split())]


@pytest.mark.parametrize("side", ["L", "R"])
def test_marks_lie_on_the_picture_as_it_hangs(tmp_path: Path, side: str) -> None:
    straight, turned = (
        exam(name, images=(view(name, side, "CC", 0.03, 1, mirrored),), top_region_id=f"{name}-1")
        for name, mirrored in (("1.1", False), ("1.2", True))
    )
    page = section(report(tmp_path / "straight", straight), "exams")
    assert 'class="mirrored' not in page
    assert marks(page, f"{side} CC") == [(200.5, 300.5), (300.5, 300.5), (300.5, 350.5), (200.5, 350.5)]
    page = section(report(tmp_path / "turned", turned), "exams")
    assert page.count('class="mirrored') + page.count('class="heat mirrored') == 2
    assert marks(page, f"{side} CC") == [
        (COLUMNS - x, y) for x, y in ((200.5, 300.5), (300.5, 300.5), (300.5, 350.5), (200.5, 350.5))
    ]
    assert "stored mirrored" in text_of("</style>" + page)


def pictured(page: str) -> list[str]:
    return re.findall(r'<span class="id">(.*?)</span>', section(page, "exams"))


def test_suspicious_exams_have_pictures_and_all_have_them_on_demand(tmp_path: Path) -> None:
    results = [exam(f"1.{category}", category / 100, category) for category in (10, 3, 8, 7)]
    assert pictured(report(tmp_path, *results)) == ["1.10", "1.8"]
    assert pictured(report(tmp_path, *results, show_all=True)) == ["1.10", "1.8", "1.7", "1.3"]


def test_pictures_are_limited_to_the_most_suspicious_and_the_page_says_so(tmp_path: Path) -> None:
    results = [exam(f"1.{number}", number / 100, 10) for number in (3, 1, 5, 2, 4, 6)]
    page = report(tmp_path, *results, picture_limit=2)
    assert pictured(page) == ["1.6", "1.5"]
    assert "4 more, less suspicious, are left out" in text_of(page)


def test_a_picture_that_was_deleted_is_missed_and_nothing_else(tmp_path: Path) -> None:
    report(tmp_path, exam())
    picture_paths(tmp_path, "1.2.3", "1.2.3.RCC").plain.unlink()
    picture_paths(tmp_path, "1.2.3", "1.2.3.LCC").plain.write_bytes(b"")
    with ResultStore(tmp_path / STORE_NAME) as store:
        moment = datetime(2026, 3, 2, tzinfo=UTC)
        batch = BatchSummary("north", MODEL, "m", "1", moment, moment, store.counts(MODEL), REFERENCE)
        write_report(tmp_path, store.results(), [], batch, CARD)
    page = section((tmp_path / "report.html").read_text(), "exams")
    assert "R CC score 0.0150; the picture is not in the output folder" in text_of("</style>" + page)
    assert page.count("<figure") == 2


def test_the_top_region_is_told_with_view_and_place(tmp_path: Path) -> None:
    words = text_of("</style>" + section(report(tmp_path, exam()), "worklist"))
    assert re.search(r"L MLO: (upper|lower|central), (anterior|middle|posterior) depth", words)


def test_many_files_that_are_not_scored_are_counted_not_listed(tmp_path: Path) -> None:
    page = report(tmp_path, exam(), rejections=tuple(rejection(f"in/{n}", "") for n in range(503)))
    words = text_of("</style>" + section(page, "unscored"))
    assert "3 more are in images.csv" in words
    assert words.count("too-small") == 500
