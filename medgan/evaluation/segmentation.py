"""How well a segmentation meets the truth, label by label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medgan.geometry import Spacing

LabelMap = NDArray[np.integer]


def dice(truth: LabelMap, found: LabelMap, labels: Sequence[int]) -> NDArray[np.float64]:
    """The Dice coefficient 2 |A and B| / (|A| + |B|) of each label, shape (L,).

    NaN where the truth does not hold a label: there is nothing to find.

    Args:
        truth: (X, Y, Z).
        found: (X, Y, Z).
        labels: that count.
    """
    scores = []
    for label in labels:
        a, b = truth == label, found == label
        scores.append(2 * np.count_nonzero(a & b) / (a.sum() + b.sum()) if a.any() else np.nan)
    return np.array(scores, dtype=np.float64)


def surface_distance(truth: LabelMap, found: LabelMap, labels: Sequence[int], spacing: Spacing) -> NDArray[np.float64]:
    """The average symmetric surface distance of each label in mm, shape (L,).

    It is the mean over the voxels of both surfaces of the distance to the nearest of the other one; a surface voxel is
    one of whose six neighbours one is outside. NaN where the truth does not hold a label. A label that was not found at
    all counts the diagonal of the volume, so that finding nothing is never better than finding something.

    Args:
        truth: (X, Y, Z).
        found: (X, Y, Z).
        labels: that count.
        spacing: mm between voxels.
    """
    diagonal = float(np.linalg.norm(np.array(truth.shape) * np.array(spacing)))
    distances = []
    for label in labels:
        a, b = truth == label, found == label
        if not a.any():
            distances.append(np.nan)
        elif not b.any():
            distances.append(diagonal)
        else:
            both = [_to_surface(one, of_other, spacing) for one, of_other in ((a, b), (b, a))]
            distances.append(float(np.concatenate(both).mean()))
    return np.array(distances, dtype=np.float64)


def _to_surface(mask: NDArray[np.bool_], other: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.float64]:
    """From each surface voxel of one object to the nearest of the other's, mm."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~_surface(other), sampling=spacing)[_surface(mask)], dtype=np.float64)


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)
