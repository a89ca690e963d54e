"""A model bundle: one folder with weights, card and calibration, identified by one hash.

`bundle.yaml` names the SHA-256 of the other files, so its own SHA-256 identifies them all.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from screening.errors import BundleError
from screening.exam import PresentationIntent
from screening.imaging.prepare import Preparation
from screening.imaging.slabs import Projection, Slabbing
from screening.model.calibration import Calibration
from screening.model.network import Architecture, Ensemble, MammogramNet
from screening.model.slab_network import SlabArchitecture, SlabEnsemble, SlabNet
from screening.model.weights import pack, unpack
from screening.registry import LOCAL_REGISTRY

CARD, WEIGHTS, CALIBRATION = "bundle.yaml", "model.safetensors", "calibration.yaml"
SLAB_WEIGHTS = "slabs.safetensors"
"""Only in bundles with a slab network."""

BUNDLED = Path(__file__).parent / "bundled"
"""The bundle that comes with the package."""

REGISTRY = "models:/"
"""A reference that starts like this names a model in MLflow's registry."""


Model = TypeVar("Model", bound=BaseModel)
Network = TypeVar("Network", bound=nn.Module)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ArchitectureCard(_Strict):
    """The network's shape. `members`, `stages`: see `Ensemble`; the former is a multiple of the latter."""

    backbone: str
    channels: int = Field(ge=8)
    whole: int = Field(ge=8)
    members: int = Field(ge=1, le=16)
    stages: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _whole_folds(self) -> ArchitectureCard:
        if self.members % self.stages:
            raise ValueError(f"{self.members} members are not those of {self.stages} stages each")
        return self


class SlabNetworkCard(_Strict):
    """The slab network's shape (see `SlabArchitecture`). `members`: how many of them answer together."""

    backbone: str
    stages: int = Field(ge=5, le=7)
    channels: int = Field(ge=8)
    neighbours: int = Field(ge=0, le=4)
    members: int = Field(ge=1, le=16)


class PreparationCard(_Strict):
    """How images are prepared. `slab_…`: how tomosynthesis volumes become images (see `Slabbing`)."""

    pixel_spacing_mm: float = Field(gt=0.02, lt=5)
    slab_mm: float = Field(default=Slabbing.thickness_mm, ge=1, le=50)
    slab_step_mm: float = Field(default=Slabbing.step_mm, ge=0.5, le=50)
    slab_projection: Projection = Slabbing.projection


class TrainingData(_Strict):
    """One data set that the weights were trained on."""

    name: str
    women: int
    images: int
    licence: str
    citation: str


class Figure(_Strict):
    """One measured figure: what, on which data, its value and 95 % interval."""

    figure: str
    data: str
    value: float
    low: float
    high: float


