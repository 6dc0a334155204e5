"""How one axis of a scan is sampled: matrices from a high-resolution grid to a low-resolution one.

Both grids cover the same field of view and are cell-centred: low sample i sits at the high-resolution index
(i + 1/2) * high / low - 1/2, for any two sizes. Beyond the field of view the scan is continued by half-sample
reflection, which is folded into the matrix, so that every row sums to one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Matrix = NDArray[np.float64]

_FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
_REACH_IN_SIGMAS = 8.0


def low_centres(low: int, high: int) -> NDArray[np.float64]:
    """Where the low samples sit, as indices of the high-resolution grid; shape (low,)."""
    return (np.arange(low, dtype=np.float64) + 0.5) * (high / low) - 0.5


def reflected(indices: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Indices folded into 0 ... size - 1 by half-sample reflection (c b a | a b c | c b a)."""
    folded = np.mod(indices, 2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def effective_fwhm(thickness: float, voxel: float) -> float:
    """The FWHM, in voxels, that turns voxels of extent `voxel` mm into slices of `thickness` mm FWHM.

    A high-resolution voxel is no point: it has an extent of its own, and the variances of Gaussian profiles add. A
    slice that is no thicker than the voxel needs no blur: 0.
    """
    return float(np.sqrt(max(thickness**2 - voxel**2, 0.0)) / voxel)


def profile_matrix(low: int, high: int, *, fwhm: float) -> Matrix:
    """Slices with a Gaussian profile.

    The scan is linear between the centres of the high-resolution voxels and the profile is integrated over it in
    closed form, not sampled at the voxels: whatever the ratio of the grids and however thin the profile, constants and
    (away from the borders) linear ramps are kept and all weights are non-negative. The blur that linear interpolation
    itself causes is taken off the profile, so that the weights of each sample have the variance asked for (or that of
    linear interpolation, if that is larger).

    Args:
        low: samples of the low-resolution axis.
        high: samples of the high-resolution axis.
        fwhm: full width at half maximum in high-resolution voxels, not counting the voxel's own extent
            (`effective_fwhm`); 0 is linear interpolation.

    Returns:
        float64, shape (low, high).
    """
    sigma = fwhm / _FWHM_PER_SIGMA
    reach = int(np.ceil(_REACH_IN_SIGMAS * sigma)) + 1
    centres = low_centres(low, high)
    indices = np.floor(centres).astype(np.int64)[:, None] + np.arange(-reach, reach + 2)
    offsets = indices - centres[:, None]
    weights = _integrated_weights(offsets, _narrowed(offsets, sigma))
    matrix = np.zeros((low, high))
    rows = np.broadcast_to(np.arange(low)[:, None], indices.shape)
    np.add.at(matrix, (rows, reflected(indices, high)), weights)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _integrated_weights(offsets: NDArray[np.float64], sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integrals of a Gaussian, one sigma for each row, times the hat of half-width 1 around each of its offsets."""
    ends = np.concatenate([offsets[:, :1] - 1, offsets, offsets[:, -1:] + 1], axis=1)
    return np.maximum(np.diff(_second_antiderivative(ends, sigma[:, None]), n=2, axis=1), 0.0)


def _second_antiderivative(x: NDArray[np.float64], sigma: NDArray[np.float64]) -> NDArray[np.float64]:
    """The function whose second derivative is the normalised Gaussian (the Dirac impulse for sigma 0)."""
    width = np.where(sigma > 0, sigma, 1.0)
    z = x / width
    smooth = x * ndtr(z) + width * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return np.where(sigma > 0, smooth, np.maximum(x, 0.0))


def _narrowed(offsets: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """The sigma of each row whose `_integrated_weights` have the variance sigma squared, by bisection; at least 0."""
    lower, upper = np.zeros(len(offsets)), np.full(len(offsets), sigma)
    for _ in range(48):
        middle = 0.5 * (lower + upper)
        too_wide = (_integrated_weights(offsets, middle) * offsets**2).sum(axis=1) > sigma**2
        lower, upper = np.where(too_wide, lower, middle), np.where(too_wide, middle, upper)
    return lower


def band_limit_matrix(low: int, high: int, *, taper: float = 0.0) -> Matrix:
    """In-plane sampling: only the lowest `low` spatial frequencies are measured.

    The frequencies are those of the DCT-II, the real cosine series of the half-sample reflected scan: real by
    construction, no wrap from one border to the other, both borders treated alike, and scaled so that values (not
    sums) are kept.

    Args:
        low: samples of the low-resolution axis.
        high: samples of the high-resolution axis, at least `low`.
        taper: the upper part of the measured band, 0 to 1, that a raised cosine attenuates towards its end (against
            ringing).

    Returns:
        float64, shape (low, high).
    """
    frequencies = np.arange(low)
    analysis = np.cos(np.pi * frequencies[:, None] * (np.arange(high) + 0.5) / high) * (2.0 / high)
    analysis[0] /= 2.0
    synthesis = np.cos(np.pi * frequencies * (np.arange(low)[:, None] + 0.5) / low)
    return (synthesis * _raised_cosine(frequencies / low, taper)) @ analysis


def _raised_cosine(frequency: NDArray[np.float64], taper: float) -> NDArray[np.float64]:
    """1 up to `frequency` 1 - taper, then half a cosine period down to 0 at frequency 1, the end of the band."""
    if taper == 0:
        return np.ones_like(frequency)
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((frequency - (1.0 - taper)) / taper, 0.0, 1.0))
