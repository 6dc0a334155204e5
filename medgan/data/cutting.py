"""Where a patch is cut out of a volume: more often where the anatomy has edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medgan.geometry import Shape

# How much of the patch sampling ignores the anatomy, so that air and homogeneous tissue are seen as well.
_UNIFORM_PART = 0.25
_BLOCKS_PER_AXIS = 16


def cumulative_detail(voxels: NDArray[np.float32]) -> NDArray[np.float64]:
    """The cumulative probability of the blocks of a volume, 16 along each axis: three quarters by the mean magnitude
    of the gradient, one quarter by size.

    Args:
        voxels: (X, Y, Z).

    Returns:
        One number per block, the last axis fastest, the last number 1.
    """
    detail = np.sqrt(sum(np.square(np.gradient(voxels, axis=axis)) for axis in range(3) if voxels.shape[axis] > 1))
    uniform = np.ones(voxels.shape)
    for axis, length in enumerate(voxels.shape):
        starts = _block_edges(length)[:-1]
        detail = np.add.reduceat(detail, starts, axis=axis, dtype=np.float64)
        uniform = np.add.reduceat(uniform, starts, axis=axis)
    weights = uniform / uniform.sum()
    if detail.sum() > 0:
        weights = _UNIFORM_PART * weights + (1 - _UNIFORM_PART) * detail / detail.sum()
    return np.cumsum(weights.ravel())


def drawn_centre(table: NDArray[np.float64], shape: Sequence[int], rng: np.random.Generator) -> list[int]:
    """A voxel of a volume of this shape: a block by the table of `cumulative_detail`, and any voxel of it."""
    edges = [_block_edges(length) for length in shape]
    block = min(int(np.searchsorted(table, rng.random() * table[-1], side="right")), len(table) - 1)
    place = np.unravel_index(block, [len(edge) - 1 for edge in edges])
    return [int(rng.integers(edge[i], edge[i + 1])) for edge, i in zip(edges, place, strict=True)]


def cut_around(
    voxels: NDArray[np.float32], centre: Sequence[int], shape: Sequence[int], margin: int = 0
) -> tuple[NDArray[np.float32], Shape]:
    """A patch around a voxel, shifted inside where it would reach over the volume's faces.

    Args:
        voxels: (X, Y, Z).
        centre: index of the voxel.
        shape: voxels of the patch; along axes where the volume has fewer it is padded by reflection.
        margin: voxels next to the faces that the patch does not touch, as far as there is room.

    Returns:
        The patch, a view where nothing had to be padded, and the index of its first voxel, negative where it was.
    """
    start = [_first(middle, have, want, margin) for middle, have, want in zip(centre, voxels.shape, shape, strict=True)]
    inside = tuple(
        slice(max(first, 0), min(first + want, have))
        for first, want, have in zip(start, shape, voxels.shape, strict=True)
    )
    cut = np.asarray(voxels[inside])
    if cut.shape != tuple(shape):
        before = [max(-first, 0) for first in start]
        after = [want - have - b for want, have, b in zip(shape, cut.shape, before, strict=True)]
        cut = np.pad(cut, list(zip(before, after, strict=True)), mode="symmetric")
    return cut, (start[0], start[1], start[2])


def _block_edges(length: int) -> NDArray[np.int_]:
    """Where the blocks of an axis begin, and its end."""
    count = min(length, _BLOCKS_PER_AXIS)
    return np.arange(count + 1) * length // count


def _first(centre: int, have: int, want: int, margin: int) -> int:
    """The first of `want` voxels around `centre`, all inside 0..have-1 and `margin` away from its ends if possible."""
    room = have - want
    if room < 0:
        return -((want - have) // 2)
    margin = min(margin, room // 2)
    return min(max(centre - want // 2, margin), room - margin)
