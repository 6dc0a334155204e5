"""The residual-in-residual dense network in 3D, as a correction of a volume that is already on the high-resolution
grid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan.networks.shuffle import padded_to_multiples, pixel_shuffle, pixel_unshuffle

_SLOPE = 0.2
_RESIDUAL_SCALE = 0.2
# The correction is small beside the volume: this factor lets the last layer learn it at the pace of the others.
_CORRECTION_SCALE = 0.1
_LAST_SCALE = 0.1


def space_to_depth(x: Tensor, packing: int) -> Tensor:
    """Cubes of `packing` voxels a side become channels: (B, C, X, Y, Z) to (B, C * packing^3, X / packing, ...)."""
    return pixel_unshuffle(x, (packing, packing, packing))


def depth_to_space(x: Tensor, packing: int) -> Tensor:
    """The inverse of `space_to_depth`: (B, C * packing^3, X, Y, Z) to (B, C, X * packing, ...)."""
    return pixel_shuffle(x, (packing, packing, packing))


def padded_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """The three last axes continued by half-sample reflection at their ends, up to the next multiple."""
    return padded_to_multiples(x, (multiple, multiple, multiple))


class DenseBlock(nn.Module):
    """Convolutions that each see all results before them; the last one's output, scaled, is added to the input.

    Args:
        channels: of input and output.
        growth: channels that each convolution but the last one adds.
        convolutions: how many, at least one.
        residual_scale: the factor on the output.
    """

    recomputable = True

    def __init__(self, channels: int, growth: int, convolutions: int, residual_scale: float) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        widths = [growth] * (convolutions - 1) + [channels]
        *first, self.last = (nn.Conv3d(channels + i * growth, width, 3, padding=1) for i, width in enumerate(widths))
        self.first = nn.ModuleList(first)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, channels, X, Y, Z); same shape out."""
        features = [x]
        for convolution in self.first:
            features.append(F.leaky_relu(convolution(torch.cat(features, dim=1)), _SLOPE))
        return x + self.residual_scale * self.last(torch.cat(features, dim=1))


class ResidualInResidualBlock(nn.Module):
    """Dense blocks in a row inside one more scaled residual connection."""

    def __init__(self, dense_blocks: list[DenseBlock], residual_scale: float) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.body = nn.Sequential(*dense_blocks)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, channels, X, Y, Z); same shape out."""
        return x + self.residual_scale * self.body(x)


class ResidualDenseNetwork(nn.Module):
    """Adds to a volume what a regularised inverse of its acquisition could not recover.

    The generator of ESRGAN (Wang et al. 2018, arXiv:1809.00219) in 3D: residual-in-residual dense blocks without
    normalisation. Unlike there the input is on the high-resolution grid already; the convolutions work on cubes of
    `packing` voxels a side packed into channels, that is at 1 / packing of the resolution. The last layer starts at
    zero: an untrained network returns its input.

    Args:
        channels: width of the trunk.
        growth: channels added by each convolution of a dense block.
        blocks: residual-in-residual blocks.
        packing: side of the cubes, in voxels of the high-resolution grid; 1 for none.
        dense_blocks: dense blocks in each residual-in-residual block.
        convolutions: convolutions in each dense block.
        residual_scale: factor on the output of every block; ESRGAN's 0.2 steadies deep networks, 1 makes shallow ones
            learn faster.
    """

    def __init__(
        self,
        channels: int = 64,
        growth: int = 32,
        blocks: int = 8,
        packing: int = 2,
        dense_blocks: int = 3,
        convolutions: int = 5,
        residual_scale: float = _RESIDUAL_SCALE,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "growth": growth,
            "blocks": blocks,
            "packing": packing,
            "dense_blocks": dense_blocks,
            "convolutions": convolutions,
        }
        if min(self.arguments.values()) < 1:
            raise ValueError(f"every size must be at least 1: {self.arguments}")
        self.arguments["residual_scale"] = residual_scale
        self.packing = packing
        self.head = nn.Conv3d(packing**3, channels, 3, padding=1)
        self.body = nn.Sequential()
        for _ in range(blocks):
            dense = [DenseBlock(channels, growth, convolutions, residual_scale) for _ in range(dense_blocks)]
            self.body.append(ResidualInResidualBlock(dense, residual_scale))
        self.trunk = nn.Conv3d(channels, channels, 3, padding=1)
        self.tail = nn.Conv3d(channels, packing**3, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """He-normal weights in the body, small at the end of each dense block; zeros in the last layer."""
        for block in self.body.modules():
            if isinstance(block, DenseBlock):
                for name, parameter in block.named_parameters():
                    if name.endswith("weight"):
                        nn.init.kaiming_normal_(parameter, a=_SLOPE)
                    else:
                        nn.init.zeros_(parameter)
                with torch.no_grad():
                    block.last.weight.mul_(_LAST_SCALE)
        with torch.no_grad():
            for parameter in self.tail.parameters():
                parameter.zero_()

    @property
    def multiple(self) -> int:
        """Tiles of a volume must start at multiples of this many voxels to see the same cubes as the whole volume."""
        return self.packing

    @property
    def receptive_field(self) -> int:
        """The largest distance along an axis, in voxels, at which an input voxel can change an output voxel."""
        depth = 3 + self.arguments["blocks"] * self.arguments["dense_blocks"] * self.arguments["convolutions"]
        return self.packing * depth + self.packing - 1

    def forward(self, x: Tensor) -> Tensor:
        """The restored volume.

        Args:
            x: (B, 1, X, Y, Z) of any size, intensities of about 0 to 1.

        Returns:
            The same shape.
        """
        padded = padded_to_multiple(x, self.packing)
        features = self.head(space_to_depth(padded, self.packing))
        features = features + self.trunk(self.body(features))
        residual = depth_to_space(self.tail(F.leaky_relu(features, _SLOPE)), self.packing)
        x_size, y_size, z_size = x.shape[-3:]
        return x + _CORRECTION_SCALE * residual[..., :x_size, :y_size, :z_size]
