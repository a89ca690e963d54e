"""Each adapter on a small folder in its publisher's own layout, and on what may be wrong with such a folder."""

from __future__ import annotations

import csv
import json
import logging
import plistlib
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from openpyxl import Workbook, load_workbook
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from screening.errors import ConfigError
from screening.exam import ImageKind, Laterality, View
from tests.support.simulated_images import write_simulated_set
from training.datasets import (
    ADAPTERS,
    Record,
    cbis,
    cesm,
    csaw,
    dbt,
    embed,
    find_adapter,
    inbreast,
    mias,
    read_dataset,
    require_training_allowed,
    rsna,
    simulated,
    vindr,
)
from training.datasets.pixels import lesion_mask, read_pixels

LEFT, RIGHT = Laterality.LEFT, Laterality.RIGHT


def write_csv(path: Path, header: str, *rows: Sequence[object], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(header.split("|"))
        writer.writerows(rows)


def write_image(path: Path, rows: int = 60, columns: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((rows, columns), np.uint8)
    image[:, : columns // 2] = 120
    cv2.imwrite(str(path), image)
    return path


def write_dicom(path: Path, pixels: np.ndarray | None = None, description: str = "") -> Path:
    """A small DICOM file: uint8 or uint16 pixels (rows, columns) or (frames, rows, columns)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.zeros((30, 20), np.uint16)
        pixels[:, :9] = 1000
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = pydicom.Dataset()
    header.file_meta = meta
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.SeriesDescription = description
    if pixels.ndim == 3:
        header.NumberOfFrames = len(pixels)
    header.Rows, header.Columns = pixels.shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.BitsAllocated = header.BitsStored = 8 * pixels.itemsize
    header.HighBit = header.BitsStored - 1
    header.PixelData = pixels.tobytes()
    header.save_as(path, enforce_file_format=True)
    return path


def by_image(records: list[Record]) -> dict[str, Record]:
    return {record.image: record for record in records}


# mini-MIAS


def make_mias(root: Path) -> None:
    (root / "Info.txt").write_text(
        "INFORMATION:\n1st column: MIAS database reference number.\n\n"
        "mdb001 G CIRC B 535 425 197\nmdb002 D NORM\nmdb003 F CIRC B 477 133 30\nmdb003 F CIRC M 500 168 26\n"
        "mdb004 D CALC M *NOTE 3*\n"
    )
    for film in range(1, 5):
        write_image(root / f"mdb{film:03}.pgm", 1024, 1024)


def make_mias_shared(root: Path) -> None:
    write_csv(
        root / "lesions.csv",
        "|".join(mias.COLUMNS),
        ["mdb001", 1, "R", "MLO", "G", "CIRC", "B", 535, 599, 197],
        ["mdb002", 1, "L", "MLO", "D", "NORM", "", "", "", ""],
        ["mdb004", 2, "L", "MLO", "D", "CALC", "M", "", "", ""],
    )
    for film in (1, 2, 4):
        write_image(root / "images" / f"mdb{film:03}.png", 1024, 1024)


def test_mias_says_the_same_in_either_layout(tmp_path: Path) -> None:
    for folder, make in (("published", make_mias), ("shared", make_mias_shared)):
        (tmp_path / folder).mkdir()
        make(tmp_path / folder)
    published, shared = (by_image(read_dataset("mias", tmp_path / name)) for name in ("published", "shared"))
    assert set(shared) == {"mdb001", "mdb002", "mdb004"}
    for name, record in shared.items():
        assert replace(record, path=published[name].path) == published[name]


@pytest.mark.parametrize("severity", ["", "X"])
def test_mias_does_not_take_an_abnormality_for_benign_where_nothing_says_so(tmp_path: Path, severity: str) -> None:
    make_mias_shared(tmp_path)
    table = tmp_path / "lesions.csv"
    table.write_text(table.read_text().replace("CIRC,B", f"CIRC,{severity}"))
    with pytest.raises(ConfigError, match="in column severity, where B or M must be"):
        read_dataset("mias", tmp_path)


def test_mias_counts_y_from_the_lower_border(tmp_path: Path) -> None:
    make_mias(tmp_path)
    films = by_image(read_dataset("mias", tmp_path))
    (lesion,) = films["mdb001"].lesions or ()
    assert lesion.centre == (535, 1024 - 425)
    assert (lesion.width, lesion.height, lesion.shape, lesion.malignant) == (394, 394, "ellipse", False)


def test_mias_knows_what_it_does_not_know(tmp_path: Path) -> None:
    make_mias(tmp_path)
    films = by_image(read_dataset("mias", tmp_path))
    assert (films["mdb002"].malignant, films["mdb002"].lesions) == (False, ())
    assert (films["mdb003"].malignant, len(films["mdb003"].lesions or ())) == (True, 2)
    assert (films["mdb004"].malignant, films["mdb004"].lesions) == (True, None)


def test_mias_pairs_films_as_the_publisher_says(tmp_path: Path) -> None:
    make_mias(tmp_path)
    films = by_image(read_dataset("mias", tmp_path))
    assert [films[f"mdb00{n}"].woman for n in range(1, 5)] == ["1", "1", "2", "2"]
    assert (films["mdb001"].laterality, films["mdb002"].laterality) == (RIGHT, LEFT)
    assert films["mdb001"].density_other == "G"


# RSNA


def make_rsna(root: Path) -> None:
    write_csv(
        root / "train.csv",
        "site_id|patient_id|image_id|laterality|view|age|cancer|biopsy|invasive|BIRADS|implant|density|machine_id|"
        "difficult_negative_case",
        [1, 10, 100, "L", "CC", 61.0, 1, 1, 1, "", 0, "C", 48, False],
        [1, 10, 101, "R", "MLO", "", 0, 0, 0, 2.0, 1, "", 7, True],
    )
    write_dicom(root / "train_images" / "10" / "100.dcm")
    write_dicom(root / "train_images" / "10" / "101.dcm")


def make_rsna_shared(root: Path) -> None:
    make_rsna(root)
    (root / "train.csv").rename(root / "labels.csv")
    for image in (100, 101):
        write_image(root / "images" / f"10_{image}.jpg", 640, 640)


def test_rsna_has_truth_per_breast_and_no_places(tmp_path: Path) -> None:
    make_rsna(tmp_path)
    one, other = read_dataset("rsna", tmp_path)
    assert (one.malignant, one.lesions, one.density, one.age, one.manufacturer) == (True, None, "C", 61.0, "Hologic")
    assert (other.malignant, other.lesions, other.density, other.age, other.implant) == (False, None, None, None, True)
    assert one.woman == other.woman
    assert one.breast != other.breast


def test_rsna_squashed_images_span_the_whole_detector(tmp_path: Path) -> None:
    make_rsna(tmp_path)
    native = read_dataset("rsna", tmp_path)[0].pixel_spacing_mm
    make_rsna_shared(tmp_path)
    squashed = read_dataset("rsna", tmp_path)[0].pixel_spacing_mm
    assert (squashed[0] * 640, squashed[1] * 640) == pytest.approx((native[0] * 4096, native[1] * 3328))


def test_dicom_is_read_as_displayed(tmp_path: Path) -> None:
    pytest.importorskip("screening.imaging.decode")
    make_rsna(tmp_path)
    pixels = read_pixels(read_dataset("rsna", tmp_path)[0])
    assert pixels.shape == (30, 20)
    assert pixels.dtype == np.uint16
    assert pixels[:, :9].min() > pixels[:, 9:].max()


# CDD-CESM

SHEET = (
    "Image_name|Patient_ID|Side|Type|Age|Breast density (ACR)|BIRADS|Findings|View|Tags|Machine|"
    "Pathology Classification/ Follow up"
)


def make_cesm(root: Path) -> None:
    rows: list[list[object]] = [
        ["P1_L_DM_MLO", 1, "L", "DM", 44, "C", 5, "mass", "MLO", "", 1, "Malignant"],
        ["P1_L_CM_MLO", 1, "L", "CESM", 44, "C", 5, "mass", "MLO", "", 1, "Malignant"],
        ["P2_R_DM_CC ", 2, "R", "DM", 51, "B", 2, "cyst", "CC", "", 2, "Benign"],
        ["P2_R_DM_CC ", 2, "R", "DM", 51, "B", 4, "mass", "CC", "", 2, "Malignant"],
        ["P3_R_DM_CC", 3, "R", "DM", 60, "_", 1, "", "CC", "", 2, "Normal"],
    ]
    workbook = Workbook()
    sheet = workbook.active
    assert sheet is not None
    sheet.title = "all"
    sheet.append(SHEET.split("|"))
    for row in rows:
        sheet.append(row)
    workbook.save(root / "Radiology-manual-annotations.xlsx")
    polygon = {"name": "polygon", "all_points_x": [10, 30, 30, 10], "all_points_y": [20, 20, 45, 45]}
    ellipse = {"name": "ellipse", "cx": 20, "cy": 30, "rx": 5, "ry": 8}
    write_csv(
        root / "Radiology_hand_drawn_segmentations_v2.csv",
        "#filename|file_size|region_shape_attributes|region_attributes",
        ["P1_L_DM_MLO.jpg", 1, json.dumps(polygon), "{}"],
        ["P2_R_DM_CC .jpg", 1, json.dumps(ellipse), "{}"],
        ["P3_R_DM_CC.jpg", 1, "{}", "{}"],
    )
    for name in ("P1_L_DM_MLO", "P2_R_DM_CC", "P3_R_DM_CC"):
        write_image(root / "Low energy images of CDD-CESM" / f"{name}.jpg", 200, 90)


def test_cesm_reads_low_energy_images_with_their_drawn_shapes(tmp_path: Path) -> None:
    make_cesm(tmp_path)
    images = by_image(read_dataset("cesm", tmp_path))
    assert set(images) == {"P1_L_DM_MLO", "P2_R_DM_CC", "P3_R_DM_CC"}
    (polygon,) = images["P1_L_DM_MLO"].lesions or ()
    assert (polygon.x, polygon.y, polygon.width, polygon.height) == (10, 20, 20, 25)
    assert lesion_mask(polygon, (200, 90)).sum() == pytest.approx(20 * 25, rel=0.1)
    (ellipse,) = images["P2_R_DM_CC"].lesions or ()
    assert (ellipse.centre, ellipse.kind) == ((20, 30), "misplaced")


def test_cesm_does_not_guess_which_of_several_findings_was_malignant(tmp_path: Path) -> None:
    make_cesm(tmp_path)
    images = by_image(read_dataset("cesm", tmp_path))
    assert images["P2_R_DM_CC"].malignant is True
    assert [lesion.malignant for lesion in images["P2_R_DM_CC"].lesions or ()] == [None]
    assert (images["P3_R_DM_CC"].malignant, images["P3_R_DM_CC"].lesions) == (False, ())
    assert (images["P3_R_DM_CC"].density, images["P1_L_DM_MLO"].density) == (None, "C")


def test_cesm_reads_the_sheet_saved_as_csv_alike(tmp_path: Path) -> None:
    make_cesm(tmp_path)
    records = read_dataset("cesm", tmp_path)
    (tmp_path / "Radiology-manual-annotations.xlsx").unlink()
    write_csv(
        tmp_path / "Radiology_manual_annotations.csv",
        SHEET,
        ["P1_L_DM_MLO", 1, "L", "DM", 44, "C", 5, "mass", "MLO", "", 1, "Malignant"],
    )
    assert read_dataset("cesm", tmp_path) == records[:1]


def make_cesm_shared(root: Path) -> None:
    write_csv(
        root / "labels.csv",
        "image|patient|laterality|view|age|density|birads|pathology|tags|ellipse",
        ["P1_L_DM_CC", 1, "L", "CC", 40, "D", 5, "Malignant", "", 0],
        ["P2_L_DM_CC", 2, "L", "CC", 40, "_", 5, "Malignant", "", 1],
    )
    write_csv(
        root / "lesions.csv",
        "image|x|y|width|height|area",
        ["P1_L_DM_CC", 5, 6, 7, 8, 50],
        ["P1_L_DM_CC", 0, 0, 400, 300, 9000],
        ["P2_L_DM_CC", 5, 6, 7, 8, 50],
    )
    for name in ("P1_L_DM_CC", "P2_L_DM_CC"):
        write_image(root / "images" / f"{name}.png", 512, 512)
        write_image(root / "masks" / f"{name}.png", 512, 512)


def test_cesm_padded_images_bring_masks(tmp_path: Path) -> None:
    make_cesm_shared(tmp_path)
    one, other = read_dataset("cesm", tmp_path)
    assert [lesion.kind for lesion in one.lesions or ()] == ["finding", "diffuse"]
    assert [lesion.kind for lesion in other.lesions or ()] == ["misplaced"]
    (tmp_path / "masks" / "P2_L_DM_CC.png").unlink()
    with pytest.raises(ConfigError, match=r"mask .*P2_L_DM_CC\.png is missing"):
        read_dataset("cesm", tmp_path)


@pytest.mark.parametrize("pathology", ["", "Suspicious"])
def test_cesm_does_not_take_an_unknown_pathology_for_benign(tmp_path: Path, pathology: str) -> None:
    make_cesm_shared(tmp_path)
    table = tmp_path / "labels.csv"
    table.write_text(table.read_text().replace("Malignant", pathology))
    with pytest.raises(ConfigError, match=f"the pathology '{pathology}', which is none of malignant"):
        read_dataset("cesm", tmp_path)


# VinDr-Mammo


def make_vindr(root: Path) -> None:
    write_csv(
        root / "breast-level_annotations.csv",
        "study_id|series_id|image_id|laterality|view_position|height|width|breast_birads|breast_density|split",
        ["s1", "e1", "i1", "L", "CC", 3518, 2800, "BI-RADS 5", "DENSITY C", "training"],
        ["s1", "e1", "i2", "R", "MLO", 3518, 2800, "BI-RADS 2", "DENSITY C", "training"],
        ["s2", "e2", "i3", "R", "CC", 3518, 2800, "BI-RADS 4", "DENSITY A", "test"],
    )
    categories = "['Suspicious Calcification', 'Mass']"
    write_csv(
        root / "finding_annotations.csv",
        "study_id|series_id|image_id|laterality|view_position|height|width|breast_birads|breast_density|"
        "finding_categories|finding_birads|xmin|ymin|xmax|ymax|split",
        ["s1", "e1", "i1", "L", "CC", 0, 0, "", "", categories, "BI-RADS 5", 5, 6.5, 15, 20, "training"],
        ["s1", "e1", "i2", "R", "MLO", 0, 0, "", "", "['No Finding']", "", "", "", "", "", "training"],
    )
    write_csv(
        root / "metadata.csv",
        "SOP Instance UID|Series Instance UID|Patient's Age|Manufacturer",
        ["i1", "e1", "045Y", "SIEMENS"],
    )
    for study, image in (("s1", "i1"), ("s1", "i2"), ("s2", "i3")):
        write_dicom(root / "images" / study / f"{image}.dicom")


def test_vindr_takes_bi_rads_for_truth_at_its_ends_only(tmp_path: Path) -> None:
    make_vindr(tmp_path)
    images = by_image(read_dataset("vindr", tmp_path))
    assert [images[name].malignant for name in ("i1", "i2", "i3")] == [True, False, None]
    (lesion,) = images["i1"].lesions or ()
    assert (lesion.x, lesion.y, lesion.width, lesion.height) == (5, 6.5, 10, 13.5)
    assert (lesion.kind, lesion.malignant) == ("suspicious calcification, mass (BI-RADS 5)", True)
    assert images["i2"].lesions == ()
    assert (images["i1"].age, images["i3"].age) == (45.0, None)
    assert (images["i1"].density, images["i3"].split) == ("C", "test")


# CBIS-DDSM

CASES = (
    "patient_id|breast_density|left or right breast|image view|abnormality id|abnormality type|mass shape|mass margins|"
    "assessment|pathology|subtlety|image file path|cropped image file path|ROI mask file path"
)


def cbis_row(woman: str, side: str, view: str, pathology: str, n: int, kind: str = "mass") -> list[object]:
    subject = f"{kind.title()}-Training_{woman}_{side}_{view}"
    paths = [f"{subject}/1.1/1.2.{view}/000000.dcm", f"{subject}_{n}/1.1/1.3/000001.dcm\n"]
    return [woman, 3, side, view, n, kind, "OVAL", "", 4, pathology, 4, paths[0], paths[1], paths[1]]


def make_cbis(root: Path) -> None:
    write_csv(
        root / "mass_case_description_train_set.csv",
        CASES,
        cbis_row("P_00001", "LEFT", "CC", "MALIGNANT", 1),
        cbis_row("P_00001", "LEFT", "CC", "BENIGN", 2),
        cbis_row("P_00001", "LEFT", "MLO", "BENIGN_WITHOUT_CALLBACK", 1),
        cbis_row("P_00002", "RIGHT", "MLO", "BENIGN", 1),
    )
    write_csv(root / "mass_case_description_test_set.csv", CASES)
    for split in ("train", "test"):
        write_csv(root / f"calc_case_description_{split}_set.csv", CASES.replace("breast_density", "breast density"))
    write_csv(root / "metadata.csv", "Series UID|File Location")
    tree = root / "CBIS-DDSM"
    mask = np.zeros((30, 20), np.uint8)
    mask[4:10, 3:8] = 255
    for view, count in (("LEFT_CC", 2), ("LEFT_MLO", 1)):
        write_dicom(tree / f"Mass-Training_P_00001_{view}" / "1.1" / f"1.2.{view.split('_')[1]}" / "1-1.dcm")
        for n in range(1, count + 1):
            folder = tree / f"Mass-Training_P_00001_{view}_{n}" / "1.1" / "1.3"
            write_dicom(folder / "1-1.dcm", mask, "ROI mask images")
            write_dicom(folder / "1-2.dcm", np.full((40, 40), 9, np.uint8), "cropped images")
    write_dicom(tree / "Mass-Training_P_00002_RIGHT_MLO" / "1.1" / "1.2.MLO" / "1-1.dcm")
    folder = tree / "Mass-Training_P_00002_RIGHT_MLO_1" / "1.1" / "1.3"
    write_dicom(folder / "1-1.dcm", np.full((6, 5), 9, np.uint8))
    write_dicom(folder / "1-2.dcm", mask)


def test_cbis_finds_the_mask_among_the_files_of_its_series(tmp_path: Path) -> None:
    make_cbis(tmp_path)
    for record in read_dataset("cbis-ddsm", tmp_path):
        for lesion in record.lesions or ():
            assert (lesion.x, lesion.y, lesion.width, lesion.height) == (3, 4, 5, 6)


def test_cbis_gathers_the_lesions_of_an_image_and_the_truth_of_a_breast(tmp_path: Path) -> None:
    make_cbis(tmp_path)
    images = by_image(read_dataset("cbis-ddsm", tmp_path))
    cc = images["Mass-Training_P_00001_LEFT_CC"]
    assert [lesion.malignant for lesion in cc.lesions or ()] == [True, False]
    assert images["Mass-Training_P_00001_LEFT_MLO"].malignant is True
    assert images["Mass-Training_P_00002_RIGHT_MLO"].malignant is False
    assert (cc.woman, cc.density, cc.medium, cc.split) == ("P_00001", "C", "film", "train")


def test_cbis_follows_the_table_of_a_download_with_descriptive_folders(tmp_path: Path) -> None:
    make_cbis(tmp_path)
    classic = tmp_path / "CBIS-DDSM" / "Mass-Training_P_00002_RIGHT_MLO" / "1.1" / "1.2.MLO"
    moved = tmp_path / "CBIS-DDSM" / "07-20-2016-DDSM-NA-1" / "1.000000-full mammogram images-2"
    moved.parent.mkdir()
    classic.rename(moved)
    with pytest.raises(ConfigError, match="Mass-Training_P_00002_RIGHT_MLO"):
        read_dataset("cbis-ddsm", tmp_path)
    where = ".\\" + str(moved.relative_to(tmp_path)).replace("/", "\\")
    write_csv(tmp_path / "metadata.csv", "Series UID|File Location", ["1.2.MLO", where])
    images = by_image(read_dataset("cbis-ddsm", tmp_path))
    assert images["Mass-Training_P_00002_RIGHT_MLO"].path.parent.name == moved.name


# INbreast


def make_inbreast(root: Path) -> None:
    folder = root / "INbreast Release 1.0"
    write_csv(
        folder / "INbreast.csv",
        "Patient ID|Patient age|Laterality|View|Acquisition date|File Name|ACR|Bi-Rads",
        ["removed", "removed", "R", "CC", "201001", "100", "2", "1"],
        ["removed", "removed", "L", "MLO", "201001", "101", "     ", "4a"],
        ["removed", "removed", "L", "CC", "201001", "102", "3", "3"],
        delimiter=";",
    )
    for name, woman, rest in (("100", "aa01", "R_CC"), ("101", "aa01", "L_ML"), ("102", "bb02", "L_CC")):
        write_dicom(folder / "AllDICOMs" / f"{name}_{woman}_MG_{rest}_ANON.dcm")
    regions = [
        {"Name": "Mass", "NumberOfPoints": 3, "Point_px": ["(2.0, 3.0)", "(12.5, 3.0)", "(7, 13.0)"]},
        {"Name": "Calcification", "NumberOfPoints": 1, "Point_px": ["(15.0, 20.0)"]},
        {"Name": "Unnamed", "NumberOfPoints": 0, "Point_px": []},
    ]
    (folder / "AllXML").mkdir()
    content = plistlib.dumps({"Images": [{"ImageIndex": 0, "NumberOfROIs": 3, "ROIs": regions}]})
    (folder / "AllXML" / "101.xml").write_bytes(content)
    (folder / "AllXML" / "102.xml").write_bytes(plistlib.dumps({"Images": []}))


def test_inbreast_contours_and_women_are_read(tmp_path: Path) -> None:
    make_inbreast(tmp_path)
    images = by_image(read_dataset("inbreast", tmp_path))
    assert [images[name].woman for name in ("100", "101", "102")] == ["aa01", "aa01", "bb02"]
    assert [images[name].malignant for name in ("100", "101", "102")] == [False, True, None]
    assert (images["100"].lesions, images["100"].density, images["101"].density) == ((), "B", None)
    mass, speck = images["101"].lesions or ()
    assert (mass.x, mass.y, mass.width, mass.height, mass.shape) == (2, 3, 10.5, 10, "polygon")
    assert (mass.malignant, speck.malignant, speck.centre) == (True, None, (15, 20))


def test_inbreast_needs_the_date_that_keeps_a_woman_s_exams_apart(tmp_path: Path) -> None:
    make_inbreast(tmp_path)
    rename(tmp_path / "INbreast Release 1.0" / "INbreast.csv", "Acquisition date", "?")
    with pytest.raises(ConfigError, match="lacks the column Acquisition date"):
        read_dataset("inbreast", tmp_path)


def test_inbreast_is_refused_for_training() -> None:
    with pytest.raises(ConfigError, match="inbreast is for external evaluation only"):
        require_training_allowed("inbreast")
    for name in set(ADAPTERS) - {"inbreast"}:
        require_training_allowed(name)


def test_damaged_contours_are_named(tmp_path: Path) -> None:
    make_inbreast(tmp_path)
    (tmp_path / "INbreast Release 1.0" / "AllXML" / "101.xml").write_text("<plist>not really")
    with pytest.raises(ConfigError, match=r"101\.xml"):
        read_dataset("inbreast", tmp_path)


# BCS-DBT


def make_dbt(root: Path) -> None:
    def volume(side: str) -> np.ndarray:
        pixels = np.zeros((5, 50, 40), np.uint16)
        pixels[:, 10:40, slice(0, 15) if side == "L" else slice(25, 40)] = 900
        pixels[2, 12:18, slice(4, 8) if side == "L" else slice(32, 36)] = 1000
        return pixels

    rows = []
    for view, stored in (("lcc", "L"), ("rmlo2", "L"), ("rcc", "R"), ("lmlo", "L")):
        path = f"Breast-Cancer-Screening-DBT/DBT-P1/1.2/{view}/1-1.dcm"
        write_dicom(root / path, volume(stored))
        rows.append(["DBT-P1", "DBT-S1", view, "Breast-Cancer-Screening-DBT/DBT-P1/x/1-1.dcm", path])
    write_csv(root / "BCS-DBT-file-paths-train-v2.csv", "PatientID|StudyUID|View|descriptive_path|classic_path", *rows)
    write_csv(
        root / "BCS-DBT-labels-train-v2.csv",
        "PatientID|StudyUID|View|Normal|Actionable|Benign|Cancer",
        ["DBT-P1", "DBT-S1", "lcc", 0, 0, 0, 1],
        ["DBT-P1", "DBT-S1", "lmlo", 1, 0, 0, 0],
        ["DBT-P1", "DBT-S1", "rcc", 0, 1, 0, 0],
        ["DBT-P1", "DBT-S1", "rmlo2", 0, 0, 1, 0],
    )
    # The right breast's box is where it is in a volume with the chest wall at the right: this one is stored turned.
    write_csv(
        root / "BCS-DBT-boxes-train-v2.csv",
        "PatientID|StudyUID|View|Subject|Slice|X|Y|Width|Height|Class|AD|VolumeSlices",
        ["DBT-P1", "DBT-S1", "lcc", 0, 2, 4, 12, 4, 6, "cancer", 0, 5],
        ["DBT-P1", "DBT-S1", "rmlo2", 0, 2, 32, 32, 4, 6, "benign", 0, 5],
    )


def test_dbt_boxes_are_in_the_pixels_as_stored(tmp_path: Path) -> None:
    make_dbt(tmp_path)
    boxed = [record for record in read_dataset("bcs-dbt", tmp_path) if record.lesions]
    assert len(boxed) == 2
    for record in boxed:
        (lesion,) = record.lesions or ()
        volume = pydicom.dcmread(record.path).pixel_array
        inside = volume[lesion.frame][lesion_mask(lesion, volume.shape[1:])]
        assert (inside == 1000).all()
        assert (volume == 1000).sum() == inside.size


def test_dbt_truth_is_the_breast_s(tmp_path: Path) -> None:
    make_dbt(tmp_path)
    views = {(r.laterality, r.view): r for r in read_dataset("bcs-dbt", tmp_path)}
    assert views[LEFT, View.CC].malignant is True
    # Cancer was found in this breast, in another view: here it is somewhere unknown.
    assert (views[LEFT, View.MLO].malignant, views[LEFT, View.MLO].lesions) == (True, None)
    assert (views[RIGHT, View.CC].malignant, views[RIGHT, View.CC].lesions) == (False, None)
    assert views[RIGHT, View.MLO].malignant is False
    assert {r.kind for r in views.values()} == {ImageKind.DBT}


# EMBED


def make_embed(root: Path) -> None:
    clinical = "empi_anon|acc_anon|study_date_anon|desc|side|bside|asses|path_severity|tissueden|age_at_study"
    write_csv(
        root / "tables" / "EMBED_OpenData_clinical.csv",
        clinical,
        ["w1", "e1", "2015-01-10 00:00:00", "screen", "L", "", "A", "", 3.0, 55.2],
        ["w1", "e1", "2015-01-10 00:00:00", "screen", "R", "", "N", "", 3.0, 55.2],
        ["w1", "e2", "2015-02-01", "diagnostic", "L", "L", "S", 0.0, 3.0, 55.3],
        ["w2", "e3", "2015-01-10", "screen", "", "", "N", "", 1.0, 60],
        ["w2", "e4", "2018-01-10", "diagnostic", "R", "R", "M", 1.0, 1.0, 63],
        ["w3", "e5", "2015-01-10", "diagnostic", "L", "L", "S", 4.0, 2.0, 50],
    )

    def row(woman: str, exam: str, side: str, kind: str = "2D", spot: str = "", roi: str = "[]") -> list[object]:
        name = f"{woman}{exam}{side}{kind}{spot}"
        path = f"/mnt/NAS2/mammo/anon_dicom/cohort_1/{woman}/{exam}/{name}.dcm"
        write_dicom(root / "images" / "cohort_1" / woman / exam / f"{name}.dcm")
        return [woman, exam, "2015-01-10", path, kind, side, "CC", spot, roi, "HOLOGIC, Inc.", "[0.065, 0.066]"]

    write_csv(
        root / "tables" / "EMBED_OpenData_metadata.csv",
        "empi_anon|acc_anon|study_date_anon|anon_dicom_path|FinalImageType|ImageLateralityFinal|ViewPosition|spot_mag|"
        "ROI_coords|Manufacturer|ImagerPixelSpacing",
        row("w1", "e1", "L", roi="[[10, 20, 40, 60]]"),
        row("w1", "e1", "R", "cview"),
        row("w1", "e1", "L", spot="1"),
        row("w1", "e1", "L", "ROI_SSC"),
        row("w2", "e3", "L"),
        row("w2", "e3", "R"),
        row("w3", "e5", "L", roi="[[1, 2, 3, 4]]"),
    )


def test_embed_looks_for_cancer_in_the_exams_that_follow(tmp_path: Path) -> None:
    make_embed(tmp_path)
    truth = {(r.woman, r.laterality): r.malignant for r in read_dataset("embed", tmp_path)}
    assert truth == {
        ("w1", LEFT): True,
        ("w1", RIGHT): False,
        ("w2", LEFT): False,
        # Cancer three years later: it may have been there to see, or not.
        ("w2", RIGHT): None,
        ("w3", LEFT): False,
    }


def test_embed_reads_whole_breast_images_and_their_regions(tmp_path: Path) -> None:
    make_embed(tmp_path)
    records = {(r.woman, r.laterality): r for r in read_dataset("embed", tmp_path)}
    (region,) = records["w1", LEFT].lesions or ()
    assert (region.x, region.y, region.width, region.height, region.malignant) == (20, 10, 40, 30, None)
    assert [lesion.malignant for lesion in records["w3", LEFT].lesions or ()] == [False]
    assert records["w1", RIGHT].kind is ImageKind.SYNTHETIC
    assert records["w1", LEFT].pixel_spacing_mm == (0.065, 0.066)
    assert (records["w1", LEFT].density, records["w2", LEFT].density, records["w1", LEFT].age) == ("C", "A", 55.2)


# CSAW-CC


def make_csaw(root: Path) -> None:
    def row(woman: str, year: int, side: str, case: int, cancer: str, timing: str) -> list[object]:
        name = f"{woman}_{year}_{side[0]}_CC_1.dcm"
        write_dicom(root / "images" / name)
        return [woman, name, year, 1, case, cancer, timing, side, "CC", 23.5]

    write_csv(
        root / "CSAW-CC_breast_cancer_screening_data.csv",
        "anon_patientid|anon_filename|exam_year|x_age|x_case|x_cancer_laterality|rad_timing|imagelaterality|"
        "viewposition|libra_percentdensity",
        row("a", 2012, "Left", 1, "Left", "3.0"),
        row("a", 2014, "Left", 1, "Left", "1.0"),
        row("a", 2014, "Right", 1, "Left", "1.0"),
        row("b", 2014, "Right", 1, "Right", "2.0"),
        row("c", 2014, "Right", 0, "", ""),
    )
    mask = np.zeros((30, 20), np.uint8)
    mask[5:9, 2:8] = 255
    (root / "annotations").mkdir()
    cv2.imwrite(str(root / "annotations" / "a_2014_L_CC_1_mask.png"), mask)


def test_csaw_truth_follows_side_and_time_of_the_diagnosis(tmp_path: Path) -> None:
    make_csaw(tmp_path)
    records = by_image(read_dataset("csaw-cc", tmp_path))
    truth = {name: record.malignant for name, record in records.items()}
    assert truth == {
        "a_2012_L_CC_1": None,
        "a_2014_L_CC_1": True,
        "a_2014_R_CC_1": False,
        "b_2014_R_CC_1": True,
        "c_2014_R_CC_1": False,
    }
    (lesion,) = records["a_2014_L_CC_1"].lesions or ()
    assert (lesion.x, lesion.y, lesion.width, lesion.height, lesion.malignant) == (2, 5, 6, 4, True)
    assert (records["b_2014_R_CC_1"].lesions, records["c_2014_R_CC_1"].lesions) == (None, ())
    assert records["a_2012_L_CC_1"].exam != records["a_2014_L_CC_1"].exam


# OPTIMAM


def make_optimam(root: Path, capitals: bool = False) -> None:
    def name(text: str) -> str:
        return text.upper() if capitals else text

    client = root / name("data") / "optm1"
    client.mkdir(parents=True)
    nbss = {
        "ClientID": "optm1",
        "E1": {"EpisodeType": "R", "SCREENING": {"L": {"Opinion": "RN"}}},
        "E2": {
            "EpisodeType": "R",
            "SURGERY": {"left_opinion": "OM", "L": {"1": {"Opinion": "H5"}}, "R": {}},
            "BIOPSYWIDE": {"left_opinion": "OM", "right_opinion": "OB", "L": {"1": {"Opinion": "B5"}}},
        },
        "E3": {"EpisodeType": "CI"},
    }
    box = {"X1": "5", "Y1": "6", "X2": "15", "Y2": "26", "MarkID": 1, "Mass": 1, "LinkedNBSSLesionNumber": "01"}
    studies = {
        "1.1": {"EpisodeID": "E1", "StudyDate": "2011-01-01", "1.1.1": {"1.1.1.1": {}, "1.1.1.2": {}}},
        "1.2": {"EpisodeID": "E2", "StudyDate": "2014-01-01", "1.2.1": {"1.2.1.1": {"10": box}, "1.2.1.2": {}}},
        "1.3": {"EpisodeID": "E3", "1.3.1": {"1.3.1.2": {}, "1.3.1.9": {}}},
    }
    (client / f"{name('nbss')}_optm1.json").write_text(json.dumps(nbss))
    (client / f"{name('imagedb')}_optm1.json").write_text(json.dumps({"Site": "adde", "STUDIES": studies}))
    for image in ("1.1.1.1", "1.1.1.2", "1.2.1.1", "1.2.1.2", "1.3.1.2", "1.3.1.9"):
        study = image[:3]
        header = {
            "00080068": {"vr": "CS", "Value": ["FOR PROCESSING" if image.endswith("9") else "FOR PRESENTATION"]},
            "00200062": {"vr": "CS", "Value": ["L" if image.endswith("1") else "R"]},
            "00185101": {"vr": "CS", "Value": ["MLO"]},
            "00080070": {"vr": "LO", "Value": ["HOLOGIC"]},
            "00101010": {"vr": "AS", "Value": ["061Y"]},
            "00181164": {"vr": "DS", "Value": [0.065, 0.065]},
        }
        (client / study).mkdir(exist_ok=True)
        (client / study / f"{image}{'.dcm' if capitals else ''}.json").write_text(json.dumps(header))
        write_dicom(root / name("images") / "optm1" / study / f"{image}.dcm")


@pytest.mark.parametrize("capitals", [False, True])
def test_optimam_truth_is_the_episode_s_biopsy_of_that_breast(tmp_path: Path, capitals: bool) -> None:
    make_optimam(tmp_path, capitals)
    records = by_image(read_dataset("optimam", tmp_path))
    assert {name: record.malignant for name, record in records.items()} == {
        # Three years before the cancer of that side: unknown. The other side: not malignant.
        "1.1.1.1": None,
        "1.1.1.2": False,
        "1.2.1.1": True,
        "1.2.1.2": False,
        # An interval case without a biopsy result; its raw image is left out.
        "1.3.1.2": None,
    }
    assert {r.woman for r in records.values()} == {"optm1"}


def test_optimam_marks_carry_the_histology_of_their_lesion(tmp_path: Path) -> None:
    make_optimam(tmp_path)
    records = by_image(read_dataset("optimam", tmp_path))
    (mark,) = records["1.2.1.1"].lesions or ()
    assert (mark.x, mark.y, mark.width, mark.height) == (5, 6, 10, 20)
    assert (mark.kind, mark.malignant) == ("mass", True)
    assert (records["1.2.1.2"].lesions, records["1.3.1.2"].lesions) == ((), None)
    assert (records["1.2.1.1"].age, records["1.2.1.1"].pixel_spacing_mm) == (61.0, (0.065, 0.065))


@pytest.mark.parametrize("key", ["STUDIES", "X1", "Y1", "X2", "Y2"])
def test_optimam_names_the_key_that_its_database_lacks(tmp_path: Path, key: str) -> None:
    make_optimam(tmp_path)
    database = tmp_path / "data" / "optm1" / "imagedb_optm1.json"
    database.write_text(database.read_text().replace(f'"{key}"', '"?"'))
    with pytest.raises(ConfigError, match=rf"no STUDIES|\('{key}'\)"):
        read_dataset("optimam", tmp_path)


@pytest.mark.parametrize("tag", ["00080068", "00200062", "00185101"])
def test_optimam_names_an_image_that_it_leaves_out_for_want_of_a_tag(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tag: str
) -> None:
    make_optimam(tmp_path)
    header = tmp_path / "data" / "optm1" / "1.2" / "1.2.1.1.json"
    header.write_text(header.read_text().replace(tag, "00000000"))
    with caplog.at_level(logging.WARNING):
        records = by_image(read_dataset("optimam", tmp_path))
    assert set(records) == {"1.1.1.1", "1.1.1.2", "1.2.1.2", "1.3.1.2"}
    assert [record.getMessage() for record in caplog.records] == [
        f"left out: the header of the OPTIMAM image 1.2.1.1 lacks {tag}"
    ]


@pytest.mark.parametrize("becomes", ['"?": "E2"', '"EpisodeID": "E9"'])
def test_optimam_names_a_study_whose_truth_is_unknown_for_want_of_an_episode(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, becomes: str
) -> None:
    make_optimam(tmp_path)
    database = tmp_path / "data" / "optm1" / "imagedb_optm1.json"
    database.write_text(database.read_text().replace('"EpisodeID": "E2"', becomes))
    with caplog.at_level(logging.WARNING):
        records = by_image(read_dataset("optimam", tmp_path))
    assert records["1.2.1.1"].malignant is records["1.2.1.2"].malignant is None
    assert [record.getMessage() for record in caplog.records] == [
        "truth unknown: the OPTIMAM study 1.2 has no EpisodeID of the screening records"
    ]


# All of them

MAKERS: dict[str, Callable[[Path], None]] = {
    "mias": make_mias,
    "mias shared": make_mias_shared,
    "rsna": make_rsna,
    "rsna shared": make_rsna_shared,
    "cesm": make_cesm,
    "cesm shared": make_cesm_shared,
    "vindr": make_vindr,
    "cbis-ddsm": make_cbis,
    "inbreast": make_inbreast,
    "bcs-dbt": make_dbt,
    "embed": make_embed,
    "csaw-cc": make_csaw,
    "optimam": make_optimam,
    "simulated": write_simulated_set,
}
"""By adapter, and those in the layout of the shared data folder."""
COLUMNS: dict[str, dict[str, Sequence[str]]] = {
    "mias": {},  # Info.txt has no header
    "mias shared": {"lesions.csv": mias.COLUMNS},
    "rsna": {"train.csv": rsna.COLUMNS},
    "rsna shared": {"labels.csv": rsna.COLUMNS},
    "cesm": {"Radiology-manual-annotations.xlsx": cesm.SHEET_COLUMNS, cesm.SHAPES: cesm.SHAPE_COLUMNS},
    "cesm shared": {"labels.csv": cesm.LABEL_COLUMNS, "lesions.csv": cesm.LESION_COLUMNS},
    "vindr": {
        "breast-level_annotations.csv": vindr.BREAST_COLUMNS,
        "finding_annotations.csv": vindr.FINDING_COLUMNS,
        "metadata.csv": vindr.METADATA_COLUMNS,
    },
    "cbis-ddsm": {
        "metadata.csv": cbis.METADATA_COLUMNS,
        "mass_case_description_train_set.csv": (*cbis.COLUMNS, "breast_density"),
        "mass_case_description_test_set.csv": (*cbis.COLUMNS, "breast_density"),
        "calc_case_description_train_set.csv": (*cbis.COLUMNS, "breast density"),
        "calc_case_description_test_set.csv": (*cbis.COLUMNS, "breast density"),
    },
    "inbreast": {"INbreast Release 1.0/INbreast.csv": inbreast.COLUMNS},
    "bcs-dbt": {
        "BCS-DBT-file-paths-train-v2.csv": dbt.PATH_COLUMNS,
        "BCS-DBT-labels-train-v2.csv": dbt.LABEL_COLUMNS,
        "BCS-DBT-boxes-train-v2.csv": dbt.BOX_COLUMNS,
    },
    "embed": {
        "tables/EMBED_OpenData_metadata.csv": embed.METADATA_COLUMNS,
        "tables/EMBED_OpenData_clinical.csv": embed.CLINICAL_COLUMNS,
    },
    "csaw-cc": {"CSAW-CC_breast_cancer_screening_data.csv": csaw.COLUMNS},
    "optimam": {},  # JSON, tried above
    "simulated": {"images.csv": simulated.IMAGE_COLUMNS, "lesions.csv": simulated.LESION_COLUMNS},
}
"""The tables with a header that a layout has, and the columns that each must have."""
TABLE_SUFFIXES = {".csv", ".txt", ".xlsx", ".json"}
OPTIONAL_TABLES = {"metadata.csv"}


def read(layout: str, root: Path) -> list[Record]:
    return read_dataset(layout.split()[0], root)


def columns(table: Path) -> list[str]:
    """The names in the header of a CSV table or of a workbook."""
    if table.suffix == ".xlsx":
        return [str(cell.value) for cell in load_workbook(table)["all"][1]]
    return re.split("[,;]", table.read_text().splitlines()[0])


def rename(table: Path, column: str, name: str) -> None:
    """Give a column of a CSV table or of a workbook another name."""
    number = columns(table).index(column)
    if table.suffix == ".xlsx":
        book = load_workbook(table)
        book["all"].cell(1, number + 1).value = name
        book.save(table)
        return
    header, rest = table.read_text().split("\n", 1)
    words = re.split("([,;])", header)
    words[2 * number] = name
    table.write_text("".join(words) + "\n" + rest)


def test_every_adapter_is_tried_here() -> None:
    assert {layout.split()[0] for layout in MAKERS} == set(ADAPTERS)
    assert set(COLUMNS) == set(MAKERS)


@pytest.mark.parametrize("layout", MAKERS)
def test_records_are_complete_and_keep_to_the_vocabulary(tmp_path: Path, layout: str) -> None:
    MAKERS[layout](tmp_path)
    records = read(layout, tmp_path)
    assert len({(r.image, r.path) for r in records}) == len(records) > 0
    for record in records:
        assert record.dataset == layout.split()[0]
        assert record.woman
        assert record.exam
        assert record.density in (None, "A", "B", "C", "D")
        assert all(0.03 < spacing < 0.5 for spacing in record.pixel_spacing_mm)
        if record.malignant is False:
            assert not any(lesion.malignant for lesion in record.lesions or ())


@pytest.mark.parametrize("layout", MAKERS)
def test_reading_twice_gives_the_same_records(tmp_path: Path, layout: str) -> None:
    MAKERS[layout](tmp_path)
    assert read(layout, tmp_path) == read(layout, tmp_path)


@pytest.mark.parametrize("layout", MAKERS)
def test_a_missing_image_is_named(tmp_path: Path, layout: str) -> None:
    MAKERS[layout](tmp_path)
    record = read(layout, tmp_path)[-1]
    record.path.unlink()
    with pytest.raises(ConfigError) as caught:
        read(layout, tmp_path)
    assert record.image.split("_")[0] in str(caught.value)


@pytest.mark.parametrize("layout", MAKERS)
def test_a_missing_table_is_a_config_error_that_names_it(tmp_path: Path, layout: str) -> None:
    MAKERS[layout](tmp_path)
    tables = [p for p in tmp_path.rglob("*") if p.suffix in TABLE_SUFFIXES and p.name not in OPTIONAL_TABLES]
    assert tables
    for table in tables:
        content = table.read_bytes()
        table.unlink()
        with pytest.raises(ConfigError) as caught:
            read(layout, tmp_path)
        assert table.stem.split("-")[0].lower() in str(caught.value).lower()
        table.write_bytes(content)


@pytest.mark.parametrize(("layout", "table"), [(layout, table) for layout in COLUMNS for table in COLUMNS[layout]])
def test_each_column_that_is_needed_is_named_and_no_other_is_needed(tmp_path: Path, layout: str, table: str) -> None:
    MAKERS[layout](tmp_path)
    found = {path for path in tmp_path.rglob("*") if path.suffix in (".csv", ".xlsx")}
    assert found == {tmp_path / name for name in COLUMNS[layout]}
    file, needed = tmp_path / table, COLUMNS[layout][table]
    assert set(needed) <= set(columns(file))
    whole = file.read_bytes()
    for column in columns(file):
        rename(file, column, "?")
        if column in needed:
            with pytest.raises(ConfigError, match=rf"{re.escape(file.name)} lacks the column {re.escape(column)};"):
                read(layout, tmp_path)
        else:
            assert read(layout, tmp_path)
        file.write_bytes(whole)


@pytest.mark.parametrize("blank", [True, False])
@pytest.mark.parametrize(
    ("layout", "table", "truth"),
    [
        ("mias shared", "lesions.csv", mias.COLUMNS[3:]),
        ("rsna", "train.csv", ("cancer", "density", "age", "implant")),
        ("rsna shared", "labels.csv", ("cancer", "density", "age", "implant")),
        ("cesm shared", "labels.csv", ("pathology", "ellipse", "density", "age")),
    ],
)
def test_a_set_that_came_without_truth_can_be_scored_but_not_learned_from(
    tmp_path: Path, layout: str, table: str, truth: Sequence[str], blank: bool
) -> None:
    MAKERS[layout](tmp_path)
    known = read(layout, tmp_path)
    with (tmp_path / table).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept = [{name: "" if name in truth else row[name] for name in row if blank or name not in truth} for row in rows]
    write_csv(tmp_path / table, "|".join(kept[0]), *(list(row.values()) for row in kept))
    if layout == "cesm shared":
        (tmp_path / "lesions.csv").unlink()
        shutil.rmtree(tmp_path / "masks")
    with pytest.raises(ConfigError):
        read(layout, tmp_path)

    def scored(record: Record) -> tuple[object, ...]:
        return record.image, record.woman, record.exam, record.laterality, record.view, record.pixel_spacing_mm

    blind = read_dataset(layout.split()[0], tmp_path, truth=False)
    assert [scored(record) for record in blind] == [scored(record) for record in known]
    assert {(record.malignant, record.lesions) for record in blind} == {(None, None)}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_missing_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"of the dataset {name} does not exist"):
        read_dataset(name, tmp_path / "nowhere")
    with pytest.raises(ConfigError):
        read_dataset(name, tmp_path)


def test_an_unknown_dataset_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no dataset called 'ddsm'; known are bcs-dbt, cbis-ddsm"):
        find_adapter("ddsm")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("laterality", "X", "'X' for the side"),
        ("view", "AXIAL", "the view 'AXIAL'"),
        ("age", "old", "'old' in column age"),
        ("cancer", "maybe", "'maybe' in column cancer"),
    ],
)
def test_a_cell_that_makes_no_sense_is_named(tmp_path: Path, column: str, value: str, message: str) -> None:
    make_rsna(tmp_path)
    with (tmp_path / "train.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0][column] = value
    write_csv(tmp_path / "train.csv", "|".join(rows[0]), *(list(row.values()) for row in rows))
    with pytest.raises(ConfigError, match=message):
        read_dataset("rsna", tmp_path)


def test_a_table_that_is_no_text_is_named(tmp_path: Path) -> None:
    make_rsna(tmp_path)
    (tmp_path / "train.csv").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ConfigError, match=r"train\.csv is no CSV text"):
        read_dataset("rsna", tmp_path)
