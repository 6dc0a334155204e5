"""How noisy a scan is, from the scan alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The median absolute value of a standard normal variable.
_MEDIAN_OF_NORMAL = 0.6744897501960817
_FEWEST = 64


def noise_level(voxels: NDArray[np.floating], plane: tuple[int, int]) -> float:
    """Standard deviation of white noise, from the finest diagonal wavelet coefficients of the scan's planes.

    The robust median estimate of Donoho and Johnstone (Biometrika 81(3):425, 1994), on Haar coefficients of 2 x 2
    voxels whose mean is above that of the scan: air is often masked or filtered, and has another kind of noise. Fine
    texture counts as noise, so that a scan without any comes out a little above 0; noise that was smoothed, as by
    interpolation, comes out too low.

    Args:
        voxels: one channel, (X, Y, Z), in any unit.
        plane: two axes along which the voxels are as they were acquired.

    Returns:
        In the unit of the voxels; 0 where less than 64 coefficients are left.
    """
    turned = np.moveaxis(np.asarray(voxels, dtype=np.float32), plane, (0, 1))
    whole = turned[: turned.shape[0] // 2 * 2, : turned.shape[1] // 2 * 2]
    a, b, c, d = whole[::2, ::2], whole[1::2, ::2], whole[::2, 1::2], whole[1::2, 1::2]
    tissue = (a + b + c + d) / 4 > turned.mean(dtype=np.float64)
    coefficients = ((a - b - c + d) / 2)[tissue]
    if coefficients.size < _FEWEST:
        return 0.0
    return float(np.median(np.abs(coefficients))) / _MEDIAN_OF_NORMAL
