"""Label maps of other shapes: smooth random deformations without folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medgan.data.mask_gridding import label_values
from medgan.data.warps import exponential, smooth_noise
from medgan.volume import Volume

# How far a deformation stays alike, in units of its size: wide enough that no neighbours change places.
_SMOOTHNESS = 5.0
_SQUARINGS = 6
# In standard deviations of the smoothing.
_MARGIN = 2.0


def warped_mask(mask: Volume, size: float, seed: int | list[int]) -> Volume:
    """A label map deformed by the flow of a smooth random velocity; the grid stays.

    Args:
        mask: one channel of whole numbers.
        size: root mean square of the velocity, mm, and about that of the displacement; its Gaussian smoothness is five
            times that.
        seed: of the velocity.

    Raises:
        MedganError: the values are no labels.
    """
    labels = label_values(mask)
    rng, sides = np.random.default_rng(seed), np.asarray(mask.spacing)
    # The same in mm along every axis, whatever the voxels' sides; cut out of a larger field, because smoothed noise is
    # stronger near its faces.
    sigma = _SMOOTHNESS * size / sides
    x, y, z = np.ceil(_MARGIN * sigma).astype(int)
    larger = (mask.shape[0] + 2 * int(x), mask.shape[1] + 2 * int(y), mask.shape[2] + 2 * int(z))
    noise = [smooth_noise(rng, larger, sigma)[x:-x, y:-y, z:-z] for _ in range(3)]
    scales = [size / np.sqrt(3) / side / np.sqrt(np.mean(one**2)) for side, one in zip(sides, noise, strict=True)]
    velocity = np.stack([scale * one for scale, one in zip(scales, noise, strict=True)])
    return mask.with_data(nearest_at(labels, exponential(velocity, _SQUARINGS)), "warped")


def nearest_at(labels: NDArray[np.uint16], displacement: NDArray[np.float64]) -> NDArray[np.uint16]:
    """The labels (X, Y, Z) found by going from each voxel by its displacement (3, X, Y, Z), in voxels."""
    places = np.indices(labels.shape) + displacement
    nearest = [
        np.clip(np.rint(place), 0, length - 1).astype(np.intp)
        for place, length in zip(places, labels.shape, strict=True)
    ]
    return labels[tuple(nearest)]
