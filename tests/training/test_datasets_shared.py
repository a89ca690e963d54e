"""The adapters on real data: images and labels in the shared folder, and the publishers' own tables in `mammoclip`."""

from __future__ import annotations

import csv
import importlib.metadata
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from screening.exam import Laterality, View
from screening.imaging.mask import looks_inverted
from tests.support.peers import needs_package
from training.datasets import Record, read_dataset
from training.datasets.pixels import lesion_mask, read_pixels
from training.datasets.rsna import read_rsna
from training.datasets.vindr import read_vindr
from training.splits import folds

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data folder is not there")

BLANK = "1942326353"
"""The one image of the RSNA set without a picture: its values are 0 to 2."""


def real_table(name: str) -> Path:
    """A publisher's table inside the package `mammoclip`."""
    files = importlib.metadata.files("mammoclip") or []
    return next(Path(str(file.locate())) for file in files if file.name == name)


@needs_data
def test_mias_has_its_women_films_and_lesions() -> None:
    records = read_dataset("mias", DATA / "mias")
    assert (len(records), len({r.woman for r in records})) == (210, 105)
    assert sum(r.malignant is True for r in records) == 38
    assert Counter(lesion.malignant for r in records for lesion in r.lesions or ()) == {True: 38, False: 35}
    assert sorted(r.image for r in records if r.lesions is None) == ["mdb059", "mdb216", "mdb245"]
    assert {r.image for r in records if r.malignant and not r.lesions} == {"mdb216", "mdb245"}
    assert {(r.medium, r.view, r.pixel_spacing_mm) for r in records} == {("film", View.MLO, (0.2, 0.2))}


@needs_data
def test_mias_lesions_lie_on_the_breast_and_not_in_the_air() -> None:
    """A mistaken axis or origin would put circles into the air."""
    brighter = []
    for record in read_dataset("mias", DATA / "mias"):
        if record.lesions:
            pixels = read_pixels(record)
            air = np.percentile(pixels, 10)
            brighter += [pixels[lesion_mask(lesion, pixels.shape)].mean() > air + 30 for lesion in record.lesions]
    assert np.mean(brighter) > 0.97


@needs_data
def test_rsna_has_its_breasts_and_cancers() -> None:
    records = read_dataset("rsna", DATA / "rsna")
    assert len(records) == 2490
    assert len({r.breast for r in records}) == 1082
    assert len({r.breast for r in records if r.malignant}) == 365
    assert all(r.lesions is None for r in records)
    assert Counter(r.density for r in records) == {"A": 157, "B": 658, "C": 489, "D": 46, None: 1140}


@needs_data
def test_rsna_negatives_are_told_by_the_pixels_alone() -> None:
    """Looked through by eye: every image of machine 29 and all but a blank one of machine 210 are negatives."""
    for record in read_dataset("rsna", DATA / "rsna")[::5]:
        if record.image != BLANK:
            image = np.asarray(cv2.imread(str(record.path), cv2.IMREAD_GRAYSCALE), np.uint8)
            assert looks_inverted(image) == (record.machine in ("29", "210")), record.image


@needs_data
def test_rsna_breasts_have_a_plausible_size_on_every_machine() -> None:
    """With the spacing estimated for its machine, the median breast in CC is 17 to 25 cm wide."""
    widths: dict[str, list[float]] = {}
    for record in read_dataset("rsna", DATA / "rsna")[::4]:
        if record.view is View.CC and record.image != BLANK:
            pixels = read_pixels(record)
            tissue = (pixels > pixels.min() + 0.1 * np.ptp(pixels)).mean(axis=1) > 0.03
            widths.setdefault(record.machine, []).append(float(tissue.sum()) * record.pixel_spacing_mm[0])
    assert {machine for machine, found in widths.items() if not 170 < np.median(found) < 250} == set()


@needs_data
def test_cesm_boxes_bound_the_parts_of_the_mask() -> None:
    records = read_dataset("cesm", DATA / "cesm")
    assert (len(records), len({r.woman for r in records})) == (326, 178)
    assert all(r.malignant and r.lesions for r in records)
    for record in records[::10]:
        for lesion in record.lesions or ():
            mask = lesion_mask(lesion, (512, 512))
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            assert (int(columns[0]), int(rows[0])) == (lesion.x, lesion.y)
            assert (columns[-1] + 1, rows[-1] + 1) == (lesion.x + lesion.width, lesion.y + lesion.height)


@needs_data
def test_cesm_flags_the_outlines_that_are_not_to_be_trusted() -> None:
    kinds = Counter(lesion.kind for r in read_dataset("cesm", DATA / "cesm") for lesion in r.lesions or ())
    assert set(kinds) == {"finding", "misplaced", "diffuse"}
    assert kinds["finding"] > 0.6 * kinds.total()


@needs_data
def test_folds_of_the_shared_sets_are_balanced() -> None:
    records = [r for name in ("mias", "rsna", "cesm") for r in read_dataset(name, DATA / name)]
    made = folds(records, 5, 0)
    for name, malignant in (("mias", 38), ("rsna", 365), ("cesm", 182)):
        per_fold = [len({r.breast for r in fold.test if r.dataset == name and r.malignant}) for fold in made]
        assert sum(per_fold) == malignant
        assert max(per_fold) - min(per_fold) <= 0.25 * malignant / 5 + 2


@needs_package("mammoclip")
def test_rsna_reads_the_challenge_s_own_table(tmp_path: Path) -> None:
    (tmp_path / "train.csv").symlink_to(real_table("train_folds.csv"))
    records = read_rsna(tmp_path)
    assert len(records) == 54706
    assert len({r.woman for r in records}) == 11913
    assert sum(r.malignant is True for r in records) == 1158
    assert sum(r.age is None for r in records) == 37
    assert Counter(r.density for r in records)["B"] == 12651
    assert all(r.manufacturer == "Hologic" for r in records if r.machine == "49")
    assert records[0].path == tmp_path / "train_images" / "10006" / "462822612.dcm"


@needs_package("mammoclip")
def test_vindr_reads_the_publisher_s_own_tables(tmp_path: Path) -> None:
    for name in ("breast-level_annotations.csv", "finding_annotations.csv"):
        (tmp_path / name).symlink_to(real_table(name))
    records = read_vindr(tmp_path)
    assert len(records) == 20000
    assert Counter(r.woman for r in records).most_common(1)[0][1] == 4
    assert Counter(r.split for r in records) == {"training": 16000, "test": 4000}
    assert {r.density for r in records} == set("ABCD")
    lesions = [lesion for r in records for lesion in r.lesions or ()]
    assert len(lesions) == 2254
    assert Counter(lesion.malignant for lesion in lesions) == {None: 995 + 893 + 125, True: 241}
    assert all(lesion.width > 0 and lesion.height > 0 for lesion in lesions)


@needs_package("mammoclip")
def test_vindr_boxes_lie_in_their_images(tmp_path: Path) -> None:
    table = real_table("breast-level_annotations.csv")
    for name in ("breast-level_annotations.csv", "finding_annotations.csv"):
        (tmp_path / name).symlink_to(real_table(name))
    with table.open(newline="") as stream:
        size = {row["image_id"]: (int(row["width"]), int(row["height"])) for row in csv.DictReader(stream)}

    def outside(record: Record) -> float:
        width, height = size[record.image]
        lesions = record.lesions or ()
        return max(
            (max(-box.x, -box.y, box.x + box.width - width, box.y + box.height - height) for box in lesions), default=0
        )

    assert max(outside(record) for record in read_vindr(tmp_path)) < 60
    assert all(record.laterality in Laterality for record in read_vindr(tmp_path)[:4])
