"""The receiver coil's bias field: smooth shading that multiplies a scan."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from medgan.errors import MedganError


def bias_field(
    shape: Sequence[int],
    *,
    generator: torch.Generator | np.random.Generator,
    strength: float = 0.2,
    order: int = 2,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """A random bias field, to be multiplied with a scan.

    Its logarithm is a sum of half-period cosines across the field of view, up to `order` half periods along each axis,
    each weighted by a normal number over 1 + the squared half periods in all, so that slow shading dominates. None of
    them has a mean: the geometric mean of the field is one. Their signs are free: no side of the scan is preferred.

    Args:
        shape: (..., X, Y, Z); a field of its own for each leading index.
        generator: where the normal numbers come from, torch's or numpy's. The field depends on the generator's state,
            not on the device that it is asked for.
        strength: expected root mean square of the field's natural logarithm; 0.2 is usual at 3 tesla, 0 gives ones.
        order: half periods of the fastest cosine along each axis, at least 1.
        dtype: floating-point type of the field.
        device: where the field is wanted.

    Returns:
        Positive, of the asked shape.

    Raises:
        MedganError: the shape has fewer than three axes, the strength is negative or the order below 1.
    """
    if len(shape) < 3 or min(shape) < 1:
        raise MedganError(f"a bias field needs three axes of at least one voxel, not {tuple(shape)}")
    if not (isfinite(strength) and strength >= 0):
        raise MedganError(f"the strength of a bias field must not be negative, it is {strength}", hint="Try 0.2.")
    if order < 1:
        raise MedganError(f"the order of a bias field must be at least 1, it is {order}", hint="Try 2.")
    *batch, x, y, z = shape
    numbers = _normal((*batch, order + 1, order + 1, order + 1), generator)
    coefficients = strength * numbers * _falloff(order, (x > 1, y > 1, z > 1))
    bases = [torch.from_numpy(_cosines(size, order)) for size in (x, y, z)]
    logarithm = torch.einsum("...abc,ax,by,cz->...xyz", coefficients, *bases)
    return logarithm.exp().to(device, dtype)


def _normal(shape: tuple[int, ...], generator: torch.Generator | np.random.Generator) -> Tensor:
    """Normal numbers in float64 on the CPU."""
    if isinstance(generator, np.random.Generator):
        return torch.from_numpy(generator.standard_normal(shape))
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64).cpu()


@lru_cache(maxsize=64)
def _falloff(order: int, varies: tuple[bool, bool, bool]) -> Tensor:
    """Standard deviations of the coefficients, squares summing to one; nothing for the constant and for flat axes."""
    steps = np.arange(order + 1.0)
    squared = steps[:, None, None] ** 2 + steps[:, None] ** 2 + steps**2
    weights = np.where(squared > 0, 1.0 / (1.0 + squared), 0.0)
    for axis, is_varying in enumerate(varies):
        if not is_varying:
            weights *= np.moveaxis((steps == 0)[:, None, None], 0, axis)
    norm = np.sqrt((weights**2).sum())
    return torch.from_numpy(weights / norm if norm > 0 else weights)


@lru_cache(maxsize=64)
def _cosines(size: int, order: int) -> np.ndarray:
    """Cell-centred cosines of 0 ... `order` half periods over `size` voxels, of unit mean square; (order + 1, size).

    Those with a half period for every voxel and more would come back as slower ones: they are left out (zero).
    """
    steps = np.arange(order + 1)[:, None]
    waves = np.cos(np.pi * steps * (np.arange(size) + 0.5) / size) * np.where(steps == 0, 1.0, np.sqrt(2.0))
    return np.where(steps < size, waves, 0.0)
