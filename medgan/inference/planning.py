"""What an upscaling comes to before anything is computed: grids, slice thickness, and the order of the axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from medgan.errors import MedganError
from medgan.geometry import Shape, Spacing
from medgan.inference.slice_profile import GAUSSIAN, AssumedProfile
from medgan.volume import Volume

# What an isotropic scan gets when neither the caller nor the model says more.
_USUAL_FACTOR = (2.0, 2.0, 2.0)


# Thicker slices than so many times their distance are a slip of the unit or the header of another image: overlapping
# reconstructions of CT reach five.
_MOST_OVERLAP = 5.0
# Spacings that differ by less count as equal when the coarsest axis is looked for.
_SAME_SPACING = 1.01
# By so much may a sidecar's distance of slices differ from the image's: both are rounded, by different hands.
_SAME_DISTANCE = 0.05

GIVEN, HEADER, SIDECAR, PROFILE, ASSUMED = "given", "header", "sidecar", "profile", "assumed"


@dataclass(frozen=True)
class Slices:
    """How thick the slices of a scan are, and how that is known.

    Args:
        axis: array axis along which slices follow each other.
        spacing: mm between slice centres.
        thickness: of a slice in mm (FWHM of its profile).
        source: `GIVEN` by the caller, from the `HEADER` (DICOM 0018,0050), from the `SIDECAR` (SliceThickness), by the
            measured `PROFILE`, or `ASSUMED`.
        profile: of a slice.
    """

    axis: int
    spacing: float
    thickness: float
    source: str
    profile: AssumedProfile

    @property
    def gap(self) -> float:
        """Mm between the edges of neighbouring slices that nothing was measured of; negative where slices overlap."""
        return self.spacing - self.thickness

    def __str__(self) -> str:
        """One phrase for the history of a scan."""
        if self.source == ASSUMED:
            return f"slice thickness unknown: touching slices of {self.spacing:.4g} mm assumed, {self.profile}"
        apart = "touching"
        if abs(self.gap) > 0.01 * self.spacing:
            apart = f"{abs(self.gap):.3g} mm {'apart' if self.gap > 0 else 'overlapping'}"
        source = "as asked for" if self.source == GIVEN else f"by the {self.source}"
        return f"slices {self.thickness:.4g} mm thick ({self.profile}) every {self.spacing:.4g} mm, {apart}, {source}"


@dataclass(frozen=True)
class Plan:
    """What an upscaling comes to, in the axes of the RAS scan."""

    high_shape: Shape
    high_spacing: Spacing
    # Extent of a sample in mm along each axis: the slice thickness along the slice axis, elsewhere the spacing.
    thickness: Spacing
    # Axes of the scan in the order in which the network wants them.
    order: tuple[int, int, int]
    slices: Slices


def planned(
    scan: Volume,
    trained: Mapping[str, Any] | None,
    factor: Sequence[float] | None,
    spacing: Sequence[float] | None,
    thickness: float | None,
    slice_axis: int | None = None,
    profile: AssumedProfile | None = None,
) -> Plan:
    """Grids, thickness and axis order for a RAS scan.

    Args:
        scan: in the orientation RAS.
        trained: the entry "acquisition" of the model's configuration; None without a model.
        factor: how many times more voxels along R, A, S.
        spacing: the wanted spacing in mm along R, A, S instead.
        thickness: see `slices_of`.
        slice_axis: see `slices_of`.
        profile: of the slices; what the model was trained for, or else a Gaussian, when None.

    Raises:
        MedganError: the request makes no sense for this scan.
    """
    factors = factors_of(scan, trained, factor, spacing)
    shape, high_shape = scan.shape, high_shape_of(scan, trained, factor, spacing)
    _require_neighbours(shape, high_shape)
    x, y, z = (step * n / many for step, n, many in zip(scan.spacing, shape, high_shape, strict=True))
    usual = AssumedProfile(str((trained or {}).get("profile", "gaussian")))
    slices = slices_of(scan, thickness, slice_axis, usual if profile is None else profile)
    lengths = list(scan.spacing)
    lengths[slices.axis] = slices.thickness
    learned = (trained or {}).get("factor")
    if (trained or {}).get("random"):
        order = rising_order(factors)
    else:
        order = (0, 1, 2) if learned is None else axis_order(factors, learned)
    return Plan(high_shape, (x, y, z), (lengths[0], lengths[1], lengths[2]), order, slices)


def slice_axis_of(scan: Volume) -> int:
    """The array axis along which slices follow each other: by `metadata["slice_direction"]` (a vector in RAS) if the
    file said it, else the coarsest; among equally coarse ones the last.
    """
    direction = scan.metadata.get("slice_direction")
    if direction is not None:
        along = np.abs(np.asarray(direction, dtype=np.float64) @ (scan.affine[:3, :3] / scan.spacing))
        return int(np.argmax(along))
    return max(axis for axis in range(3) if scan.spacing[axis] * _SAME_SPACING >= max(scan.spacing))


def slices_of(
    scan: Volume,
    thickness: float | None = None,
    axis: int | None = None,
    profile: AssumedProfile = GAUSSIAN,
) -> Slices:
    """How thick the slices are, as far as anyone knows.

    Args:
        scan: in any orientation. Its `metadata` may hold `slice_thickness` in mm (0 means that nobody knows) and
            `slice_thickness_source`, `SIDECAR` if it was a sidecar that said so: then `spacing_between_slices`, if it
            is there, must fit the voxels.
        thickness: in mm, instead of what the file or a measured profile said.
        axis: the slice axis; `slice_axis_of` finds it when None.
        profile: of a slice. A measured one says how thick slices are (FWHM), and is stretched to `thickness`.

    Raises:
        MedganError: the thickness is no length, far more than the distance of the slices, or more than the field of
            view.
    """
    axis = slice_axis_of(scan) if axis is None else axis
    spacing = scan.spacing[axis]
    value, source = _stated_thickness(scan, thickness, profile)
    if value is None:
        return Slices(axis, spacing, spacing, ASSUMED, profile)
    if source == SIDECAR:
        _require_same_slices(scan, value, spacing)
    blame = "" if source == GIVEN else f", which the {source} says,"
    hint = "Give the true one by --thickness, in mm."
    file = profile.file if source == PROFILE else None
    extent = spacing * scan.shape[axis]
    if value > max(extent, spacing) * _SAME_SPACING and math.isfinite(value):
        raise MedganError(
            f"a slice thickness of {value:.6g} mm{blame} is more than the field of view of {extent:.4g} mm",
            file=file,
            hint=hint,
        )
    if not 0 < value <= _MOST_OVERLAP * spacing * _SAME_SPACING:
        raise MedganError(
            f"a slice thickness of {value} mm{blame} does not go with slices every {spacing:.3g} mm",
            file=file,
            hint=hint,
        )
    return Slices(axis, spacing, value, source, profile)


def _stated_thickness(scan: Volume, thickness: float | None, profile: AssumedProfile) -> tuple[float | None, str]:
    """How thick somebody says that the slices are, and who; None if nobody does."""
    if thickness is not None:
        return float(thickness), GIVEN
    if profile.measured is not None:
        return profile.measured.fwhm_mm, PROFILE
    stated = scan.metadata.get("slice_thickness") or None
    if stated is None:
        return None, ASSUMED
    return float(stated), str(scan.metadata.get("slice_thickness_source", HEADER))


def _require_same_slices(scan: Volume, thickness: float, spacing: float) -> None:
    """Refuse a sidecar that was copied along when its image was resampled.

    Some scanners state the gap between slices instead of their distance; that fits as well.

    Raises:
        MedganError: the slices that it describes are not those of the scan.
    """
    stated = scan.metadata.get("spacing_between_slices")
    if stated is None:
        return
    fits = (abs(candidate / spacing - 1) < _SAME_DISTANCE for candidate in (abs(stated), abs(stated) + thickness))
    if not any(fits):
        raise MedganError(
            f"the sidecar says that slices are {stated:g} mm apart, and the image has them every {spacing:.4g} mm: it "
            "does not describe this image",
            hint="Give the slice thickness by --thickness, or correct the sidecar.",
        )


def _require_neighbours(shape: Shape, high_shape: Shape) -> None:
    """Refuse to make many slices of one: there is nothing to restore them from.

    Raises:
        MedganError: an axis of one voxel is to get more.
    """
    for axis, (low, high) in enumerate(zip(shape, high_shape, strict=True)):
        if low == 1 < high:
            raise MedganError(
                f"the scan has a single slice from {('left to right', 'back to front', 'bottom to top')[axis]}, and "
                f"{high} are wanted: one slice does not say what lies beside it",
                hint="Ask for finer voxels within the slice alone, such as --factor 2,2,1.",
            )


def high_shape_of(
    scan: Volume,
    trained: Mapping[str, Any] | None,
    factor: Sequence[float] | None,
    spacing: Sequence[float] | None,
) -> Shape:
    """Voxels of the result along each array axis; see `planned`."""
    factors = factors_of(scan, trained, factor, spacing)
    x, y, z = (max(size, round(size * times)) for size, times in zip(scan.shape, factors, strict=True))
    return x, y, z


def factors_of(
    scan: Volume,
    trained: Mapping[str, Any] | None,
    factor: Sequence[float] | None,
    spacing: Sequence[float] | None,
) -> tuple[float, float, float]:
    """Voxels per voxel along each array axis.

    Raises:
        MedganError: both a factor and a spacing are given, or one that upscaling cannot reach.
    """
    if factor is not None and spacing is not None:
        raise MedganError("give a factor or a spacing, not both")
    wanted = factor if factor is not None else spacing
    if wanted is not None and (len(wanted) != 3 or not all(np.isfinite(wanted)) or min(wanted) <= 0):
        raise MedganError(f"{tuple(wanted)} are not three numbers above 0", hint="Write them as 1,1,2.")
    if factor is not None:
        factors = tuple(float(f) for f in factor)
        if min(factors) < 1:
            raise MedganError(f"factors are {factors}; upscaling needs 1 or more along each axis")
    elif spacing is not None:
        factors = tuple(have / want for have, want in zip(scan.spacing, spacing, strict=True))
        if min(factors) < 0.999:
            shown = ", ".join(f"{step:.3g}" for step in scan.spacing)
            raise MedganError(
                f"the wanted spacing is coarser than the scan's own ({shown} mm)", hint="Ask for finer voxels."
            )
    else:
        factors = tuple(step / min(scan.spacing) for step in scan.spacing)
        if max(factors) < 1.1:
            # A universal model has no factor of its own; the one it was evaluated at says nothing.
            own = None if (trained or {}).get("random") else (trained or {}).get("factor")
            factors = tuple(float(f) for f in own or _USUAL_FACTOR)
    return factors[0], factors[1], factors[2]


def rising_order(factors: Sequence[float]) -> tuple[int, int, int]:
    """The axes from the smallest factor to the largest, as random acquisitions are drawn."""
    a, b, c = sorted(range(3), key=lambda axis: round(factors[axis], 6))
    return a, b, c


def axis_order(factors: Sequence[float], trained: Sequence[float] | None) -> tuple[int, int, int]:
    """The permutation of the scan's axes that a network expects.

    Args:
        factors: voxels per voxel along each axis of the scan.
        trained: the factors of the training: the permutation brings `factors` closest to them, and is none if that is
            as close. None for a network of any factors, which expects the largest last.
    """
    if trained is None:
        a, b, c = sorted(range(3), key=lambda axis: round(factors[axis], 6))
        return a, b, c
    wanted = np.log(np.asarray(trained, dtype=np.float64))
    have = np.log(np.asarray(factors, dtype=np.float64))
    a, b, c = min(permutations(range(3)), key=lambda order: float(np.abs(have[list(order)] - wanted).sum().round(6)))
    return a, b, c
