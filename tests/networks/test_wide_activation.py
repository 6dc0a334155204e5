"""The wide-activation network: identity at birth, promised reach, any size, tiled equals whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medgan.inference.tiling import apply_tiled
from medgan.networks.saved import build_network
from medgan.networks.wide_activation import WideActivationNetwork
from medgan.training.average import frozen_copy, update_average

SMALL = {"channels": 4, "expansion": 2, "blocks": 1}


def awake(factor: tuple[float, float, float], **arguments: object) -> WideActivationNetwork:
    """A small network whose every weight is positive, so that no path cancels and no activation sleeps."""
    torch.manual_seed(0)
    network = WideActivationNetwork(**{**SMALL, "factor": factor, **arguments}).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.rand_like(parameter) * 0.2 + 0.02)
    return network


@pytest.mark.parametrize("shape", [(8, 8, 8), (7, 9, 5), (1, 2, 3)])
@pytest.mark.parametrize("factor", [(1, 1, 4), (2, 2, 2), (1, 1, 2.5), (1.5, 1, 3)])
@pytest.mark.parametrize("weight_normalisation", [False, True])
def test_an_untrained_network_returns_its_input(
    shape: tuple[int, int, int], factor: tuple[float, float, float], weight_normalisation: bool
) -> None:
    x = torch.rand(2, 1, *shape)
    network = WideActivationNetwork(**SMALL, factor=factor, weight_normalisation=weight_normalisation)  # type: ignore[arg-type]
    assert torch.equal(network(x), x)


def _reach(network: WideActivationNetwork, axis: int) -> int:
    """The largest distance along an axis at which the gradient of any output of one block is not zero."""
    step, promised = network.multiple[axis], network.receptive_field[axis]
    size = (2 * promised // step + 5) * step
    shape = [network.multiple[other] if other != axis else size for other in range(3)]
    x = torch.rand(1, 1, *shape, dtype=torch.float64, requires_grad=True)
    lines = network(x)[0, 0].movedim(axis, 0).sum(dim=(1, 2))
    reach, middle = 0, size // 2 // step * step
    for output in range(middle, middle + step):
        (gradient,) = torch.autograd.grad(lines[output], x, retain_graph=True)
        seen = gradient[0, 0].movedim(axis, 0).abs().sum(dim=(1, 2)).nonzero().flatten() - output
        reach = max(reach, int(seen.abs().max()))
    return reach


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_receptive_field_is_exact_on_whole_factors(axis: int) -> None:
    network = awake((1, 2, 4))
    assert network.multiple == (1, 2, 4)
    assert network.receptive_field == (3, 7, 15)
    assert _reach(network, axis) == network.receptive_field[axis]


@pytest.mark.parametrize("factor", [1.5, 2.5, 3.25, 1.125])
def test_receptive_field_is_a_close_bound_on_others(factor: float) -> None:
    network = awake((1, 1, factor))
    assert network.receptive_field[2] - 3 <= _reach(network, 2) <= network.receptive_field[2]


@pytest.mark.parametrize("factor", [(1, 1, 4), (2, 1, 3), (1, 1, 2.5), (1.5, 1, 1)])
def test_tiled_equals_whole(factor: tuple[float, float, float]) -> None:
    network = awake(factor).float().eval()
    x = torch.rand(1, 1, 23, 18, 37)
    tiled = apply_tiled(network, x, tile=(10, 11, 12), halo=network.receptive_field, multiple=network.multiple)
    with torch.inference_mode():
        whole = network(x)
    assert (whole - x).abs().mean() > 0.01
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=1e-5)


def test_work_is_done_on_the_low_resolution_grid() -> None:
    network = WideActivationNetwork(**SMALL, factor=(1, 1, 4))  # type: ignore[arg-type]
    seen: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(lambda _module, _inputs, out: seen.append(tuple(out.shape[-3:])))
    network(torch.rand(1, 1, 6, 8, 20))
    assert set(seen) == {(6, 8, 5)}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_resized_axes_stay_centred(axis: int) -> None:
    """Mirror-symmetric weights make the network commute with a flip, on whole and on other factors alike."""
    factor = [1.0, 1.0, 1.0]
    factor[axis] = 2.5
    network = awake((factor[0], factor[1], factor[2]))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.05)
    x = torch.rand(1, 1, *(10 if axis == other else 3 for other in range(3)), dtype=torch.float64)
    torch.testing.assert_close(network(x.flip(axis + 2)), network(x).flip(axis + 2))


@pytest.mark.parametrize("weight_normalisation", [False, True])
def test_it_learns_and_can_be_averaged_and_rebuilt(weight_normalisation: bool) -> None:
    torch.manual_seed(0)
    network = WideActivationNetwork(**SMALL, factor=(1, 1, 2), weight_normalisation=weight_normalisation)  # type: ignore[arg-type]
    x, target = torch.rand(1, 1, 6, 6, 6), torch.rand(1, 1, 6, 6, 6)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = nn.functional.mse_loss(network(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    average = frozen_copy(network)
    update_average(average, network, images=1, half_life=0)
    twin = build_network("wide_activation", network.arguments)
    twin.load_state_dict(average.state_dict())
    assert torch.equal(twin(x), network(x))


def test_memory_layout_does_not_change_the_result() -> None:
    network = awake((1, 1, 3)).float()
    x = torch.rand(1, 1, 7, 6, 9)
    expected = network(x)
    torch.testing.assert_close(network.to(memory_format=torch.channels_last_3d)(x), expected, rtol=1e-4, atol=1e-4)


def test_impossible_arguments_are_refused() -> None:
    for arguments in ({"blocks": 0}, {"low_rank": 1.5}):
        with pytest.raises(ValueError, match="impossible sizes"):
            WideActivationNetwork(**arguments)  # type: ignore[arg-type]
    for factor in ((0.5, 1, 1), (1, 1, 2.718), (2, 2)):
        with pytest.raises(ValueError, match="ratios of whole numbers"):
            WideActivationNetwork(factor=factor)
