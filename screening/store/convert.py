"""Results to rows and back, equal but for the pixels.

NumPy scalars are made plain (float, int): SQLite would store them as bytes.
"""

from __future__ import annotations

from pathlib import Path

from screening.exam import Image, ImageKind, Laterality, PresentationIntent, View
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
from screening.store.schema import BreastRow, ExamRow, ImageRow, RegionRow, RejectionRow, WarningRow


def exam_row(result: ExamResult) -> ExamRow:
    return ExamRow(
        exam_id=result.exam_id,
        model_id=result.model_id,
        woman_id=result.woman_id,
        exam_date=result.exam_date,
        site=result.site,
        manufacturer=result.manufacturer,
        status=result.status.value,
        **_reason_columns(result.rejection),
        score=_optional_float(result.score),
        category=None if result.category is None else int(result.category),
        density=result.density,
        top_region_id=result.top_region_id,
        breasts=[
            BreastRow(
                laterality=breast.laterality.value,
                score=float(breast.score),
                top_region_id=breast.top_region_id,
                density=breast.density,
            )
            for breast in result.breasts
        ],
        images=[_image_row(image) for image in result.images],
        warnings=[WarningRow(from_header=False, text=text) for text in result.warnings],
    )


def _image_row(result: ImageResult) -> ImageRow:
    image = result.image
    return ImageRow(
        image_id=image.image_id,
        path=str(image.path),
        laterality=image.laterality.value,
        view=image.view.value,
        kind=image.kind.value,
        rows=int(image.rows),
        columns=int(image.columns),
        frames=int(image.frames),
        row_spacing_mm=float(image.pixel_spacing_mm[0]),
        column_spacing_mm=float(image.pixel_spacing_mm[1]),
        intent=image.intent.value,
        patient_orientation=list(image.patient_orientation),
        implant=bool(image.implant),
        status=result.status.value,
        **_reason_columns(result.rejection),
        score=_optional_float(result.score),
        regions=[_region_row(region) for region in result.regions],
        warnings=[WarningRow(from_header=True, text=text) for text in image.warnings]
        + [WarningRow(from_header=False, text=text) for text in result.warnings],
    )


def _region_row(region: Region) -> RegionRow:
    return RegionRow(
        region_id=region.region_id,
        laterality=region.laterality.value,
        view=region.view.value,
        x=float(region.x),
        y=float(region.y),
        width=float(region.width),
        height=float(region.height),
        contour=[[float(x), float(y)] for x, y in region.contour],
        score=float(region.score),
        rank=int(region.rank),
        frame_first=int(region.frame_first),
        frame_last=int(region.frame_last),
        frame_peak=int(region.frame_peak),
    )


def rejection_row(rejection: InstanceRejection) -> RejectionRow:
    return RejectionRow(
        file=rejection.file,
        exam_id=rejection.exam_id,
        image_id=rejection.image_id,
        status=rejection.status.value,
        reason_code=rejection.rejection.code.value,
        reason_sentence=rejection.rejection.sentence,
        laterality=rejection.laterality,
        view=rejection.view,
        kind=rejection.kind,
        rows=int(rejection.rows),
        columns=int(rejection.columns),
        frames=int(rejection.frames),
    )


def exam_result(row: ExamRow) -> ExamResult:
    return ExamResult(
        exam_id=row.exam_id,
        woman_id=row.woman_id,
        exam_date=row.exam_date,
        site=row.site,
        manufacturer=row.manufacturer,
        model_id=row.model_id,
        status=Status(row.status),
        rejection=_rejection(row.reason_code, row.reason_sentence),
        score=row.score,
        category=row.category,
        density=row.density,
        top_region_id=row.top_region_id,
        breasts=tuple(
            BreastResult(Laterality(breast.laterality), breast.score, breast.top_region_id, breast.density)
            for breast in row.breasts
        ),
        images=tuple(_image_result(image) for image in row.images),
        warnings=tuple(warning.text for warning in row.warnings),
    )


def _image_result(row: ImageRow) -> ImageResult:
    image = Image(
        image_id=row.image_id,
        path=Path(row.path),
        laterality=Laterality(row.laterality),
        view=View(row.view),
        kind=ImageKind(row.kind),
        rows=row.rows,
        columns=row.columns,
        frames=row.frames,
        pixel_spacing_mm=(row.row_spacing_mm, row.column_spacing_mm),
        intent=PresentationIntent(row.intent),
        patient_orientation=tuple(row.patient_orientation),
        implant=row.implant,
        warnings=tuple(warning.text for warning in row.warnings if warning.from_header),
    )
    return ImageResult(
        image=image,
        status=Status(row.status),
        rejection=_rejection(row.reason_code, row.reason_sentence),
        score=row.score,
        regions=tuple(_region(region, row.image_id) for region in row.regions),
        warnings=tuple(warning.text for warning in row.warnings if not warning.from_header),
    )


def _region(row: RegionRow, image_id: str) -> Region:
    return Region(
        region_id=row.region_id,
        image_id=image_id,
        laterality=Laterality(row.laterality),
        view=View(row.view),
        x=row.x,
        y=row.y,
        width=row.width,
        height=row.height,
        contour=tuple((x, y) for x, y in row.contour),
        score=row.score,
        rank=row.rank,
        frame_first=row.frame_first,
        frame_last=row.frame_last,
        frame_peak=row.frame_peak,
    )


def instance_rejection(row: RejectionRow) -> InstanceRejection:
    return InstanceRejection(
        file=row.file,
        exam_id=row.exam_id,
        image_id=row.image_id,
        status=Status(row.status),
        rejection=Rejection(Reason(row.reason_code), row.reason_sentence),
        laterality=row.laterality,
        view=row.view,
        kind=row.kind,
        rows=row.rows,
        columns=row.columns,
        frames=row.frames,
    )


def _reason_columns(rejection: Rejection | None) -> dict[str, str]:
    return {} if rejection is None else {"reason_code": rejection.code.value, "reason_sentence": rejection.sentence}


def _rejection(code: str | None, sentence: str | None) -> Rejection | None:
    return None if code is None else Rejection(Reason(code), sentence or "")


def _optional_float(value: float | None) -> float | None:
    return None if value is None else float(value)
