"""A small model bundle for tests: no training, no download, and yet a heatmap that answers to bright spots.

A random network of 80,000 weights whose last layer is fitted by least squares to point at spots drawn into noise.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from screening.imaging.prepare import Preparation, prepare
from screening.model.bundle import CARD, save_bundle
from screening.model.calibration import Calibration, OperatingPoint
from screening.model.network import Architecture, Ensemble, MammogramNet
from tests.support.phantoms import spacing_mm, synthetic_mammogram

SPACING_MM = 0.8
"""Of the bundle's prepared pixels: coarse, so that an image takes milliseconds."""
ARCHITECTURE = Architecture(backbone="test_efficientnet", channels=96, whole=64)


def tiny_bundle(folder: Path) -> Path:
    """Save the bundle to `folder` (the same bytes each time on one machine) and return `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_bundle(folder, Ensemble([_network()]), calibration(), card())
    return folder


def calibration() -> Calibration:
    """A valid calibration; categories from 0.05 to 0.45 in steps of 0.05."""
    point = OperatingPoint(name="recall", per="exam", target="10 % of exams", threshold=0.2, chosen_on="nothing")
    thresholds: Any = tuple(round(0.05 * step, 2) for step in range(1, 10))
    return Calibration(
        slope=1.0,
        intercept=3.0,
        prevalence=0.006,
        fitted_on="nothing",
        category_thresholds=thresholds,
        categories_from="nothing",
        operating_points=(point,),
    )


def card(**changes: Any) -> dict[str, Any]:
    """The content of a valid `bundle.yaml` but for the file hashes."""
    return {
        "name": "spots",
        "version": "1",
        "architecture": {"backbone": ARCHITECTURE.backbone, "channels": 96, "whole": 64, "members": 1},
        "preparation": {"pixel_spacing_mm": SPACING_MM},
        "intents": ["FOR PRESENTATION"],
        "intended_use": "tests",
        "limits": ["It knows nothing of cancer."],
        "licence": "as this project",
        "training_data": [],
        "figures": [],
        **changes,
    }


def edit(file: Path, **changes: Any) -> None:
    """Change top-level keys of a YAML file; None deletes a key."""
    content = {**yaml.safe_load(file.read_text()), **changes}
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))


def seal(folder: Path) -> None:
    """Make the card's hashes true again, as somebody would who makes a bundle by hand."""
    names = yaml.safe_load((folder / CARD).read_text())["files"]
    edit(folder / CARD, files={name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names})


def _network() -> MammogramNet:
    network = MammogramNet(ARCHITECTURE)
    nn.init.normal_(network.context.weight, std=0.02)
    nn.init.normal_(network.density.weight, std=0.1)
    images, spots = _spots()
    # One pass in training mode sets the running statistics of normalisation, so that signals neither die nor explode.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
        network.eval()
        _fit_last_layer(network, images, 9 * spots - 6)
    return network


def _spots() -> tuple[Tensor, Tensor]:
    """Prepared phantoms (N, 1, 288, 160), a bright spot in each, and where the spots are at stride 8."""
    number, rows, columns = 32, 288, 160
    y, x = np.mgrid[:rows, :columns]
    images, spots = np.zeros((number, 1, rows, columns), np.float32), np.zeros((number, 1, rows, columns), np.float32)
    for index in range(number):
        phantom = synthetic_mammogram(400, 300, view=("CC", "MLO")[index % 2], seed=1000 + index)
        drawn = prepare(phantom, spacing_mm(400), Preparation(SPACING_MM))
        height, width = drawn.pixels.shape
        row, column = height * (0.3 + 0.4 * (index % 5) / 4), width * (0.15 + 0.45 * (index % 7) / 6)
        spots[index, 0] = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 5.0**2))
        images[index, 0, :height, :width] = drawn.pixels
    images = np.where(images > 0, np.minimum(images * 0.7 + 0.6 * spots, 1), 0)
    wanted = nn.functional.max_pool2d(torch.from_numpy(spots), MammogramNet.STRIDE)[:, 0]
    return torch.from_numpy(images), wanted


def _fit_last_layer(network: MammogramNet, images: Tensor, wanted: Tensor) -> None:
    """Ridge regression of the wanted logits (N, h, w) on the features that the last layer sees."""
    seen: list[Tensor] = []
    hook = network.local.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images)
    hook.remove()
    features = seen[0].permute(0, 2, 3, 1).reshape(-1, ARCHITECTURE.channels).double()
    features = torch.cat([features, torch.ones(len(features), 1).double()], dim=1)
    gram = features.T @ features + 1e-3 * torch.eye(features.shape[1]).double()
    solution = torch.linalg.solve(gram, features.T @ wanted.reshape(-1).double())
    network.local.weight.copy_(solution[:-1].float().reshape(1, -1, 1, 1))
    assert network.local.bias is not None
    network.local.bias.copy_(solution[-1:].float())
