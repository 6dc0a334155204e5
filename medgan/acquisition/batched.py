"""Different acquisitions of equally large patches, applied to a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from medgan.acquisition.inverse import Matrix
from medgan.acquisition.operators import Acquisition, Role, axis_matrix
from medgan.errors import MedganError
from medgan.geometry import Shape


@dataclass(frozen=True)
class AcquisitionBatch:
    """One acquisition for each item of a batch, as stacked matrices; linear, differentiable, on any device.

    Items differ in their low-resolution size: smaller ones are filled up with zeros at the upper ends of their axes,
    which `measured` tells apart.

    Args:
        acquisitions: one per item, all of one high-resolution shape.

    Raises:
        MedganError: there is none, or the high-resolution shapes differ.
    """

    acquisitions: tuple[Acquisition, ...]

    def __post_init__(self) -> None:
        if len({acquisition.high_shape for acquisition in self.acquisitions}) != 1:
            raise MedganError("the acquisitions of a batch need one and the same high-resolution shape")

    @cached_property
    def low_shape(self) -> Shape:
        """The largest low-resolution size along each axis."""
        x, y, z = (max(sizes) for sizes in zip(*(one.low_shape for one in self.acquisitions), strict=True))
        return x, y, z

    def measured(self, device: torch.device) -> Tensor:
        """1 where an item has a low-resolution voxel, 0 where it is filled up: (B, 1, X, Y, Z)."""
        mask = torch.zeros(len(self.acquisitions), 1, *self.low_shape, device=device)
        for item, acquisition in enumerate(self.acquisitions):
            x, y, z = acquisition.low_shape
            mask[item, :, :x, :y, :z] = 1.0
        return mask

    def forward(self, x: Tensor) -> Tensor:
        """What each scanner measures of its item: (B, C, high shape) to (B, C, largest low shape)."""
        return self._applied(x, "forward")

    def adjoint(self, y: Tensor) -> Tensor:
        """The exact transpose of `forward`."""
        return self._applied(y, "adjoint")

    def inverse(self, y: Tensor) -> Tensor:
        """The smoothest volumes that explain `y`, each by its acquisition's own regularisation."""
        return self._applied(y, "inverse")

    def unmeasured(self, residual: Tensor) -> Tensor:
        """The part of `residual` (B, C, high shape) that the measurements can neither confirm nor deny: r - A+ A r."""
        return residual - self.inverse(self.forward(residual))

    def _applied(self, x: Tensor, role: Role) -> Tensor:
        if len(x) != len(self.acquisitions):
            raise ValueError(f"{len(self.acquisitions)} acquisitions for a batch of {len(x)}")
        with torch.autocast(x.device.type, enabled=False):
            for axis in range(3):
                if not all(one.axes[axis].is_identity for one in self.acquisitions):
                    x = _along(self._stacked(axis, role, x.dtype).to(x.device), x, axis)
        return x

    def _stacked(self, axis: int, role: Role, dtype: torch.dtype) -> Tensor:
        """The matrices of one axis, (B, rows, columns), filled up with zeros."""
        matrices = [_matrix(one, axis, role) for one in self.acquisitions]
        rows, columns = (max(matrix.shape[side] for matrix in matrices) for side in (0, 1))
        stacked = np.zeros((len(matrices), rows, columns))
        for item, matrix in enumerate(matrices):
            stacked[item, : matrix.shape[0], : matrix.shape[1]] = matrix
        return torch.as_tensor(stacked, dtype=dtype)


def batch_of(acquisitions: Sequence[Acquisition]) -> AcquisitionBatch:
    """The acquisitions of a batch's items, in their order."""
    return AcquisitionBatch(tuple(acquisitions))


def _matrix(acquisition: Acquisition, axis: int, role: Role) -> Matrix:
    """What `Acquisition` itself applies along an axis: nothing where sampling changes nothing."""
    sampling = acquisition.axes[axis]
    if sampling.is_identity:
        return np.eye(sampling.high)
    return axis_matrix(sampling, role, acquisition.regularisation if role == "inverse" else None)


def _along(matrices: Tensor, x: Tensor, axis: int) -> Tensor:
    """One matrix per item (B, rows, n) along spatial axis 0, 1 or 2 of x (B, C, X, Y, Z)."""
    if axis == 2:
        return x @ matrices[:, None, None].mT
    if axis == 1:
        return matrices[:, None, None] @ x
    return (matrices[:, None] @ x.flatten(-2)).unflatten(-1, x.shape[-2:])
