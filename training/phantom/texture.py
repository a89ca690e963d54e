"""Random fields with a power-law spectrum, as breast tissue has, and the measurement of their exponent.

The power spectrum of mammograms falls as frequency to the power of about -3 (Burgess, Med Phys 28:419, 2001); so does
the spectrum of breast CT volumes (Metheany et al., Med Phys 35:4685, 2008), as a thick projection keeps the exponent of
the volume.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft

from training.phantom.model import BoolArray, Float32Array


def power_law_noise(
    shape: tuple[int, ...],
    spacing_mm: float,
    exponent: float,
    rng: np.random.Generator,
    band_per_mm: tuple[float, float],
    stretch: tuple[float, ...] | None = None,
) -> Float32Array:
    """Gaussian field whose power falls as frequency^-`exponent` inside of `band_per_mm` (cycles/mm) and is 0 outside.

    float32 of `shape`, mean 0, standard deviation 1, periodic. `stretch`: by how much structures are longer along each
    axis. The lower edge of the band rolls off softly, so that no scale stands out.
    """
    stretches = stretch or (1.0,) * len(shape)
    white = rng.standard_normal(shape, dtype=np.float32)
    spectrum = scipy.fft.rfftn(white, overwrite_x=True)
    squared = np.zeros((1,) * len(shape), np.float32)
    for axis, (size, factor) in enumerate(zip(shape, stretches, strict=True)):
        last = axis == len(shape) - 1
        frequency = (np.fft.rfftfreq if last else np.fft.fftfreq)(size, spacing_mm) * factor
        line = [1] * len(shape)
        line[axis] = size // 2 + 1 if last else size
        squared = squared + (frequency**2).astype(np.float32).reshape(line)
    low, high = band_per_mm
    gain = (squared + np.float32(low**2)) ** np.float32(-exponent / 4)
    gain[squared > high**2] = 0.0
    gain.flat[0] = 0.0
    spectrum *= gain
    field: Float32Array = scipy.fft.irfftn(spectrum, shape, overwrite_x=True)
    field /= np.float32(field.std())
    return field


def spectral_exponent(
    image: npt.NDArray[np.floating],
    inside: BoolArray,
    pixel_mm: float,
    roi_mm: float = 25.6,
    band_per_mm: tuple[float, float] = (0.1, 1.0),
) -> float:
    """Exponent β of the radial power spectrum f^-β of a projection, as Burgess (2001) measures it.

    Regions of `roi_mm` that lie wholly `inside` (half overlapping) lose their mean, are weighted with a radial Hann
    window and transformed; their power spectra are averaged, and a line is fitted to the logarithms over `band_per_mm`.
    Raises ValueError when no region fits.
    """
    side = round(roi_mm / pixel_mm)
    centred = (np.arange(side) + 0.5) / side * 2 - 1
    window = np.cos(np.pi / 2 * np.minimum(np.hypot(centred[:, None], centred[None, :]), 1.0)) ** 2
    total = np.zeros((side, side // 2 + 1))
    regions = 0
    for top in range(0, image.shape[0] - side + 1, side // 2):
        for left in range(0, image.shape[1] - side + 1, side // 2):
            place = np.s_[top : top + side, left : left + side]
            if inside[place].all():
                roi = np.asarray(image[place], np.float64)
                roi = (roi - np.average(roi, weights=window)) * window
                total += np.abs(np.fft.rfft2(roi)) ** 2
                regions += 1
    if not regions:
        raise ValueError(f"no region of {roi_mm:g} mm lies wholly inside of the breast")
    frequency = np.hypot(np.fft.fftfreq(side, pixel_mm)[:, None], np.fft.rfftfreq(side, pixel_mm)[None, :])
    return -_slope_of_ring_means(frequency, total, band_per_mm, 1 / roi_mm)


def _slope_of_ring_means(
    frequency: npt.NDArray[np.floating], power: npt.NDArray[np.floating], band: tuple[float, float], width: float
) -> float:
    """Slope of log power against log frequency, each ring of one frequency step counting once."""
    ring = np.rint(frequency / width).astype(int).ravel()
    counts = np.maximum(np.bincount(ring), 1)
    means = np.bincount(ring, power.ravel()) / counts
    middles = np.bincount(ring, frequency.ravel()) / counts
    chosen = (middles >= band[0]) & (middles <= band[1])
    return float(np.polyfit(np.log(middles[chosen]), np.log(means[chosen]), 1)[0])
