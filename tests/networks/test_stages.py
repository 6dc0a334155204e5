from __future__ import annotations

import pytest

from medgan.errors import MedganError
from medgan.networks.stages import stage_shapes


def test_isotropic_cube_is_halved_to_the_base() -> None:
    assert stage_shapes((32, 32, 32), (1, 1, 1)) == ((4, 4, 4), (8, 8, 8), (16, 16, 16), (32, 32, 32))


def test_odd_and_unequal_sizes_are_rounded_up() -> None:
    assert stage_shapes((18, 22, 18), (2, 2, 2)) == ((5, 6, 5), (9, 11, 9), (18, 22, 18))


def test_a_short_axis_stops_shrinking_alone() -> None:
    assert stage_shapes((6, 32, 32), (1, 1, 1)) == ((6, 4, 4), (6, 8, 8), (6, 16, 16), (6, 32, 32))


def test_thick_slices_wait_until_the_planes_have_caught_up() -> None:
    """64 x 64 at 1 mm with 16 slices of 4 mm: two in-plane halvings make it isotropic."""
    shapes = stage_shapes((64, 64, 16), (1, 1, 4))
    assert shapes == ((4, 4, 4), (8, 8, 8), (16, 16, 16), (32, 32, 16), (64, 64, 16))


def test_too_small_a_volume_is_refused_with_its_shape() -> None:
    with pytest.raises(MedganError, match="8x3x8"):
        stage_shapes((8, 3, 8), (1, 1, 1))
