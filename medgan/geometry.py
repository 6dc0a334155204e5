"""Where voxels are: pure functions on affines and shapes.

An affine here is a 4x4 float64 matrix that takes a voxel index (i, j, k, 1) to patient coordinates in millimetres, axes
pointing Right, Anterior, Superior (RAS+, the NIfTI convention; DICOM is LPS and is turned at reading). The index of a
voxel is its **centre**; a grid of n voxels along an axis therefore occupies the index interval [-0.5, n - 0.5], its
field of view. Every function that changes a grid keeps that interval's ends where they belong in space.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgan.errors import MedganError

Affine = NDArray[np.float64]
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]

_DIRECTIONS = (("L", "R"), ("P", "A"), ("I", "S"))


def checked_affine(affine: ArrayLike) -> Affine:
    """`affine` as a read-only float64 4x4 matrix.

    Raises:
        MedganError: it is not 4x4, not finite, singular, or its last row is not (0, 0, 0, 1).
    """
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise MedganError(f"an affine must be 4x4, this one is {'x'.join(map(str, matrix.shape))}")
    if not np.isfinite(matrix).all():
        raise MedganError("the affine holds values that are not finite", hint="Repair the header's geometry.")
    if not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise MedganError(f"the affine's last row must be (0, 0, 0, 1), it is {tuple(matrix[3].tolist())}")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if (lengths == 0).any() or abs(np.linalg.det(matrix[:3, :3] / np.where(lengths == 0, 1, lengths))) < 1e-6:
        sizes = np.round(lengths, 6).tolist()
        raise MedganError(
            f"the affine is singular (voxel sizes {sizes} mm): two voxel axes coincide or one has no length",
            hint="Repair the header's geometry, for example from the original DICOM series.",
        )
    matrix.setflags(write=False)
    return matrix


def spacing_of(affine: ArrayLike) -> Spacing:
    """Distance in mm between neighbouring voxel centres along each of the three array axes."""
    x, y, z = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def is_oblique(affine: ArrayLike, tolerance: float = 1e-4) -> bool:
    """Whether any voxel axis deviates from the patient axes by more than `tolerance` (sine of the angle)."""
    directions = np.abs(np.asarray(affine)[:3, :3] / np.asarray(spacing_of(affine)))
    return bool((np.sort(directions, axis=0)[:2] > tolerance).any())


def axis_directions(affine: ArrayLike) -> tuple[tuple[int, int], ...]:
    """For each array axis: the patient axis (0 R, 1 A, 2 S) that it follows most closely, and its sign.

    The assignment is one to one and maximises the summed alignment, so an oblique scan at 45 degrees is still
    unambiguous.
    """
    from itertools import permutations

    directions = np.asarray(affine, dtype=np.float64)[:3, :3] / np.asarray(spacing_of(affine))
    best = max(permutations(range(3)), key=lambda order: sum(abs(directions[order[i], i]) for i in range(3)))
    return tuple((axis, 1 if directions[axis, i] >= 0 else -1) for i, axis in enumerate(best))


def orientation_of(affine: ArrayLike) -> str:
    """Three letters: the patient direction towards which each array index grows, such as "RAS" or "PSR"."""
    return "".join(_DIRECTIONS[axis][sign > 0] for axis, sign in axis_directions(affine))


def world_corners(affine: ArrayLike, shape: Sequence[int]) -> NDArray[np.float64]:
    """The eight outer corners of the field of view, in RAS mm; shape (8, 3), the last array axis varying fastest."""
    ends = [(-0.5, n - 0.5) for n in shape]
    indices = np.array([(i, j, k, 1.0) for i in ends[0] for j in ends[1] for k in ends[2]])
    return np.asarray((indices @ np.asarray(affine, dtype=np.float64).T)[:, :3])


def resampled_affine(affine: ArrayLike, shape: Sequence[int], new_shape: Sequence[int]) -> Affine:
    """The affine of the same field of view sampled by `new_shape` voxels instead of `shape`.

    The outer edges of the outer voxels stay where they are, so the first voxel's centre moves by half the difference
    of the voxel sizes.
    """
    old, new = np.asarray(shape, dtype=np.float64), np.asarray(new_shape, dtype=np.float64)
    step = old / new
    index_map = np.eye(4)
    index_map[:3, :3] = np.diag(step)
    index_map[:3, 3] = 0.5 * step - 0.5
    return np.asarray(affine, dtype=np.float64) @ index_map


def shifted_affine(affine: ArrayLike, first: Sequence[int]) -> Affine:
    """The affine of a grid whose voxel (0, 0, 0) is voxel `first` of the given one; negative numbers pad."""
    index_map = np.eye(4)
    index_map[:3, 3] = first
    return np.asarray(affine, dtype=np.float64) @ index_map


def shape_for_spacing(affine: ArrayLike, shape: Sequence[int], spacing: Sequence[float]) -> Shape:
    """How many voxels of about `spacing` mm fill the field of view along each axis; at least one.

    The count is rounded, so the true spacing afterwards is the field of view divided by the count.
    """
    x, y, z = (max(1, round(n * have / want)) for n, have, want in zip(shape, spacing_of(affine), spacing, strict=True))
    return x, y, z


def default_affine(shape: Sequence[int], spacing: Sequence[float]) -> Affine:
    """An axis-aligned RAS affine whose field of view is centred on the origin."""
    affine = np.diag([*map(float, spacing), 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True)]
    return affine
