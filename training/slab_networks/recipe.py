"""The recipe of a slab network: what `screening train-slabs --config FILE` reads."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from screening.imaging.slabs import Projection, Slabbing
from screening.model.slab_network import SlabArchitecture
from training.recipe import DataSource, validated


class SlabRecipe(BaseModel):
    """All that a slab network depends on, but the content of the data and the bundle whose network it starts from.

    `data`: sets with volumes to learn from. `calibration`: another set, on whose women the scale of the answers is
    fitted. `members`: networks that answer together; each draws its own windows. `benign_target`: dense target of
    benign lesions. `normal_weight`: of the loss on normal tissue, against that on lesions. Normal places outnumber
    lesions by thousands, and where both counted alike, a place that might just hide a cancer would score like a mass
    that is as often benign as not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: tuple[DataSource, ...]
    calibration: DataSource
    members: int = Field(2, ge=1, le=16)
    slab_mm: float = Field(6.0, ge=1, le=50)
    slab_step_mm: float = Field(4.0, ge=0.5, le=50)
    neighbours: int = Field(2, ge=0, le=4)
    channels: int = Field(64, ge=8)
    stages: int = Field(5, ge=5, le=7)
    steps: int = Field(3000, ge=1)
    batch_size: int = Field(16, ge=1)
    backbone_rate: float = Field(4e-4, gt=0)
    head_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    average_decay: float = Field(0.995, ge=0, lt=1)
    warmup: float = Field(0.05, ge=0, lt=1)
    clip_norm: float = Field(5.0, gt=0)
    benign_target: float = Field(0.15, ge=0, le=1)
    normal_weight: float = Field(30.0, gt=0)
    seed: int = 2026
    cache: Path = Path(".cache/volumes")

    @property
    def architecture(self) -> SlabArchitecture:
        """The network's shape."""
        return SlabArchitecture(stages=self.stages, channels=self.channels, neighbours=self.neighbours)

    @property
    def slabbing(self) -> Slabbing:
        """How volumes become slabs."""
        return Slabbing(self.slab_mm, self.slab_step_mm, Projection.MEAN)

    def learned_with(self) -> str:
        """All that a training depends on but its data, as text: a checkpoint of another one is no place to go on."""
        return self.model_dump_json(exclude={"data", "calibration", "cache", "members"})


def load_slab_recipe(file: Path, data_root: Path = Path(".")) -> SlabRecipe:
    """Read and validate a recipe; raises `ConfigError` that names the file and the key.

    Relative roots of data sets start from `data_root`.
    """
    recipe = validated(SlabRecipe, file)
    data = tuple(source.model_copy(update={"root": data_root / source.root}) for source in recipe.data)
    calibration = recipe.calibration.model_copy(update={"root": data_root / recipe.calibration.root})
    return recipe.model_copy(update={"data": data, "calibration": calibration})
