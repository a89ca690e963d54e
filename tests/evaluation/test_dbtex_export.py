"""The table for the DBTex challenge: its columns, its coordinates, and back through its own reader and scorer."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from evaluation.cli import join
from evaluation.columns import ScoresError
from evaluation.dbtex import nearest_box
from evaluation.dbtex_export import COLUMNS, Identity, export_dbtex, prediction
from evaluation.dbtex_tables import load_dbtex
from screening.exam import Image, ImageKind, Laterality, View
from screening.imaging.stack import OUT_OF_ORDER
from screening.report import picture_paths
from screening.result import BreastResult, ExamResult, ImageResult, Region, Status
from screening.store import STORE_NAME, ResultStore
from tests.support.volumes import write_volume

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


def bright_columns(folder: Path, image_id: str, wall: str, order: Sequence[int] = range(60)) -> None:
    """The volume's file: in the first stored frame, and in no other, the wall is the outer column of the side `wall`.

    `order`: the place of each stored frame.
    """
    pixels = np.zeros((60, ROWS, SIDE), np.uint8)
    pixels[:, :, 0 if wall == "R" else -1] = 200
    pixels[0] = pixels[0, :, ::-1]
    write_volume(folder / f"{image_id}.dcm", pixels, positions_mm=[float(place) for place in order])


@pytest.mark.parametrize(("wall", "x"), [("L", 30), ("R", 250)])
def test_wall_is_that_of_the_first_stored_frame_whatever_the_picture_shows(tmp_path: Path, wall: str, x: int) -> None:
    """The picture is the maximum of all frames; the organisers sum the outer columns of the first."""
    stored(tmp_path, volume(tmp_path, "1.1", "R" if wall == "L" else "L"))
    bright_columns(tmp_path, "1.1", wall)
    export_dbtex(tmp_path, tmp_path / "p.csv")
    assert int(rows(tmp_path / "p.csv")[0]["X"]) == x


def test_slices_are_the_stored_ones_of_a_volume_out_of_order(tmp_path: Path) -> None:
    """The region is at the places 10 to 19 with its peak at 15."""
    stored(tmp_path, volume(tmp_path, "1.1", "L"))
    order = np.random.default_rng(0).permutation(60)
    order[[20, 21, 22, *np.flatnonzero(np.isin(order, [14, 15, 16]))]] = [14, 15, 16, *order[20:23]]
    assert sorted(order) == list(range(60))
    bright_columns(tmp_path, "1.1", "L", order)
    export_dbtex(tmp_path, tmp_path / "p.csv")
    (row,) = rows(tmp_path / "p.csv")
    named = order[int(row["Z"]) : int(row["Z"]) + int(row["Depth"])]
    assert {14, 15, 16} <= set(named) <= set(range(10, 20))


def test_slices_out_of_order_are_not_guessed_without_the_file(tmp_path: Path) -> None:
    one = volume(tmp_path, "1.1", "L")
    stored(tmp_path, replace(one, warnings=(OUT_OF_ORDER,)))
    with pytest.raises(ScoresError, match="not stored in order"):
        export_dbtex(tmp_path, tmp_path / "p.csv")


def test_command_writes_the_table_and_says_what_is_in_it(tmp_path: Path) -> None:
    stored(tmp_path, volume(tmp_path, "1.1", "L"))
    app = typer.Typer()
    join(app)
    run = CliRunner().invoke(app, ["export-dbtex", str(tmp_path), "--out", str(tmp_path / "p.csv")])
    assert run.exit_code == 0, run.output
    assert "1 predictions of 1 volumes" in run.output
    assert [row["View"] for row in rows(tmp_path / "p.csv")] == ["lcc"]
    failed = CliRunner().invoke(app, ["export-dbtex", str(tmp_path / "none"), "--out", str(tmp_path / "q.csv")])
    assert failed.exit_code == 2
    assert "give the folder that screening score wrote" in failed.output


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
            line = dict(zip(COLUMNS, prediction(region, one, Identity("p", "s", "lcc"), turned, (0,)), strict=True))
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
