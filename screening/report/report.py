"""The batch report: one HTML file that a radiologist reads, without network, scripts or patient data.

Pixels are never held for more than one exam. While a batch runs, `write_figures` saves each image's pictures under
`heatmaps/`, and the exam goes to the results store without its pixels. At the end `write_report` passes once over the
exams as the store gives them, keeps a line of the worklist for each, and writes the page piece by piece, reading the
pictures of one exam after the other from disk. Marks are drawn by the page itself (SVG), over pictures that are
turned as they hang.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from screening.model.calibration import OperatingPoint
from screening.report.figures import MARKS_PER_IMAGE, NOTICE, colour_stops, shown, viewed
from screening.report.frames import hue_stops
from screening.report.montage import Montage, montages
from screening.report.pictures import ExamPictures, Row
from screening.report.priors import PriorExams, PriorLine
from screening.result import ExamResult, ImageResult, InstanceRejection, Reason, Status
from screening.store import BatchSummary, write_atomically

REPORT_NAME = "report.html"
PICTURED_FROM_CATEGORY = 8

_UNSCORED_LINES = 500
_REGION_LINES = 10


@dataclass(frozen=True)
class _Line:
    """One scored exam in the worklist. `anchor` is its section in the page, empty if it has none."""

    exam_id: str
    date: str
    category: int
    score: float
    breasts: Mapping[str, float]
    density: str
    top: str
    warnings: tuple[str, ...]
    anchor: str = ""
    priors: tuple[PriorLine, ...] = ()


@dataclass(frozen=True)
class _RegionLine:
    """One region in an exam's table; `size` in mm."""

    rank: int
    place: str
    size: str
    score: float


@dataclass(frozen=True)
class _Section:
    """One exam with its pictures."""

    line: _Line
    rows: tuple[Row, ...]
    regions: tuple[_RegionLine, ...]
    more_regions: int
    montages: tuple[Montage, ...]


@dataclass(frozen=True)
class _Unscored:
    """An instance that was read and not scored. `instance`: its UID, or its file where it has none."""

    exam_id: str
    instance: str
    view: str
    status: str
    code: str
    sentence: str


def write_report(
    out: Path,
    results: Iterable[ExamResult],
    rejections: Iterable[InstanceRejection],
    batch: BatchSummary,
    card: Mapping[str, Any],
    show_all: bool = False,
    picture_limit: int = 200,
    operating_point: OperatingPoint | None = None,
) -> None:
    """Write `report.html` into `out`, whole or not at all.

    Parameters
    ----------
    out
        The batch's output folder, with the pictures that `write_figures` made.
    results
        The exams of one model, in any order; pixels are not needed (`ResultStore.results`).
    rejections
        The instances that could not become images (`ResultStore.rejections`).
    batch
        Model, site, times and counts.
    card
        What is known of the model (training data, limits, operating points, validation): nested mappings, lists and
        plain values. Keys become headings; a list of mappings becomes a table.
    show_all
        Give every scored exam its pictures, not only those of category 8 and above.
    picture_limit
        At most this many exams have pictures, the most suspicious first (four views take about 0.3 MB of the page).
    operating_point
        The site's: exams that reach it are marked for recall.

    Raises
    ------
    StoreError
        If `out` cannot be written.
    """
    with PriorExams(out) as priors:
        _write(out, results, rejections, batch, card, show_all, picture_limit, operating_point, priors)


