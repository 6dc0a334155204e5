"""Where the slices of a series lie: pure functions on header values.

Positions and directions here are DICOM's: millimetres along Left, Posterior, Superior (LPS). Only `stack_affine`
leaves that system, for RAS+. DICOM PS3.3 C.7.6.2.1.1 defines the attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.geometry import Affine

# How far a slice may lie from its place on a regular grid: 0.05 mm, the rounding of positions written with one
# decimal, but never more than a twentieth of the slice distance.
POSITION_TOLERANCE_MM = 0.05
POSITION_TOLERANCE_FRACTION = 0.05

# Slices closer together than this are one place imaged twice; no scanner moves by so little.
SAME_POSITION_MM = 0.01

# Largest angle between the stack's direction and the slices' normal, in degrees. Directions rounded to three decimals
# err by up to 0.06 degrees; a tilted gantry by several.
TILT_TOLERANCE_DEGREES = 0.1

# Largest difference between the direction cosines of two slices that count as parallel: 0.06 degrees.
ORIENTATION_TOLERANCE = 1e-3

# Largest relative difference between pixel spacings that count as equal: 0.05 mm over a field of view of 500 mm.
PIXEL_SPACING_TOLERANCE = 1e-4

# Two positions define a distance that no third one confirms, so a missing slice could not be noticed.
FEWEST_SLICES = 3

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class SlicePlane:
    """Where one slice lies, by its header.

    Args:
        name: what to call the slice in messages, usually its file name.
        position: ImagePositionPatient, the centre of the first pixel in LPS mm.
        orientation: ImageOrientationPatient, the directions along a row and along a column, as six cosines.
        pixel_spacing: PixelSpacing, the distance in mm between rows and between columns, in this order.
        matrix: how many rows and columns, in this order.
    """

    name: str
    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    pixel_spacing: tuple[float, float]
    matrix: tuple[int, int]


@dataclass(frozen=True)
class StackFault:
    """One reason why slices are not one regular grid.

    Args:
        kind: "few", "values", "mixture", "repeated", "gap", "uneven", "tilt" or "beside".
        phrase: the reason in words, naming slices and positions in mm.
    """

    kind: str
    phrase: str


def slice_normal(plane: SlicePlane) -> NDArray[np.float64]:
    """Unit vector across the slice, row direction times column direction; shape (3,), LPS."""
    normal = np.cross(plane.orientation[:3], plane.orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal))


def slice_distances(planes: Sequence[SlicePlane]) -> NDArray[np.float64]:
    """How far each slice lies along the first slice's normal, in mm; shape (n,)."""
    return np.array([plane.position for plane in planes], dtype=np.float64) @ slice_normal(planes[0])


def stack_order(planes: Sequence[SlicePlane]) -> list[int]:
    """Indices that sort the slices along their normal; slices at one place keep their order."""
    return [int(i) for i in np.argsort(slice_distances(planes), kind="stable")]


