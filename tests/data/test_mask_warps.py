from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from medgan.data.mask_warps import nearest_at, warped_mask
from medgan.volume import Volume

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def _mask() -> Volume:
    labels = np.zeros((30, 32, 20), np.uint16)
    labels[8:20, 10:22, 6:14] = 1
    labels[20:24, 10:22, 6:14] = 7
    return Volume(labels, AFFINE)


def test_a_known_displacement_reads_where_it_points() -> None:
    labels = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    shift = np.zeros((3, 3, 4, 5))
    shift[1] = 1.2
    np.testing.assert_array_equal(nearest_at(labels, shift), labels[:, [1, 2, 3, 3]])


def test_labels_stay_whole_and_in_one_piece() -> None:
    mask = _mask()
    for seed in range(3):
        warped = warped_mask(mask, 1.5, seed)
        assert set(np.unique(warped.data)) == {0, 1, 7}
        assert not np.array_equal(warped.data, mask.data)
        for one in (1, 7):
            assert label(warped.data[0] == one)[1] == 1
        np.testing.assert_array_equal(warped.affine, mask.affine)
    np.testing.assert_array_equal(warped_mask(mask, 1.5, 3).data, warped_mask(mask, 1.5, 3).data)


def test_sizes_are_in_mm_along_every_axis() -> None:
    """Numbers that count voxels along one axis tell how far each voxel was moved along it."""
    shape = (14, 15, 16)
    for axis, side in ((0, 1.0), (2, 2.0)):
        positions = np.broadcast_to(np.indices(shape)[axis], shape).astype(np.uint16)
        moved = []
        for seed in range(8):
            found = warped_mask(Volume(positions, AFFINE), 2.0, seed).data[0].astype(float) - positions
            # Far from the faces, beyond which there is nothing to read.
            moved.append(side * found[4:-4, 4:-4, 4:-4])
        assert np.sqrt(np.mean(np.square(moved))) == pytest.approx(2 / np.sqrt(3), rel=0.4)
