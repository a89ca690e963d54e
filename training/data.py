"""The records of a recipe's data sets, prepared."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from screening.errors import ConfigError
from screening.imaging.prepare import Preparation
from training.cache import PreparedRecord, prepare_records
from training.datasets import read_dataset, require_training_allowed
from training.datasets.record import Record
from training.recipe import Recipe
from training.slabs import with_slabs
from training.splits import check_no_duplicate

LOG = logging.getLogger(__name__)


def read_records(recipe: Recipe) -> list[Record]:
    """Every record of the recipe's data sets. Raises `ConfigError` for a set that may not be trained on."""
    for source in recipe.data:
        require_training_allowed(source.name)
    records = [record for source in recipe.data for record in read_dataset(source.name, source.root)]
    if not records:
        raise ConfigError("data: the recipe names no data set with images")
    return records


def prepare_all(records: Sequence[Record], recipe: Recipe) -> list[PreparedRecord]:
    """Prepared copies of the records, of volumes as slabs; what cannot be prepared is named in the log and left out.

    Raises `ConfigError` where two women share an image.
    """
    prepared, problems = prepare_records(with_slabs(records), Preparation(recipe.pixel_spacing_mm), recipe.cache)
    for problem in problems:
        LOG.warning("left out: %s", problem)
    check_no_duplicate(prepared)
    return prepared
