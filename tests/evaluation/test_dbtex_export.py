"""The table for the DBTex challenge: its columns, its coordinates, and back through its own reader and scorer."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from evaluation.columns import ScoresError
from evaluation.dbtex import nearest_box
from evaluation.dbtex_export import COLUMNS, Identity, export_dbtex, prediction
from evaluation.dbtex_tables import load_dbtex
from screening.exam import Image, ImageKind, Laterality, View
from screening.report import picture_paths
from screening.result import BreastResult, ExamResult, ImageResult, Region, Status
from screening.store import STORE_NAME, ResultStore

ROWS, SIDE = 400, 300
BOX = (30.2, 100.4, 20.0, 40.0)
TURNED_BOX = (SIDE - 30.2 - 20.0, ROWS - 100.4 - 40.0, 20.0, 40.0)


def volume(
    folder: Path, image_id: str, wall: str, *, side: str = "L", view: str = "CC", kind: str = "dbt"
) -> ImageResult:
    """A scored volume of 60 frames whose stored chest wall is on the side `wall`, with one region."""
    image = Image(
        image_id, folder / f"{image_id}.dcm", Laterality(side), View(view), ImageKind(kind), ROWS, SIDE, 60, (0.1, 0.1)
    )
    plain = np.zeros((ROWS, SIDE), np.uint8)
    columns = slice(None, 100) if wall == "L" else slice(-100, None)
    plain[50:350, columns] = 150
    path = picture_paths(folder, "exam", image_id).plain
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), plain)
    region = Region(
        f"{image_id}.r1",
        image_id,
        image.laterality,
        image.view,
        *BOX,
        (),
        0.25,
        1,
        frame_first=10,
        frame_last=19,
        frame_peak=15,
    )
    return ImageResult(image, Status.SCORED, score=0.25, regions=(region,))


def stored(folder: Path, *images: ImageResult, model: str = "m") -> Path:
    ranked = []
    for rank, one in enumerate(images, start=1):
        ranked.append(replace(one, regions=tuple(replace(region, rank=rank) for region in one.regions)))
    top = images[0].regions[0].region_id
    result = ExamResult(
        "exam", "woman", None, "site", "", model, Status.SCORED, score=0.25, category=5, top_region_id=top,
        breasts=(BreastResult(images[0].image.laterality, 0.25, top),), images=tuple(ranked),
    )  # fmt: skip
    with ResultStore(folder / STORE_NAME) as store:
        store.add(result)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_columns_and_numbers_are_the_challenges(tmp_path: Path) -> None:
    stored(tmp_path, volume(tmp_path, "1.1", "L"))
    written = export_dbtex(tmp_path, tmp_path / "p.csv")
    assert (written.predictions, written.volumes, written.unlisted) == (1, 1, 0)
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "PatientID,StudyUID,View,X,Width,Y,Height,Z,Depth,Score"
    assert lines[1] == "woman,exam,lcc,30,20,100,40,10,10,0.25"


def test_volume_stored_turned_is_written_as_the_challenge_shows_it(tmp_path: Path) -> None:
    """The organisers reverse rows and columns, and never slices, where the chest wall is not on the view's side."""
    stored(tmp_path, volume(tmp_path, "1.1", "R"), volume(tmp_path, "1.2", "R", side="R", view="MLO"))
    export_dbtex(tmp_path, tmp_path / "p.csv")
    turned, straight = rows(tmp_path / "p.csv")
    assert [int(turned[name]) for name in ("X", "Y", "Width", "Height")] == [250, 260, 20, 40]
    assert (turned["Z"], turned["Depth"]) == ("10", "10")
    assert [int(straight[name]) for name in ("X", "Y")] == [30, 100]
    # As the pixels themselves turn: the box's bright rectangle lies where the table says.
    pixels = np.zeros((ROWS, SIDE))
    pixels[100:140, 30:50] = 1
    y, x = np.nonzero(np.flip(pixels, axis=(-1, -2)))
    assert (x.min(), y.min()) == pytest.approx((250, 260), abs=1)


