from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from screening.delivery.context import DISCLAIMER, Delivery
from screening.delivery.headers import source_header
from screening.delivery.objects import encoded, written
from screening.delivery.presentation_state import LAYER, presentation_states
from screening.imaging.decode import load_display
from screening.result import Region, Status
from tests.support.deliveries import CASES, COLUMNS, FRAMES, ROWS, SHA256, Case, delivery
from tests.support.dicom import noise_image, write_dicom
from tests.support.validators import dciodvfy, dcmdump, needs


def read_back(delivered: Delivery, folder: Path) -> list[Dataset]:
    """The exam's presentation states, through files."""
    return [dcmread(written(one, folder / "out")) for one in presentation_states(delivered)]


def texts(state: Dataset) -> str:
    return "\n".join(
        one.UnformattedTextValue for item in state.GraphicAnnotationSequence for one in item.TextObjectSequence
    )


def marks(state: Dataset) -> dict[str, Dataset]:
    """Annotations with an outline, by its tracking UID."""
    return {
        str(item.GraphicObjectSequence[0].TrackingUID): item
        for item in state.GraphicAnnotationSequence
        if "GraphicObjectSequence" in item
    }


@pytest.mark.parametrize("case", ["2d", "dbt", "partly-rejected"])
def test_marked_regions_come_back_within_half_a_pixel_and_no_others(tmp_path: Path, case: str) -> None:
    delivered = delivery(tmp_path, CASES[case])
    found = {uid: item for state in read_back(delivered, tmp_path) for uid, item in marks(state).items()}
    assert delivered.marked
    assert set(found) == {delivered.other_uid("region", region.region_id) for region in delivered.marked}
    for region in delivered.marked:
        item = found[delivered.other_uid("region", region.region_id)]
        line = item.GraphicObjectSequence[0]
        assert (line.GraphicAnnotationUnits, line.GraphicType) == ("PIXEL", "POLYLINE")
        points = np.array(line.GraphicData).reshape(-1, 2)
        assert line.NumberOfGraphicPoints == len(points)
        np.testing.assert_array_equal(points[0], points[-1])
        np.testing.assert_allclose(points[:-1], region.contour, atol=0.01)
        assert item.ReferencedImageSequence[0].ReferencedSOPInstanceUID == region.image_id


def test_everything_is_on_one_layer_that_can_be_switched_off(tmp_path: Path) -> None:
    for state in read_back(delivery(tmp_path, CASES["2d"]), tmp_path):
        assert [layer.GraphicLayer for layer in state.GraphicLayerSequence] == [LAYER]
        assert {item.GraphicLayer for item in state.GraphicAnnotationSequence} == {LAYER}
        # Nothing is switched on beside it: no overlay, no shutter, no mask.
        assert not [element for element in state if element.tag.group >> 8 == 0x60]


def test_every_state_says_what_it_is_and_the_score_stands_beside_the_region(tmp_path: Path) -> None:
    delivered = delivery(tmp_path, CASES["2d"])
    for state in read_back(delivered, tmp_path):
        assert DISCLAIMER in texts(state)
        assert SHA256 in texts(state)
        assert delivered.point.name in texts(state)
    first = read_back(delivered, tmp_path)[0]
    (label,) = next(iter(marks(first).values())).TextObjectSequence
    assert label.UnformattedTextValue == f"{delivered.marked[0].rank}: score 0.7000"
    (x, bottom), (_, top) = label.BoundingBoxBottomRightHandCorner, label.BoundingBoxTopLeftHandCorner
    assert 0 <= top < bottom <= delivered.marked[0].y + 0.01
    assert x <= COLUMNS


def test_an_image_without_a_marked_region_says_that_it_has_none(tmp_path: Path) -> None:
    states = read_back(delivery(tmp_path, CASES["empty"]), tmp_path)
    assert len(states) == 4
    for state in states:
        assert not marks(state)
        assert "No region at or above operating point recall-3" in texts(state)


