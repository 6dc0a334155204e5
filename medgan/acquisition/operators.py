"""`Acquisition`: how a scanner turns a high-resolution volume into the low-resolution one, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import floor, isfinite
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from medgan.acquisition.inverse import DEFAULT_REGULARISATION, Matrix, tikhonov_inverse
from medgan.acquisition.profiles import band_limit_matrix, effective_fwhm, profile_matrix
from medgan.acquisition.shapes import SliceProfile
from medgan.errors import MedganError, nearest
from medgan.geometry import Shape, Spacing

Role = Literal["forward", "adjoint", "inverse"]
PROFILES = ("gaussian", "rectangular", "shinnar_le_roux", "measured", "band_limit")
_AXIS_NAMES = "XYZ"


@dataclass(frozen=True)
class AxisSampling:
    """How one axis is sampled.

    Args:
        low: samples of the low-resolution axis.
        high: samples of the high-resolution axis.
        profile: one of `PROFILES`.
        fwhm: of a slice profile: blur beyond the voxel's own extent, in high-resolution voxels.
        taper: of a band limit: attenuated part of the band, 0 to 1.
        measured: the shape of a "measured" profile.
    """

    low: int
    high: int
    profile: str
    fwhm: float = 0.0
    taper: float = 0.0
    measured: SliceProfile | None = None

    @cached_property
    def is_identity(self) -> bool:
        """Whether sampling changes nothing along this axis, but for what a header's rounding of the thickness may
        do.
        """
        return self.low == self.high and np.allclose(axis_matrix(self, "forward"), np.eye(self.high), rtol=0, atol=1e-3)


@lru_cache(maxsize=256)
def axis_matrix(axis: AxisSampling, role: Role, regularisation: float | None = None) -> Matrix:
    """The float64 matrix of one axis: (low, high) for "forward", (high, low) for "adjoint" and "inverse"; read-only."""
    if role == "adjoint":
        return axis_matrix(axis, "forward").T
    if role == "inverse":
        strength = DEFAULT_REGULARISATION if regularisation is None else regularisation
        matrix = tikhonov_inverse(axis_matrix(axis, "forward"), strength)
    elif axis.profile != "band_limit":
        matrix = profile_matrix(axis.low, axis.high, fwhm=axis.fwhm, profile=axis.profile, measured=axis.measured)
    else:
        matrix = band_limit_matrix(axis.low, axis.high, taper=axis.taper)
    matrix.setflags(write=False)
    return matrix


@lru_cache(maxsize=256)
def _tensor(
    axis: AxisSampling, role: Role, regularisation: float | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """`axis_matrix` as a constant tensor, kept so that a training step does not copy it to the device again."""
    # A tensor born in inference mode could never be saved for a later backward pass.
    with torch.inference_mode(False):
        return torch.tensor(axis_matrix(axis, role, regularisation), dtype=dtype, device=device)


def _along(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """`matrix` (rows, n) applied along spatial axis 0, 1 or 2 of x (..., X, Y, Z), as one plain matrix product."""
    if axis == 2:
        return x @ matrix.T
    if axis == 1:
        return matrix @ x
    return (matrix @ x.flatten(-2)).unflatten(-1, x.shape[-2:])


@dataclass(frozen=True)
class Acquisition:
    """The forward model of a scan, separable into its three axes, with its exact adjoint and a regularised inverse.

    Make one with `between`. All methods take CPU or GPU tensors of shape (..., X, Y, Z), are linear and
    differentiable, compute in the tensor's own precision (float32 or float64; autocast does not touch them) and leave
    intensities in their units.

    Args:
        high_shape: voxels of the high-resolution grid.
        low_shape: voxels of the low-resolution grid; both grids cover the same field of view.
        high_spacing: mm between the centres of the high-resolution voxels.
        thickness: extent of a low-resolution sample in mm (FWHM) along each axis; None where the profile is no slice.
        profile: for each axis one of `PROFILES`.
        taper: attenuated part of a band limit, 0 to 1.
        regularisation: what `inverse` uses unless told otherwise (`medgan.acquisition.tikhonov_inverse`).
        measured: the shape of the "measured" profiles.
    """

    high_shape: Shape
    low_shape: Shape
    high_spacing: Spacing
    thickness: tuple[float | None, float | None, float | None]
    profile: tuple[str, str, str]
    taper: float = 0.0
    regularisation: float = DEFAULT_REGULARISATION
    measured: SliceProfile | None = None

    @classmethod
    def between(
        cls,
        high_shape: Sequence[int],
        low_shape: Sequence[int],
        *,
        high_spacing: Sequence[float],
        thickness: Sequence[float | None] | None = None,
        profile: str | Sequence[str] = "gaussian",
        taper: float = 0.0,
        regularisation: float | None = None,
        measured: SliceProfile | None = None,
    ) -> Acquisition:
        """The acquisition that samples `high_shape` voxels as `low_shape` voxels of the same field of view.

        Args:
            high_shape: voxels (X, Y, Z) of the high-resolution grid.
            low_shape: voxels (X, Y, Z) of the low-resolution grid, none larger.
            high_spacing: mm between high-resolution voxel centres along each axis.
            thickness: slice thickness (FWHM) in mm along each axis; None for an axis, or for all: slices that touch,
                as thick as the low-resolution spacing (of a "measured" profile: its own FWHM). Thinner leaves gaps:
                what lies in them is seen by the flanks of the profile only, and what varies faster than the slices
                follow one another appears as something slower. Thicker overlaps. Thickness up to the high-resolution
                spacing adds no blur. Band-limited axes have no slices: what is given for them plays no part.
            profile: "gaussian", "rectangular", "shinnar_le_roux" or "measured" for slices, "band_limit" for in-plane
                axes; one for all axes or one for each.
            taper: with "band_limit": the upper part of the band, 0 to 1, that is attenuated against ringing.
            regularisation: default of `inverse`, positive; None: `DEFAULT_REGULARISATION`.
            measured: the shape of the "measured" profiles, stretched where `thickness` differs from its own FWHM.

        Raises:
            MedganError: a size, a spacing, a thickness, a profile's name or the taper is impossible, or `measured` is
                missing for a "measured" profile.
        """
        profiles = _checked_profiles(profile, measured)
        highs, lows = _checked_shape("high-resolution", high_shape), _checked_shape("low-resolution", low_shape)
        spacing = _positive("voxel spacing", high_spacing)
        if not 0 <= taper <= 1:
            raise MedganError(f"the taper must lie between 0 and 1, not {taper}")
        for name, low, high in zip(_AXIS_NAMES, lows, highs, strict=True):
            if low > high:
                raise MedganError(
                    f"the low-resolution grid has more voxels along {name} ({low}) than the high-resolution ({high})",
                    hint="Ask for a spacing that is not coarser than the scan's own.",
                )
        wanted = tuple(thickness) if thickness is not None else (None, None, None)
        if len(wanted) != 3:
            raise MedganError(f"the slice thickness needs one value for each of three axes, got {len(wanted)}")
        usual = [
            measured.fwhm_mm if measured is not None and name == "measured" else size * (high / low)
            for size, high, low, name in zip(spacing, highs, lows, profiles, strict=True)
        ]
        x, y, z = (_resolved_thickness(*axis) for axis in zip(_AXIS_NAMES, profiles, wanted, usual, strict=True))
        strength = DEFAULT_REGULARISATION if regularisation is None else regularisation
        return cls(highs, lows, spacing, (x, y, z), profiles, taper, strength, measured)

    @cached_property
    def axes(self) -> tuple[AxisSampling, ...]:
        """How each of the three axes is sampled."""
        return tuple(
            AxisSampling(low, high, profile, taper=self.taper)
            if thick is None
            else AxisSampling(
                low,
                high,
                profile,
                fwhm=effective_fwhm(thick, voxel),
                measured=self.measured if profile == "measured" else None,
            )
            for low, high, profile, thick, voxel in zip(
                self.low_shape, self.high_shape, self.profile, self.thickness, self.high_spacing, strict=True
            )
        )

    @property
    def low_spacing(self) -> Spacing:
        """Millimetres between the centres of the low-resolution voxels."""
        x, y, z = (s * h / n for s, h, n in zip(self.high_spacing, self.high_shape, self.low_shape, strict=True))
        return x, y, z

    @property
    def factor(self) -> tuple[float, float, float]:
        """High-resolution voxels per low-resolution voxel along each axis."""
        x, y, z = (high / low for high, low in zip(self.high_shape, self.low_shape, strict=True))
        return x, y, z

    def forward(self, x: Tensor) -> Tensor:
        """What the scanner measures of `x`: (..., high shape) to (..., low shape)."""
        return self._applied(x, "forward", self.high_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        """The exact transpose of `forward`: (..., low shape) to (..., high shape)."""
        return self._applied(y, "adjoint", self.low_shape)

    def inverse(self, y: Tensor, regularisation: float | None = None) -> Tensor:
        """The smoothest volume that explains the measured `y`: (..., low shape) to (..., high shape).

        Axis by axis the closed form of `tikhonov_inverse`, solved once in float64. It knows the slice profile and so
        recovers contrast that interpolation leaves blurred; what was never measured stays smooth.

        Args:
            y: the low-resolution scan.
            regularisation: larger is smoother; see `regularisation_for`. None: the object's own.
        """
        strength = self.regularisation if regularisation is None else float(regularisation)
        return self._applied(y, "inverse", self.low_shape, strength)

    def _applied(self, x: Tensor, role: Role, expected: Shape, regularisation: float | None = None) -> Tensor:
        """One of the three linear maps, axis by axis; axes that change nothing are skipped."""
        if x.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"expected a float32 or float64 tensor, got {x.dtype}")
        if tuple(x.shape[-3:]) != expected:
            raise MedganError(f"the acquisition expects {expected} voxels, the volume has {tuple(x.shape[-3:])}")
        with torch.autocast(x.device.type, enabled=False):
            for index, axis in enumerate(self.axes):
                if not axis.is_identity:
                    x = _along(_tensor(axis, role, regularisation, x.dtype, x.device), x, index)
        return x

    def describe(self) -> dict[str, Any]:
        """Everything `between` needs to build this acquisition again, as plain values for JSON."""
        description: dict[str, Any] = {
            "high_shape": list(self.high_shape),
            "low_shape": list(self.low_shape),
            "high_spacing": list(self.high_spacing),
            "thickness": list(self.thickness),
            "profile": list(self.profile),
            "taper": self.taper,
            "regularisation": self.regularisation,
        }
        if self.measured is not None:
            description["measured"] = {"weights": list(self.measured.weights), "step_mm": self.measured.step_mm}
        return description

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Acquisition:
        """The acquisition that `describe` described."""
        measured = description.get("measured")
        return cls.between(**{**description, "measured": None if measured is None else SliceProfile(**measured)})


def low_shape_for(high_shape: Sequence[int], factor: Sequence[float]) -> Shape:
    """The size of the low-resolution grid: `high_shape` divided by `factor`, rounded (half up), at least 1."""
    x, y, z = (max(1, floor(n / f + 0.5)) for n, f in zip(high_shape, _positive("factor", factor), strict=True))
    return x, y, z


def high_shape_for(low_shape: Sequence[int], factor: Sequence[float]) -> Shape:
    """The size of the high-resolution grid: `low_shape` times `factor`, rounded (half up), at least 1."""
    x, y, z = (max(1, floor(n * f + 0.5)) for n, f in zip(low_shape, _positive("factor", factor), strict=True))
    return x, y, z


def _checked_shape(which: str, shape: Sequence[int]) -> Shape:
    """`shape` as three whole numbers of at least one."""
    sizes = [int(n) for n in shape]
    if len(sizes) != 3 or min(sizes) < 1 or any(n != size for n, size in zip(shape, sizes, strict=True)):
        raise MedganError(f"the {which} shape must be three whole numbers of at least 1, not {tuple(shape)}")
    return sizes[0], sizes[1], sizes[2]


def _positive(what: str, values: Sequence[float]) -> tuple[float, float, float]:
    """Three positive finite numbers."""
    numbers = [float(value) for value in values]
    if len(numbers) != 3 or not all(isfinite(value) and value > 0 for value in numbers):
        raise MedganError(f"the {what} must be three positive numbers, not {tuple(values)}")
    return numbers[0], numbers[1], numbers[2]


def _checked_profiles(profile: str | Sequence[str], measured: SliceProfile | None) -> tuple[str, str, str]:
    """A known profile for each axis."""
    names = (profile,) * 3 if isinstance(profile, str) else tuple(profile)
    for name in names:
        if name not in PROFILES:
            raise MedganError(f"'{name}' is no sampling profile", hint=nearest(str(name), list(PROFILES)))
    if "measured" in names and measured is None:
        raise MedganError(
            "the profile is 'measured' but none is given", hint="Give SliceProfile(weights, step_mm) as `measured`."
        )
    if len(names) != 3:
        raise MedganError(f"give one sampling profile for all axes or one for each of three, not {len(names)}")
    return names[0], names[1], names[2]


def _resolved_thickness(name: str, profile: str, thickness: float | None, usual: float) -> float | None:
    """The FWHM in mm along one axis; None for a band limit, which has none."""
    if profile == "band_limit":
        return None
    if thickness is None:
        return usual
    if not (isfinite(thickness) and thickness > 0):
        raise MedganError(f"the slice thickness along {name} must be a positive number of mm, not {thickness}")
    return float(thickness)
