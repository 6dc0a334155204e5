"""Whether voxels of synthetic scans are as bright and as dark, and as often, as those of real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

QUANTILES = 256


def intensity_quantiles(volume: NDArray[Any]) -> Floats:
    """Equally spaced quantiles of a volume's voxels, (256,): its distribution in few numbers of equal weight."""
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.asarray(np.quantile(np.asarray(volume, dtype=np.float32), levels), dtype=np.float64)


def intensity_distance(first: Floats, second: Floats) -> float:
    """Wasserstein-1 distance between two pools of equally weighted values of any shape, in their units."""
    from scipy.stats import wasserstein_distance

    if first.size == second.size:
        # Then the best transport pairs them in order, which is many times faster to compute.
        return float(np.abs(np.sort(first, axis=None) - np.sort(second, axis=None)).mean())
    return float(wasserstein_distance(first.ravel(), second.ravel()))