@pytest.mark.parametrize(("case", "count"), [("2d", 4), ("partly-rejected", 2), ("rejected", 0)])
def test_each_scored_image_has_one_state_and_unscored_ones_have_none(tmp_path: Path, case: str, count: int) -> None:
    delivered = delivery(tmp_path, CASES[case])
    states = read_back(delivered, tmp_path)
    referenced = [
        image.ReferencedSOPInstanceUID
        for state in states
        for series in state.ReferencedSeriesSequence
        for image in series.ReferencedImageSequence
    ]
    scored = [one.image.image_id for one in delivered.result.images if one.status is Status.SCORED]
    assert len(states) == count
    assert referenced == scored


def test_states_are_the_sources_patients_in_one_series_and_the_same_when_made_again(tmp_path: Path) -> None:
    delivered = delivery(tmp_path, CASES["2d"])
    states = presentation_states(delivered)
    for state in states:
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
            assert state[keyword] == delivered.identity[keyword]
    assert len({state.SeriesInstanceUID for state in states}) == 1
    assert states[0].SeriesInstanceUID not in {source.header.SeriesInstanceUID for source in delivered.sources}
    assert len({state.SOPInstanceUID for state in states}) == len({state.InstanceNumber for state in states}) == 4
    again = presentation_states(delivery(tmp_path, CASES["2d"]))
    assert [encoded(one) for one in again] == [encoded(one) for one in states]


def test_an_image_of_another_study_gets_its_state_in_that_study(tmp_path: Path) -> None:
    """Some sites' profiles group studies to one exam; a series cannot belong to two."""
    delivered = delivery(tmp_path, CASES["2d"])
    delivered.sources[3].header.StudyInstanceUID = "1.2.826.0.1.3680043.10.1.99"
    *usual, other = presentation_states(delivered)
    assert other.StudyInstanceUID == "1.2.826.0.1.3680043.10.1.99"
    assert {one.StudyInstanceUID for one in usual} == {delivered.identity.StudyInstanceUID}
    assert other.SeriesInstanceUID not in {one.SeriesInstanceUID for one in usual}


def test_marks_in_a_volume_name_its_frames_counted_from_one(tmp_path: Path) -> None:
    delivered = delivery(tmp_path, CASES["dbt"])
    state = read_back(delivered, tmp_path)[0]
    for item in marks(state).values():
        assert list(item.ReferencedImageSequence[0].ReferencedFrameNumber) == [4, 5, 6, 7]
    whole = state.ReferencedSeriesSequence[0].ReferencedImageSequence[0]
    assert "ReferencedFrameNumber" not in whole


@pytest.mark.parametrize("y", [0.0, 60.0, ROWS - 12.0])
@pytest.mark.parametrize("x", [0.0, COLUMNS - 16.0])
def test_labels_stay_within_the_image(tmp_path: Path, x: float, y: float) -> None:
    delivered = delivery(tmp_path, CASES["2d"])
    source = delivered.sources[0]
    (region, *_) = source.result.regions
    moved = replace(region, x=x, y=y, contour=((x, y), (x + 16, y), (x + 16, y + 12), (x, y + 12)))
    state = presentation_states(with_regions(delivered, (moved,)))[0]
    (item,) = marks(state).values()
    left, top = item.TextObjectSequence[0].BoundingBoxTopLeftHandCorner
    right, bottom = item.TextObjectSequence[0].BoundingBoxBottomRightHandCorner
    assert 0 <= left < right <= COLUMNS
    assert 0 <= top < bottom <= ROWS
    assert bottom <= y or top >= y + 12, "the label covers the region"


def with_regions(delivered: Delivery, regions: tuple[Region, ...]) -> Delivery:
    """The delivery with these as the only regions, all of the first source."""
    first, *others = delivered.sources
    sources = (replace(first, result=replace(first.result, regions=regions)), *others)
    images = (sources[0].result, *(replace(one, regions=()) for one in delivered.result.images[1:]))
    return replace(delivered, sources=sources, result=replace(delivered.result, images=images))


