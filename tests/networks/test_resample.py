from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medgan.networks.resample import Resample, linear_matrix


@pytest.mark.parametrize(
    ("source", "target"), [((4, 5, 6), (8, 10, 12)), ((5, 6, 5), (9, 11, 10)), ((4, 4, 4), (4, 9, 4))]
)
def test_growing_equals_trilinear_interpolation(source: tuple[int, int, int], target: tuple[int, int, int]) -> None:
    x = torch.randn(2, 3, *source)
    expected = F.interpolate(x, size=target, mode="trilinear", align_corners=False)
    torch.testing.assert_close(Resample(source, target)(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("source", "target"), [(18, 9), (9, 5), (22, 11), (11, 6), (7, 3), (5, 9)])
def test_rows_sum_to_one_and_the_centre_of_mass_stays(source: int, target: int) -> None:
    """A linear ramp over the field of view stays the same ramp away from the edges."""
    matrix = linear_matrix(source, target)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    ramp = (np.arange(source) + 0.5) / source
    inner = slice(1, -1)
    # A sampled triangle is centred exactly only for whole ratios; for others it is off by a small part of a target
    # voxel.
    tolerance = 1e-12 if source % target == 0 or target > source else 0.05 / target
    np.testing.assert_allclose((matrix @ ramp)[inner], ((np.arange(target) + 0.5) / target)[inner], atol=tolerance)


def test_shrinking_suppresses_what_the_coarse_grid_cannot_hold() -> None:
    """The finest checkerboard, which plain interpolation would alias, vanishes."""
    wave = torch.tensor([1.0, -1.0]).repeat(8)
    volume = wave.view(1, 1, 16, 1, 1).expand(1, 1, 16, 4, 4).contiguous()
    shrunk = Resample((16, 4, 4), (8, 4, 4))(volume)
    assert shrunk[:, :, 1:-1].abs().max() < 1e-6


def test_can_be_differentiated_twice() -> None:
    layer = Resample((4, 3, 4), (2, 3, 2)).double()
    x = torch.randn(1, 1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: layer(t).square(), (x,))
