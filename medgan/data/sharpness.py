"""Which axes of a scan carry true detail: many volumes on an isotropic grid were interpolated from thick slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

_BAND = (0.2, 0.4)
_LEAST = 0.55
_MOST_VOXELS = 160


def detail_of_axes(voxels: NDArray[np.floating]) -> tuple[float, float, float]:
    """The energy of fine detail along each axis, relative to the axis that has most.

    Fine is what lies between 0.2 and 0.4 cycles per voxel, measured by the cosine series of the middle of the scan
    (at most 160 voxels a side).

    Args:
        voxels: one scan, (X, Y, Z); axes of one voxel count as having none.

    Returns:
        Three numbers from 0 to 1, the largest 1 (all 1 for a scan without any detail).
    """
    middle = tuple(
        slice((size - min(size, _MOST_VOXELS)) // 2, (size + min(size, _MOST_VOXELS)) // 2) for size in voxels.shape
    )
    block = np.asarray(voxels[middle], dtype=np.float32)
    energies = []
    for axis, size in enumerate(block.shape):
        coefficients = dct(block, axis=axis, norm="ortho")
        first, last = (round(2 * size * edge) for edge in _BAND)
        fine = coefficients.take(range(first, last), axis=axis)
        energies.append(float(np.square(fine).mean()) if size > 1 and last > first else 0.0)
    most = max(energies)
    x, y, z = (energy / most if most > 0 else 1.0 for energy in energies)
    return x, y, z


def sharp_axes(voxels: NDArray[np.floating]) -> tuple[int, ...]:
    """The axes with at least 55 % of the fine detail of the sharpest one; at least one axis."""
    return tuple(axis for axis, detail in enumerate(detail_of_axes(voxels)) if detail >= _LEAST)