def plane_directions(plane: SlicePlane) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along a row, along a column and across the slice; shape (3,) each, LPS."""
    row, column = (np.array(cosines) for cosines in (plane.orientation[:3], plane.orientation[3:]))
    return row / np.linalg.norm(row), column / np.linalg.norm(column), slice_normal(plane)


def stack_affine(planes: Sequence[SlicePlane]) -> Affine:
    """The affine of slices sorted by `stack_order` and free of `stack_problems`.

    It takes (column index, row index, slice index) to RAS+ mm. The step between slices is the way from the first to
    the last position divided by their number: thickness and stated spacing play no part, so gaps between slices are
    kept.
    """
    distances = slice_distances(planes)
    return grid_affine(planes[0], (0, 0), len(planes), (distances[0], distances[-1]), planes[-1].position)


def grid_affine(
    first: SlicePlane,
    corner: tuple[int, int],
    count: int,
    ends: tuple[float, float],
    last: tuple[float, float, float] | None,
) -> Affine:
    """The affine of a grid of slices parallel to `first`, taking (column, row, slice) to RAS+ mm.

    Args:
        first: the first slice.
        corner: row and column of the grid's first pixel, counted in the first slice's.
        count: how many slices the grid has.
        ends: how far the first and the last of them lie along the normal, in mm.
        last: where the last one begins, in LPS mm; None if it lies straight across from the first.
    """
    row, column, normal = plane_directions(first)
    between_rows, between_columns = first.pixel_spacing
    start = np.array(first.position)
    way = (ends[1] - ends[0]) * normal if last is None else np.array(last) - start
    affine = np.eye(4)
    affine[:3, 0] = row * between_columns
    affine[:3, 1] = column * between_rows
    affine[:3, 2] = way / (count - 1)
    affine[:3, 3] = start + corner[1] * affine[:3, 0] + corner[0] * affine[:3, 1]
    affine[:3] = _LPS_TO_RAS @ affine[:3]
    return affine


def usual_distance(distances: NDArray[np.float64]) -> float:
    """What slices with gaps between them are apart where none is missing, in mm; `distances` are sorted."""
    steps = np.diff(distances)
    return float(np.median(steps[steps <= 1.5 * steps.min()]))


def stack_problems(planes: Sequence[SlicePlane]) -> list[str]:
    """Why these slices are not one regular grid: one phrase each, naming slices and positions in mm; else empty."""
    return [fault.phrase for fault in stack_faults(planes)]


def stack_faults(planes: Sequence[SlicePlane]) -> list[StackFault]:
    """Why these slices are not one regular grid; empty if they are one."""
    if len(planes) < FEWEST_SLICES:
        names = _listed([plane.name for plane in planes], ", ")
        have = f"{_counted(len(planes), 'slice')} ({names})"
        phrase = f"{have} where at least {FEWEST_SLICES} are needed to see that they are evenly spaced"
        return [StackFault("few", phrase)]
    faults = _invalid_values(planes) or _mixtures(planes)
    if faults:
        return faults
    ordered = [planes[i] for i in stack_order(planes)]
    distances = slice_distances(ordered)
    labels = [f"{plane.name} ({distance:.2f} mm)" for plane, distance in zip(ordered, distances, strict=True)]
    repeated = _repetitions(labels, distances)
    kept = [0, *(i for i in range(1, len(distances)) if distances[i] - distances[i - 1] > SAME_POSITION_MM)]
    if len(kept) < FEWEST_SLICES:
        return repeated
    ordered, labels, distances = [ordered[i] for i in kept], [labels[i] for i in kept], distances[kept]
    return [*repeated, *_irregularities(labels, distances), *_sideways(ordered, labels, distances)]


def _invalid_values(planes: Sequence[SlicePlane]) -> list[StackFault]:
    problems = []
    for plane in planes:
        row, column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
        lengths = np.array([row @ row, column @ column])
        if not np.isfinite([*plane.position, *plane.orientation, *plane.pixel_spacing]).all():
            problems.append(f"{plane.name} has a position, orientation or pixel spacing that is not a finite number")
        elif abs(row @ column) > ORIENTATION_TOLERANCE or (abs(lengths - 1) > 2 * ORIENTATION_TOLERANCE).any():
            problems.append(f"{plane.name} has row and column directions that are not perpendicular unit vectors")
        elif min(plane.pixel_spacing) <= 0:
            problems.append(f"{plane.name} has the pixel spacing {plane.pixel_spacing}")
    return [StackFault("values", _listed(problems))] if problems else []


def _mixtures(planes: Sequence[SlicePlane]) -> list[StackFault]:
    """Properties in which slices of one grid must agree, and do not."""
    spacings = np.array([plane.pixel_spacing for plane in planes])
    orientations = np.array([plane.orientation for plane in planes])
    properties = (
        ("matrix sizes", " x ", np.array([plane.matrix for plane in planes]), 0.0),
        ("pixel spacings", " x ", spacings, PIXEL_SPACING_TOLERANCE * float(spacings.max())),
        ("orientations", "\\", orientations, ORIENTATION_TOLERANCE),
    )
    faults = []
    for what, separator, values, tolerance in properties:
        groups = _groups(values, tolerance)
        if len(groups) > 1:
            parts = [
                f"{separator.join(f'{number:.4g}' for number in values[group[0]])} in {_counted(len(group), 'slice')}"
                f" ({_listed([_placed(planes[i]) for i in group], ', ', 3)})"
                for group in groups
            ]
            faults.append(StackFault("mixture", f"{len(groups)} different {what}: {_listed(parts)}"))
    return faults


def _groups(values: NDArray[Any], tolerance: float) -> list[list[int]]:
    """Indices of rows whose values lie within `tolerance` of the group's first row; groups in order of appearance."""
    groups: list[list[int]] = []
    left = np.arange(len(values))
    while len(left):
        alike = np.abs(values[left] - values[left[0]]).max(axis=1) <= tolerance
        groups.append(left[alike].tolist())
        left = left[~alike]
    return groups


