"""Changing a scan's grid: the same field of view with other voxels, or the same voxels with another field of view.

Along each axis the voxels are the samples of a B-spline whose boundary reflects half a voxel outside the last centre
(so the mirror is the edge of the field of view), and every change of grid is one small sparse matrix per axis. The new
grid is cell-centred: its outer edges are those of the old one (see `medgan.geometry.resampled_affine`).

Going to fewer voxels, `resampled` takes the exact **mean of that B-spline over each new voxel**. This is what a larger
voxel measures, it has no free parameter, keeps the mean of the scan (and linear ramps, away from the mirrors) exactly,
and its response is zero at the new sampling frequency. A Gaussian prefilter would need a width, and blurs more for the
same suppression there.

Source of the interpolation: M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing
Magazine 16(6), 1999.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medgan import geometry
from medgan.errors import MedganError
from medgan.geometry import Shape, Spacing
from medgan.volume import Volume

ORDERS = (0, 1, 3, 5)
Real = TypeVar("Real", np.float32, np.float64)


def interpolated(array: NDArray, new_shape: Sequence[int], order: int = 3) -> NDArray[np.float32]:
    """Sample an array on `new_shape` voxels over the same field of view, without any smoothing.

    Args:
        array: (..., X, Y, Z), real numbers in any unit.
        new_shape: voxels wanted along X, Y and Z.
        order: of the B-spline: 0 (nearest neighbour, for labels), 1 (linear), 3 (cubic) or 5.

    Returns:
        float32, (..., *new_shape), in the input's units. Orders 3 and 5 may overshoot the input's range at sharp edges.

    Raises:
        MedganError: an unsupported order or an impossible shape.
    """
    return _regridded(array, checked_shape(new_shape), _checked_order(order), averaging=False)


def resampled(
    volume: Volume,
    *,
    shape: Shape | None = None,
    spacing: Spacing | None = None,
    order: int = 3,
    antialias: bool = True,
) -> Volume:
    """The same field of view with other voxels.

    Args:
        volume: (C, X, Y, Z).
        shape: voxels wanted along the three array axes; or
        spacing: mm wanted along the three array axes. The count is rounded to whole voxels, so the true spacing
            afterwards is the field of view divided by the count.
        order: of the B-spline: 0 (nearest neighbour, for labels), 1, 3 or 5.
        antialias: along axes that lose voxels, average over each new voxel. Order 0 never averages, because the mean of
            two labels is a third one.

    Returns:
        float32 voxels in the input's units; the corners of the field of view (`geometry.world_corners`) do not move.

    Raises:
        MedganError: neither or both of `shape` and `spacing`, or values that make no grid.
    """
    if (shape is None) == (spacing is None):
        raise MedganError(f"resampling needs a shape or a spacing, got shape={shape} and spacing={spacing}")
    if spacing is not None:
        new_shape = geometry.shape_for_spacing(volume.affine, volume.shape, checked_spacing(spacing))
    else:
        new_shape = checked_shape(shape or ())
    data = _regridded(volume.data, new_shape, _checked_order(order), averaging=antialias and order > 0)
    affine = geometry.resampled_affine(volume.affine, volume.shape, new_shape)
    return volume.with_grid(data, affine, f"resampled from {_times(volume.shape)} to {_times(new_shape)} voxels")


def cropped_or_padded(volume: Volume, shape: Shape, *, fill: float | None = None) -> Volume:
    """The same voxels in a smaller or larger field of view with the same centre.

    Where an odd number of voxels is cut or added, the odd one is at the axis' far end; the affine says so, and no voxel
    moves in space.

    Args:
        volume: (C, X, Y, Z), any type; the type is kept.
        shape: voxels wanted along the three array axes.
        fill: value of the added voxels, in the scan's units; the smallest value of the scan when None.
    """
    shape = checked_shape(shape)
    if shape == volume.shape:
        return volume
    first = [
        (have - want) // 2 if have > want else -((want - have) // 2)
        for have, want in zip(volume.shape, shape, strict=True)
    ]
    kept = tuple(
        slice(max(f, 0), min(f + want, have)) for f, want, have in zip(first, shape, volume.shape, strict=True)
    )
    placed = tuple(slice(max(-f, 0), max(-f, 0) + k.stop - k.start) for f, k in zip(first, kept, strict=True))
    value = volume.data.min() if fill is None else fill
    data = np.full((volume.channels, *shape), value, dtype=volume.data.dtype)
    data[(slice(None), *placed)] = volume.data[(slice(None), *kept)]
    step = f"cropped or padded from {_times(volume.shape)} to {_times(shape)} voxels"
    return volume.with_grid(data, geometry.shifted_affine(volume.affine, first), step)


def applied_along(matrix: Any, array: NDArray[Real], axis: int) -> NDArray[Real]:
    """A scipy sparse matrix (M, N) times an array (..., X, Y, Z) along `axis`, whose length is N.

    Sparse products run on one thread, so the result is the same to the last bit on any number of them; those of dense
    matrices are not.
    """
    moved = np.moveaxis(array, axis, 0)
    product = matrix @ np.ascontiguousarray(moved).reshape(len(moved), -1)
    return np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)


def checked_spacing(spacing: Sequence[float]) -> Spacing:
    """`spacing` as three positive numbers of mm.

    Raises:
        MedganError: it is anything else.
    """
    values = [float(value) for value in spacing]
    if len(values) != 3 or not all(np.isfinite(value) and value > 0 for value in values):
        raise MedganError(
            f"a spacing is three positive numbers in mm, this is {tuple(spacing)}", hint="Write for example 1,1,1."
        )
    x, y, z = values
    return x, y, z


def checked_shape(shape: Sequence[int]) -> Shape:
    """`shape` as three positive whole numbers.

    Raises:
        MedganError: it is anything else.
    """
    values = [int(value) for value in shape]
    if len(values) != 3 or min(values) < 1 or any(value != given for value, given in zip(values, shape, strict=True)):
        raise MedganError(
            f"a shape is three positive whole numbers, this is {tuple(shape)}", hint="Write for example 128,160,128."
        )
    x, y, z = values
    return x, y, z


def _checked_order(order: int) -> int:
    if order not in ORDERS:
        raise MedganError(f"interpolation order {order} is not offered", hint=f"Use one of {ORDERS}.")
    return order


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _regridded(array: NDArray, new_shape: Shape, order: int, averaging: bool) -> NDArray[np.float32]:
    """Apply one matrix per axis that changes, those that shrink the array most first."""
    array = np.asarray(array)
    if array.ndim < 3:
        raise MedganError(f"expected an array of the shape (..., X, Y, Z), got {array.shape}")
    result = array.astype(np.float32, copy=True)
    for axis in sorted(range(3), key=lambda axis: new_shape[axis] / array.shape[axis - 3]):
        old, new = array.shape[axis - 3], new_shape[axis]
        if old != new:
            result = _coefficients(result, axis - 3, order)
            result = applied_along(_axis_matrix(old, new, order, averaging and new < old), result, axis - 3)
    return np.ascontiguousarray(result)


def _coefficients(array: NDArray[np.float32], axis: int, order: int) -> NDArray[np.float32]:
    """The coefficients of the B-spline through the samples along one axis, the ends reflecting."""
    from scipy.ndimage import spline_filter1d

    if order < 2:
        return array
    # scipy starts its recursion at an end only approximately; on a short axis that reaches the whole of it. Mirrored
    # copies on both sides change nothing about the spline and take the ends away.
    length = array.shape[axis]
    around = 0 if length > 64 else length * int(np.ceil(64 / length))
    widths = [(0, 0)] * array.ndim
    widths[axis] = (around, around)
    filtered = spline_filter1d(np.pad(array, widths, "symmetric"), order, axis=axis, output=np.float32, mode="reflect")
    return filtered.take(np.arange(around, around + length), axis=axis)


@lru_cache(maxsize=64)
def _axis_matrix(old: int, new: int, order: int, averaging: bool) -> Any:
    """The sparse matrix (new, old) from B-spline coefficients to samples, or to means over the new cells."""
    from scipy.sparse import csr_array

    step = old / new
    centres = (np.arange(new, dtype=np.float64) + 0.5) * step - 0.5
    if order == 0:
        # The small shift decides ties (a new centre between two old ones) alike along the whole axis.
        columns = np.clip(np.floor(centres + 0.5 - 1e-9), 0, old - 1).astype(int)
        return csr_array((np.ones(new, dtype=np.float32), (np.arange(new), columns)), shape=(new, old))
    knots, weights = _basis(centres, step if averaging else 0.0, order)
    rows = np.broadcast_to(np.arange(new)[:, np.newaxis], knots.shape)
    positions = (rows.ravel(), _reflected(knots, old).ravel())
    return csr_array((weights.ravel(), positions), shape=(new, old)).astype(np.float32)


def _basis(centres: NDArray[np.float64], width: float, order: int) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
    """Which B-spline coefficients count at `centres` (N), and how much: two arrays (N, K).

    Args:
        centres: positions in old voxels.
        width: of the cell around each centre over which to average, in old voxels; 0 samples.
        order: of the spline.
    """
    from scipy.interpolate import BSpline

    half = (order + 1) / 2
    basis = BSpline.basis_element(np.arange(order + 2) - half, extrapolate=False)
    reach = int(np.ceil(half + width / 2))
    knots = np.floor(centres).astype(int)[:, np.newaxis] + np.arange(-reach, reach + 2)
    offsets = centres[:, np.newaxis] - knots
    if not width:
        return knots, np.nan_to_num(basis(offsets))
    integral = basis.antiderivative()
    upper, lower = (integral(np.clip(offsets + sign * width / 2, -half, half)) for sign in (1, -1))
    return knots, (upper - lower) / width


def _reflected(index: NDArray[np.int_], length: int) -> NDArray[np.int_]:
    """Indices outside 0..length-1 mirrored at the outer edges of the outer voxels, as often as it takes."""
    index = np.mod(index, 2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)
