"""By what a reader may depart from strictness: named options, each of which says what it did.

Strict reading never changes where a voxel is. These make a regular grid from slices that are not one; what they make is
linear interpolation between measured slices, as a viewer would show it, and the volume's history says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.errors import MedganError
from medgan.geometry import Affine
from medgan.io.dicom.geometry import (
    SlicePlane,
    StackFault,
    grid_affine,
    plane_directions,
    slice_distances,
    usual_distance,
)

# Where more slices are missing side by side, or a larger share of all, a volume would show too much that nobody
# measured.
MOST_MISSING_TOGETHER = 2
LARGEST_MISSING_SHARE = 0.25

# Two neighbours further apart than this many median distances have a hole between them, not an uneven step.
WIDEST_STEP = 3.0

# A place this close to a measured slice or pixel, in slice distances or pixels, is that slice or pixel.
_SAME_PLACE = 1e-3


@dataclass(frozen=True)
class Relaxations:
    """What may be done to a series that is not one regular grid; by default nothing, and it is refused.

    Args:
        allow_gap: fill in up to two missing slices side by side by linear interpolation between their neighbours.
        resample_uneven: resample unevenly spaced slices linearly to even distances, as near to their median as the way
            from the first to the last slice allows.
        deshear: move the slices of a tilted gantry, by linear interpolation in their planes, onto a grid with right
            angles; voxels that no slice covers become the background's value, -1024 in CT and 0 elsewhere.
    """

    allow_gap: bool = False
    resample_uneven: bool = False
    deshear: bool = False

    def cures(self, fault: StackFault) -> bool:
        """Whether a fault is one that these relaxations deal with."""
        option = RELAXATION_FOR.get(fault.kind)
        return option is not None and bool(getattr(self, option))


# Which relaxation makes a series readable, by the kind of its fault.
RELAXATION_FOR = {"gap": "allow_gap", "uneven": "resample_uneven", "tilt": "deshear", "beside": "deshear"}


@dataclass(frozen=True)
class Relaxed:
    """A regular grid made from slices that were not one.

    Args:
        values: shape (slices, rows, columns).
        affine: takes (column, row, slice) indices to RAS+ mm.
        steps: what was done, one phrase each.
        made: indices of slices that no measured slice stands behind.
    """

    values: NDArray[Any]
    affine: Affine
    steps: tuple[str, ...]
    made: tuple[int, ...] = ()


def flag(option: str) -> str:
    """How an option is called on the command line: "allow_gap" is "--allow-gap"."""
    return "--" + option.replace("_", "-")


def options_for(faults: Sequence[StackFault]) -> list[str] | None:
    """The options that together make slices with these faults readable; None if nothing does."""
    options = [RELAXATION_FOR.get(fault.kind) for fault in faults]
    return None if None in options else list(dict.fromkeys(option for option in options if option is not None))


def relaxed(
    values: NDArray[Any], planes: Sequence[SlicePlane], faults: Sequence[StackFault], background: float
) -> Relaxed:
    """One regular grid from slices in the order of `geometry.stack_order`, by curing the faults named.

    Args:
        values: shape (slices, rows, columns).
        planes: where the slices lie, sorted along their normal, none at the same place as another.
        faults: of the kinds "gap", "uneven", "tilt" and "beside".
        background: for voxels that no slice covers.

    Raises:
        MedganError: too much is missing for interpolation to be honest.
    """
    kinds = {fault.kind for fault in faults}
    positions, distances = np.array([plane.position for plane in planes]), slice_distances(planes)
    steps: list[str] = []
    corner: tuple[int, int] = (0, 0)
    made: tuple[int, ...] = ()
    # Before slices are moved, so that all of them overlap: between two of them, points go along the line from one to
    # the other.
    if "gap" in kinds:
        places, made, step = _places_with_gaps(distances)
        values, positions = (_interpolated(one, places, np.arange(places[-1] + 1)) for one in (values, positions))
        steps.append(step)
    elif "uneven" in kinds:
        even, step = _even_distances(distances)
        values, positions = (_interpolated(_real(one), distances, even) for one in (values, positions))
        steps.append(step)
    is_tilted = bool(kinds & {"tilt", "beside"})
    if is_tilted:
        values, corner, step = _desheared(values, positions, planes[0], background)
        steps.append(step)
    x, y, z = positions[-1]
    ends = (float(distances[0]), float(distances[-1]))
    affine = grid_affine(planes[0], corner, len(values), ends, None if is_tilted else (x, y, z))
    return Relaxed(values, affine, tuple(steps), made)


def _real(values: NDArray[Any]) -> NDArray[Any]:
    """Floating-point numbers, since all slices will be between measured ones."""
    return values if values.dtype.kind == "f" else values.astype(np.float32)


def _places_with_gaps(distances: NDArray[np.float64]) -> tuple[NDArray[np.int_], tuple[int, ...], str]:
    """The index of each slice once the missing ones are counted, the indices of those, and what to say of it."""
    counts = np.rint(np.diff(distances) / usual_distance(distances)).astype(int)
    total = int(counts.sum()) + 1
    missing, together = total - len(distances), int(counts.max()) - 1
    if together > MOST_MISSING_TOGETHER or missing > LARGEST_MISSING_SHARE * total:
        raise MedganError(
            f"{missing} of {total} slices are missing, up to {together} side by side: too many to interpolate",
            hint=f"Add the missing slices; {flag('allow_gap')} fills at most {MOST_MISSING_TOGETHER} side by side and "
            f"{LARGEST_MISSING_SHARE:.0%} of all.",
        )
    places = np.concatenate([[0], np.cumsum(counts)])
    made = tuple(sorted(set(range(total)) - set(places.tolist())))
    numbers = ", ".join(str(index + 1) for index in made)
    return places, made, f"{missing} missing of {total} slices interpolated from their neighbours: number {numbers}"


def _even_distances(distances: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Distances about as far apart as slices mostly are, the first and last as they are, and what to say of it."""
    steps = np.diff(distances)
    median = float(np.median(steps))
    if steps.max() > WIDEST_STEP * median:
        raise MedganError(
            f"neighbouring slices are up to {steps.max():.3f} mm apart, mostly {median:.3f} mm: that is a hole",
            hint=f"Add the missing slices; {flag('resample_uneven')} bridges at most {WIDEST_STEP:g} median distances.",
        )
    count = max(round((distances[-1] - distances[0]) / median), 1) + 1
    even = np.linspace(distances[0], distances[-1], count)
    found = f"{len(distances)} slices {steps.min():.3f} to {steps.max():.3f} mm apart"
    return even, f"{found} resampled to {count} slices {even[1] - even[0]:.3f} mm apart"


