"""How well a lesion can be seen in a projection: its contrast against the tissue around it that looks alike.

A lesion is seen when its signal exceeds the noise several times (Rose, J Opt Soc Am 1948;38:196). In mammograms the
noise is above all the anatomy (Burgess et al., Med Phys 2001;28:419). Both are measured here in channels of differences
of Gaussians, from fine lines and grains to the body of a mass, as in channelised observers (Myers & Barrett, J Opt Soc
Am A 1987;4:2447), with the lesion itself as the template in each.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter, minimum_filter
from scipy.signal import oaconvolve

from training.phantom.model import BoolArray, Float32Array

Visibility = Literal["false_negative", "minimal_sign", "occult"]

VISIBLE_FROM, SIGN_FROM = 3.5, 2.5
"""Conspicuity from which a cancer that was missed should have been seen, as most readers would have recalled it, and
from which one who knows its place sees a sign of it. Of the exams before interval and next-round cancers, that leaves
about one in ten false negative and as many with a minimal sign: fewer than in published reviews (20 to 25 % of interval
cancers false negative: Houssami & Hunter 2017, doi:10.1038/s41523-017-0014-x)."""

_CHANNELS_MM = (0.15, 0.5, 1.5, 5.0)  # standard deviations between which each channel lies
_PHOTONS_PER_MM2 = 8e3  # of a typical dose behind the breast, less what scatter, detector and eye lose
_PLACES = 60  # with fewer places to compare with, the noise is taken from all of the surroundings
_EFFICIENCY = 0.6  # of a reader's eye, against the template's signal-to-noise ratio


def conspicuity(signal: Float32Array, background: Float32Array, pixel_mm: float) -> float:
    """Contrast-to-noise ratio of a lesion, over all channels.

    `signal`, `background`: (rows, columns), line integrals of attenuation of the lesion and of the breast without it,
    0 outside of the breast. The signal-to-noise ratios of the channels add up in squares; 0 if nothing shows.
    """
    inside = background > 0.05
    if not inside.any() or not signal.any():
        return 0.0
    of_signal, of_tissue = _channels(signal, inside, pixel_mm), _channels(background, inside, pixel_mm)
    ratios = [
        _ratio(template, tissue, _comparable(inside, pixel_mm, width), pixel_mm)
        for template, tissue, width in zip(of_signal, of_tissue, _CHANNELS_MM[1:], strict=True)
    ]
    return _EFFICIENCY * float(np.sqrt(np.sum(np.square(ratios))))


def visibility(conspicuity: float) -> Visibility:
    """What a reader who knows of the cancer says of an earlier exam on which it has this conspicuity."""
    if conspicuity >= VISIBLE_FROM:
        return "false_negative"
    return "minimal_sign" if conspicuity >= SIGN_FROM else "occult"


def _channels(image: Float32Array, inside: BoolArray, pixel_mm: float) -> list[Float32Array]:
    """The image between each two neighbouring widths; blurred within the breast, so that its edge makes no step."""
    mask = inside.astype(np.float32)
    blurred: list[Float32Array] = []
    for width in _CHANNELS_MM:
        sigma = width / pixel_mm
        coverage = np.maximum(gaussian_filter(mask, sigma, mode="constant", truncate=3), 1e-3)
        within = gaussian_filter(image * mask, sigma, mode="constant", truncate=3)
        blurred.append(np.asarray(within / coverage * mask, dtype=np.float32))
    return [fine - wide for fine, wide in pairwise(blurred)]


def _ratio(template: Float32Array, tissue: Float32Array, places: BoolArray, pixel_mm: float) -> float:
    """Response to the lesion against the spread of responses to tissue at other places and to quantum noise."""
    power = float(np.square(template, dtype=np.float64).sum())
    if power <= 0:
        return 0.0
    response = oaconvolve(tissue, _trimmed(template)[::-1, ::-1], mode="same")
    anatomy = float(np.var(response[places], dtype=np.float64))
    return power / float(np.sqrt(anatomy + power / (_PHOTONS_PER_MM2 * pixel_mm**2)))


def _trimmed(template: Float32Array) -> Float32Array:
    """The part of the template that is not next to nothing, so that its middle is the lesion's."""
    rows, columns = np.nonzero(np.abs(template) > 1e-2 * np.abs(template).max())
    return template[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _comparable(inside: BoolArray, pixel_mm: float, width_mm: float) -> BoolArray:
    """Places that lie within the breast with their surroundings."""
    side = 2 * int(np.ceil(width_mm / pixel_mm)) + 1
    deep = np.asarray(minimum_filter(inside, size=side, mode="constant", cval=0))
    return deep if int(deep.sum()) >= _PLACES else inside
