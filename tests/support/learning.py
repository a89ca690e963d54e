"""Small things to learn from: prepared phantoms with spots, a recipe for a tiny network, and a set on disk."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from screening.exam import ImageKind, Laterality, View
from screening.imaging.geometry import Geometry
from tests.support.phantoms import breast_mask, synthetic_mammogram
from tests.support.volumes import PIXEL_MM
from training.cache import PreparedRecord
from training.datasets.record import Lesion, Record
from training.recipe import Recipe

ROWS, COLUMNS = 96, 64


def record(number: int, **changes: Any) -> Record:
    """A normal breast of the set rsna, one woman a number."""
    facts: dict[str, Any] = {
        "dataset": "rsna",
        "woman": str(number),
        "exam": str(number),
        "image": f"image{number}",
        "path": Path(f"image{number}.png"),
        "laterality": Laterality.LEFT,
        "view": View.CC,
        "malignant": False,
        "lesions": None,
        "pixel_spacing_mm": (1.0, 1.0),
    }
    return Record(**facts | changes)


def prepared_set(number: int = 24, seed: int = 0) -> list[PreparedRecord]:
    """Half an ellipse of noise each; every third has a bright spot: a cancer, marked in every other of them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    inside = (x / COLUMNS) ** 2 + ((y - ROWS / 2) / (ROWS / 2)) ** 2 < 0.9
    made = []
    for i in range(number):
        pixels = np.where(inside, rng.uniform(0.25, 0.45, inside.shape), 0)
        labels = np.zeros(inside.shape, np.uint8)
        facts: dict[str, Any] = {"density": "ABCD"[i % 4]}
        if i % 3 == 0:
            row, column = int(rng.integers(30, 66)), int(rng.integers(10, 40))
            spot = (x - column) ** 2 + (y - row) ** 2 <= 36
            pixels[spot] = 0.95
            facts |= {"malignant": True}
            if i % 2:
                labels[spot] = 1
                lesion = Lesion(column - 6, row - 6, 13, 13, "ellipse", malignant=True)
                facts |= {"dataset": "mias", "lesions": (lesion,)}
        elif i % 3 == 1:
            facts |= {"dataset": "mias", "lesions": ()}
        geometry = Geometry(0, 0, COLUMNS, ROWS, COLUMNS, ROWS)
        made.append(PreparedRecord(record(i, **facts), np.round(pixels * 65535).astype(np.uint16), labels, geometry))
    return made


def volume(*lesions: Lesion, path: Path = Path("volume.dcm"), malignant: bool | None = True) -> Record:
    """A left CC volume of `tests.support.volumes`, of the set simulated."""
    return Record(
        dataset="simulated",
        woman="w",
        exam="e",
        image="v",
        path=path,
        laterality=Laterality.LEFT,
        view=View.CC,
        malignant=malignant,
        lesions=lesions,
        pixel_spacing_mm=(PIXEL_MM, PIXEL_MM),
        kind=ImageKind.DBT,
    )


def tiny_recipe(**changes: Any) -> Recipe:
    """A network of 80,000 weights, trained from scratch for two epochs in float32."""
    content: dict[str, Any] = {
        "name": "tiny",
        "data": [{"name": "mias", "root": "."}],
        "backbone": "test_efficientnet",
        "channels": 16,
        "initial_weights": "none",
        "pixel_spacing_mm": 0.8,
        "folds": 2,
        "optimisation": {
            "epochs": 2,
            "batch_size": 4,
            "backbone_rate": 2e-3,
            "head_rate": 5e-3,
            "average_decay": 0.8,
            "frozen_stages": 0,
            "mixed_precision": False,
        },
    }
    settings = content["optimisation"] | changes.pop("optimisation", {})
    return Recipe.model_validate(content | {"optimisation": settings} | changes)


def write_mias(root: Path, women: int = 12, rows: int = 320, columns: int = 240) -> Path:
    """Phantoms in the layout that the MIAS adapter reads: both breasts in MLO, every second woman's left with a cancer,
    every third one's right with a benign lesion. Returns `root`.
    """
    (root / "images").mkdir(parents=True)
    table = []
    for woman in range(1, women + 1):
        for side in "LR":
            image = f"mdb{2 * woman - (side == 'R'):03d}"
            pixels = synthetic_mammogram(rows, columns, side, "MLO", seed=10 * woman + (side == "R")) // 256
            severity = "M" if side == "L" and woman % 2 else "B" if side == "R" and woman % 3 == 0 else ""
            place: tuple[object, ...] = ("", "", "")
            if severity:
                lies_in = np.argwhere(
                    cv2.erode(breast_mask(rows, columns, side, "MLO").astype(np.uint8), np.ones((61, 61)))
                )
                y, x = (int(v) for v in lies_in[(997 * woman) % len(lies_in)])
                radius, grey = (16, 250) if severity == "M" else (9, 180)
                cv2.circle(pixels, (x, y), radius, grey, -1)
                place = (x, y, radius)
            kind = "CIRC" if severity else "NORM"
            table.append((image, woman, side, "MLO", "FGD"[woman % 3], kind, severity, *place))
            cv2.imwrite(str(root / "images" / f"{image}.png"), pixels.astype(np.uint8))
    with (root / "lesions.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["image", "woman", "laterality", "view", "tissue", "abnormality", "severity", "x", "y", "radius"]
        )
        writer.writerows(table)
    return root
