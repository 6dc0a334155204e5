"""Edge maps: what stays of a scan when grey levels, contrast and brightness are taken away.

The size of the gradient, less its mean nearby and over its spread nearby. Gamma, inversion and bias fields hardly
change it, because they change what is an edge as little as where it is; and it is sharp where people differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Map = NDArray[np.float32]

Sizes = NDArray[np.float64]

BLOCK = 6
"""Side of a block in voxels."""
_NEARLY_EMPTY = 0.25
_SMOOTHING = 0.7
# Side of the neighbourhood in voxels, over which means are taken twice.
_NEARBY = 5
# Part of the whole map's spread below which the spread nearby counts as none: noise in air is no edge.
_LEAST_SPREAD = 0.15


def edge_map(volume: NDArray[Any]) -> Map:
    """Where the edges of a volume are, by the standards of their neighbourhood.

    Args:
        volume: (X, Y, Z), at least two voxels a side.

    Returns:
        (X, Y, Z), about -1..3; zero for a constant volume.
    """
    smooth = ndimage.gaussian_filter(np.asarray(volume, dtype=np.float32), _SMOOTHING, truncate=3)
    size = np.sqrt(sum(slope * slope for slope in np.gradient(smooth)))
    excess = size - _nearby_mean(size)
    spread = _nearby_mean(excess * excess) + (_LEAST_SPREAD * float(size.std())) ** 2
    return np.asarray(excess / np.sqrt(np.maximum(spread, 1e-20)), dtype=np.float32)


def unit(values: NDArray[Any]) -> Map:
    """Of mean zero and length one; a constant gives zeros."""
    centred = values - values.mean(dtype=np.float64)
    length = float(np.sqrt(np.sum(centred * centred, dtype=np.float64)))
    return np.asarray(centred / length if length > 1e-9 else np.zeros_like(centred), dtype=np.float32)


def best_half(first: Map, second: Map, *, side: int = BLOCK) -> float:
    """Correlation of two maps in the better half of their blocks, by the first one's weight.

    What was cut out, cropped or painted over in half of the volume does not count.

    Args:
        first: (X, Y, Z); blocks in which it is nearly empty are left out.
        second: of the same shape.
        side: of the blocks in voxels.
    """
    cut = [blocks(unit(values), side) for values in (first, second)]
    return float(best_half_of_blocks(cut[0][None], cut[1])[0])


def best_half_of_blocks(first: Map, second: Map, weights: Sizes | None = None) -> Sizes:
    """The same of several volumes against one.

    Args:
        first: (M, blocks, voxels), of M volumes.
        second: (blocks, voxels), of one.
        weights: `block_weights` of the first, where they are known.
    """
    products = np.einsum("mbk,bk->mb", first, second).astype(np.float64)
    theirs = np.einsum("bk,bk->b", second, second).astype(np.float64)
    ours = block_weights(first) if weights is None else weights
    return _better_half(products, ours, theirs)


def block_weights(volumes: Map) -> Sizes:
    """(M, blocks) of (M, blocks, voxels): the sum of squares in each block."""
    return np.einsum("mbk,mbk->mb", volumes, volumes).astype(np.float64)


def _better_half(products: Sizes, ours: Sizes, theirs: Sizes) -> Sizes:
    """The mean correlation in the better half of the blocks, (M,), from sums over each block, (M, blocks) and for
    `theirs` (blocks,).
    """
    filled = ours > _NEARLY_EMPTY * _positive_median(ours)[:, None]
    correlations = products / np.sqrt(np.maximum(ours * theirs, 1e-24))
    order = np.argsort(np.where(filled, -correlations, np.inf), axis=1, kind="stable")
    weights = np.take_along_axis(np.where(filled, ours, 0.0), order, axis=1)
    kept = np.cumsum(weights, axis=1) <= 0.5 * weights.sum(axis=1, keepdims=True)
    kept[:, 0] = True
    weights = weights * kept
    total = weights.sum(axis=1)
    found = (np.take_along_axis(correlations, order, axis=1) * weights).sum(axis=1)
    return np.asarray(np.where(total > 0, found / np.where(total > 0, total, 1.0), 0.0))


def _positive_median(values: Sizes) -> Sizes:
    """The median of the positive numbers in each row, zero where there are none."""
    ordered = np.sort(np.where(values > 0, values, np.inf), axis=1)
    count, rows = (values > 0).sum(axis=1), np.arange(len(values))
    middle = 0.5 * (ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, count // 2])
    return np.asarray(np.where(count > 0, middle, 0.0))


def _nearby_mean(values: NDArray[Any]) -> NDArray[Any]:
    """Means over a cube, twice, which is nearly a Gaussian."""
    return np.asarray(ndimage.uniform_filter(ndimage.uniform_filter(values, _NEARBY), _NEARBY))


def blocks(values: Map, side: int = BLOCK) -> Map:
    """(N, side cubed): the volume in cubes, filled up with zeros."""
    x, y, z = (-(-n // side) for n in values.shape)
    padded = np.zeros((x * side, y * side, z * side), dtype=np.float32)
    padded[tuple(slice(n) for n in values.shape)] = values
    return padded.reshape(x, side, y, side, z, side).transpose(0, 2, 4, 1, 3, 5).reshape(x * y * z, side**3)
