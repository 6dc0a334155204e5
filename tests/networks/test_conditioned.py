"""The network that is told the acquisition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medgan.acquisition.condition import CONDITIONS
from medgan.inference.tiling import apply_tiled
from medgan.networks.conditioned import ConditionedNetwork, Informed
from medgan.networks.saved import build_network, load_config, load_weights, save_model

NUMBERS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, -0.3, 0.0)


def trained(seed: int = 0) -> ConditionedNetwork:
    """A network whose last layers are no longer zero."""
    torch.manual_seed(seed)
    network = ConditionedNetwork(channels=6, blocks=2, conditions=CONDITIONS)
    for layer in (network.tail, network.condition[-1]):
        torch.nn.init.normal_(layer.weight, std=0.2)
    return network.eval()


def test_an_untrained_network_returns_its_input() -> None:
    network = ConditionedNetwork(channels=6, blocks=2)
    x = torch.rand(2, 1, 7, 8, 9)
    torch.testing.assert_close(network(x, torch.randn(2, 9)), x, rtol=0, atol=0)


def test_the_condition_matters_and_belongs_to_its_own_item() -> None:
    network = trained()
    x = torch.rand(1, 1, 8, 8, 8).expand(2, -1, -1, -1, -1)
    conditions = torch.tensor([NUMBERS, [0.0] * 9])
    both = network(x, conditions)
    assert (both[0] - both[1]).abs().max() > 1e-4
    for item in range(2):
        torch.testing.assert_close(network(x[item : item + 1], conditions[item : item + 1])[0], both[item])


def test_no_voxel_beyond_the_receptive_field_matters() -> None:
    network = Informed(trained(), NUMBERS)
    x = torch.rand(1, 1, 2, 2, 60)
    changed = x.clone()
    changed[..., 30] += 1.0
    moved = (network(changed) - network(x)).abs().amax(dim=(0, 1, 2, 3)) > 0
    reached = moved.nonzero()[:, 0]
    assert reached.min() >= 30 - network.receptive_field
    assert reached.max() <= 30 + network.receptive_field


def test_tiled_equals_untiled() -> None:
    network = Informed(trained(), NUMBERS)
    x = torch.rand(1, 1, 21, 18, 33)
    with torch.inference_mode():
        whole = network(x)
    tiled = apply_tiled(network, x, tile=(8, 8, 8), halo=network.receptive_field, multiple=network.multiple)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_it_is_saved_and_built_again(tmp_path: Path) -> None:
    network = trained()
    config = {
        "medgan_version": "1",
        "task": "super_resolution",
        "network": {"name": "conditioned", "arguments": network.arguments},
        "normalisation": {},
    }
    save_model(tmp_path / "model", config, network.state_dict())
    description = load_config(tmp_path / "model")["network"]
    again = build_network(description["name"], description["arguments"])
    again.load_state_dict(load_weights(tmp_path / "model"))
    x, numbers = torch.rand(1, 1, 6, 6, 6), torch.tensor([NUMBERS])
    torch.testing.assert_close(again.eval()(x, numbers), network(x, numbers))


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ConditionedNetwork(blocks=0)


def test_a_deepened_network_computes_what_the_shallower_did() -> None:
    torch.manual_seed(0)
    shallow, deep = ConditionedNetwork(channels=6, blocks=2), ConditionedNetwork(channels=6, blocks=4)
    for parameter in shallow.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    deep.load_state_dict(deep.deepened(shallow.state_dict()))
    x, condition = torch.rand(2, 1, 9, 8, 11), torch.rand(2, 9)
    torch.testing.assert_close(deep(x, condition), shallow(x, condition), rtol=0, atol=1e-6)
    deep(x, condition).square().sum().backward()
    assert all(block.narrow.weight.grad.abs().sum() > 0 for block in deep.body)


def test_a_network_of_another_width_cannot_be_deepened() -> None:
    shallow, deep = ConditionedNetwork(channels=6, blocks=2), ConditionedNetwork(channels=8, blocks=4)
    with pytest.raises(RuntimeError):
        deep.load_state_dict(deep.deepened(shallow.state_dict()))
