"""Two hundred random geometries: the result of upscaling lies where the scan lay, to the last outer edge.

The arithmetic is nibabel's: corners and voxel sizes come from `nibabel.affines`, orientations from `aff2axcodes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from medgan.inference.upscale import upscale
from medgan.volume import Volume

_COUNT = 200


def _geometries() -> Iterator[tuple[Volume, dict[str, Any], tuple[int, ...]]]:
    """Scans of 2 to 9 voxels along each axis, any orientation, tilt and spacing; what is asked, and the voxels that
    must come of it.
    """
    rng = np.random.default_rng(20)
    for number in range(_COUNT):
        shape = tuple(int(size) for size in rng.integers(2, 10, 3))
        spacing = rng.uniform(0.4, 6.0, 3)
        turned = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
        # A third lies straight, a third is tilted a little, a third at random.
        tilt = Rotation.from_rotvec(rng.standard_normal(3) * (0.0, 0.2, 2.0)[number % 3]).as_matrix()
        affine = np.eye(4)
        affine[:3, :3] = tilt @ turned * spacing
        affine[:3, 3] = rng.uniform(-200, 200, 3)
        scan = Volume(rng.random(shape, dtype=np.float32), affine)
        factor = np.where(rng.random(3) < 0.3, 1.0, rng.uniform(1.0, 4.0, 3))
        wanted = tuple(max(n, round(n * times)) for n, times in zip(shape, factor, strict=True))
        if number % 2:
            yield scan, {"factor": tuple(factor)}, wanted
        else:
            yield scan, {"spacing": tuple(spacing / factor)}, wanted


def _corners(affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.asarray(nib.affines.apply_affine(affine, list(product(*((-0.5, size - 0.5) for size in shape)))))


def test_affine_and_outer_edges_are_exact() -> None:
    orientations = set()
    for scan, asked, wanted in _geometries():
        result = upscale(scan, **asked)
        assert result.shape == wanted, asked
        np.testing.assert_allclose(
            _corners(result.affine, result.shape), _corners(scan.affine, scan.shape), rtol=0, atol=1e-9
        )
        sizes = nib.affines.voxel_sizes(scan.affine) * scan.shape / wanted
        np.testing.assert_allclose(nib.affines.voxel_sizes(result.affine), sizes, rtol=1e-12)
        # The corners could be right with the axes in each other's place.
        np.testing.assert_allclose(
            result.affine[:3, :3] / nib.affines.voxel_sizes(result.affine),
            scan.affine[:3, :3] / nib.affines.voxel_sizes(scan.affine),
            rtol=0,
            atol=1e-12,
        )
        orientations.add("".join(nib.aff2axcodes(result.affine)))
    # All 48 ways to lie are met, but for a few by chance.
    assert len(orientations) > 40


def test_a_linear_scan_stays_where_it_is_in_space() -> None:
    """Values that are linear in space are known at every place; the voxels of the result must lie where they say."""
    rng = np.random.default_rng(21)
    for scan, _, _ in list(_geometries())[:40]:
        affine, shape = np.array(scan.affine), (13, 12, 11)
        slope = rng.standard_normal(3)
        ramp = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)) @ slope
        result = upscale(Volume(ramp.astype(np.float32), affine), factor=(1, 2, 3))
        truth = nib.affines.apply_affine(result.affine, np.moveaxis(np.indices(result.shape), 0, -1)) @ slope
        # Towards the borders the inverse, which knows nothing beyond, levels off.
        inner = tuple(slice(4 * f, -4 * f) for f in (1, 1, 2))
        per_voxel = np.abs(slope @ affine[:3, :3]).max()
        assert np.abs(result.data[0][inner] - truth[inner]).max() < 0.1 * per_voxel
