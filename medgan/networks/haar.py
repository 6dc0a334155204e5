"""The orthonormal Haar transform of volumes: eight sub-bands at half the resolution.

A network that ends (or begins) with it works on an eighth of the voxels. The transform is orthonormal, so distances,
noise and gradient norms are the same on both sides.
"""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = 2.0**-0.5


def haar(x: Tensor) -> Tensor:
    """Volumes (B, C, X, Y, Z) with even X, Y, Z to sub-bands (B, 8C, X/2, Y/2, Z/2).

    Channels are ordered by sub-band (low-low-low first, the last array axis varying fastest), then by input channel.
    """
    if any(size % 2 for size in x.shape[2:]):
        raise ValueError(f"the Haar transform needs even sizes, got {tuple(x.shape[2:])}")
    bands = [x]
    for axis in (2, 3, 4):
        bands = [mixed for band in bands for mixed in _split(band, axis)]
    return torch.cat(bands, dim=1)


def inverse_haar(bands: Tensor) -> Tensor:
    """Sub-bands (B, 8C, X, Y, Z) back to volumes (B, C, 2X, 2Y, 2Z)."""
    if bands.shape[1] % 8:
        raise ValueError(f"the inverse Haar transform needs a multiple of 8 channels, got {bands.shape[1]}")
    parts = list(bands.chunk(8, dim=1))
    for axis in (4, 3, 2):
        parts = [_merge(low, high, axis) for low, high in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _split(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The normalised sums and differences of neighbours along `axis`."""
    even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
    return (even + odd) * _HALF, (even - odd) * _HALF


def _merge(low: Tensor, high: Tensor, axis: int) -> Tensor:
    """The inverse of `_split`."""
    return torch.stack(((low + high) * _HALF, (low - high) * _HALF), dim=axis + 1).flatten(axis, axis + 1)
