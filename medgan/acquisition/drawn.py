"""Acquisitions drawn at random: the scanners that a universal network learns to undo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medgan.acquisition.operators import Acquisition, low_shape_for
from medgan.geometry import Shape

if TYPE_CHECKING:
    from medgan.recipe import RandomAcquisition

_UNIT = (1.0, 1.0, 1.0)


def drawn_acquisition(
    options: RandomAcquisition, high_shape: Shape, rng: np.random.Generator, *, regularisation: float | None = None
) -> Acquisition:
    """A random acquisition of a patch whose voxels count as 1 mm long.

    The factors rise from the first axis to the last: thick slices lie across the last axis.

    Args:
        options: what is drawn, and how often.
        high_shape: voxels of the patch.
        rng: where the random numbers come from.
        regularisation: of the acquisition's inverse; the measured default when None.
    """
    factors = _factors(options, rng)
    low_shape = low_shape_for(high_shape, factors)
    ratio = 1.0 if rng.random() < 0.5 else float(rng.uniform(*options.thickness))
    slices = options.profiles[rng.integers(len(options.profiles))]
    in_plane = "band_limit" if rng.random() < options.band_limit_share else slices
    is_even = len({low for low, factor in zip(low_shape, factors, strict=True) if factor > 1}) == 1
    # Thick slices are averaged over a profile; a scan that is equally coarse along all axes may be a 3D sequence.
    profiles = (in_plane, in_plane, in_plane if is_even and factors[0] > 1 else slices)
    x, y, z = (None if high == low else high / low * ratio for high, low in zip(high_shape, low_shape, strict=True))
    return Acquisition.between(
        high_shape,
        low_shape,
        high_spacing=_UNIT,
        thickness=(x, y, z),
        profile=profiles,
        regularisation=regularisation,
    )


def drawn_noise(options: RandomAcquisition, rng: np.random.Generator) -> float:
    """Standard deviation of the noise in normalised intensity; none in half of the cases."""
    return 0.0 if rng.random() < 0.5 else float(rng.uniform(0.0, options.noise))


def _factors(options: RandomAcquisition, rng: np.random.Generator) -> tuple[float, float, float]:
    """High-resolution voxels per low-resolution voxel, in rising order."""
    kind = rng.random()
    if kind < options.through_plane_share:
        return 1.0, 1.0, _factor(options.through_plane_factor, rng)
    if kind < options.through_plane_share + options.isotropic_share:
        same = _factor(options.isotropic_factor, rng)
        return same, same, same
    in_plane, through = sorted((_factor(options.isotropic_factor, rng), _factor(options.through_plane_factor, rng)))
    return (1.0, in_plane, through) if rng.random() < 0.5 else (in_plane, in_plane, through)


def _factor(span: tuple[float, float], rng: np.random.Generator) -> float:
    """A factor within the span; every other time a whole number, because real scans often have one."""
    factor = float(rng.uniform(*span))
    whole = float(round(factor))
    return whole if rng.random() < 0.5 and span[0] <= whole <= span[1] else factor
