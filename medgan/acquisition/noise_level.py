"""How noisy a scan is, from the scan alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The median absolute value of a standard normal variable.
_MEDIAN_OF_NORMAL = 0.6744897501960817
_FEWEST = 64
# How much more variance anatomy has in the diagonal coefficients of the second level than in those of the first;
# white noise has as much. Measured on the T1, T2 and FLAIR scan of a brain, 1 mm: 11, 8 and above 4.
_GROWTH = 8.0


def noise_level(voxels: NDArray[np.floating], plane: tuple[int, int]) -> float:
    """Standard deviation of white noise, from the diagonal wavelet coefficients of the scan's planes.

    The robust median estimate of Donoho and Johnstone (Biometrika 81(3):425, 1994), on Haar coefficients of 2 x 2
    voxels whose mean is above that of the scan: air is often masked or filtered, and has another kind of noise.
    Texture would count as noise; what it contributes is inferred from the next level, where it is stronger and noise
    is not. Noise that was smoothed, as by interpolation, comes out too low.

    Args:
        voxels: one channel, (X, Y, Z), in any unit.
        plane: two axes along which the voxels are as they were acquired.

    Returns:
        In the unit of the voxels; 0 where less than 64 coefficients of the second level are left.
    """
    turned = np.moveaxis(np.asarray(voxels, dtype=np.float32), plane, (0, 1))
    bright = float(turned.mean(dtype=np.float64))
    fine_mean, fine = _level(turned, bright)
    # Orthonormal: sums of two levels are twice the mean each.
    _, coarse = _level(2.0 * fine_mean, 2.0 * bright)
    if coarse.size < _FEWEST:
        return 0.0
    variance = (_GROWTH * _robust_variance(fine) - _robust_variance(coarse)) / (_GROWTH - 1.0)
    return float(np.sqrt(max(variance, 0.0)))


def _level(planes: NDArray[np.float32], bright: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means of 2 x 2 voxels, (X / 2, Y / 2, Z), and the orthonormal diagonal coefficients where they are bright."""
    whole = planes[: planes.shape[0] // 2 * 2, : planes.shape[1] // 2 * 2]
    a, b, c, d = whole[::2, ::2], whole[1::2, ::2], whole[::2, 1::2], whole[1::2, 1::2]
    mean = (a + b + c + d) / 4
    return np.asarray(mean, np.float32), np.asarray(((a - b - c + d) / 2)[mean > bright], np.float32)


def _robust_variance(coefficients: NDArray[np.float32]) -> float:
    return (float(np.median(np.abs(coefficients))) / _MEDIAN_OF_NORMAL) ** 2
