"""Whether a restored scan still says what the scanner measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from medgan.acquisition import Acquisition
from medgan.errors import MedganError


@dataclass(frozen=True)
class ConsistencyFigures:
    """How far the restored scan, acquired again, lies from the scan that was restored.

    Args:
        rmse: root mean square of A(restored) - measured, in the scan's units.
        relative: the same over the range of the measured scan.
        worst_slice: largest difference of a slice's mean along the axis that lost most samples, over that range.
        data_range: that range: 99.5th minus 0.5th percentile of the measured scan.
    """

    rmse: float
    relative: float
    worst_slice: float
    data_range: float

    def to_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return asdict(self)


def data_consistency(restored: ArrayLike, low: ArrayLike, acquisition: Acquisition) -> ConsistencyFigures:
    """Acquire the restored scan again and compare with what was measured: RMSE(A SR - LR).

    To be read against the noise of the measured scan: below it, the restored scan explains the measurement.

    Args:
        restored: (X, Y, Z) on the acquisition's high-resolution grid.
        low: (X, Y, Z), the measured scan on the low-resolution grid, same units.
        acquisition: the forward model.

    Raises:
        MedganError: a shape is not the acquisition's, or the measured scan is constant.
    """
    measured = torch.from_numpy(np.array(low, dtype=np.float64))
    if tuple(measured.shape) != tuple(acquisition.low_shape):
        raise MedganError(f"the measured scan has {tuple(measured.shape)} voxels, expected {acquisition.low_shape}")
    bottom, top = np.percentile(measured.numpy(), (0.5, 99.5))
    span = float(top - bottom)
    if not span > 0:
        raise MedganError("the measured scan is constant: it has no range to compare with")
    residual = acquisition.forward(torch.from_numpy(np.array(restored, dtype=np.float64))) - measured
    rmse = float(residual.square().mean().sqrt())
    axis = int(np.argmax(acquisition.factor))
    slices = residual.mean(dim=tuple(other for other in range(3) if other != axis))
    return ConsistencyFigures(rmse, rmse / span, float(slices.abs().max()) / span, span)
