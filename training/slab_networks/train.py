"""From volumes to a bundle whose slabs are read by networks of their own: train each, fit their scale, write."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from screening.errors import ConfigError
from screening.exam import ImageKind
from screening.imaging.prepare import Preparation
from screening.model.bundle import Bundle, load_bundle
from screening.model.calibration import SlabScale
from screening.model.network import MammogramNet
from screening.model.slab_network import SlabEnsemble, SlabNet
from training.calibrate import fit_line, logits
from training.datasets import read_dataset, require_training_allowed
from training.datasets.record import Record
from training.fit import Report
from training.recipe import DataSource
from training.slab_networks.fit import averaged_slab_network, fit_slabs, steps_done
from training.slab_networks.recipe import SlabRecipe
from training.slab_networks.volumes import SlabVolume, prepare_volumes, teaches
from training.testset import score_dataset
from training.truth import breasts

LOG = logging.getLogger(__name__)

IDENTITY = SlabScale(slope=1.0, intercept=0.0, fitted_on="nothing")


def checkpoint_of(out: Path, member: int) -> Path:
    """Where a member's training stands."""
    return out / f"member-{member}" / "checkpoint.pt"


def volume_records(source: DataSource) -> list[Record]:
    """The volumes of a data set. Raises `ConfigError` where it has none, or may not be trained on."""
    require_training_allowed(source.name)
    records = [one for one in read_dataset(source.name, source.root) if one.kind is ImageKind.DBT]
    if not records:
        raise ConfigError(f"data: {source.root} holds no tomosynthesis volumes")
    return records


def teaching_volumes(source: DataSource) -> list[Record]:
    """The volumes of a data set that can be learned from. Errors as of `volume_records`, and where none can."""
    records = [one for one in volume_records(source) if teaches(one)]
    if not records:
        raise ConfigError(
            f"data: {source.root} holds no tomosynthesis volume whose lesions have all a place and a frame"
        )
    return records


def check_apart(learned: Sequence[Record], other: Sequence[Record]) -> None:
    """Raises `ConfigError` where a woman of `other` is one of those that the networks learn from."""
    shared = {one.group for one in learned} & {one.group for one in other}
    if shared:
        raise ConfigError(f"calibration: {len(shared):,} of its women are in data as well; give other women")


def train_member(
    member: int, records: Sequence[Record], recipe: SlabRecipe, bundle: Bundle, out: Path, report: Report, workers: int
) -> None:
    """Train one of the networks into its checkpoint, going on from where a killed run stopped."""
    if steps_done(checkpoint_of(out, member)) >= recipe.steps:
        return
    members: list[MammogramNet] = list(bundle.network.last_stage().members)  # type: ignore[arg-type]  # a ModuleList forgets of what
    own = recipe.model_copy(update={"seed": recipe.seed + member})
    volumes = prepared_volumes(records, recipe, bundle)
    start = members[member % len(members)]
    fit_slabs(volumes, own, start, checkpoint_of(out, member), device=bundle.device, report=report, workers=workers)


def prepared_volumes(records: Sequence[Record], recipe: SlabRecipe, bundle: Bundle) -> list[SlabVolume]:
    """The volumes as slabs at the bundle's spacing; what cannot be prepared is named in the log and left out."""
    spacing = Preparation(bundle.card.preparation.pixel_spacing_mm)
    volumes, problems = prepare_volumes(records, spacing, recipe.slabbing, recipe.cache)
    for problem in problems:
        LOG.warning("left out: %s", problem)
    return volumes


def trained_members(recipe: SlabRecipe, out: Path) -> list[SlabNet]:
    """The networks whose training has ended: all of them, or none while one is missing."""
    checkpoints = [checkpoint_of(out, member) for member in range(recipe.members)]
    if any(steps_done(one) < recipe.steps for one in checkpoints):
        return []
    return [averaged_slab_network(one, recipe.architecture) for one in checkpoints]


def with_slabs_read(bundle: Bundle, recipe: SlabRecipe, members: Sequence[SlabNet], scale: SlabScale) -> Bundle:
    """The bundle with its slabs cut as the recipe says and read by the members, on a scale."""
    preparation = bundle.card.preparation.model_copy(
        update={"slab_mm": recipe.slab_mm, "slab_step_mm": recipe.slab_step_mm}
    )
    network = SlabEnsemble(members, recipe.architecture).eval().to(bundle.device)
    return replace(
        bundle,
        card=bundle.card.model_copy(update={"preparation": preparation}),
        calibration=bundle.calibration.model_copy(update={"slabs": scale}),
        slabs=network,
        folder=None,
    )


def fit_scale(bundle: Bundle, records: Sequence[Record], source: DataSource, out: Path, workers: int) -> SlabScale:
    """The scale on which the answers mean the same probability of cancer as the bundle's 2D logits do.

    `bundle`: with its slab networks on `IDENTITY`. `records`: volumes of women that nothing was learned from. Their
    breasts are scored as ever, into `out`; Platt's line through their logits, shifted to the bundle's prevalence, is
    compared with the bundle's own. Raises `ConfigError` where higher answers do not mean cancer more often.
    """
    results = score_dataset(records, bundle, out, workers=workers)
    own = bundle.calibration
    found = breasts(results, {f"{one.dataset}-{one.image}": one for one in records}, source.name)
    z = logits(np.clip(found.score, 1e-12, 1 - 1e-12))
    line = fit_line(found.malignant, (z - own.intercept) / own.slope, own.prevalence)
    if line.slope <= 0:
        raise ConfigError("calibration: the answers do not rise with cancer; train longer, or look at the curves")
    return SlabScale(
        slope=line.slope / own.slope,
        intercept=(line.intercept - own.intercept) / own.slope,
        fitted_on=f"{len(z)} breasts, {int(found.malignant.sum())} with cancer: {source.name}",
    )


def load_start(reference: str | None, recipe: SlabRecipe) -> Bundle:
    """The bundle whose networks are started from, on the best device there is.

    Raises `ConfigError` where they have another backbone than slab networks, whose weights would not fit.
    """
    bundle = load_bundle(reference, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    theirs, own = bundle.card.architecture.backbone, recipe.architecture.backbone
    if theirs != own:
        raise ConfigError(f"--model: its networks are of {theirs}; slab networks start from those of {own}")
    return bundle
