"""A site's images against those that the model learned from: equipment, spacing, grey levels, breast and intensity."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from screening.acceptance.checks import Check, Verdict, graded
from screening.acceptance.image_reference import LEVELS, SPACING, ImageGroup, ImageReference
from screening.acceptance.measures import Measures


@dataclass(frozen=True)
class Comparison:
    """One measure of the site's images against the training images.

    `levels`: quantiles of the site's, at `LEVELS`; `outside`: share of them beyond the training's 1st and 99th
    percentile, of which 2 % are expected.
    """

    name: str
    title: str
    unit: str
    images: int
    levels: tuple[float, ...]
    training: tuple[float, ...]
    outside: float


TITLES = {
    "breast_area_cm2": ("Breast area in the image", "cm²"),
    "brightness": ("Mean brightness of the prepared breast", "0 to 1"),
    "contrast": ("Contrast of the prepared breast (standard deviation)", "0 to 1"),
    "detail": ("Fine detail of the prepared breast (Laplacian over contrast)", "ratio"),
}


def spacing(spacings: Sequence[float], reference: ImageReference | None, prepared_mm: float) -> Check:
    """Whether the images are as fine as the network sees them. `spacings`: mm, the larger of both directions."""
    coarse = sum(value > prepared_mm for value in spacings)
    most = max(prepared_mm, reference.all.quantiles[SPACING][-1] if reference else prepared_mm)
    beyond = sum(value > most for value in spacings)
    found = f"{min(spacings):.3f} to {max(spacings):.3f} mm" if spacings else "no image was scored"
    trained = ""
    if reference:
        low, *_, high = reference.all.quantiles[SPACING]
        trained = f"; training images, as published, {low:.3f} to {high:.3f} mm"
    return Check(
        "Pixel spacing",
        f"no image coarser than the {prepared_mm:g} mm that the network sees (attention up to {most:.3g} mm, as the "
        "coarsest training images)",
        f"{found}; {coarse} of {len(spacings)} images are coarser{trained}",
        Verdict.FAIL if beyond or not spacings else Verdict.ATTENTION if coarse else Verdict.PASS,
    )


def bit_depth(bits: Mapping[int, int], reference: ImageReference | None) -> Check:
    """Whether the images have as many grey levels as the training images. `bits`: images by Bits Stored."""
    fewest = min(reference.all.bits) if reference else 8
    found = ", ".join(f"{number} bits: {count} images" for number, count in sorted(bits.items()))
    trained = f"; training images: {', '.join(map(str, reference.all.bits))}" if reference else ""
    return Check(
        "Bit depth",
        f"at least {fewest} bits stored, as the training images",
        (found or "no image was scored") + trained,
        Verdict.PASS if bits and min(bits) >= fewest else Verdict.FAIL,
    )


def manufacturers(found: Collection[str], reference: ImageReference | None) -> Check:
    """Whether the model has seen images of this equipment."""
    known = {_maker(name) for name in reference.all.manufacturers} if reference else set()
    new = sorted({name or "not stated" for name in found if _maker(name) not in known})
    trained = ", ".join(f"{name} ({count})" for name, count in reference.all.manufacturers.items()) if reference else ""
    return Check(
        "Equipment that the model learned from",
        "every manufacturer is among those of the training images" + (f": {trained}" if trained else ""),
        f"not among them: {', '.join(new)}" if new else "all are among them",
        Verdict.ATTENTION if new else Verdict.PASS,
    )


def _maker(name: str) -> str:
    """The word that stays the same in a manufacturer's names: "HOLOGIC, Inc." and "Hologic" are one."""
    return next(iter(re.findall(r"[a-z0-9]+", name.lower())), "")


def compare(measures: Sequence[Measures], group: ImageGroup) -> tuple[Comparison, ...]:
    """Each measure of the site's images against the same of the training images; none without images."""
    found = []
    for name, (title, unit) in TITLES.items():
        values = np.array([getattr(one, name) for one in measures])
        if values.size:
            training = group.quantiles[name]
            outside = float(np.mean((values < training[0]) | (values > training[-1])))
            levels = tuple(float(q) for q in np.quantile(values, LEVELS))
            found.append(Comparison(name, title, unit, len(values), levels, training, outside))
    return tuple(found)


def resembles(comparison: Comparison) -> Check:
    """Whether a measure lies where the training images' does."""
    middle, low, high = comparison.levels[len(LEVELS) // 2], comparison.training[0], comparison.training[-1]
    return Check(
        comparison.title,
        f"at most 10 % of the images beyond the middle 98 % of the training images, {low:.3g} to {high:.3g} "
        f"(attention up to 50 %)",
        f"{comparison.outside:.1%} of {comparison.images} images are beyond; median {middle:.3g}, "
        f"training {comparison.training[len(LEVELS) // 2]:.3g}",
        graded(comparison.outside, 0.10, 0.50),
    )


def no_comparison(reason: str) -> Check:
    """Stands for the comparisons that could not be made."""
    return Check(
        "Breast area and intensity",
        "as in the training images",
        f"not compared: {reason}",
        Verdict.ATTENTION,
    )
