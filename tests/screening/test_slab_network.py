"""Slabs read by a network of their own: what a bundle keeps of it, what it sees, and where findings then lie."""

from __future__ import annotations

import hashlib
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from screening.errors import BundleError
from screening.imaging.load import LoadedImage
from screening.imaging.load_volume import load_volume
from screening.model.bundle import CALIBRATION, CARD, SLAB_WEIGHTS, WEIGHTS, Bundle, load_bundle, save_bundle
from screening.model.calibration import SlabScale
from screening.model.forward import forward, forward_slabs
from screening.model.slab_network import SlabArchitecture, SlabEnsemble, SlabNet, with_neighbours
from screening.regions import OUTSIDE
from screening.result import Status
from screening.scoring import Prediction, predict_volume, score
from screening.site import load_site
from screening.sources.folder import read_folder
from tests.support.bundles import calibration, card, edit, seal
from tests.support.volumes import drawn_volume, write_volume

ARCHITECTURE = SlabArchitecture("test_efficientnet", channels=8, neighbours=1)
ON_CARD = {"backbone": "test_efficientnet", "stages": 5, "channels": 8, "neighbours": 1, "members": 2}
SCALE = SlabScale(slope=0.5, intercept=-1.0, fitted_on="nothing")
FRAMES = 24


