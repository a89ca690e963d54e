"""Exams to be delivered, made by hand: small source files, a result that fits, and a bundle without weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from screening.delivery.context import Delivery, prepare
from screening.exam import Image, ImageKind, Laterality, View
from screening.model.calibration import Calibration, OperatingPoint
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
from tests.support.dicom import mammogram, write_dicom
from tests.support.tiny_volume import tiny_volume
from tests.support.volumes import slices

ROWS, COLUMNS, FRAMES = 120, 80, 12
CREATED = datetime(2024, 2, 1, 4, 30, tzinfo=UTC)
SHA256 = "ab" * 32
VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
POINTS = (
    OperatingPoint(name="recall-3", per="breast", target="3 % recalled", threshold=0.6, chosen_on="held-out women"),
    OperatingPoint(name="recall-10", per="breast", target="10 % recalled", threshold=0.3, chosen_on="held-out women"),
    OperatingPoint(name="marks-2", per="image", target="2 per image", threshold=0.1, chosen_on="held-out women"),
)
TOO_SMALL = Rejection(Reason.TOO_SMALL, "the image is too small to be a mammogram")


def bundle(points: tuple[OperatingPoint, ...] = POINTS) -> Any:
    """What delivering needs of a bundle: its card's name and version, its hash and its operating points."""
    calibration = Calibration(
        slope=1.0,
        intercept=0.0,
        prevalence=0.006,
        fitted_on="nothing",
        category_thresholds=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        categories_from="nothing",
        operating_points=points,
    )
    return SimpleNamespace(
        card=SimpleNamespace(name="spots", version="1.2"),
        sha256=SHA256,
        model_id=f"spots-1.2+{SHA256[:12]}",
        calibration=calibration,
    )


@dataclass(frozen=True)
class Case:
    """How an exam is made. `scores`: of the regions, by view ("RCC"); views that are not in it have none that counts.

    `series`: volumes are series of CT images, of which objects know the first file. `rejected`: views that could not be
    scored. `header`: attributes of every source file, None to delete one.
    """

    scores: dict[str, tuple[float, ...]]
    dbt: bool = False
    series: bool = False
    rejected: tuple[str, ...] = ()
    header: dict[str, Any] | None = None


CASES = {
    "2d": Case({"RCC": (0.7, 0.2), "RMLO": (0.7, 0.05), "LCC": (0.15,), "LMLO": (0.02,)}),
    "dbt": Case({"RCC": (0.7, 0.35), "RMLO": (0.65,), "LCC": (0.15,)}, dbt=True),
    "dbt-series": Case({"RCC": (0.7, 0.35), "RMLO": (0.65,), "LCC": (0.15,)}, dbt=True, series=True),
    "dbt-empty": Case({"RCC": (0.01,), "LMLO": (0.02,)}, dbt=True),
    "dbt-rejected": Case({}, dbt=True, rejected=("RCC", "LCC", "RMLO", "LMLO")),
    "empty": Case({"RCC": (0.01,), "LMLO": (0.02,)}),
    "optional-only": Case({"RCC": (0.35,), "LMLO": (0.2,)}),
    "partly-rejected": Case({"RCC": (0.7,), "RMLO": (0.7,)}, rejected=("LCC", "LMLO")),
    "rejected": Case({}, rejected=("RCC", "LCC", "RMLO", "LMLO")),
}


def delivery(folder: Path, case: Case, operating_point: str | None = None, rejections: Any = ()) -> Delivery:
    """Write the sources of `case` to `folder` and prepare their delivery."""
    return prepare(exam(folder, case), bundle(), CREATED, operating_point, rejections)


