"""A bundle that was given slab networks: it is as before on 2D images, and its card says what the networks are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from screening.errors import ConfigError
from screening.model.bundle import CALIBRATION, WEIGHTS, Bundle, bundle_folder, load_bundle
from screening.model.calibration import SlabScale
from screening.model.slab_network import SlabNet
from tests.support.bundles import tiny_bundle
from tests.support.learning import volume
from training.slab_networks.bundle import write_with_slabs
from training.slab_networks.recipe import SlabRecipe
from training.slab_networks.train import with_slabs_read

SCALE = SlabScale(slope=0.5, intercept=-1.0, fitted_on="nothing")


def recipe(name: str = "simulated", licence: str = "") -> SlabRecipe:
    source = {"name": name, "root": ".", "licence": licence, "citation": licence}
    return SlabRecipe.model_validate(
        {"data": [source, source], "calibration": source, "channels": 8, "slab_mm": 7, "slab_step_mm": 3, "members": 1}
    )


def given_slabs(bundle: Bundle, made: SlabRecipe, seed: int = 0) -> Bundle:
    torch.manual_seed(seed)
    return with_slabs_read(bundle, made, [SlabNet(made.architecture)], SCALE)


@pytest.mark.parametrize("which", ["tiny", "of the package"])
def test_2d_images_are_read_by_the_very_same_bytes(tmp_path: Path, which: str) -> None:
    source = tiny_bundle(tmp_path / "tiny") if which == "tiny" else bundle_folder(None)
    before = load_bundle(source, torch.device("cpu"))
    write_with_slabs(given_slabs(before, recipe()), recipe(), [volume()], "9", tmp_path / "made")
    after = load_bundle(tmp_path / "made", torch.device("cpu"))
    assert (tmp_path / "made" / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    assert (tmp_path / "made" / CALIBRATION).read_bytes() != (source / CALIBRATION).read_bytes()
    assert after.calibration.model_copy(update={"slabs": None}) == before.calibration.model_copy(update={"slabs": None})
    assert after.card.architecture == before.card.architecture
    assert after.preparation == before.preparation
    assert after.model_id != before.model_id


def test_card_says_what_reads_slabs_how_they_are_cut_and_what_was_learned_from(tmp_path: Path) -> None:
    before = load_bundle(tiny_bundle(tmp_path / "tiny"), torch.device("cpu"))
    records = [volume(), replace(volume(), image="v2"), replace(volume(), woman="other")]
    write_with_slabs(given_slabs(before, recipe()), recipe(), records, "9", tmp_path / "made")
    card = load_bundle(tmp_path / "made").card
    assert card.version == "9"
    assert card.slab_network is not None
    assert card.slab_network.model_dump() == {
        "backbone": "tf_efficientnet_lite0",
        "stages": 5,
        "channels": 8,
        "neighbours": 2,
        "members": 1,
    }
    assert (card.preparation.slab_mm, card.preparation.slab_step_mm) == (7, 3)
    (data,) = card.training_data  # both sources are of one name
    assert (data.name, data.women, data.images) == ("simulated (volumes)", 2, 3)
    assert card.limits[:-1] == before.card.limits
    assert "2 women, 3 volumes from simulated (volumes). None of these women exists." in card.limits[-1]


def test_new_slab_networks_replace_the_old_ones_and_what_was_said_of_them(tmp_path: Path) -> None:
    start = load_bundle(tiny_bundle(tmp_path / "tiny"), torch.device("cpu"))
    write_with_slabs(given_slabs(start, recipe()), recipe(), [volume()], "9", tmp_path / "first")
    first = load_bundle(tmp_path / "first", torch.device("cpu"))
    own = recipe("own", "ours")
    records = [replace(volume(), dataset="own")]
    write_with_slabs(given_slabs(first, own, seed=1), own, records, "10", tmp_path / "second")
    second = load_bundle(tmp_path / "second").card
    assert [one.name for one in second.training_data] == ["own (volumes)"]
    assert len(second.limits) == len(first.card.limits)
    assert "1 women, 1 volumes from own (volumes)." in second.limits[-1]
    assert "exists" not in second.limits[-1]
    assert second.files != first.card.files


def test_set_without_a_licence_makes_no_bundle(tmp_path: Path) -> None:
    bundle = load_bundle(tiny_bundle(tmp_path / "tiny"), torch.device("cpu"))
    with pytest.raises(ConfigError, match="own: state its licence"):
        write_with_slabs(given_slabs(bundle, recipe("own")), recipe("own"), [volume()], "9", tmp_path / "made")
    assert not (tmp_path / "made").exists()
