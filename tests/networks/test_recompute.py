"""Blocks that are run twice give what blocks that keep their activations give."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from medgan.adversarial.penalties import squared_difference, squared_gradient
from medgan.errors import MedganError
from medgan.networks.families import pair_for
from medgan.networks.recompute import recompute_activations
from medgan.networks.residual_dense import ResidualDenseNetwork
from medgan.networks.views import views_for
from medgan.recipe import SynthesisNetwork

SHAPE, SPACING = (9, 11, 8), (1.0, 1.0, 1.0)
KINDS = {
    "r3gan": {"blocks": 1, "group_width": 0},
    "dcgan": {"normalisation": "batch", "discriminator_normalisation": "spectral"},
    "stylegan": {"minibatch_statistics": "deviation"},
    "progressive": {},
    "hagan": {"base_size": 2},
}


def _pair(kind: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    options = SynthesisNetwork.model_validate(
        {"kind": kind, "width": 4, "max_width": 4, "latent_size": 4, **KINDS[kind]}
    )
    pair = pair_for(options, SHAPE, SPACING)
    for network in pair:
        for parameter in network.parameters():  # some layers start silent
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return pair


def _exact(critic: Callable[[Tensor], Tensor], volumes: Tensor) -> Tensor:
    return squared_gradient(critic, volumes).mean()


def _estimated(critic: Callable[[Tensor], Tensor], volumes: Tensor) -> Tensor:
    return squared_difference(critic, volumes, sigma=0.1).mean()


def _game(generator: nn.Module, discriminator: nn.Module, penalty: Callable[..., Tensor]) -> dict[str, Tensor]:
    """The losses of two steps, all gradients, and all buffers after it, by name."""
    torch.manual_seed(1)
    seen: dict[str, Tensor] = {}
    views = views_for(discriminator, SHAPE)
    for step in range(2):
        real = views.real(torch.randn(2, 1, *SHAPE))
        generated = views.generated(generator, torch.randn(2, 4), real)
        loss = discriminator(generated).mean() - discriminator(real).square().mean() + penalty(discriminator, real)
        loss.backward()
        seen[f"loss {step}"] = loss.detach()
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        seen |= {f"{name} {key}": value.grad for key, value in network.named_parameters() if value.grad is not None}
        seen |= {f"{name} {key} buffer": value.clone() for key, value in network.named_buffers()}
    return seen


@pytest.mark.parametrize("penalty", [_exact, _estimated])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_gradients_and_buffers_are_the_same(kind: str, penalty: Callable[..., Tensor]) -> None:
    expected = _game(*_pair(kind), penalty)
    generator, discriminator = _pair(kind)
    names = [*generator.state_dict(), *discriminator.state_dict()]
    assert recompute_activations({"generator": generator, "discriminator": discriminator}) > 2
    assert [*generator.state_dict(), *discriminator.state_dict()] == names
    found = _game(generator, discriminator, penalty)
    assert found.keys() == expected.keys()
    assert sum(value.any() for name, value in found.items() if "buffer" not in name and "loss" not in name) > 10
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_activations_inside_blocks_are_not_kept() -> None:
    def kept(recomputed: bool) -> int:
        _, discriminator = _pair("r3gan")
        if recomputed:
            recompute_activations({"discriminator": discriminator})
        sizes = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            discriminator(torch.randn(2, 1, *SHAPE))
        return sum(sizes)

    assert kept(True) < 0.6 * kept(False)


def test_a_copy_runs_its_own_weights() -> None:
    generator, _ = _pair("stylegan")
    recompute_activations({"generator": generator})
    duplicate = copy.deepcopy(generator)
    with torch.no_grad():
        for parameter in duplicate.parameters():
            parameter.zero_()
        assert not duplicate.train()(torch.randn(2, 4)).any()
        assert generator(torch.randn(2, 4)).any()


def test_restoring_networks_have_such_blocks_too() -> None:
    torch.manual_seed(0)
    network = ResidualDenseNetwork(channels=4, growth=2, blocks=1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    again = copy.deepcopy(network)
    recompute_activations({"network": again})
    volumes = torch.randn(1, 1, 8, 8, 8)
    for one in (network, again):
        one(volumes).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert torch.equal(again.get_parameter(name).grad, parameter.grad), name  # type: ignore[arg-type]


def test_networks_without_such_blocks_are_refused() -> None:
    with pytest.raises(MedganError, match="no block of Sequential says that it may be run twice"):
        recompute_activations({"judge": nn.Sequential(nn.Conv3d(1, 1, 1))})