def test_table_read_back_hits_the_box_that_the_region_lies_on(tmp_path: Path) -> None:
    stored(tmp_path, volume(tmp_path, "1.1", "R"))
    export_dbtex(tmp_path, tmp_path / "p.csv")
    x, y, width, height = TURNED_BOX
    box = {"PatientID": "woman", "StudyUID": "exam", "View": "lcc", "Slice": 15, "VolumeSlices": 60}
    box |= {"X": round(x), "Y": round(y), "Width": round(width), "Height": round(height)}
    pd.DataFrame([box]).to_csv(tmp_path / "b.csv", index=False)
    data = load_dbtex(tmp_path / "p.csv", tmp_path / "b.csv")
    np.testing.assert_array_equal(nearest_box(data, floor_px=5), [0])


def test_2d_images_have_no_part_and_repeated_views_are_numbered(tmp_path: Path) -> None:
    stored(
        tmp_path,
        volume(tmp_path, "1.1", "L"),
        volume(tmp_path, "1.2", "L", kind="synthetic"),
        volume(tmp_path, "1.3", "L"),
    )
    export_dbtex(tmp_path, tmp_path / "p.csv")
    assert [row["View"] for row in rows(tmp_path / "p.csv")] == ["lcc", "lcc2"]


def test_list_of_files_says_what_the_challenge_calls_a_volume(tmp_path: Path) -> None:
    stored(tmp_path, volume(tmp_path, "1.1", "R"), volume(tmp_path, "1.2", "L"))
    listed = {"PatientID": "DBT-P1", "StudyUID": "DBT-S1", "View": "rcc", "descriptive_path": "x/1-1.dcm"}
    listed["classic_path"] = f"{tmp_path.name}/1.1.dcm"
    pd.DataFrame([listed]).to_csv(tmp_path / "paths.csv", index=False)
    written = export_dbtex(tmp_path, tmp_path / "p.csv", tmp_path / "paths.csv")
    assert (written.volumes, written.unlisted) == (1, 1)
    (row,) = rows(tmp_path / "p.csv")
    assert (row["PatientID"], row["StudyUID"], row["View"], row["X"]) == ("DBT-P1", "DBT-S1", "rcc", "30")


def test_box_stays_in_the_image_and_has_an_extent() -> None:
    one = Image("1", Path("x"), Laterality.LEFT, View.CC, ImageKind.DBT, ROWS, SIDE, 1, (0.1, 0.1))
    for box in ((-3.0, 390.0, 10.0, 30.0), (299.8, 1.0, 0.1, 0.1)):
        region = Region("r", "1", one.laterality, one.view, *box, (), 0.5, 1)
        for turned in (False, True):
            line = dict(zip(COLUMNS, prediction(region, one, Identity("p", "s", "lcc"), turned), strict=True))
            x, y, width, height = (int(line[name]) for name in ("X", "Y", "Width", "Height"))
            assert min(x, y, SIDE - x - width, ROWS - y - height) >= 0
            assert min(width, height, int(line["Depth"])) >= 1


def test_folder_without_results_or_volumes_or_pixels_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ScoresError, match="give the folder that screening score wrote"):
        export_dbtex(tmp_path, tmp_path / "p.csv")
    flat = tmp_path / "flat"
    stored(flat, volume(flat, "1.1", "L", kind="ffdm"))
    with pytest.raises(ScoresError, match="no scored tomosynthesis volume"):
        export_dbtex(flat, tmp_path / "p.csv")
    bare = tmp_path / "bare"
    stored(bare, volume(bare, "1.1", "L"))
    picture_paths(bare, "exam", "1.1").plain.unlink()
    with pytest.raises(ScoresError, match="score it again"):
        export_dbtex(bare, tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_results_of_two_models_are_refused(tmp_path: Path) -> None:
    stored(tmp_path, volume(tmp_path, "1.1", "L"))
    stored(tmp_path, volume(tmp_path, "1.1", "L"), model="other")
    with pytest.raises(ScoresError, match="results of 2 models"):
        export_dbtex(tmp_path, tmp_path / "p.csv")