def table(first: int, bits: int, *, signed: bool = False) -> Dataset:
    """A lookup table of 4096 entries that bends the greys."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [4096, first, bits])
    values = np.rint(((1 << bits) - 1) * np.linspace(0, 1, 4096) ** 2).astype("<u2")
    item.add_new("LUTData", "OW", values.tobytes())
    item.ModalityLUTType = "US"
    return item


WINDOW = {"WindowCenter": [1500, 9], "WindowWidth": [2500, 9]}
GREYS: dict[str, dict[str, Any]] = {
    "window": WINDOW,
    "white-is-low": {**WINDOW, "PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    "rescaled": {"RescaleSlope": 2, "RescaleIntercept": -500, "WindowCenter": 3000, "WindowWidth": 5000},
    "lookup-table": {"VOILUTSequence": Sequence([table(0, 12)])},
    "signed-lookup-table": {
        "VOILUTSequence": Sequence([table(-100, 16, signed=True)]),
        "RescaleSlope": 1,
        "RescaleIntercept": -100,
    },
    "modality-table": {"ModalityLUTSequence": Sequence([table(0, 16)]), "WindowCenter": 32768, "WindowWidth": 65536},
}


@needs("dcmdump")
@pytest.mark.parametrize("greys", GREYS.values(), ids=GREYS)
def test_greys_are_those_that_the_image_is_displayed_with_anyway(tmp_path: Path, greys: dict[str, Any]) -> None:
    """Rendered by DCMTK through the presentation state, and by our own display of the image without it."""
    delivered = delivery(tmp_path, Case({}, header={"BitsStored": 12, **greys}))
    path = delivered.sources[0].result.image.path
    source = dcmread(path)
    source.BitsAllocated, source.BitsStored, source.HighBit = 16, 12, 11
    source.PixelData = noise_image(ROWS, COLUMNS, 12).tobytes()
    write_dicom(path, source)
    state = written(presentation_states(delivery_again(delivered))[0], tmp_path / "out")
    done = subprocess.run(
        ["dcmp2pgm", "-p", str(state), str(path), str(tmp_path / "shown.pgm")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shown = cv2.imread(str(tmp_path / "shown.pgm"), cv2.IMREAD_UNCHANGED)
    expected = load_display(path).astype(np.float64) / 257
    assert shown is not None
    assert expected.std() > 20
    assert np.abs(shown - expected).max() <= 1.5


def test_a_windows_function_goes_with_it(tmp_path: Path) -> None:
    """Looked at in the object: DCMTK's presentation states know linear windows only."""
    delivered = delivery(tmp_path, replace(CASES["2d"], header={**WINDOW, "VOILUTFunction": "SIGMOID"}))
    (item,) = presentation_states(delivered)[0].SoftcopyVOILUTSequence
    assert (item.WindowCenter, item.WindowWidth, item.VOILUTFunction) == (1500, 2500, "SIGMOID")


def delivery_again(delivered: Delivery) -> Delivery:
    """The delivery with headers read anew."""
    sources = tuple(replace(one, header=source_header(one.result.image.path)) for one in delivered.sources)
    return replace(delivered, sources=sources)


def window(center: float) -> Dataset:
    item, groups = Dataset(), Dataset()
    item.WindowCenter, item.WindowWidth = center, 200
    groups.FrameVOILUTSequence = Sequence([item])
    return groups


def test_a_volumes_windows_apply_to_the_frames_that_they_are_of(tmp_path: Path) -> None:
    groups = Sequence([window(100 if frame < 5 else 90) for frame in range(FRAMES)])
    header = {"PerFrameFunctionalGroupsSequence": groups, "SharedFunctionalGroupsSequence": Sequence([Dataset()])}
    for state in read_back(delivery(tmp_path, replace(CASES["dbt"], header=header)), tmp_path):
        first, second = state.SoftcopyVOILUTSequence
        assert (first.WindowCenter, second.WindowCenter) == (100, 90)
        assert list(first.ReferencedImageSequence[0].ReferencedFrameNumber) == [1, 2, 3, 4, 5]
        assert list(second.ReferencedImageSequence[0].ReferencedFrameNumber) == [6, 7, 8, 9, 10, 11, 12]


