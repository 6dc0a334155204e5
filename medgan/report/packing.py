"""Scans packed for the viewer inside a page: 8 bits a voxel, small enough to travel in the page, geometry kept."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.report.planes import common_window
from medgan.volume import Volume

MOST_VOXELS = 6_000_000
"""Voxels of all scans of one viewer together: 3 to 6 MB of page."""

_GREYS = 255


def packed_scans(
    scans: Sequence[tuple[str, Volume]],
    *,
    window: tuple[float, float] | None = None,
    most_voxels: int = MOST_VOXELS,
) -> list[dict[str, Any]]:
    """Scans as the viewer's script reads them.

    Args:
        scans: title and scan; the first channel is taken.
        window: the values that become black and white; those of each scan by default.
        most_voxels: of all scans together; larger ones become means of blocks of voxels.

    Returns:
        For each scan plain values: "title"; "shape" (X, Y, Z) in RAS order; "spacing" in mm; "affine", 3 x 4, from a
        voxel's index to RAS mm; "window", the intensities of the greys 0 and 255; "thinned", the sides of the blocks;
        "voxels", base64 of zlib-compressed bytes: first index fastest, each byte less the one before, modulo 256.
    """
    allowed = most_voxels // max(1, len(scans))
    return [_packed(title, volume, window, allowed) for title, volume in scans]


def _packed(title: str, volume: Volume, window: tuple[float, float] | None, allowed: int) -> dict[str, Any]:
    turned = volume.reoriented("RAS")
    data = turned.as_float()[0]
    factors = _thinning(data.shape, turned.spacing, allowed)
    data = _block_means(np.nan_to_num(data, posinf=0.0, neginf=0.0), factors)
    low, high = window or common_window([turned.with_data(turned.data[0])])
    grey = np.rint(np.clip((data - low) / (high - low), 0, 1) * _GREYS).astype(np.uint8)
    affine = turned.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((np.array(factors) - 1) / 2)
    affine[:3, :3] = affine[:3, :3] * np.array(factors)
    return {
        "title": title,
        "shape": list(grey.shape),
        "spacing": [round(float(step * factor), 6) for step, factor in zip(turned.spacing, factors, strict=True)],
        "affine": [[round(float(value), 4) for value in row] for row in affine[:3]],
        "window": [float(low), float(high)],
        "thinned": list(factors),
        "voxels": b64encode(_compressed(grey)).decode("ascii"),
    }


def _compressed(grey: NDArray[np.uint8]) -> bytes:
    """Differences of neighbours compress better than the greys themselves."""
    flat = grey.ravel(order="F")
    return zlib.compress(np.diff(flat, prepend=np.uint8(0)).tobytes(), 6)


def _thinning(shape: Sequence[int], spacing: Sequence[float], allowed: int) -> tuple[int, int, int]:
    """Sides of the blocks that become one voxel: the finest axis is thinned first, so that none becomes coarsest."""
    factors = [1, 1, 1]
    while np.prod([-(-side // factor) for side, factor in zip(shape, factors, strict=True)]) > allowed:
        steps = [step * factor for step, factor in zip(spacing, factors, strict=True)]
        factors[int(np.argmin(steps))] += 1
    return factors[0], factors[1], factors[2]


def _block_means(data: NDArray[np.float32], factors: tuple[int, int, int]) -> NDArray[np.float32]:
    """Means of blocks; where a side does not divide, the last voxels are repeated to fill its block."""
    if factors == (1, 1, 1):
        return data
    gaps = [(0, -side % factor) for side, factor in zip(data.shape, factors, strict=True)]
    filled = np.pad(data, gaps, mode="edge")
    (x, y, z), (a, b, c) = filled.shape, factors
    blocks = filled.reshape(x // a, a, y // b, b, z // c, c)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))
