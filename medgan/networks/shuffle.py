"""Pixel shuffle in 3D with a factor of its own for each axis: resolution for channels, channels for resolution.

A voxel's channels are ordered by feature, then by place inside the block of (fx, fy, fz) voxels, the last axis varying
fastest: channel = ((feature * fx + x) * fy + y) * fz + z. With fx = 1 this is the order of PyTorch's `pixel_shuffle` in
the planes of the last two axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

Factors = tuple[int, int, int]


def pixel_unshuffle(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Blocks of (fx, fy, fz) voxels become channels: (B, C, X, Y, Z) to (B, C fx fy fz, X / fx, Y / fy, Z / fz).

    Raises:
        ValueError: a size is no multiple of its factor.
    """
    sizes = x.shape[-3:]
    if any(size % factor for size, factor in zip(sizes, factors, strict=True)):
        raise ValueError(f"{tuple(sizes)} voxels cannot be divided into blocks of {tuple(factors)}")
    split = [part for size, factor in zip(sizes, factors, strict=True) for part in (size // factor, factor)]
    blocks = x.reshape(*x.shape[:2], *split).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return blocks.reshape(x.shape[0], -1, *split[::2])


def pixel_shuffle(x: Tensor, factors: Sequence[int]) -> Tensor:
    """The inverse of `pixel_unshuffle`: (B, C fx fy fz, X, Y, Z) to (B, C, X fx, Y fy, Z fz).

    Raises:
        ValueError: the channels are no multiple of fx fy fz.
    """
    batch, channels, *sizes = x.shape
    if channels % prod(factors):
        raise ValueError(f"{channels} channels cannot be laid out in blocks of {tuple(factors)} voxels")
    blocks = x.reshape(batch, channels // prod(factors), *factors, *sizes).permute(0, 1, 5, 2, 6, 3, 7, 4)
    larger = [size * factor for size, factor in zip(sizes, factors, strict=True)]
    return blocks.reshape(batch, channels // prod(factors), *larger)


def padded_to_multiples(x: Tensor, multiples: Sequence[int]) -> Tensor:
    """The three last axes continued by half-sample reflection at their ends, each up to the next of its multiples."""
    for axis, multiple in zip((-3, -2, -1), multiples, strict=True):
        size = x.shape[axis]
        missing = -size % multiple
        if missing:
            # Reflection may have to turn round more than once: an axis can be thinner than what is missing.
            index = torch.arange(size + missing, device=x.device) % (2 * size)
            x = x.index_select(axis, torch.where(index < size, index, 2 * size - 1 - index))
    return x


@torch.no_grad()
def repeat_over_blocks_(convolution: nn.Conv3d, factors: Sequence[int]) -> None:
    """Give all places of a block the weights of its first place, in the layer that feeds a `pixel_shuffle`.

    The untrained upsampling then repeats each low-resolution voxel over its block (nearest neighbour), and no
    checkerboard has to be unlearned (the idea of Aitken et al. 2017, arXiv:1707.02937, "ICNR").

    Args:
        convolution: changed in place; its output channels are a multiple of the block's voxels.
        factors: voxels of the block along each axis.

    Raises:
        ValueError: the output channels are no such multiple.
    """
    voxels = prod(factors)
    if convolution.out_channels % voxels:
        raise ValueError(f"{convolution.out_channels} channels cannot be laid out in blocks of {tuple(factors)} voxels")
    for parameter in (convolution.weight, convolution.bias):
        if parameter is not None:
            parameter.copy_(parameter[::voxels].repeat_interleave(voxels, dim=0))


class ShuffleUpsampler(nn.Module):
    """A convolution on the low-resolution grid and a pixel shuffle; untrained, it repeats voxels over their blocks.

    Args:
        in_channels: of the low-resolution features.
        out_channels: of the high-resolution result.
        factors: voxels of the block that each low-resolution voxel becomes.
        zero: start with weights of zero, the one such repetition that adds nothing: for the last layer of a residual.
    """

    def __init__(self, in_channels: int, out_channels: int, factors: Factors, *, zero: bool = False) -> None:
        super().__init__()
        self.factors = factors
        self.convolution = nn.Conv3d(in_channels, out_channels * prod(factors), 3, padding=1)
        repeat_over_blocks_(self.convolution, factors)
        if zero:
            with torch.no_grad():
                for parameter in self.convolution.parameters():
                    parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, X, Y, Z) to (B, out_channels, X fx, Y fy, Z fz)."""
        return pixel_shuffle(self.convolution(x), self.factors)
