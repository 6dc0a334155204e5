"""A network that turns volumes into volumes of the same shape: a U-shape of residual blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.networks.haar import haar, inverse_haar
from medgan.networks.residual_dense import padded_to_multiple

_SLOPE = 0.2
_LAST_SCALE = 0.1
_BANDS = 8
# The mean sub-band of normalised scans is about ten times larger than the others, which hold the edges.
_BAND_SCALES = (0.35, *(4.0,) * (_BANDS - 1))
_KERNEL = 3


class _Block(nn.Module):
    """Adds two convolutions of what it is given; with instance normalisation after each if asked for."""

    recomputable = True

    def __init__(self, channels: int, normalised: bool) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, _KERNEL, padding=1)
        self.second = nn.Conv3d(channels, channels, _KERNEL, padding=1)
        self.norms = nn.ModuleList(
            nn.InstanceNorm3d(channels, affine=True) if normalised else nn.Identity() for _ in range(2)
        )
        nn.init.kaiming_normal_(self.first.weight, a=_SLOPE)
        nn.init.kaiming_normal_(self.second.weight, a=_SLOPE)
        with torch.no_grad():
            self.second.weight.mul_(_LAST_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, X, Y, Z) in and out."""
        features = F.leaky_relu(self.norms[0](self.first(x)), _SLOPE)
        return x + self.norms[1](self.second(features))


class ResidualUNet(nn.Module):
    """Volumes of one contrast to volumes of another (the U-shape is that of Ronneberger et al. 2015).

    Halving averages blocks of two voxels and doubling interpolates linearly before it convolves, so that a flat volume
    stays flat: the checkerboard of transposed convolutions cannot arise. With `haar_head` all of it happens on the
    eight Haar sub-bands at half the resolution, for an eighth of the cost; the last layer may then write a pattern of
    two voxels, which training has to keep at zero.

    Without normalisation a voxel depends on its surroundings alone, so that tiles with a halo of `receptive_field` give
    what the whole volume gives. Instance normalisation ties each voxel to the statistics of all that is seen at once:
    tiles would differ from the whole, and `is_local` is False.

    Args:
        channels: at the finest resolution; they double with each halving.
        levels: resolutions.
        blocks: residual blocks at each resolution, on the way down and up.
        haar_head: work on Haar sub-bands.
        normalisation: "none" or "instance".

    Raises:
        ValueError: a size is below 1, or there is no such normalisation.
    """

    def __init__(
        self,
        channels: int = 16,
        levels: int = 3,
        blocks: int = 1,
        haar_head: bool = False,
        normalisation: str = "none",
    ) -> None:
        super().__init__()
        if min(channels, levels, blocks) < 1 or normalisation not in ("none", "instance"):
            raise ValueError(f"impossible: {channels} channels, {levels} levels, {blocks} blocks, {normalisation}")
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "levels": levels,
            "blocks": blocks,
            "haar_head": haar_head,
            "normalisation": normalisation,
        }
        widths = [channels * 2**level for level in range(levels)]
        normalised = normalisation == "instance"
        outside = _BANDS if haar_head else 1
        self.head = nn.Conv3d(outside, channels, _KERNEL, padding=1)
        self.down = nn.ModuleList(_blocks(width, blocks, normalised) for width in widths[:-1])
        self.bottom = _blocks(widths[-1], 2 * blocks, normalised)
        self.up = nn.ModuleList(_blocks(width, blocks, normalised) for width in widths[:-1])
        self.widen = nn.ModuleList(nn.Conv3d(width, 2 * width, 1) for width in widths[:-1])
        self.narrow = nn.ModuleList(nn.Conv3d(2 * width, width, 1) for width in widths[:-1])
        self.tail = nn.Conv3d(channels, outside, _KERNEL, padding=1)
        scales = torch.tensor(_BAND_SCALES).view(1, _BANDS, 1, 1, 1)
        self.register_buffer("scales", scales if haar_head else None, persistent=False)

    @property
    def _cell(self) -> int:
        """Voxels along an axis of the volume for one at the finest resolution of the features."""
        return 2 if self.arguments["haar_head"] else 1

    @property
    def is_local(self) -> bool:
        """Whether a voxel of the result depends on its surroundings alone."""
        return self.arguments["normalisation"] == "none"

    @property
    def multiple(self) -> int:
        """Tiles must start at multiples of this many voxels to see the same coarse voxels as the whole volume."""
        return self._cell * 2 ** (self.arguments["levels"] - 1)

    @property
    def receptive_field(self) -> int:
        """A distance along an axis, in voxels, beyond which no input voxel changes an output voxel, without
        normalisation.
        """
        blocks, levels = self.arguments["blocks"], self.arguments["levels"]
        # Two convolutions a block; head and tail; within a coarse voxel, and from one to its neighbours, at each level.
        reach = 2 + 4 * blocks * 2 ** (levels - 1)
        for level in range(levels - 1):
            reach += 4 * blocks * 2**level + 4 * 2**level
        return self._cell * reach + self._cell - 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, X, Y, Z) of any size, intensities of about 0 to 1, in and out."""
        sizes = x.shape[-3:]
        x = padded_to_multiple(x, self.multiple)
        scales: Tensor | None = self.scales  # type: ignore[assignment]
        if scales is not None:
            x = haar(x) * scales
        features = self.head(x)
        passed = []
        for blocks, widen in zip(self.down, self.widen, strict=True):
            features = blocks(features)
            passed.append(features)
            features = widen(_halved(features))
        features = self.bottom(features)
        for blocks, narrow, beside in reversed(list(zip(self.up, self.narrow, passed, strict=True))):
            features = blocks(beside + _doubled(narrow(features)))
        x = self.tail(F.leaky_relu(features, _SLOPE))
        if scales is not None:
            x = inverse_haar(x / scales)
        return x[..., : sizes[0], : sizes[1], : sizes[2]]


def _blocks(width: int, count: int, normalised: bool) -> nn.Sequential:
    return nn.Sequential(*(_Block(width, normalised) for _ in range(count)))


def _halved(x: Tensor) -> Tensor:
    """Means of blocks of two along the three last axes, whose sizes are even."""
    for axis in (2, 3, 4):
        even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
        x = 0.5 * (even + odd)
    return x


def _doubled(x: Tensor) -> Tensor:
    """Twice as many samples along the three last axes, by linear interpolation between cell centres with the last
    sample held; unlike the built-in one its gradient is deterministic on every device.
    """
    for axis in (2, 3, 4):
        size = x.shape[axis]
        before = torch.cat((x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)), dim=axis)
        after = torch.cat((x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)), dim=axis)
        x = torch.stack((0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after), dim=axis + 1).flatten(axis, axis + 1)
    return x
