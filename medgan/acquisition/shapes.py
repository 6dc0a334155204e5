"""Shapes of slice profiles: what a slice sees at each distance from its centre, for a full width at half maximum of 1.

Every shape offers the same three things (`SliceShape`), so that `profiles.profile_matrix` integrates all alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from medgan.acquisition.pulse import excited_profile
from medgan.errors import MedganError

Array = NDArray[np.float64]


class SliceShape(Protocol):
    """A slice profile of unit area, centred on its centroid, with a full width at half maximum of 1."""

    @property
    def variance(self) -> float:
        """Second moment about the centre, in squared widths."""

    @property
    def reach(self) -> float:
        """Distance from the centre, in widths, beyond which nothing is seen."""

    def second_antiderivative(self, x: Array, width: Array) -> Array:
        """The function whose second derivative is the profile stretched to `width` (an impulse for width 0).

        It is 0 far to the left and x far to the right. Both arrays broadcast.
        """


class GaussianShape:
    """The Gaussian profile, in closed form."""

    variance = 1.0 / (8.0 * float(np.log(2.0)))
    reach = 8.0 * float(np.sqrt(variance))

    def second_antiderivative(self, x: Array, width: Array) -> Array:
        """As `SliceShape` says."""
        sigma = np.where(width > 0, width, 1.0) * np.sqrt(self.variance)
        z = x / sigma
        smooth = x * ndtr(z) + sigma * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
        return np.where(width > 0, smooth, np.maximum(x, 0.0))


@dataclass(frozen=True)
class SliceProfile:
    """A slice profile given by samples, as measured with a ramp phantom or simulated for a pulse.

    Between its samples the profile is linear and beyond the outer ones it falls to zero within one more step. It is
    centred on its centroid, so that an asymmetric profile moves nothing.

    Args:
        weights: the samples, none negative, in any unit.
        step_mm: millimetres between them.

    Raises:
        MedganError: a weight is negative or not finite, all are zero, or the step is not positive.
    """

    weights: tuple[float, ...]
    step_mm: float

    def __post_init__(self) -> None:
        values = np.asarray(self.weights, dtype=np.float64)
        object.__setattr__(self, "weights", tuple(values.ravel().tolist()))
        object.__setattr__(self, "step_mm", float(self.step_mm))
        if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any() or not values.any():
            raise MedganError(
                "a slice profile is a row of weights that are not negative and not all zero",
                hint="Subtract the background of a measured profile and set what falls below zero to zero.",
            )
        if not (np.isfinite(self.step_mm) and self.step_mm > 0):
            raise MedganError(f"the step of a slice profile must be a positive number of mm, not {self.step_mm}")

    @cached_property
    def fwhm_mm(self) -> float:
        """Full width at half maximum in mm, between the outermost points at half the maximum."""
        padded = np.array([0.0, *self.weights, 0.0])
        above = np.flatnonzero(padded >= 0.5 * padded.max())
        first, last = int(above[0]), int(above[-1])
        half = 0.5 * padded.max()
        left = first - (padded[first] - half) / (padded[first] - padded[first - 1])
        right = last + (padded[last] - half) / (padded[last] - padded[last + 1])
        return float(right - left) * self.step_mm

    @cached_property
    def shape(self) -> SampledShape:
        """The profile without its unit."""
        return SampledShape(self.weights, self.step_mm / self.fwhm_mm)


class SampledShape:
    """A profile that is linear between its samples, integrated exactly.

    Args:
        weights: samples, none negative.
        step: distance between them in units of the profile's full width at half maximum.
    """

    def __init__(self, weights: Sequence[float] | Array, step: float) -> None:
        density = np.array([0.0, *weights, 0.0])
        density /= density.sum() * step
        knots = np.arange(len(density)) * step
        self._step, self._density = step, density
        self._knots = knots - (density * knots).sum() * step
        # A piecewise linear density is a sum of hats, each with a variance of step^2 / 6.
        self.variance = float((density * self._knots**2).sum() * step + step**2 / 6.0)
        self.reach = float(np.abs(self._knots[[0, -1]]).max())
        self._slope = np.diff(density) / step
        self._first = np.concatenate([[0.0], np.cumsum(density[:-1] + density[1:]) * step / 2])
        rise = self._first[:-1] * step + density[:-1] * step**2 / 2 + self._slope * step**3 / 6
        self._second = np.concatenate([[0.0], np.cumsum(rise)])

    def second_antiderivative(self, x: Array, width: Array) -> Array:
        """As `SliceShape` says."""
        x, width = np.broadcast_arrays(x, width)
        scale = np.where(width > 0, width, 1.0)
        z = x / scale
        cell = np.clip(np.floor((z - self._knots[0]) / self._step).astype(np.int64), 0, len(self._slope) - 1)
        t = z - self._knots[cell]
        bend = self._density[cell] / 2 + t * self._slope[cell] / 6
        inside = self._second[cell] + t * (self._first[cell] + t * bend)
        value = np.where(z < self._knots[0], 0.0, np.where(z > self._knots[-1], z, inside)) * scale
        return np.where(width > 0, value, np.maximum(x, 0.0))


@lru_cache(maxsize=64)
def shape_of(profile: str, measured: SliceProfile | None = None) -> SliceShape:
    """The shape behind a profile's name; of "measured" the one given."""
    if profile == "gaussian":
        return GaussianShape()
    if profile == "shinnar_le_roux":
        return SampledShape(*excited_profile())
    if profile == "measured" and measured is not None:
        return measured.shape
    raise MedganError(f"'{profile}' is no sampled slice profile")
