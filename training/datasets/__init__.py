"""Public mammography datasets, one file each, all read into the same records.

`read_dataset("rsna", folder)` gives the records of a folder in its publisher's own layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from screening.errors import ConfigError
from training.datasets.cbis import read_cbis
from training.datasets.cesm import read_cesm
from training.datasets.csaw import read_csaw
from training.datasets.dbt import read_dbt
from training.datasets.embed import read_embed
from training.datasets.inbreast import read_inbreast
from training.datasets.mias import read_mias
from training.datasets.optimam import read_optimam
from training.datasets.record import Lesion, Record
from training.datasets.rsna import read_rsna
from training.datasets.simulated import read_simulated
from training.datasets.tables import require_file
from training.datasets.vindr import read_vindr

__all__ = ["ADAPTERS", "Adapter", "Lesion", "Record", "find_adapter", "read_dataset", "require_training_allowed"]


@dataclass(frozen=True)
class Adapter:
    """How to read one dataset, and whether models may be trained or tuned on it.

    `read_blind` reads the set where it came without truth, too; a set without one must be complete.
    """

    name: str
    read: Callable[[Path], list[Record]]
    read_blind: Callable[[Path], list[Record]] | None = None
    training_allowed: bool = True


ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        Adapter("mias", read_mias, partial(read_mias, truth=False)),
        Adapter("rsna", read_rsna, partial(read_rsna, truth=False)),
        Adapter("cesm", read_cesm, partial(read_cesm, truth=False)),
        Adapter("vindr", read_vindr),
        Adapter("cbis-ddsm", read_cbis),
        Adapter("inbreast", read_inbreast, training_allowed=False),
        Adapter("bcs-dbt", read_dbt),
        Adapter("embed", read_embed),
        Adapter("csaw-cc", read_csaw),
        Adapter("optimam", read_optimam),
        Adapter("simulated", read_simulated),
    )
}


def find_adapter(name: str) -> Adapter:
    """The adapter called `name`; raises `ConfigError` that lists the names there are."""
    if name not in ADAPTERS:
        raise ConfigError(f"There is no dataset called {name!r}; known are {', '.join(sorted(ADAPTERS))}.")
    return ADAPTERS[name]


def read_dataset(name: str, root: Path, *, truth: bool = True) -> list[Record]:
    """Every image of the dataset `name` under `root`, in the order of the publisher's tables.

    Without `truth` the records say neither who has cancer nor where; mask files may be missing, and of the sets with a
    `read_blind` the truth in the tables, too. Raises `ConfigError` that names the table, column, value, image or mask
    that is missing or malformed.
    """
    adapter = find_adapter(name)
    if not root.is_dir():
        raise ConfigError(f"The folder {root} of the dataset {name} does not exist.")
    if truth:
        records = adapter.read(root)
    else:
        read = adapter.read_blind or adapter.read
        records = [replace(record, malignant=None, lesions=None) for record in read(root)]
    for record in records:
        require_file(record.path, "image")
    named = {lesion.mask_path for record in records for lesion in record.lesions or () if lesion.mask_path}
    for mask in named:
        require_file(mask, "mask")
    return records


def require_training_allowed(name: str) -> None:
    """Raises `ConfigError` for a dataset that is kept for external evaluation: no training, no tuning."""
    if not find_adapter(name).training_allowed:
        raise ConfigError(f"The dataset {name} is for external evaluation only; take it out of the training recipe.")