def test_a_window_for_all_frames_of_a_volume_names_none(tmp_path: Path) -> None:
    header = {"SharedFunctionalGroupsSequence": Sequence([window(70)])}
    for state in read_back(delivery(tmp_path, replace(CASES["dbt"], header=header)), tmp_path):
        (item,) = state.SoftcopyVOILUTSequence
        assert item.WindowCenter == 70
        assert "ReferencedImageSequence" not in item


@needs("dcmdump")
def test_dcmtk_draws_each_mark_and_its_score_on_the_image_that_it_is_of(tmp_path: Path) -> None:
    """An independent viewer's list of what it draws on each image: outlines where the model saw the regions."""
    delivered = delivery(tmp_path, CASES["2d"])
    drawn = 0
    for source, state in zip(delivered.sources, presentation_states(delivered), strict=True):
        path = written(state, tmp_path / "out")
        command = ["dcmp2pgm", "-v", "-p", str(path), str(source.result.image.path), str(tmp_path / "shown.pgm")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told = done.stdout + done.stderr
        outlines = [
            np.array([[float(number) for number in pair.split("\\")] for pair in line.split(", ") if pair.strip()])
            for line in re.findall(r"coordinates: (.+)", told)
        ]
        marked = [one for one in delivered.marked if one.image_id == source.result.image.image_id]
        assert len(outlines) == len(marked)
        for region, outline in zip(marked, outlines, strict=True):
            np.testing.assert_allclose(outline, [*region.contour, region.contour[0]])
            (score,) = re.findall(rf'"{region.rank}: score ([0-9.]+)"', told)
            assert float(score) == pytest.approx(region.score, rel=1e-3)
        assert DISCLAIMER in told
        drawn += len(marked)
    assert drawn == len(delivered.marked) > 0


def test_the_whole_image_is_displayed(tmp_path: Path) -> None:
    (area,) = read_back(delivery(tmp_path, CASES["2d"]), tmp_path)[0].DisplayedAreaSelectionSequence
    assert list(area.DisplayedAreaTopLeftHandCorner) == [1, 1]
    assert list(area.DisplayedAreaBottomRightHandCorner) == [COLUMNS, ROWS]


@needs("dcmdump", "dciodvfy")
@pytest.mark.parametrize("case", CASES)
def test_validators_find_nothing(tmp_path: Path, case: str) -> None:
    for state in presentation_states(delivery(tmp_path, CASES[case])):
        path = written(state, tmp_path / "out")
        assert dciodvfy(path) == []
        assert LAYER in dcmdump(path)
        checked = subprocess.run(["dcmpschk", str(path)], capture_output=True, text=True)
        assert "Test passed" in checked.stdout + checked.stderr


HOSTILE: dict[str, Any] = {
    "PatientName": "<script>alert(1)</script>^" + "A" * 300,
    "PatientID": "../../etc/passwd",
    "StudyDescription": "x" * 5000,
    "AccessionNumber": "\u0007;rm -rf",
    "WindowCenter": "NaN",
    "WindowWidth": "1e400",
    "VOILUTSequence": Sequence([Dataset()]),
    "RescaleSlope": "0",
    "RescaleIntercept": "0",
    "PatientOrientation": ["Q\u00e9", "<b>"],
}


@needs("dciodvfy")
@pytest.mark.filterwarnings("ignore")
def test_hostile_headers_neither_stop_the_states_nor_reach_file_names(tmp_path: Path) -> None:
    delivered = delivery(tmp_path, replace(CASES["2d"], header=HOSTILE))
    for state in presentation_states(delivered):
        path = written(state, tmp_path / "out")
        assert path.name == f"{state.SOPInstanceUID}.dcm"
        assert dciodvfy(path) == []
        assert "SoftcopyVOILUTSequence" not in state