def exam(folder: Path, case: Case) -> ExamResult:
    """Write the sources of `case` to `folder`, and return the result of the exam that they make."""
    images = tuple(_image(folder, case, number, *view) for number, view in enumerate(VIEWS, start=1))
    regions = sorted((r for one in images for r in one.regions), key=lambda region: -region.score)
    ranks = {region.region_id: rank for rank, region in enumerate(regions, start=1)}
    images = tuple(
        replace(one, regions=tuple(replace(r, rank=ranks[r.region_id]) for r in one.regions)) for one in images
    )
    empty = ExamResult(
        exam_id="1.2.826.0.1.3680043.10.1.1",
        woman_id="woman-1",
        exam_date=date(2024, 1, 31),
        site="default",
        manufacturer="Maker",
        model_id=bundle().model_id,
        status=Status.SCORED,
        images=images,
    )
    if not regions:
        rejection = Rejection(Reason.NO_ELIGIBLE_IMAGE, f"no image is fit to be scored ({TOO_SMALL})")
        return replace(empty, status=Status.REJECTED, rejection=rejection)
    tops = {side: [r for r in regions if r.laterality is side] for side in Laterality}
    return replace(
        empty,
        score=regions[0].score,
        category=9,
        density="C",
        top_region_id=regions[0].region_id,
        breasts=tuple(BreastResult(side, own[0].score, own[0].region_id, "C") for side, own in tops.items() if own),
    )


def rejected_instance(image_id: str = "1.2.3.4") -> InstanceRejection:
    """An instance of the exam that never became an image of it."""
    rejection = Rejection(Reason.SPOT, "this is a spot compression view, no screening view")
    return InstanceRejection("spot.dcm", "1.2.826.0.1.3680043.10.1.1", image_id, Status.REJECTED, rejection)


def _image(folder: Path, case: Case, number: int, laterality: str, view: str) -> ImageResult:
    pixels = np.zeros((FRAMES, ROWS, COLUMNS) if case.dbt else (ROWS, COLUMNS), np.uint8)
    made = _first_slice if case.series else tiny_volume if case.dbt else mammogram
    dataset = made(pixels, laterality=laterality, view=view, instance=number, **_identity())
    for keyword, value in (case.header or {}).items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    path = write_dicom(folder / f"{laterality}{view}.dcm", dataset)
    image = Image(
        image_id=str(dataset.SOPInstanceUID),
        path=path,
        laterality=Laterality(laterality),
        view=View(view),
        kind=ImageKind.DBT if case.dbt else ImageKind.FFDM,
        rows=ROWS,
        columns=COLUMNS,
        frames=FRAMES if case.dbt else 1,
        pixel_spacing_mm=(0.1, 0.1),
        patient_orientation=tuple(dataset.get("PatientOrientation", ())),
    )
    if laterality + view in case.rejected:
        return ImageResult(image, Status.REJECTED, TOO_SMALL)
    scores = case.scores.get(laterality + view, (0.001,))
    return ImageResult(
        image, Status.SCORED, score=max(scores), regions=tuple(_region(image, n, s) for n, s in enumerate(scores))
    )


def _first_slice(pixels: npt.NDArray[Any], **attributes: Any) -> Dataset:
    return slices(pixels, **attributes)[0]


def _region(image: Image, number: int, score: float) -> Region:
    """A diamond; on frames 3 to 6 of a volume, with its peak on 5 (counted from 0)."""
    x, y = 10.25 + 30 * number, 20.5 + 40 * number
    return Region(
        region_id=f"{image.image_id}.r{number + 1}",
        image_id=image.image_id,
        laterality=image.laterality,
        view=image.view,
        x=x,
        y=y,
        width=16.0,
        height=12.0,
        contour=((x + 8, y), (x + 16, y + 6), (x + 8, y + 12), (x, y + 6)),
        score=score,
        rank=0,
        **({"frame_first": 3, "frame_last": 6, "frame_peak": 5} if image.frames > 1 else {}),
    )


def _identity() -> dict[str, Any]:
    return {
        "PatientBirthDate": "19611223",
        "PatientSex": "F",
        "StudyTime": "101500",
        "StudyID": "S1",
        "AccessionNumber": "A-77",
        "ReferringPhysicianName": "Referrer^R",
        "StudyDescription": "Screening",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
    }
