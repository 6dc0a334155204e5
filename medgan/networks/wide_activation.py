"""A light restoring network: convolutions on the low-resolution grid, with wide features before each activation."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from medgan.networks.shuffle import Factors, ShuffleUpsampler, padded_to_multiples, pixel_unshuffle

# The correction is small beside the volume: this factor lets the last layer learn it at the pace of the others.
_CORRECTION_SCALE = 0.1
_LAST_SCALE = 0.1
# A factor is taken as a ratio of whole numbers, and tiles start at multiples of its numerator.
_LARGEST_DENOMINATOR = 8


class WideBlock(nn.Module):
    """Widen, activate, narrow linearly, then one spatial convolution; the result is added to the input.

    Only the pointwise layers are wide, so that width costs little (the second kind of block in Yu et al. 2018,
    arXiv:1808.08718).

    Args:
        channels: of input and output.
        expansion: how many times wider the features are at the activation.
        low_rank: channels that the linear layer leaves, as a share of `channels`.
    """

    recomputable = True

    def __init__(self, channels: int, expansion: int, low_rank: float) -> None:
        super().__init__()
        narrow = max(1, int(channels * low_rank))
        self.widen = nn.Conv3d(channels, channels * expansion, 1)
        self.narrow = nn.Conv3d(channels * expansion, narrow, 1)
        self.spatial = nn.Conv3d(narrow, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.widen.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.narrow.weight, nonlinearity="linear")
        nn.init.kaiming_normal_(self.spatial.weight, nonlinearity="linear")
        with torch.no_grad():
            self.spatial.weight.mul_(_LAST_SCALE)
        for layer in (self.widen, self.narrow, self.spatial):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, channels, X, Y, Z); same shape out."""
        return x + self.spatial(self.narrow(F.relu(self.widen(x), inplace=True)))


class WideActivationNetwork(nn.Module):
    """Adds to a volume what a regularised inverse of its acquisition could not recover, at low-resolution cost.

    The volume is on the high-resolution grid. Blocks of as many voxels as one low-resolution voxel covers become
    channels, so that convolutions run on the low-resolution grid along every axis; a per-axis pixel shuffle brings the
    residual back. A factor that is no whole number is worked on a grid with the next whole number of voxels in each
    block; fixed, cell-centred linear resizing leads there and back. No batch normalisation. The last layer starts at
    zero: an untrained network returns its input.

    Args:
        channels: width of the trunk.
        expansion: how many times wider the blocks are at their activation.
        low_rank: channels after the linear layer of a block, as a share of `channels`.
        blocks: residual blocks.
        factor: high-resolution voxels per low-resolution voxel along each axis, at least 1: ratios of whole numbers
            up to 8 in the denominator.
        weight_normalisation: whether the convolutions but the last one learn length and direction of their weights
            separately (Salimans and Kingma 2016), which allows larger learning rates.

    Raises:
        ValueError: a size or a factor is impossible.
    """

    def __init__(
        self,
        channels: int = 32,
        expansion: int = 6,
        low_rank: float = 0.8,
        blocks: int = 8,
        factor: Sequence[float] = (1.0, 1.0, 2.0),
        weight_normalisation: bool = False,
    ) -> None:
        super().__init__()
        if min(channels, expansion, blocks) < 1 or not 0 < low_rank <= 1:
            raise ValueError(
                f"impossible sizes: channels {channels}, expansion {expansion}, blocks {blocks}, low rank {low_rank}"
            )
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "expansion": expansion,
            "low_rank": low_rank,
            "blocks": blocks,
            "factor": [float(f) for f in factor],
            "weight_normalisation": weight_normalisation,
        }
        self._ratios = _whole_ratios(factor)
        x, y, z = (ceil(ratio) for ratio in self._ratios)
        self.packing: Factors = (x, y, z)
        self.head = nn.Conv3d(prod(self.packing), channels, 3, padding=1)
        self.body = nn.Sequential(*(WideBlock(channels, expansion, low_rank) for _ in range(blocks)))
        self.tail = ShuffleUpsampler(channels, 1, self.packing, zero=True)
        if weight_normalisation:
            for layer in (self.head, *self.body.modules()):
                if isinstance(layer, nn.Conv3d):
                    weight_norm(layer)

    @property
    def multiple(self) -> Factors:
        """Tiles must start at multiples of this many voxels along each axis to see the same blocks as the whole
        volume.
        """
        x, y, z = (ratio.numerator for ratio in self._ratios)
        return x, y, z

    @property
    def receptive_field(self) -> Factors:
        """The largest distance along each axis, in voxels, at which an input voxel can change an output voxel; along
        axes that are resized, an upper bound that exceeds it by at most three.
        """
        depth = len(self.body) + 2
        x, y, z = (
            int(ratio) * (depth + 1) - 1 if ratio.denominator == 1 else ceil(ratio * (depth + 1)) + 1
            for ratio in self._ratios
        )
        return x, y, z

    def forward(self, x: Tensor) -> Tensor:
        """The restored volume.

        Args:
            x: (B, 1, X, Y, Z) of any size, intensities of about 0 to 1.

        Returns:
            The same shape.
        """
        padded = padded_to_multiples(x, self.multiple)
        finer = [
            size // ratio.numerator * ratio.denominator * whole
            for size, ratio, whole in zip(padded.shape[-3:], self._ratios, self.packing, strict=True)
        ]
        features = self.head(pixel_unshuffle(_resized(padded, finer), self.packing))
        residual = _resized(self.tail(features + self.body(features)), padded.shape[-3:])
        x_size, y_size, z_size = x.shape[-3:]
        return x + _CORRECTION_SCALE * residual[..., :x_size, :y_size, :z_size]


def _resized(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """x (B, C, X, Y, Z) on a grid of `sizes` voxels with the same outer faces, by linear interpolation."""
    if tuple(x.shape[-3:]) == tuple(sizes):
        return x
    return F.interpolate(x, size=tuple(sizes), mode="trilinear", align_corners=False)


def _whole_ratios(factor: Sequence[float]) -> tuple[Fraction, ...]:
    """Each factor as a ratio of small whole numbers."""
    ratios = tuple(Fraction(float(f)).limit_denominator(_LARGEST_DENOMINATOR) for f in factor)
    close = all(abs(float(ratio) - f) < 1e-3 and ratio >= 1 for ratio, f in zip(ratios, factor, strict=True))
    if len(ratios) != 3 or not close:
        raise ValueError(
            f"the factor must be three ratios of whole numbers, at least 1 and with denominators of at most "
            f"{_LARGEST_DENOMINATOR}, not {tuple(factor)}"
        )
    return ratios
