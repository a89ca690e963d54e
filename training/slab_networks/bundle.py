"""A bundle with slab networks, from one whose networks for 2D images stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from screening.model.bundle import Bundle, save_bundle
from training.datasets.record import Record
from training.export import SIMULATED, training_data, warn_if_large
from training.slab_networks.recipe import SlabRecipe

SLABS = "{name} (volumes)"
"""How a card names a set from whose volumes the slab networks learned."""


def write_with_slabs(bundle: Bundle, recipe: SlabRecipe, records: Sequence[Record], version: str, folder: Path) -> None:
    """Write `bundle`, which has its slab networks and their scale, to `folder`, with a card that says so.

    `records`: the volumes that these networks learned from. Raises `ConfigError` where a set's licence is unknown.
    """
    assert bundle.slabs is not None
    card: dict[str, Any] = bundle.card.model_dump(mode="json", exclude={"files"})
    shape = bundle.slabs.architecture
    learned = [_learned(source_name, recipe, records) for source_name in dict.fromkeys(one.name for one in recipe.data)]
    card |= {
        "version": version,
        "slab_network": {
            "backbone": shape.backbone,
            "stages": shape.stages,
            "channels": shape.channels,
            "neighbours": shape.neighbours,
            "members": len(bundle.slabs.members),
        },
        "limits": [*(one for one in card["limits"] if not one.startswith(_SLAB_LIMIT)), _limit(learned)],
        "training_data": [one for one in card["training_data"] if not _of_slabs(one)] + learned,
    }
    save_bundle(folder, bundle.network, bundle.calibration, card, bundle.slabs)
    warn_if_large(folder)


def _learned(name: str, recipe: SlabRecipe, records: Sequence[Record]) -> dict[str, Any]:
    source = next(one for one in recipe.data if one.name == name)
    return training_data(source, records).model_dump() | {"name": SLABS.format(name=name)}


def _of_slabs(entry: dict[str, Any]) -> bool:
    return str(entry["name"]).endswith(SLABS.format(name=""))


_SLAB_LIMIT = "Slabs of volumes are read by networks of their own"


def _limit(learned: Sequence[dict[str, Any]]) -> str:
    of = "; ".join(f"{one['women']:,} women, {one['images']:,} volumes from {one['name']}" for one in learned)
    nobody = " None of these women exists." if all(one["name"].startswith(SIMULATED) for one in learned) else ""
    return f"{_SLAB_LIMIT}, which learned from {of}.{nobody}"
