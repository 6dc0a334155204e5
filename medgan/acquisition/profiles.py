"""How one axis of a scan is sampled: matrices from a high-resolution grid to a low-resolution one.

Both grids cover the same field of view and are cell-centred: low sample i sits at the high-resolution index
(i + 1/2) * high / low - 1/2, for any two sizes. Beyond the field of view the scan is continued by half-sample
reflection, which is folded into the matrix, so that every row sums to one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medgan.acquisition.shapes import SliceProfile, SliceShape, shape_of

Array = NDArray[np.float64]
Matrix = Array


def low_centres(low: int, high: int) -> Array:
    """Where the low samples sit, as indices of the high-resolution grid; shape (low,)."""
    return (np.arange(low, dtype=np.float64) + 0.5) * (high / low) - 0.5


def reflected(indices: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Indices folded into 0 ... size - 1 by half-sample reflection (c b a | a b c | c b a)."""
    folded = np.mod(indices, 2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def effective_fwhm(thickness: float, voxel: float) -> float:
    """The FWHM, in voxels, that turns voxels of extent `voxel` mm into slices of `thickness` mm FWHM.

    A high-resolution voxel is no point: it is taken to have seen a slice of the same shape as the profile, as thin as
    the voxel. Whatever the shape, the variances of what is seen one after the other add, and they grow with the square
    of the width, so that sqrt(thickness^2 - voxel^2) is left: for a Gaussian exactly, for every other shape in its
    second moment. A slice that is no thicker than the voxel needs no blur: 0.
    """
    return float(np.sqrt(max(thickness**2 - voxel**2, 0.0)) / voxel)


def profile_matrix(
    low: int, high: int, *, fwhm: float, profile: str = "gaussian", measured: SliceProfile | None = None
) -> Matrix:
    """Slices with a profile, as averages of high-resolution voxels.

    Whatever the ratio of the grids and however thin the profile, constants and (away from the borders) linear ramps
    are kept, all weights are non-negative, and the weights of each sample have the variance asked for (or that of
    linear interpolation, if that is larger). In between:

    - "gaussian", "shinnar_le_roux" and "measured": the scan is linear between the centres of the high-resolution
      voxels and the profile is integrated over it exactly, not sampled at the voxels. The blur that linear
      interpolation itself causes is taken off the profile's width.
    - "rectangular": the scan is constant within each voxel. A slice as thick as k voxels that starts at a voxel's
      edge is their plain mean; between such cases the weights go from one to the next.

    Args:
        low: samples of the low-resolution axis.
        high: samples of the high-resolution axis.
        fwhm: full width at half maximum in high-resolution voxels, not counting the voxel's own extent
            (`effective_fwhm`); 0 is linear interpolation.
        profile: "gaussian", "rectangular", "shinnar_le_roux" or "measured".
        measured: the shape of "measured"; its own width plays no part.

    Returns:
        float64, shape (low, high).
    """
    centres = low_centres(low, high)
    first = np.floor(centres).astype(np.int64)
    # Rows that sit alike between the voxels have the same weights: for a whole factor there is one such row.
    fractions, row_of = np.unique(np.round(centres - first, 12), return_inverse=True)
    if profile == "rectangular":
        steps, weights = _rectangular_weights(fractions, fwhm)
    else:
        steps, weights = _integrated_profile(fractions, fwhm, shape_of(profile, measured))
    matrix = np.zeros((low, high))
    indices = first[:, None] + steps
    rows = np.broadcast_to(np.arange(low)[:, None], indices.shape)
    np.add.at(matrix, (rows, reflected(indices, high)), weights[row_of])
    return matrix / matrix.sum(axis=1, keepdims=True)


def _integrated_profile(fractions: Array, fwhm: float, shape: SliceShape) -> tuple[NDArray[np.int64], Array]:
    """Steps from the voxel before each centre, shape (taps,), and weights, (centres, taps), of a smooth profile."""
    reach = int(np.ceil(shape.reach * fwhm)) + 1
    steps = np.arange(-reach, reach + 2)
    offsets = steps - fractions[:, None]
    return steps, _integrated_weights(offsets, _narrowed(offsets, fwhm, shape), shape)


def _integrated_weights(offsets: Array, width: Array, shape: SliceShape) -> Array:
    """Integrals of a profile, one width for each row, times the hat of half-width 1 around each of its offsets."""
    ends = np.concatenate([offsets[:, :1] - 1, offsets, offsets[:, -1:] + 1], axis=1)
    return np.maximum(np.diff(shape.second_antiderivative(ends, width[:, None]), n=2, axis=1), 0.0)


def _narrowed(offsets: Array, fwhm: float, shape: SliceShape) -> Array:
    """The width of each row whose `_integrated_weights` have the variance of `fwhm`, at least 0.

    By false position (the Illinois rule) over the squared width, in which the variance is all but straight.
    """

    def excess(square: Array) -> Array:
        weights = _integrated_weights(offsets, np.sqrt(square), shape)
        return (weights * offsets**2).sum(axis=1) - shape.variance * fwhm**2

    lower, upper = np.zeros(len(offsets)), np.full(len(offsets), fwhm**2)
    below, above = excess(lower), excess(upper)
    # Where linear interpolation alone is too wide, nothing can be taken off.
    solvable = (below < 0) & (above > 0)
    middle = np.where(solvable, lower, np.where(below < 0, upper, 0.0))
    for _ in range(64):
        if not solvable.any():
            break
        middle = np.where(solvable, upper - above * (upper - lower) / np.where(solvable, above - below, 1.0), middle)
        value = excess(middle)
        crossed = value * above < 0
        lower, below = np.where(crossed, upper, lower), np.where(crossed, above, 0.5 * below)
        upper, above = middle, value
        solvable &= np.abs(value) > 1e-11 * (1.0 + fwhm**2)
    return np.sqrt(middle)


def _rectangular_weights(fractions: Array, fwhm: float) -> tuple[NDArray[np.int64], Array]:
    """Steps and weights as `_integrated_profile`: overlaps of whole numbers of voxels, blended to the right variance.

    The mean of k adjacent voxels, linearly interpolated, keeps ramps at every position, which the overlap with a box
    of any other width does not.
    """
    voxels = max(int(np.floor(np.sqrt(1.0 + fwhm**2) + 1e-9)), 1)
    reach = voxels // 2 + 2
    steps = np.arange(-reach, reach + 2)
    offsets = steps - fractions[:, None]
    counts = [max(voxels - 1, 1), voxels, voxels + 1]
    means = np.stack([np.clip((k + 1) / 2 - np.abs(offsets), 0.0, 1.0) / k for k in counts])
    variances = (means * offsets**2).sum(axis=-1)
    target = fwhm**2 / 12.0
    low = np.where(variances[1] <= target, 1, 0)
    row = np.arange(len(fractions))
    narrow, wide = variances[low, row], variances[low + 1, row]
    gap = np.where(wide - narrow > 1e-12, wide - narrow, 1.0)
    blend = np.clip((target - narrow) / gap, 0.0, 1.0)[:, None]
    return steps, (1.0 - blend) * means[low, row] + blend * means[low + 1, row]


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


def _raised_cosine(frequency: Array, taper: float) -> Array:
    """1 up to `frequency` 1 - taper, then half a cosine period down to 0 at frequency 1, the end of the band."""
    if taper == 0:
        return np.ones_like(frequency)
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((frequency - (1.0 - taper)) / taper, 0.0, 1.0))
