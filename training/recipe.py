"""The training recipe: what `screening train --config FILE` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from screening.errors import ConfigError

Kind = TypeVar("Kind", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSource(_Strict):
    """One data set: the adapter's name and the folder in the publisher's layout.

    `places_only`: its images teach where lesions are, but not what tells a breast with cancer from one without. Set it
    for a set without normal breasts, from which the network would learn to know the set and not the cancer.
    `repeat`: how often an epoch shows each of its images with known places: a small set is worth seeing more often.
    `train_only`: learned from in every fold and judged in none, as simulated women are. `in_stages`: the numbers, from
    1, of the stages that learn from it; empty for all. `density`: whether its labels of breast density are learned.
    `benign_target`: dense target of its benign lesions, where it is not the stage's.
    `licence`, `citation`: for the bundle's card; those of the bundled recipe's public sets are known.
    """

    name: str
    root: Path
    places_only: bool = False
    repeat: int = Field(1, ge=1)
    train_only: bool = False
    in_stages: tuple[int, ...] = ()
    density: bool = True
    benign_target: float | None = Field(None, ge=0, le=1)
    licence: str = ""
    citation: str = ""


class Optimisation(_Strict):
    """AdamW with a one-cycle cosine; the backbone learns slower than the heads; weights are averaged (EMA)."""

    epochs: int = Field(8, ge=1)
    batch_size: int = Field(16, ge=1)
    backbone_rate: float = Field(2e-4, gt=0)
    head_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    average_decay: float = Field(0.99, ge=0, lt=1)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of all steps in which the rate rises")
    clip_norm: float = Field(5.0, gt=0)
    frozen_stages: int = Field(2, ge=0, description="stem and first stages that keep their initial weights")
    gradient_checkpointing: bool = False
    mixed_precision: bool = Field(True, description="bfloat16, on devices that compute in it")
    patience: int = Field(0, ge=0, description="epochs without a better validation figure before stopping; 0: never")


class LossWeights(_Strict):
    """How much each kind of truth counts; see `training.losses`.

    `normal`: normal tissue against lesions, in what is learned of places. At 1 a place that might just hide a cancer
    scores like a mass that is as often benign as not; places of the first sort are far more frequent.
    """

    image: float = Field(1.0, ge=0)
    dense: float = Field(1.0, ge=0)
    normal: float = Field(1.0, ge=0)
    density: float = Field(0.3, ge=0)
    benign_target: float = Field(0.4, ge=0, le=1, description="dense target of a benign lesion")


class Stage(_Strict):
    """How the network learns for a while.

    `pasted_lesions`: share of normal images that get a lesion of another. `answers`: whether the network at the end of
    the stage is one of the model's, or only where the next stage begins. `kept`: share that the weights at the stage's
    start have in those at its end; what a network knew survives learning from other data so (WiSE-FT, Wortsman et al.
    2022).
    """

    optimisation: Optimisation = Optimisation()
    losses: LossWeights = LossWeights()
    pasted_lesions: float = Field(0.0, ge=0, le=1)
    answers: bool = True
    kept: float = Field(0.0, ge=0, lt=1)


class Recipe(Stage):
    """All that a training run depends on, but the data's own content.

    `then`: further stages. Each goes on from the weights of the one before, and the networks at the end of the stages
    answer together (Huang et al. 2017, snapshot ensembles): what is learned last need not cost what was learned first.
    """

    name: str
    data: tuple[DataSource, ...]
    backbone: str = "tf_efficientnet_lite0"
    channels: int = 64
    initial_weights: Literal["imagenet-lite0", "none"] = "imagenet-lite0"
    pixel_spacing_mm: float = Field(0.5, gt=0)
    negatives_per_positive: float = Field(
        1.0, gt=0, description="normal images drawn an epoch for each image with cancer, where truth is per breast"
    )
    folds: int = Field(3, ge=2)
    seed: int = 2026
    prevalence: float = Field(0.006, gt=0, lt=1, description="of cancer in the screened population, for calibration")
    then: tuple[Stage, ...] = ()
    cache: Path = Path(".cache/prepared")

    @model_validator(mode="after")
    def _some_stage_answers(self) -> Recipe:
        if not any(stage.answers for stage in (self, *self.then)):
            raise ValueError("no stage answers; leave `answers` out of the last one at least")
        if self.kept:
            raise ValueError("the first stage starts from nothing of which a share could be `kept`")
        return self

    @property
    def stages(self) -> tuple[Recipe, ...]:
        """A recipe of a single stage for each stage, in order; each has its own data and draws its own samples."""
        first = self.model_copy(update={"then": ()})
        return tuple(
            first.model_copy(
                update={name: getattr(stage, name) for name in Stage.model_fields}
                | {
                    "seed": self.seed + i,
                    "data": tuple(one for one in self.data if not one.in_stages or i + 1 in one.in_stages),
                }
            )
            for i, stage in enumerate((self, *self.then))
        )

    @property
    def answering(self) -> tuple[int, ...]:
        """The stages, from 0, whose networks answer."""
        return tuple(i for i, stage in enumerate(self.stages) if stage.answers)

    @property
    def train_only(self) -> frozenset[str]:
        """The names of the data sets that are judged in no fold."""
        return frozenset(source.name for source in self.data if source.train_only)


def load_recipe(file: Path, data_root: Path = Path(".")) -> Recipe:
    """Read and validate a recipe; raises `ConfigError` that names the file and the key.

    Relative roots of data sets start from `data_root`.
    """
    recipe = validated(Recipe, file)
    data = tuple(source.model_copy(update={"root": data_root / source.root}) for source in recipe.data)
    return recipe.model_copy(update={"data": data})


def validated(kind: type[Kind], file: Path) -> Kind:
    """A recipe of some kind from its file; raises `ConfigError` that names the file and the key."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read as YAML ({error})") from error
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        raise ConfigError(f"{file}: {key}: {first['msg']}") from error
