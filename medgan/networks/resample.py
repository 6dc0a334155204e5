"""Resizing inside networks by fixed separable matrices.

Unlike the built-in trilinear interpolation this filters before it shrinks (no aliasing), takes any pair of sizes, is
deterministic on every device and can be differentiated twice.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from medgan.geometry import Shape


@lru_cache(maxsize=256)
def linear_matrix(source: int, target: int) -> np.ndarray:
    """Cell-centred linear interpolation from `source` to `target` samples of one field of view, shape (target, source).

    Upsampling is plain linear interpolation with the edge sample held; downsampling weighs the source by a triangle
    as wide as a target sample on each side. Rows sum to one.
    """
    scale = source / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    reach = int(np.ceil(width)) + 1
    matrix = np.zeros((target, source))
    for row, centre in enumerate(centres):
        for position in range(int(np.floor(centre)) - reach, int(np.ceil(centre)) + reach + 1):
            weight = max(0.0, 1.0 - abs(position - centre) / width)
            matrix[row, min(max(position, 0), source - 1)] += weight
    return matrix / matrix.sum(axis=1, keepdims=True)


@lru_cache(maxsize=256)
def least_squares_matrix(source: int, target: int) -> np.ndarray:
    """From `source` samples to the `target` fewer ones whose linear interpolation is nearest to them, shape (target,
    source) (the least-squares pyramid; Unser et al. 1993).

    It undoes `linear_matrix(target, source)` exactly, for any sizes, and leaves out what the coarse grid cannot hold.
    Rows sum to one; some weights are negative.

    Raises:
        ValueError: `target` is above `source`.
    """
    if target > source:
        raise ValueError(f"a least-squares pyramid has no step from {source} up to {target} samples")
    return np.linalg.pinv(linear_matrix(target, source))


class Resample(nn.Module):
    """Resize (B, C, X, Y, Z) from one spatial shape to another, keeping the field of view.

    Args:
        source: spatial shape of the input.
        target: spatial shape of the output.
        least_squares: shrink by `least_squares_matrix` instead of `linear_matrix`.
    """

    def __init__(self, source: Shape, target: Shape, *, least_squares: bool = False) -> None:
        super().__init__()
        self.source, self.target = tuple(source), tuple(target)
        weights = least_squares_matrix if least_squares else linear_matrix
        for axis, (before, after) in enumerate(zip(source, target, strict=True)):
            matrix = torch.from_numpy(weights(before, after)).float() if before != after else None
            self.register_buffer(f"matrix_{axis}", matrix, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, *source) to (B, C, *target)."""
        shrinking_first = sorted(range(3), key=lambda axis: self.target[axis] / self.source[axis])
        for axis in shrinking_first:
            matrix = getattr(self, f"matrix_{axis}")
            if matrix is not None:
                x = torch.movedim(torch.movedim(x, axis + 2, -1) @ matrix.t().to(x.dtype), -1, axis + 2)
        return x