class Card(_Strict):
    """`bundle.yaml`: what the model is, saw, may be used for, and how it did."""

    name: str
    version: str
    architecture: ArchitectureCard
    slab_network: SlabNetworkCard | None = None
    preparation: PreparationCard
    intents: tuple[PresentationIntent, ...]
    files: dict[str, str]
    intended_use: str
    limits: tuple[str, ...]
    licence: str
    training_data: tuple[TrainingData, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Bundle:
    """A loaded model. `model_id`: name, version and the first twelve digits of `sha256`, as it stands in outputs.

    `slabs`: the network that reads the slabs of volumes; without one, the network for 2D images reads them.
    `folder`: where it was loaded from, and other processes can load it; None for one that is only in memory.
    """

    card: Card
    calibration: Calibration
    network: Ensemble
    sha256: str
    device: torch.device
    folder: Path | None = None
    slabs: SlabEnsemble | None = None

    @property
    def model_id(self) -> str:
        return f"{self.card.name}-{self.card.version}+{self.sha256[:12]}"

    @property
    def for_slabs(self) -> Bundle:
        """The bundle as slabs are read without a slab network: by the last stage's networks, as those before it learned
        from no volumes. With one, they say how dense the breast of a volume is.
        """
        return replace(self, network=self.network.last_stage(), folder=None)

    @property
    def preparation(self) -> Preparation:
        return Preparation(self.card.preparation.pixel_spacing_mm)

    @property
    def slabbing(self) -> Slabbing:
        card = self.card.preparation
        return Slabbing(card.slab_mm, card.slab_step_mm, card.slab_projection)


def load_bundle(reference: str | Path | None = None, device: torch.device | None = None) -> Bundle:
    """Load a bundle: a folder, `models:/NAME/VERSION` in MLflow's registry, or None for the one in the package.

    Every file is checked against its SHA-256 before it is parsed. Raises `BundleError` when a file is missing,
    changed or malformed.
    """
    folder = bundle_folder(reference)
    text = _read(folder / CARD)
    card: Card = _validated(Card, text, folder / CARD)
    for name in (WEIGHTS, CALIBRATION, *([SLAB_WEIGHTS] if card.slab_network else [])):
        if card.files.get(name) != hashlib.sha256(_read(folder / name)).hexdigest():
            raise BundleError(f"{folder / name}: was changed since the bundle was made; get the bundle again")
    calibration: Calibration = _validated(Calibration, _read(folder / CALIBRATION), folder / CALIBRATION)
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (card.slab_network is None) != (calibration.slabs is None):
        raise BundleError(f"{folder / CALIBRATION}: slabs: a slab network needs its scale, and a scale its network")
    network = _ready(_network(card.architecture, folder), device)
    slabs = _ready(_slab_network(card.slab_network, folder), device) if card.slab_network else None
    return Bundle(card, calibration, network, hashlib.sha256(text).hexdigest(), device, folder.resolve(), slabs)


def _ready(network: Network, device: torch.device) -> Network:
    return network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # stubs lack it


def save_bundle(
    folder: Path, network: Ensemble, calibration: Calibration, card: dict[str, Any], slabs: SlabEnsemble | None = None
) -> None:
    """Write a bundle to `folder`; `card` is the content of `bundle.yaml` but for `files`, which is filled in.

    Its weights are packed (`screening.model.weights`), which moves a logit about as much as computing in bfloat16 does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_packed(network), folder / WEIGHTS)
    _write_yaml(folder / CALIBRATION, calibration.model_dump(mode="json"))
    names = [WEIGHTS, CALIBRATION]
    (folder / SLAB_WEIGHTS).unlink(missing_ok=True)
    if slabs is not None:
        save_file(_packed(slabs), folder / SLAB_WEIGHTS)
        names.append(SLAB_WEIGHTS)
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    checked = Card.model_validate(card | {"files": files})
    _write_yaml(folder / CARD, checked.model_dump(mode="json"))


def _packed(network: nn.Module) -> dict[str, Tensor]:
    # On the CPU: a GPU divides by a number as it multiplies by its inverse, so that scales of filters could move by a
    # bit, and what was loaded has to be saved as the same bytes.
    return pack({name: tensor.cpu() for name, tensor in network.state_dict().items()})


def bundle_folder(reference: str | Path | None) -> Path:
    """The folder of the bundle that `load_bundle` would load. Raises `BundleError` where there is none."""
    if reference is None:
        return BUNDLED
    if str(reference).startswith(REGISTRY):
        return _download(str(reference))
    folder = Path(reference)
    if not (folder / CARD).is_file():
        raise BundleError(f"{folder}: is no model bundle (there is no {CARD} in it)")
    return folder


def _download(reference: str) -> Path:
    # MLflow takes seconds to import, and scoring with a folder does not need it.
    from mlflow import set_tracking_uri
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    if LOCAL_REGISTRY.is_file() and not os.environ.get("MLFLOW_TRACKING_URI"):
        set_tracking_uri(f"sqlite:///{LOCAL_REGISTRY.resolve()}")
    try:
        root = Path(download_artifacts(artifact_uri=reference))
    except MlflowException as error:
        raise BundleError(f"{reference}: MLflow's registry does not have it ({error.message})") from error
    card = next(iter(sorted(root.rglob(CARD))), None)
    if card is None:
        raise BundleError(f"{reference}: the registered model holds no {CARD}")
    return card.parent


def _network(card: ArchitectureCard, folder: Path) -> Ensemble:
    architecture = Architecture(card.backbone, card.channels, card.whole)
    try:
        network = Ensemble([MammogramNet(architecture) for _ in range(card.members)], card.stages)
    except Exception as error:  # timm answers names it does not know, or cannot cut at these strides, in many ways
        sentence = f"architecture.backbone: timm cannot build {card.backbone!r} with features of stride 8 to 32"
        raise BundleError(f"{folder / CARD}: {sentence}") from error
    _load_weights(network, folder / WEIGHTS)
    return network


def _slab_network(card: SlabNetworkCard, folder: Path) -> SlabEnsemble:
    architecture = SlabArchitecture(card.backbone, card.stages, card.channels, card.neighbours)
    try:
        network = SlabEnsemble([SlabNet(architecture) for _ in range(card.members)], architecture)
    except Exception as error:  # as for the other network
        sentence = f"slab_network.backbone: timm cannot build {card.backbone!r} with features of stride 8 and 16"
        raise BundleError(f"{folder / CARD}: {sentence}") from error
    _load_weights(network, folder / SLAB_WEIGHTS)
    return network


def _load_weights(network: nn.Module, file: Path) -> None:
    try:
        network.load_state_dict(unpack(load_file(file)))
    except (SafetensorError, RuntimeError, KeyError) as error:  # their messages list every weight
        raise BundleError(f"{file}: does not hold the weights of the architecture in {CARD}") from error
    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise BundleError(f"{file}: {name} holds values that are no numbers; get the bundle again")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{file}: cannot be read ({error.strerror}); a bundle holds {CARD}, {WEIGHTS}, {CALIBRATION}"
        ) from error


def _validated(model: type[Model], text: bytes, file: Path) -> Model:
    try:
        return model.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise BundleError(f"{file}: {key}: {first['msg']}") from error
    except yaml.YAMLError as error:
        raise BundleError(f"{file}: is not valid YAML ({' '.join(str(error).split())})") from error


def _write_yaml(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), encoding="utf-8")
