"""Objects made of volumes: their sources are real ones, and they refer to the frames that are meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from screening.delivery.cad_sr import cad_sr
from screening.delivery.context import Delivery
from screening.delivery.fhir import report_bundle
from screening.delivery.headers import DeliveryError
from screening.delivery.heatmap_object import heatmaps
from screening.delivery.measurement_report import measurement_report
from screening.delivery.presentation_state import presentation_states
from screening.result import Heatmap
from tests.support.deliveries import CASES, FRAMES, Case, delivery
from tests.support.tiny_volume import SLICE_MM, tiny_volume
from tests.support.validators import dciodvfy, dcmdump, needs

FIRST, LAST, PEAK = 3, 6, 5
"""Places of the regions of `tests.support.deliveries`, from 0."""


def heated(delivered: Delivery) -> Delivery:
    """The delivery with a heatmap of every image."""
    heatmap = Heatmap(np.full((3, 2), 0.1, np.float32), 0.0, 0.0, 80.0, 120.0)
    sources = (replace(one, result=replace(one.result, heatmap=heatmap)) for one in delivered.sources)
    return replace(delivered, sources=tuple(sources))


def objects(delivered: Delivery) -> Iterator[Dataset]:
    yield cad_sr(delivered)
    yield measurement_report(delivered)
    yield from presentation_states(delivered)
    yield from heatmaps(heated(delivered))


def frames_named(dataset: Dataset) -> set[int]:
    """Every frame number, from 1, that an object refers to."""
    found = (element for element in dataset.iterall() if element.keyword == "ReferencedFrameNumber")
    return {int(frame) for element in found for frame in np.atleast_1d(element.value)}


def shuffled() -> tuple[Case, dict[int, int]]:
    """Volumes whose frames are stored in no order of their planes; and the place of each stored frame (from 1).

    Places rise along the planes' normal, which in these volumes points against the patient's z.
    """
    groups = tiny_volume(
        np.zeros((FRAMES, 8, 8), np.uint8), laterality="R", view="CC", instance=1
    ).PerFrameFunctionalGroupsSequence
    order = np.random.default_rng(0).permutation(FRAMES)
    header = {"PerFrameFunctionalGroupsSequence": Sequence(groups[plane] for plane in order)}
    return replace(CASES["dbt"], header=header), {n: FRAMES - 1 - int(plane) for n, plane in enumerate(order, start=1)}


@needs("dciodvfy", "dcmdump")
def test_volume_is_a_valid_breast_tomosynthesis_image(tmp_path: Path) -> None:
    for source in delivery(tmp_path, CASES["dbt"]).sources:
        path = source.result.image.path
        assert dciodvfy(path) == []
        assert "BreastTomosynthesisImageStorage" in dcmdump(path)
        read = dcmread(path)
        assert read.SOPClassUID == uid.BreastTomosynthesisImageStorage
        assert len(read.PerFrameFunctionalGroupsSequence) == read.NumberOfFrames == FRAMES


def test_objects_of_a_shuffled_volume_name_the_frames_that_lie_where_the_region_does(tmp_path: Path) -> None:
    case, places = shuffled()
    delivered = delivery(tmp_path, case, "recall-10")
    marked = {region.image_id for region in delivered.marked}
    for made in (cad_sr(delivered), measurement_report(delivered)):
        assert {places[frame] for frame in frames_named(made)} == set(range(FIRST, LAST + 1))
    for source, made in zip(delivered.sources, presentation_states(delivered), strict=True):
        expected = set(range(FIRST, LAST + 1)) if source.sop_instance in marked else set()
        assert {places[frame] for frame in frames_named(made)} == expected
    for made in heatmaps(heated(delivered)):
        assert {places[frame] for frame in frames_named(made)} == {PEAK}
        (position,) = made.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
        assert position.ImagePositionPatient[2] == (FRAMES - 1 - PEAK) * SLICE_MM


def test_the_center_in_a_shuffled_volume_is_on_the_frame_of_the_peak(tmp_path: Path) -> None:
    case, places = shuffled()
    library = cad_sr(delivery(tmp_path, case)).ContentSequence[1].ContentSequence
    named = [item.ReferencedSOPSequence[0].get("ReferencedFrameNumber") for item in library]
    assert {places[frame] for frame in named if isinstance(frame, int)} == {PEAK}


def test_fhir_names_the_stored_frame_of_the_peak_and_a_range_within_the_region(tmp_path: Path) -> None:
    case, places = shuffled()
    components = [
        {one["code"]["coding"][0]["code"]: one for one in entry["resource"]["component"]}
        for entry in report_bundle(delivery(tmp_path, case))["entry"]
        if any(one["code"]["coding"][0]["code"] == "peak-frame" for one in entry["resource"].get("component", ()))
    ]
    assert components
    for found in components:
        peak, extent = found["peak-frame"]["valueInteger"], found["frames"]["valueRange"]
        assert places[peak] == PEAK
        named = range(int(extent["low"]["value"]), int(extent["high"]["value"]) + 1)
        assert peak in named
        assert all(FIRST <= places[frame] <= LAST for frame in named)


def test_objects_of_a_series_of_slices_name_no_frames(tmp_path: Path) -> None:
    delivered = delivery(tmp_path, CASES["dbt-series"])
    assert delivered.marked
    assert {source.sop_class for source in delivered.sources} == {uid.CTImageStorage}
    for made in objects(delivered):
        assert frames_named(made) == set()


def test_volume_whose_file_has_other_frames_by_now_is_not_delivered(tmp_path: Path) -> None:
    delivered = delivery(tmp_path, CASES["dbt"])
    read = dcmread(delivered.sources[0].result.image.path)
    del read.PerFrameFunctionalGroupsSequence[-1]
    read.save_as(delivered.sources[0].result.image.path)
    with pytest.raises(DeliveryError, match="declares 12 frames, but describes 11"):
        cad_sr(delivered)
