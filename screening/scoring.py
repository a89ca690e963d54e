"""score(exam, bundle) -> ExamResult: the model's answer to one exam, a pure function of its pixels and the bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from screening.aggregate import fuse
from screening.exam import Exam, Image, ImageKind, Laterality
from screening.focus import best_place
from screening.imaging.load import LoadedImage, PreparedVolume, load_image
from screening.imaging.load_volume import load_volume
from screening.imaging.prepare import Preparation, Prepared
from screening.linking import find_volume_candidates, peak_places
from screening.model.bundle import Bundle
from screening.model.calibration import OperatingPoint
from screening.model.forward import forward, forward_slabs
from screening.model.network import DENSITIES, MammogramNet
from screening.reading_aid import key_frames, mark_threshold
from screening.regions import OUTSIDE, Candidate, find_candidates
from screening.result import (
    BreastResult,
    ExamResult,
    Heatmap,
    ImageResult,
    KeyFrame,
    Reason,
    Region,
    Rejection,
    Status,
)


@dataclass(frozen=True)
class Prediction:
    """What the network says of one prepared image.

    `logits`: float32 (rows, columns) at the network's stride, smoothed, `OUTSIDE` beyond the breast. `density`: float
    (4,), probabilities of A to D. `candidates`: regions, highest first.

    Of a volume, `logits` are the highest over its slabs. `frames`: the most suspicious
    frame of each logit, int16 (rows, columns), -1 beyond the breast. `previews`: the frames of the candidates' peaks,
    uint8 (rows, columns).
    """

    logits: npt.NDArray[np.float32]
    density: npt.NDArray[np.float32]
    candidates: list[Candidate]
    frames: npt.NDArray[np.int16] | None = None
    previews: Mapping[int, npt.NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageAnswer:
    """One image as loaded, and the network's prediction where it could be loaded."""

    loaded: LoadedImage
    prediction: Prediction | None = None


Answer = Callable[[Image], ImageAnswer]
"""Answers one image; a batch passes one that works ahead."""


def answer(
    image: Image,
    bundle: Bundle,
    *,
    load: Callable[[Image, Preparation], LoadedImage] | None = None,
    half: bool = False,
) -> ImageAnswer:
    """Load one image or volume and run the network on it.

    `load`: for 2D images that are no DICOM. `half`: compute in bfloat16.
    """
    if image.intent not in bundle.card.intents:
        sentence = f"the image is {image.intent.lower()}, which this model was not trained on"
        return ImageAnswer(LoadedImage(image, Status.REJECTED, rejection=Rejection(Reason.FOR_PROCESSING, sentence)))
    if image.kind is ImageKind.DBT:
        loaded = load_volume(image, bundle.preparation, bundle.slabbing)
    else:
        loaded = (load or load_image)(image, bundle.preparation)
    if loaded.prepared is None:
        return ImageAnswer(loaded)
    if loaded.volume is None:
        return ImageAnswer(loaded, predict(loaded.prepared, bundle, half))
    prediction = predict_volume(loaded.prepared, loaded.volume, bundle, half)
    return ImageAnswer(replace(loaded, volume=None), prediction)  # its frames are many, and answers wait


def predict(prepared: Prepared, bundle: Bundle, half: bool = False) -> Prediction:
    """Run the network on one prepared image. `half`: compute in bfloat16."""
    logits, density = forward(prepared.pixels, bundle, half)
    spacing_mm = bundle.preparation.pixel_spacing_mm
    return Prediction(logits, density, find_candidates(logits, MammogramNet.STRIDE, spacing_mm, prepared.geometry))


def predict_volume(prepared: Prepared, volume: PreparedVolume, bundle: Bundle, half: bool = False) -> Prediction:
    """Run the networks on the slabs of one volume, of which `prepared` gives the geometry, and link what they show."""
    answers = forward_slabs(volume.images, bundle, half)
    found = find_volume_candidates(
        answers.logits,
        volume.slabs,
        volume.positions_mm,
        MammogramNet.STRIDE,
        bundle.preparation.pixel_spacing_mm,
        prepared.geometry,
    )
    candidates = found
    if bundle.slabs is None:  # what reads slabs one by one does not feel where between them a finding is sharpest
        candidates = [_focused(one, volume, bundle.slabbing.step_mm) for one in found]
    return Prediction(
        answers.logits.max(axis=0),
        answers.density,
        candidates,
        peak_places(answers.logits, volume.slabs, volume.positions_mm),
        {peak: volume.previews[peak].copy() for _, _, peak in (one.frames for one in candidates)},
    )


