"""What the model of a simulated programme says of its exams, and where the lesions are that it says it of.

Each breast gets the higher of two scores: of its most suspicious normal tissue, and of its cancer, whose score grows
towards the diagnosis. Every image has a region on normal tissue, in its upper half; a cancer that can be seen has one
on it in at least one view, in the lower half, so no region hits a lesion by chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[Any]
Texts = pd.api.extensions.ExtensionArray

MODEL_ID = "simulated-model"
ROWS, COLUMNS, SPACING_MM = 3328, 2560, 0.085
VIEWS = (("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"))
"""The images of every exam, in this order; the image of index i has the exam's id and the suffix `.i`."""
SUFFIXES = pd.array([".0", ".1", ".2", ".3"], dtype="str")
SITES = pd.array(["Site A", "Site B", "Site C"], dtype="str")
MANUFACTURERS = pd.array(["Maker 1", "Maker 2", "Maker 1"], dtype="str")
DENSITIES = pd.array(["A", "B", "C", "D"], dtype="str")

_SPREAD, _RARENESS = 1.5, 4.6  # of the logit of a score
_OCCULT_BELOW, _MINIMAL_BELOW = 0.3, 0.6  # of a cancer's growth, from onset (0) to symptoms (1)


def add_scores(rng: np.random.Generator, exams: pd.DataFrame, women: pd.DataFrame) -> None:
    """Adds to `exams`: what the model does with each, and each breast's scores of normal tissue and of the lesion."""
    n = len(exams)
    fate = rng.choice(["scored", "rejected", "failed", "absent"], n, p=[0.987, 0.006, 0.004, 0.003])
    fate[~exams["listed"].to_numpy()] = "scored"
    exams["status"] = fate
    exams["sent"] = fate != "absent"
    side = women["side"].reindex(exams["woman"]).fillna("").to_numpy()
    growth = exams["growth"].to_numpy()
    seen = exams["present"].to_numpy() & (growth >= _OCCULT_BELOW)
    for breast in ("L", "R"):
        # A dense breast's tissue looks more like cancer.
        tissue = rng.normal(size=n) + 0.15 * (exams["density"].to_numpy() - 1.5)
        lesion = np.where(seen & np.isin(side, (breast, "B")), rng.normal(0.8 + 3.4 * growth), np.nan)
        exams[f"tissue_{breast}"] = _score(tissue)
        exams[f"lesion_{breast}"] = _score(lesion)
        exams[f"score_{breast}"] = np.fmax(exams[f"tissue_{breast}"], exams[f"lesion_{breast}"])
    exams["score"] = exams[["score_L", "score_R"]].max(axis=1)


def visibility(exams: pd.DataFrame) -> pd.Series:
    """What a radiologist who knows the cancer's place says of an earlier exam; "" where there was no cancer yet."""
    growth, present = exams["growth"], exams["present"]
    said = np.select(
        [~present, growth < _OCCULT_BELOW, growth < _MINIMAL_BELOW], ["", "occult", "minimal_sign"], "false_negative"
    )
    return pd.Series(said, index=exams.index)


