"""Displacement between contrasts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.pair_alignment import displacement_told, edge_alignment


def _pairs(shift: tuple[float, float, float]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Blobs, and the same under a map of intensities that is not monotone, moved by `shift` voxels."""
    for seed in range(4):
        field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((32, 30, 28)), 2.5, mode="wrap")
        source = np.clip(0.5 + 0.25 * field / field.std(), 0, 1)
        moved = np.fft.ifftn(ndimage.fourier_shift(np.fft.fftn(source), shift)).real
        yield source, 0.5 + 0.4 * np.cos(2 * np.pi * moved)


@pytest.mark.parametrize("shift", [(1.0, 0.0, 0.0), (0.0, -1.5, 0.0), (0.7, 0.0, 1.0)])
def test_a_shift_is_found_whatever_the_contrast(shift: tuple[float, float, float]) -> None:
    alignment = edge_alignment(_pairs(shift))
    # Positive means that the first volume lies towards higher indices.
    np.testing.assert_allclose(alignment.shift, [-one for one in shift], atol=0.2)
    told = displacement_told(alignment)
    assert told is not None
    for value, axis in zip(shift, ("right-left", "front-back", "up-down"), strict=True):
        assert (axis in told) == (value != 0)


def test_pairs_that_lie_on_each_other_are_not_blamed() -> None:
    alignment = edge_alignment(_pairs((0.0, 0.0, 0.0)))
    assert displacement_told(alignment) is None
    assert max(map(abs, alignment.shift)) < 0.25
