"""The intensity range in which networks work, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError

if TYPE_CHECKING:
    import torch

Voxels = TypeVar("Voxels", "NDArray[np.float32]", "torch.Tensor")

# Wide enough for vessels, fat or metal outside the percentiles, narrow enough that no single voxel rules a loss.
LOWEST, HIGHEST = -1.0, 4.0


def normalise(voxels: Voxels, low: float, high: float) -> Voxels:
    """Voxels so that `low` becomes 0 and `high` 1, kept within -1 to 4.

    Args:
        voxels: any shape, in the scan's units; numpy or torch.
        low: the scan's 0.5th percentile.
        high: the scan's 99.5th percentile.

    Raises:
        MedganError: `high` is not above `low`.
    """
    return ((voxels - low) / _range(low, high)).clip(LOWEST, HIGHEST)


def denormalise(voxels: Voxels, low: float, high: float) -> Voxels:
    """The inverse of `normalise` (but for voxels that it had to bound)."""
    return voxels * _range(low, high) + low


def _range(low: float, high: float) -> float:
    if not high > low:
        raise MedganError(f"an intensity range needs its upper end above its lower one, this is {low} to {high}")
    return high - low