def _repetitions(labels: list[str], distances: NDArray[np.float64]) -> list[StackFault]:
    """Places that hold more than one slice."""
    starts = [0, *(i for i in range(1, len(distances)) if distances[i] - distances[i - 1] > SAME_POSITION_MM)]
    stacks = [labels[a:b] for a, b in zip(starts, [*starts[1:], len(labels)], strict=True)]
    repeated = [" and ".join(stack) for stack in stacks if len(stack) > 1]
    if not repeated:
        return []
    each = len(stacks[0])
    if len(stacks) > 1 and all(len(stack) == each for stack in stacks):
        times = f"each of the {len(stacks)} positions is imaged {each} times (first {repeated[0]})"
        return [StackFault("repeated", f"{times}: the series holds {each} volumes, such as echoes or time points")]
    return [StackFault("repeated", f"slices at the same position: {_listed(repeated)}")]


def _irregularities(labels: list[str], distances: NDArray[np.float64]) -> list[StackFault]:
    """Missing slices and uneven distances."""
    steps = np.diff(distances)
    grid = np.linspace(distances[0], distances[-1], len(distances))
    if np.abs(distances - grid).max() <= _position_tolerance(float(np.median(steps))):
        return []
    usual = usual_distance(distances)
    counts = np.rint(steps / usual).astype(int)
    tolerance = 2 * _position_tolerance(usual)
    if (counts > 1).any() and (np.abs(steps - counts * usual) <= tolerance).all():
        gaps = [
            f"{_counted(counts[i] - 1, 'slice')} missing between {labels[i]} and {labels[i + 1]}"
            for i in np.flatnonzero(counts > 1)
        ]
        return [StackFault("gap", f"the slices are {usual:.3f} mm apart, but {_listed(gaps)}")]
    middle = float(np.median(steps))
    odd = np.flatnonzero(np.abs(steps - middle) > 2 * _position_tolerance(middle))
    odd = odd if len(odd) else np.array([int(np.argmax(np.abs(steps - middle)))])
    pairs = [f"{steps[i]:.3f} mm from {labels[i]} to {labels[i + 1]}" for i in odd]
    extent = f"uneven slice distances, {steps.min():.3f} to {steps.max():.3f} mm"
    return [StackFault("uneven", f"{extent}, mostly {middle:.3f} mm, but {_listed(pairs)}")]


def _sideways(planes: Sequence[SlicePlane], labels: list[str], distances: NDArray[np.float64]) -> list[StackFault]:
    """A stack that does not run along the slices' normal, and slices that lie beside the stack's line."""
    positions = np.array([plane.position for plane in planes])
    rise = distances - distances[0]
    aside = positions - positions[0] - rise[:, None] * slice_normal(planes[0])
    faults = []
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(aside[-1]), rise[-1])))
    if tilt > TILT_TOLERANCE_DEGREES:
        shift = float(np.linalg.norm(aside[-1])) / (len(planes) - 1)
        way = f"from one to the next, from {labels[0]} to {labels[-1]}"
        phrase = f"the slices are shifted sideways by {shift:.3f} mm {way}: a gantry tilt of {tilt:.1f} degrees"
        faults.append(StackFault("tilt", phrase))
    beside = np.linalg.norm(aside - np.outer(rise / rise[-1], aside[-1]), axis=1)
    step = float(rise[-1]) / (len(planes) - 1)
    off = [f"{labels[i]} by {beside[i]:.3f} mm" for i in np.flatnonzero(beside > _position_tolerance(step))]
    if off:
        faults.append(StackFault("beside", f"slices beside the straight line of the others: {_listed(off)}"))
    return faults


def _position_tolerance(step: float) -> float:
    return min(POSITION_TOLERANCE_MM, POSITION_TOLERANCE_FRACTION * step)


def _placed(plane: SlicePlane) -> str:
    return f"{plane.name} at ({', '.join(f'{number:.1f}' for number in plane.position)}) mm"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _listed(items: Sequence[str], separator: str = "; ", most: int = 5) -> str:
    """The first few items and how many more there are."""
    more = f"{separator}and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more
