"""RSNA Screening Mammography Breast Cancer Detection, 2022: digital, truth per breast, no locations.

Two layouts are read: the challenge's (`train.csv`, `train_images/PATIENT/IMAGE.dcm`) and one with the same columns in
`labels.csv` and images squashed to 640 x 640 in `images/PATIENT_IMAGE.jpg`.

Neither table states a pixel spacing, so it is estimated by machine from the detector formats that the challenge's
DICOM files have (machine_id never mixes vendors): Hologic (48, 49, 170) 4096 x 3328 and 3328 x 2560 at 0.0652 mm in the
plane of the breast; a photon-counting scanner (29) 5355 x 4915 at 0.05 mm; GE (93, 190, 197, 216) 2294 x 1914 and
3062 x 2394 at 0.094 mm; Fuji (210) 4740 x 3540 and 5928 x 4728 at 0.05 mm; and machine 21, 2776 x 2082, whose pixel is
not known and taken as 0.094 mm. Where a machine has two formats, the squashed image does not tell which one it was:
their mean is used, which errs by up to 13 %. With these, the median breast in CC is 194 to 239 mm wide and 83 to 119 mm
deep for every machine, and as wide for its depth on machine 29 (2.0) as on the others (1.9 to 2.4), where one
spacing for all machines would give 2.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.datasets.record import Record
from training.datasets.tables import breast_density, first_file, flag, laterality, optional_number, read_table, view

IMAGE_COLUMNS = ("patient_id", "image_id", "laterality", "view", "machine_id")
COLUMNS = (*IMAGE_COLUMNS, "age", "cancer", "implant", "density")
SQUASHED_SIZE = 640


@dataclass(frozen=True)
class _Detector:
    """Pixel size in mm in the plane of the breast, and the (rows, columns) of the images that the machine writes."""

    maker: str
    pixel_mm: float
    formats: tuple[tuple[int, int], ...]

    @property
    def squashed_spacing_mm(self) -> tuple[float, float]:
        """Spacing (row, column) after a whole image was squashed to a square; the mean over the formats."""
        count = len(self.formats) * SQUASHED_SIZE
        return (
            self.pixel_mm * sum(rows for rows, _ in self.formats) / count,
            self.pixel_mm * sum(columns for _, columns in self.formats) / count,
        )


_HOLOGIC = _Detector("Hologic", 0.0652, ((4096, 3328), (3328, 2560)))
_GE_SMALL = _Detector("GE", 0.094, ((2294, 1914),))
_GE = _Detector("GE", 0.094, ((2294, 1914), (3062, 2394)))
_UNKNOWN = _Detector("", 0.0652, ((4096, 3328), (3328, 2560)))
_DETECTORS = {
    "21": _Detector("", 0.094, ((2776, 2082),)),
    "29": _Detector("", 0.05, ((5355, 4915),)),
    "48": _Detector("Hologic", 0.0652, ((4096, 3328),)),
    "49": _HOLOGIC,
    "93": _GE,
    "170": _HOLOGIC,
    "190": _GE_SMALL,
    "197": _GE,
    "210": _Detector("Fujifilm", 0.05, ((4740, 3540), (5928, 4728))),
    "216": _GE_SMALL,
}


def read_rsna(root: Path, truth: bool = True) -> list[Record]:
    """Every image of the table under `root`, in the table's order; raises `ConfigError` naming what is missing.

    Without `truth`, only `IMAGE_COLUMNS` must be there.
    """
    table = first_file(root, "labels.csv", "train.csv")
    squashed = table.name == "labels.csv"
    records = []
    for row in read_table(table, COLUMNS if truth else IMAGE_COLUMNS, optional=COLUMNS):
        patient, image = row["patient_id"], row["image_id"]
        detector = _DETECTORS.get(row["machine_id"], _UNKNOWN)
        pixel = detector.pixel_mm
        path = root / (f"images/{patient}_{image}.jpg" if squashed else f"train_images/{patient}/{image}.dcm")
        records.append(
            Record(
                dataset="rsna",
                woman=patient,
                exam=patient,
                image=image,
                path=path,
                laterality=laterality(row["laterality"], table),
                view=view(row["view"], table),
                malignant=flag(row["cancer"], table, "cancer") if truth else None,
                lesions=None,
                pixel_spacing_mm=detector.squashed_spacing_mm if squashed else (pixel, pixel),
                density=breast_density(row["density"]),
                age=optional_number(row["age"], table, "age"),
                manufacturer=detector.maker,
                machine=row["machine_id"],
                implant=truth and flag(row["implant"], table, "implant"),
            )
        )
    return records
