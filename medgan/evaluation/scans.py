"""Many scans without holding them: sequences that read one at a time, and what is kept of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Found = TypeVar("Found")

LONGEST_THUMBNAIL = 48
_MOST_THREADS = 4


class Scans(Protocol):
    """Volumes (X, Y, Z) by their number; a list of arrays is one, and so is what reads files when it is asked."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int, /) -> Array:
        """One of them."""
        ...


class Mirrored(Sequence[Array]):
    """The same scans with left and right exchanged.

    Args:
        scans: with X from left to right.
    """

    def __init__(self, scans: Scans) -> None:
        self._scans = scans

    def __len__(self) -> int:
        return len(self._scans)

    @overload
    def __getitem__(self, index: int) -> Array: ...

    @overload
    def __getitem__(self, index: slice) -> list[Array]: ...

    def __getitem__(self, index: int | slice) -> Array | list[Array]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        return np.asarray(self._scans[index])[::-1]


def over_scans(function: Callable[[Array], Found], scans: Scans) -> list[Found]:
    """`function` of every scan, in their order; a few at a time, each on a core of its own."""
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda number: function(np.asarray(scans[number])), range(len(scans))))


def thumbnail(volume: Array, longest: int = LONGEST_THUMBNAIL) -> NDArray[np.float32]:
    """A volume with at most `longest` voxels a side, each the mean of those of the volume that it covers.

    All axes shrink by the same whole factor as far as their lengths allow; the field of view stays, and a mirrored
    volume has the mirrored thumbnail.

    Args:
        volume: (X, Y, Z).
        longest: of the thumbnail's sides, in voxels.

    Returns:
        float32; the volume itself where it is small enough.
    """
    factor = -(-max(volume.shape) // longest)
    small = np.asarray(volume, dtype=np.float32)
    if factor == 1:
        return small
    for axis, side in enumerate(volume.shape):
        weights = _mean_weights(side, -(-side // factor))
        small = np.moveaxis(np.tensordot(weights, small, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(small)


def _mean_weights(side: int, wanted: int) -> NDArray[np.float32]:
    """(wanted, side): how much of each voxel lies in each of `wanted` equal parts of the axis; rows sum to one."""
    edges = np.arange(wanted + 1) * (side / wanted)
    voxels = np.arange(side)
    overlap = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    return np.asarray(np.clip(overlap, 0, None) * (wanted / side), dtype=np.float32)
