from __future__ import annotations

import numpy as np
import pytest

from medgan.evaluation.scans import Mirrored, over_scans, thumbnail


def test_small_volumes_are_their_own_thumbnails() -> None:
    volume = np.random.default_rng(0).random((20, 48, 3), dtype=np.float32)
    assert np.array_equal(thumbnail(volume), volume)


def test_thumbnails_are_means_of_blocks() -> None:
    volume = np.random.default_rng(1).random((120, 120, 90), dtype=np.float32)
    expected = volume.reshape(40, 3, 40, 3, 30, 3).mean(axis=(1, 3, 5))
    assert thumbnail(volume) == pytest.approx(expected, abs=1e-5)


def test_parts_of_voxels_count_in_part() -> None:
    """Five voxels in three parts of 5/3: the first is one voxel and two thirds of the next."""
    volume = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    small = thumbnail(volume, longest=4)
    assert small.shape == (3, 1, 1)
    assert small[:, 0, 0] == pytest.approx([(0 + 2 / 3 * 1) / (5 / 3), 2.0, (4 + 2 / 3 * 3) / (5 / 3)])


def test_a_mirrored_volume_has_the_mirrored_thumbnail() -> None:
    volume = np.random.default_rng(2).random((101, 64, 77), dtype=np.float32)
    assert thumbnail(volume[::-1]) == pytest.approx(thumbnail(volume)[::-1], abs=1e-5)


def test_mirrored_scans() -> None:
    volumes = [np.random.default_rng(k).random((4, 3, 2)) for k in range(5)]
    mirrored = Mirrored(volumes)
    assert len(mirrored) == 5
    assert np.array_equal(mirrored[3][0], volumes[3][3])
    assert [np.array_equal(one, volume[::-1]) for one, volume in zip(mirrored[1:4], volumes[1:4], strict=True)]


def test_over_scans_keeps_the_order() -> None:
    assert over_scans(lambda volume: float(volume[0]), [np.array([k]) for k in range(50)]) == list(range(50))