def _interpolated(values: NDArray[Any], places: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
    """What lies at the places `wanted` along the first axis, linear between `places`; whole numbers are rounded."""
    result = np.empty((len(wanted), *values.shape[1:]), values.dtype)
    mean_step = (places[-1] - places[0]) / (len(places) - 1)
    for index, place in enumerate(wanted):
        after = int(np.clip(np.searchsorted(places, place), 1, len(places) - 1))
        share = float((place - places[after - 1]) / (places[after] - places[after - 1]))
        near = after if share > 0.5 else after - 1
        if abs(place - places[near]) <= _SAME_PLACE * mean_step:
            result[index] = values[near]
            continue
        between = values[after - 1] * (1 - share) + values[after] * share
        result[index] = np.rint(between) if values.dtype.kind in "iu" else between
    return result


def _desheared(
    values: NDArray[Any], positions: NDArray[np.float64], plane: SlicePlane, background: float
) -> tuple[NDArray[np.float32], tuple[int, int], str]:
    """Slices at `positions`, all parallel to `plane`, moved in their planes onto one another's grid.

    Returns:
        The new array; which row and column of the first slice's grid its corner is; and what to say of it.
    """
    row, column, normal = plane_directions(plane)
    between_rows, between_columns = plane.pixel_spacing
    offsets = positions - positions[0]
    # How many rows and columns each slice begins after the first one.
    shifts = np.stack([offsets @ column / between_rows, offsets @ row / between_columns], axis=1)
    shifts = np.where(np.abs(shifts - np.rint(shifts)) <= _SAME_PLACE, np.rint(shifts), shifts)
    first = np.floor(shifts.min(axis=0)).astype(int)
    size = np.ceil(shifts.max(axis=0)).astype(int) - first + values.shape[1:]
    result = np.full((len(values), *size), background, np.float32)
    for index, shift in enumerate(shifts - first):
        _place(result[index], values[index], shift)
    aside, rise = offsets[-1] - offsets[-1] @ normal * normal, offsets[-1] @ normal
    angle = float(np.degrees(np.arctan2(np.linalg.norm(aside), rise)))
    step = f"slices moved in their planes to undo a tilt of {angle:.1f} degrees, voxels outside set to {background:g}"
    return result, (int(first[0]), int(first[1])), step


def _place(out: NDArray[np.float32], pixels: NDArray[Any], shift: NDArray[np.float64]) -> None:
    """Write a slice into `out`, `shift` (rows, columns) from its corner; pixels half outside the slice are left out."""
    moved = pixels.astype(np.float32)
    start = np.ceil(shift).astype(int)
    for axis in (0, 1):
        # A pixel at a whole place lies `share` of the way from its neighbour after it to the one before.
        share = np.float32(start[axis] - shift[axis])
        if share > 0:
            length = moved.shape[axis]
            here, after = (moved.take(np.arange(at, length - 1 + at), axis=axis) for at in (0, 1))
            moved = here * (1 - share) + after * share
    rows, columns = moved.shape
    out[start[0] : start[0] + rows, start[1] : start[1] + columns] = moved
