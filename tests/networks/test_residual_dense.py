"""The residual dense network: identity at birth, exact receptive field, any size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgan.networks.residual_dense import ResidualDenseNetwork, depth_to_space, padded_to_multiple, space_to_depth


def awake(**arguments: int) -> ResidualDenseNetwork:
    """A small network whose last layer is random and whose every weight is positive, so that no path cancels."""
    torch.manual_seed(0)
    network = ResidualDenseNetwork(**{"channels": 4, "growth": 2, "blocks": 1, "dense_blocks": 1, **arguments}).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.1)
    return network


@pytest.mark.parametrize("shape", [(8, 8, 8), (7, 9, 5), (1, 2, 3)])
@pytest.mark.parametrize("packing", [1, 2, 3])
def test_an_untrained_network_returns_its_input(shape: tuple[int, int, int], packing: int) -> None:
    x = torch.rand(2, 1, *shape)
    network = ResidualDenseNetwork(channels=4, growth=2, blocks=1, packing=packing, dense_blocks=1, convolutions=2)
    torch.testing.assert_close(network(x), x, atol=0, rtol=0)


@pytest.mark.parametrize(
    "arguments",
    [{"packing": 1, "convolutions": 2}, {"packing": 2, "convolutions": 3}, {"packing": 3, "convolutions": 1}],
)
def test_receptive_field_is_exact(arguments: dict[str, int]) -> None:
    """Every output voxel's gradient reaches just as far as promised, and one does not reach a voxel less."""
    network = awake(**arguments)
    size = 2 * network.receptive_field + 3 * network.packing
    reach = 0
    for output in range(size // 2, size // 2 + network.packing):
        x = torch.rand(1, 1, size, 2, 2, dtype=torch.float64, requires_grad=True)
        network(x)[0, 0, output, 0, 0].backward()
        assert x.grad is not None
        seen = x.grad[0, 0].abs().sum(dim=(1, 2)).nonzero().flatten() - output
        reach = max(reach, int(seen.abs().max()))
    assert reach == network.receptive_field


def test_receptive_field_of_the_whole_family() -> None:
    network = ResidualDenseNetwork(channels=4, growth=2, blocks=3, dense_blocks=2, convolutions=4)
    assert network.receptive_field == 2 * (3 * 2 * 4 + 3) + 1
    assert network.multiple == 2


@pytest.mark.parametrize("packing", [1, 2, 4])
def test_packing_is_undone_and_keeps_cubes_together(packing: int) -> None:
    x = torch.arange(2 * 3 * 8 * 4 * 12, dtype=torch.float32).reshape(2, 3, 8, 4, 12)
    packed = space_to_depth(x, packing)
    assert packed.shape == (2, 3 * packing**3, 8 // packing, 4 // packing, 12 // packing)
    cube = x[1, 2, :packing, :packing, packing : 2 * packing].flatten()
    torch.testing.assert_close(packed[1, 2 * packing**3 :, 0, 0, 1], cube)
    torch.testing.assert_close(depth_to_space(packed, packing), x)


def test_padding_reflects_even_the_thinnest_axis() -> None:
    x = torch.arange(5.0).reshape(1, 1, 1, 1, 5).expand(1, 1, 1, 3, 5)
    padded = padded_to_multiple(x, 4)
    assert padded.shape == (1, 1, 4, 4, 8)
    assert padded[0, 0, 3, 3].tolist() == [0, 1, 2, 3, 4, 4, 3, 2]


def test_the_last_layer_learns_first_and_then_all() -> None:
    torch.manual_seed(0)
    network = ResidualDenseNetwork(channels=4, growth=2, blocks=1, dense_blocks=1)
    x, target = torch.rand(1, 1, 6, 6, 6), torch.rand(1, 1, 6, 6, 6)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    nn.functional.mse_loss(network(x), target).backward()
    assert network.tail.weight.grad is not None
    assert network.tail.weight.grad.abs().sum() > 0
    optimiser.step()
    optimiser.zero_grad()
    nn.functional.mse_loss(network(x), target).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_memory_layout_does_not_change_the_result() -> None:
    network = awake(convolutions=2).float()
    x = torch.rand(1, 1, 7, 6, 9)
    expected = network(x)
    fast = network.to(memory_format=torch.channels_last_3d)(x)
    torch.testing.assert_close(fast, expected, rtol=1e-4, atol=1e-4)


def test_gradients() -> None:
    network = awake(convolutions=2)
    x = torch.rand(1, 1, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (x,))


def test_arguments_rebuild_the_network() -> None:
    network = ResidualDenseNetwork(channels=6, growth=3, blocks=2, packing=2, dense_blocks=1, convolutions=3)
    twin = ResidualDenseNetwork(**network.arguments)
    twin.load_state_dict(network.state_dict())
    assert twin.receptive_field == network.receptive_field


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ResidualDenseNetwork(blocks=0)
