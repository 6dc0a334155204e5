"""Layers that show a discriminator how the volumes of a batch differ, so that a generator that makes one sample again
and again is found out.

Both tie the volumes of a batch together: real and generated ones must be judged in batches of their own, and a batch
of one volume has nothing to compare.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medgan.errors import MedganError

# Added to variances: the root is not differentiable at zero, where all volumes are equal.
_LEAST_VARIANCE = 1e-8


def group_size_for(batch_size: int, wanted: int) -> int:
    """Volumes per group when a batch is split evenly: the smallest divisor that is at least `wanted`, or all.

    Args:
        batch_size: volumes in the batch.
        wanted: fewest volumes per group, at least 2.

    Raises:
        MedganError: the batch has one volume.
    """
    if batch_size < 2:
        raise MedganError(
            f"minibatch statistics compare the volumes of a batch, and a batch of {batch_size} has none to compare",
            hint="Set training.batch_size to 2 or more, or network.minibatch_statistics=none.",
        )
    return next((size for size in range(wanted, batch_size) if batch_size % size == 0), batch_size)


class MinibatchDeviation(nn.Module):
    """Appends one channel: how much the features differ within groups of volumes (Karras et al. 2017, section 3).

    The standard deviation over a group, of each feature at each voxel, is averaged over features and voxels; every
    volume of the group sees that one number everywhere.

    Args:
        group_size: fewest volumes per group; see `group_size_for`.
    """

    added_channels = 1
    mixes_batch = True

    def __init__(self, group_size: int = 4) -> None:
        super().__init__()
        if group_size < 2:
            raise ValueError(f"a group needs at least 2 volumes, not {group_size}")
        self.group_size = group_size

    def forward(self, features: Tensor) -> Tensor:
        """Shape (B, C, X, Y, Z) to (B, C + 1, X, Y, Z).

        Raises:
            MedganError: the batch has one volume.
        """
        size = group_size_for(len(features), self.group_size)
        grouped = features.float().unflatten(0, (-1, size))
        variance = grouped.var(dim=1, correction=0)
        deviation = (variance + _LEAST_VARIANCE).sqrt().flatten(1).mean(1)
        seen = deviation.repeat_interleave(size).view(-1, 1, 1, 1, 1).to(features.dtype)
        return torch.cat((features, seen.expand(-1, -1, *features.shape[2:])), dim=1)


class MinibatchDiscrimination(nn.Module):
    """Appends `kernels` channels: how near the other volumes of the batch are (Salimans et al. 2016, section 3.2).

    Each kernel projects a volume's features to `kernel_size` numbers and reports the mean over the other volumes of
    exp(-L1 distance) between these. The paper sums over the batch, itself included; the mean over the others says
    the same and keeps its scale at any batch size.

    Args:
        features: numbers per volume, C * X * Y * Z.
        kernels: closenesses to report.
        kernel_size: numbers that each kernel compares.
    """

    mixes_batch = True

    def __init__(self, features: int, *, kernels: int = 16, kernel_size: int = 4) -> None:
        super().__init__()
        if min(features, kernels, kernel_size) < 1:
            raise ValueError(f"features {features}, kernels {kernels} and size {kernel_size} must be at least 1")
        self.added_channels, self.kernel_size = kernels, kernel_size
        # Distances of unit-variance features start at about one, where the exponential still has a slope.
        std = 1 / (math.sqrt(features) * kernel_size)
        self.projection = nn.Parameter(std * torch.randn(features, kernels * kernel_size))

    def closeness(self, features: Tensor) -> Tensor:
        """Shape (B, C, X, Y, Z) to (B, kernels), in (0, 1]; 1 where all volumes are equal.

        Raises:
            MedganError: the batch has one volume.
        """
        count = group_size_for(len(features), len(features))
        with torch.autocast(features.device.type, enabled=False):
            projected = features.flatten(1).float() @ self.projection.float()
            projected = projected.unflatten(1, (-1, self.kernel_size))
            distances = (projected[:, None] - projected[None]).abs().sum(-1)
            # A volume is at distance zero from itself, which counts one.
            return ((-distances).exp().sum(1) - 1) / (count - 1)

    def forward(self, features: Tensor) -> Tensor:
        """Shape (B, C, X, Y, Z) to (B, C + kernels, X, Y, Z); each closeness is the same at all voxels.

        Raises:
            MedganError: the batch has one volume.
        """
        seen = self.closeness(features)[:, :, None, None, None].to(features.dtype)
        return torch.cat((features, seen.expand(-1, -1, *features.shape[2:])), dim=1)
