"""The CSV files: `exams.csv`, `images.csv`, `regions.csv`, as the design fixes their columns.

They are data for programs (RFC 4180, UTF-8, LF). Values are written as they are: a PatientID such as `=cmd()` must
still join with the registry's rows, so nothing is prefixed or escaped for spreadsheets. Read them with
`pandas.read_csv(..., dtype={"exam_id": str, "woman_id": str}, keep_default_na=False)`; into a spreadsheet, import them
as text rather than opening them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

from screening.exam import Laterality
from screening.result import ExamResult, ImageResult, InstanceRejection, Region
from screening.store.database import ResultStore
from screening.store.files import atomic_file

# fmt: off
EXAM_COLUMNS = (
    "exam_id", "woman_id", "exam_date", "status", "reason", "score", "category", "left_score", "right_score",
    "density", "site", "manufacturer", "model_id", "top_region_id",
)
IMAGE_COLUMNS = (
    "exam_id", "image_id", "laterality", "view", "kind", "status", "reason", "score", "rows", "columns",
    "frames", "pixel_spacing_mm",
)
REGION_COLUMNS = (
    "region_id", "exam_id", "image_id", "laterality", "view", "frame_first", "frame_last", "frame_peak", "x",
    "y", "width", "height", "score", "rank",
)
# fmt: on


def write_tables(store: ResultStore, out: Path, model_id: str | None = None) -> None:
    """Write `exams.csv`, `images.csv` and `regions.csv` into `out`, each whole or not at all.

    The bytes depend only on what the store holds: rows are sorted by exam, then by image or rank; scores and spacings
    have six significant digits, coordinates two decimals. `reason` reads `code: sentence`. `pixel_spacing_mm` is the
    spacing between rows. Instances that never became an image stand in `images.csv` with what is known of them; one
    without SOP Instance UID is told by its file, in square brackets at the end of `reason`. Unknown values are empty.

    Parameters
    ----------
    model_id
        Only this model's results; all of the store by default.

    Raises
    ------
    StoreError
        If the store cannot be read or `out` cannot be written.
    """
    waiting = _Rejections(store)
    with ExitStack() as files:
        exams, images, regions = (
            files.enter_context(atomic_file(out / f"{name}.csv")) for name in ("exams", "images", "regions")
        )
        for file, columns in ((exams, EXAM_COLUMNS), (images, IMAGE_COLUMNS), (regions, REGION_COLUMNS)):
            file.write(_line(columns).encode())
        for exam_id, group in groupby(store.results(model_id), key=lambda result: result.exam_id):
            results = list(group)  # of several models
            images.writelines(waiting.before(exam_id))
            of_exam = [image for result in results for image in result.images]
            found = [region for image in of_exam for region in image.regions]
            exams.writelines(_sorted((one.model_id, _line(_exam_cells(one))) for one in results))
            rows = [(one.image.image_id, _line(_image_cells(exam_id, one))) for one in of_exam]
            images.writelines(_sorted(rows + waiting.of(exam_id)))
            regions.writelines(_sorted((f"{one.rank:09d}", _line(_region_cells(exam_id, one))) for one in found))
        images.writelines(waiting.rest())


_Row = tuple[str, str]
"""What a line is sorted by within its exam, and the line."""


class _Rejections:
    """Instances that are no images, to be written among the images of exams, which come in order."""

    def __init__(self, store: ResultStore) -> None:
        lines = ((one.exam_id, one.image_id, _line(_rejection_cells(one))) for one in store.rejections())
        self._waiting = deque(sorted(lines))

    def before(self, exam_id: str) -> Iterator[bytes]:
        """The lines of exams that come before this one and have no result."""
        while self._waiting and self._waiting[0][0] < exam_id:
            yield self._waiting.popleft()[2].encode()

    def of(self, exam_id: str) -> list[_Row]:
        """The rows of this exam."""
        rows = []
        while self._waiting and self._waiting[0][0] == exam_id:
            rows.append(self._waiting.popleft()[1:])
        return rows

    def rest(self) -> Iterator[bytes]:
        """The lines of exams after the last that has a result."""
        return (line.encode() for *_, line in self._waiting)


def _sorted(rows: Iterable[_Row]) -> Iterator[bytes]:
    return (line.encode() for _, line in sorted(rows))


def _exam_cells(result: ExamResult) -> list[str]:
    by_side = {breast.laterality: breast.score for breast in result.breasts}
    return [
        result.exam_id,
        result.woman_id,
        result.exam_date.isoformat() if result.exam_date else "",
        result.status.value,
        str(result.rejection or ""),
        _score(result.score),
        str(result.category or ""),
        _score(by_side.get(Laterality.LEFT)),
        _score(by_side.get(Laterality.RIGHT)),
        result.density or "",
        result.site,
        result.manufacturer,
        result.model_id,
        result.top_region_id or "",
    ]


def _image_cells(exam_id: str, result: ImageResult) -> list[str]:
    image = result.image
    return [
        exam_id,
        image.image_id,
        image.laterality.value,
        image.view.value,
        image.kind.value,
        result.status.value,
        str(result.rejection or ""),
        _score(result.score),
        *(str(number) for number in (image.rows, image.columns, image.frames)),
        _score(image.pixel_spacing_mm[0]),
    ]


def _rejection_cells(rejection: InstanceRejection) -> list[str]:
    named = rejection.image_id or rejection.file in rejection.rejection.sentence
    return [
        rejection.exam_id,
        rejection.image_id,
        rejection.laterality,
        rejection.view,
        rejection.kind,
        rejection.status.value,
        str(rejection.rejection) if named else f"{rejection.rejection} [{rejection.file}]",
        "",
        *(str(number or "") for number in (rejection.rows, rejection.columns, rejection.frames)),
        "",
    ]


def _region_cells(exam_id: str, region: Region) -> list[str]:
    return [
        region.region_id,
        exam_id,
        region.image_id,
        region.laterality.value,
        region.view.value,
        *(str(frame) for frame in (region.frame_first, region.frame_last, region.frame_peak)),
        *(_coordinate(value) for value in (region.x, region.y, region.width, region.height)),
        _score(region.score),
        str(region.rank),
    ]


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _coordinate(value: float) -> str:
    # Adding zero turns the -0.00 of a rounded tiny negative number into 0.00.
    return f"{round(value, 2) + 0.0:.2f}"


def _line(cells: Iterable[str]) -> str:
    # Not the csv module: Python 3.11's leaves a lone carriage return unquoted when lines end in LF, and readers break.
    return (
        ",".join('"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell for cell in cells)
        + "\n"
    )
