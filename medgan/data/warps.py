"""Smooth maps of space without folds.

A displacement field here is an array (3, X, Y, Z): at each voxel of a grid, the displacement along the three array axes
in voxels of that grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medgan.geometry import Shape


def smooth_noise(rng: np.random.Generator, shape: Shape, sigma: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """A random field (X, Y, Z) of unit root mean square: white noise smoothed by a Gaussian of `sigma` voxels, one
    number for all axes or one for each.
    """
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(rng.standard_normal(shape), sigma, mode="nearest")
    return field / np.sqrt(np.mean(field**2))


def exponential(velocity: NDArray[np.float64], squarings: int = 5) -> NDArray[np.float64]:
    """The displacement field of the flow along a stationary velocity for one unit of time, by scaling and squaring.

    The flow of a smooth field is a diffeomorphism; `exponential(-velocity)` is its inverse. Source: V. Arsigny et al.,
    "A log-Euclidean framework for statistics on diffeomorphisms", MICCAI 2006.

    Args:
        velocity: (3, X, Y, Z), voxels per unit of time. Its largest length should be well under 2**squarings.
        squarings: how often the small first step is composed with itself.
    """
    displacement = velocity / 2**squarings
    for _ in range(squarings):
        displacement = displacement + sampled(displacement, _identity(displacement.shape[1:]) + displacement)
    return displacement


def sampled(field: NDArray, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The channels of `field` (C, X, Y, Z) at voxel `positions` (3, ...) by linear interpolation, (C, ...).

    Outside the field its border value is taken.
    """
    from scipy.ndimage import map_coordinates

    return np.stack([map_coordinates(channel, positions, order=1, mode="nearest") for channel in field])


def gradient_of_smoothed(mask: NDArray, sigma: float) -> NDArray[np.float64]:
    """The gradient (3, X, Y, Z) of a smoothed mask, scaled to a largest length of one; it points inwards.

    Args:
        mask: (X, Y, Z), 0 outside to 1 inside.
        sigma: standard deviation of the smoothing Gaussian in voxels.
    """
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(mask.astype(np.float64), sigma)
    gradient = np.stack(np.gradient(smooth))
    return gradient / np.sqrt((gradient**2).sum(axis=0)).max()


def jacobian_determinant(displacement: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much the map identity + `displacement` scales volume locally, (X, Y, Z); zero or negative at a fold."""
    gradients = np.stack([np.stack(np.gradient(component)) for component in displacement])
    matrices = np.moveaxis(gradients, (0, 1), (-2, -1)) + np.eye(3)
    return np.linalg.det(matrices)


def _identity(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float64) for n in shape), indexing="ij"))
