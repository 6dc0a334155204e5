"""Per-axis pixel shuffle: against PyTorch's own in the plane, exact inverse, no checkerboard at birth."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from medgan.networks.shuffle import (
    ShuffleUpsampler,
    padded_to_multiples,
    pixel_shuffle,
    pixel_unshuffle,
    repeat_over_blocks_,
)

FACTORS = [(1, 1, 4), (2, 2, 2), (3, 1, 2), (1, 1, 1)]


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_equals_pytorch_in_the_plane(factor: int, axis: int) -> None:
    """Along any two axes with one factor, and slice by slice, as PyTorch's two-dimensional shuffle."""
    x = torch.randn(2, 3 * factor**2, 4, 5, 6)
    factors = tuple(1 if other == axis else factor for other in (2, 3, 4))
    ours = pixel_shuffle(x, factors)
    for index in range(x.shape[axis]):
        assert torch.equal(ours.select(axis, index), F.pixel_shuffle(x.select(axis, index), factor))
    back = pixel_unshuffle(ours, factors)
    for index in range(x.shape[axis]):
        assert torch.equal(back.select(axis, index), F.pixel_unshuffle(ours.select(axis, index), factor))


@pytest.mark.parametrize("factors", FACTORS)
def test_unshuffle_is_the_exact_inverse(factors: tuple[int, int, int]) -> None:
    fx, fy, fz = factors
    x = torch.randn(2, 3, 4 * fx, 3 * fy, 5 * fz)
    folded = pixel_unshuffle(x, factors)
    assert folded.shape == (2, 3 * fx * fy * fz, 4, 3, 5)
    assert torch.equal(pixel_shuffle(folded, factors), x)


def test_the_documented_order() -> None:
    x = torch.zeros(1, 2 * 6, 1, 1, 1)
    x[0, ((1 * 3 + 2) * 1 + 0) * 2 + 1] = 1.0
    assert pixel_shuffle(x, (3, 1, 2)).nonzero().tolist() == [[0, 1, 2, 0, 1]]


@pytest.mark.parametrize("factors", FACTORS)
def test_an_untrained_upsampler_repeats_voxels(factors: tuple[int, int, int]) -> None:
    """Equal to nearest-neighbour interpolation of the convolution's own answer."""
    torch.manual_seed(0)
    upsampler = ShuffleUpsampler(3, 2, factors)
    x = torch.randn(1, 3, 4, 5, 3)
    voxels = factors[0] * factors[1] * factors[2]
    low = upsampler.convolution(x)[:, ::voxels]
    expected = F.interpolate(low, scale_factor=tuple(float(f) for f in factors), mode="nearest")
    torch.testing.assert_close(upsampler(x), expected)
    assert low.std() > 0.01


def test_a_fresh_convolution_does_not() -> None:
    """The test above can fail."""
    torch.manual_seed(0)
    upsampler = ShuffleUpsampler(3, 1, (1, 1, 2))
    upsampler.convolution.reset_parameters()
    result = upsampler(torch.randn(1, 3, 4, 4, 4))
    assert (result[..., ::2] - result[..., 1::2]).abs().max() > 0.05
    repeat_over_blocks_(upsampler.convolution, (1, 1, 2))
    result = upsampler(torch.randn(1, 3, 4, 4, 4))
    torch.testing.assert_close(result[..., ::2], result[..., 1::2])


def test_zero_start_adds_nothing() -> None:
    assert ShuffleUpsampler(3, 1, (2, 1, 2), zero=True)(torch.randn(1, 3, 4, 4, 4)).count_nonzero() == 0


def test_padding_has_a_multiple_for_each_axis() -> None:
    x = torch.arange(5.0).reshape(1, 1, 1, 1, 5).expand(1, 1, 3, 2, 5)
    padded = padded_to_multiples(x, (3, 4, 7))
    assert padded.shape == (1, 1, 3, 4, 7)
    assert padded[0, 0, 2, 3].tolist() == [0, 1, 2, 3, 4, 4, 3]


def test_impossible_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="divided into blocks"):
        pixel_unshuffle(torch.zeros(1, 1, 4, 4, 5), (1, 1, 2))
    with pytest.raises(ValueError, match="laid out in blocks"):
        pixel_shuffle(torch.zeros(1, 3, 4, 4, 4), (1, 1, 2))
    with pytest.raises(ValueError, match="laid out in blocks"):
        repeat_over_blocks_(torch.nn.Conv3d(1, 3, 1), (1, 1, 2))