def _focused(candidate: Candidate, volume: PreparedVolume, reach_mm: float) -> Candidate:
    """The candidate with its peak on the frame where it shows best, of those at most one slab's step away."""
    first, last, peak = candidate.frames
    positions = np.asarray(volume.positions_mm)
    near = np.flatnonzero(np.abs(positions - positions[peak]) <= reach_mm)
    near = near[(near >= first) & (near <= last)]
    best = best_place(volume.previews, candidate.contour, volume.preview_scale, (int(near[0]), int(near[-1])))
    return replace(candidate, frames=(first, last, best))


def score(
    exam: Exam, bundle: Bundle, ask: Answer | None = None, operating_point: OperatingPoint | None = None
) -> ExamResult:
    """Score one exam; `operating_point`: the site's own, from which on key frames have to show a region.

    Images that cannot be scored keep their reason in the result; the exam is scored on the others, and rejected or
    failed when none is left. The result does not depend on the order of `exam.images`.
    """
    ask = ask or (lambda image: answer(image, bundle))
    answers = [ask(image) for image in exam.images]
    loaded = [one.loaded for one in answers]
    predictions = {one.loaded.image.image_id: one.prediction for one in answers if one.prediction is not None}
    if not predictions:
        return _unscored(exam, bundle, loaded)
    return _scored(exam, bundle, loaded, predictions, mark_threshold(bundle.calibration, operating_point))


def _unscored(exam: Exam, bundle: Bundle, loaded: Sequence[LoadedImage]) -> ExamResult:
    if any(one.status is Status.FAILED for one in loaded):
        status, code, sentence = Status.FAILED, Reason.ALL_IMAGES_FAILED, "no image could be read"
    else:
        status, code, sentence = Status.REJECTED, Reason.NO_ELIGIBLE_IMAGE, "no image is fit to be scored"
    causes = "; ".join(sorted({str(one.rejection) for one in loaded if one.rejection}))
    rejection = Rejection(code, f"{sentence} ({causes})" if causes else sentence)
    images = tuple(ImageResult(one.image, one.status, one.rejection, warnings=one.warnings) for one in loaded)
    return exam_result(exam, bundle, status, rejection=rejection, images=images)


def _scored(
    exam: Exam,
    bundle: Bundle,
    loaded: Sequence[LoadedImage],
    predictions: dict[str, Prediction],
    shown_from: float,
) -> ExamResult:
    scored = [one.image for one in loaded if one.image.image_id in predictions]
    fused = fuse({i: [c.logit for c in p.candidates] for i, p in predictions.items()}, scored)
    regions = _ranked_regions(scored, predictions, fused, bundle)
    images = tuple(_image_result(one, predictions, fused, regions, bundle, shown_from) for one in loaded)
    breasts = _breasts(scored, predictions, regions)
    top = regions[0]
    return exam_result(
        exam,
        bundle,
        Status.SCORED,
        score=top.score,
        category=bundle.calibration.category(top.score),
        density=_density(list(predictions.values())),
        top_region_id=top.region_id,
        breasts=breasts,
        images=images,
        warnings=(*exam.warnings, *_lost_volumes(loaded)),
    )


def _lost_volumes(loaded: Sequence[LoadedImage]) -> list[str]:
    """What the exam says of volumes that it was scored without: most of what there was to see."""
    return [
        f"scored without the tomosynthesis volume {one.image.laterality} {one.image.view}, which could not be read"
        for one in sorted(loaded, key=lambda one: one.image.image_id)
        if one.image.kind is ImageKind.DBT and one.status is Status.FAILED
    ]


def _ranked_regions(
    images: Sequence[Image], predictions: dict[str, Prediction], fused: dict[str, list[float]], bundle: Bundle
) -> list[Region]:
    """All regions, most suspicious first. On equal fused scores the region's own logit decides, then its place."""
    found = [
        (image, candidate, logit)
        for image in images
        for candidate, logit in zip(predictions[image.image_id].candidates, fused[image.image_id], strict=True)
    ]
    found.sort(key=lambda item: (-item[2], -item[1].logit, item[0].image_id, item[1].box))
    regions, counts = [], dict.fromkeys(predictions, 0)
    for rank, (image, candidate, logit) in enumerate(found, start=1):
        counts[image.image_id] += 1
        x, y, width, height = candidate.box
        first, last, peak = candidate.frames
        regions.append(
            Region(
                region_id=f"{image.image_id}.r{counts[image.image_id]}",
                image_id=image.image_id,
                laterality=image.laterality,
                view=image.view,
                x=x,
                y=y,
                width=width,
                height=height,
                contour=tuple((float(px), float(py)) for px, py in candidate.contour),
                score=bundle.calibration.score(logit),
                rank=rank,
                frame_first=first,
                frame_last=last,
                frame_peak=peak,
            )
        )
    return regions