def ensemble(seed: int = 1) -> SlabEnsemble:
    """Random networks whose answers differ from place to place."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SlabEnsemble([_network() for _ in range(ON_CARD["members"])], ARCHITECTURE).eval()  # type: ignore[call-overload]


def _network() -> SlabNet:
    network = SlabNet(ARCHITECTURE)
    nn.init.normal_(network.local.weight)
    # One pass in training mode sets the running statistics of normalisation, so that signals don't die.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.rand(4, ARCHITECTURE.inputs, 96, 64))
    return network


def save(folder: Path, bundle: Bundle, scale: SlabScale = SCALE, seed: int = 1) -> Path:
    """The tiny bundle with slab networks."""
    scaled = calibration().model_copy(update={"slabs": scale})
    save_bundle(folder, bundle.network, scaled, card(slab_network=ON_CARD), ensemble(seed))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    return save(tmp_path_factory.mktemp("slabs") / "bundle", bundle)


@pytest.fixture(scope="module")
def slabbed(folder: Path) -> Bundle:
    return load_bundle(folder, torch.device("cpu"))


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "bundle"))


# What goes in comes out


def test_saved_slab_networks_answer_as_before_but_for_their_packing(slabbed: Bundle) -> None:
    assert slabbed.slabs is not None
    assert slabbed.slabs.architecture == ARCHITECTURE
    assert slabbed.calibration.slabs == SCALE
    assert not slabbed.slabs.training
    slabs = torch.rand(2, ARCHITECTURE.inputs, 96, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        for before, after in zip(ensemble()(slabs), slabbed.slabs(slabs), strict=True):
            assert before.std() > 0.5
            assert (before - after).square().mean().sqrt() < 0.05 * before.std()


def test_slab_networks_and_their_scale_are_part_of_what_identifies_a_bundle(
    tmp_path: Path, bundle: Bundle, folder: Path, slabbed: Bundle
) -> None:
    other = load_bundle(save(tmp_path / "network", bundle, seed=2))
    shifted = load_bundle(save(tmp_path / "scale", bundle, SCALE.model_copy(update={"intercept": 0.0})))
    again = load_bundle(save(tmp_path / "again", bundle))
    assert len({one.model_id for one in (bundle, slabbed, other, shifted)}) == 4
    assert again.model_id == slabbed.model_id
    assert slabbed.card.files[SLAB_WEIGHTS] == hashlib.sha256((folder / SLAB_WEIGHTS).read_bytes()).hexdigest()
    assert {one.card.files[WEIGHTS] for one in (slabbed, other, shifted)} == {bundle.card.files[WEIGHTS]}


# What is refused


def test_missing_slab_weights_are_named(damaged: Path) -> None:
    (damaged / SLAB_WEIGHTS).unlink()
    with pytest.raises(BundleError, match=f"{SLAB_WEIGHTS}: cannot be read"):
        load_bundle(damaged)


def test_changed_slab_weights_are_named(damaged: Path) -> None:
    content = bytearray((damaged / SLAB_WEIGHTS).read_bytes())
    content[-1] ^= 1
    (damaged / SLAB_WEIGHTS).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=f"{SLAB_WEIGHTS}: was changed since the bundle was made"):
        load_bundle(damaged)


def test_slab_weights_that_the_card_does_not_vouch_for_are_refused(damaged: Path, slabbed: Bundle) -> None:
    edit(damaged / CARD, files={name: sha for name, sha in slabbed.card.files.items() if name != SLAB_WEIGHTS})
    with pytest.raises(BundleError, match=f"{SLAB_WEIGHTS}: was changed"):
        load_bundle(damaged)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_slab_weights_that_are_no_numbers_are_refused_even_under_a_true_hash(damaged: Path, value: float) -> None:
    weights = load_file(damaged / SLAB_WEIGHTS)
    weights["members.1.local.bias"].fill_(value)
    save_file(weights, damaged / SLAB_WEIGHTS)
    seal(damaged)
    with pytest.raises(BundleError, match=rf"{SLAB_WEIGHTS}: members\.1\.local\.bias holds values that are no numbers"):
        load_bundle(damaged)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"neighbours": 2}, f"{SLAB_WEIGHTS}: does not hold the weights"),
        ({"members": 1}, f"{SLAB_WEIGHTS}: does not hold the weights"),
        ({"backbone": "no_such_network"}, f"{CARD}: slab_network.backbone: timm cannot build 'no_such_network'"),
        ({"stages": 4}, f"{CARD}: slab_network.stages: Input should be greater than or equal to 5"),
        ({"colour": "blue"}, f"{CARD}: slab_network.colour: Extra inputs are not permitted"),
    ],
)
def test_slab_network_that_does_not_fit_its_card_is_one_sentence(
    damaged: Path, changes: dict[str, Any], sentence: str
) -> None:
    edit(damaged / CARD, slab_network=ON_CARD | changes)
    with pytest.raises(BundleError) as caught:
        load_bundle(damaged)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("file", "key"), [(CALIBRATION, "slabs"), (CARD, "slab_network")])
def test_neither_scale_nor_slab_network_goes_without_the_other(damaged: Path, file: str, key: str) -> None:
    edit(damaged / file, **{key: None})
    seal(damaged)
    with pytest.raises(BundleError, match=f"{CALIBRATION}: slabs: a slab network needs its scale"):
        load_bundle(damaged)


@pytest.mark.parametrize(("key", "value"), [("slope", 0.0), ("intercept", math.nan)])
def test_scale_that_turns_or_loses_the_answers_is_refused(damaged: Path, key: str, value: float) -> None:
    edit(damaged / CALIBRATION, slabs=SCALE.model_dump() | {key: value})
    seal(damaged)
    with pytest.raises(BundleError, match=rf"{CALIBRATION}: slabs\.{key}"):
        load_bundle(damaged)


# What the networks see and say


def test_slabs_at_either_end_stand_in_for_the_neighbours_that_they_lack() -> None:
    images = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    seen = with_neighbours(images, [0, 1, 3], 2)
    assert seen.shape == (3, 5, 2, 3)
    assert seen[:, :, 1, 2].tolist() == [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [1, 2, 3, 3, 3]]
    assert with_neighbours(images[:1], [0], 2)[:, :, 0, 0].tolist() == [[0] * 5]


def test_slab_networks_answer_at_stride_eight_with_the_mean_of_their_maps() -> None:
    together = ensemble()
    slabs = torch.rand(2, ARCHITECTURE.inputs, 96, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        answer = together(slabs)
        apart = [member(slabs) for member in together.members]
    assert answer.shape == (2, 12, 8)
    torch.testing.assert_close(answer, (apart[0] + apart[1]) / 2)


class Echo(SlabEnsemble):
    """Says twice the grey of the slab below and once that of the slab above as the logit of a cell."""

    def __init__(self) -> None:
        super().__init__([], SlabArchitecture(neighbours=1))

    def forward(self, slabs: Tensor) -> Tensor:
        cells = functional.avg_pool2d(slabs, 8)
        return 2 * cells[:, 0] + cells[:, 2]


def test_each_slab_is_read_between_its_neighbours_and_the_answer_scaled_within_the_breast(slabbed: Bundle) -> None:
    greys = np.array([0.2, 0.5, 0.9], np.float32)
    images = np.zeros((3, 50, 44), np.float32)
    images[:, :48, :40] = greys[:, None, None]
    answers = forward_slabs(images, replace(slabbed, slabs=Echo()))
    assert answers.logits.dtype == np.float32
    below, above = greys[[0, 0, 1]][:, None, None], greys[[1, 2, 2]][:, None, None]
    assert np.abs(answers.logits[:, :6, :5] - (SCALE.slope * (2 * below + above) + SCALE.intercept)).max() < 1e-5
    assert (answers.logits[:, 6:] == OUTSIDE).all()
    assert (answers.logits[:, :, 5:] == OUTSIDE).all()


def test_without_a_slab_network_each_slab_is_read_as_a_mammogram(bundle: Bundle) -> None:
    images = np.random.default_rng(4).uniform(0.1, 1, (3, 64, 64)).astype(np.float32)
    answers = forward_slabs(images, bundle)
    alone = [forward(image, bundle.for_slabs) for image in images]
    np.testing.assert_array_equal(answers.logits, [logits for logits, _ in alone])
    np.testing.assert_array_equal(answers.density, np.mean([density for _, density in alone], axis=0))


# Volumes, end to end


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volume(tmp_path_factory.mktemp("volume") / "v.dcm", drawn_volume(FRAMES, [(90, 200, 12)])).parent


@pytest.fixture(scope="module")
def loaded(volume: Path, slabbed: Bundle) -> LoadedImage:
    (image,) = read_folder(volume, load_site()).exams[0].images
    return load_volume(image, slabbed.preparation, slabbed.slabbing)


def predicted(loaded: LoadedImage, bundle: Bundle) -> Prediction:
    assert loaded.prepared is not None
    assert loaded.volume is not None
    return predict_volume(loaded.prepared, loaded.volume, bundle)


def test_volume_is_scored_by_its_slab_network(volume: Path, slabbed: Bundle, bundle: Bundle) -> None:
    (exam,) = read_folder(volume, load_site()).exams
    result, usual = score(exam, slabbed), score(exam, bundle)
    assert result.status is Status.SCORED
    assert result.model_id == slabbed.model_id
    assert result.regions
    for region in result.regions:
        assert 0 <= region.frame_first <= region.frame_peak <= region.frame_last < FRAMES
    assert result.score == max(region.score for region in result.regions)
    assert result.score != usual.score
    heat = result.images[0].heatmap
    assert heat is not None
    assert heat.frames is not None
    np.testing.assert_array_equal(heat.frames >= 0, heat.values > 0)
    assert heat.frames.max() < FRAMES


def test_logits_are_on_the_scale_of_the_calibration(loaded: LoadedImage, slabbed: Bundle) -> None:
    def told(slope: float, intercept: float) -> npt.NDArray[np.float32]:
        scale = SlabScale(slope=slope, intercept=intercept, fitted_on="nothing")
        scaled = slabbed.calibration.model_copy(update={"slabs": scale})
        logits = predicted(loaded, replace(slabbed, calibration=scaled)).logits
        return logits[logits > OUTSIDE / 2]

    np.testing.assert_allclose(told(0.25, -3), 0.25 * told(1, 0) - 3, atol=1e-5)


def test_density_is_that_of_the_projection_of_all_slabs(loaded: LoadedImage, slabbed: Bundle) -> None:
    assert loaded.volume is not None
    found = predicted(loaded, slabbed).density
    images = loaded.volume.images
    _, expected = forward(images.mean(axis=0), slabbed.for_slabs)
    np.testing.assert_array_equal(found, expected)
    by_slab = np.mean([forward(image, slabbed.for_slabs)[1] for image in images], axis=0)
    assert np.abs(found - by_slab).max() > 1e-4


def test_only_where_a_network_for_2d_images_read_the_slabs_is_the_frame_looked_for_in_the_pixels(
    loaded: LoadedImage, slabbed: Bundle, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def first(*given: Any) -> int:
        asked.append(given[-1])
        return int(given[-1][0])

    monkeypatch.setattr("screening.scoring.best_place", first)
    predicted(loaded, slabbed)
    assert not asked
    found = predicted(loaded, bundle).candidates
    assert [one.frames[2] for one in found] == [low for low, _ in asked]
