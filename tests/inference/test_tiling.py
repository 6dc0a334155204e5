"""Tiled equals whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgan.inference.tiling import apply_tiled, axis_spans
from medgan.networks.residual_dense import ResidualDenseNetwork


@pytest.fixture(scope="module")
def network() -> ResidualDenseNetwork:
    torch.manual_seed(0)
    network = ResidualDenseNetwork(channels=6, growth=3, blocks=1, dense_blocks=1, convolutions=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return network.eval()


@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        ((37, 41, 29), (16, 16, 16)),
        ((37, 41, 29), (10, 41, 7)),
        ((37, 41, 29), (64, 64, 64)),
        ((40, 3, 1), (8, 8, 8)),
        ((1, 1, 33), (1, 1, 1)),
        ((25, 17, 18), (24, 16, 17)),
    ],
)
def test_tiled_equals_whole(
    network: ResidualDenseNetwork, shape: tuple[int, int, int], tile: tuple[int, int, int]
) -> None:
    x = torch.rand(2, 1, *shape)
    tiled = apply_tiled(network, x, tile=tile, halo=network.receptive_field, multiple=network.multiple)
    with torch.inference_mode():
        whole = network(x)
    assert (whole - x).abs().mean() > 0.01
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


def test_halo_and_multiple_of_each_axis_its_own() -> None:
    """A network that sees two voxels far along Y, in pairs of voxels along Z, and nothing beside along X."""

    class Crooked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            padded = nn.functional.pad(x, (0, x.shape[-1] % 2, 2, 2))
            near = padded[..., 4:, : x.shape[-1]] - padded[..., :-4, : x.shape[-1]]
            pairs = padded[..., 2:-2, :].unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
            return near + pairs[..., : x.shape[-1]]

    x = torch.rand(1, 1, 9, 14, 21)
    network = Crooked()
    tiled = apply_tiled(network, x, tile=(4, 5, 7), halo=(0, 2, 0), multiple=(1, 1, 2))
    assert torch.equal(tiled, network(x))
    for halo, multiple in (((2, 0, 2), (1, 1, 2)), ((0, 2, 0), (1, 1, 1))):
        assert not torch.equal(apply_tiled(network, x, tile=(4, 5, 7), halo=halo, multiple=multiple), network(x))


def test_a_halo_below_the_receptive_field_shows(network: ResidualDenseNetwork) -> None:
    """The test above can fail: without surroundings the seams differ."""
    x = torch.rand(1, 1, 32, 32, 32)
    tiled = apply_tiled(network, x, tile=(16, 16, 16), halo=0, multiple=2)
    with torch.inference_mode():
        assert (tiled - network(x)).abs().max() > 1e-3


@pytest.mark.parametrize("size", [1, 2, 7, 16, 31, 100])
@pytest.mark.parametrize(("tile", "halo", "multiple"), [(1, 0, 1), (8, 3, 2), (10, 5, 4), (200, 9, 2), (3, 1, 4)])
def test_spans_cover_each_axis_once(size: int, tile: int, halo: int, multiple: int) -> None:
    spans = axis_spans(size, tile=tile, halo=halo, multiple=multiple)
    covered = [index for span in spans for index in range(span.kept.start, span.kept.stop)]
    assert covered == list(range(size))
    for read, kept in spans:
        assert kept.start % multiple == 0
        assert read.start % multiple == 0
        assert read.stop % multiple == 0 or read.stop == size
        assert kept.stop - kept.start <= max(tile, multiple)
        assert read.start == 0 or kept.start - read.start >= halo
        assert read.stop == size or read.stop - kept.stop >= halo


def test_progress_counts_tiles_and_the_result_can_be_trained_on(network: ResidualDenseNetwork) -> None:
    seen: list[tuple[int, int]] = []
    result = apply_tiled(
        network,
        torch.rand(1, 1, 8, 8, 16),
        tile=(8, 8, 8),
        halo=0,
        multiple=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]
    assert not result.is_inference()
    assert not result.requires_grad


def test_channels_may_change_but_sizes_may_not() -> None:
    widening = nn.Conv3d(1, 3, 1)
    result = apply_tiled(widening, torch.rand(1, 1, 6, 6, 6), tile=(4, 4, 4), halo=0, multiple=1)
    assert result.shape == (1, 3, 6, 6, 6)
    with pytest.raises(ValueError, match="keep their size"):
        apply_tiled(nn.Conv3d(1, 1, 3), torch.rand(1, 1, 6, 6, 6), tile=(4, 4, 4), halo=0, multiple=1)
    with pytest.raises(ValueError, match="impossible tiling"):
        apply_tiled(widening, torch.rand(1, 1, 6, 6, 6), tile=(0, 4, 4), halo=0, multiple=1)


@pytest.mark.gpu
def test_tiles_go_to_the_networks_device(network: ResidualDenseNetwork) -> None:
    x = torch.rand(1, 1, 21, 22, 23)
    expected = apply_tiled(network, x, tile=(12, 12, 12), halo=network.receptive_field, multiple=2)
    moved = ResidualDenseNetwork(**network.arguments).cuda()
    moved.load_state_dict(network.state_dict())
    result = apply_tiled(moved, x, tile=(12, 12, 12), halo=network.receptive_field, multiple=2)
    assert result.device.type == "cpu"
    torch.testing.assert_close(result, expected, atol=1e-2, rtol=0)