def _image_result(
    loaded: LoadedImage,
    predictions: dict[str, Prediction],
    fused: dict[str, list[float]],
    regions: Sequence[Region],
    bundle: Bundle,
    shown_from: float,
) -> ImageResult:
    image = loaded.image
    if loaded.prepared is None or image.image_id not in predictions:
        return ImageResult(image, loaded.status, loaded.rejection, warnings=loaded.warnings)
    own = tuple(region for region in regions if region.image_id == image.image_id)
    prediction = predictions[image.image_id]
    views = 1 + len({i.view for i in _same_breast(image, predictions, regions)} - {image.view})
    own_logits = [candidate.logit for candidate in prediction.candidates]
    logits = _fused_like(prediction.logits, own_logits, fused[image.image_id], views)
    heatmap = _heatmap(logits, prediction.frames, loaded.prepared, bundle)
    keys = _key_frames(own, prediction, shown_from) if image.kind is ImageKind.DBT else ()
    return ImageResult(image, Status.SCORED, None, own[0].score, own, heatmap, loaded.preview, loaded.warnings, keys)


def _fused_like(
    logits: npt.NDArray[np.float32], own: Sequence[float], fused: Sequence[float], views: int
) -> npt.NDArray[np.float32]:
    """A map of logits fused as the image's regions were: each place as a region of its logit would have been.

    `own`, `fused`: logits of the regions before and after, highest first; the first is the map's highest. Below the
    lowest, what a place lacks counts once among the views.
    """
    between = np.interp(logits, own[::-1], fused[::-1])
    below = fused[-1] + (logits - own[-1]) / views
    return np.where(logits < own[-1], below, between).astype(np.float32)


def _key_frames(regions: Sequence[Region], prediction: Prediction, shown_from: float) -> tuple[KeyFrame, ...]:
    return tuple(
        KeyFrame(frame, tuple(region.region_id for region in shown), prediction.previews.get(frame))
        for frame, shown in key_frames(regions, shown_from)
    )


def _same_breast(image: Image, predictions: dict[str, Prediction], regions: Sequence[Region]) -> list[Region]:
    return [r for r in regions if r.laterality is image.laterality and r.image_id in predictions]


def _heatmap(
    logits: npt.NDArray[np.float32], frames: npt.NDArray[np.int16] | None, prepared: Prepared, bundle: Bundle
) -> Heatmap:
    """Calibrated probabilities over the breast's box, turned back to the source's orientation."""
    geometry, stride = prepared.geometry, MammogramNet.STRIDE
    calibration = bundle.calibration
    with np.errstate(over="ignore"):
        values = 1 / (1 + np.exp(-(calibration.slope * logits + calibration.intercept)))
    values = np.where(logits > OUTSIDE / 4, values, 0).astype(np.float32)
    rows, columns = -(-geometry.rows // stride), -(-geometry.columns // stride)
    turned = np.s_[:: -1 if geometry.flip_y else 1, :: -1 if geometry.flip_x else 1]
    corners = geometry.to_source([[-0.5, -0.5], [columns * stride - 0.5, rows * stride - 0.5]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    # Box edges, where pixel i reaches from i to i + 1 (regions count likewise from a pixel's edge).
    x, y = low + 0.5
    return Heatmap(
        np.ascontiguousarray(values[:rows, :columns][turned]),
        float(x),
        float(y),
        float(high[0] - low[0]),
        float(high[1] - low[1]),
        None if frames is None else np.ascontiguousarray(frames[:rows, :columns][turned]),
    )


def _breasts(
    images: Sequence[Image], predictions: dict[str, Prediction], regions: Sequence[Region]
) -> tuple[BreastResult, ...]:
    breasts = []
    for side in Laterality:
        own = [region for region in regions if region.laterality is side]
        if own:
            density = _density([predictions[i.image_id] for i in images if i.laterality is side])
            breasts.append(BreastResult(side, own[0].score, own[0].region_id, density))
    return tuple(breasts)


def _density(predictions: Sequence[Prediction]) -> str:
    """Category by the mean probability over images; summed in a fixed order, so that file order changes nothing.

    Volumes are asked only where there is no 2D image: density was learned, and is defined, on projections.
    """
    flat = [one for one in predictions if one.frames is None] or predictions
    mean = np.sum(sorted(tuple(p.density.astype(np.float64)) for p in flat), axis=0)
    return DENSITIES[int(np.argmax(mean))]


def exam_result(exam: Exam, bundle: Bundle, status: Status, **found: object) -> ExamResult:
    """An exam's result with who she is and which model answered; `found`: further fields of `ExamResult`."""
    empty = ExamResult(
        exam_id=exam.exam_id,
        woman_id=exam.woman_id,
        exam_date=exam.exam_date,
        site=exam.site,
        manufacturer=exam.manufacturer,
        model_id=bundle.model_id,
        status=status,
        warnings=exam.warnings,
    )
    return replace(empty, **found)  # type: ignore[arg-type]  # fields are named by the callers above