def draw_lesions(rng: np.random.Generator, exams: pd.DataFrame, women: pd.DataFrame) -> pd.DataFrame:
    """One row a view of each breast with a cancer: `exam` (row of `exams`), `image` (0 to 3), box and the score of the
    model's region on it (NaN: none)."""
    with_cancer = np.flatnonzero(exams["present"])
    side = women["side"].to_numpy()[exams["woman"].to_numpy()[with_cancer]]
    exam, image = (axis.ravel() for axis in np.meshgrid(with_cancer, np.arange(4), indexing="ij"))
    breast = np.array([laterality for laterality, _ in VIEWS])[image]
    kept = (breast == np.repeat(side, 4)) | (np.repeat(side, 4) == "B")
    exam, image, breast = exam[kept], image[kept], breast[kept]
    score = np.where(breast == "L", exams["lesion_L"].to_numpy()[exam], exams["lesion_R"].to_numpy()[exam])
    first_view = rng.random(len(exams)) < 0.5  # of each exam: which view of the breast shows the cancer best
    best = (image % 2 == 0) == first_view[exam]
    score = np.where(
        best, score, np.where(rng.random(len(score)) < 0.6, score * rng.uniform(0.2, 1, len(score)), np.nan)
    )
    size = rng.integers(80, 400, len(exam))
    x, y = rng.integers(100, COLUMNS - 600, len(exam)), rng.integers(ROWS // 2 + 100, ROWS - 600, len(exam))
    return pd.DataFrame({"exam": exam, "image": image, "x": x, "y": y, "size": size, "score": score})


def scored_exams(exams: pd.DataFrame) -> pd.DataFrame:
    scored = (exams["status"] == "scored").to_numpy()
    rank = exams["score"].where(scored).rank(pct=True, method="first")
    reasons = {"scored": "", "rejected": "no-eligible-image: no view is left", "failed": "unreadable: cut short"}
    return pd.DataFrame(
        {
            "exam_id": exams["exam_id"],
            "woman_id": exams["woman_id"],
            "exam_date": dates(exams["day"]),
            "status": exams["status"],
            "reason": exams["status"].map(reasons),
            "score": exams["score"].where(scored),
            "category": np.ceil(rank * 10),
            "left_score": exams["score_L"].where(scored),
            "right_score": exams["score_R"].where(scored),
            "density": DENSITIES[exams["density"].to_numpy()],
            "site": SITES[exams["site"].to_numpy()],
            "manufacturer": MANUFACTURERS[exams["site"].to_numpy()],
            "model_id": MODEL_ID,
        }
    ).reset_index(drop=True)


def images_and_regions(
    rng: np.random.Generator, sent: pd.DataFrame, lesions: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All four images of every exam that was sent, and the regions of those that were scored."""
    n = len(sent)
    first_view = rng.random((n, 2)) < 0.5
    tissue = np.repeat(sent[["tissue_L", "tissue_R"]].to_numpy(), 2, axis=1)
    best = np.stack([first_view, ~first_view], axis=2).reshape(n, 4)
    tissue = np.where(best, tissue, tissue * rng.uniform(0.2, 1, (n, 4)))
    row = np.full(sent.index.max() + 1, -1)  # of an exam among those that were scored
    scored = (sent["status"] == "scored").to_numpy()
    row[sent.index[scored]] = np.flatnonzero(scored)
    marked = lesions[lesions["score"].notna() & (row[lesions["exam"]] >= 0)]
    exam = np.concatenate([np.repeat(np.flatnonzero(scored), 4), row[marked["exam"]]])
    image = np.concatenate([np.tile(np.arange(4), int(scored.sum())), marked["image"]])
    score = np.concatenate([tissue[scored].ravel(), marked["score"]])
    size = rng.integers(60, 300, len(exam))
    x, y = rng.integers(100, COLUMNS - 400, len(exam)), rng.integers(0, ROWS // 2 - 300, len(exam))
    # A region on a lesion is somewhat larger or smaller than it, and its centre is inside.
    on = slice(len(exam) - len(marked), None)
    size[on] = marked["size"] * rng.uniform(0.8, 1.25, len(marked))
    off = (marked["size"] - size[on]) / 2
    x[on] = marked["x"] + off + rng.uniform(-0.2, 0.2, len(marked)) * marked["size"]
    y[on] = marked["y"] + off + rng.uniform(-0.2, 0.2, len(marked)) * marked["size"]
    order = np.lexsort((-score, exam))
    exam, image, score, size, x, y = (values[order] for values in (exam, image, score, size, x, y))
    rank = np.arange(len(exam)) - np.searchsorted(exam, exam) + 1
    image_score = np.full((n, 4), -np.inf)
    np.maximum.at(image_score, (exam, image), score)
    exam_ids = sent["exam_id"].array
    numbers = np.tile(np.arange(4), n)
    image_exam = exam_ids.take(np.repeat(np.arange(n), 4))
    sides, views = (pd.array([view[part] for view in VIEWS], dtype="str") for part in (0, 1))
    images = pd.DataFrame(
        {
            "exam_id": image_exam,
            "image_id": image_exam + SUFFIXES.take(numbers),
            "laterality": sides.take(numbers),
            "view": views.take(numbers),
            "kind": "ffdm",
            "status": sent["status"].array.take(np.repeat(np.arange(n), 4)),
            "reason": "",
            "score": np.where(np.isfinite(image_score), image_score, np.nan).ravel(),
            "rows": ROWS,
            "columns": COLUMNS,
            "frames": 1,
            "pixel_spacing_mm": SPACING_MM,
        }
    )
    region_exam = exam_ids.take(exam)
    regions = pd.DataFrame(
        {
            "region_id": ids("R", np.arange(len(exam)), 8),
            "exam_id": region_exam,
            "image_id": region_exam + SUFFIXES.take(image),
            "laterality": sides.take(image),
            "view": views.take(image),
            "frame_first": 0,
            "frame_last": 0,
            "frame_peak": 0,
            "x": x,
            "y": y,
            "width": size,
            "height": size,
            "score": score,
            "rank": rank,
        }
    )
    return images, regions


def _score(latent: Array) -> Array:
    return 1 / (1 + np.exp(_RARENESS - _SPREAD * latent))


def dates(day: pd.Series) -> Array:
    return day.to_numpy().astype("datetime64[D]").astype("datetime64[s]")


def ids(letter: str, numbers: Array, width: int = 7) -> pd.api.extensions.ExtensionArray:
    text = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")
    return pd.array(pc.binary_join_element_wise(pa.scalar(letter), text, ""), dtype="str")
