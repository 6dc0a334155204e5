"""How noisy a scan is, from the scan alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The median absolute value of a standard normal variable.
_MEDIAN_OF_NORMAL = 0.6744897501960817
_FEWEST = 64
# Anatomy's part of the variance grows at least so many times from one level to the next: 7 to 16 times in the T1, T2
# and FLAIR scan of a brain, 1 mm; smooth intensities grow 64 times.
_LEAST_GROWTH = 4.0


def noise_level(voxels: NDArray[np.floating], plane: tuple[int, int]) -> float:
    """Standard deviation of white noise, from the diagonal wavelet coefficients of the scan's planes.

    The robust median estimate of Donoho and Johnstone (Biometrika 81(3):425, 1994), on Haar coefficients of 2 x 2
    voxels whose mean is above that of the scan: air is often masked or filtered, and has another kind of noise.
    Anatomy adds to the coefficients as well. White noise adds the same at each level, anatomy ever more; how fast that
    grows is seen at the next two levels, and what it comes to at the first is taken off. Noise that was smoothed, as
    by interpolation, comes out too low.

    Args:
        voxels: one channel, (X, Y, Z), in any unit.
        plane: two axes along which the voxels are as they were acquired.

    Returns:
        In the unit of the voxels; 0 where less than 64 coefficients of the third level are left.
    """
    planes = np.moveaxis(np.asarray(voxels, dtype=np.float32), plane, (0, 1))
    bright = float(planes.mean(dtype=np.float64))
    variances = []
    for level in range(3):
        planes, coefficients = _level(planes, bright)
        if coefficients.size < _FEWEST:
            return 0.0
        # Means instead of orthonormal sums: each level is 2 times smaller than the one before.
        variances.append(4.0**level * _robust_variance(coefficients))
    fine, middle, coarse = variances
    if middle <= fine:
        return float(np.sqrt(fine))
    growth = max((coarse - middle) / (middle - fine), _LEAST_GROWTH)
    return float(np.sqrt(max(fine - (middle - fine) / (growth - 1.0), 0.0)))


def _level(planes: NDArray[np.float32], bright: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means of 2 x 2 voxels, (X / 2, Y / 2, Z), and the orthonormal diagonal coefficients where they are bright."""
    whole = planes[: planes.shape[0] // 2 * 2, : planes.shape[1] // 2 * 2]
    a, b, c, d = whole[::2, ::2], whole[1::2, ::2], whole[::2, 1::2], whole[1::2, 1::2]
    mean = np.asarray((a + b + c + d) / 4, np.float32)
    return mean, np.asarray((a - b - c + d) / 2, np.float32)[mean > bright]


def _robust_variance(coefficients: NDArray[np.float32]) -> float:
    return (float(np.median(np.abs(coefficients))) / _MEDIAN_OF_NORMAL) ** 2
