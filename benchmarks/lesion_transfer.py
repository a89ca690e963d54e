"""Whether lesions that were only simulated teach anything about real ones: simulated patches to learn, MIAS to judge.

    python -m benchmarks.lesion_transfer --simulated DIR --data-root DATA [--docs docs/realism.md]

A patch about each lesion, and one at the same place of the woman's other breast in the same view, so that place alone
tells nothing. Features come from a network that has seen photographs only; what is learned on top of them is a
logistic regression, and all its settings are chosen on simulated women. No choice here was made by looking at MIAS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import timm
import torch
import typer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.realism import REPLICATES, SEED, SIMULATED, Line, of_simulation, prepared_sets, table
from evaluation.bootstrap import cluster_bootstrap
from evaluation.errors import MetricError
from evaluation.roc import RocStatistics
from screening.cli import one_sentence
from screening.errors import ConfigError
from training.cache import PreparedRecord
from training.initial_weights import load_imagenet_lite0
from training.pages import put_block

Float32Array = npt.NDArray[np.float32]

PATCH_MM = 32.0
INPUT = 128
"""Side of what the network sees."""
LEAST_BREAST = 0.5
"""Share of a patch that must be breast."""
FOLDS = 5
STRENGTHS = np.logspace(-5, 0, 6)


@dataclass(frozen=True)
class Patch:
    """A square of a prepared image, float32 (side, side) of even brightness and contrast."""

    woman: str
    lesion: bool
    malignant: bool
    pixels: Float32Array


def patches(images: Sequence[PreparedRecord], pixel_mm: float) -> Iterator[Patch]:
    """Patches about lesions, each followed by its like in the other breast where that shows no lesion there.

    Lesions of unknown place, those marked as misplaced or diffuse, and calcified vessels are left out.
    """
    side = round(PATCH_MM / pixel_mm)
    partners = {_key(one): one for one in images}
    for one in images:
        partner = partners.get(_key(one, other=True))
        for index, lesion in enumerate(one.record.lesions or ()):
            area = np.argwhere(one.lesions == index + 1)
            if not len(area) or any(word in lesion.kind for word in ("misplaced", "diffuse", "vascular")):
                continue
            row, column = area.mean(axis=0)
            found = _cut(one, row, column, side)
            if found is not None:
                yield Patch(one.record.woman, True, bool(lesion.malignant), found)
            if partner is not None:
                rows, columns = np.divide(partner.pixels.shape, one.pixels.shape)
                normal = _cut(partner, row * rows, column * columns, side, free=True)
                if normal is not None:
                    yield Patch(one.record.woman, False, False, normal)


def _key(one: PreparedRecord, other: bool = False) -> tuple[str, ...]:
    """Exam, view and side; or the other side."""
    record = one.record
    sides = {"L": "R", "R": "L"} if other else {"L": "L", "R": "R"}
    return record.dataset, record.woman, record.exam, record.view.value, sides[record.laterality.value]


def _cut(one: PreparedRecord, row: float, column: float, side: int, *, free: bool = False) -> Float32Array | None:
    """A patch about a place, standardised; None with too little breast, or with a lesion where it must be `free`."""
    window = slice(round(row), round(row) + side), slice(round(column), round(column) + side)
    image, labels = np.pad(one.pixels, side // 2)[window], np.pad(one.lesions, side // 2)[window]
    inside = image > 0
    if image.shape != (side, side) or inside.mean() < LEAST_BREAST or (free and labels.any()):
        return None
    values = image[inside].astype(np.float32)
    spread = max(float(values.std()), 1e-3 * 65535)
    even = 0.5 + 0.15 * (image.astype(np.float32) - float(values.mean())) / spread
    return np.where(inside, np.clip(even, 0, 1), 0).astype(np.float32)


def features(found: Sequence[Patch]) -> Float32Array:
    """Mean activations of three stages of an ImageNet EfficientNet-Lite0, frozen: float32 (patches, 472)."""
    network = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(2, 3, 4), in_chans=1
    ).eval()
    load_imagenet_lite0(network)
    rows = []
    with torch.inference_mode():
        for start in range(0, len(found), 32):
            batch = [cv2.resize(one.pixels, (INPUT, INPUT)) for one in found[start : start + 32]]
            maps = network((torch.from_numpy(np.stack(batch))[:, None] - 0.5) / 0.5)
            rows.append(torch.cat([one.mean((-2, -1)) for one in maps], dim=1).numpy())
    return np.concatenate(rows)


def fitted(values: Float32Array, lesion: npt.NDArray[np.bool_], woman: npt.NDArray[np.str_]) -> Pipeline:
    """The regression, its strength chosen by folds of women. Raises `ConfigError` for too few women of either kind."""
    if min(len(set(woman[kind].tolist())) for kind in (lesion, ~lesion)) < FOLDS:
        raise ConfigError(f"patches of at least {FOLDS} women with a lesion, and without, are needed to learn from")
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": STRENGTHS},
        scoring="roc_auc",
        cv=GroupKFold(FOLDS),
    )
    search.fit(values, lesion, groups=woman)
    return search.best_estimator_


def transfer(learned: Sequence[Patch], judged: Sequence[Patch]) -> Iterator[Line]:
    """AUC of lesion against normal tissue: learned from `learned` and judged on `judged`, and two yardsticks.

    The yardsticks are out of fold by women: the same regression learned and judged on either set.
    """
    (own, mine, hers), (values, lesion, woman) = (_arrays(one) for one in (learned, judged))
    model = fitted(own, mine, hers)
    score = model.predict_proba(values)[:, 1]
    malignant = np.array([one.malignant for one in judged])
    yield _line("simulated lesions alone, judged on mias", lesion, score, woman)
    counted = malignant | ~lesion
    yield _line("the same, malignant lesions of mias only", lesion[counted], score[counted], woman[counted])
    for name, one in (
        ("simulated, judged on simulated", (own, mine, hers)),
        ("mias, judged on mias", (values, lesion, woman)),
    ):
        yield _line(f"{name}, out of fold", one[1], _out_of_fold(model, *one), one[2])


def _arrays(found: Sequence[Patch]) -> tuple[Float32Array, npt.NDArray[np.bool_], npt.NDArray[np.str_]]:
    return features(found), np.array([one.lesion for one in found]), np.array([one.woman for one in found])


def _out_of_fold(
    model: Pipeline, values: Float32Array, lesion: npt.NDArray[np.bool_], woman: npt.NDArray[np.str_]
) -> npt.NDArray[np.float64]:
    cv = GroupKFold(FOLDS)
    return np.asarray(cross_val_predict(model, values, lesion, groups=woman, cv=cv, method="predict_proba")[:, 1])


def _line(of: str, lesion: npt.NDArray[np.bool_], score: npt.NDArray[np.float64], woman: npt.NDArray[np.str_]) -> Line:
    women = len(set(woman.tolist()))
    n = f"{int(lesion.sum()):,} lesions and {int((~lesion).sum()):,} normal patches of {women:,} women"
    figure = "AUC, lesion against normal"
    try:
        interval = cluster_bootstrap(RocStatistics(lesion, score).auc(), woman, seed=SEED, replicates=REPLICATES)
    except MetricError as error:
        return Line(figure, of, n, None, str(error))
    note = "beats chance" if interval.low > 0.5 else "does not beat chance"
    return Line(figure, of, n, interval, note=note)


def main(
    simulated: Annotated[Path, typer.Option("--simulated", help="Folder of `screening simulate`.")],
    data_root: Annotated[Path, typer.Option("--data-root", help="Folder of the set mias/.")],
    women: Annotated[int, typer.Option("--women", min=2, help="At most so many women of each set.")] = 1_000,
    cache: Annotated[Path, typer.Option("--cache", help="Folder of prepared copies.")] = Path(".cache/prepared"),
    docs: Annotated[Path | None, typer.Option("--docs", help="Page to put the table into.")] = None,
) -> None:
    """Learn from simulated lesions, judge on real ones."""
    from screening.model.bundle import load_bundle

    with one_sentence():
        pixel_mm = load_bundle().preparation.pixel_spacing_mm
        images = list(prepared_sets(simulated, data_root, ("mias",), women, cache, pixel_mm))
        learned, judged = (
            list(patches([one for one in images if one.record.dataset == name], pixel_mm))
            for name in (SIMULATED, "mias")
        )
        if not learned or not judged:
            raise ConfigError(f"no lesions in {simulated if not learned else data_root / 'mias'}")
        text = f"{of_simulation(simulated)}\n\n{table(transfer(learned, judged))}"
        typer.echo(text)
        if docs is not None:
            put_block(docs, "transfer", text)


if __name__ == "__main__":
    typer.run(main)