def _write(
    out: Path,
    results: Iterable[ExamResult],
    rejections: Iterable[InstanceRejection],
    batch: BatchSummary,
    card: Mapping[str, Any],
    show_all: bool,
    picture_limit: int,
    operating_point: OperatingPoint | None,
    priors: PriorExams,
) -> None:
    rejected = list(rejections)
    by_exam = defaultdict(list)
    for rejection in rejected:
        by_exam[rejection.exam_id].append(rejection)
    lines: dict[str, _Line] = {}
    wanted = 0
    pictured: list[ExamResult] = []
    unscored_exams: list[ExamResult] = []
    unscored: list[_Unscored] = [_unscored_file(rejection) for rejection in rejected]
    for result in results:
        unscored += [_unscored_image(result.exam_id, image) for image in result.images if image.rejection]
        if result.status is not Status.SCORED:
            unscored_exams.append(replace(result, images=()))
            continue
        lines[result.exam_id] = _line(result, by_exam[result.exam_id], priors.lines(result))
        if show_all or (result.category or 0) >= PICTURED_FROM_CATEGORY:
            wanted += 1
            pictured.append(result)
        if len(pictured) > 2 * picture_limit:
            pictured = sorted(pictured, key=_most_suspicious_first)[:picture_limit]
    pictured = sorted(pictured, key=_most_suspicious_first)[:picture_limit]
    for number, result in enumerate(pictured, start=1):
        line = lines[result.exam_id]
        lines[result.exam_id] = replace(line, anchor=f"exam-{number}", top=_top_place(out, result))
    worklist = sorted(lines.values(), key=lambda line: (-line.score, line.exam_id))
    unscored.sort(key=lambda one: (one.status, one.exam_id, one.instance, one.sentence))
    page = _environment().get_template("report.html")
    pieces = page.generate(
        batch=batch,
        notice=NOTICE,
        card=card,
        marks_per_image=MARKS_PER_IMAGE,
        first_category=PICTURED_FROM_CATEGORY,
        colours=", ".join(colour_stops()),
        hues=", ".join(hue_stops()),
        show_all=show_all,
        point=operating_point,
        recalled={line.exam_id for line in worklist if operating_point and line.score >= operating_point.threshold},
        worklist=worklist,
        by_category=_by_category(worklist),
        not_pictured=wanted - len(pictured),
        # A generator: the page is written exam by exam.
        sections=(_section(out, result, lines[result.exam_id], by_exam[result.exam_id], priors) for result in pictured),
        unscored_exams=sorted(unscored_exams, key=lambda result: (result.status.value, result.exam_id)),
        unscored=unscored[:_UNSCORED_LINES],
        more_unscored=max(0, len(unscored) - _UNSCORED_LINES),
    )
    # File names may hold bytes that are no text.
    write_atomically(out / REPORT_NAME, (piece.encode("utf-8", "backslashreplace") for piece in pieces))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("screening.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = shown
    environment.filters["utc"] = _utc
    return environment


def _utc(moment: datetime, pattern: str) -> str:
    return moment.astimezone(UTC).strftime(pattern)


def _most_suspicious_first(result: ExamResult) -> tuple[float, str]:
    return -(result.score or 0.0), result.exam_id


def _line(result: ExamResult, rejections: list[InstanceRejection], priors: tuple[PriorLine, ...]) -> _Line:
    tops = [region for region in result.regions if region.region_id == result.top_region_id]
    return _Line(
        exam_id=result.exam_id,
        date=result.exam_date.isoformat() if result.exam_date else "",
        category=result.category or 0,
        score=result.score or 0.0,
        breasts={breast.laterality.value: breast.score for breast in result.breasts},
        density=result.density or "",
        top=viewed(tops[0].laterality, tops[0].view) if tops else "",
        warnings=tuple(_warnings(result, rejections)),
        priors=priors,
    )


def _warnings(result: ExamResult, rejections: list[InstanceRejection]) -> Iterator[str]:
    """Everything that the reader of this exam should know: what was odd, and what was not scored."""
    yield from result.warnings
    for one in result.images:
        name = viewed(one.image.laterality, one.image.view)
        yield from (f"{name}: {text}" for text in (*one.image.warnings, *one.warnings))
        if one.rejection:
            yield f"{name} not scored: {one.rejection.sentence}"
    for rejection in rejections:
        if rejection.rejection.code is not Reason.DUPLICATE:
            name = f"{rejection.laterality} {rejection.view}".strip() or "One file"
            yield f"{name} not scored: {rejection.rejection.sentence}"


def _top_place(out: Path, result: ExamResult) -> str:
    pictures = ExamPictures(out, result)
    return next((pictures.place(one) for one in result.regions if one.region_id == result.top_region_id), "")


def _section(
    out: Path, result: ExamResult, line: _Line, rejections: list[InstanceRejection], priors: PriorExams
) -> _Section:
    pictures = ExamPictures(out, result)
    beside = [ExamPictures(priors.out, prior) for prior in priors.before(result)]
    table = []
    for region in result.regions[:_REGION_LINES]:
        width, height = pictures.size_mm(region)
        table.append(_RegionLine(region.rank, pictures.place(region), f"{width:.0f} x {height:.0f}", region.score))
    rows = pictures.rows(rejections, beside)
    more = max(0, len(result.regions) - _REGION_LINES)
    return _Section(line, rows, tuple(table), more, montages(out, result))


def _unscored_file(rejection: InstanceRejection) -> _Unscored:
    return _Unscored(
        exam_id=rejection.exam_id,
        instance=rejection.image_id or rejection.file,
        view=f"{rejection.laterality} {rejection.view}".strip(),
        status=rejection.status.value,
        code=rejection.rejection.code.value,
        sentence=rejection.rejection.sentence,
    )


def _unscored_image(exam_id: str, result: ImageResult) -> _Unscored:
    assert result.rejection is not None
    return _Unscored(
        exam_id=exam_id,
        instance=result.image.image_id,
        view=viewed(result.image.laterality, result.image.view),
        status=result.status.value,
        code=result.rejection.code.value,
        sentence=result.rejection.sentence,
    )


def _by_category(worklist: list[_Line]) -> list[tuple[str, int]]:
    """Count the exams by category: the upper ones each, the lower ones together."""
    upper = [(str(n), sum(line.category == n for line in worklist)) for n in range(10, PICTURED_FROM_CATEGORY - 1, -1)]
    return [*upper, (f"1-{PICTURED_FROM_CATEGORY - 1}", len(worklist) - sum(number for _, number in upper))]
